"""The central promise: the target that reaches the loss is the teacher's answer to the student's own
pixels.

For every batch of several epochs, at world sizes 1 and 3, for stored crops and for windows of (mirrored)
full views, in both formats: the teacher is run on the pixels that the stream hands out (for windows: on
the whole image, and cut), and every decoded target must equal its tap within its codec's bound; labels
must equal those that numpy makes from the view. The same checks are then shown to fail when a row, a crop
or a flip is shifted.
"""

from pathlib import Path

import numpy as np
import pytest
import torch
from aligned_cache import (
    BAD,
    GLOBAL_BATCH,
    NEEDS,
    NUM_SAMPLES,
    STEPS,
    build_aligned_cache,
    draw_lossless_folder,
    layouts,
    make,
)
from alignment_checks import (
    ExpectedRow,
    assert_crop_targets,
    assert_labels,
    assert_window_targets,
    epochs_of,
)
from tiny_folder import CLASSES

from kdcache.cache.errors import BadCache
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.batch_reader import BatchReader
from kdcache.cache.reader.cache import Cache
from kdcache.cache.reader.row_batch import RowBatch, RowGroup
from kdcache.cache.views.view import Row, Window
from kdcache.trainer.stream.arrays.levels import Rule
from kdcache.trainer.stream.online import OnlineStream
from kdcache.trainer.stream.stored import StoredStream


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return draw_lossless_folder(tmp_path_factory.mktemp("alignment") / "data")


@pytest.fixture(scope="module", params=["zarr", "webdataset"])
def cache(request: pytest.FixtureRequest, folder: Path) -> Cache:
    return build_aligned_cache(folder, request.param)


@pytest.fixture(scope="module")
def teacher() -> Network:
    return build_network("tiny_teacher:make", task="segmentation", num_classes=len(CLASSES)).eval()


WORLDS = pytest.mark.parametrize("world", [1, pytest.param(3, marks=pytest.mark.slow)])


@WORLDS
def test_every_target_of_a_stored_crop_is_the_teachers_answer_to_the_streams_own_pixels(
    cache: Cache, teacher: Network, world: int
) -> None:
    for layout in layouts(world):
        assert_crop_targets(cache, make(cache, layout, "crops"), teacher)


@WORLDS
def test_every_target_of_a_window_is_the_slice_of_the_teachers_answer_to_the_whole_image(
    cache: Cache, teacher: Network, world: int
) -> None:
    for layout in layouts(world):
        assert_window_targets(cache, make(cache, layout, "full"), teacher)


# 44x52: no whole number of cells. 68x100: half of the images are 67 high, so windows reach into the padding.
@pytest.mark.parametrize("crop", [(44, 52), (68, 100)])
def test_windows_of_any_size_that_fits_are_aligned(
    cache: Cache, teacher: Network, crop: tuple[int, int]
) -> None:
    stream = make(cache, layouts(1)[0], "full", crop)
    assert_window_targets(cache, stream, teacher)
    assert_labels(cache, stream, "full")


@WORLDS
@pytest.mark.parametrize("family", ["crops", "full"])
def test_every_label_equals_the_one_that_numpy_makes_from_the_view(
    cache: Cache, world: int, family: str
) -> None:
    for layout in layouts(world):
        assert_labels(cache, make(cache, layout, family), family)


def test_every_view_of_every_sample_was_visited(cache: Cache) -> None:
    # Otherwise the tests above could pass on a lucky half of the cache.
    for family, views in (("crops", {0, 1, 2}), ("full", {3, 4})):
        rows = [ExpectedRow(cache, family, p) for p in range(STEPS * GLOBAL_BATCH)]
        assert {(r.sample, r.view) for r in rows} == {
            (s, v) for s in range(NUM_SAMPLES) if s != BAD for v in views
        }


def test_crops_with_jitter_are_the_same_crops_and_labels_in_other_colours(
    folder: Path, cache: Cache, teacher: Network
) -> None:
    jittered = build_aligned_cache(folder, "jittered", "crops:3", augment="scale=0.5x2,flip,jitter=0.5")
    stream = make(jittered, layouts(1)[0], "crops")
    assert_crop_targets(jittered, stream, teacher)
    assert_labels(jittered, stream, "crops")
    plain = make(cache, layouts(1)[0], "crops")
    left, right = next(stream.run()), next(plain.run())
    assert torch.equal(left.truth, right.truth) and not torch.equal(left.images_BHWC, right.images_BHWC)
    stream.close()
    plain.close()


@pytest.mark.parametrize("target_format", ["zarr", "webdataset"])
def test_maps_that_are_gathered_by_the_shard_lie_at_the_rows_that_they_answer(
    folder: Path, teacher: Network, monkeypatch: pytest.MonkeyPatch, target_format: str
) -> None:
    """Without a decoder the rows of a batch are read by the shard, in the shard's order, several at once."""
    kept = build_aligned_cache(folder, target_format, "crops:1", keep="pixels")
    at_once: list[int] = []
    honest = BatchReader._groups

    def groups(self: BatchReader, rows: RowBatch) -> tuple[RowGroup, ...]:
        of_batch = honest(self, rows)
        at_once.extend(len(group.places) for group in of_batch)
        return of_batch

    monkeypatch.setattr(BatchReader, "_groups", groups)
    stream = StoredStream(kept, needs=NEEDS, layout=layouts(1)[0], rule=Rule())
    assert_crop_targets(kept, stream, teacher)
    assert max(at_once, default=0) >= 3, "nothing was read several rows at once"


@pytest.mark.parametrize("family", ["crops", "full"])
def test_a_live_teacher_on_stored_crops_gives_what_the_cache_gives(
    cache: Cache, teacher: Network, family: str
) -> None:
    # For windows the live teacher sees less context, so only crops agree.
    stored = make(cache, layouts(1)[0], family)
    live = OnlineStream(stored, teacher, NEEDS, "cpu")
    batch = next(live.run())
    stored_answers, wanted = stored.targets(batch), live.targets(batch)
    live.close()
    far = max(float((stored_answers[n] - wanted[n]).abs().max()) for n in ("stage4", "logits"))
    assert far < 1e-4 if family == "crops" else far > 1e-3


# ---- the checks can fail: one thing is shifted, everything else is as it was


def shifted_rows(monkeypatch: pytest.MonkeyPatch, cache: Cache) -> None:
    """Targets of another sample of the same size (two further on; images alternate between two sizes)."""
    honest = Cache.parts

    def parts(self: Cache, target: str, index: int, view: int) -> dict[str, np.ndarray]:
        other = index + 2 if index + 2 < NUM_SAMPLES and index + 2 != BAD else index % 2
        return honest(self, target, other, view)

    monkeypatch.setattr(Cache, "parts", parts)


def changed_geometry(monkeypatch: pytest.MonkeyPatch, stream: StoredStream, change: str) -> None:
    """Pixels and labels of a crop one cell further down, or of the other flip; targets stay."""
    honest = stream.views.row

    def row(sample: int, epoch: int, quarter: int = 0) -> Row:
        seen = honest(sample, epoch, quarter)
        g = seen.geometry
        cell = 8 if g.crop_y == 0 else -8
        moved = g._replace(crop_y=g.crop_y + cell) if change == "crop" else g._replace(flip=1 - g.flip)
        return seen._replace(geometry=moved)

    monkeypatch.setattr(stream.views, "row", row)


def unseen(monkeypatch: pytest.MonkeyPatch, stream: StoredStream) -> None:
    """The stream's own comparison of pixels would stop before the checks; that it does has a test below."""
    monkeypatch.setattr(stream._passing, "compare", lambda rows, images: None)


def moved_window(monkeypatch: pytest.MonkeyPatch, stream: StoredStream) -> None:
    """The window of the stored map one cell further; pixels and labels stay."""
    honest = stream.views.row

    def row(sample: int, epoch: int, quarter: int = 0) -> Row:
        seen = honest(sample, epoch, quarter)
        w = seen.window
        return seen._replace(window=Window(w.y + (8 if w.y == 0 else -8), w.x, w.height, w.width))

    monkeypatch.setattr(stream.views, "row", row)


@pytest.mark.parametrize("change", ["row", "crop", "flip"])
def test_the_check_of_crop_targets_fails_when_something_is_shifted(
    monkeypatch: pytest.MonkeyPatch, cache: Cache, teacher: Network, change: str
) -> None:
    stream = make(cache, layouts(1)[0], "crops")
    unseen(monkeypatch, stream)
    if change == "row":
        shifted_rows(monkeypatch, cache)
    else:
        changed_geometry(monkeypatch, stream, change)
    with pytest.raises(AssertionError):
        assert_crop_targets(cache, stream, teacher)


@pytest.mark.parametrize("change", ["row", "crop", "flip", "window"])
def test_the_check_of_window_targets_fails_when_something_is_shifted(
    monkeypatch: pytest.MonkeyPatch, cache: Cache, teacher: Network, change: str
) -> None:
    stream = make(cache, layouts(1)[0], "full")
    if change == "row":
        shifted_rows(monkeypatch, cache)
    elif change == "window":
        moved_window(monkeypatch, stream)
    else:
        changed_geometry(monkeypatch, stream, change)
    with pytest.raises(AssertionError):
        assert_window_targets(cache, stream, teacher)


@pytest.mark.parametrize("change", ["crop", "flip"])
def test_a_crop_that_passes_with_other_pixels_than_the_teacher_saw_stops_the_run(
    monkeypatch: pytest.MonkeyPatch, cache: Cache, change: str
) -> None:
    """Also where the rows that are made before the first batch are as they were."""
    stream = make(cache, layouts(1)[0], "crops")
    changed_geometry(monkeypatch, stream, change)
    with pytest.raises(BadCache, match="other pixels than the teacher saw"):
        list(epochs_of(stream))


@pytest.mark.parametrize("change", ["crop", "flip", "labels"])
def test_the_check_of_labels_fails_when_something_is_shifted(
    monkeypatch: pytest.MonkeyPatch, cache: Cache, change: str
) -> None:
    stream = make(cache, layouts(1)[0], "crops")
    unseen(monkeypatch, stream)
    if change == "labels":
        honest = Cache.truth
        # Another sample's label, cut by this sample's view.
        monkeypatch.setattr(Cache, "truth", lambda self, i: honest(self, 2 if i == 0 else i))
        wanted = ExpectedRow.__init__

        def init(self: ExpectedRow, cache: Cache, family: str, position: int) -> None:
            with monkeypatch.context() as undone:
                undone.setattr(Cache, "truth", honest)
                wanted(self, cache, family, position)

        monkeypatch.setattr(ExpectedRow, "__init__", init)
    else:
        changed_geometry(monkeypatch, stream, change)
    with pytest.raises(AssertionError):
        assert_labels(cache, stream, "crops")
