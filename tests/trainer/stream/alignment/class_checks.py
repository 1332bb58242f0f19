"""What a stream over `aligned_classes` must give.

Each check raises AssertionError; `test_class_alignment.py` shows that they pass, and that they can fail.
"""

import io
from typing import NamedTuple

import numpy as np
import torch
from aligned_classes import INVALID, NEEDS, NUM_INDICES, NUM_VIEWS, TURNS, class_of, ops_of
from alignment_checks import epochs_of
from PIL import Image

from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import Cache
from kdcache.cache.spec import FILL_RGB
from kdcache.trainer.stream.batch import Batch
from kdcache.trainer.stream.order import sample_at
from kdcache.trainer.stream.stored import StoredStream


class Expected(NamedTuple):
    """What one row of a batch must be, from the order, the records, the folder and Pillow alone."""

    sample: int
    label: int
    partner_label: int
    share: float
    ops: list[list[str | int]]
    partner: int | None

    @property
    def by_share(self) -> tuple[int, int, float]:
        """The class of the larger share, the other one, and the larger share as float32 has it."""
        share = np.float32(self.share)
        if share >= 0.5:
            return self.label, self.partner_label, float(share)
        return self.partner_label, self.label, float(np.float32(1) - share)


def expected(cache: Cache, position: int, quarter: int) -> Expected:
    """The row of one position of the order, `quarter` of its four with turned views."""
    sample = sample_at(0, position, num_samples=NUM_INDICES, shard_samples=3, invalid=INVALID)
    per_sample = 4 if cache.manifest.views[0].kind == TURNS else 1
    number = (
        position // (NUM_INDICES - len(INVALID)) + cache.key_hash(sample)
    ) % NUM_VIEWS * per_sample + quarter
    ops = ops_of(cache, sample, number)
    name, *numbers = ops[-1]
    partner, share = None, 1.0
    if name in ("mixup", "cutmix"):
        partner = cache.find(str(numbers[-1]))
        share = int(numbers[0]) / 1000 if name == "mixup" else 1 - int(numbers[2]) * int(numbers[3]) / 32**2
    other = class_of(cache, sample if partner is None else partner)
    return Expected(sample, class_of(cache, sample), other, share, ops, partner)


@torch.no_grad()
def assert_targets(cache: Cache, stream: StoredStream, teacher: Network) -> None:
    """Every target of every row is the teacher's answer to the stream's own pixels."""
    for batch in epochs_of(stream):
        taps = teacher(batch.images_BHWC, [n.tap for n in NEEDS])
        for name, target in stream.targets(batch).items():
            assert target.shape == taps[name].shape
            bound = cache.codec(name).bound(taps[name]) + 1e-5 * taps[name].abs().amax()
            assert bool(((target - taps[name]).abs() <= bound).all())


def assert_classes(cache: Cache, stream: StoredStream) -> None:
    """Samples, both classes and shares are those that the records name, the larger share first."""
    for batch in epochs_of(stream):
        rows = expected_rows(cache, stream, batch)
        assert batch.samples_B.tolist() == [row.sample for row in rows]
        first, second, shares = zip(*(row.by_share for row in rows), strict=True)
        assert batch.truth.dtype == torch.int64 and batch.truth.tolist() == list(first)
        mixes = cache.manifest.views[0].recipe.mixes
        assert (batch.mixed is not None) == mixes
        if batch.mixed is not None:
            assert batch.mixed.labels_B.dtype == torch.int64 and batch.mixed.share_B.dtype == torch.float32
            assert batch.mixed.labels_B.tolist() == list(second)
            assert batch.mixed.share_B.tolist() == list(shares)


def assert_pixels(cache: Cache, stream: StoredStream) -> None:
    """Where nothing is resized or coloured, pixels are numpy's own."""
    for batch in epochs_of(stream):
        for place, row in enumerate(expected_rows(cache, stream, batch)):
            wanted = painted(cache, row.sample, row.ops)
            if row.partner is not None:
                view = next(r.view for r in stream.rows(batch.micro_step) if r.sample == row.sample)
                other = painted(cache, row.partner, ops_of(cache, row.partner, view))
                wanted = row.share * wanted + (1 - row.share) * other
            assert np.abs(batch.images_BHWC[place].numpy() - wanted).max() <= 0.501


def painted(cache: Cache, sample: int, ops: list[list[str | int]]) -> np.ndarray:
    """One sample's pixels (32, 32, 3) after flip, crop and turn, as float."""
    pixels = np.asarray(Image.open(io.BytesIO(cache.image(sample).tobytes())).convert("RGB")).astype(float)
    for name, *numbers in ops:
        if name == "flip":
            pixels = pixels[:, ::-1]
        elif name == "crop":
            padded = np.empty((36 + 64, 40 + 64, 3))
            padded[...] = FILL_RGB
            padded[32:68, 32:72] = pixels
            y, x = 32 + int(numbers[0]), 32 + int(numbers[1])
            pixels = padded[y : y + 32, x : x + 32]
        elif name == "turn":
            pixels = np.rot90(pixels, int(numbers[0]))
    return pixels


def expected_rows(cache: Cache, stream: StoredStream, batch: Batch) -> list[Expected]:
    positions = stream.layout.positions(batch.micro_step)
    assert len(batch.images_BHWC) == len(positions) * batch.rows_per_sample
    return [expected(cache, p, quarter) for p in positions for quarter in range(batch.rows_per_sample)]
