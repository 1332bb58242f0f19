"""The random words behind every draw of a view, for one draw and for all rows of a shard at once.

Words come from Philox4x64 with ten rounds (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3")
under the key (seed, hash of the sample's key), at the counter (block of four words, number of the view, kind
of draw, 0). numpy draws them for one key, which costs 20 us and more before the first word; the same
arithmetic over an array of keys costs a microsecond a row. Both give the same bits.
"""

from collections.abc import Callable, Iterator, Sequence
from hashlib import blake2b
from itertools import chain, islice

import numpy as np

# (seed, key, number, purpose) -> as many numbers in [0, 1) as are asked for
Words = Callable[[int, str, int, int], Iterator[float]]
_WORD = (1 << 64) - 1
_HALF = np.uint64(32)
_LOW = np.uint64((1 << 32) - 1)
_ROUNDS = 10
_MULTIPLIERS = np.uint64(0xD2E7470EE14C6C93), np.uint64(0xCA5A826395121157)
_STEPS = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBB67AE8584CAA73B)  # of the key, from round to round
TABLE_BLOCKS = 2  # of four words: what most draws read; who reads more draws the rest alone


def key_hash(key: str) -> int:
    """64 bits of blake2b over the key's UTF-8."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "little")


def endless(seed: int, key: str, number: int, purpose: int) -> Iterator[float]:
    """As many numbers in [0, 1) as are asked for, from 53 random bits each: the same on every machine and
    with every numpy."""
    philox = _philox(seed, key, number, purpose)
    while True:
        yield from [(int(word) >> 11) * 2.0**-53 for word in philox.random_raw(8)]


def _philox(seed: int, key: str, number: int, purpose: int) -> np.random.Philox:
    # The counter's lowest word is left to Philox, which counts blocks of four words there.
    return np.random.Philox(
        key=np.array([seed & _WORD, key_hash(key)], dtype=np.uint64),
        counter=np.array([0, number & _WORD, purpose, 0], dtype=np.uint64),
    )


class TableWords:
    """`endless` for the keys of a shard: what one kind of draw reads first is made for all at once."""

    def __init__(self, seed: int, keys: Sequence[str]) -> None:
        self._seed = seed
        self._places = {key: place for place, key in enumerate(keys)}
        self._hashes = np.array([key_hash(key) for key in self._places], dtype=np.uint64)
        self._tables: dict[tuple[int, int], list[list[float]]] = {}

    def __call__(self, seed: int, key: str, number: int, purpose: int) -> Iterator[float]:
        place = self._places.get(key)
        if place is None or seed != self._seed:
            return endless(seed, key, number, purpose)
        table = self._tables.get((number, purpose))
        if table is None:
            words = philox_words(seed, self._hashes, number, purpose, TABLE_BLOCKS)
            table = self._tables[number, purpose] = ((words >> np.uint64(11)) * 2.0**-53).tolist()
        # The rest is a generator: nothing of it is computed before the table has run out.
        return chain(table[place], islice(endless(seed, key, number, purpose), 4 * TABLE_BLOCKS, None))


def philox_words(seed: int, hashes: np.ndarray, number: int, purpose: int, blocks: int) -> np.ndarray:
    """(N, 4 * blocks) uint64: the first words of each of the N hashed keys, as `_philox` draws them."""
    shape = len(hashes), blocks
    # numpy counts before it draws: its first block is number 1.
    counter = [
        np.broadcast_to(np.arange(1, blocks + 1, dtype=np.uint64), shape),
        np.full(shape, number & _WORD, dtype=np.uint64),
        np.full(shape, purpose, dtype=np.uint64),
        np.zeros(shape, dtype=np.uint64),
    ]
    keys = np.full(shape, seed & _WORD, dtype=np.uint64), np.broadcast_to(hashes[:, None], shape)
    for _ in range(_ROUNDS):
        (high0, low0), (high1, low1) = (
            _product(_MULTIPLIERS[0], counter[0]),
            _product(_MULTIPLIERS[1], counter[2]),
        )
        counter = [high1 ^ counter[1] ^ keys[0], low1, high0 ^ counter[3] ^ keys[1], low0]
        keys = keys[0] + _STEPS[0], keys[1] + _STEPS[1]
    return np.stack(counter, -1).reshape(len(hashes), 4 * blocks)


def _product(factor: np.uint64, words: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The high and low 64 bits of products of 128."""
    high, low, word_high, word_low = factor >> _HALF, factor & _LOW, words >> _HALF, words & _LOW
    middle = high * word_low + (low * word_low >> _HALF)  # below 2^64
    other = low * word_high + (middle & _LOW)
    return high * word_high + (middle >> _HALF) + (other >> _HALF), factor * words
