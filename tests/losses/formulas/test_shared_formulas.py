"""What several losses share, against formulas written out: squares of means, generators, precision, sizes."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.losses.formulas.adapters import EnhancedGenerator
from kdcache.losses.formulas.divergence import channel_mean_square
from kdcache.losses.formulas.gather import gather_rows
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.shapes import check_same_channels, check_same_size


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_means_of_channels_are_compared_by_the_mean_of_their_squared_differences() -> None:
    student, teacher = drawn(2, 3, 2, 2), drawn(2, 3, 2, 2, seed=1)
    squares = [
        (sum(student[b, c].flatten().tolist()) / 4 - sum(teacher[b, c].flatten().tolist()) / 4) ** 2
        for b in range(2)
        for c in range(3)
    ]
    assert channel_mean_square(student, teacher).item() == pytest.approx(sum(squares) / 6, rel=1e-12)


def test_the_enhanced_generator_is_the_mean_of_a_path_of_two_layers_and_one_of_three() -> None:
    torch.manual_seed(0)
    generator, shown = EnhancedGenerator(2).double(), drawn(1, 2, 4, 5)

    def layer(name: str, value: Tensor) -> Tensor:
        weight, bias = (generator.get_parameter(f"{name}.{kind}") for kind in ("weight", "bias"))
        return functional.conv2d(value, weight, bias, padding=1)

    once = layer("first", shown).clamp(min=0)
    twice = layer("second", once).clamp(min=0)
    torch.testing.assert_close(generator(shown), 0.5 * layer("shallow", once) + 0.5 * layer("deep", twice))


def test_rows_of_one_process_are_its_own_without_their_gradient() -> None:
    rows = drawn(3, 2).requires_grad_()
    gathered = gather_rows(rows)
    assert torch.equal(gathered, rows) and not gathered.requires_grad


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("keyword", [False, True])
def test_a_formula_sees_half_precision_as_float32_however_it_is_handed_over(
    half: torch.dtype, keyword: bool
) -> None:
    seen: list[torch.dtype] = []

    @in_float32
    def formula(value: Tensor, *, other: Tensor) -> Tensor:
        seen.extend((value.dtype, other.dtype))
        return value

    formula(torch.ones(1), other=torch.ones(1, dtype=half)) if keyword else formula(
        torch.ones(1, dtype=half), other=torch.ones(1)
    )
    assert seen == [torch.float32, torch.float32]


def test_a_product_inside_a_formula_is_taken_in_float32_where_autocast_would_take_it_in_half() -> None:
    product = in_float32(torch.matmul)
    left, right = (torch.rand(4, 4, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    wide = left @ right
    with torch.autocast("cpu", dtype=torch.bfloat16):
        narrow = left @ right
        assert torch.equal(product(left, right), wide)
    assert not torch.equal(narrow.float(), wide)


def test_a_formula_keeps_float64_and_whole_numbers_as_they_are() -> None:
    seen: list[torch.dtype] = []

    @in_float32
    def formula(value: Tensor, labels: Tensor) -> Tensor:
        seen.extend((value.dtype, labels.dtype))
        return value

    formula(torch.ones(1, dtype=torch.float64), torch.ones(1, dtype=torch.int64))
    assert seen == [torch.float64, torch.int64]


@pytest.mark.parametrize("student", [(6, 16, 3), (12, 8, 3), (24, 16, 3)])
def test_maps_of_another_height_or_width_are_refused(student: tuple[int, int, int]) -> None:
    check_same_size("at", "neck", TensorSpec((12, 16, 5), 8), TensorSpec((12, 16, 7), 8))
    with pytest.raises(BadOption, match="student tap 'neck' is"):
        check_same_size("at", "neck", TensorSpec(student, 8), TensorSpec((12, 16, 3), 8))


@pytest.mark.parametrize("channels", [4, 6])
def test_fewer_channels_are_refused_as_more_are(channels: int) -> None:
    check_same_channels("kd", "logits", TensorSpec((5,), 0), TensorSpec((5,), 0))
    with pytest.raises(BadOption, match=f"'logits' has {channels} channels but the teacher's has 5"):
        check_same_channels("kd", "logits", TensorSpec((channels,), 0), TensorSpec((5,), 0))
