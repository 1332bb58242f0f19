"""retinanet:ENCODER, fcos:ENCODER, atss:ENCODER, gfl:ENCODER: five levels on any timm encoder.

The encoder is segmentation-models-pytorch's wrapper of a timm network, at `encoder.model` as everywhere here.
"""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from segmentation_models_pytorch.encoders import get_encoder
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.retinanet import RetinaNetHead

from kdcache.cache.errors import BadOption
from kdcache.cache.grid import SIGMOID_CTR, DenseGrid, strides_of
from kdcache.cache.networks.families.detectors.fpn import LEVELS, NUM_OF_ENCODER, STRIDES, WIDTH, Pyramid
from kdcache.cache.networks.families.detectors.gfl import NUM_BINS, AtssHead, GflHead
from kdcache.cache.networks.families.detectors.heads import DenseHead, FcosHead, RetinaHead
from kdcache.cache.networks.families.timm import (
    NUM_STAGES,
    PAD_MULTIPLE,
    Encoder,
    find_encoder,
    stage_places,
)
from kdcache.cache.networks.names import OPTIONS, NetworkName
from kdcache.cache.networks.network import Assembly
from kdcache.cache.positions import anchor_sizes
from kdcache.cache.spec import Task

_ANCHORS = 9  # a cell of RetinaNet's
ENCODER_STRIDE = 32
_five = partial(DenseGrid, levels=LEVELS, strides=STRIDES)
GRIDS: Mapping[str, DenseGrid] = {
    "retinanet": _five(anchors_per_cell=_ANCHORS, assigner="max_iou"),
    "fcos": _five(score=SIGMOID_CTR, assigner="fcos"),
    "atss": _five(score=SIGMOID_CTR, assigner="atss"),
    "gfl": _five(num_bins=NUM_BINS, assigner="atss"),
}


class DenseDetector(nn.Module):
    """Encoder, pyramid and head; returns every tap by its name."""

    def __init__(self, encoder: nn.Module, neck: Pyramid, head: DenseHead) -> None:
        super().__init__()
        self.encoder = encoder
        self.neck = neck
        self.head = head

    def forward(self, images_BCHW: Tensor) -> dict[str, Tensor]:
        maps = self.encoder(images_BCHW)
        stages = {f"stage{stage + 1}": maps[stage - NUM_STAGES] for stage in range(NUM_STAGES)}
        levels = self.neck(maps[-NUM_OF_ENCODER:])
        size = (images_BCHW.shape[2], images_BCHW.shape[3])
        return {**stages, **levels, **self.head(list(levels.values()), size)}


def assemble_detector(
    name: NetworkName, *, num_classes: int, output_stride: int, aux: bool, task: Task
) -> Assembly:
    """Freshly initialised. Raises BadOption for an encoder without maps of strides 8, 16 and 32."""
    del output_stride, aux  # its own, and none
    encoder = find_encoder(name, task)
    built = _encoder(name, encoder)
    grid = GRIDS[name.family]
    width = name.option("width") if name.family in OPTIONS else WIDTH
    head, last = _HEADS[name.family](grid, name, num_classes, width)
    model = DenseDetector(built, Pyramid(built.out_channels[-NUM_OF_ENCODER:], width), head)
    places = {tap: f"{'neck' if tap in grid.groups['fpn'] else 'head'}#{tap}" for tap in strides_of(grid)}
    taps = {**stage_places(built), **places}
    return Assembly(
        model=model,
        taps=taps,
        returns={path: tap for tap, path in taps.items()},
        pad_multiple=PAD_MULTIPLE,
        mean=encoder.mean,
        std=encoder.std,
        backbone_path="encoder.model",
        backbone_extras=encoder.full_keys - set(built.model.state_dict()),
        strides=strides_of(grid),
        grid=grid,
        heads=(f"head.{last}",),
        output_stride=ENCODER_STRIDE,
    )


def _encoder(name: NetworkName, encoder: Encoder) -> Any:
    try:
        built: Any = get_encoder(f"tu-{encoder.timm_name}", weights=None, **encoder.options)
        strides = list(built.model.feature_info.reduction())[-NUM_OF_ENCODER:]
    except (TypeError, ValueError, NotImplementedError, AssertionError, RuntimeError) as refusal:
        raise _no_pyramid(encoder, name, str(refusal)) from refusal
    if strides != list(STRIDES[:NUM_OF_ENCODER]):
        raise _no_pyramid(encoder, name, f"its last maps have strides {', '.join(map(str, strides))}")
    return built


def _no_pyramid(encoder: Encoder, name: NetworkName, why: str) -> BadOption:
    return BadOption(
        f"{encoder.timm_name} gives no maps of strides 8, 16 and 32 for a pyramid: {why}",
        where=f"network {name}",
        fix=f"take a ResNet, MobileNet or ConvNeXt encoder, such as {name.family}:r18",
    )


def _retinanet(grid: DenseGrid, name: NetworkName, num_classes: int, width: int) -> tuple[DenseHead, str]:
    del name
    sizes = [anchor_sizes(grid, stride) for stride in grid.strides]
    parts = RetinaNetHead(width, grid.anchors_per_cell, num_classes)
    return RetinaHead(grid, parts, sizes, library_points=False), "classification_head.cls_logits"


def _fcos(grid: DenseGrid, name: NetworkName, num_classes: int, width: int) -> tuple[DenseHead, str]:
    del name
    parts = FCOSHead(width, grid.anchors_per_cell, num_classes)
    return FcosHead(grid, parts, library_points=False), "classification_head.cls_logits"


def _atss(grid: DenseGrid, name: NetworkName, num_classes: int, width: int) -> tuple[DenseHead, str]:
    return AtssHead(grid, num_classes, width, name.option("convs")), "cls"


def _gfl(grid: DenseGrid, name: NetworkName, num_classes: int, width: int) -> tuple[DenseHead, str]:
    return GflHead(grid, num_classes, width, name.option("convs")), "cls"


_Head = Callable[[DenseGrid, NetworkName, int, int], tuple[DenseHead, str]]
# Family -> its head, and where inside it the layer is whose size is the number of classes.
_HEADS: Mapping[str, _Head] = {"retinanet": _retinanet, "fcos": _fcos, "atss": _atss, "gfl": _gfl}
