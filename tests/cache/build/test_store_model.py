"""A model of what must be readable now, against random builds, kills, growth, changes, deletions, repairs,
copies.

The model is a dictionary from key to the files of that sample as the cache must hold them. After every
command all living rows are read and compared with it, and the pixels of every row are made again.
"""

import shutil
import tempfile
from pathlib import Path

import pytest
from cache_scene import (
    Scene,
    add,
    built_scene,
    counted_store,
    damage,
    draw_scene,
    images,
    label_of,
    relabel,
    remove,
    repaint,
)
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.compact import compact
from kdcache.cache.build.options import parse_tap
from kdcache.cache.errors import KdError
from kdcache.cache.look.verify import pixel_check, problems
from kdcache.cache.reader.cache import Cache, open_cache

Files = dict[str, tuple[bytes, bytes]]  # key -> bytes of image and label


class Killed(Exception):
    """The builder died here."""


class CacheMachine(RuleBasedStateMachine):
    """One folder of data and one cache of it."""

    target_format = "zarr"

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="kdcache-model-"))
        self.scene: Scene = draw_scene(self.root / "scene", self.target_format)
        build_cache(self.scene.options())
        self.model = self.source()
        self.number = 0
        self.unfinished = False  # a builder died: only the same command settles

    def teardown(self) -> None:
        shutil.rmtree(self.root)

    def source(self) -> Files:
        return {p.stem: (p.read_bytes(), label_of(p).read_bytes()) for p in images(self.scene)}

    # ---- the data ------------------------------------------------------------------------------------------

    @rule(place=st.sampled_from(["aaa", "scene01x", "zzz"]))
    def somebody_adds_a_sample(self, place: str) -> None:
        self.number += 1
        add(self.scene, f"{place}{self.number:03d}", self.number)

    @rule(which=st.integers(0, 99), seed=st.integers(100, 999))
    def somebody_repaints_an_image(self, which: int, seed: int) -> None:
        files = images(self.scene)
        repaint(files[which % len(files)], seed)

    @rule(which=st.integers(0, 99))
    def somebody_corrects_a_label(self, which: int) -> None:
        files = images(self.scene)
        relabel(files[which % len(files)])

    @precondition(lambda self: len(images(self.scene)) > 3)
    @rule(which=st.integers(0, 99))
    def somebody_deletes_a_sample(self, which: int) -> None:
        files = images(self.scene)
        remove(files[which % len(files)])

    # ---- commands ------------------------------------------------------------------------------------------

    @rule()
    def a_plain_build(self) -> None:
        build_cache(self.scene.options())
        self.model = self.source() | self.model  # what changed or is gone stays as it was

    @rule()
    def an_update(self) -> None:
        build_cache(self.scene.options(update=True))
        self.model = self.source()

    @rule(dies_at=st.integers(0, 60), update=st.booleans())
    def a_builder_dies(self, dies_at: int, update: bool) -> None:
        def at(operation: int, moment: str) -> None:
            if (operation, moment) == (dies_at, "before"):
                raise Killed

        try:
            with counted_store(at):
                build_cache(self.scene.options(update=update))
        except Killed:
            return  # the old generation is whole
        self.model = self.source() | ({} if update else self.model)

    @rule(tap=st.sampled_from(["stage1", "stage1=fp16"]))
    def the_cache_grows_by_a_tap(self, tap: str) -> None:
        try:
            build_cache(self.scene.options(taps=(parse_tap(tap),)))
        except KdError as error:
            assert "is stored as" in error.what
            return
        self.model = self.source() | self.model

    @rule(count=st.integers(2, 4))
    def the_cache_grows_by_views(self, count: int) -> None:
        build_cache(self.scene.options(views=f"crops:{count}"))
        self.model = self.source() | self.model

    @rule(data=st.data())
    def a_disk_fails_and_repair_mends(self, data: st.DataObject) -> None:
        files = sorted(p for p in self.scene.cache.rglob("*") if p.is_file() and p.stat().st_size)
        damage(data.draw(st.sampled_from(files)))
        build_cache(self.scene.options(repair=True, update=True))
        self.model = self.source()

    @rule()
    def a_copy_has_the_same_rows(self) -> None:
        out = self.root / "copy"
        copied = compact(self.scene.cache, out)
        assert held(open_cache(copied.root)) == self.model
        assert list(problems(copied.root)) == []
        shutil.rmtree(out)

    # ---- what must be readable now -------------------------------------------------------------------------

    @invariant()
    def every_living_row_is_what_it_must_be(self) -> None:
        cache = open_cache(self.scene.cache)
        assert held(cache) == self.model
        assert list(problems(cache.root)) == []
        assert list(pixel_check(cache)) == []


def held(cache: Cache) -> Files:
    """Image and label of every living sample, each with every target of every view."""
    files: Files = {}
    for index in cache.living.tolist():
        assert cache.key(index) not in files, "one key lives twice"
        files[cache.key(index)] = cache.image(index).tobytes(), cache.truth(index).tobytes()
        for view in cache.view_numbers():
            for target in cache.manifest.tap_names:
                cache.parts(target, index, view)
    return files


class TarMachine(CacheMachine):
    target_format = "webdataset"


for _machine in (CacheMachine, TarMachine):
    _machine.TestCase.settings = settings(
        max_examples=8, stateful_step_count=12, deadline=None, suppress_health_check=list(HealthCheck)
    )

TestZarr = pytest.mark.slow(CacheMachine.TestCase)
TestWebdataset = pytest.mark.slow(TarMachine.TestCase)


def test_the_model_sees_a_row_of_another_sample(tmp_path: Path) -> None:
    scene = built_scene(tmp_path / "scene", "zarr")
    cache = open_cache(scene.cache)
    files = held(cache)
    first, second = list(files)[:2]
    assert held(cache) != files | {first: files[second]}
