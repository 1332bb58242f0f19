"""The supervised loss of segmentation: cross-entropy at label size, plus the auxiliary head's.

1. logits are upsampled to the label's size, bilinear with aligned corners;
2. cross-entropy, mean over the pixels of the whole step whose label is not 255: those of all micro batches
   and ranks, so that one step is the same for any split of its batch;
3. + 0.4 times the same on the student's `aux` logits.
As in winycg/CIRKD dab64db `losses/task.py` and OSVAI/Af-DCD 5b086a7 `losses/task.py`.
"""

from collections.abc import Mapping
from typing import Annotated

from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import IGNORE
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Reads, Weighted
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.options import About, NotNegative, OptionValue
from kdcache.losses.step_inputs import StepInputs


@in_float32
def segmentation_ce(
    logits_BKhw: Tensor, labels_BHW: Tensor, *, ignore: int = IGNORE, divisor: Tensor | None = None
) -> Tensor:
    """Sum of the cross-entropy over counted pixels, in nats, divided by `divisor`; left out, by their number.
    A batch without any counted pixel gives 0 and a zero gradient.
    """
    upsampled = functional.interpolate(
        logits_BKhw, size=labels_BHW.shape[-2:], mode="bilinear", align_corners=True
    )
    summed = functional.cross_entropy(upsampled, labels_BHW, ignore_index=ignore, reduction="sum")
    # The framework's own mean is 0 / 0 there, and one such crop would end a run.
    return summed / (counted_pixels(labels_BHW, ignore).clamp(min=1) if divisor is None else divisor)


def counted_pixels(labels_BHW: Tensor, ignore: int = IGNORE) -> Tensor:
    """How many pixels the mean is over: int64 scalar."""
    return (labels_BHW != ignore).sum()


class Supervised(LossTerm):
    """Always present; `task(weight=...)` scales it, `task(aux_weight=...)` the auxiliary head within it."""

    method = Method(
        title="The supervised loss of segmentation",
        source="cross-entropy at label size, and of the auxiliary head",
        code="winycg/CIRKD dab64db losses/task.py, OSVAI/Af-DCD 5b086a7 losses/task.py",
        published="-",
    )
    tasks = (SEGMENTATION,)
    student_taps = ("logits",)
    optional_taps = ("aux",)
    counts_labels = True

    def __init__(
        self, maps: Maps, *, aux_weight: Annotated[NotNegative, About("weight of the auxiliary head")] = 0.4
    ) -> None:
        super().__init__()
        self.aux_weight = aux_weight
        self.has_aux = "aux" in maps.student and aux_weight > 0

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        """A head whose loss is switched off is not run: DDP would wait for its gradient."""
        return Reads(cls.student_taps, cls.needs, cls.optional_taps if options["aux_weight"] else ())

    def count_labels(self, truth: Tensor) -> Tensor:
        return counted_pixels(truth)

    def forward(self, inputs: StepInputs) -> LossOutput:
        divisor = inputs.labels_per_batch
        main = segmentation_ce(inputs.student["logits"], inputs.truth, divisor=divisor)
        if not self.has_aux:
            return main
        aux = segmentation_ce(inputs.student["aux"], inputs.truth, divisor=divisor)
        return {"logits": Weighted(main, 1.0), "aux": Weighted(aux, self.aux_weight)}
