"""GID: distil where teacher and student disagree most about an object: features, relations, answers there.

Instances, without gradient, of each image: per position |max_k sigma(t) - max_k sigma(s)| and the box of the
network whose score is higher; the 3,000 of largest gap, clipped to the canvas, sides of 10 pixels and more;
suppression at IoU 0.3; 10 are kept. Features of both pyramids are cut to 10 x 10 (`rois.py`).
    feature  = sum (f_s - f_t)^2 / (100 R)                                          R instances of the batch
    relation = sum hub(d_s - d_t) / (R^2 - R), d the distances of flattened features over their mean; R > 2
    cls      = sum bce(s, sigma(t)) / A         at the A anchors with IoU >= 0.5 with an instance, and at the
    reg      = sum |r_s - r_t| / A              best of each instance
r: deltas against the anchor where the head regresses them (retinanet, atss), else sides in strides. Weights
5e-4, 40, 0.1, 1. Dai et al. 2021, https://arxiv.org/abs/2103.02340; daixinghome/Distill_GID_detectron2
9118c54 (the authors' re-implementation; published numbers come from a private one).
"""

from collections.abc import Mapping
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from kdcache.cache.grid import BOX, CLS, FPN
from kdcache.cache.positions import anchors, boxes_at, level_rows, points
from kdcache.cache.spec import Need
from kdcache.cache.tasks.table import DETECTION
from kdcache.losses.contract import LossOutput, LossTerm, Maps, Method, Reads, Weighted
from kdcache.losses.detection.boxes import paired_iou
from kdcache.losses.detection.ld import best_score
from kdcache.losses.detection.match import canvas_of, grids, same_levels, score_notes, shared_levels
from kdcache.losses.detection.rois import (
    Instances,
    greedy_suppression,
    instances_of,
    levels_for,
    roi_align,
)
from kdcache.losses.features.rkd_d import relative_distances
from kdcache.losses.formulas.adapters import align
from kdcache.losses.formulas.levels import at_level, one_or_list
from kdcache.losses.formulas.precision import in_float32
from kdcache.losses.options import About, Count, NotNegative, OptionValue, Share
from kdcache.losses.step_inputs import StepInputs

CANDIDATES = 3000  # of an image, by the gap of the scores
SMALLEST_SIDE = 10  # pixels
ENOUGH_OVERLAP = 0.5  # IoU from which on an anchor answers for an instance
BINS = 10  # of a cut of features, per axis
SMALLEST_SHARE = 1e-6  # of an anchor's side: the least side of a box whose logarithm is taken


@in_float32
def feature_distance(student_RCHW: Tensor, teacher_RCHW: Tensor) -> Tensor:
    """Sum of squared differences over instances and bins; 0 for none."""
    count = max(len(student_RCHW), 1) * student_RCHW.shape[2] * student_RCHW.shape[3]
    return (student_RCHW - teacher_RCHW).square().sum() / count


@in_float32
def relation_distance(student_RCHW: Tensor, teacher_RCHW: Tensor) -> Tensor:
    """Smooth L1 of relative distances, over the R^2 - R ordered pairs; 0 for fewer than three instances."""
    count = len(student_RCHW)
    if count < 3:
        return student_RCHW.sum() * 0.0
    student, teacher = (relative_distances(side.flatten(1)) for side in (student_RCHW, teacher_RCHW))
    return functional.smooth_l1_loss(student, teacher, reduction="sum") / (count**2 - count)


@in_float32
def class_response(student_AK: Tensor, teacher_AK: Tensor) -> Tensor:
    """Sum over anchors and classes, not yet divided by the anchors."""
    target_AK = teacher_AK.sigmoid()
    return functional.binary_cross_entropy_with_logits(student_AK, target_AK, reduction="sum")


@in_float32
def box_response(student_A4: Tensor, teacher_A4: Tensor) -> Tensor:
    """Sum over anchors and sides, not yet divided by the anchors."""
    return (student_A4 - teacher_A4).abs().sum()


@in_float32
def deltas_of(boxes_N4: Tensor, anchors_N4: Tensor) -> Tensor:
    """(N, 4): shift of the centre in sides of the anchor, logarithm of the ratio of the sides."""
    anchor_sides, sides = (rows[..., 2:] - rows[..., :2] for rows in (anchors_N4, boxes_N4))
    shift = ((boxes_N4[..., :2] + boxes_N4[..., 2:]) - (anchors_N4[..., :2] + anchors_N4[..., 2:])) / 2
    return torch.cat([shift / anchor_sides, (sides / anchor_sides).clamp(min=SMALLEST_SHARE).log()], dim=-1)


pixels_of = in_float32(boxes_at)


class Answers(NamedTuple):
    """One network's, level by level: class logits (B, P_l, K), sides in strides (B, P_l, 4)."""

    cls: list[Tensor]
    box: list[Tensor]


class GeneralInstances(LossTerm):
    """Its instances depend on the student, so nothing smaller than whole maps can be kept of the
    teacher. Defined per micro batch: means and relations are those of its instances.
    """

    method = Method(
        title="General instance distillation",
        source="Dai et al. 2021, https://arxiv.org/abs/2103.02340",
        code="daixinghome/Distill_GID_detectron2 9118c54",
        cacheable="yes, large maps: the features, scores and boxes of all positions",
        modules="a 1x1 convolution per level where channels differ (published: none)",
        defaults="feature 5e-4, relation 40, cls 0.1, box 1; 10 instances, suppression at 0.3",
        published="COCO AP RetinaNet-R101 -> R50 39.1 (36.2), by the authors' private code",
        detectors=("retinanet",),
        elsewhere=("fcos", "atss", "gfl"),
    )
    per_micro_batch = "means and relations are those of its instances"
    tasks = (DETECTION,)

    def __init__(
        self,
        maps: Maps,
        *,
        feature: Annotated[NotNegative, About("weight of the cut features")] = 5e-4,
        relation: Annotated[NotNegative, About("weight of the distances between instances")] = 40.0,
        cls: Annotated[NotNegative, About("weight of the classes at the instances' anchors")] = 0.1,
        box: Annotated[NotNegative, About("weight of the boxes at the instances' anchors")] = 1.0,
        instances: Annotated[Count, About("kept per image")] = 10,
        nms: Annotated[Share, About("IoU from which on a lesser instance is dropped")] = 0.3,
    ) -> None:
        super().__init__()
        self.grid, teacher_grid = grids("gid", maps)
        self.canvas = canvas_of(maps)
        self.cls_taps = same_levels("gid", maps, CLS).taps
        self.box_taps = same_levels("gid", maps, BOX).taps
        self.fpn_taps = shared_levels("gid", maps).taps
        self.weights = {"feature": feature, "relation": relation, "cls": cls, "box": box}
        self.num_instances, self.nms = instances, nms
        self.notes = score_notes(self.grid, teacher_grid)
        self.align = one_or_list(
            [align(maps.student[s].channels, maps.teacher[t].channels) for s, t in self.fpn_taps]
        )

    @classmethod
    def reads(cls, options: Mapping[str, OptionValue]) -> Reads:
        kinds = (FPN, CLS, BOX)
        return Reads(kinds, tuple(Need(tap=kind) for kind in kinds))

    def forward(self, inputs: StepInputs) -> LossOutput:
        student = self._answers(inputs.student, 0)
        teacher = self._answers(inputs.teacher, 1)
        boxes_BK4, there_BK = self.select(student, teacher)
        features = self._cut(inputs, instances_of(boxes_BK4, there_BK))
        cls, box = self._responses(student, teacher, boxes_BK4, there_BK)
        values = {
            "feature": feature_distance(*features),
            "relation": relation_distance(*features),
            "cls": cls,
            "box": box,
        }
        return {name: Weighted(value, self.weights[name]) for name, value in values.items()}

    @torch.no_grad()
    def select(self, student: Answers, teacher: Answers) -> tuple[Tensor, Tensor]:
        """Instances of each image: (B, most, 4) boxes in pixels, and (B, most) whether there is one."""
        ours_BP, theirs_BP = (
            torch.cat([best_score(level) for level in side.cls], 1) for side in (student, teacher)
        )
        our_boxes, their_boxes = (self._pixels(side) for side in (student, teacher))
        boxes_BP4 = torch.where((theirs_BP > ours_BP)[..., None], their_boxes, our_boxes)
        gap_BP = (theirs_BP - ours_BP).abs()
        best_BN = gap_BP.topk(min(CANDIDATES, gap_BP.shape[1]), dim=1).indices
        boxes_BN4 = boxes_BP4.gather(1, best_BN[..., None].expand(-1, -1, 4))
        height, width = self.canvas
        limit = boxes_BN4.new_tensor([width, height, width, height])
        boxes_BN4 = torch.minimum(boxes_BN4.clamp(min=0), limit)
        large_BN = ((boxes_BN4[..., 2:] - boxes_BN4[..., :2]) >= SMALLEST_SIDE).all(-1)
        return greedy_suppression(boxes_BN4, large_BN, overlap=self.nms, most=self.num_instances)

    def anchors_of(self, boxes_BK4: Tensor, there_BK: Tensor) -> Tensor:
        """(B, P) bool: anchors with enough overlap, and each instance's best however small that is."""
        all_anchors = torch.cat(anchors(self.grid, *self.canvas, device=boxes_BK4.device))
        iou_BKP = paired_iou(boxes_BK4[:, :, None], all_anchors) * there_BK[..., None]
        best_BK1 = iou_BKP.amax(2, keepdim=True)
        chosen_BKP = (iou_BKP >= ENOUGH_OVERLAP) | ((iou_BKP == best_BK1) & (best_BK1 > 0))
        return chosen_BKP.any(1)

    def _answers(self, maps: Mapping[str, Tensor], side: int) -> Answers:
        return Answers(
            *(
                [level_rows(maps[pair[side]], self.grid.anchors_per_cell) for pair in taps]
                for taps in (self.cls_taps, self.box_taps)
            )
        )

    def _pixels(self, side: Answers) -> Tensor:
        """(B, P, 4) x1 y1 x2 y2."""
        places = points(self.grid, *self.canvas, device=side.box[0].device)
        levels = zip(places, side.box, self.grid.strides, strict=True)
        return torch.cat([pixels_of(xy, sides, stride) for xy, sides, stride in levels], 1)

    def _cut(self, inputs: StepInputs, instances: Instances) -> tuple[Tensor, Tensor]:
        """(R, C, 10, 10) of the student and of the teacher, in one order of instances."""
        strides = [_stride(self.grid.strides, self.grid.groups[FPN], pair.student) for pair in self.fpn_taps]
        levels_R = levels_for(instances.boxes_R4, strides)
        ours, theirs = [], []
        for index, (pair, stride) in enumerate(zip(self.fpn_taps, strides, strict=True)):
            there_R = levels_R == index
            here = Instances(instances.boxes_R4[there_R], instances.images_R[there_R])
            aligned = at_level(self.align, index)(inputs.student[pair.student])
            ours.append(roi_align(aligned, here, stride=stride, bins=BINS))
            theirs.append(roi_align(inputs.teacher[pair.teacher], here, stride=stride, bins=BINS))
        return torch.cat(ours), torch.cat(theirs)

    def _responses(
        self, student: Answers, teacher: Answers, boxes_BK4: Tensor, there_BK: Tensor
    ) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            chosen_BP = self.anchors_of(boxes_BK4, there_BK)
        count = chosen_BP.sum().clamp(min=1)
        split = torch.split(chosen_BP, [level.shape[1] for level in student.cls], 1)
        cls = [
            class_response(s[here], t[here])
            for s, t, here in zip(student.cls, teacher.cls, split, strict=True)
        ]
        box = [
            box_response(*(self._regressed(side, index)[here] for side in (student, teacher)))
            for index, here in enumerate(split)
        ]
        return torch.stack(cls).sum() / count, torch.stack(box).sum() / count

    def _regressed(self, side: Answers, level: int) -> Tensor:
        """(B, P_l, 4): the numbers that the head regresses."""
        sides = side.box[level]
        if self.grid.num_bins or self.grid.assigner == "fcos":
            return sides
        xy = points(self.grid, *self.canvas, device=sides.device)[level]
        around = anchors(self.grid, *self.canvas, device=sides.device)[level]
        return deltas_of(pixels_of(xy, sides, self.grid.strides[level]), around)


def _stride(strides: tuple[int, ...], taps: tuple[str, ...], tap: str) -> int:
    return strides[taps.index(tap)]
