"""Verifying: every kind of damage is found and named, and stored targets are compared with the teacher."""

import json
from pathlib import Path

import pytest
import torch
from torch import nn

from kdcache.cache.look.teacher import manifest_teacher
from kdcache.cache.look.verify import damaged_shards, deep_check, problems
from kdcache.cache.networks.network import Network
from kdcache.cache.record.records import list_records, record_name
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.zarr_shards import CRC_BYTES, SLOT_BYTES


def of_view(root: Path, block: int, view: int) -> ShardKey:
    (shard,) = (key for key in list_records(root) if (key.block, key.view) == (block, view))
    return shard


@pytest.fixture
def teacher(tiny_cache: Path) -> Network:
    return manifest_teacher(tiny_cache, tiny_cache / "runs", None, "tiny_teacher:make")


def test_a_whole_cache_has_no_problem_and_every_byte_of_it_is_read(tiny_cache: Path) -> None:
    seen: list[int] = []
    assert list(problems(tiny_cache, seen.append)) == [] and damaged_shards(tiny_cache) == []
    records = [json.loads((tiny_cache / record_name(key)).read_text()) for key in list_records(tiny_cache)]
    assert sum(seen) == sum(entry[1] for record in records for entry in record["objects"])


@pytest.mark.parametrize(
    ("harm", "text"), [("remove", "is missing"), ("cut", "bytes, its record says"), ("flip", "differs")]
)
def test_damage_of_an_object_is_found_and_its_shard_named(tiny_cache: Path, harm: str, text: str) -> None:
    victim = next((tiny_cache / "targets.zarr").rglob("stage4/5x6/values/c/1/0/0/0/0"))
    whole = victim.read_bytes()
    if harm == "remove":
        victim.unlink()
    else:
        victim.write_bytes(whole[:-1] if harm == "cut" else bytes([whole[0] ^ 1]) + whole[1:])
    (problem,) = problems(tiny_cache)
    assert problem.title == "shard 00000 view 1" and text in problem.text
    assert str(victim.relative_to(tiny_cache)) in problem.text
    assert damaged_shards(tiny_cache) == [of_view(tiny_cache, 0, 1)]


def test_damaged_samples_are_a_shard_of_their_own(tiny_cache: Path) -> None:
    (tiny_cache / "samples/00001.tar").unlink()
    assert [(p.key, p.title) for p in problems(tiny_cache)] == [(ShardKey(1), "shard 00001 (samples)")]


def test_a_torn_record_is_a_problem_and_not_the_end_of_the_search(tiny_cache: Path) -> None:
    (tiny_cache / record_name(of_view(tiny_cache, 0, 0))).write_text("{")
    (tiny_cache / "samples/00001.tar").unlink()
    assert [p.title for p in problems(tiny_cache)] == ["shard 00000 view 0", "shard 00001 (samples)"]
    assert damaged_shards(tiny_cache) == [of_view(tiny_cache, 0, 0), ShardKey(1)]


def test_a_folder_without_manifest_has_nothing_to_repair(tmp_path: Path) -> None:
    assert damaged_shards(tmp_path) == []


def test_stored_targets_are_within_the_stated_bound_of_the_teacher(
    tiny_cache: Path, teacher: Network
) -> None:
    errors = deep_check(tiny_cache, teacher, num_rows=4)
    assert [(error.target, error.rows) for error in errors] == [("stage4", 4), ("logits", 4)]
    assert all(0 < error.max_abs <= error.bound * 1.001 and error.relative_l2 < 0.01 for error in errors)


@pytest.mark.parametrize("view", [0, 1])
def test_a_target_of_another_row_is_beyond_the_bound(tiny_cache: Path, teacher: Network, view: int) -> None:
    footer = 2 * SLOT_BYTES + CRC_BYTES
    arrays = next((tiny_cache / "targets.zarr").glob("*/stage4/5x6"))
    for shard in (path for path in arrays.glob(f"*/c/{view}/0/**/*") if path.is_file()):
        stored = shard.read_bytes()
        row = (len(stored) - footer) // 2
        shard.write_bytes(stored[row : 2 * row] + stored[:row] + stored[-footer:])
    for record_path in (
        tiny_cache / "records"
    ).iterdir():  # as if the rows had been written in the wrong order
        record = json.loads(record_path.read_text())
        record["objects"] = []
        record_path.write_text(json.dumps(record))
    stage4, logits = deep_check(tiny_cache, teacher, num_rows=4)
    assert stage4.max_abs > 10 * stage4.bound and logits.max_abs <= logits.bound * 1.001


def test_a_teacher_in_training_mode_is_checked_in_evaluation_mode(tiny_cache: Path, teacher: Network) -> None:
    class Dropping(nn.Module):
        """The teacher, with its answers gone while it trains."""

        def forward(self, images_BHWC: torch.Tensor, taps: list[str]) -> dict[str, torch.Tensor]:
            values: dict[str, torch.Tensor] = teacher(images_BHWC, taps)
            return {tap: value * (not self.training) for tap, value in values.items()}

    errors = deep_check(tiny_cache, Dropping().train(), num_rows=1)  # type: ignore[arg-type]
    assert all(error.max_abs <= error.bound * 1.001 for error in errors)
