"""What a stream over `aligned_cache` must give.

Each check raises AssertionError; `test_alignment.py` shows that they pass, and that they can fail.
"""

import io
from collections.abc import Iterator

import numpy as np
import torch
from aligned_cache import INVALID, NUM_INDICES, STEPS, STRIDE
from PIL import Image
from torch import Tensor

from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import Cache
from kdcache.cache.spec import FILL_RGB, IGNORE, ceil_div
from kdcache.cache.views.view import Geometry
from kdcache.trainer.stream.batch import Batch
from kdcache.trainer.stream.order import sample_at
from kdcache.trainer.stream.stored import StoredStream


class ExpectedRow:
    """What one row of a batch must be, worked out from the manifest, the stored sample and Pillow alone."""

    def __init__(self, cache: Cache, family: str, position: int) -> None:
        self.sample = sample_at(0, position, num_samples=NUM_INDICES, shard_samples=3, invalid=INVALID)
        visit = position // (NUM_INDICES - len(INVALID)) + cache.key_hash(self.sample)
        # Views 0, 1, 2 are the crops, 3 the whole image, 4 the mirrored one.
        self.view = visit % 3 if family == "crops" else 3 + visit % 2
        self.image_HWC = np.asarray(Image.open(io.BytesIO(cache.image(self.sample).tobytes())).convert("RGB"))
        self.label_HW = np.asarray(Image.open(io.BytesIO(cache.truth(self.sample).tobytes())))

    @property
    def mirrored(self) -> bool:
        return self.view == 4


def geometry_of(stream: StoredStream, batch: Batch) -> list[Geometry]:
    """The view that each row claims; whether pixels and labels agree with it is what the checks ask."""
    return [row.geometry for row in stream.rows(batch.micro_step)]


def cut(array: np.ndarray, g: Geometry, fill: tuple[int, ...] | int) -> np.ndarray:
    """numpy's nearest resize, flip and padded crop of one image or label."""
    rows = np.minimum((np.arange(g.resize_h) + 0.5) * array.shape[0] / g.resize_h, array.shape[0] - 1).astype(
        int
    )
    columns = np.minimum(
        (np.arange(g.resize_w) + 0.5) * array.shape[1] / g.resize_w, array.shape[1] - 1
    ).astype(int)
    moved = array[rows][:, columns]
    moved = moved[:, ::-1] if g.flip else moved
    piece = moved[g.crop_y : g.crop_y + g.crop_h, g.crop_x : g.crop_x + g.crop_w]
    out = np.empty((g.crop_h, g.crop_w, *array.shape[2:]), dtype=array.dtype)
    out[...] = fill
    out[: piece.shape[0], : piece.shape[1]] = piece
    return out


def assert_close(answer: Tensor, wanted: Tensor, bound: Tensor) -> None:
    """Within the codec's bound, and a little for convolutions over batches of another size."""
    slack = 1e-5 * wanted.abs().amax()
    assert bool(((answer - wanted).abs() <= bound + slack).all())


@torch.no_grad()
def assert_crop_targets(cache: Cache, stream: StoredStream, teacher: Network) -> None:
    """Every target of every row is the teacher's answer to the stream's own pixels."""
    for batch in epochs_of(stream):
        taps = teacher(batch.images_BHWC, list(STRIDE))
        for name, target_BCHW in stream.targets(batch).items():
            assert target_BCHW.shape == taps[name].shape
            assert_close(target_BCHW, taps[name], cache.codec(name).bound(taps[name]))


@torch.no_grad()
def assert_window_targets(cache: Cache, stream: StoredStream, teacher: Network) -> None:
    """Every target is the teacher's answer to the whole image, cut where the stream's pixels are."""
    for batch in epochs_of(stream):
        targets = stream.targets(batch)
        for place, position in enumerate(stream.layout.positions(batch.micro_step)):
            row = ExpectedRow(cache, "full", position)
            whole_HWC = row.image_HWC[:, ::-1] if row.mirrored else row.image_HWC
            y, x = find_corner(whole_HWC, batch.images_BHWC[place].numpy())
            taps = teacher(torch.from_numpy(whole_HWC.copy())[None], list(STRIDE))
            h, w = batch.images_BHWC.shape[1:3]
            for name, stride in STRIDE.items():
                rows = slice(y // stride, y // stride + ceil_div(h, stride))
                columns = slice(x // stride, x // stride + ceil_div(w, stride))
                bound = cache.codec(name).bound(taps[name]).expand_as(taps[name])
                wanted = taps[name][:, :, rows, columns]
                assert targets[name][place].shape == wanted.shape[1:]
                assert_close(targets[name][place : place + 1], wanted, bound[:, :, rows, columns])


def find_corner(whole_HWC: np.ndarray, window_HWC: np.ndarray) -> tuple[int, int]:
    """Where a window lies in a (padded) image, from the pixels alone; on whole cells of the coarsest map."""
    h, w = window_HWC.shape[:2]
    padded = np.empty((whole_HWC.shape[0] + 8, whole_HWC.shape[1] + 8, 3), dtype=np.uint8)
    padded[...] = FILL_RGB
    padded[: whole_HWC.shape[0], : whole_HWC.shape[1]] = whole_HWC
    corners = [
        (y, x)
        for y in range(0, padded.shape[0] - h + 1, 8)
        for x in range(0, padded.shape[1] - w + 1, 8)
        if (padded[y : y + h, x : x + w] == window_HWC).all()
    ]
    assert len(corners) == 1, f"the window's pixels are at {corners} of the whole image"
    return corners[0]


def assert_labels(cache: Cache, stream: StoredStream, family: str) -> None:
    """Every label is numpy's own cut of the stored label; so are the pixels where nothing was resized."""
    for batch in epochs_of(stream):
        geometry = geometry_of(stream, batch)
        for place, position in enumerate(stream.layout.positions(batch.micro_step)):
            row = ExpectedRow(cache, family, position)
            if family == "crops":
                assert geometry[place] == cache.geometry(row.sample, row.view)
            wanted_HW = cut(row.label_HW, geometry[place], IGNORE)
            assert np.array_equal(batch.truth[place].numpy(), wanted_HW)
            if family == "full":
                wanted_HWC = cut(row.image_HWC, geometry[place], FILL_RGB)
                assert np.array_equal(batch.images_BHWC[place].numpy(), wanted_HWC)


def epochs_of(stream: StoredStream) -> Iterator[Batch]:
    """The batches of STEPS steps; the stream is closed afterwards, also when a check fails."""
    batches = stream.run()
    try:
        for _ in range(STEPS):
            yield next(batches)
    finally:
        stream.close()
