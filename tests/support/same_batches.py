"""Two streams that must give the same batches bit for bit: pixels, truths, targets, order."""

from itertools import islice

import torch

from kdcache.trainer.stream.batch import Batch, Stream


def assert_same(one: Batch, other: Batch) -> None:
    """Equal in every field, and in the type of every tensor."""
    pairs = [(one.images_BHWC, other.images_BHWC), (one.truth, other.truth), (one.samples_B, other.samples_B)]
    assert one.parts.keys() == other.parts.keys()
    for name, parts in one.parts.items():
        assert parts.keys() == other.parts[name].keys()
        pairs += [(value, other.parts[name][part]) for part, value in parts.items()]
    assert (one.mixed is None) == (other.mixed is None)
    if one.mixed is not None and other.mixed is not None:
        pairs += list(zip(one.mixed, other.mixed, strict=True))
    for left, right in pairs:
        assert left.dtype == right.dtype and torch.equal(left, right)
    assert (one.micro_step, one.epoch, one.rows_per_sample) == (
        other.micro_step,
        other.epoch,
        other.rows_per_sample,
    )


def assert_same_batches(one: Stream, other: Stream, count: int, start: int = 0) -> None:
    """The next `count` batches of both from `start` on."""
    left, right = (list(islice(stream.run(start), count)) for stream in (one, other))
    for a, b in zip(left, right, strict=True):
        assert_same(a, b)
    one.close()
    other.close()
