"""int8: what is exact, what the bound is, and what is refused."""

import numpy as np
import pytest
import torch

from kdcache.cache.codecs.int8 import Int8
from kdcache.cache.errors import BadOption, BadSample
from kdcache.cache.spec import TensorSpec


def decoded(value: torch.Tensor) -> torch.Tensor:
    return Int8().decode({k: torch.from_numpy(v) for k, v in Int8().encode(value).items()})


def test_levels_are_the_nearest_ones_worked_out_by_hand() -> None:
    value = torch.tensor([0.0, 0.4, 0.6, 255.0]).reshape(1, 1, 2, 2)
    parts = Int8().encode(value)
    assert parts["values"].reshape(-1).tolist() == [0, 0, 1, 255]
    assert parts["scale"].reshape(-1).tolist() == [1.0, 0.0]


def test_a_constant_channel_is_exact_beside_one_that_varies() -> None:
    value = torch.randn(2, 3, 4, 4)
    value[:, 1] = torch.tensor([0.1, -7.3])[:, None, None]
    assert torch.equal(decoded(value)[:, 1], value[:, 1])
    assert np.all(Int8().encode(value)["scale"][:, 0, 1] == 0)


def test_zeros_of_a_rectified_map_stay_zeros() -> None:
    value = torch.randn(2, 8, 6, 6).relu()
    assert torch.equal(decoded(value)[value == 0], torch.zeros(int((value == 0).sum())))


def test_the_minimum_of_a_channel_is_exact() -> None:
    value = torch.randn(4, 5, 6, 6)
    assert torch.equal(decoded(value).amin((2, 3)), value.amin((2, 3)))


def test_the_bound_is_half_a_level_and_little_more() -> None:
    value = torch.rand(2, 3, 5, 5) * 10
    scale = torch.from_numpy(Int8().encode(value)["scale"][:, 0])[:, :, None, None]
    bound = Int8().bound(value)
    assert bound.shape == (2, 3, 1, 1)
    assert bool((bound >= scale / 2).all() and (bound <= scale * 0.501).all())


def test_a_row_that_was_never_written_decodes_to_nan_not_to_zeros() -> None:
    parts = {"values": torch.zeros(1, 2, 2, 3, dtype=torch.uint8), "scale": torch.full((1, 2, 3), torch.nan)}
    assert bool(Int8().decode(parts).isnan().all())


def test_a_range_beyond_float32_is_refused() -> None:
    value = torch.tensor([3e38, -3e38]).reshape(1, 1, 1, 2)
    with pytest.raises(BadSample, match="does not fit float32"):
        Int8().encode(value)


def test_a_vector_is_refused_with_the_option_to_use_instead() -> None:
    with pytest.raises(BadOption) as caught:
        Int8().parts(TensorSpec((1000,), 0))
    assert "vector of 1000 values" in caught.value.what
    assert "--tap NAME=fp16" in caught.value.fix


def test_one_byte_per_element_and_eight_per_channel() -> None:
    parts = Int8().parts(TensorSpec((45, 60, 256), 8))
    assert sum(p.num_bytes for p in parts.values()) == 45 * 60 * 256 + 8 * 256
    assert parts["values"].spatial and not parts["scale"].spatial
