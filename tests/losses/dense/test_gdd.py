"""GDD and the masked methods: where their randomness comes from, gradients, published settings."""

from typing import Any

import pytest
import torch
from bare_inputs import step_inputs
from torch import Tensor

from kdcache.cache.spec import TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps
from kdcache.losses.dense.cwd import ChannelWise
from kdcache.losses.dense.gdd import GenerativeDenoise
from kdcache.losses.dense.mgd import MaskedGeneration
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs


def drawn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def maps(student: int = 3, teacher: int = 4, tap: str = "stage4") -> Maps:
    return Maps({tap: TensorSpec((3, 5, student), 8)}, {tap: TensorSpec((3, 5, teacher), 8)})


def inputs(seed: int = 0, tap: str = "stage4") -> StepInputs:
    made = step_inputs({tap: drawn(2, 3, 3, 5, seed=1)}, {tap: drawn(2, 4, 3, 5, seed=2)})
    made.generator.manual_seed(seed)
    return made


@pytest.mark.parametrize(
    ("term", "tap"),
    [
        (GenerativeDenoise, "stage4"),
        (MaskedGeneration, "stage4"),
        (ChannelWise, "neck"),
    ],
)
def test_the_gradient_is_that_of_the_value(term: Any, tap: str) -> None:
    module: LossTerm = term(maps(tap=tap), taps=tap).double()

    def loss(student: Tensor) -> Any:
        return module(inputs(tap=tap)._replace(student={tap: student}))

    assert torch.autograd.gradcheck(loss, (drawn(2, 3, 3, 5, seed=1).requires_grad_(),))


def test_the_noise_is_one_map_per_image_from_the_step_s_generator() -> None:
    term = GenerativeDenoise(maps()).double()
    first, again, other = (term.draw_noise(drawn(2, 4, 3, 5, seed=1), inputs(seed)) for seed in (0, 0, 1))
    assert first.shape == (2, 1, 3, 5)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert term(inputs(0)).item() == term(inputs(0)).item() != term(inputs(1)).item()
    large = term.draw_noise(torch.zeros(8, 4, 64, 64), inputs())
    assert large.std().item() == pytest.approx(1, abs=0.02)


def test_equal_channels_need_no_align() -> None:
    for term in (GenerativeDenoise, MaskedGeneration):
        assert not list(term(maps(4, 4)).align.parameters())
        assert list(term(maps(3, 4)).align.parameters())


def test_published_settings_of_both_tasks() -> None:
    plan = parse_losses("gdd", preset=None, task=SEGMENTATION)
    assert {term.label: term.weight for term in plan.terms} == {"task": 1.0, "gdd": 145.0}
    assert next(term for term in plan.terms if term.name == "gdd").options == {
        "taps": "stage4",
        "tau": 4.0,
        "shares": "same",
    }
    plan = parse_losses("mgd", preset=None, task="classification")
    assert {term.label: term.weight for term in plan.terms} == {"task": 1.0, "mgd": 7e-5}
    options = next(term for term in plan.terms if term.name == "mgd").options
    assert (options["mask"], options["mask_ratio"]) == ("channel", 0.15)


def test_a_channel_mask_hides_whole_channels_of_the_aligned_map() -> None:
    term = MaskedGeneration(maps(), mask="channel", mask_ratio=0.5)
    mask = term.draw_mask(torch.zeros(64, 4, 3, 5), inputs())
    assert mask.shape == (64, 4, 1, 1)
    assert mask.mean().item() == pytest.approx(0.5, abs=0.1)
