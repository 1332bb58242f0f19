"""A critic: its own optimizer and moment, the student as it was before the step, every rank alike."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from fake_run import CONFIG, Killed, parts, results, run
from rank_steps import two_ranks

from kdcache.losses.step_inputs import StepInputs
from kdcache.trainer.place import start_accelerator
from kdcache.trainer.step import Stepper
from kdcache.trainer.steps.choose import make_stepper

CRITIC = "fake_methods:Critic"


@pytest.fixture
def made(tmp_path: Path) -> tuple[Stepper, object]:
    accelerator: Accelerator = start_accelerator(CONFIG, tmp_path, start=0)
    found = parts(CONFIG, loss=CRITIC)(accelerator)
    return make_stepper(CONFIG, found, accelerator, sync_bn=False), found.stream


@pytest.mark.parametrize("micro_step", [5, 9])
def test_killed_and_resumed_ends_bit_identical(tmp_path: Path, micro_step: int) -> None:
    run(tmp_path / "whole" / "r", loss=CRITIC)
    with pytest.raises(Killed):
        run(tmp_path / "r", loss=CRITIC, kill_at=micro_step)
    run(tmp_path / "r", loss=CRITIC, resume=True)
    assert results(tmp_path / "r") == results(tmp_path / "whole" / "r")


def test_the_exported_student_and_its_optimizer_hold_nothing_of_the_critic(
    tmp_path: Path, made: tuple[Stepper, object]
) -> None:
    run(tmp_path / "r", loss=CRITIC)
    exported = torch.load(tmp_path / "r" / "student.pt", weights_only=True)
    assert not [name for name in exported if "critic" in name or "align" in name]
    stepper, _ = made
    term = stepper.module.losses.terms["Critic"]
    moved = {p for group in stepper.optimizer.param_groups for p in group["params"]}
    assert not moved & set(term.critic.parameters())
    assert set(term.align.parameters()) < moved


def test_the_critic_moves_once_per_step_by_the_mean_over_its_micro_batches(
    made: tuple[Stepper, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    stepper, stream = made
    term = stepper.module.losses.terms["Critic"]
    before = [p.detach().clone() for p in term.critic.parameters()]
    students: list[list[torch.Tensor]] = []
    grads: list[list[torch.Tensor]] = []
    real = term.rival_loss

    def watched(inputs: StepInputs) -> torch.Tensor:
        students.append([p.detach().clone() for p in stepper.module.student.parameters()])
        assert all(torch.equal(a, b) for a, b in zip(before, term.critic.parameters(), strict=True))
        loss: torch.Tensor = real(inputs)
        found = torch.autograd.grad(loss, term.critic.parameters(), retain_graph=True)
        grads.append([gradient.clone() for gradient in found])
        return loss

    monkeypatch.setattr(term, "rival_loss", watched)
    stepper.step(3, stream.run(), stream)  # type: ignore[attr-defined]
    assert len(grads) == CONFIG.accumulate
    # Adam's first step is lr * sign of the gradient (its epsilon apart), whatever its size.
    lr = 0.01 * (1 - 3 / CONFIG.steps) ** 0.9
    for old, new, one, two in zip(before, term.critic.parameters(), *grads, strict=True):
        mean = (one + two) / 2
        moved = torch.where(mean.abs() > 1e-5, (old - new) / lr, mean.sign())
        assert torch.allclose(moved, mean.sign(), atol=1e-2)
    assert all(p.grad is None for p in term.critic.parameters())


def test_the_students_backward_leaves_the_critic_without_a_gradient(made: tuple[Stepper, object]) -> None:
    stepper, stream = made
    batch = next(stream.run())  # type: ignore[attr-defined]
    values = stepper.wrapped(stepper._inputs(0, batch, stream))  # type: ignore[arg-type]
    values.total.backward()
    assert all(p.grad is None for p in stepper.module.losses.terms["Critic"].critic.parameters())
    assert all(p.grad is not None for p in stepper.module.student.stem.parameters())  # through the critic


@pytest.mark.slow
def test_two_ranks_end_with_one_critic_and_one_student(tmp_path: Path) -> None:
    weights = two_ranks(CRITIC, tmp_path)
    assert "losses.terms.Critic.critic.1.weight" in weights[0]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
