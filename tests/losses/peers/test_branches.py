"""OKDDip, ONE and CL-ILR: who learns from whom, what grows over the epochs, what cannot be built."""

import math

import pytest
import torch
from term_inputs import build_set, build_term, classified, slope_holds, vectors
from torch import Tensor

from kdcache.cache.spec import BadOption
from kdcache.losses.contract import LossTerm, StudentForm
from kdcache.losses.peers.online import mean_of_others, online_divergence
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs

CLASSES, WIDTH, LABELS = 4, 6, [0, 3, 1]


def step(count: int = 3, *, rows: int = len(LABELS), epoch: int = 0, width: int = WIDTH) -> StepInputs:
    taps = {f"peer{i}.logits": CLASSES for i in range(count)}
    taps |= {f"peer{i}.embedding": width for i in range(count - 1)}
    return classified(vectors(taps, rows=rows), labels=LABELS[:rows], epoch=epoch)


def with_trunk(inputs: StepInputs) -> StepInputs:
    shape = (len(inputs.truth), 2, 3, 3)
    trunk = torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
    logits = {tap: value for tap, value in inputs.student.items() if tap.endswith("logits")}
    return inputs._replace(student={"trunk": trunk.requires_grad_(), **logits})


def touched(loss: Tensor, tensors: list[Tensor]) -> list[bool]:
    gradients = torch.autograd.grad(loss, tensors, allow_unused=True, retain_graph=True)
    return [gradient is not None and bool(gradient.any()) for gradient in gradients]


def okddip(inputs: StepInputs, options: str = "") -> LossTerm:
    return build_term(f"okddip(peers=3,factor=3{options})", inputs)


def test_published_targets_teach_the_attention_and_the_other_peers() -> None:
    inputs = step()
    term = okddip(inputs)
    values = term(inputs)
    peers = [inputs.student[f"peer{i}.logits"] for i in range(3)]
    assert touched(values["leader"].value, peers) == [True, True, True]  # zbar sends gradients to the peers
    assert touched(values["peers"].value, peers) == [True, True, False]  # the leader is nobody's target
    assert touched(values["peers"].value, [term.query.weight, term.key.weight]) == [True, True]  # type: ignore[union-attr]


def test_detached_targets_are_constants_and_leave_the_attention_as_drawn() -> None:
    inputs = step()
    term = okddip(inputs, ",detach=true")
    values = term(inputs)
    peers = [inputs.student[f"peer{i}.logits"] for i in range(3)]
    assert touched(values["leader"].value, peers) == [False, False, True]
    features = [inputs.student[f"peer{i}.embedding"] for i in range(2)]
    assert touched(values["peers"].value, features) == [False, False]
    assert not any(weight.requires_grad for weight in term.parameters())


def test_only_the_divergences_grow_over_the_epochs() -> None:
    for name in ("okddip(peers=3,factor=3)", "one(branches=3)", "cl-ilr(branches=3)"):
        inputs = with_trunk(step()) if name.startswith("one") else step()
        term = build_term(name, inputs)
        early, late = (term(inputs._replace(epoch=epoch)) for epoch in (0, 80))
        for part, value in early.items():
            expected = 1.0 if part.startswith("ce") else math.exp(-5)
            assert value.weight == pytest.approx(expected), (name, part)
            assert late[part].weight == 1.0


def test_the_mix_of_one_teaches_its_gate_and_its_branches() -> None:
    inputs = with_trunk(step())
    term = build_term("one(branches=3)", inputs)
    divergence = term(inputs)["branches"].value
    gate = [weight for name, weight in term.named_parameters() if name != "gate.linear.bias"]
    assert all(touched(divergence, gate))
    assert all(touched(divergence, list(inputs.student.values())))


def test_one_image_has_no_batch_statistics_for_the_gate() -> None:
    inputs = with_trunk(step(rows=1))
    term = build_term("one(branches=3)", inputs)
    with pytest.raises(BadOption, match="a batch of one image") as error:
        term(inputs)
    assert "loss term 'one'" in str(error.value) and "--batch-size 2 or more" in str(error.value)
    assert term.eval()(inputs)["branches"].value.isfinite()


def test_a_branch_learns_from_the_mean_of_the_others() -> None:
    logits = torch.randn(3, 2, CLASSES)
    assert torch.allclose(mean_of_others(logits)[1], (logits[0] + logits[2]) / 2)


def test_the_divergence_reaches_the_target_too() -> None:
    student, target = torch.randn(2, CLASSES), torch.randn(2, CLASSES, requires_grad=True)
    assert touched(online_divergence(student, target, temperature=3.0), [target]) == [True]


@pytest.mark.parametrize(
    "expression",
    [
        "okddip(peers=3,factor=3)",
        "okddip(peers=3,factor=2,loss=CE)",
        "one(branches=3)",
        "one(branches=3,loss=CE)",
        "cl-ilr(branches=3)",
        "cl-ilr(branches=3,loss=CE)",
    ],
)
def test_the_gradient_is_the_slope(expression: str) -> None:
    inputs = step(epoch=60)
    inputs = with_trunk(inputs) if expression.startswith("one") else inputs
    assert slope_holds(build_set(expression, inputs), inputs)


def test_one_image_gives_numbers_where_no_batch_statistics_are_taken() -> None:
    for expression in ("okddip(peers=3,factor=3)", "cl-ilr(branches=3)"):
        inputs = step(rows=1)
        assert build_set(expression, inputs)(inputs).total.isfinite()


@pytest.mark.parametrize(
    ("expression", "form"),
    [
        ("okddip", StudentForm("branches", count=4, deployed=3)),
        ("okddip(form=students,peers=3)", StudentForm("peers", count=3, deployed=2)),
        ("one", StudentForm("branches", count=4)),
        ("cl-ilr", StudentForm("branches", count=4, option="bpscale")),
        ("cl-ilr(bpscale=false)", StudentForm("branches", count=4)),
    ],
)
def test_the_form_of_the_students(expression: str, form: StudentForm) -> None:
    plan = parse_losses(expression, preset=None, task="classification")
    assert plan.student_form == form and plan.step_form == "joint" and not plan.needs
    assert "task" not in [term.name for term in plan.terms]


def test_features_too_narrow_for_the_attention_are_refused() -> None:
    with pytest.raises(BadOption, match="features of width 6 leave no attention") as error:
        build_set("okddip(peers=3)", step())
    assert "loss term 'okddip'" in str(error.value) and "okddip(factor=3)" in str(error.value)


def test_two_methods_with_other_students_are_refused() -> None:
    with pytest.raises(BadOption, match="one and cl-ilr train different forms of a student"):
        parse_losses("one+cl-ilr", preset=None, task="classification")
