"""The order of samples: a permutation per epoch, the same for any world size, and nothing to remember."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kdcache.cache.errors import BadOption
from kdcache.trainer.stream import order
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.order import epoch_of, sample_at, samples_at, window_blocks

DATASETS = st.tuples(st.integers(1, 90), st.integers(1, 17)).flatmap(
    lambda size: st.tuples(
        st.just(size[0]), st.just(size[1]), st.sets(st.integers(0, size[0] - 1), max_size=size[0] - 1)
    )
)


def epoch_samples(seed: int, epoch: int, num: int, shard: int, invalid: list[int]) -> list[int]:
    """One epoch, read position by position."""
    valid = num - len(invalid)
    return [
        sample_at(seed, epoch * valid + i, num_samples=num, shard_samples=shard, invalid=invalid)
        for i in range(valid)
    ]


@settings(deadline=None, max_examples=60)
@given(DATASETS, st.integers(0, 2**40), st.integers(0, 3))
def test_every_epoch_visits_each_valid_sample_exactly_once(
    dataset: tuple[int, int, set[int]], seed: int, epoch: int
) -> None:
    num, shard, invalid = dataset
    visited = epoch_samples(seed, epoch, num, shard, sorted(invalid))
    assert sorted(visited) == sorted(set(range(num)) - invalid)


@settings(deadline=None, max_examples=60)
@given(DATASETS, st.integers(1, 5), st.integers(1, 3), st.integers(1, 3), st.integers(0, 40))
def test_ranks_are_disjoint_and_together_are_the_global_batch_for_any_world_size(
    dataset: tuple[int, int, set[int]], world: int, accumulation: int, micro: int, step: int
) -> None:
    num, shard, invalid = dataset
    batch = world * accumulation * micro
    layouts = [
        BatchLayout(seed=1, global_batch=batch, world=world, rank=r, accumulation=accumulation)
        for r in range(world)
    ]
    read = [
        p
        for layout in layouts
        for a in range(accumulation)
        for p in layout.positions(step * accumulation + a)
    ]
    assert sorted(read) == list(range(step * batch, (step + 1) * batch))
    together = samples_at(
        1,
        range(step * batch, (step + 1) * batch),
        num_samples=num,
        shard_samples=shard,
        invalid=sorted(invalid),
    )
    alone = {p: sample_at(1, p, num_samples=num, shard_samples=shard, invalid=sorted(invalid)) for p in read}
    assert together.samples.tolist() == [alone[p] for p in sorted(read)]


@settings(deadline=None, max_examples=40)
@given(DATASETS, st.integers(0, 50))
def test_a_run_resumed_at_any_step_reads_the_tail_of_an_uninterrupted_run(
    dataset: tuple[int, int, set[int]], step: int
) -> None:
    num, shard, invalid = dataset
    layout = BatchLayout(seed=5, global_batch=3)

    def read(first: int) -> list[list[int]]:
        order._epoch_order.cache_clear()  # a memo that mattered would show here
        return [
            samples_at(
                5, layout.positions(n), num_samples=num, shard_samples=shard, invalid=sorted(invalid)
            ).samples.tolist()
            for n in range(first, 55)
        ]

    assert read(step) == read(0)[step:]


def test_another_epoch_and_another_seed_have_another_order() -> None:
    orders = {tuple(epoch_samples(seed, epoch, 40, 4, [])) for seed in (0, 1) for epoch in (0, 1, 2)}
    assert len(orders) == 6


def test_the_order_is_the_one_that_earlier_versions_gave() -> None:
    # Resuming a run with a newer version must not reorder its samples: these numbers may never change.
    assert epoch_samples(7, 0, 12, 4, [3]) == PINNED


def test_neighbouring_positions_share_few_blocks_while_batches_mix_them() -> None:
    num, shard = 20_000, 256
    whole = samples_at(3, range(num), num_samples=num, shard_samples=shard).samples // shard
    window = window_blocks(shard) * shard
    touched = [len(np.unique(whole[i : i + window])) for i in range(0, num - window, 97)]
    assert max(touched) <= 4 * window_blocks(shard)  # of 79 blocks
    assert np.mean([len(np.unique(whole[i : i + 16])) for i in range(0, num - 16, 16)]) > 3


def test_a_window_never_holds_less_than_four_blocks_and_a_thousand_samples() -> None:
    assert [window_blocks(n) for n in (1, 64, 256, 4096)] == [1024, 16, 4, 4]


def test_a_dataset_smaller_than_one_window_is_shuffled_in_full() -> None:
    # 367 samples in shards of 64: the first block's samples end up all over the epoch, not in one run.
    whole = samples_at(0, range(367), num_samples=367, shard_samples=64).samples
    spots = np.flatnonzero(whole < 64)
    assert spots.max() - spots.min() > 300


def test_every_epoch_reads_other_blocks_together() -> None:
    """Neighbouring shards hold neighbouring frames: windows that never change would keep them together."""
    num, shard = 20_000, 256
    first = window_blocks(shard) * shard
    windows = []
    for epoch in (0, 1):
        positions = range(epoch * num, epoch * num + first)
        read = samples_at(3, positions, num_samples=num, shard_samples=shard).samples // shard
        windows.append(set(read.tolist()))
    assert len(windows[0] & windows[1]) < len(windows[0]) / 2
    assert windows[0] != set(range(len(windows[0])))


def test_blocks_that_do_not_fill_a_window_join_the_others() -> None:
    """Seven blocks, and four fill a window: a window of three would be a poorly shuffled one."""
    num = 7 * 256
    order_of_all = samples_at(0, range(num), num_samples=num, shard_samples=256).samples
    for block in range(7):
        spots = np.flatnonzero(order_of_all // 256 == block)
        assert spots.max() - spots.min() > 0.9 * num


def test_many_late_blocks_of_one_sample_are_mixed_with_the_full_ones() -> None:
    """A cache that grew day by day: windows count samples, for a window of four such blocks is no shuffle."""
    shard, full, late = 256, 8, 392
    holes = [
        index for block in range(full, full + late) for index in range(block * shard + 1, (block + 1) * shard)
    ]
    living = full * shard + late
    placed = samples_at(
        0, range(living), num_samples=(full + late) * shard, shard_samples=shard, invalid=holes
    ).samples
    assert sorted(placed) == sorted(set(range((full + late) * shard)) - set(holes))
    runs = np.split(placed, np.flatnonzero(np.diff(placed >= full * shard)) + 1)
    assert max(len(run) for run in runs if run[0] >= full * shard) < 12  # at random: about 4 in 2440


def test_a_batch_that_straddles_two_epochs_names_the_epoch_of_each_sample() -> None:
    placed = samples_at(0, range(8, 12), num_samples=10, shard_samples=2)
    assert placed.epochs.tolist() == [0, 0, 1, 1]
    assert [epoch_of(p, 10) for p in range(8, 12)] == [0, 0, 1, 1]


def test_nothing_valid_is_an_error_and_no_division_by_zero() -> None:
    with pytest.raises(BadOption, match="no usable samples: 2 samples, 2 of them invalid"):
        sample_at(0, 0, num_samples=2, shard_samples=1, invalid=[0, 1])


def test_a_batch_that_cannot_be_split_names_one_that_can() -> None:
    with pytest.raises(BadOption, match="global batch of 16 cannot be split into 6 equal parts") as error:
        BatchLayout(seed=0, global_batch=16, world=3, rank=0, accumulation=2)
    assert "--batch-size 12" in error.value.fix


PINNED = [1, 2, 4, 0, 7, 6, 10, 5, 9, 11, 8]
