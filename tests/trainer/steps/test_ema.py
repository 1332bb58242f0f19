"""The averaged student against the closed form of an exponential average, alone and inside steps."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from plain_run import BARE, Bench, assert_close, copy_of
from torch import nn

from kdcache.trainer.steps.step import Ema

DECAY = 0.9


def closed_form(values: list[torch.Tensor], decay: float) -> torch.Tensor:
    """decay**n * w_0 + (1 - decay) * sum over k of decay**(n - k) * w_k, n updates after w_0."""
    count = len(values) - 1
    later = [(1 - decay) * decay ** (count - k) * values[k] for k in range(1, count + 1)]
    return torch.stack([decay**count * values[0], *later]).sum(0)


def normalised() -> nn.Sequential:
    """Weights to average and batch statistics to copy, one of which counts in whole numbers."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def disturb(network: nn.Module, step: int) -> None:
    """Other weights, and other batch statistics."""
    draw = torch.Generator().manual_seed(step)
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(torch.randn(weight.shape, generator=draw))
    network.train()(torch.randn(4, 2, generator=draw))


def test_the_average_is_the_closed_form_of_all_weights_since_the_start() -> None:
    network = normalised()
    ema, seen = Ema(network, DECAY), [copy_of(network)]
    for step in range(5):
        disturb(network, step)
        ema.update(network)
        seen.append(copy_of(network))
    expected = {name: closed_form([one[name] for one in seen], DECAY) for name in seen[0]}
    assert_close(copy_of(ema.network), expected)


@pytest.mark.parametrize("decay", [0.5, 0.999])
def test_one_update_keeps_the_decay_of_the_old_and_takes_the_rest_of_the_new(decay: float) -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 1.0)
    ema = Ema(network, decay)
    nn.init.constant_(network.weight, 3.0)
    ema.update(network)
    assert float(ema.network.weight.detach()) == pytest.approx(decay * 1 + (1 - decay) * 3, rel=1e-6)


def test_batch_statistics_are_those_of_the_last_update_and_not_averaged() -> None:
    network = normalised()
    ema = Ema(network, DECAY)
    for step in range(3):
        disturb(network, step)
        ema.update(network)
    buffers = dict(ema.network.named_buffers())
    assert int(buffers["1.num_batches_tracked"]) == 3
    for name, value in network.named_buffers():
        assert torch.equal(buffers[name], value), name
        assert buffers[name].data_ptr() != value.data_ptr(), name


def test_the_average_is_a_copy_that_no_gradient_and_no_batch_moves() -> None:
    network = normalised()
    ema = Ema(network, DECAY)
    before = {name: value.clone() for name, value in ema.network.state_dict().items()}
    disturb(network, 0)
    ema.network(torch.randn(4, 2))
    assert not ema.network.training and network.training
    assert not any(p.requires_grad for p in ema.network.parameters())
    assert all(p.requires_grad for p in network.parameters())
    for name, value in ema.network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_an_update_leaves_the_student_as_it_is() -> None:
    network = normalised()
    ema = Ema(network, DECAY)
    disturb(network, 0)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    ema.update(network)
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_a_saved_average_comes_back_with_its_statistics() -> None:
    network = normalised()
    ema = Ema(network, DECAY)
    disturb(network, 0)
    ema.update(network)
    other = Ema(normalised(), DECAY)
    other.load_state_dict(ema.state_dict())
    for name, value in ema.network.state_dict().items():
        assert torch.equal(other.network.state_dict()[name], value), name


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_averages_once_per_step_after_the_student_has_moved_and_keeps_the_average(
    tmp_path: Path, accumulate: int
) -> None:
    bench = Bench(tmp_path, replace(BARE, ema=DECAY, accumulate=accumulate))
    seen = [bench.weights()]
    for number in range(4):
        bench.step(number)
        seen.append(bench.weights())
    expected = {name: closed_form([one[name] for one in seen], DECAY) for name in seen[0]}
    assert_close(copy_of(bench.stepper.student), expected)
    assert_close(copy_of(bench.stepper.network), expected)


def test_without_ema_the_student_itself_is_kept(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.step()
    assert bench.stepper.student is bench.stepper.network is bench.stepper.module.student
