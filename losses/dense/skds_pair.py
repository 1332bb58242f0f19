"""Pair-wise term of structured distillation: match similarities between the cells of one image.

1. both maps are max-pooled to R nodes;
2. A_ij = cosine of the channel vectors of nodes i and j;
3. L = 1 / (B R^2) * sum over images and node pairs of (A^T - A^S)^2.
    skds   kernel int(H s) x int(W s) of the teacher's map with ceil mode (s 0.5: 4 or 9 nodes); the norm plus
           1e-8 divides as a constant, without gradient; weight 0.5
    cirkd  kernel 2x2 with ceil mode (2048 nodes at 64 x 128 cells); ordinary unit norm; weight 10
Two different losses: other nodes, other gradient. R^2 similarities per image and net, for cirkd (H W)^2 / 16.
Liu et al. 2019, https://arxiv.org/abs/1903.04197; structure_knowledge_distillation ce208e1
`utils/criterion.py`, winycg/CIRKD dab64db `losses/skd.py`.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from torch import Tensor
from torch.nn import functional

from kdcache.cache.spec import BadOption, TensorSpec
from kdcache.cache.tasks.table import SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, same_tap
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.options import About, OptionValue, Range
from kdcache.losses.step_inputs import StepInputs

Form = Literal["skds", "cirkd"]


@in_float32
def pairwise_loss(
    student_BCHW: Tensor, teacher_BDHW: Tensor, *, kernel: tuple[int, int], form: Form
) -> Tensor:
    """The loss above for one pooling kernel (rows, columns). Any channel counts."""
    return (_similarity(student_BCHW, kernel, form) - _similarity(teacher_BDHW, kernel, form)).square().mean()


def _similarity(map_BCHW: Tensor, kernel: tuple[int, int], form: Form) -> Tensor:
    """(B, R, R) cosines of the pooled map."""
    nodes_BCR = functional.max_pool2d(map_BCHW, kernel, ceil_mode=True).flatten(2)
    unit_BCR: Tensor = functional.normalize(nodes_BCR, dim=1)
    if form == "skds":
        norm_B1R = nodes_BCR.detach().norm(dim=1, keepdim=True)
        unit_BCR = nodes_BCR / (norm_B1R + 1e-8)
    return unit_BCR.transpose(1, 2) @ unit_BCR


class PairWise(LossTerm):
    """No adapter: the channels of the two maps may differ."""

    method = Method(
        title="Structured distillation, pair-wise term",
        source="Liu et al. 2019, https://arxiv.org/abs/1903.04197",
        code="irfanICMLL/structure_knowledge_distillation ce208e1 utils/criterion.py; "
        "winycg/CIRKD dab64db losses/skd.py",
        defaults="form skds: share 0.5, weight 0.5; form cirkd: weight 10 (beside kd)",
        published="Cityscapes mIoU PSPNet-R18 70.51 -> 71.78 over the pixel-wise term; "
        "CIRKD's table 75.42 DeepLabV3-R18 (student 74.21)",
    )
    tasks = (SEGMENTATION,)

    def __init__(
        self,
        maps: Maps,
        *,
        tap: Annotated[str, About("map of both networks")] = "neck",
        form: Annotated[Form, About("whose pooling and norm")] = "skds",
        share: Annotated[
            float, Range(0.0, 1.0, above=True), About("pooling kernel as a share of the map's sides; skds")
        ] = 0.5,
    ) -> None:
        super().__init__()
        self.tap = tap
        self.form: Form = form
        self.kernel = (2, 2) if form == "cirkd" else _kernel(maps.teacher[tap], share)

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        return same_tap(options)

    @classmethod
    def default_weight(cls, options: Mapping[str, OptionValue]) -> float:
        return 0.5 if options["form"] == "skds" else 10.0

    def forward(self, inputs: StepInputs) -> Tensor:
        return pairwise_loss(
            inputs.student[self.tap], inputs.teacher[self.tap], kernel=self.kernel, form=self.form
        )


def _kernel(teacher: TensorSpec, share: float) -> tuple[int, int]:
    height, width = teacher.shape[:2]
    kernel = (int(height * share), int(width * share))
    if 0 in kernel:
        example = 0.5 if min(height, width) > 1 else 1
        raise BadOption(
            f"share {share:g} of a {height}x{width} map is a pooling kernel of {kernel[0]}x{kernel[1]} cells",
            where="loss term 'skds-pair'",
            fix=f"a share from {1 / min(height, width):.3g} on, such as share={example:g}, or a larger crop",
        )
    return kernel
