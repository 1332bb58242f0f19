"""PKD: maps that are standardised per channel, so that only their pattern is compared.

    z = (x - mean) / (std + 1e-6)        per channel over images and cells, std unbiased
    L = sum over taps of 1/2 * mean (z_student - z_teacher)^2        about 1 - Pearson's r

Cao et al. 2022, https://arxiv.org/abs/2207.02039; open-mmlab/mmrazor 90c7af1 `pkd_loss.py`. Gradient flows
through mean and std, which are those of one rank's batch. Equal channels. Where the sizes differ one side is
resized, bilinear without aligned corners. Detection: the first four levels of `fpn`, weight 10 for one-stage
detectors and 6 for two-stage ones; nothing is published for segmentation and classification.
"""

from collections.abc import Mapping
from typing import Annotated, Literal

from torch import Tensor
from torch.nn import functional

from kdcache.cache.grid import FPN
from kdcache.cache.spec import Need
from kdcache.cache.tasks.table import CLASSIFICATION, DETECTION, SEGMENTATION
from kdcache.losses.contract import LossTerm, Maps, Method, Reads, same_taps
from kdcache.losses.detection.match import TapPair, tap_pairs
from kdcache.losses.formulas.levels import SAME, read_shares, shared_sum
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.formulas.rows import as_map
from kdcache.losses.formulas.shapes import check_same_channels
from kdcache.losses.options import About, OptionValue, Range
from kdcache.losses.step_inputs import StepInputs, plain_rows

EPSILON = 1e-6


@in_float32
def pearson_distance(student_BCHW: Tensor, teacher_BCHW: Tensor) -> Tensor:
    """1/2 * mean squared difference of the standardised maps. NaN for a single value per channel."""
    return functional.mse_loss(standardised(student_BCHW), standardised(teacher_BCHW)) / 2


def standardised(map_BCHW: Tensor) -> Tensor:
    """(C, B H W), per channel of mean 0 and deviation 1. A constant channel is 0 and has no gradient."""
    rows_CN = map_BCHW.transpose(0, 1).flatten(1)
    return (rows_CN - rows_CN.mean(1, keepdim=True)) / (rows_CN.std(1, keepdim=True) + EPSILON)


class PearsonFeatures(LossTerm):
    """A single value per channel (one image, one cell) has no pattern: 0 with a zero gradient. Defined
    per micro batch: mean and deviation of each channel are batch statistics.
    """

    method = Method(
        title="Pearson KD of features",
        source="Cao et al. 2022, https://arxiv.org/abs/2207.02039",
        code="open-mmlab/mmrazor 90c7af1 mmrazor/models/losses/pkd_loss.py",
        defaults="detection: the first 4 levels of fpn, weight 10 (one-stage), 6 (two-stage); published for "
        "detection only",
        published="COCO RetinaNet-X101 -> RetinaNet-R50 40.8 AP (student 37.4)",
        detectors=("retinanet", "fcos"),
        elsewhere=("atss", "gfl"),
    )
    per_micro_batch = "mean and deviation of each channel are batch statistics"
    same_size = False
    same_channels = True
    tasks = (SEGMENTATION, CLASSIFICATION, DETECTION)
    task_settings = {
        CLASSIFICATION: {"taps": "stage3"},
        DETECTION: {"taps": FPN, "levels": 4, "weight": 10.0},
    }
    published_weight = 6.0

    def __init__(
        self,
        maps: Maps,
        *,
        taps: Annotated[str, About("maps of both sides, separated by /")] = "neck",
        resize: Annotated[
            Literal["student", "teacher"], About("which side takes the other's size where they differ")
        ] = "student",
        levels: Annotated[
            int | Literal["all"], Range(1), About("how many of the maps, the finest first")
        ] = "all",
        shares: Annotated[str, About("factor of each map, separated by /, or the word same")] = SAME,
    ) -> None:
        super().__init__()
        pairs, self.notes = tap_pairs("pkd", maps, taps, first=_first(taps, levels))
        self.pairs = pairs if levels == "all" else pairs[:levels]
        self.shares = read_shares("pkd", shares, len(self.pairs))
        self.resize = resize
        for one in self.pairs:
            check_same_channels("pkd", one.student, maps.student[one.student], maps.teacher[one.teacher])

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        """A level that no pair is made of is not asked of the teacher: a cache would store it for nobody."""
        if first := _first(str(options["taps"]), options["levels"]):
            return Reads((FPN,), (Need(tap=FPN, first=first),))
        return same_taps(options)

    def forward(self, inputs: StepInputs) -> Tensor:
        return shared_sum([self._level(one, inputs) for one in self.pairs], self.shares)

    def _level(self, pair: TapPair, inputs: StepInputs) -> Tensor:
        student = as_map(plain_rows(inputs, inputs.student[pair.student]))
        teacher = as_map(plain_rows(inputs, inputs.teacher[pair.teacher]))
        if student.shape[-2:] != teacher.shape[-2:]:
            if self.resize == "student":
                student = _resized(student, teacher)
            else:
                teacher = _resized(teacher, student)
        if student[:, 0].numel() == 1:
            return student.float().sum() * 0.0
        return pearson_distance(student, teacher)


def _first(taps: str, levels: OptionValue) -> int:
    """How many levels of `fpn` are read where it is all that is compared; 0: all of them."""
    return int(levels) if taps == FPN and levels != "all" else 0  # type: ignore[arg-type]


def _resized(map_BCHW: Tensor, like_BCHW: Tensor) -> Tensor:
    return functional.interpolate(map_BCHW, size=like_BCHW.shape[-2:], mode="bilinear", align_corners=False)
