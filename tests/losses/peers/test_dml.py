"""Deep mutual learning: who learns from whom, in each form."""

import pytest
import torch
from term_inputs import build_set, build_term, classified, slope_holds, vectors
from torch import Tensor

from kdcache.cache.spec import BadOption
from kdcache.losses.contract import StudentForm
from kdcache.losses.peers.dml import official_kl
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs

CLASSES, LABELS = 4, [0, 3, 1]


def step(count: int = 3, *, learner: int | None = None) -> StepInputs:
    taps = {f"peer{i}.logits": CLASSES for i in range(count)}
    return classified(vectors(taps, rows=len(LABELS)), labels=LABELS, learner=learner)


def touched(loss: Tensor, inputs: StepInputs) -> list[bool]:
    gradients = torch.autograd.grad(loss, list(inputs.student.values()), allow_unused=True)
    return [gradient is not None and bool(gradient.any()) for gradient in gradients]


@pytest.mark.parametrize("learner", [0, 1, 2])
def test_in_its_turn_a_network_alone_gets_a_gradient(learner: int) -> None:
    inputs = step(learner=learner)
    total = build_set("dml(students=3)", inputs)(inputs).total
    assert touched(total, inputs) == [i == learner for i in range(3)]


def test_together_each_network_gets_what_it_gets_in_its_turn() -> None:
    together = step()
    losses = build_set("dml(students=3)", together)
    losses(together).total.backward()
    for learner in range(3):
        alone = step(learner=learner)
        losses(alone).total.backward()
        tap = f"peer{learner}.logits"
        assert torch.allclose(together.student[tap].grad, alone.student[tap].grad)  # type: ignore[arg-type]


def test_the_paper_divides_by_the_peers_and_the_code_does_not() -> None:
    inputs = step()
    code = build_term("dml(students=3)", inputs)(inputs)["kl"].value
    paper = build_term("dml(students=3,form=paper)", inputs)(inputs)["kl"].value
    assert torch.allclose(code, 2 * paper, rtol=1e-6)


def test_in_the_form_of_okddip_peers_are_not_constants() -> None:
    inputs = step()
    for options in ("", ",pairwise=true"):
        term = build_term(f"dml(students=3,form=okddip{options})", inputs)
        first = term._together(torch.stack(list(inputs.student.values())))
        kl_of_all = touched(first, inputs)
        assert kl_of_all == [True] * 3


def test_the_okddip_target_of_a_network_sends_gradients_to_the_others() -> None:
    inputs = step(2)
    term = build_term("dml(students=2,form=okddip)", inputs)
    official = build_term("dml(students=2)", inputs)
    leaf = inputs.student["peer1.logits"]
    both = torch.autograd.grad(term(inputs)["kl"].value, leaf)[0]
    own = torch.autograd.grad(official(inputs._replace(learner=1))["kl"].value, leaf)[0]
    assert not torch.allclose(both, own)


def test_equal_networks_teach_each_other_nothing() -> None:
    scores = torch.randn(3, CLASSES, dtype=torch.float64)
    assert official_kl(scores, scores).abs() < 1e-6


def test_the_official_form_smooths_labels_and_the_others_do_not() -> None:
    inputs = step(2)
    smoothings = {form: build_term(f"dml(form={form})", inputs).smoothing for form in ("official", "paper")}
    assert smoothings == {"official": 0.1, "paper": 0.0}
    assert build_term("dml(smoothing=0.2,form=paper)", inputs).smoothing == 0.2


@pytest.mark.parametrize("options", ["", "form=paper", "form=okddip", "form=okddip,pairwise=true"])
def test_the_gradient_is_the_slope(options: str) -> None:
    if options == "form=okddip" or "pairwise" in options:
        inputs = step(3)
        assert slope_holds(build_set(f"dml(students=3,{options})", inputs), inputs)
        return
    # Peers are constants: the slope of one network's loss is taken with the others held.
    inputs = step(2, learner=0)
    losses = build_set(f"dml({options})", inputs)
    peer = inputs.student["peer1.logits"].detach()

    def total(logits: Tensor) -> Tensor:
        value: Tensor = losses(inputs._replace(student={"peer0.logits": logits, "peer1.logits": peer})).total
        return value

    assert torch.autograd.gradcheck(total, (inputs.student["peer0.logits"],), fast_mode=True)


def test_the_form_of_the_students_and_of_the_step_follow_the_form_of_the_loss() -> None:
    step_forms = {}
    for form in ("official", "paper", "okddip"):
        plan = parse_losses(f"dml(students=3,form={form})", preset=None, task="classification")
        assert plan.student_form == StudentForm("peers", count=3) and not plan.needs
        assert [term.name for term in plan.terms] == ["dml"]
        step_forms[form] = plan.step_form
    assert step_forms == {"official": "in_turn", "paper": "joint", "okddip": "joint"}


def test_one_student_alone_has_nobody_to_learn_from() -> None:
    with pytest.raises(BadOption, match="option 'students' of 'dml' takes a whole number from 2, not '1'"):
        parse_losses("dml(students=1)", preset=None, task="classification")
