"""The order of samples as a closed form: which sample stands at (seed, position), with nothing to remember.

Positions are endless; epoch = position // number of valid samples. Within an epoch:
1. the blocks (runs of `shard_samples` indices, what a shard holds) are put in a random order;
2. that order is cut into windows of about equal numbers of valid samples, at least `window_blocks` full
blocks each; 3. samples are shuffled inside each window.

A batch therefore touches the shards of one or two windows, which the page cache can hold, while its
samples come from any blocks of the dataset. The cost: the samples of a block stay in one window, so an
epoch has less freedom than a full shuffle. In small windows that would be felt (neighbouring video frames
share a block), so each holds at least MIN_WINDOW_SAMPLES samples, and a dataset that fits into one window
is shuffled in full. `shard_samples=1` is a full shuffle at any size.

Randomness: the raw 64-bit words of Philox keyed by (seed, epoch), sorted. The words of a bit generator
are fixed for good, while numpy may change what `Generator.permutation` does with them.
Cost: under 1 us per sample and epoch, and 8 bytes per sample for a memoised epoch (two: a batch may
straddle).
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from kdcache.cache.errors import BadOption

MIN_WINDOW_BLOCKS = 4
MIN_WINDOW_SAMPLES = 1024
_STREAM = 0x6F72646572  # b"order": keeps these words apart from other uses of Philox with the same key

Indices = np.ndarray[tuple[int], np.dtype[np.int64]]


class Placed(NamedTuple):
    """Samples at some positions: `samples` and `epochs` have one entry per position."""

    samples: Indices
    epochs: Indices


def epoch_of(position: int, num_valid: int) -> int:
    """The epoch that holds `position` when an epoch visits `num_valid` samples once each."""
    return position // num_valid


def window_blocks(shard_samples: int) -> int:
    """Blocks per window: at least MIN_WINDOW_BLOCKS, and enough to hold MIN_WINDOW_SAMPLES samples."""
    return max(MIN_WINDOW_BLOCKS, -(-MIN_WINDOW_SAMPLES // shard_samples))


def sample_at(
    seed: int, position: int, *, num_samples: int, shard_samples: int, invalid: Sequence[int] | Indices = ()
) -> int:
    """The sample at one position. See `samples_at`."""
    placed = samples_at(
        seed,
        range(position, position + 1),
        num_samples=num_samples,
        shard_samples=shard_samples,
        invalid=invalid,
    )
    return int(placed.samples[0])


def samples_at(
    seed: int,
    positions: range,
    *,
    num_samples: int,
    shard_samples: int,
    invalid: Sequence[int] | Indices = (),
) -> Placed:
    """Samples and epochs at a range of positions; a pure function of its arguments.

    `invalid` lists sample indices that no epoch visits, ascending. Raises BadOption when it leaves nothing.
    """
    banned = np.asarray(invalid, dtype=np.int64)
    num_valid = num_samples - len(banned)
    if num_valid < 1:
        raise BadOption(
            f"no usable samples: {num_samples} samples, {len(banned)} of them invalid",
            where="the order of training samples",
            fix="train on a split or a cache that holds at least one valid sample",
        )
    spots = np.asarray(positions, dtype=np.int64)
    epochs = spots // num_valid
    if len(spots) and epochs[0] == epochs[-1]:  # as nearly always, without a search
        order = _epoch_order(seed, int(epochs[0]), num_samples, shard_samples, banned.tobytes())
        return Placed(order[spots % num_valid], epochs)
    samples = np.empty(len(spots), np.int64)
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        whole = _epoch_order(seed, epoch, num_samples, shard_samples, banned.tobytes())
        samples[here] = whole[spots[here] % num_valid]
    return Placed(samples, epochs)


@lru_cache(maxsize=2)
def _epoch_order(seed: int, epoch: int, num_samples: int, shard_samples: int, banned: bytes) -> Indices:
    """One epoch's permutation of the valid samples. A memo only: the arguments determine the answer."""
    valid = np.delete(np.arange(num_samples, dtype=np.int64), np.frombuffer(banned, np.int64))
    block = valid // shard_samples
    num_blocks = -(-num_samples // shard_samples)
    words = np.random.Philox(counter=[0, 0, 0, _STREAM], key=[seed & _WORD, epoch & _WORD])
    read_as = np.argsort(words.random_raw(num_blocks), kind="stable")  # read_as[k]: the k-th block to be read
    rank_of_block = np.empty(num_blocks, np.int64)
    rank_of_block[read_as] = np.arange(num_blocks)
    # Blocks are of any number of valid samples, a late one may have a single one: windows count samples.
    # Those that do not fill a window join the others: a short window would be a poorly shuffled one.
    counts = np.bincount(rank_of_block[block], minlength=num_blocks)
    before = np.cumsum(counts) - counts
    num_windows = max(1, len(valid) // (window_blocks(shard_samples) * shard_samples))
    window = before[rank_of_block[block]] * num_windows // len(valid)
    order = valid[np.lexsort((words.random_raw(len(valid)), window))]
    order.setflags(write=False)
    return order


_WORD = (1 << 64) - 1
