"""`kdcache build`, `show` and `verify` over the life of a cache: what they print, and with which status."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from cache_scene import Scene, add, built_scene, damage, images, relabel, remove, repaint
from click.testing import CliRunner, Result

from kdcache.cache.build.repair import Repairing
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cli.caches import build_display
from kdcache.cli.caches.build_display import BuildDisplay
from kdcache.cli.caches.show_table import _bytes_by_tap
from kdcache.cli.kdcache import main
from kdcache.cli.terminal import Terminal

TEACHER = ["--teacher", "tiny_teacher:make"]
Build = Callable[..., str]  # of the words that are typed, what is printed


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Scene:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("COLUMNS", "300")
    return built_scene(tmp_path / "home", "zarr")


def run(*words: str, status: int = 0) -> str:
    result: Result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == status, result.output
    return " ".join(result.output.split())


@pytest.fixture
def build(scene: Scene) -> Build:
    return lambda *words: run("build", "--device", "cpu", *TEACHER, "--cache", scene.cache.name, *words)


def test_a_plain_build_prints_what_changed_and_the_command_that_renews_it(scene: Scene, build: Build) -> None:
    repaint(images(scene)[1], 3)
    relabel(images(scene)[4])
    remove(images(scene)[6])
    for _ in range(2):
        told = build()
        for part in (
            "image changed: 1 (scene01)",
            "label changed: 1 (scene04)",
            "no longer in the data: 1 (scene06)",
            "the cache keeps them as they were; renew it with: kdcache build --update",
            "nothing to do",
        ):
            assert part in told, told
    told = build("--update")
    assert "wrote 2 rows" in told and "renew it with" not in told
    told = build()
    assert "nothing to do" in told and "changed" not in told


def test_a_deletion_is_settled_and_said(scene: Scene, build: Build) -> None:
    remove(images(scene)[2])
    told = build("--update")
    assert "no longer in the data: 1 (scene02)" in told and "settled in generation 2" in told
    assert "nothing to do" in build("--update")


def test_a_long_list_is_cut(scene: Scene, build: Build) -> None:
    for number in range(12):
        add(scene, f"more{number:02d}", number)
    build()
    for image in images(scene):
        if image.stem.startswith("more"):
            remove(image)
    assert "no longer in the data: 12 (more00, more01" in (told := build()) and "more09 and 2 more)" in told


def test_show_says_what_lives_what_is_retired_and_what_compacting_would_free(
    scene: Scene, build: Build
) -> None:
    assert "1: 7 samples live, 0 are retired" in run("show") and "compact" not in run("show")
    remove(images(scene)[2])
    build("--update")
    told = run("show")
    name = scene.cache.name
    assert "2: 6 samples live, 1 are retired" in told
    assert f"'kdcache compact --cache {name} --out NAME' frees about" in told
    assert "scene02" not in run("show", "--keys") and "scene03" in run("show", "--keys")


@pytest.mark.parametrize(
    "name", ["manifest.json", "generations/00001.json", "samples/00001.tar", "samples/00002.safetensors"]
)
def test_verify_names_damage_with_status_1_and_repair_mends_it(scene: Scene, build: Build, name: str) -> None:
    damage(scene.cache / name)
    told = run("verify", status=1)
    stem = {
        "samples/00001.tar": "shard 00001 (samples)",
        "samples/00002.safetensors": "shard 00002 (samples)",
    }
    assert stem.get(name, name) in told
    assert f"1 problems; run: kdcache build --cache {scene.cache.name} --repair" in told
    build("--repair")
    assert "7 samples, 0 retired, 0 damaged" in run("verify")


def test_of_several_caches_one_is_named_as_every_command_takes_it(scene: Scene) -> None:
    name = scene.cache.name
    shutil.copytree(scene.cache, scene.caches / "other")
    for command in ("show", "verify"):
        assert "fix: name one with --cache" in run(command, status=2)
        told = run(command, "--cache", name)
        assert told == run(command, name) == run(command, name, "--cache", name)
        assert f"two caches are named, 'other' and '{name}'" in run(
            command, "other", "--cache", name, status=2
        )


def test_bytes_of_a_tar_are_shown_for_each_tap_that_lies_in_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = built_scene(tmp_path / "tars", "webdataset")
    monkeypatch.setenv("KDCACHE_HOME", str(scene.root))
    shown = _bytes_by_tap(open_cache(scene.cache))
    files = [path for path in (scene.cache / "targets").rglob("*") if path.is_file()]
    assert sum(num_bytes for num_bytes, _ in shown.values()) == sum(path.stat().st_size for path in files)
    # Of 14 rows, 4 x 4 cells: int8 has one byte a value and 8 of scale and minimum a channel, fp16 two.
    raw = {"stage4": 14 * (16 * 6 + 8 * 6), "logits": 14 * 16 * 3 * 2}
    for tap, num_bytes in raw.items():
        share = shown[tap][0] / sum(path.stat().st_size for path in files)
        assert abs(share - num_bytes / sum(raw.values())) < 1e-3, (tap, shown)
    assert shown["logits"][1] == 14 * 16 * 3 and " 0 B" not in run("show")


def test_every_check_of_verify_ends_with_status_1_where_something_is_wrong(scene: Scene) -> None:
    (scene.cache / "samples" / "00001.tar").unlink()
    for more in ([], ["--pixels"], ["--deep", *TEACHER], ["--pixels", "--deep", *TEACHER]):
        run("verify", *more, status=1)


def test_verify_says_what_is_unfinished_and_that_it_is_no_damage(scene: Scene) -> None:
    (scene.cache / "generations" / "00001.json").rename(scene.root / "kept")
    told = run("verify")
    assert "no build of this cache has finished" in told and "9 shards are recorded" in told
    assert "the same 'kdcache build' finishes it" in told


def test_pixels_of_a_row_that_are_others_are_named_with_status_1(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "pixels of 14 rows made again, 0 differ" in run("verify", "--pixels")
    honest, guilty = Cache.pixel_digest, open_cache(scene.cache).find("scene04")

    def digest(self: Cache, index: int, view: int) -> int:
        return honest(self, index, view) ^ int((index, view) == (guilty, 1))

    monkeypatch.setattr(Cache, "pixel_digest", digest)
    told = run("verify", "--pixels", status=1)
    assert "'scene04' view 1: other pixels than the teacher saw" in told
    assert "14 rows made again, 1 differ" in told


def test_a_target_beyond_its_bound_is_named_with_status_1(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = run("verify", "--deep", *TEACHER)
    assert "stage4" in told and "further from the teacher" not in told
    honest = Cache.parts

    def parts(self: Cache, target: str, index: int, view: int) -> object:
        return honest(self, target, (index + 1) % 3 if target == "logits" and index < 3 else index, view)

    monkeypatch.setattr(Cache, "parts", parts)
    told = run("verify", "--deep", "--rows", "14", *TEACHER, status=1)
    assert "'logits' is further from the teacher than its bound" in told
    assert "'stage4' is further" not in told and "scene00 view 0:" in told and "scene03" not in told


def test_a_linked_part_of_a_cache_is_answered_with_what_helps_and_not_with_a_repair(
    scene: Scene, build: Build
) -> None:
    part, elsewhere = scene.cache / "samples", scene.root / "elsewhere"
    part.rename(elsewhere)
    part.symlink_to(elsewhere)
    told = run("verify", status=1)
    assert "'samples' is a link" in told and "move the whole folder instead of a part" in told
    assert "--repair" not in told, "a repair is refused too"
    damage(scene.cache / "manifest.json")
    assert "instead of a part; then run: kdcache build --cache" in run("verify", status=1)
    part.unlink()
    elsewhere.rename(part)
    build("--repair")
    scene.cache.rename(elsewhere)
    (scene.caches / "folder-moved").symlink_to(elsewhere)
    assert "0 damaged" in run("verify", "folder-moved")


def test_linked_generations_are_no_cache_that_was_never_finished(scene: Scene) -> None:
    part, elsewhere = scene.cache / "generations", scene.root / "elsewhere"
    part.rename(elsewhere)
    part.symlink_to(elsewhere)
    assert "'generations' is a link" in run("verify", status=1)


@pytest.mark.parametrize(
    "name",
    ["generations/00001.json", "records/00000-samples.json", "samples/00001.tar", "targets.zarr/zarr.json"],
)
def test_a_folder_in_the_place_of_a_file_is_damage_that_a_repair_mends(
    scene: Scene, build: Build, name: str
) -> None:
    (scene.cache / name).unlink()
    (scene.cache / name).mkdir()
    assert "--repair" in run("verify", status=1)
    build("--repair")
    assert "7 samples, 0 retired, 0 damaged" in run("verify")


@pytest.mark.parametrize("form", ["zarr", "webdataset"])
def test_show_divides_what_is_on_disk_among_the_taps(tmp_path: Path, form: str) -> None:
    """One tar holds all taps; int8 is a byte a value, fp16 two."""
    cache = open_cache(built_scene(tmp_path / "home", form).cache)
    shown = _bytes_by_tap(cache)
    records = [cache.targets_record(key) for key in cache.coverage.keys()]
    whole = sum(entry.num_bytes for record in records for entry in record.objects)
    assert sum(num_bytes for num_bytes, _ in shown.values()) == whole
    a_value = {tap: num_bytes / values for tap, (num_bytes, values) in shown.items()}
    assert 1 <= a_value["stage4"] < a_value["logits"], a_value


def test_what_a_build_announces_is_what_it_says_it_wrote(scene: Scene, build: Build) -> None:
    relabel(images(scene)[1])
    told = build("--update")
    assert "(0 teacher rows)" in told and "wrote 0 rows" in told
    for path in scene.cache.glob("targets.zarr/*/stage4/*/values/c/*/0/*/*/*"):
        path.unlink()
    told = build("--repair")
    assert told.index("(6 teacher rows)") < told.index("wrote 6 rows") and "to put back" in told
    assert "besides, to write 0 B of targets" in told


def test_a_bar_never_shows_more_rows_than_there_are_or_less_time_than_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    said = io.StringIO()
    display, now_s = BuildDisplay(Terminal(file=said, width=200)), iter(range(1, 100))
    monkeypatch.setattr(build_display.time, "monotonic", lambda: 61.0 * next(now_s))
    display.repairing(Repairing(30, 1000, 0))
    for _ in range(3):
        display.computed(10)
    told = said.getvalue()
    assert "(30 teacher rows)" in told and "30/30 rows, 0.2 rows/s, 0 s left" in told
