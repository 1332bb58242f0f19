"""A critic: its own optimizer and moment, the student as it was before the step, every rank alike."""

from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate import Accelerator
from critic_by_hand import ByHand, weights_of
from fake_run import CONFIG, Killed, parts, results, run
from rank_steps import on_two_ranks, two_ranks

from kdcache.trainer.ranks import start_accelerator
from kdcache.trainer.steps.choose import make_stepper
from kdcache.trainer.steps.rivals import _average_gradients
from kdcache.trainer.steps.step import Stepper

CRITIC, CURVED = "fake_methods:Critic", "fake_methods:CurvedCritic"


def stepping(folder: Path, loss: str) -> tuple[Stepper, Any]:
    """A step of the tiny student with this loss, and the stream of its batches."""
    accelerator: Accelerator = start_accelerator(CONFIG, folder, start=0)
    made_parts = parts(CONFIG, loss=loss)(accelerator)
    return make_stepper(CONFIG, made_parts, accelerator, sync_bn=False), made_parts.stream


@pytest.fixture
def made(tmp_path: Path) -> tuple[Stepper, Any]:
    return stepping(tmp_path, CRITIC)


@pytest.mark.slow
@pytest.mark.parametrize("micro_step", [5, 9])
def test_killed_and_resumed_ends_bit_identical(tmp_path: Path, micro_step: int) -> None:
    run(tmp_path / "whole" / "r", loss=CRITIC)
    with pytest.raises(Killed):
        run(tmp_path / "r", loss=CRITIC, kill_at=micro_step)
    run(tmp_path / "r", loss=CRITIC, resume=True)
    assert results(tmp_path / "r") == results(tmp_path / "whole" / "r")


def test_the_exported_student_and_its_optimizer_hold_nothing_of_the_critic(
    tmp_path: Path, made: tuple[Stepper, Any]
) -> None:
    run(tmp_path / "r", loss=CRITIC)
    exported = torch.load(tmp_path / "r" / "student.pt", weights_only=True)
    assert not [name for name in exported if "critic" in name or "align" in name]
    stepper, _ = made
    term = stepper.module.losses.terms["Critic"]
    moved = {p for group in stepper.optimizer.param_groups for p in group["params"]}
    assert not moved & set(term.critic.parameters())
    assert set(term.align.parameters()) < moved


def test_the_critic_moves_once_per_step_by_the_mean_over_its_micro_batches(tmp_path: Path) -> None:
    stepper, stream = stepping(tmp_path, CURVED)
    term = stepper.module.losses.terms["CurvedCritic"]
    by_hand = ByHand(term.critic, steps=CONFIG.steps)
    batches = stream.run()
    for step in (2, 3, 4):
        before = weights_of(term.critic)
        stepper.step(step, batches, stream)
        assert len(term.shown) == CONFIG.accumulate == 2
        wanted = by_hand.step(step, term.shown)
        assert (wanted - before).abs().min() > 1e-4, "a move too small to see anything in it"
        torch.testing.assert_close(weights_of(term.critic), wanted, rtol=0, atol=1e-7)
        assert all(p.grad is None for p in term.critic.parameters())
        term.shown.clear()


def test_the_critic_is_shown_what_the_student_said_before_its_step(tmp_path: Path) -> None:
    stepper, stream = stepping(tmp_path, CURVED)
    term = stepper.module.losses.terms["CurvedCritic"]
    said: list[torch.Tensor] = []
    stepper.module.student.register_forward_hook(lambda _m, _i, maps: said.append(maps["stage4"]))
    stepper.step(0, stream.run(), stream)
    assert len(said) == CONFIG.accumulate
    for maps, (fake, real) in zip(said, term.shown, strict=True):
        assert torch.equal(fake, maps) and not fake.requires_grad
        assert not torch.equal(fake, real)


def test_the_mean_over_ranks_counts_a_missing_gradient_as_zero_and_keeps_every_place() -> None:
    class OtherRank:
        """An accelerator of two ranks: the other one's gradients are 1, 2, 3 ... in order."""

        num_processes = 2

        def reduce(self, value: torch.Tensor, reduction: str) -> torch.Tensor:
            total = value + torch.arange(1.0, 1.0 + len(value))
            return {"sum": total, "mean": total / 2}[reduction]

    weights = [torch.nn.Parameter(torch.zeros(size)) for size in ((2, 3), (2,), (1,))]
    weights[0].grad, weights[2].grad = torch.full((2, 3), 10.0), torch.full((1,), 20.0)
    _average_gradients(weights, OtherRank())  # type: ignore[arg-type]
    grads = [weight.grad for weight in weights]
    assert grads[0] is not None and grads[1] is not None and grads[2] is not None
    assert grads[0].tolist() == [[5.5, 6.0, 6.5], [7.0, 7.5, 8.0]]
    assert (grads[1].tolist(), grads[2].tolist()) == ([3.5, 4.0], [14.5])


def test_the_students_backward_leaves_the_critic_without_a_gradient(made: tuple[Stepper, Any]) -> None:
    stepper, stream = made
    batch = next(stream.run())
    values = stepper.wrapped(stepper._inputs(0, batch, stream))
    values.total.backward()
    assert all(p.grad is None for p in stepper.module.losses.terms["Critic"].critic.parameters())
    assert all(p.grad is not None for p in stepper.module.student.stem.parameters())  # through the critic


@pytest.mark.slow
def test_two_ranks_end_with_one_critic_and_one_student(tmp_path: Path) -> None:
    weights = two_ranks(CRITIC, tmp_path)
    assert "losses.terms.Critic.critic.1.weight" in weights[0]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


@pytest.mark.slow
def test_two_ranks_move_the_critic_by_the_mean_over_the_micro_batches_of_both(tmp_path: Path) -> None:
    ranks = on_two_ranks("rank_critic", tmp_path, str(tmp_path))
    by_hand = ByHand(torch.nn.ParameterList([ranks[0]["weights"][0]]), steps=CONFIG.steps)
    for step, (mine, theirs) in enumerate(zip(ranks[0]["shown"], ranks[1]["shown"], strict=True)):
        assert len(mine) == len(theirs) == CONFIG.accumulate
        assert not torch.equal(mine[0][0], theirs[0][0]), "both ranks were shown the same"
        wanted = by_hand.step(step, [*mine, *theirs])
        for rank in ranks:
            torch.testing.assert_close(rank["weights"][step + 1], wanted, rtol=0, atol=1e-7)
