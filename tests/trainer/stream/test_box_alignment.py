"""Boxes, targets and pixels belong to each other: the test that matters for objects.

Objects are painted in colours of their own, so that the stream's own pixels tell where they are. The second
half shifts one thing at a time, and the same check must fail.
"""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from aligned_boxes import (
    CANVAS,
    CROPS,
    NEEDS,
    NUM_IMAGES,
    assert_boxes_are_those_of_the_pixels,
    build_painted_cache,
    painted_images,
)
from painted_objects import write_coco

from kdcache.cache import boxes
from kdcache.cache.networks.build import build_network
from kdcache.cache.reader.cache import Cache
from kdcache.cache.sources.table import open_source
from kdcache.cache.tasks import detection
from kdcache.cache.tasks.table import DETECTION
from kdcache.cache.views.view import Geometry
from kdcache.trainer.stream.batch import Batch, BatchLayout
from kdcache.trainer.stream.fresh import FreshStream
from kdcache.trainer.stream.stored import StoredStream

STEPS, GLOBAL_BATCH = 12, 6
FAMILIES = ("fit", "crops")


@pytest.fixture(scope="module", params=["zarr", "webdataset"])
def cache(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    folder = tmp_path_factory.mktemp("painted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDCACHE_HOME", str(folder))
        yield build_painted_cache(folder, request.param)


@pytest.fixture(scope="module")
def zarr_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cache]:
    folder = tmp_path_factory.mktemp("shifted")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KDCACHE_HOME", str(folder))
        yield build_painted_cache(folder, "zarr")


def layouts(world: int) -> list[BatchLayout]:
    return [BatchLayout(seed=0, global_batch=GLOBAL_BATCH, world=world, rank=r) for r in range(world)]


def stored(cache: Cache, family: str, layout: BatchLayout) -> StoredStream:
    return StoredStream(cache, needs=NEEDS, layout=layout, views=family, keep_empty=True)


def assert_aligned(batches: Iterator[Batch], geometries: Callable[[Batch], list[Geometry]]) -> list[int]:
    """The numbers of boxes of every row."""
    images, counts = painted_images(), []
    for batch in batches:
        rows = zip(batch.images_BHWC, batch.truth, batch.samples_B.tolist(), geometries(batch), strict=True)
        for image_HWC, truth_M5, sample, geometry in rows:
            counts.append(
                assert_boxes_are_those_of_the_pixels(
                    image_HWC.numpy(), truth_M5.numpy(), images[sample], geometry
                )
            )
    return counts


def stored_boxes(cache: Cache, family: str, world: int = 1) -> list[int]:
    counts = []
    for layout in layouts(world):
        stream = stored(cache, family, layout)
        batches = islice(stream.run(), STEPS)
        counts += assert_aligned(batches, lambda b, s=stream: [r.geometry for r in s.rows(b.micro_step)])  # type: ignore[misc]
        stream.close()
    return counts


@pytest.mark.parametrize("world", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_boxes_of_stored_views_enclose_what_is_painted(cache: Cache, family: str, world: int) -> None:
    counts = stored_boxes(cache, family, world)
    assert len(counts) == STEPS * GLOBAL_BATCH and max(counts) >= 6 and 0 in counts


@torch.no_grad()
@pytest.mark.parametrize("family", FAMILIES)
def test_targets_are_the_teachers_answers_to_the_pixels_beside_the_boxes(cache: Cache, family: str) -> None:
    teacher = build_network("tiny_detector:make", task=DETECTION, num_classes=3).eval()
    stream, views = stored(cache, family, layouts(1)[0]), set()
    for batch in islice(stream.run(), STEPS):
        views |= {row.view for row in stream.rows(batch.micro_step)}
        answers = teacher(batch.images_BHWC, [need.tap for need in NEEDS])
        for name, target in stream.targets(batch).items():
            bound = cache.codec(name).bound(answers[name]) + 1e-5 * answers[name].abs().amax()
            assert target.shape == answers[name].shape
            assert bool(((target - answers[name]).abs() <= bound).all())
    stream.close()
    assert views == ({0, 1} if family == "fit" else {2, 3, 4})


@pytest.mark.parametrize("augment", ["", "none", CROPS])
def test_boxes_of_fresh_views_enclose_what_is_painted(
    augment: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KDCACHE_HOME", str(tmp_path))
    source = open_source(f"coco:{write_coco(tmp_path, painted_images())}", "train")
    stream = FreshStream(source, layout=layouts(1)[0], crop=CANVAS, augment=augment)
    batches = list(islice(stream.run(), STEPS))
    stream.close()
    shown = {b.micro_step: [row.geometry for row in stream.feed(b.micro_step).rows] for b in batches}
    counts = assert_aligned(iter(batches), lambda b: shown[b.micro_step])
    assert max(counts) >= 6 and 0 in counts
    flips = {geometry.flip for geometries in shown.values() for geometry in geometries}
    assert flips == ({0} if augment == "none" else {0, 1})


# ---- what the check must notice ------------------------------------------------------------------------


def shifted(change: Callable[[Geometry], Geometry]) -> Callable[..., np.ndarray]:
    follow = boxes.follow
    return lambda boxes_M4, geometry, size: follow(boxes_M4, change(geometry), size)


SHIFTS: dict[str, Callable[[Geometry], Geometry]] = {
    "the flip": lambda g: g._replace(flip=1 - g.flip),
    "the corner, by a cell": lambda g: g._replace(crop_x=g.crop_x + 8),
    "the corner, a cell down": lambda g: g._replace(crop_y=g.crop_y + 8),
    "the scale, by 2 %": lambda g: g._replace(
        resize_h=round(g.resize_h * 1.02), resize_w=round(g.resize_w * 1.02)
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("shift", SHIFTS)
def test_a_view_that_is_shifted_is_noticed(
    zarr_cache: Cache, family: str, shift: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boxes, "follow", shifted(SHIFTS[shift]))
    with pytest.raises(AssertionError, match="box|object"):
        stored_boxes(zarr_cache, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_boxes_of_another_row_are_noticed(
    zarr_cache: Cache, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = Cache.truth
    monkeypatch.setattr(Cache, "truth", lambda self, index: truth(self, (index + 1) % NUM_IMAGES))
    with pytest.raises(AssertionError, match="box|object"):
        stored_boxes(zarr_cache, family)


@pytest.mark.parametrize("family", FAMILIES)
def test_classes_in_another_order_than_their_boxes_are_noticed(
    zarr_cache: Cache, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved = detection.Objects.moved

    def swapped(self: detection.Objects, *given: object) -> np.ndarray:
        objects_M5 = moved(self, *given)  # type: ignore[arg-type]
        objects_M5[:, 4] = objects_M5[::-1, 4]
        return objects_M5

    monkeypatch.setattr(detection.Objects, "moved", swapped)
    with pytest.raises(AssertionError, match="has class"):
        stored_boxes(zarr_cache, family)
