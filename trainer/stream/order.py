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
are fixed for good, while numpy may change what `Generator.permutation` does with them. Philox is
counter-based: any run of its words is made without those before it.
Cost: an epoch orders its blocks; samples are ordered window by window, those of a window when a position in
it is first asked for. The first batch of ten million samples costs what that of ten thousand does.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from kdcache.cache.errors import BadOption

MIN_WINDOW_BLOCKS = 4
MIN_WINDOW_SAMPLES = 1024
FEW_SAMPLES = 64  # of blocks below this all words of an epoch are made at once: to go to each costs 15 us
_STREAM = 0x6F72646572  # b"order": keeps these words apart from other uses of Philox with the same key
_WORDS_A_COUNT = 4  # Philox makes so many at each count
_MEMO = 2  # epochs, and orders: a batch may straddle, a test may alternate
_WORD = (1 << 64) - 1

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
    order = _order_of(num_samples, shard_samples, invalid)
    if order.num_valid < 1:
        raise BadOption(
            f"no usable samples: {num_samples} samples, {len(order.banned)} of them invalid",
            where="the order of training samples",
            fix="train on a split or a cache that holds at least one valid sample",
        )
    spots = np.asarray(positions, dtype=np.int64)
    epochs = spots // order.num_valid
    if len(spots) and epochs[0] == epochs[-1]:  # as nearly always, without a search
        return Placed(_epoch_order(order, seed, int(epochs[0])).at(spots % order.num_valid), epochs)
    samples = np.empty(len(spots), np.int64)
    for epoch in np.unique(epochs).tolist():
        here = epochs == epoch
        samples[here] = _epoch_order(order, seed, epoch).at(spots[here] % order.num_valid)
    return Placed(samples, epochs)


class Order:
    """Which indices an epoch visits, and which block each lies in; equal for every seed and epoch."""

    def __init__(self, num_samples: int, shard_samples: int, banned: Indices) -> None:
        """`banned`: indices that are not visited, ascending."""
        self.num_samples, self.shard_samples, self.banned = num_samples, shard_samples, banned
        self.num_blocks = -(-num_samples // shard_samples)
        self.num_valid = num_samples - len(banned)

    def counts(self) -> Indices:
        """Valid samples of every block."""
        edges = np.minimum(np.arange(self.num_blocks + 1) * self.shard_samples, self.num_samples)
        return np.diff(self._valid_before(edges))

    def valid_of(self, blocks: Indices) -> tuple[Indices, Indices]:
        """The valid samples of ascending blocks, ascending, and how many valid samples come before each."""
        samples = (blocks[:, None] * self.shard_samples + np.arange(self.shard_samples)).ravel()
        samples = samples[: np.searchsorted(samples, self.num_samples)]
        before = self._valid_before(samples)
        # A banned index has as many valid ones before it as the index after it.
        valid = self._valid_before(samples + 1) > before
        return samples[valid], before[valid]

    def _valid_before(self, indices: Indices) -> Indices:
        return indices - np.searchsorted(self.banned, indices)


_orders: tuple[Order, ...] = ()  # asked for last, a memo only


def _order_of(num_samples: int, shard_samples: int, invalid: Sequence[int] | Indices) -> Order:
    """The order of these arguments. Every batch asks: the same array that nobody can write to is not compared
    number by number."""
    global _orders
    banned = np.asarray(invalid, dtype=np.int64)
    for known in _orders:
        if (known.num_samples, known.shard_samples) == (num_samples, shard_samples) and (
            (known.banned is banned and not banned.flags.writeable) or np.array_equal(known.banned, banned)
        ):
            return known
    made = Order(num_samples, shard_samples, banned.copy() if banned.flags.writeable else banned)
    _orders = (made, *_orders[: _MEMO - 1])
    return made


class EpochOrder:
    """One epoch's permutation of the valid samples, made window by window."""

    def __init__(self, order: Order, seed: int, epoch: int) -> None:
        self._order, self._key = order, [seed & _WORD, epoch & _WORD]
        words = self._philox().random_raw(order.num_blocks)
        self._read_as = np.argsort(words, kind="stable")  # [k]: the k-th block to be read
        # Blocks are of any number of valid samples, a late one may have a single one: windows count samples.
        # Those that do not fill a window join the others: a short window would be a poorly shuffled one.
        counts = order.counts()[self._read_as]
        before = np.cumsum(counts) - counts
        full = window_blocks(order.shard_samples) * order.shard_samples
        num_windows = max(1, order.num_valid // full)
        window = before * num_windows // order.num_valid
        self._first_read = np.searchsorted(window, np.arange(num_windows + 1))  # of the blocks of each window
        self._starts = np.append(before, order.num_valid)[self._first_read]  # position of each, and the end
        self._all_words: np.ndarray | None = None
        self.window = lru_cache(maxsize=_MEMO)(self._window)

    def at(self, spots: Indices) -> Indices:
        """Samples at positions of the epoch, which ascend."""
        windows = np.searchsorted(self._starts, spots, side="right") - 1
        samples = np.empty(len(spots), np.int64)
        for number in np.unique(windows).tolist():
            here = windows == number
            samples[here] = self.window(number)[spots[here] - self._starts[number]]
        return samples

    def _window(self, number: int) -> Indices:
        """The samples of one window, in order."""
        blocks = np.sort(self._read_as[self._first_read[number] : self._first_read[number + 1]])
        samples, before = self._order.valid_of(blocks)
        return samples[np.argsort(self._words(before), kind="stable")]

    def _words(self, places: Indices) -> np.ndarray:
        """The word of each valid sample, by how many come before it; ascending."""
        if self._order.shard_samples < FEW_SAMPLES:
            if self._all_words is None:
                philox = self._philox()
                philox.random_raw(self._order.num_blocks, output=False)
                self._all_words = philox.random_raw(self._order.num_valid)
            return self._all_words[places]
        return np.concatenate([self._words_from(*run) for run in _runs(places)])

    def _words_from(self, place: int, count: int) -> np.ndarray:
        """The words of `count` valid samples that follow one another; those of blocks come before them."""
        counts, inside = divmod(self._order.num_blocks + place, _WORDS_A_COUNT)
        philox = self._philox()
        philox.advance(counts)
        words: np.ndarray = philox.random_raw(inside + count)[inside:]
        return words

    def _philox(self) -> np.random.Philox:
        return np.random.Philox(counter=[0, 0, 0, _STREAM], key=self._key)


@lru_cache(maxsize=_MEMO)
def _epoch_order(order: Order, seed: int, epoch: int) -> EpochOrder:
    """A memo only: the arguments determine the answer."""
    return EpochOrder(order, seed, epoch)


def _runs(places: Indices) -> Iterator[tuple[int, int]]:
    """Ascending numbers as (first, how many)."""
    ends = np.append(np.flatnonzero(np.diff(places) != 1) + 1, len(places))
    for start, end in zip([0, *ends.tolist()], ends.tolist(), strict=False):
        yield int(places[start]), end - start
