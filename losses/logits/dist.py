"""DIST: match correlations instead of values, between the classes of a row and between the rows of a class.

    p     = softmax(z / tau), rows = images, or all pixels of the whole batch
    rho   = centred cosine, with 1e-8 added to the product of the norms
    inter = tau^2 * (1 - mean over rows of rho(p_S, p_T))
    intra = tau^2 * (1 - mean over classes of rho(p_S, p_T) along the rows)
    L     = beta * inter + gamma * intra
`intra` depends on the rows of this process's batch; one row alone gives tau^2 and no gradient. Pixels with an
ignored label count. Segmentation has 0.4 times the same on the auxiliary logits where both sides
give them.
"""

from collections.abc import Mapping
from typing import Annotated

from torch import Tensor
from torch.linalg import vector_norm

from kdcache.cache.spec import Need, TensorSpec
from kdcache.cache.tasks.table import CLASSIFICATION, DETECTION, SEGMENTATION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Reads, Weighted
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.scores import NO_SOFTMAX
from kdcache.losses.formulas.shapes import check_same_channels
from kdcache.losses.options import About, NotNegative, OptionValue, Positive
from kdcache.losses.step_inputs import StepInputs, plain_rows

EPSILON = 1e-8
NO_AUX = (
    "dist: its term on auxiliary logits is left out, teacher and student do not both give them "
    "('kdcache build --tap aux' adds a teacher's)"
)


@in_float32
def relation_gap(student_NK: Tensor, teacher_NK: Tensor, *, tau: float, dim: int) -> Tensor:
    """tau^2 * (1 - mean correlation) of the softmaxes along `dim`: 1 = inter (classes), 0 = intra (rows)."""
    p_NK, q_NK = ((z_NK / tau).softmax(1) for z_NK in (student_NK, teacher_NK))
    p_NK, q_NK = p_NK - p_NK.mean(dim, keepdim=True), q_NK - q_NK.mean(dim, keepdim=True)
    norms: Tensor = vector_norm(p_NK, dim=dim) * vector_norm(q_NK, dim=dim) + EPSILON
    return tau**2 * (1 - ((p_NK * q_NK).sum(dim) / norms).mean())


class Dist(LossTerm):
    """On maps the logits are compared at their own size, without upsampling. Defined per micro batch:
    the correlations of each class are taken along its rows.
    """

    method = Method(
        title="Distillation from a stronger teacher",
        source="Huang et al. 2022, https://arxiv.org/abs/2205.10536",
        code="hunto/image_classification_sota 6f7a70a; hunto/DIST_KD 2418f18, segmentation",
        defaults="CIFAR: tau 4, weight 2; ImageNet: tau 1, weight 2; segmentation: tau 1, weight 1, aux 0.4 "
        "where teacher and student have auxiliary logits",
        published="CIFAR-100 resnet32x4 -> resnet8x4 76.31; ImageNet R34 -> R18 72.07, R50 -> MobileNetV1 "
        "73.24; Cityscapes DeepLabV3-R18 77.10 mIoU, PSPNet-R18 76.31",
    )
    per_micro_batch = "the correlations of each class are taken along its rows"
    refused = {DETECTION: NO_SOFTMAX}
    task_settings = {
        CLASSIFICATION: {"tau": 4.0, "weight": 2.0},
        SEGMENTATION: {"tau": 1.0, "weight": 1.0, "aux": 0.4},
    }

    def __init__(
        self,
        maps: Maps,
        *,
        tau: Annotated[Positive, About("temperature, divides the logits")] = 1.0,
        beta: Annotated[NotNegative, About("weight between the classes of a row")] = 1.0,
        gamma: Annotated[NotNegative, About("weight between the rows of a class")] = 1.0,
        aux: Annotated[
            NotNegative, About("weight on the auxiliary logits, where both sides have them; 0 = not read")
        ] = 0.0,
    ) -> None:
        super().__init__()
        both = "aux" in maps.student and "aux" in maps.teacher
        self.weights = {"logits": 1.0, **({"aux": aux} if aux and both else {})}
        if aux and not both and _of_pixels(maps.student["logits"]):
            self.notes = (NO_AUX,)
        for tap in self.weights:
            check_same_channels("dist", tap, maps.student[tap], maps.teacher[tap])
        self.tau = tau
        self.beta = beta
        self.gamma = gamma

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        if not options["aux"]:
            return Reads(("logits",), (Need(tap="logits"),))
        return Reads(("logits",), (Need(tap="logits"),), ("aux",), (Need(tap="aux"),))

    def forward(self, inputs: StepInputs) -> LossOutput:
        relations = {}
        for tap, weight in self.weights.items():
            rows = [_rows(plain_rows(inputs, side[tap])) for side in (inputs.student, inputs.teacher)]
            inter, intra = (relation_gap(*rows, tau=self.tau, dim=dim) for dim in (1, 0))
            head = "" if tap == "logits" else f"{tap}_"
            relations[f"{head}inter"] = Weighted(inter, weight * self.beta)
            relations[f"{head}intra"] = Weighted(intra, weight * self.gamma)
        return relations


def _of_pixels(logits: TensorSpec) -> bool:
    """True for maps: networks that score images have no auxiliary head, so nothing is missing there."""
    return len(logits.shape) == 3


def _rows(logits: Tensor) -> Tensor:
    """(B, K) as it is; every pixel of (B, K, H, W) as a row."""
    return logits if logits.ndim == 2 else logits.movedim(1, -1).flatten(0, -2)
