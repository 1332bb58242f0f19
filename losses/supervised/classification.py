"""The supervised loss of classification: cross-entropy of an image's class, or of the two that are mixed."""

from typing import Annotated

from torch import Tensor
from torch.nn import functional

from kdcache.cache.tasks.contract import Mixed
from kdcache.cache.tasks.table import CLASSIFICATION
from kdcache.losses.contract import LossTerm, Maps, Method
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.options import About, Share
from kdcache.losses.step_inputs import StepInputs, plain_rows


@in_float32
def classification_ce(
    logits_BK: Tensor, labels_B: Tensor, mixed: Mixed | None = None, *, smoothing: float = 0.0
) -> Tensor:
    """Mean cross-entropy in nats; of a mixed image the shares of its two labels weigh the two entropies.

    `smoothing` spreads that much probability over all classes alike.
    """
    own_B = functional.cross_entropy(logits_BK, labels_B, reduction="none", label_smoothing=smoothing)
    if mixed is None:
        return own_B.mean()
    other_B = functional.cross_entropy(logits_BK, mixed.labels_B, reduction="none", label_smoothing=smoothing)
    share_B = mixed.share_B.to(own_B.dtype)
    return (share_B * own_B + (1 - share_B) * other_B).mean()


class Supervised(LossTerm):
    """Always present; `task(weight=...)` scales it. Of quarter turns the plain rows count, as in SSKD."""

    method = Method(
        title="The supervised loss of classification", source="cross-entropy", code="ours", published="-"
    )
    tasks = (CLASSIFICATION,)
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
        logits_BK, labels_B = (plain_rows(inputs, v) for v in (inputs.student["logits"], inputs.truth))
        return classification_ce(logits_BK, labels_B, inputs.mixed, smoothing=self.smoothing)
