"""Building: what a second build, a killed build, a grown build and several ranks leave behind."""

import hashlib
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import zarr
from resealed import reseal
from tiny_folder import draw_folder, draw_sample

from kdcache.cache.build.build import BuildEvents, BuildReport, build_cache
from kdcache.cache.build.lock import build_lock
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.build.predict import FILE_BYTES, ROW_BYTES
from kdcache.cache.errors import BadCache, BadOption, BadSample, Busy, DiskFull, KdError
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.manifest import read_manifest
from kdcache.cache.spec import Need
from kdcache.cache.trust import consent


def options(tmp_path: Path, **changes: object) -> BuildOptions:
    base = BuildOptions(
        runs_dir=tmp_path / "runs",
        caches_dir=tmp_path / "caches",
        teacher="tiny_teacher:make",
        data=f"folder:{tmp_path / 'data'}",
        views="crops:2",
        crop=(40, 48),
        taps=(parse_tap("stage4=int8"), parse_tap("logits=fp16")),
        batch_size=2,
        shard_rows=4,
    )
    return replace(base, **changes)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return draw_folder(tmp_path / "data")


def tree(root: Path) -> dict[str, str]:
    """Every file that counts and the digest of its bytes."""
    files = [p for p in sorted(root.rglob("*")) if p.is_file() and p.name != "build.lock"]
    return {str(p.relative_to(root)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}


def build(opts: BuildOptions) -> BuildReport:
    return build_cache(opts)


def test_second_build_writes_nothing(tmp_path: Path, data: Path) -> None:
    first = build(options(tmp_path))
    before = {
        p: p.stat().st_mtime_ns for p in first.root.rglob("*") if p.is_file() and p.name != "build.lock"
    }
    second = build(options(tmp_path))
    after = {p: p.stat().st_mtime_ns for p in first.root.rglob("*") if p.is_file() and p.name != "build.lock"}
    assert first.rows == 12 and second.rows == 0 and second.shards == 0
    assert before == after


def test_plain_zarr_opens_the_targets(tmp_path: Path, data: Path) -> None:
    report = build(options(tmp_path))
    arrays = zarr.open_group(report.root / "targets.zarr", mode="r")
    values = arrays[f"{report.manifest.teacher}/stage4/5x6/values"]
    assert values.shape == (2, 8, 5, 6, 6), "two blocks of four places, of which the last two are holes"
    cache = open_cache(report.root)
    for view in (0, 1):
        for index in range(6):
            assert (cache.parts("stage4", index, view)["values"] == values[view, index]).all()


def test_growing_by_a_tap_keeps_what_is_there_and_equals_building_both(tmp_path: Path, data: Path) -> None:
    both = build(options(tmp_path, caches_dir=tmp_path / "both"))
    first = build(options(tmp_path, taps=(parse_tap("stage4=int8"),)))
    kept = tree(first.root / "targets.zarr" / first.manifest.teacher / "stage4")
    grown = build(
        options(tmp_path, data=None, cache=first.root, views=None, taps=(parse_tap("logits=fp16"),))
    )
    assert grown.rows == 12 and open_cache(grown.root).manifest.tap_names == ("stage4", "logits")
    assert tree(first.root / "targets.zarr" / first.manifest.teacher / "stage4") == kept
    assert tree(first.root / "targets.zarr") == tree(both.root / "targets.zarr")


def test_growing_by_views_equals_building_them_at_once(tmp_path: Path, data: Path) -> None:
    four = build(options(tmp_path, caches_dir=tmp_path / "four", views="crops:4"))
    build(options(tmp_path))
    grown = build(options(tmp_path, views="crops:4"))
    assert grown.rows == 12 and grown.root.name == four.root.name
    assert tree(grown.root / "targets.zarr") == tree(four.root / "targets.zarr")


@pytest.mark.parametrize("stop_after", [1, 3, 5])
def test_a_build_that_dies_continues_to_the_same_bytes(tmp_path: Path, data: Path, stop_after: int) -> None:
    whole = build(options(tmp_path, caches_dir=tmp_path / "whole"))
    batches = 0

    def die(rows: int) -> None:
        nonlocal batches
        batches += 1
        if batches == stop_after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(options(tmp_path), BuildEvents(computed=die))
    again = build(options(tmp_path))
    assert again.rows < 12 if stop_after > 3 else again.rows <= 12
    assert tree(again.root) == tree(whole.root)


def test_webdataset_format_holds_the_same_targets(tmp_path: Path, data: Path) -> None:
    zarrs = open_cache(build(options(tmp_path)).root)
    tars = open_cache(build(options(tmp_path, caches_dir=tmp_path / "tars", target_format="webdataset")).root)
    for index in range(6):
        for target in ("stage4", "logits"):
            a, b = zarrs.parts(target, index, 1), tars.parts(target, index, 1)
            assert all((a[part] == b[part]).all() for part in a)


def test_predicted_target_bytes_are_exact(tmp_path: Path, data: Path) -> None:
    seen = []
    report = build_cache(
        options(tmp_path), BuildEvents(planned=lambda plan, prediction, assignment: seen.append(prediction))
    )
    shards = [p for p in (report.root / "targets.zarr").rglob("*") if p.is_file() and p.name.isdigit()]
    targets, columns = sum(p.stat().st_size for p in shards), list((report.root / "views").iterdir())
    allowed = len(columns) * FILE_BYTES + seen[0].rows * ROW_BYTES
    assert seen[0].target_bytes == targets + allowed
    assert sum(p.stat().st_size for p in columns) <= allowed, "columns are never larger than was said"
    assert seen[0].rows == 12


def test_skip_bad_keeps_the_place_and_marks_it(tmp_path: Path, data: Path) -> None:
    (data / "train" / "images" / "scene02.jpg").write_bytes(b"\xff\xd8\xff broken")
    with pytest.raises(BadSample, match="scene02"):
        build(options(tmp_path))
    report = build(options(tmp_path, skip_bad=True))
    cache = open_cache(report.root)
    assert report.skipped == ("scene02",) and cache.generation.retired.tolist() == [2]
    assert report.rows == 10 and cache.key(3) == "scene03"
    assert cache.parts("stage4", 3, 0)["values"].shape == (5, 6, 6)
    again = build(options(tmp_path, skip_bad=True))
    assert (again.rows, again.shards, again.settled) == (0, 0, False), (
        "what is known as bad is not tried again"
    )
    draw_sample(data, "train", "scene02", (75, 100), seed=2)
    mended = build(options(tmp_path, skip_bad=True))
    assert (
        mended.rows == 2 and open_cache(mended.root).key(int(open_cache(mended.root).living[-1])) == "scene02"
    )


def test_full_views_keep_maps_of_both_sizes(tmp_path: Path, data: Path) -> None:
    report = build(options(tmp_path, views="full", mirror=True))
    cache = open_cache(report.root)
    assert cache.parts("stage4", 0, 0)["values"].shape == (10, 13, 6)
    assert cache.parts("stage4", 1, 1)["values"].shape == (9, 13, 6)


def test_two_builders_on_one_cache(tmp_path: Path, data: Path) -> None:
    root = build(options(tmp_path)).root
    with build_lock(root), pytest.raises(Busy, match="another builder .process"):
        build(options(tmp_path))


def test_a_disk_that_is_too_small_is_refused_before_the_first_write(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import kdcache.cache.build.predict as module

    monkeypatch.setattr(module.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    with pytest.raises(DiskFull, match="the disk has") as error:
        build(options(tmp_path))
    assert "--views crops:2" in str(error.value)
    assert list((tmp_path / "caches").iterdir()) == [], "what holds nothing is no cache"


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"taps": (parse_tap("stage9"),)}, "unknown tap 'stage9'"),
        ({"taps": (parse_tap("stage4=int9"),)}, "unknown codec 'int9'"),
        ({"data": "foldr:x"}, "foldr"),
        ({"teacher": "no_such_net"}, "no_such_net"),
        ({"split": "trian"}, "trian"),
    ],
)
def test_unknown_names_are_three_part_errors(
    tmp_path: Path, data: Path, change: dict[str, object], text: str
) -> None:
    with pytest.raises(KdError, match=text) as error:
        build(options(tmp_path, **change))
    assert "where:" in str(error.value) and "fix:" in str(error.value)


def test_another_codec_for_a_stored_tap_is_refused(tmp_path: Path, data: Path) -> None:
    build(options(tmp_path))
    with pytest.raises(BadOption, match="'stage4' is stored as int8"):
        build(options(tmp_path, taps=(parse_tap("stage4=fp16"),)))


def channel_mean(value: torch.Tensor) -> torch.Tensor:
    return value.mean(1, keepdim=True)


def test_a_reduction_is_stored_under_its_own_name(tmp_path: Path, data: Path) -> None:
    need = Need(tap="stage4", reduction=f"{__name__}:channel_mean")
    report = build(options(tmp_path, taps=(parse_tap("stage4=fp32"),), needs_of=lambda task: (need,)))
    cache = open_cache(report.root)
    whole = cache.parts("stage4", 2, 1)["values"]
    with consent([need.reduction]):
        codec = cache.codec("stage4.channel_mean")
    parts = {k: torch.from_numpy(v.copy())[None] for k, v in cache.parts("stage4.channel_mean", 2, 1).items()}
    mean = codec.decode(parts)[0, 0].numpy()
    assert abs(mean - whole.mean(-1)).max() <= float(
        codec.bound(torch.from_numpy(whole.mean(-1))[None, None]).max()
    )


def test_a_cache_does_not_import_the_code_it_names(
    tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = build(options(tmp_path)).root
    monkeypatch.setattr("kdcache.cache.trust._trusted", set())
    with pytest.raises(BadOption, match="'tiny_teacher:make': code of somebody's own"):
        build(options(tmp_path, teacher=None, data=None, cache=root))


def test_a_torn_manifest_is_written_anew_and_its_shards_are_kept(tmp_path: Path, data: Path) -> None:
    root = build(options(tmp_path)).root
    whole = tree(root)
    (root / "manifest.json").write_text("{")
    for ask in (lambda: open_cache(root), lambda: build(options(tmp_path))):
        with pytest.raises(BadCache, match="cannot be read") as error:
            ask()
        assert "kdcache build --repair" in str(error.value)
    assert build(options(tmp_path, repair=True)).rows == 0
    assert tree(root) == whole


def test_a_manifest_that_was_torn_in_an_unfinished_build_is_written_anew(tmp_path: Path, data: Path) -> None:
    whole = tree(build(options(tmp_path, caches_dir=tmp_path / "whole")).root)

    def die(rows: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_cache(options(tmp_path), BuildEvents(computed=die))
    (root,) = (tmp_path / "caches").iterdir()
    (root / "manifest.json").write_text("{")
    with pytest.raises(BadCache, match="cannot be read") as error:
        open_cache(root)
    assert "kdcache build --teacher T --data D" in str(error.value)
    assert tree(build(options(tmp_path)).root) == whole


def test_a_task_that_this_version_does_not_know_is_an_error_and_never_another(
    tmp_path: Path, data: Path
) -> None:
    root = build(options(tmp_path)).root
    assert "task" not in read_manifest(root).data, "or the names of older caches would change"
    for path in (root / "manifest.json", root / "generations" / "00001.json"):
        reseal(path, lambda plain: plain.get("manifest", plain)["data"].update(task="panoptic"))
    with pytest.raises(BadOption, match="unknown task 'panoptic'") as caught:
        open_cache(root)
    assert root.name in caught.value.where and "segmentation" in caught.value.fix


@pytest.mark.parametrize(
    ("change", "flag"),
    [
        ({"shard_rows": 3}, "--shard-rows"),
        ({"zstd": True}, "--zstd"),
        ({"target_format": "webdataset"}, "--format"),
    ],
)
def test_what_a_cache_cannot_change_is_refused_not_ignored(
    tmp_path: Path, data: Path, change: dict[str, object], flag: str
) -> None:
    build(options(tmp_path))
    with pytest.raises(BadOption, match=f"was built with {flag}") as error:
        build(options(tmp_path, **change))
    assert "KDCACHE_HOME" in str(error.value)


@pytest.mark.parametrize(("change", "what"), [({"crop": (48, 48)}, "crop"), ({"augment": "flip"}, "recipe")])
def test_other_crops_get_a_cache_beside_the_first_and_never_into_it(
    tmp_path: Path, data: Path, change: dict[str, object], what: str
) -> None:
    first = build(options(tmp_path))
    with pytest.raises(BadCache, match=f"was made with {what}"):
        build(options(tmp_path, cache=first.root, **change))
    assert build(options(tmp_path, **change)).root != first.root
    assert build(options(tmp_path)).rows == 0, "the first one is as it was"
