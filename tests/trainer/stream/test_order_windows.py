"""The order is made window by window: always the one of before, when all of an epoch was sorted at once."""

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.trainer.stream import order
from kdcache.trainer.stream.order import samples_at, window_blocks

WORD, STREAM = (1 << 64) - 1, int.from_bytes(b"order", "big")


def whole_epoch(seed: int, epoch: int, num: int, shard: int, invalid: list[int]) -> list[int]:
    """One epoch as it was sorted before there were windows to choose from: runs resume on it."""
    valid = np.delete(np.arange(num), invalid)
    block, num_blocks = valid // shard, -(-num // shard)
    words = np.random.Philox(counter=[0, 0, 0, STREAM], key=[seed & WORD, epoch & WORD])
    rank = np.empty(num_blocks, np.int64)
    rank[np.argsort(words.random_raw(num_blocks), kind="stable")] = np.arange(num_blocks)
    counts = np.bincount(rank[block], minlength=num_blocks)
    before = np.cumsum(counts) - counts
    num_windows = max(1, len(valid) // (window_blocks(shard) * shard))
    window = before[rank[block]] * num_windows // len(valid)
    answer: list[int] = valid[np.lexsort((words.random_raw(len(valid)), window))].tolist()
    return answer


SHARDS = st.sampled_from([1, 3, 63, 64, 65, 100, 256, 1000, 4096])


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 30_000), SHARDS, st.sampled_from(["none", "few", "half", "blocks"]),
    st.integers(0, 2**62), st.integers(0, 5), st.randoms(use_true_random=False),
)  # fmt: skip
def test_every_epoch_has_the_order_that_a_sort_of_all_of_it_gives(
    num: int, shard: int, kind: str, seed: int, epoch: int, random: "object"
) -> None:
    drawn = np.random.default_rng(random.getrandbits(32))  # type: ignore[attr-defined]
    share = {"none": 0.0, "few": 0.01, "half": 0.5, "blocks": 0.0}[kind]
    banned = drawn.random(num) < share
    if kind == "blocks":
        banned |= drawn.random(-(-num // shard)).repeat(shard)[:num] < 0.3
    banned[drawn.integers(num)] = False
    invalid = np.flatnonzero(banned)
    valid = num - len(invalid)
    wanted = whole_epoch(seed, epoch, num, shard, invalid.tolist())
    start = int(drawn.integers(valid))
    positions = range(epoch * valid + start, epoch * valid + min(valid, start + 5000))
    placed = samples_at(seed, positions, num_samples=num, shard_samples=shard, invalid=invalid)
    assert placed.samples.tolist() == wanted[start : start + 5000]
    assert set(placed.epochs.tolist()) == {epoch}


def test_the_first_batch_of_ten_million_samples_makes_no_list_of_them() -> None:
    samples_at(0, range(128), num_samples=10_000, shard_samples=4096)  # whatever numpy keeps
    tracemalloc.start()
    placed = samples_at(1, range(128), num_samples=10**7, shard_samples=4096)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(set(placed.samples.tolist())) == 128
    assert peak < 4 << 20, "a word of eight bytes for each would take 80 MB"


def test_an_array_that_somebody_writes_to_is_looked_at_again() -> None:
    invalid = np.array([3])
    first = samples_at(7, range(11), num_samples=12, shard_samples=4, invalid=invalid).samples
    invalid[0] = 5
    second = samples_at(7, range(11), num_samples=12, shard_samples=4, invalid=invalid).samples
    assert 3 not in first and 5 in first and 3 in second and 5 not in second


def test_a_batch_asks_only_for_the_windows_that_it_touches(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    window = order.EpochOrder._window

    def counted(self: order.EpochOrder, number: int) -> order.Indices:
        asked.append(number)
        return window(self, number)

    monkeypatch.setattr(order.EpochOrder, "_window", counted)
    num, shard = 100_000, 256
    for start in (0, 128, 256, 99_900):
        samples_at(11, range(start, start + 100), num_samples=num, shard_samples=shard)
    assert asked == [0, num // (4 * shard) - 1], "two windows, each once"
