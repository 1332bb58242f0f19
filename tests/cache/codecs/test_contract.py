"""One contract for every codec: inherit `CodecContract`, name the codec, decode its parts slowly by hand."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from kdcache.cache.codecs.contract import Codec
from kdcache.cache.codecs.table import make_codec
from kdcache.cache.errors import BadSample
from kdcache.cache.spec import TensorSpec

Arrays = dict[str, np.ndarray]
# Every subclass runs the same property; the deadline would time a shared machine.
INHERITED = settings(deadline=None, suppress_health_check=[HealthCheck.differing_executors])


@st.composite
def maps(draw: st.DrawFn, largest: float = 1e4) -> Tensor:
    """(B,C,H,W) float32 of every kind a tap shows: dense, rectified, constant, far from zero, tiny."""
    shape = tuple(draw(st.integers(1, n)) for n in (3, 4, 5, 5))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    value = torch.randn(shape, generator=generator)
    spread = draw(st.sampled_from([0.0, 1e-30, 1e-3, 1.0, 100.0]))
    offset = draw(st.floats(-largest / 2, largest / 2, width=32))
    value = value.clamp(-8, 8) * spread + offset
    if draw(st.booleans()):
        value = value.clamp_min(0)
    if draw(st.booleans()):
        value[:, 0] = offset
    return value


class CodecContract:
    """What holds for every codec. Checks the stored bytes with `slow_decode`, never with the codec alone."""

    codec_name: str
    stores_vectors: bool

    def slow_decode(self, parts: Arrays) -> np.ndarray:
        """Parts of a batch -> float64 values, channels last, in plain numpy."""
        raise NotImplementedError

    @pytest.fixture
    def codec(self) -> Codec:
        return make_codec(self.codec_name)

    @settings(INHERITED, max_examples=40)
    @given(value=maps())
    def test_the_decoded_value_is_within_the_stated_bound(self, value: Tensor) -> None:
        codec = make_codec(self.codec_name)
        parts = codec.encode(value)
        bound = codec.bound(value).double()
        slow = torch.from_numpy(self.slow_decode(parts)).permute(0, 3, 1, 2)
        assert bool(((slow - value.double()).abs() <= bound).all())
        fast = codec.decode({k: torch.from_numpy(v) for k, v in parts.items()})
        assert bool(((fast.double() - value.double()).abs() <= bound).all())

    @settings(INHERITED, max_examples=20)
    @given(value=maps())
    def test_parts_are_what_the_spec_announces(self, value: Tensor) -> None:
        codec = make_codec(self.codec_name)
        specs = codec.parts(TensorSpec((value.shape[2], value.shape[3], value.shape[1]), 8))
        parts = codec.encode(value)
        assert list(parts) == list(specs)
        for name, array in parts.items():
            assert array.shape == (value.shape[0], *specs[name].shape)
            assert str(array.dtype) == specs[name].dtype
            assert array.flags.c_contiguous

    def test_a_row_is_stored_alike_alone_and_in_any_batch(self, codec: Codec) -> None:
        value = torch.randn(5, 3, 4, 6)
        together = codec.encode(value)
        for row in range(5):
            alone = codec.encode(value[row : row + 1])
            for name, array in alone.items():
                assert array[0].tobytes() == together[name][row].tobytes()

    def test_the_memory_format_of_the_network_does_not_matter(self, codec: Codec) -> None:
        value = torch.randn(2, 3, 4, 6)
        a, b = codec.encode(value), codec.encode(value.contiguous(memory_format=torch.channels_last))
        assert all(a[name].tobytes() == b[name].tobytes() for name in a)

    def test_a_window_decodes_to_the_same_cells_as_the_whole_map(self, codec: Codec) -> None:
        value = torch.randn(2, 3, 7, 9)
        specs = codec.parts(TensorSpec((7, 9, 3), 8))
        parts = {k: torch.from_numpy(v) for k, v in codec.encode(value).items()}
        cut = {k: v[:, 2:5, 3:8] if specs[k].spatial else v for k, v in parts.items()}
        assert torch.equal(codec.decode(cut), codec.decode(parts)[:, :, 2:5, 3:8])

    def test_decoding_gives_float32_channels_first_and_leaves_the_parts_alone(self, codec: Codec) -> None:
        parts = {k: torch.from_numpy(v) for k, v in codec.encode(torch.randn(2, 3, 4, 6)).items()}
        before = {k: v.clone() for k, v in parts.items()}
        decoded = codec.decode(parts)
        assert decoded.shape == (2, 3, 4, 6) and decoded.dtype == torch.float32
        assert all(torch.equal(parts[k], before[k]) for k in parts)

    def test_a_buffer_given_for_decoding_is_the_one_that_is_filled(self, codec: Codec) -> None:
        parts = {k: torch.from_numpy(v) for k, v in codec.encode(torch.randn(2, 3, 4, 6)).items()}
        out = torch.full((2, 4, 6, 3), torch.nan)
        decoded = codec.decode(parts, out)
        assert decoded.data_ptr() == out.data_ptr()
        assert torch.equal(decoded, codec.decode(parts))

    @pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
    def test_values_of_any_float_type_are_taken(self, codec: Codec, dtype: torch.dtype) -> None:
        value = torch.randn(1, 3, 4, 6).to(dtype)
        decoded = codec.decode({k: torch.from_numpy(v) for k, v in codec.encode(value).items()})
        assert bool(((decoded.double() - value.double()).abs() <= codec.bound(value).double()).all())

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
    def test_a_value_that_is_not_finite_is_refused_and_its_row_named(self, codec: Codec, bad: float) -> None:
        value = torch.zeros(3, 2, 4, 4)
        value[1, 1, 2, 3] = bad
        with pytest.raises(BadSample, match=r"tap value is not finite.*row 1 of a batch of 3") as caught:
            codec.encode(value)
        assert "--amp no" in caught.value.fix

    def test_a_network_that_still_wants_gradients_can_be_stored(self, codec: Codec) -> None:
        codec.encode(torch.randn(1, 2, 3, 3, requires_grad=True))

    def test_vectors_are_stored_or_refused_before_anything_is_written(self, codec: Codec) -> None:
        spec = TensorSpec((5,), 0)
        if not self.stores_vectors:
            with pytest.raises(ValueError, match="vector of 5 values"):
                codec.parts(spec)
            return
        value = torch.randn(3, 5)
        parts = codec.encode(value)
        assert parts["values"].shape == (3, *codec.parts(spec)["values"].shape)
        decoded = codec.decode({k: torch.from_numpy(v) for k, v in parts.items()})
        assert decoded.shape == (3, 5)
        assert bool(((decoded - value).abs() <= codec.bound(value)).all())

    def test_its_name_finds_it_again(self, codec: Codec) -> None:
        assert make_codec(codec.name).config == codec.config


class TestInt8(CodecContract):
    codec_name, stores_vectors = "int8", False

    def slow_decode(self, parts: Arrays) -> np.ndarray:
        scale, minimum = parts["scale"].astype(np.float64).transpose(1, 0, 2)
        values: np.ndarray = parts["values"].astype(np.float64)
        return values * scale[:, None, None] + minimum[:, None, None]


class TestFp16(CodecContract):
    codec_name, stores_vectors = "fp16", True

    def slow_decode(self, parts: Arrays) -> np.ndarray:
        return parts["values"].astype(np.float64)


class TestFp32(CodecContract):
    codec_name, stores_vectors = "fp32", True

    def slow_decode(self, parts: Arrays) -> np.ndarray:
        return parts["values"].astype(np.float64)
