"""DIST: one row alone, pixels as rows, the auxiliary head."""

import pytest
import torch
from bare_inputs import specs, step_inputs
from torch import Tensor

from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossTerm
from kdcache.losses.logits.dist import NO_AUX, relation_gap
from kdcache.losses.plan.plan import parse_losses


def maps(seed: int, *, classes: int = 3) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(2, classes, 3, 4, generator=source, dtype=torch.float64).requires_grad_()


def term(expression: str, student: dict[str, Tensor], teacher: dict[str, Tensor]) -> LossTerm:
    plan = parse_losses(expression, preset=None, task=SEGMENTATION)
    built = plan.build(student=specs(student), teacher=specs(teacher)).terms["dist"]
    assert isinstance(built, LossTerm)
    return built


def test_one_row_has_no_relation_between_rows_and_no_gradient_from_it() -> None:
    student, teacher = torch.randn(1, 6, requires_grad=True), torch.randn(1, 6)
    gap = relation_gap(student, teacher, tau=4.0, dim=0)
    gap.backward()
    assert gap.item() == 16 and student.grad is not None and not student.grad.any()


def test_a_linear_change_of_the_probabilities_costs_nothing() -> None:
    p = torch.tensor([[0.6, 0.3, 0.1], [0.2, 0.5, 0.3]], dtype=torch.float64)
    flatter = 0.5 * p + 0.5 / 3
    assert relation_gap(flatter.log(), p.log(), tau=1.0, dim=1) < 1e-6


def test_every_pixel_of_the_batch_is_a_row() -> None:
    student, teacher = maps(0), maps(1).detach()
    values = term("dist", {"logits": student}, {"logits": teacher})(
        step_inputs({"logits": student}, {"logits": teacher})
    )
    rows = [z.permute(0, 2, 3, 1).reshape(-1, 3) for z in (student, teacher)]
    for name, dim in (("inter", 1), ("intra", 0)):
        assert torch.equal(values[name].value, relation_gap(*rows, tau=1.0, dim=dim))


def test_the_auxiliary_head_counts_where_it_is_asked_for() -> None:
    student = {"logits": maps(0), "aux": maps(2)}
    teacher = {"logits": maps(1).detach(), "aux": maps(3).detach()}
    parts = term("dist(aux=0.4)", student, teacher)(step_inputs(student, teacher))
    assert {name: part.weight for name, part in parts.items()} == pytest.approx(
        {"inter": 1, "intra": 1, "aux_inter": 0.4, "aux_intra": 0.4}
    )
    sum(part.value for part in parts.values()).backward()
    assert student["aux"].grad is not None and student["aux"].grad.any()


def test_a_missing_auxiliary_head_is_said_of_maps_alone() -> None:
    """Whatever is known of the data: a classifier never has one, so nothing is left out there."""
    pixels, images = {"logits": maps(0)}, {"logits": torch.randn(2, 3)}
    assert term("dist(aux=0.4)", pixels, pixels).notes == (NO_AUX,)
    assert term("dist(aux=0.4)", images, images).notes == ()
    assert term("dist(aux=0)", pixels, pixels).notes == ()


def test_published_settings_differ_by_task() -> None:
    settings = {}
    for task in ("segmentation", "classification"):
        chosen = parse_losses("dist", preset=None, task=task).terms[1]
        settings[task] = (chosen.options["tau"], chosen.weight)
    assert settings == {"segmentation": (1.0, 1.0), "classification": (4.0, 2.0)}


def test_the_gradient_is_the_slope_on_maps() -> None:
    student, teacher = maps(0), maps(1).detach()
    module = term("dist(tau=2)", {"logits": student}, {"logits": teacher})

    def total(logits: Tensor) -> Tensor:
        parts = module(step_inputs({"logits": logits}, {"logits": teacher}))
        return parts["inter"].value + 0.5 * parts["intra"].value

    assert torch.autograd.gradcheck(total, (student,), fast_mode=True)
