"""What comes behind the forward: each row in its place, its digest, and an error that names the batch."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from kdcache.cache.build.stages.finish import Answered, Finisher
from kdcache.cache.codecs.raw import Raw
from kdcache.cache.errors import BadSample
from kdcache.cache.images.feed import pixel_digests
from kdcache.cache.views.view import Geometry, Row

FIRST = 10  # index of the block's first sample
ROWS = [Row(12, 0, Geometry(4, 4, 0, 0, 0, 4, 4)), Row(10, 0, Geometry(4, 4, 0, 0, 0, 4, 4))]
IMAGES = torch.arange(2 * 4 * 4 * 3, dtype=torch.uint8).reshape(2, 4, 4, 3)


def finished(values: torch.Tensor) -> tuple[Any, list[Any]]:
    shard: Any = SimpleNamespace(
        first=FIRST,
        pixels=np.zeros(3, np.uint64),
        targets={"logits": [None] * 3},
        sizes={"logits": [None] * 3},
    )
    packed: Any = SimpleNamespace(key=lambda index: f"scene{index}")
    entries: Any = {"logits": SimpleNamespace(stride=0)}
    completed: list[Any] = []
    finisher = Finisher(entries, {"logits": Raw("float16")}, packed, completed.append, torch.device("cpu"))
    finisher(Answered(shard, ROWS, True, IMAGES, {"logits": values}))
    return shard, completed


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
