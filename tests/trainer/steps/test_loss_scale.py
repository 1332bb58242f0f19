"""Where there is a loss scale the optimizer moves through Accelerate, which knows it. No GPU is needed to see
who is asked."""

from types import SimpleNamespace
from typing import Any

import pytest

from kdcache.trainer.steps.step import Stepper


class _Optimizer:
    """Writes down what is asked of it; Accelerate's wrapper has another inside."""

    def __init__(self, name: str, said: list[str], inside: "_Optimizer | None" = None) -> None:
        self.name, self.said, self.optimizer = name, said, inside

    def step(self) -> None:
        self.said.append(f"{self.name} steps")

    def zero_grad(self) -> None:
        self.said.append(f"{self.name} forgets")


@pytest.mark.parametrize(("scaler", "asked"), [(None, "torch's"), (object(), "accelerate's")])
def test_the_wrapper_moves_the_student_where_there_is_a_loss_scale(scaler: object, asked: str) -> None:
    said: list[str] = []
    stepper: Any = object.__new__(Stepper)
    stepper.accelerator = SimpleNamespace(scaler=scaler)
    stepper.optimizers = [_Optimizer("accelerate's", said, _Optimizer("torch's", said))]
    stepper._move_optimizer()
    assert said == [f"{asked} steps", f"{asked} forgets"]
