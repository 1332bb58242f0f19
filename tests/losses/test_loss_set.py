"""The whole set at a step: sums, precision, masks, clipping, empty labels; and gradcheck of every loss."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from kdcache.cache.spec import TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossOutput
from kdcache.losses.formulas.divergence import kl
from kdcache.losses.formulas.masks import centre_mask, channel_mask, spatial_mask
from kdcache.losses.loss_set import LossSet
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs

SHAPES = {
    "stage4": ((2, 3, 4, 6), (2, 4, 4, 6)),
    "logits": ((2, 3, 4, 6), (2, 3, 4, 6)),
    "aux": ((2, 3, 4, 6), None),
}
TINY = "afdcd(groups=2,patch=2x3,tau=1,lambda_fd=0.1,lambda_ctr=0.1)"


def inputs_for(dtype: torch.dtype = torch.float32, seed: int = 0) -> StepInputs:
    source = torch.Generator().manual_seed(seed)
    student = {
        tap: torch.randn(s, generator=source, dtype=dtype).requires_grad_() for tap, (s, _) in SHAPES.items()
    }
    teacher = {tap: torch.randn(t, generator=source, dtype=dtype) for tap, (_, t) in SHAPES.items() if t}
    labels = torch.randint(0, 3, (2, 9, 13), generator=source)
    labels[0, :3] = 255
    return StepInputs(student, teacher, labels, torch.Generator().manual_seed(7), 0, 0)


def build(expression: str, inputs: StepInputs) -> LossSet:
    def specs(maps: dict[str, Tensor]) -> dict[str, TensorSpec]:
        return {tap: TensorSpec((*value.shape[2:], value.shape[1]), 8) for tap, value in maps.items()}

    torch.manual_seed(0)
    plan = parse_losses(expression, preset=None, task=SEGMENTATION)
    return plan.build(student=specs(dict(inputs.student)), teacher=specs(dict(inputs.teacher)))


def test_what_the_supervised_term_works_out_reaches_every_term_and_has_no_gradient() -> None:
    """Made once per step: an assignment that grew a graph of its own would hold the student in memory."""
    inputs = inputs_for()
    losses = build("kd", inputs)
    asked: list[bool] = []
    read: list[object] = []

    def prepare(given: StepInputs) -> Tensor:
        asked.append(torch.is_grad_enabled())
        return given.student["logits"].sum()

    for module in losses.terms.values():
        real = module.forward

        def forward(given: StepInputs, real: Callable[[StepInputs], LossOutput] = real) -> LossOutput:
            read.append(given.prepared)
            return real(given)

        module.forward = forward
    losses.terms["task"].prepare = prepare
    losses(inputs)
    assert asked == [False] and len(read) == 2
    assert read[0] is read[1] and isinstance(read[0], Tensor) and not read[0].requires_grad


@pytest.mark.parametrize(
    "expression",
    [
        "none",
        "task(weight=0)+kd(T=2)",
        "task(weight=0)+kd(form=skds)",
        "task(weight=0)+kd(form=ifvd,upsample=2)",
        "task(weight=0)+cwd(tau=2)",
        "task(weight=0)+cwd(tap=stage4,divisor=student)",
        "task(weight=0)+cwd(tap=stage4,norm=spatial)",
        "task(weight=0)+cwd(tap=stage4,norm=channel_mean)",
        "task(weight=0)+mgd(weight=0.1,cwd=0)",
        "task(weight=0)+mgd(weight=0.1,cwd=0,mask=channel)",
        f"task(weight=0)+{TINY[:-1]},kd=0)",
        f"task(weight=0)+{TINY[:-1]},kd=0,generator=enhanced,mask=fixed,negatives=all)",
    ],
)
def test_the_gradient_is_the_slope_for_inputs_and_learned_weights(expression: str) -> None:
    inputs = inputs_for(torch.float64)
    losses = build(expression, inputs).double()
    weights = [p for p in losses.parameters()]
    taps = sorted(
        {tap for tap in parse_losses(expression, preset=None, task=SEGMENTATION).student_taps}
        | ({"aux"} if expression == "none" else set())
    )

    def total(*tensors: Tensor) -> Tensor:
        student = dict(zip(taps, tensors, strict=False))
        inputs.generator.manual_seed(3)  # the same mask at every evaluation
        value: Tensor = losses(inputs._replace(student={**inputs.student, **student})).total
        return value

    assert torch.autograd.gradcheck(total, (*(inputs.student[tap] for tap in taps), *weights), fast_mode=True)


def test_the_total_is_the_sum_of_its_weighted_terms() -> None:
    inputs = inputs_for()
    values = build(f"{TINY}+mgd+task(weight=2)", inputs)(inputs)
    assert list(values.terms) == ["task.logits", "task.aux", "afdcd.fd", "afdcd.ctr", "kd", "mgd", "cwd"]
    torch.testing.assert_close(values.total.detach(), torch.stack(list(values.terms.values())).sum())
    factors = {
        "task.logits": 2,
        "task.aux": 0.8,
        "afdcd.fd": 0.1,
        "afdcd.ctr": 0.1,
        "kd": 1,
        "mgd": 2e-5,
        "cwd": 3,
    }
    for name, factor in factors.items():
        torch.testing.assert_close(values.terms[name], factor * values.unweighted[name])
    assert values.total.requires_grad and not any(v.requires_grad for v in values.terms.values())


def test_a_student_without_auxiliary_head_has_no_auxiliary_term() -> None:
    inputs = inputs_for()
    plain = inputs._replace(student={tap: v for tap, v in inputs.student.items() if tap != "aux"})
    assert list(build("none", plain)(plain).terms) == ["task"]


def test_a_crop_of_ignored_pixels_gives_zero_and_a_zero_gradient() -> None:
    inputs = inputs_for()
    empty = inputs._replace(truth=torch.full_like(inputs.truth, 255))
    total = build("none", empty)(empty).total
    assert total.item() == 0
    gradient = torch.autograd.grad(total, inputs.student["logits"])[0]
    assert torch.equal(gradient, torch.zeros_like(gradient))


def test_divergences_are_computed_in_float32_under_autocast() -> None:
    inputs = inputs_for(torch.bfloat16)
    losses = build(f"{TINY}+cwd+mgd", inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        values = losses(inputs)
    assert values.total.dtype == torch.float32
    assert all(value.dtype == torch.float32 for value in values.unweighted.values())
    wanted = kl(
        inputs.student["logits"].float(), inputs.teacher["logits"].float(), temperature=1.0, dim=1
    ).mean()
    torch.testing.assert_close(values.unweighted["kd"], wanted.detach(), rtol=1e-6, atol=0)


def test_masks_come_from_the_generator_of_the_step_and_nothing_else() -> None:
    inputs = inputs_for()
    losses = build(f"{TINY}+mgd", inputs)

    def total(seed: int, noise: int) -> float:
        torch.manual_seed(noise)
        return losses(inputs._replace(generator=torch.Generator().manual_seed(seed))).total.item()

    assert total(1, noise=0) == total(1, noise=5)
    assert total(1, noise=0) != total(2, noise=0)


def test_masks_hide_the_share_they_are_told() -> None:
    uniform = torch.rand(1, 1, 200, 200, generator=torch.Generator().manual_seed(0))
    assert spatial_mask(uniform, 0.75).mean().item() == pytest.approx(0.25, abs=0.02)
    assert channel_mask(uniform, 0.15).mean().item() == pytest.approx(0.85, abs=0.02)
    assert spatial_mask(uniform, 0.0).min() == 1
    hidden = centre_mask(torch.zeros(2, 5, 7, 9))
    assert hidden.shape == (1, 1, 7, 9) and (hidden == 0).sum() == 2 * 3 and hidden[0, 0, 2:4, 3:6].sum() == 0


def test_only_the_terms_that_ask_for_it_are_clipped() -> None:
    inputs = inputs_for()
    losses = build(f"{TINY}+mgd", inputs)
    for weight in losses.parameters():
        weight.grad = torch.full_like(weight, 100.0)
    losses.clip_gradients()
    assert losses.clip_norm == 15.0
    norm = torch.nn.utils.get_total_norm(
        [p.grad for p in losses.terms["afdcd"].parameters() if p.grad is not None]
    )
    assert norm.item() == pytest.approx(15.0, rel=1e-4)
    assert all(torch.all(p.grad == 100) for p in losses.terms["mgd"].parameters() if p.grad is not None)
    assert build("cwd", inputs).clip_norm is None


def test_a_lambda_of_zero_leaves_its_term_out_with_its_demands() -> None:
    inputs = inputs_for()
    losses = build("afdcd(lambda_ctr=0,groups=7,kd=0)", inputs)  # 7 groups would not fit
    assert list(losses(inputs).terms) == ["task.logits", "task.aux", "afdcd.fd"]


def test_equal_channels_need_no_adapter() -> None:
    inputs = inputs_for()
    same = inputs._replace(teacher={**inputs.teacher, "stage4": inputs.student["stage4"].detach()})
    for expression in ("mgd", "afdcd(groups=3,patch=2)", "cwd(tap=stage4)"):
        names = [name for name, _ in build(expression, same).named_parameters()]
        assert not [name for name in names if ".align" in name]
    assert [n for n, _ in build("cwd(tap=stage4)", inputs).named_parameters()] == ["terms.cwd.align.weight"]


@pytest.mark.gpu
def test_a_gpu_gives_the_values_and_gradients_of_the_cpu() -> None:
    inputs = inputs_for()
    losses = build(f"{TINY[:-1]},mask=fixed)+cwd", inputs)
    here = losses(inputs).total
    wanted = torch.autograd.grad(here, inputs.student["stage4"])[0]
    student = {tap: value.detach().cuda().requires_grad_() for tap, value in inputs.student.items()}
    teacher = {tap: value.cuda() for tap, value in inputs.teacher.items()}
    device = StepInputs(student, teacher, inputs.truth.cuda(), torch.Generator("cuda"), 0, 0)
    there = losses.cuda()(device).total
    torch.testing.assert_close(there.cpu(), here, rtol=1e-4, atol=1e-5)
    gradient = torch.autograd.grad(there, student["stage4"])[0]
    torch.testing.assert_close(gradient.cpu(), wanted, rtol=1e-3, atol=1e-4)
