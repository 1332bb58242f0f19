"""What is added later answers the very pixels of before: another decoder, or a moved crop, is refused."""

import threading
from collections.abc import Callable

import numpy as np
import pytest
from cache_scene import Scene, living_rows, tree

from kdcache.cache.build import draw
from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import parse_tap
from kdcache.cache.build.stages import finish
from kdcache.cache.errors import BadCache
from kdcache.cache.images import pipeline
from kdcache.cache.views.view import Row

STAGE: dict[str, object] = {"taps": (parse_tap("stage1"),)}


def another_decoder(monkeypatch: pytest.MonkeyPatch) -> None:
    """One pixel of one row is one level brighter."""
    honest = finish.pixel_digests
    monkeypatch.setattr(finish, "pixel_digests", lambda images: honest(images) ^ np.uint64(1))


def a_moved_crop(monkeypatch: pytest.MonkeyPatch) -> None:
    honest = draw._Drawing.row

    def row(drawing: draw._Drawing, index: int, keys: list[str]) -> Row:
        seen = honest(drawing, index, keys)
        geometry = seen.geometry._replace(crop_x=seen.geometry.crop_x + 1)
        return seen._replace(geometry=geometry) if seen.sample == 4 else seen

    monkeypatch.setattr(draw._Drawing, "row", row)


@pytest.mark.parametrize("change", [another_decoder, a_moved_crop])
def test_a_tap_of_other_pixels_is_refused_before_its_shard_is_written(
    scene: Scene, monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None]
) -> None:
    before = living_rows(scene.cache)
    with monkeypatch.context() as patch:
        change(patch)
        patch.setattr(
            "kdcache.cache.images.pipeline.pipeline_facts", lambda device: {"dali": "0.1", "decoder": "x"}
        )
        with pytest.raises(
            BadCache, match="makes other pixels than the teacher saw before: sample "
        ) as error:
            build_cache(scene.options(**STAGE))
    assert "dali " in error.value.what and " -> 0.1" in error.value.what
    assert "the DALI version and the device kind of the first build" in error.value.fix
    assert living_rows(scene.cache) == before
    build_cache(scene.options(**STAGE))
    assert {n: d for n, d in living_rows(scene.cache).items() if n in before} == before


def test_new_views_have_no_pixels_of_before_to_agree_with(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    another_decoder(monkeypatch)
    assert build_cache(scene.options(views="crops:3")).rows == 7


def test_the_same_pixels_give_the_bytes_of_a_build_of_all_taps_at_once(scene: Scene) -> None:
    """Pass by pass: every tap has its own arrays, and all passes the same columns."""
    build_cache(scene.options(**STAGE))
    by_view: dict[str, set[bytes]] = {}
    for path in (scene.cache / "views").glob("00001-*"):
        by_view.setdefault(path.name.split("-")[1], set()).add(path.read_bytes())
    assert len(list((scene.cache / "views").glob("00001-*"))) == 4
    assert {view: len(contents) for view, contents in by_view.items()} == {"v000": 1, "v001": 1}
    all_taps = (parse_tap("stage1"), parse_tap("stage4"), parse_tap("logits"))
    fresh = build_cache(scene.options(caches_dir=scene.root / "fresh", taps=all_taps))
    arrays = {n: d for n, d in tree(fresh.root).items() if n.startswith("targets.zarr/")}
    assert {n: d for n, d in tree(scene.cache).items() if n.startswith("targets.zarr/")} == arrays


def test_the_decoder_is_made_where_running_out_of_memory_is_an_error(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a thread that gets no memory the library ends the process without a word."""
    honest, threads = pipeline._build, []

    def build(*given: object) -> object:
        threads.append(threading.current_thread())
        return honest(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(pipeline, "_build", build)
    build_cache(scene.options(**STAGE))
    assert set(threads) == {threading.main_thread()}
