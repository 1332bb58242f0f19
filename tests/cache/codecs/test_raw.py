"""raw: fp32 is exact, fp16 refuses what it cannot hold."""

import numpy as np
import pytest
import torch

from kdcache.cache.codecs.raw import Raw
from kdcache.cache.errors import BadSample


def test_fp32_keeps_a_float32_map_bit_for_bit() -> None:
    value = torch.randn(2, 3, 4, 5)
    parts = Raw("float32").encode(value)
    assert np.array_equal(parts["values"], value.permute(0, 2, 3, 1).numpy())
    assert float(Raw("float32").bound(value).max()) == 0


def test_the_largest_fp16_number_is_stored() -> None:
    parts = Raw("float16").encode(torch.tensor([[65504.0, -65504.0]]))
    assert parts["values"].tolist() == [[65504.0, -65504.0]]


@pytest.mark.parametrize("value", [65504.1, -70000.0])
def test_a_number_beyond_fp16_is_refused_with_the_codecs_that_can_hold_it(value: float) -> None:
    with pytest.raises(BadSample) as caught:
        Raw("float16").encode(torch.tensor([[0.0, value]]))
    assert "does not fit fp16" in caught.value.what and "65504" in caught.value.what
    assert "--tap NAME=fp32" in caught.value.fix and "int8" in caught.value.fix


def test_a_float64_value_beyond_float32_is_refused() -> None:
    with pytest.raises(BadSample, match="not finite"):
        Raw("float32").encode(torch.tensor([[1e300]], dtype=torch.float64))


def test_fp16_is_stored_channels_last() -> None:
    value = torch.arange(24.0).reshape(1, 2, 3, 4)
    assert Raw("float16").encode(value)["values"][0, 1, 2].tolist() == value[0, :, 1, 2].tolist()
