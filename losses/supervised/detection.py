"""The supervised loss of dense detectors, by what the student's grid says it is.

N: positives, averaged over the ranks (`Matched`). Sums and divisors as in mmdet; all four are divided so
that several ranks give the gradient of one.
torchvision's own losses differ by divisors alone: its FCOS sums boxes unweighed over N, its RetinaNet divides
each image by that image's N and takes the mean of the images.

| head | class | box | beside |
|---|---|---|---|
| gfl (bins) | quality focal / N | 2 (1 - GIoU) weighed by the best score / the sum of those | 0.25 DFL / 4 |
| atss | focal / N | 2 (1 - GIoU) weighed by centerness / the sum of those | centerness / N |
| fcos | focal / N | 1 - GIoU weighed by centerness / the sum of those | centerness / N |
| retinanet (max_iou) | focal / N | L1 of the four deltas against the anchor / N | |

Axes: B images, P positions, R rows (positions of one level of all images), N positives among them, K classes,
S bins of a side.
"""

from collections.abc import Iterator
from typing import Annotated, Literal, NamedTuple

import torch
from torch import Tensor

from kdcache.cache.grid import BINS, BOX, CLS, CTR, DenseGrid
from kdcache.cache.positions import boxes_at, level_rows, sides_of
from kdcache.cache.spec import BadOption
from kdcache.cache.tasks.table import DETECTION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Weighted
from kdcache.losses.detection.assign import Positions, match, positions
from kdcache.losses.detection.boxes import encode, paired_giou, paired_iou
from kdcache.losses.detection.head_losses import (
    centerness_sum,
    distribution_focal,
    focal_sum,
    quality_focal_sum,
)
from kdcache.losses.detection.matched import Matched
from kdcache.losses.formulas.gather import mean_over_ranks
from kdcache.losses.options import About
from kdcache.losses.step_inputs import StepInputs

GIOU_WEIGHT = 2.0
DFL_WEIGHT = 0.25
_READ = (CLS, BOX, BINS, CTR)
_BCKD_EPS, _BCKD_SUM_EPS = 1e-4, 1e-6  # of BCKD's code, TinyTigerPan/BCKD 121c9aa


class Level(NamedTuple):
    """One level's rows: what the student says, and what it should say."""

    stride: int  # pixels
    logits_RK: Tensor
    labels_R: Tensor  # -1 background, -2 ignored
    weights_R: Tensor
    # Of its positives alone, boxes in strides:
    said_N4: Tensor
    boxes_N4: Tensor
    points_N2: Tensor
    anchors_N4: Tensor
    centerness_N: Tensor  # target
    bins_N4S: Tensor | None
    ctr_N: Tensor | None


BCKD_FORM = (
    "the boxes of positives are weighed in BCKD's form, as its code trains gfl; task(score=own) takes GFL's"
)


class Supervised(LossTerm):
    """Always present; `task(weight=...)` scales it. `prepare` assigns objects to positions for all
    terms. Defined per micro batch: sums are divided by its positives and their weights.
    """

    method = Method(
        title="The supervised loss of dense detection",
        source="GFL (Li et al. 2020), ATSS (Zhang et al. 2020), FCOS (Tian et al. 2019), RetinaNet (Lin et "
        "al. 2017), by the student",
        code="mmdetection 2.28 models/dense_heads; score=bckd: TinyTigerPan/BCKD 121c9aa",
        published="-",
    )
    per_micro_batch = "sums are divided by its positives and their weights"
    tasks = (DETECTION,)
    student_taps = (CLS, BOX)
    optional_taps = (BINS, CTR)

    def __init__(
        self,
        maps: Maps,
        *,
        score: Annotated[
            Literal["own", "bckd", "auto"],
            About("weight of a positive's box, of gfl: its best score, or BCKD's form; auto = bckd on gfl"),
        ] = "own",
    ) -> None:
        super().__init__()
        if maps.student_grid is None:
            raise BadOption(
                "the student has no pyramid of dense maps, which a detector is trained on",
                where="the student of a run on boxes",
                fix="take gfl:r18, retinanet:ENCODER, fcos:ENCODER or atss:ENCODER",
            )
        self.grid: DenseGrid = maps.student_grid
        if score == "auto":
            score = "bckd" if self.grid.num_bins else "own"
            self.notes = (BCKD_FORM,) if score == "bckd" else ()
        if score != "own" and not self.grid.num_bins:
            raise BadOption(
                f"score={score} weighs the boxes of gfl, and this student has no bins",
                where=f"--loss task(score={score})",
                fix="leave score out, or take a gfl student",
            )
        self.score = score
        self.input_size = maps.facts.input_size
        self._where: dict[tuple[int, int, torch.device], Positions] = {}

    def prepare(self, inputs: StepInputs) -> Matched:
        """Which object each position answers for."""
        return match(inputs.truth, self.grid, self._positions(inputs))

    def forward(self, inputs: StepInputs) -> LossOutput:
        matched = inputs.prepared
        assert isinstance(matched, Matched), "the set of losses asks `prepare` first"
        levels = list(self._levels(inputs, matched))
        if self.grid.num_bins:
            return _gfl(levels, matched.num_positives, self.score)
        if self.grid.assigner == "max_iou":
            return _retinanet(levels, matched.num_positives)
        least, weight = (1e-6, 1.0) if self.grid.assigner == "fcos" else (1.0, GIOU_WEIGHT)
        return _centred(levels, matched.num_positives, least=least, weight=weight)

    def _positions(self, inputs: StepInputs) -> Positions:
        """Made once per size of the canvas and device."""
        size = self.input_size if inputs.images_BHWC is None else tuple(inputs.images_BHWC.shape[1:3])
        key = (size[0], size[1], inputs.truth.device)
        if key not in self._where:
            self._where[key] = positions(self.grid, *key)
        return self._where[key]

    def _levels(self, inputs: StepInputs, matched: Matched) -> Iterator[Level]:
        where, first = self._positions(inputs), 0
        groups = {kind: taps for kind, taps in self.grid.groups.items() if kind in _READ}
        for place, (stride, size) in enumerate(zip(self.grid.strides, matched.level_sizes, strict=True)):
            rows = slice(first, first + size)
            first += size
            maps = {kind: inputs.student[taps[place]] for kind, taps in groups.items()}
            yield _level(maps, matched, where, rows, stride, self.grid.anchors_per_cell)


def _level(
    maps: dict[str, Tensor],
    matched: Matched,
    where: Positions,
    rows: slice,
    stride: int,
    anchors_per_cell: int,
) -> Level:
    """The rows of one level, and its positives picked out."""
    said = {kind: _wide(level_rows(one, anchors_per_cell)).flatten(0, 1) for kind, one in maps.items()}
    labels_R = matched.labels_BP[:, rows].flatten()
    assert len(labels_R) == len(said[CLS]), f"{len(said[CLS])} rows at stride {stride}, not {len(labels_R)}"
    chosen_N = (labels_R >= 0).nonzero().squeeze(1)
    place_N = chosen_N % (rows.stop - rows.start)
    dtype = said[BOX].dtype
    points_N2 = where.points_P2[rows][place_N].to(dtype) / stride
    bins_RS = said.get(BINS)
    return Level(
        stride=stride,
        logits_RK=said[CLS],
        labels_R=labels_R,
        weights_R=matched.weights_BP[:, rows].flatten(),
        said_N4=boxes_at(points_N2, said[BOX][chosen_N], 1),
        boxes_N4=matched.boxes_BP4[:, rows].flatten(0, 1)[chosen_N].to(dtype) / stride,
        points_N2=points_N2,
        anchors_N4=where.anchors_P4[rows][place_N].to(dtype) / stride,
        centerness_N=matched.centerness_BP[:, rows].flatten()[chosen_N].to(dtype),
        bins_N4S=None
        if bins_RS is None
        else bins_RS[chosen_N].reshape(len(chosen_N), 4, bins_RS.shape[1] // 4),
        ctr_N=said[CTR][chosen_N, 0] if CTR in said else None,
    )


def _gfl(levels: list[Level], num_positives: Tensor, score: str) -> LossOutput:
    """mmdet `gfl_head.py`; a positive's box and bins are weighed by its best score, without gradient."""
    cls, box, dfl, weights = [], [], [], []
    for one in levels:
        assert one.bins_N4S is not None, "a head with bins answers them"
        quality_N = paired_iou(one.said_N4.detach(), one.boxes_N4)
        cls.append(quality_focal_sum(one.logits_RK, one.labels_R, one.weights_R, quality_N))
        weight_N = _best_score(one.logits_RK.detach()[one.labels_R >= 0], score)
        box.append((weight_N * (1 - paired_giou(one.said_N4, one.boxes_N4))).sum())
        sides_N4 = sides_of(one.points_N2, one.boxes_N4, 1)
        dfl.append((weight_N * distribution_focal(one.bins_N4S, sides_N4)).sum() / 4)
        weights.append(weight_N.sum())
    total = mean_over_ranks(torch.stack(weights).sum())
    total = total + _BCKD_SUM_EPS if score == "bckd" else total.clamp(min=1)
    return {
        "cls": Weighted(torch.stack(cls).sum() / num_positives, 1.0),
        "box": Weighted(torch.stack(box).sum() / total, GIOU_WEIGHT),
        "dfl": Weighted(torch.stack(dfl).sum() / total, DFL_WEIGHT),
    }


def _centred(levels: list[Level], num_positives: Tensor, *, least: float, weight: float) -> LossOutput:
    """mmdet `atss_head.py` and `fcos_head.py`; boxes are weighed by the centerness that they should have."""
    cls = [focal_sum(one.logits_RK, one.labels_R, one.weights_R) for one in levels]
    box = [(one.centerness_N * (1 - paired_giou(one.said_N4, one.boxes_N4))).sum() for one in levels]
    total = mean_over_ranks(torch.stack([one.centerness_N.sum() for one in levels]).sum()).clamp(min=least)
    terms = {
        "cls": Weighted(torch.stack(cls).sum() / num_positives, 1.0),
        "box": Weighted(torch.stack(box).sum() / total, weight),
    }
    ctr = [centerness_sum(one.ctr_N, one.centerness_N) for one in levels if one.ctr_N is not None]
    return {**terms, "ctr": Weighted(torch.stack(ctr).sum() / num_positives, 1.0)} if ctr else terms


def _retinanet(levels: list[Level], num_positives: Tensor) -> LossOutput:
    """mmdet `retina_head.py`."""
    cls = [focal_sum(one.logits_RK, one.labels_R, one.weights_R) for one in levels]
    box = [
        (encode(one.said_N4, one.anchors_N4) - encode(one.boxes_N4, one.anchors_N4)).abs().sum()
        for one in levels
    ]
    return {
        "cls": Weighted(torch.stack(cls).sum() / num_positives, 1.0),
        "box": Weighted(torch.stack(box).sum() / num_positives, 1.0),
    }


def _best_score(logits_NK: Tensor, score: str) -> Tensor:
    """(N,) the highest class score of each positive, in the form of GFL or of BCKD."""
    if score == "bckd":
        return (logits_NK.sigmoid() + _BCKD_EPS).amax(1) + _BCKD_EPS
    return logits_NK.sigmoid().amax(1)


def _wide(value: Tensor) -> Tensor:
    """Half as float32; float64 stays."""
    return value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
