"""ReviewKD: levels of any size, their order, and one-image batches."""

import pytest
import torch
from bare_inputs import specs, step_inputs
from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import BadOption
from kdcache.losses.contract import Maps
from kdcache.losses.features.reviewkd import Review, SteadyNorm, hcl
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs

TAPS = "pre1/pre2/embedding"


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def inputs_for(rows: int = 3) -> StepInputs:
    student = {"pre1": drawn(rows, 3, 4, 6), "pre2": drawn(rows, 4, 2, 3, seed=1)}
    student["embedding"] = drawn(rows, 5, seed=2)
    teacher = {"pre1": drawn(rows, 4, 8, 12, seed=3), "pre2": drawn(rows, 6, 4, 6, seed=4)}
    teacher["embedding"] = drawn(rows, 7, seed=5)
    return step_inputs({tap: value.requires_grad_() for tap, value in student.items()}, teacher)


def term_for(inputs: StepInputs) -> Review:
    torch.manual_seed(0)
    return Review(Maps(specs(inputs.student), specs(inputs.teacher)), taps=TAPS, hints="same").double()


def test_coarser_sizes_count_half_each_and_only_those_below_the_map() -> None:
    student, teacher = drawn(2, 3, 4, 6), drawn(2, 3, 4, 6, seed=1)
    parts = [functional.mse_loss(student, teacher)]
    for side in (2, 1):
        pooled = [functional.adaptive_avg_pool2d(one, side) for one in (student, teacher)]
        parts.append(functional.mse_loss(pooled[0], pooled[1]))
    wanted = (parts[0] + parts[1] / 2 + parts[2] / 4) / 1.75
    torch.testing.assert_close(hcl(student, teacher), wanted)


def test_the_gradient_is_the_slope_for_levels_and_layers() -> None:
    inputs = inputs_for()
    term = term_for(inputs)

    def total(*values: Tensor) -> Tensor:
        student = dict(zip(inputs.student, values, strict=False))
        value: Tensor = term(inputs._replace(student=student))
        return value

    assert torch.autograd.gradcheck(
        total, (*inputs.student.values(), *term.parameters()), fast_mode=True, atol=1e-4
    )


def test_deeper_levels_reach_the_shallow_ones_and_not_the_other_way() -> None:
    inputs = inputs_for()
    term = term_for(inputs)
    seen: list[Tensor] = []
    for level in term.levels:
        level.register_forward_hook(lambda module, args, output: seen.append(output[0]))
    term(inputs)
    deepest, _, shallowest = seen
    reached = [
        {
            tap
            for tap, value in inputs.student.items()
            if (
                slope := torch.autograd.grad(out.square().sum(), value, retain_graph=True, allow_unused=True)[
                    0
                ]
            )
            is not None
            and slope.any()
        }
        for out in (deepest, shallowest)
    ]
    assert reached == [{"embedding"}, {"pre1", "pre2", "embedding"}]


def test_the_warm_up_is_published_with_the_method() -> None:
    (_, term) = parse_losses("reviewkd", preset=None, task="classification").terms
    assert [term.weight * term.schedule.factor(epoch) for epoch in (0, 9, 19, 50)] == [0.05, 0.5, 1.0, 1.0]
    assert term.reads.student_taps == ("stage1", "stage2", "stage3", "embedding")
    assert [need.tap for need in term.reads.needs] == ["pre1", "pre2", "pre3", "embedding"]


def test_batch_norm_of_two_values_keeps_its_small_gradient_in_float32() -> None:
    values = drawn(2, 5, 1, 1)
    slopes = []
    for dtype in (torch.float64, torch.float32):
        leaf = values.to(dtype).requires_grad_()
        weighted = SteadyNorm(5).to(dtype)(leaf) * drawn(2, 5, 1, 1, seed=1).to(dtype)
        slopes.append(torch.autograd.grad(weighted.sum(), leaf)[0].double())
    torch.testing.assert_close(slopes[1], slopes[0], rtol=1e-5, atol=0)


def test_batch_norm_of_many_values_is_torchs() -> None:
    values = drawn(8, 5, 4, 4)
    torch.testing.assert_close(SteadyNorm(5).double()(values), torch.nn.BatchNorm2d(5).double()(values))


def test_one_image_has_no_batch_statistics_of_a_vector() -> None:
    inputs = inputs_for(rows=1)
    with pytest.raises(BadOption, match="1 image with a map of 1x1 cells\n.*'embedding'\n.*--batch-size"):
        term_for(inputs)(inputs)


def test_no_level_is_refused() -> None:
    with pytest.raises(BadOption, match="names no tap\n.*taps='/'\n.*reviewkd"):
        Review(Maps({}, {}), taps="/")
