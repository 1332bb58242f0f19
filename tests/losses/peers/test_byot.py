"""Be your own teacher: the deepest exit is constant, the right exits have adapters."""

import pytest
import torch
from term_inputs import build_set, build_term, classified, vectors

from kdcache.cache.spec import BadOption
from kdcache.losses.contract import StudentForm
from kdcache.losses.peers.byot import active_square
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs

CLASSES, WIDTH, LABELS = 4, 5, [0, 3, 1]


def step(exits: int = 3, *, rows: int = len(LABELS), odd: int = WIDTH) -> StepInputs:
    names = ["", *(f"exit{n}." for n in range(1, exits + 1))]
    taps = {f"{name}logits": CLASSES for name in names} | {f"{name}embedding": WIDTH for name in names}
    return classified(vectors({**taps, "exit1.embedding": odd}, rows=rows), labels=LABELS[:rows])


@pytest.mark.parametrize("form", ["luanyunteng", "archiplab"])
def test_the_whole_network_learns_from_labels_alone(form: str) -> None:
    inputs = step()
    values = build_term(f"byot(form={form})", inputs)(inputs)
    for name in ("kd", "features"):
        deepest = [inputs.student["logits"], inputs.student["embedding"]]
        gradients = torch.autograd.grad(values[name].value, deepest, allow_unused=True, retain_graph=True)
        assert all(gradient is None for gradient in gradients), name
    assert torch.autograd.grad(values["ce"].value, inputs.student["logits"])[0].any()


@pytest.mark.parametrize("form", ["luanyunteng", "archiplab"])
def test_soft_labels_and_features_reach_the_exits(form: str) -> None:
    inputs = step()
    values = build_term(f"byot(form={form})", inputs)(inputs)
    values["kd"].value.backward(retain_graph=True)
    values["features"].value.backward()
    assert all(inputs.student[f"exit{n}.logits"].grad is not None for n in (1, 2, 3))
    reached = [bool(inputs.student[f"exit{n}.embedding"].grad.any()) for n in (1, 2, 3)]  # type: ignore[union-attr]
    assert reached == [True, True, form == "luanyunteng"]  # the published code leaves its index 1 out


def test_a_cell_off_on_both_sides_does_not_count() -> None:
    exit_BD = torch.tensor([[-1.0, -1.0, 2.0]])
    deepest_BD = torch.tensor([[-3.0, 1.0, 2.5]])
    assert active_square(exit_BD, deepest_BD).item() == pytest.approx(4.25)


def test_the_published_weights_of_both_forms() -> None:
    inputs = step()
    weights = {
        form: {name: part.weight for name, part in build_term(f"byot(form={form})", inputs)(inputs).items()}
        for form in ("luanyunteng", "archiplab")
    }
    assert weights["luanyunteng"] == pytest.approx({"ce": 0.9, "ce_exits": 0.9, "kd": 0.9, "features": 1e-6})
    assert weights["archiplab"] == pytest.approx({"ce": 1, "ce_exits": 0.7, "kd": 0.3, "features": 0.03})


@pytest.mark.parametrize("form", ["luanyunteng", "archiplab"])
def test_the_gradient_is_the_slope(form: str) -> None:
    inputs = step(2)
    options = "beta=0.1" if form == "luanyunteng" else "g=0.3"
    losses = build_set(f"byot(form={form},exits=2,{options})", inputs)
    constant = {tap: inputs.student[tap].detach() for tap in ("logits", "embedding")}
    moving = {tap: value for tap, value in inputs.student.items() if tap.startswith("exit")}

    def total(*tensors: torch.Tensor) -> torch.Tensor:
        student = {**constant, **dict(zip(moving, tensors, strict=False))}
        value: torch.Tensor = losses(inputs._replace(student=student)).total
        return value

    leaves = (*moving.values(), *losses.parameters())
    assert torch.autograd.gradcheck(total, leaves, fast_mode=True)


def test_one_image_and_one_exit_give_numbers() -> None:
    for form in ("luanyunteng", "archiplab"):
        inputs = step(1, rows=1)
        assert build_set(f"byot(form={form},exits=1)", inputs)(inputs).total.isfinite()


def test_equal_features_leave_the_norm_without_a_number_that_is_none() -> None:
    inputs = step(2)
    losses = build_set("byot(form=archiplab,exits=2)", inputs)
    (adapter,) = losses.terms["byot"].adapters  # type: ignore[misc, union-attr]
    torch.nn.init.eye_(adapter.weight)
    torch.nn.init.zeros_(adapter.bias)
    same = inputs.student["exit1.embedding"].detach().requires_grad_()
    losses(
        inputs._replace(student={**inputs.student, "embedding": same.detach(), "exit1.embedding": same})
    ).total.backward()
    assert same.grad is not None and same.grad.isfinite().all()


def test_the_form_of_the_student() -> None:
    for form, heads in (("luanyunteng", "bottleneck"), ("archiplab", "attention")):
        plan = parse_losses(f"byot(form={form},exits=2)", preset=None, task="classification")
        assert plan.student_form == StudentForm("exits", count=2, option=heads)
        assert {"logits", "embedding", "exit1.logits", "exit2.embedding"} <= set(plan.student_taps)


def test_exits_of_another_width_are_refused() -> None:
    with pytest.raises(BadOption, match="exit 1 has features of width 7, the network of width 5") as error:
        build_set("byot", step(odd=7))
    assert "loss term 'byot'" in str(error.value) and "as wide as the network's embedding" in str(error.value)
