"""What comes behind the forward: each row in its place, its digest, and an error that names the batch."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kdcache.cache.build.stages import finish
from kdcache.cache.build.stages.finish import Answered, Finisher
from kdcache.cache.codecs.raw import Raw
from kdcache.cache.errors import BadSample
from kdcache.cache.images.feed import pixel_digests
from kdcache.cache.views.view import Geometry, Row

FIRST = 10  # index of the block's first sample
ROWS = [Row(12, 0, Geometry(4, 4, 0, 0, 0, 4, 4)), Row(10, 0, Geometry(4, 4, 0, 0, 0, 4, 4))]
IMAGES = torch.arange(2 * 4 * 4 * 3, dtype=torch.uint8).reshape(2, 4, 4, 3)


class Counted:
    """fp16, and how many rows each call encoded."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def encode(self, values: torch.Tensor) -> Any:
        self.rows.append(len(values))
        return Raw("float16").encode(values)


def a_shard(num_rows: int = 3) -> Any:
    return SimpleNamespace(
        first=FIRST,
        pixels=np.zeros(num_rows, np.uint64),
        targets={"logits": [None] * num_rows},
        sizes={"logits": [None] * num_rows},
    )


def a_finisher(codec: Any, completed: list[Any]) -> Finisher:
    packed: Any = SimpleNamespace(key=lambda index: f"scene{index}")
    entries: Any = {"logits": SimpleNamespace(stride=0)}
    return Finisher(entries, {"logits": codec}, packed, completed.append, torch.device("cpu"))


def finished(values: torch.Tensor) -> tuple[Any, list[Any]]:
    shard, completed = a_shard(), []
    finisher = a_finisher(Raw("float16"), completed)
    finisher(Answered(shard, ROWS, True, IMAGES, {"logits": values}))
    return shard, completed


def row(sample: int, side: int = 4) -> Row:
    return Row(sample, 0, Geometry(side, side, 0, 0, 0, side, side))


def one_by_one(shard: Any, values: list[list[float]], sides: tuple[int, ...] = ()) -> list[Answered]:
    """A batch of one row for each of the values; its image shows its number."""
    sides = sides or (4,) * len(values)
    return [
        Answered(
            shard,
            [row(FIRST + place, side)],
            place == len(values) - 1,
            torch.full((1, side, side, 3), place, dtype=torch.uint8),
            {"logits": torch.tensor([numbers])},
        )
        for place, (numbers, side) in enumerate(zip(values, sides, strict=True))
    ]


def test_a_row_lies_at_its_sample_with_the_digest_of_its_pixels() -> None:
    values = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    shard, completed = finished(values)
    assert completed == [shard]
    own, other = pixel_digests(IMAGES).tolist()
    assert shard.pixels.tolist() == [other, 0, own]
    kept = [None if row is None else row["values"].tolist() for row in shard.targets["logits"]]
    assert kept == [[3.0, 4.0], None, [1.0, 2.0]]
    assert [None if spec is None else spec.shape for spec in shard.sizes["logits"]] == [(2,), None, (2,)]


def test_an_answer_that_the_codec_cannot_hold_names_its_tap_and_the_samples_of_its_batch() -> None:
    with pytest.raises(BadSample, match="tap 'logits': tap value 1e\\+06 does not fit fp16") as caught:
        finished(torch.tensor([[1.0, 2.0], [1e6, 4.0]]))
    assert caught.value.where == "one of scene12, scene10"
    assert "--tap NAME=fp32" in caught.value.fix


def test_small_batches_of_a_shard_are_encoded_as_one_and_each_row_keeps_its_place() -> None:
    shard, completed, codec = a_shard(), [], Counted()
    finisher = a_finisher(codec, completed)
    batches = one_by_one(shard, [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
    for batch in batches:
        assert not completed
        finisher(batch)
    assert codec.rows == [3] and completed == [shard]
    assert [r["values"].tolist() for r in shard.targets["logits"]] == [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]
    assert shard.pixels.tolist() == [int(pixel_digests(batch.images_BHWC)[0]) for batch in batches]


def test_a_joined_batch_that_cannot_be_held_names_the_samples_of_the_one_to_blame() -> None:
    finisher = a_finisher(Raw("float16"), [])
    batches = one_by_one(a_shard(), [[1.0, 2.0], [1e6, 4.0], [5.0, 6.0]])
    with pytest.raises(BadSample, match="tap value 1e\\+06 does not fit fp16") as caught:
        for batch in batches:
            finisher(batch)
    assert caught.value.where == "one of scene11"


def test_rows_of_two_shapes_are_not_joined() -> None:
    shard, codec = a_shard(4), Counted()
    finisher = a_finisher(codec, [])
    for batch in one_by_one(shard, [[1.0], [2.0], [3.0], [4.0]], sides=(4, 4, 8, 8)):
        finisher(batch)
    assert codec.rows == [2, 2]
    assert [r["values"].tolist() for r in shard.targets["logits"]] == [[1.0], [2.0], [3.0], [4.0]]


def test_a_batch_that_is_large_enough_never_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    batches = one_by_one(a_shard(4), [[1.0], [2.0], [3.0], [4.0]])
    one = batches[0].num_bytes
    assert one == 4 * 4 * 3 + 4
    for limit, encoded in ((2 * one - 1, [1, 1, 1, 1]), (2 * one, [2, 2]), (3 * one, [3, 1])):
        monkeypatch.setattr(finish, "JOINED_BYTES", limit)
        codec = Counted()
        finisher = a_finisher(codec, [])
        for batch in batches:
            finisher(batch)
        assert codec.rows == encoded


def test_what_waits_is_complete_when_a_shard_ends_without_rows() -> None:
    shard, completed = a_shard(1), []
    finisher = a_finisher(Raw("float16"), completed)
    finisher(one_by_one(shard, [[1.0], [2.0]])[0])
    finisher(Answered(shard, [], True))
    assert completed == [shard] and shard.targets["logits"][0] is not None
