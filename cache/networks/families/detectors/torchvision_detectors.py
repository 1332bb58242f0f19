"""torchvision's one-stage detectors, trained on COCO: `tv:retinanet_resnet50_fpn`, `tv:fcos_resnet50_fpn` ...

Backbone and head are torchvision's own modules under their own names; its transforms, losses and suppression
stay out. Its own files tell 91 slots apart, those that somebody trained with it one more than there are
classes, the background first: the rows of the last layer that are no class are left out as they are read,
which equals leaving out those logits. Two-stage detectors (`tv:fasterrcnn...`, `tv:maskrcnn...`) would
stand here too.

Answers are torchvision's. Trained further, RetinaNet matches objects to the published anchors, torchvision to
sides in whole pixels and to points `size // cells` apart: other anchors answer for some objects, which moves
the loss by less than 1 % at 640x640 and by up to 10 % on small canvases.
"""

import re
from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor, nn
from torchvision.models import get_model, get_model_weights
from torchvision.models.detection.fcos import FCOS
from torchvision.models.detection.retinanet import RetinaNet

from kdcache.cache.grid import FPN, DenseGrid, strides_of
from kdcache.cache.networks.families.detectors.assemble import ENCODER_STRIDE, GRIDS
from kdcache.cache.networks.families.detectors.heads import DenseHead, FcosHead, RetinaHead
from kdcache.cache.networks.families.timm import PAD_MULTIPLE
from kdcache.cache.networks.names import TORCHVISION_NETWORKS, NetworkName
from kdcache.cache.networks.network import Assembly
from kdcache.cache.spec import Task

LAST = "head.classification_head.cls_logits"  # the layer whose size is the number of classes
_NO_CLASS = ("__background__", "N/A")  # what torchvision calls the slots between and before COCO's classes
# Whose batch normalisations were trained without an epsilon; torchvision sets it when it loads them.
_WITHOUT_EPSILON = ("retinanet_resnet50_fpn",)
# In the first files a tower is a row of convolutions and activations, 0, 2, 4, 6, and not of pairs; a block
# of the pyramid is its convolution.
_OLD_TOWER = re.compile(r"^(head\.\w+_head\.conv)\.(\d)\.(weight|bias)$")
_OLD_PYRAMID = re.compile(r"^(backbone\.fpn\.(?:inner|layer)_blocks\.\d)\.(weight|bias)$")
_KEYS = ("0", "1", "2", "p6", "p7")  # of the backbone's levels


class TorchvisionDetector(nn.Module):
    """Returns every level and every map of the head by its tap."""

    def __init__(self, backbone: nn.Module, head: DenseHead) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        levels = self.backbone(images_BCHW)
        size = (images_BCHW.shape[2], images_BCHW.shape[3])
        values = self.head([levels[key] for key in _KEYS], size)
        return {**dict(zip(self.head.grid.groups[FPN], levels.values(), strict=True)), **values}


def assemble_torchvision(
    name: NetworkName, *, num_classes: int, output_stride: int, aux: bool, task: Task
) -> Assembly:
    """Freshly initialised; weights are put in by the loader."""
    del output_stride, aux, task  # its own, none, one
    parts = get_model(name.body, weights=None, weights_backbone=None, num_classes=num_classes)
    if name.body in _WITHOUT_EPSILON:
        for module in parts.backbone.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eps = 0.0
    grid, head = _head_of(parts)
    levels = {tap: f"backbone.fpn#{key}" for tap, key in zip(grid.groups[FPN], _KEYS, strict=True)}
    maps = {tap: f"head#{tap}" for tap in strides_of(grid) if tap not in levels}
    stages = {f"stage{stage}": f"backbone.body.layer{stage}" for stage in (1, 2, 3, 4)}
    return Assembly(
        model=TorchvisionDetector(parts.backbone, head),
        taps={**stages, **levels, **maps},
        returns={path: tap for tap, path in {**levels, **maps}.items()},
        pad_multiple=PAD_MULTIPLE,
        backbone_path="backbone.body",
        backbone_extras=frozenset(("fc.weight", "fc.bias")),
        strides=strides_of(grid),
        grid=grid,
        adapt=partial(adapted, body=name.body, num_classes=num_classes, num_anchors=grid.anchors_per_cell),
        names_in=partial(
            class_names, body=name.body, num_classes=num_classes, num_anchors=grid.anchors_per_cell
        ),
        left_out=partial(
            left_out, body=name.body, num_classes=num_classes, num_anchors=grid.anchors_per_cell
        ),
        heads=(LAST,),
        output_stride=ENCODER_STRIDE,
    )


def _head_of(parts: Any) -> tuple[DenseGrid, DenseHead]:
    if isinstance(parts, RetinaNet):
        grid = GRIDS["retinanet"]
        # torchvision rounds the sides of its anchors to whole pixels on both sides of the centre.
        corners = [cell_A4[:, 2:] - cell_A4[:, :2] for cell_A4 in parts.anchor_generator.cell_anchors]
        return grid, RetinaHead(grid, parts.head, corners, library_points=True)
    assert isinstance(parts, FCOS)
    return GRIDS["fcos"], FcosHead(GRIDS["fcos"], parts.head, library_points=True)


def class_slots(body: str) -> list[int]:
    """The slots of torchvision's own head that are COCO's classes, in COCO's order."""
    return [slot for slot, name in enumerate(_categories(body)) if name not in _NO_CLASS]


def class_names(
    state: Mapping[str, Tensor], *, body: str, num_classes: int, num_anchors: int
) -> tuple[str, ...]:
    """COCO's names where a file has torchvision's slots and they were selected; () for another file, which
    may tell anything apart."""
    bias, slots = state.get(f"{LAST}.bias"), class_slots(body)
    names = _categories(body)
    whole = bias is not None and len(bias) == num_anchors * len(names)
    return tuple(names[slot] for slot in slots) if whole and num_classes == len(slots) else ()


def adapted(
    state: Mapping[str, Tensor], *, body: str, num_classes: int, num_anchors: int
) -> dict[str, Tensor]:
    """A file of torchvision's with one row a class and with the names of today; any other file as it is."""
    paired = any(f".conv.1.{kind}" in name for name in state for kind in ("weight", "0.weight"))
    renamed = {name if paired else _OLD_TOWER.sub(_of_today, name): tensor for name, tensor in state.items()}
    renamed = {_OLD_PYRAMID.sub(r"\1.0.\2", name): tensor for name, tensor in renamed.items()}
    for name in (f"{LAST}.weight", f"{LAST}.bias"):
        rows = renamed.get(name)
        slots = [] if rows is None else _kept_slots(len(rows), body, num_classes, num_anchors)
        if rows is not None and slots:
            renamed[name] = rows.reshape(num_anchors, -1, *rows.shape[1:])[:, slots].flatten(0, 1)
    return renamed


def left_out(
    state: Mapping[str, Tensor], *, body: str, num_classes: int, num_anchors: int
) -> tuple[str, ...]:
    """That of a file of one slot more than there are classes the first is taken for torchvision's background:
    such a file may as well tell other classes apart."""
    bias = state.get(f"{LAST}.bias")
    if bias is None or _kept_slots(len(bias), body, num_classes, num_anchors) != _behind(num_classes):
        return ()
    return (f"of its {num_classes + 1} slots the first, torchvision's background, was left out",)


def _kept_slots(num_rows: int, body: str, num_classes: int, num_anchors: int) -> list[int]:
    """Which slots of a last layer are classes; [] where all of them are, as far as its size tells."""
    num_slots = len(_categories(body))
    if num_classes != num_slots and num_rows == num_anchors * num_slots:
        return class_slots(body)
    return _behind(num_classes) if num_rows == num_anchors * (num_classes + 1) else []


def _behind(num_classes: int) -> list[int]:
    """Every slot but that of the background."""
    return list(range(1, num_classes + 1))


def _categories(body: str) -> list[str]:
    return list(get_model_weights(body)[TORCHVISION_NETWORKS[body].tag].meta["categories"])


def _of_today(match: re.Match[str]) -> str:
    return f"{match[1]}.{int(match[2]) // 2}.0.{match[3]}"
