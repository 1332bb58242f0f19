"""The supervised loss, of segmentation and of classification.

Segmentation: cross-entropy at label size, plus the auxiliary head's.
1. logits are upsampled to the label's size, bilinear with aligned corners;
2. cross-entropy, mean over the pixels whose label is not 255;
3. + 0.4 times the same on the student's `aux` logits.
As in winycg/CIRKD dab64db `losses/task.py` and OSVAI/Af-DCD 5b086a7 `losses/task.py`.
"""

from collections.abc import Mapping
from typing import Annotated

from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import IGNORE
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Reads, Weighted
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.options import About, NotNegative, OptionValue, Share
from kdcache.losses.step_inputs import Mixed, StepInputs, plain_rows


@in_float32
def segmentation_ce(logits_BKhw: Tensor, labels_BHW: Tensor, *, ignore: int = IGNORE) -> Tensor:
    """Mean cross-entropy over counted pixels, in nats. A batch without any counted pixel gives 0 and a zero
    gradient.
    """
    upsampled = functional.interpolate(
        logits_BKhw, size=labels_BHW.shape[-2:], mode="bilinear", align_corners=True
    )
    summed = functional.cross_entropy(upsampled, labels_BHW, ignore_index=ignore, reduction="sum")
    # The framework's own mean is 0 / 0 there, and one such crop would end a run.
    return summed / (labels_BHW != ignore).sum().clamp(min=1)


class SegmentationTask(LossTerm):
    """Always present; `task(weight=...)` scales it, `task(aux_weight=...)` the auxiliary head within it."""

    method = Method(
        title="The supervised loss of segmentation",
        source="cross-entropy at label size, and of the auxiliary head",
        code="winycg/CIRKD dab64db losses/task.py, OSVAI/Af-DCD 5b086a7 losses/task.py",
        published="-",
    )
    tasks = ("segmentation",)
    student_taps = ("logits",)
    optional_taps = ("aux",)

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

    def forward(self, inputs: StepInputs) -> LossOutput:
        main = segmentation_ce(inputs.student["logits"], inputs.labels)
        if not self.has_aux:
            return main
        aux = segmentation_ce(inputs.student["aux"], inputs.labels)
        return {"logits": Weighted(main, 1.0), "aux": Weighted(aux, self.aux_weight)}


@in_float32
def classification_ce(
    logits_BK: Tensor, labels_B: Tensor, mixed: Mixed | None = None, *, smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy in nats; of a mixed image the shares of its two labels weigh the two entropies.

    `smoothing` spreads that much probability over all classes alike.
    """
    own = functional.cross_entropy(logits_BK, labels_B, reduction="none", label_smoothing=smoothing)
    if mixed is None:
        return own.mean()
    other = functional.cross_entropy(logits_BK, mixed.labels_B, reduction="none", label_smoothing=smoothing)
    share_B = mixed.share_B.to(own.dtype)
    return (share_B * own + (1 - share_B) * other).mean()


class ClassificationTask(LossTerm):
    """Cross-entropy of an image's class. With quarter turns only the plain rows count, as in SSKD."""

    method = Method(
        title="The supervised loss of classification", source="cross-entropy", code="ours", published="-"
    )
    tasks = ("classification",)
    student_taps = ("logits",)

    def __init__(
        self,
        maps: Maps,
        *,
        smoothing: Annotated[Share, About("probability spread over all classes alike")] = 0.0,
    ) -> None:
        super().__init__()
        self.smoothing = smoothing

    def forward(self, inputs: StepInputs) -> Tensor:
        logits_BK, labels_B = (plain_rows(inputs, v) for v in (inputs.student["logits"], inputs.labels))
        return classification_ce(logits_BK, labels_B, inputs.mixed, smoothing=self.smoothing)
