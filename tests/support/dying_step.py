"""A run that is interrupted inside a step."""

from collections.abc import Callable
from typing import Any

import pytest

from kdcache.trainer.steps.step import Stepper, StepResult


def dies_in_step(number: int, run: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin a run that is interrupted when step `number` (from 0) is taken."""
    real = Stepper.step

    def dying(self: Stepper, step: int, *rest: Any) -> StepResult:
        if step == number:
            raise KeyboardInterrupt
        return real(self, step, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Stepper, "step", dying)
        run()
