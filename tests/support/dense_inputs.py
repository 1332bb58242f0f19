"""Maps, truth and assignment of small dense detectors for tests of detection losses.

The assignment is a plain one: a position whose point lies in a box answers for it, the first of several, on
every level. What a real one is does not matter to a loss that reads it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from bare_inputs import step_inputs
from torch import Tensor

from kdcache.cache.grid import DenseGrid
from kdcache.cache.positions import points
from kdcache.cache.spec import TensorSpec
from kdcache.cache.tasks.table import DETECTION
from kdcache.losses.contract import Facts, LossTerm, Maps
from kdcache.losses.detection.matched import Matched
from kdcache.losses.loss_set import LossSet, WeightedTerm
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.plan.table import TASK
from kdcache.losses.step_inputs import StepInputs

CLASSES, CANVAS = 5, (64, 96)
GFL = DenseGrid(levels=(3, 4, 5), strides=(8, 16, 32), num_bins=9)
ATSS = replace(GFL, num_bins=0, score="sigmoid*ctr")
FCOS = replace(ATSS, assigner="fcos")
RETINANET = replace(GFL, num_bins=0, anchors_per_cell=9, assigner="max_iou")
GRIDS = {"gfl": GFL, "atss": ATSS, "fcos": FCOS, "retinanet": RETINANET}
OBJECTS = (  # two images: x1 y1 x2 y2 class
    ((4.0, 6.0, 30.0, 28.0, 1), (40.0, 20.0, 90.0, 60.0, 3), (50.0, 2.0, 62.0, 14.0, 0)),
    ((10.0, 30.0, 46.0, 62.0, 4),),
)


class Scene(NamedTuple):
    """One step of a student and a teacher."""

    maps: Maps
    inputs: StepInputs


def truth_of(objects: Sequence[Sequence[Sequence[float]]]) -> Tensor:
    """(B, M, 5) float32, padded with class -1."""
    most = max((len(rows) for rows in objects), default=0)
    truth = torch.zeros(len(objects), most, 5)
    truth[..., 4] = -1
    for image, rows in enumerate(objects):
        if rows:
            truth[image, : len(rows)] = torch.tensor(rows, dtype=torch.float32)
    return truth


def assigned(grid: DenseGrid, truth_BM5: Tensor, canvas: tuple[int, int] = CANVAS) -> Matched:
    """As the head of this file says; N is at least 1."""
    levels = points(grid, *canvas)
    all_points = torch.cat(levels)
    labels, boxes = [], []
    for rows in truth_BM5:
        label = torch.full((len(all_points),), -1)
        box = torch.zeros(len(all_points), 4)
        for x1, y1, x2, y2, number in reversed([row for row in rows.tolist() if row[4] >= 0]):
            inside = (all_points >= torch.tensor([x1, y1])) & (all_points <= torch.tensor([x2, y2]))
            label[inside.all(1)] = int(number)
            box[inside.all(1)] = torch.tensor([x1, y1, x2, y2])
        labels.append(label)
        boxes.append(box)
    labels_BP = torch.stack(labels)
    sizes = [len(level) for level in levels]
    there = [(part >= 0).any() for part in torch.split(labels_BP, sizes, 1)]
    count = (labels_BP >= 0).sum().clamp(min=1).float()
    ones = torch.ones(labels_BP.shape)
    return Matched(labels_BP, ones, torch.stack(boxes), 0 * ones, torch.stack(there), tuple(sizes), count)


def specs_of(grid: DenseGrid, *, classes: int = CLASSES, channels: int = 8, canvas: tuple[int, int] = CANVAS
) -> dict[str, TensorSpec]:  # fmt: skip
    anchors = grid.anchors_per_cell
    widths = {"fpn": channels, "cls": anchors * classes, "box": anchors * 4, "ctr": anchors}
    widths["bins"] = anchors * 4 * grid.num_bins
    return {
        tap: TensorSpec((*cells, widths[kind]), stride)
        for kind, taps in grid.groups.items()
        for tap, cells, stride in zip(taps, grid.cells(*canvas), grid.strides, strict=True)
    }


def drawn(specs: Mapping[str, TensorSpec], rows: int, seed: int, dtype: torch.dtype) -> dict[str, Tensor]:
    """Boxes are about three strides to each side, as those of a detector."""
    source = torch.Generator().manual_seed(seed)
    maps = {}
    for tap, spec in specs.items():
        value = torch.randn(rows, spec.channels, *spec.shape[:-1], generator=source, dtype=torch.float64)
        maps[tap] = (3 + value.clamp(-2, 2) if tap.startswith("box") else value).to(dtype)
    return maps


def scene(
    student: DenseGrid = GFL,
    teacher: DenseGrid | None = None,
    *,
    objects: Sequence[Sequence[Sequence[float]]] = OBJECTS,
    classes: int = CLASSES,
    channels: tuple[int, int] = (8, 8),
    canvas: tuple[int, int] = CANVAS,
    dtype: torch.dtype = torch.float64,
    seed: int = 0,
) -> Scene:
    """Random answers of both sides, the student's as leaves."""
    teacher = teacher or student
    sides = [
        specs_of(grid, classes=classes, channels=width, canvas=canvas)
        for grid, width in zip((student, teacher), channels, strict=True)
    ]
    facts = Facts(DETECTION, classes, input_size=canvas)
    truth = truth_of(objects)
    ours = {tap: value.requires_grad_() for tap, value in drawn(sides[0], len(objects), seed, dtype).items()}
    theirs = drawn(sides[1], len(objects), seed + 1, dtype)
    inputs = step_inputs(ours, theirs, truth, prepared=assigned(student, truth, canvas))
    return Scene(Maps(*sides, facts, student, teacher), inputs)


class SetWithMatched(LossSet):
    """A set without the task's own term, whose assignment comes with the inputs."""

    def _prepared(self, inputs: StepInputs) -> object:
        return inputs.prepared


def dense_set(expression: str, maps: Maps, dtype: torch.dtype = torch.float64) -> LossSet:
    """The terms of an expression with groups of taps, the task loss left out."""
    plan = parse_losses(expression, preset=None, task=DETECTION)
    terms = []
    for term in plan.terms:
        if term.name == TASK:
            continue
        factory: Any = term.loss_class
        module: LossTerm = factory(maps, **term.options)
        terms.append(WeightedTerm(term.label, term.weight, module, term.schedule))
    return SetWithMatched(tuple(terms)).to(dtype)
