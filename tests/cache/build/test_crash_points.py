"""A builder that dies between any two operations of the store: the same command finishes what it began.

Dying is an exception here, in the builder or in its writing thread; `benchmarks/faults.py` does the same with
SIGKILL. What is compared is a run of the same command that nothing stopped: every living row, and where the
data did not change every file of the cache but the lock.
"""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
from cache_scene import (
    Scene,
    add,
    built_scene,
    counted_store,
    damage,
    draw_scene,
    images,
    living_rows,
    operations,
    relabel,
    remove,
    repaint,
    tree,
)
from mixed_scene import MixedScene, built_mixed_scene

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import parse_tap
from kdcache.cache.look.verify import pixel_check, problems
from kdcache.cache.reader.cache import open_cache

Rows = dict[str, object]


class Killed(BaseException):
    """The builder died here."""


class Job(NamedTuple):
    """What happened to data and cache, and the options of the command that deals with it."""

    before: Callable[[Scene], object] = lambda scene: None
    options: dict[str, object] = {}
    built: bool = True  # the cache was built before
    same_files: bool = True  # nothing changed in the data: also the files must be those of a run in one go


def grow(scene: Scene) -> None:
    add(scene, "aaa", 1)
    add(scene, "zzz", 2)


def change(scene: Scene) -> None:
    repaint(images(scene)[1], 3)
    relabel(images(scene)[4])
    grow(scene)


def a_stored_shard(scene: Scene) -> Path:
    """The first one that holds targets."""
    folder = scene.cache / ("targets.zarr" if scene.target_format == "zarr" else "targets")
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p.suffix != ".json")
    return files[0]


def harm_targets_and_samples(scene: Scene) -> None:
    """What can be put back: the data are as they were."""
    damage(a_stored_shard(scene))
    damage(scene.cache / "samples" / "00001.tar")
    (scene.cache / "records" / "00002-samples.json").unlink()
    damage(scene.cache / "manifest.json")


def harm_what_changed_since(scene: Scene) -> None:
    """A block that cannot be put back, because one of its images is another one now."""
    damage(scene.cache / "samples" / "00001.tar")
    repaint(images(scene)[4], 5)


JOBS = {
    "build": Job(built=False),
    "tap": Job(options={"taps": (parse_tap("stage1"),)}),
    "views": Job(options={"views": "crops:3+full"}),
    "growth": Job(before=grow),
    "change": Job(before=change, options={"update": True}, same_files=False),
    "deletion": Job(before=lambda s: remove(images(s)[2]), options={"update": True}),
    "repair": Job(before=harm_targets_and_samples, options={"repair": True}),
    "lost": Job(before=harm_what_changed_since, options={"repair": True, "update": True}, same_files=False),
    "generation": Job(
        before=lambda s: damage(s.cache / "generations" / "00001.json"), options={"repair": True}
    ),
}
TAR_JOBS = ("build", "change", "repair")  # in the other format; all of them in `benchmarks/faults.py`


def result(scene: Scene) -> tuple[Rows, dict[str, str]]:
    """What is there, with the digest of the pixels of every row; nothing is damaged."""
    assert list(problems(scene.cache)) == []
    return living_rows(scene.cache), tree(scene.cache)


def killed(scene: Scene, point: int, options: dict[str, object]) -> None:
    """Dies when `point` operations are done. After one of them is before the next: disk is the same."""

    def at(operation: int, moment: str) -> None:
        if operation + (moment == "after") >= point:
            raise Killed  # and nothing that the dying builder still tries reaches the disk

    with counted_store(at), pytest.raises(Killed):
        build_cache(scene.options(**options))


def restored(template: Path, scene: Scene) -> Scene:
    shutil.rmtree(scene.root, ignore_errors=True)
    shutil.copytree(template, scene.root, copy_function=shutil.copy2)
    return scene


def every_crash_point(scene: Scene, template: Path, options: dict[str, object], same_files: bool) -> int:
    """Dies at each of them in turn; returns how many there are."""
    restored(template, scene)
    count = operations(lambda: build_cache(scene.options(**options)))
    rows, files = result(scene)
    assert list(pixel_check(open_cache(scene.cache))) == []
    for point in range(count + 1):
        restored(template, scene)
        killed(scene, point, options)
        build_cache(scene.options(**options))
        again, now = result(scene)
        assert again == rows, f"other rows after dying at {point} of {count}"
        if same_files:
            other = sorted(n for n in {*files, *now} if files.get(n) != now.get(n))
            assert not other, f"other files after dying at {point} of {count}: {other}"
    return count


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "target_format"), [*((name, "zarr") for name in JOBS), *((n, "webdataset") for n in TAR_JOBS)]
)
def test_a_builder_that_died_anywhere_is_finished_by_the_same_command(
    tmp_path: Path, name: str, target_format: str
) -> None:
    job, make = JOBS[name], built_scene if JOBS[name].built else draw_scene
    scene = make(tmp_path / "scene", target_format)
    job.before(scene)
    template = Path(shutil.copytree(scene.root, tmp_path / "template", copy_function=shutil.copy2))
    assert every_crash_point(scene, template, job.options, job.same_files) >= 1


@pytest.mark.slow
def test_rows_that_show_one_another_are_finished_too(tmp_path: Path) -> None:
    scene: MixedScene = built_mixed_scene(tmp_path / "scene")
    scene.draw("cat/1", 51)
    scene.image("dog/0").unlink()
    template = Path(shutil.copytree(scene.root, tmp_path / "template", copy_function=shutil.copy2))
    assert every_crash_point(scene, template, {"update": True}, same_files=False) > 5


@pytest.mark.parametrize("name", ["build", "tap"])
def test_a_builder_that_died_half_way_is_finished_by_the_same_command(scene: Scene, name: str) -> None:
    """One point of each: what `make check` has time for."""
    job = JOBS[name]
    if not job.built:
        shutil.rmtree(scene.caches)
    template = Path(shutil.copytree(scene.root, scene.root.with_name("half"), copy_function=shutil.copy2))
    half = operations(lambda: build_cache(scene.options(**job.options))) // 2
    rows, files = result(scene)
    restored(template, scene)
    killed(scene, half, job.options)
    build_cache(scene.options(**job.options))
    shutil.rmtree(template)
    assert result(scene) == (rows, files)
