"""A corrected label costs no forward: its targets are copied, and whatever cannot be is left to the
teacher."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from cache_scene import Scene, damage, images, label_of, living_rows, relabel, remove, repaint
from class_data import classes, draw_npz
from mixed_scene import stale
from torch import Tensor

from kdcache.cache.build import predict
from kdcache.cache.build.build import BuildEvents, build_cache
from kdcache.cache.build.options import BuildOptions, parse_tap
from kdcache.cache.build.predict import Prediction
from kdcache.cache.build.repair import Repairing
from kdcache.cache.build.samples.survey import Survey
from kdcache.cache.errors import DiskFull
from kdcache.cache.look.verify import pixel_check, problems
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import open_cache


@pytest.fixture
def rows_seen(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """How many rows went through a network, per forward."""
    seen: list[int] = []
    honest = Network.forward

    def counted(self: Network, images_BHWC: Tensor, *rest: object) -> object:
        seen.append(len(images_BHWC))
        return honest(self, images_BHWC, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Network, "forward", counted)
    yield seen


def whole(scene: Scene) -> bool:
    return not list(problems(scene.cache)) and not list(pixel_check(open_cache(scene.cache)))


def forwards_of(scene: Scene, seen: list[int], **options: object) -> int:
    """Rows through the teacher in one build; a plan alone asks it for the shapes of its taps."""
    seen.clear()
    build_cache(scene.options(**options))
    return sum(seen)


def test_a_corrected_label_copies_its_targets_without_any_forward(scene: Scene, rows_seen: list[int]) -> None:
    before = living_rows(scene.cache)
    idle = forwards_of(scene, rows_seen)
    for number in (1, 4):
        relabel(images(scene)[number])
    assert forwards_of(scene, rows_seen, update=True) == idle
    after = living_rows(scene.cache)
    changed = {name for name in before if before[name] != after[name]}
    assert changed == {"scene01", "scene04"}, "the truth alone: pixels and targets to the bit"
    cache = open_cache(scene.cache)
    label = label_of(images(scene)[1]).read_bytes()
    assert cache.find("scene01") == 9 and cache.truth(9).tobytes() == label and whole(scene)


def test_one_image_beside_a_label_is_all_that_the_teacher_sees(scene: Scene, rows_seen: list[int]) -> None:
    idle = forwards_of(scene, rows_seen)
    relabel(images(scene)[1])
    repaint(images(scene)[4], 3)
    assert forwards_of(scene, rows_seen, update=True) == idle + 2 and whole(scene)


def test_a_sample_that_comes_back_is_copied_from_its_retired_row(scene: Scene, rows_seen: list[int]) -> None:
    before, image = living_rows(scene.cache), images(scene)[2]
    content, label = image.read_bytes(), label_of(image).read_bytes()
    remove(image)
    build_cache(scene.options(update=True))
    idle = forwards_of(scene, rows_seen)
    image.write_bytes(content)
    label_of(image).write_bytes(label)
    assert forwards_of(scene, rows_seen) == idle and living_rows(scene.cache) == before


def foretold(options: BuildOptions) -> tuple[int, int, int]:
    """Teacher rows and bytes of targets that a build announces, and the rows that it then computes."""
    said: list[tuple[int, int]] = []

    def planned(plan: object, prediction: Prediction, assignment: object) -> None:
        said.append((prediction.rows, prediction.target_bytes))

    def repairing(repairing: Repairing) -> None:
        said.append((repairing.rows, repairing.target_bytes))

    report = build_cache(options, BuildEvents(planned=planned, repairing=repairing))
    return sum(rows for rows, _ in said), sum(num_bytes for _, num_bytes in said), report.rows


@pytest.mark.parametrize("views", ["crops:2", "crops:2+full"], ids=["crops", "whole images"])
def test_rows_that_need_no_forward_are_not_announced_as_the_teachers(scene: Scene, views: str) -> None:
    build_cache(scene.options(views=views))
    sets = 2 if views == "crops:2" else 3
    for number in (1, 4):
        relabel(images(scene)[number])
    assert foretold(scene.options(update=True))[::2] == (0, 0), "copied"
    relabel(images(scene)[1])
    repaint(images(scene)[3], 3)
    assert foretold(scene.options(update=True))[::2] == (sets, sets)
    rows, _, computed = foretold(scene.options(taps=(parse_tap("stage1"),)))
    assert rows == computed == 7 * sets, "rows that are retired are asked of nobody"


def test_a_block_that_is_lost_is_announced_as_what_it_costs(scene: Scene) -> None:
    relabel(images(scene)[1])
    damage(scene.cache / "samples" / "00000.tar")
    rows, num_bytes, computed = foretold(scene.options(repair=True))
    assert rows == computed == 0 and num_bytes > 0, "its targets are copied beside the new label"


def of_targets(scene: Scene) -> list[Path]:
    """Every file of a shard of targets: arrays, and the columns of its rows."""
    chunks = (scene.cache / "targets.zarr").rglob("c/**/*")
    return [*(p for p in chunks if p.is_file()), *(scene.cache / "views").iterdir()]


def of_samples(scene: Scene) -> list[Path]:
    return list((scene.cache / "samples").iterdir())


@pytest.mark.parametrize("files", [of_targets, of_samples])
def test_a_repair_writes_the_bytes_that_it_announced_before_writing_any(
    scene: Scene, files: Callable[[Scene], list[Path]]
) -> None:
    """Every shard is damaged, by a file each; all of its files are written again."""
    before: list[Path] = []
    seen: list[Repairing] = []
    gone = [path for path in files(scene) if path.parent.name == "views" or path.suffix == ".tar"]
    for path in gone:
        path.unlink()

    def repairing(repairing: Repairing) -> None:
        before.extend(path for path in gone if path.exists())
        seen.append(repairing)

    report = build_cache(scene.options(repair=True), BuildEvents(repairing=repairing))
    written = sum(path.stat().st_size for path in files(scene))
    assert before == [] and len(seen) == 1
    as_samples = files is of_samples
    assert seen == [Repairing(report.rows, 0 if as_samples else written, written if as_samples else 0)]
    assert report.rows == (0 if as_samples else 14)


def of_tars(scene: Scene) -> list[Path]:
    """What the columns beside them still name, so that it is packed again and not made anew."""
    return list((scene.cache / "samples").glob("*.tar"))


@pytest.mark.parametrize("files", [of_targets, of_samples, of_tars])
def test_a_repair_that_the_disk_has_no_room_for_is_refused_before_it_writes(
    scene: Scene, files: Callable[[Scene], list[Path]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in files(scene):
        path.unlink()
    there = {path: path.read_bytes() for path in scene.cache.rglob("*") if path.is_file()}
    monkeypatch.setattr(predict, "free_bytes", lambda root: 1000)
    with pytest.raises(DiskFull, match=r"the build writes .*, the disk has 1000 B free"):
        build_cache(scene.options(repair=True))
    left = {path: path.read_bytes() for path in scene.cache.rglob("*") if path.is_file()}
    assert {path for path in left if left[path] != there.get(path)} <= {scene.cache / "build.lock"}


def test_every_pass_of_the_teacher_is_copied(scene: Scene, rows_seen: list[int]) -> None:
    build_cache(scene.options(taps=(parse_tap("stage1"),), views="crops:3+full"))
    before = living_rows(scene.cache)
    idle = forwards_of(scene, rows_seen)
    relabel(images(scene)[1])
    assert forwards_of(scene, rows_seen, update=True) == idle
    after = living_rows(scene.cache)
    assert {name for name in before if before[name] != after[name]} == {"scene01"}


def test_a_tap_that_is_added_at_once_is_computed_for_all(scene: Scene) -> None:
    """Of the old row nothing is there to be copied under it."""
    relabel(images(scene)[1])
    build_cache(scene.options(update=True, taps=(parse_tap("stage1"),)))
    cache = open_cache(scene.cache)
    assert len(cache.complete_views(["stage1", "stage4", "logits"])) == 1 and whole(scene)


def test_a_damaged_row_is_not_copied(scene: Scene, rows_seen: list[int]) -> None:
    idle = forwards_of(scene, rows_seen)
    for view in (0, 1):
        victims = (scene.cache / "targets.zarr").rglob(f"stage4/*/values/c/{view}/0/0/0/0")
        damage(next(p for p in victims if p.is_file()))
    relabel(images(scene)[1])
    assert forwards_of(scene, rows_seen, update=True) == idle + 2
    assert "shard 00000 view 0" in {problem.title for problem in problems(scene.cache)}, "it is still named"


def test_a_corrected_class_of_rows_that_are_mixed_is_left_to_the_teacher(
    tmp_path: Path, rows_seen: list[int]
) -> None:
    """Whom they show has changed with their block, and so have the rows that show them."""
    data = draw_npz(tmp_path / "data", (16, 16, 3))
    options = BuildOptions(
        runs_dir=tmp_path / "runs", caches_dir=tmp_path / "caches", teacher="tiny_classifier:make",
        data=f"npz:{data.parent}", views="crops:2", augment="flip,mixup=1", crop=(16, 16), shard_rows=8,
    )  # fmt: skip
    root = build_cache(options).root
    corrected = classes(20, 3)
    corrected[3] = (corrected[3] + 1) % 3
    draw_npz(tmp_path / "data", (16, 16, 3), y_train=corrected)
    surveys: list[Survey] = []
    rows_seen.clear()
    said: list[int] = []
    events = BuildEvents(surveyed=surveys.append, planned=lambda plan, cost, _: said.append(cost.rows))
    report = build_cache(replace(options, update=True), events)
    assert said == [report.rows]
    cache = open_cache(root)
    assert surveys[0].labels == ("train/00003",) and report.rows == 2 * (1 + len(surveys[0].mixed))
    assert cache.truth(cache.find("train/00003")).tolist() == [corrected[3]]
    assert stale(cache) == [] and list(problems(root)) == [] and list(pixel_check(cache)) == []
