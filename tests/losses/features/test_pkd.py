"""PKD: patterns, not values; sizes, dead channels and batches without a pattern."""

import pytest
import torch
from bare_inputs import specs, step_inputs
from torch import Tensor

from kdcache.cache.spec import BadOption
from kdcache.losses.contract import Maps
from kdcache.losses.features.pkd import PearsonFeatures, pearson_distance


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_gradient_is_the_slope() -> None:
    teacher = drawn(2, 3, 3, 4, seed=1)
    student = drawn(2, 3, 3, 4).requires_grad_()
    assert torch.autograd.gradcheck(lambda s: pearson_distance(s, teacher), student, fast_mode=True)


def test_scale_and_shift_of_a_channel_do_not_count_and_the_value_is_one_less_the_correlation() -> None:
    teacher = drawn(2, 3, 3, 4)
    assert pearson_distance(3 * teacher + 7, teacher).item() == pytest.approx(0, abs=1e-10)
    student = drawn(2, 3, 3, 4, seed=1)
    pairs = zip(student.transpose(0, 1), teacher.transpose(0, 1), strict=True)
    r = torch.stack([torch.corrcoef(torch.stack([s.flatten(), t.flatten()]))[0, 1] for s, t in pairs]).mean()
    assert pearson_distance(student, teacher).item() == pytest.approx((1 - r.item()) * 23 / 24, rel=1e-5)


def test_a_dead_channel_has_no_gradient_and_no_nan() -> None:
    student = drawn(2, 3, 3, 4)
    student[:, 1] = 0
    student.requires_grad_()
    value = pearson_distance(student, drawn(2, 3, 3, 4, seed=1))
    slope = torch.autograd.grad(value, student)[0]
    assert value.isfinite() and slope.isfinite().all() and slope[:, 0].any()


@pytest.mark.parametrize("shape", [(1, 3), (1, 3, 1, 1)])
def test_a_single_value_per_channel_gives_zero_and_a_zero_gradient(shape: tuple[int, ...]) -> None:
    student, teacher = {"neck": drawn(*shape).requires_grad_()}, {"neck": drawn(*shape, seed=1)}
    value = PearsonFeatures(Maps(specs(student), specs(teacher)))(step_inputs(student, teacher))
    assert value.item() == 0 and not torch.autograd.grad(value, student["neck"])[0].any()


@pytest.mark.parametrize("side", ["student", "teacher"])
def test_the_chosen_side_takes_the_others_size(side: str) -> None:
    student, teacher = {"neck": drawn(2, 3, 4, 6)}, {"neck": drawn(2, 3, 8, 12, seed=1)}
    term = PearsonFeatures(Maps(specs(student), specs(teacher)), resize=side)  # type: ignore[arg-type]
    size = teacher["neck"].shape[2:] if side == "student" else student["neck"].shape[2:]
    resized = [
        torch.nn.functional.interpolate(one["neck"], size=size, mode="bilinear") for one in (student, teacher)
    ]
    torch.testing.assert_close(term(step_inputs(student, teacher)), pearson_distance(*resized))


def test_other_channels_are_refused() -> None:
    sides = (specs({"neck": drawn(1, channels, 2, 2)}) for channels in (3, 5))
    with pytest.raises(BadOption, match="3 channels but the teacher's has 5\n.*'pkd'") as caught:
        PearsonFeatures(Maps(*sides))
    assert caught.value.fix.startswith("name a tap where both have as many: pkd(taps=...)")
