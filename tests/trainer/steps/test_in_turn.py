"""Networks in turn: one moves per step, by its own optimizer, and all of it resumes."""

from pathlib import Path

import pytest
import torch
from fake_run import CONFIG, Killed, parts, results, run
from rank_steps import two_ranks

from kdcache.cache.errors import BadOption
from kdcache.trainer.folder.checkpoint import list_checkpoints
from kdcache.trainer.ranks import start_accelerator
from kdcache.trainer.steps.choose import make_stepper
from kdcache.trainer.steps.in_turn import InTurnStepper

IN_TURN = "fake_methods:InTurn"


@pytest.mark.slow
@pytest.mark.parametrize("micro_step", [5, 9])
def test_killed_and_resumed_ends_bit_identical(tmp_path: Path, micro_step: int) -> None:
    run(tmp_path / "whole" / "r", loss=IN_TURN)
    with pytest.raises(Killed):
        run(tmp_path / "r", loss=IN_TURN, kill_at=micro_step)
    run(tmp_path / "r", loss=IN_TURN, resume=True)
    assert results(tmp_path / "r") == results(tmp_path / "whole" / "r")


def test_step_n_moves_network_n_modulo_their_number_and_no_other(tmp_path: Path) -> None:
    accelerator = start_accelerator(CONFIG, tmp_path, start=0)
    made = parts(CONFIG, loss=IN_TURN)(accelerator)
    stepper = make_stepper(CONFIG, made, accelerator, sync_bn=False)
    assert isinstance(stepper, InTurnStepper)
    batches = made.stream.run()
    first = [list(network.parameters())[0] for network in stepper.peers.networks]
    assert not torch.equal(first[0], first[1])  # they begin at different weights
    for step in range(5):
        before = [weight.detach().clone() for weight in first]
        stepper.step(step, batches, made.stream)
        moved = [not torch.equal(a, b) for a, b in zip(before, first, strict=True)]
        assert moved == [index == step % 3 for index in range(3)]


def test_every_optimizer_is_in_the_checkpoint_and_one_network_is_exported(tmp_path: Path) -> None:
    run(tmp_path / "r", loss=IN_TURN)
    files = {path.name for path in list_checkpoints(tmp_path / "r")[-1].iterdir()}
    assert {"optimizer.pt", "optimizer1.pt", "optimizer2.pt"} <= files
    exported = torch.load(tmp_path / "r" / "student.pt", weights_only=True)
    assert {name for name in exported if name.endswith("weight")} == {
        "model.0.0.weight", "model.0.1.weight", "model.1.weight",
    }  # fmt: skip


def test_learned_parts_of_a_loss_beside_networks_in_turn_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadOption, match="learned parts beside networks that learn in turn") as error:
        run(tmp_path / "r", loss=f"{IN_TURN}+mgd(cwd=0)")
    assert "learn together" in error.value.fix


@pytest.mark.slow
def test_two_ranks_end_with_equal_networks(tmp_path: Path) -> None:
    weights = two_ranks(IN_TURN, tmp_path)
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name
