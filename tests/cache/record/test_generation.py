"""Generations: what lives, against a slow loop; claims that do not fit together are refused."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from manifests import OTHER_SEAL, PASS, SEAL, manifest

from kdcache.cache.errors import BadCache
from kdcache.cache.record.generation import (
    LOST,
    BlockEntry,
    Generation,
    Pair,
    RecordEntry,
    generation_bytes,
    generation_name,
    list_generations,
    newest_generation,
    read_generation,
)
from kdcache.cache.record.sealed import decode_sealed, sealed
from kdcache.cache.stores.contract import ShardKey

SIZE = manifest().shard_samples


def write(root: Path, number: int, rows: Sequence[int], retired: Sequence[int] = ()) -> Generation:
    """Blocks of so many rows; -1 is a lost one."""
    blocks = [LOST if count < 0 else BlockEntry(SEAL, count) for count in rows]
    records = [RecordEntry(b, 0, PASS, OTHER_SEAL) for b, count in enumerate(rows) if count >= 0]
    content = generation_bytes(
        number, manifest(), blocks=blocks, retired=retired, complete=[Pair(0, "stage4")], records=records
    )
    path = root / generation_name(number)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return read_generation(root, number)


@given(st.lists(st.integers(-1, SIZE), min_size=1, max_size=5), st.sets(st.integers(0, 30)))
def test_what_lives_is_what_a_slow_loop_says(
    tmp_path_factory: pytest.TempPathFactory, rows: list[int], drawn: set[int]
) -> None:
    there = {b * SIZE + row for b, count in enumerate(rows) for row in range(max(count, 0))}
    retired = drawn & there
    generation = write(tmp_path_factory.mktemp("generation"), 1, rows, sorted(retired))
    living = [i for i in range(len(rows) * SIZE) if i in there - retired]
    assert generation.num_samples == len(rows) * SIZE and generation.num_living == len(living)
    assert generation.retired.tolist() == sorted(retired)
    assert np.delete(np.arange(generation.num_samples), generation.invalid).tolist() == living
    assert generation.living_at(np.arange(len(living))).tolist() == living
    assert generation.block_numbers == [b for b, count in enumerate(rows) if count >= 0]


def test_every_record_is_named_by_its_seal_and_lost_blocks_by_none(tmp_path: Path) -> None:
    generation = write(tmp_path, 1, [4, -1, 2])
    assert generation.seals == {
        ShardKey(0): SEAL, ShardKey(2): SEAL,
        ShardKey(0, 0, PASS): OTHER_SEAL, ShardKey(2, 0, PASS): OTHER_SEAL,
    }  # fmt: skip
    assert generation.manifest == manifest() and generation.complete == {Pair(0, "stage4")}


def test_the_newest_generation_counts(tmp_path: Path) -> None:
    assert newest_generation(tmp_path) is None and list_generations(tmp_path) == []
    for number in (2, 10, 9):
        write(tmp_path, number, [number % 4])
    (tmp_path / "generations" / ".kdtmp-1-1-00011.json").write_text("{}")
    newest = newest_generation(tmp_path)
    assert list_generations(tmp_path) == [2, 9, 10] and newest is not None and newest.number == 10


def test_a_generation_under_another_name_is_refused(tmp_path: Path) -> None:
    write(tmp_path, 3, [4])
    (tmp_path / generation_name(3)).rename(tmp_path / generation_name(4))
    with pytest.raises(
        BadCache, match="generation 4 of the cache cannot be read: it calls itself 3"
    ) as caught:
        newest_generation(tmp_path)
    assert "--repair" in caught.value.fix


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("blocks", [[SEAL, SIZE + 1]]),
        ("blocks", [["", 1]]),
        ("blocks", [[SEAL, -1]]),
        ("retired", [[2, 1], [1, 1]]),
        ("retired", [[3, 2]]),
        ("retired", [[0, 0]]),
        ("retired", [[1 << 39, 1]]),
        ("complete", [[1, "stage4"]]),
        ("complete", [[0, "logits"]]),
        ("records", [[1, 0, PASS, SEAL]]),
        ("records", [[0, 0, "ffffffff", SEAL]]),
        ("records", [[0, 0, PASS, "nothing"]]),
        ("records", [[0, 0, PASS]]),
        ("records", [[0, 0, PASS, SEAL, 1]]),
        ("records", [[0, 4, PASS, SEAL]]),  # a view that the manifest does not have
        ("records", [[0, -1, PASS, SEAL]]),
        ("records", [[0, 0, PASS, SEAL], [0, 0, PASS, OTHER_SEAL]]),  # which of them counts?
        ("blocks", []),  # of which there still is a record
        ("blocks", [["", 0]]),
        ("blocks", [[SEAL, 4, 4]]),
        ("blocks", [[SEAL, 4, 5, 1, 1]]),  # more that teach nothing than there are
        ("blocks", [[SEAL, 4, 0, -1, 3]]),
        ("blocks", [[SEAL, 4, 0, 1 << 40, 3]]),
        ("totals", [["stage4", 1, 1]]),  # of two targets
        ("totals", [["embedding", 1, 1], ["logits", 1, 1]]),
        ("totals", [["embedding", 1, -1], ["stage4", 1, 1]]),
        ("blocks", [["", 0], [SEAL, True]]),
        ("retired", [[2, 1], [2, 1]]),
        ("retired", [[-1, 1]]),
        ("retired", [[0, 1 << 50]]),
        ("complete", [[0]]),
        ("manifest", {}),
        ("manifest", None),
        ("number", "1"),
        ("number", True),
        ("number", 0),
        ("more", 1),
    ],
)
def test_claims_that_do_not_fit_together_are_refused(tmp_path: Path, name: str, value: object) -> None:
    write(tmp_path, 1, [4])
    path = tmp_path / generation_name(1)
    plain, _ = decode_sealed(path.read_bytes(), dict)
    path.write_bytes(sealed(plain))
    read_generation(tmp_path, 1)
    path.write_bytes(sealed(plain | {name: value}))
    with pytest.raises(BadCache, match="generation 1 of the cache cannot be read") as caught:
        read_generation(tmp_path, 1)
    assert caught.value.where == str(path) and "kdcache build --repair" in caught.value.fix


@pytest.mark.parametrize(
    ("rows", "retired"),
    [
        ([2, 4], [[1, 2]]),  # its second is a hole of the first block
        ([2, 4], [[2, 1]]),
        ([2, 4], [[3, 2]]),  # begins with a hole
        ([4, -1, 4], [[3, 2]]),  # a row of a lost block
        ([4, 4, 3], [[2, 10]]),
        ([4, 4, 3], [[11, 1]]),
    ],
)
def test_retired_rows_that_never_lived_are_refused(
    tmp_path: Path, rows: list[int], retired: list[list[int]]
) -> None:
    write(tmp_path, 1, rows)
    path = tmp_path / generation_name(1)
    plain, _ = decode_sealed(path.read_bytes(), dict)
    path.write_bytes(sealed(plain | {"retired": retired}))
    with pytest.raises(BadCache, match="retired rows at"):
        read_generation(tmp_path, 1)


def test_retired_rows_over_several_full_blocks_are_one_run(tmp_path: Path) -> None:
    generation = write(tmp_path, 1, [4, 4, 3], [2, 3, 4, 5, 6, 7, 8, 10])
    plain, _ = decode_sealed((tmp_path / generation_name(1)).read_bytes(), dict)
    assert plain["retired"] == [[2, 7], [10, 1]]
    assert generation.retired.tolist() == [2, 3, 4, 5, 6, 7, 8, 10] and generation.num_living == 3
    assert generation.invalid.tolist() == [*range(2, 9), 10, 11]


def test_a_lost_block_keeps_its_number_so_that_every_other_index_means_what_it_meant(tmp_path: Path) -> None:
    before, after = write(tmp_path, 1, [4, 4, 2]), write(tmp_path, 2, [4, -1, 2])
    assert before.num_samples == after.num_samples == 12
    assert set(before.invalid.tolist()) == {10, 11} and set(after.invalid) == {4, 5, 6, 7, 10, 11}
    assert (before.num_living, after.num_living) == (10, 6)
    assert after.block_numbers == [0, 2] and after.blocks[1] == LOST
    assert ShardKey(1) not in after.seals and after.seals[ShardKey(2)] == before.seals[ShardKey(2)]


def test_equal_contents_have_equal_seals_whatever_the_order_they_come_in(tmp_path: Path) -> None:
    records = [RecordEntry(block, 0, PASS, SEAL) for block in range(2)]
    pairs = [Pair(0, "stage4"), Pair(3, "embedding")]
    blocks = [BlockEntry(SEAL, 4)] * 2
    contents = {
        generation_bytes(1, manifest(), blocks=blocks, retired=gone, complete=done, records=kept)
        for gone, done, kept in (([3, 1], pairs, records), ([1, 3], pairs[::-1], records[::-1]))
    }
    assert len(contents) == 1


@pytest.mark.parametrize("name", ["00007.json", "100000.json"])
def test_only_files_with_the_very_name_of_a_generation_are_listed(tmp_path: Path, name: str) -> None:
    (tmp_path / "generations").mkdir()
    other = ("000008.json", "0009.json", "00010.json\n", "\u0660\u0660\u0660\u0660\u0661.json", "00011.json~")
    for one in (name, *other):
        (tmp_path / "generations" / one).write_text("{}")
    assert list_generations(tmp_path) == [int(name.removesuffix(".json"))]


def test_a_linked_folder_of_generations_holds_none(tmp_path: Path) -> None:
    write(tmp_path / "other", 1, [4])
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "generations").symlink_to(tmp_path / "other" / "generations")
    assert list_generations(tmp_path / "cache") == [] and newest_generation(tmp_path / "cache") is None
    with pytest.raises(BadCache, match="'generations' is a link"):
        read_generation(tmp_path / "cache", 1)


def test_a_damaged_newest_generation_is_an_error_and_not_the_one_before_it(tmp_path: Path) -> None:
    write(tmp_path, 1, [4])
    write(tmp_path, 2, [4, 2])
    path = tmp_path / generation_name(2)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(BadCache, match="generation 2 of the cache cannot be read") as caught:
        newest_generation(tmp_path)
    assert caught.value.where == str(path) and "--repair" in caught.value.fix
