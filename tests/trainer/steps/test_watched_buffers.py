"""Which numbers of a network are watched: statistics that a step changes, no mask that began infinite."""

import math
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from kdcache.trainer.steps.finite import Watch


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_statistics_are_watched_and_a_mask_of_minus_infinity_is_not(value: float) -> None:
    network = nn.Linear(2, 2)
    network.register_buffer("mask", torch.tensor([-math.inf, 0.0]))
    network.register_buffer("running_mean", torch.zeros(2))
    accelerator: Any = SimpleNamespace(scaler=None, device=torch.device("cpu"))
    watch = Watch(network, network, accelerator, skips=False)
    watch.see_weights()
    assert float(watch._weights) == 0
    network.get_buffer("running_mean")[1] = value
    watch.see_weights()
    assert float(watch._weights) == 1
