"""The toy task's losses, what losses/supervised/X.py is to a real one; and a distillation for it."""

from torch import Tensor

from kdcache.losses.contract import LossTerm, Maps, Method, same_tap
from kdcache.losses.step_inputs import StepInputs, plain_rows


class Supervised(LossTerm):
    """Mean squared error of the number."""

    method = Method(title="The supervised loss of balance", source="mean square", code="ours", published="-")
    tasks = ("balance",)
    student_taps = ("logits",)

    def __init__(self, maps: Maps) -> None:
        super().__init__()

    def forward(self, inputs: StepInputs) -> Tensor:
        said_B1, truth_B = (plain_rows(inputs, v) for v in (inputs.student["logits"], inputs.truth))
        return (said_B1[:, 0] - truth_B).square().mean()


class Agreement(LossTerm):
    """Mean squared distance from what the teacher says at a tap."""

    tasks = ("balance",)
    reads = staticmethod(same_tap)

    def __init__(self, maps: Maps, *, tap: str = "logits") -> None:
        super().__init__()
        self.tap = tap

    def forward(self, inputs: StepInputs) -> Tensor:
        return (inputs.student[self.tap] - inputs.teacher[self.tap]).square().mean()
