"""Segmentation: one class per pixel. The truth is an 8-bit grey PNG of train ids, moved with the pixels."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kdcache.cache.spec import RecipeRules
from kdcache.cache.tasks.contract import Mixed, NetworkRules, RowTruth, TaskKind, Truth
from kdcache.cache.tasks.panels import Colours, colour_classes

if TYPE_CHECKING:
    from torch import Tensor

_FAMILIES = "kdcache.cache.networks.families"


class PixelClasses(Truth):
    """Train ids 0..C-1, and 255 where a pixel counts nowhere."""

    suffix = "label.png"
    rides = True

    def parse(self, encoded: bytes | memoryview) -> np.ndarray:
        """The encoded map, (num_bytes,) uint8."""
        return np.frombuffer(encoded, dtype=np.uint8)

    def collate(self, rows: Sequence[RowTruth], maps_BHW: "Tensor | None") -> "tuple[Tensor, Mixed | None]":
        """(B, H, W) uint8, 255 = ignore."""
        del rows
        assert maps_BHW is not None, "label maps ride through the image pipeline"
        return maps_BHW, None

    def panel(
        self,
        row: RowTruth,
        map_HW: np.ndarray | None,
        class_names: Sequence[str],
        image_HWC: np.ndarray | None = None,
        colours: Colours = (),
    ) -> np.ndarray:
        """Classes as colours, ignored pixels black."""
        del row, image_HWC
        assert map_HW is not None, "label maps ride through the image pipeline"
        return colour_classes(map_HW, len(class_names), colours)

    def answer_panel(
        self,
        answer: np.ndarray,
        class_names: Sequence[str],
        image_HWC: np.ndarray | None = None,
        colours: Colours = (),
    ) -> np.ndarray:
        """(H, W, K): the likeliest class of each cell as its colour."""
        return colour_classes(answer.argmax(axis=2).astype(np.uint8), len(class_names), colours)


KIND = TaskKind(
    name="segmentation",
    truth=PixelClasses(),
    default_taps=("stage4", "logits"),
    default_views="crops:8",
    recipes=RecipeRules(
        default="scale=0.5x2,flip",
        items=("scale", "flip", "jitter"),
        always={"scale": (1.0, 1.0)},
        refusal="segmentation cannot have {items}: labels of pixels do not follow",
        fix="use scale, flip, jitter, such as --augment scale=0.5x2,flip,jitter=0.4",
    ),
    networks=NetworkRules(
        families={
            "deeplabv3": f"{_FAMILIES}.smp:assemble_segmentation",
            "pspnet": f"{_FAMILIES}.smp:assemble_segmentation",
            "timm": f"{_FAMILIES}.timm:assemble_backbone",
            "tv": f"{_FAMILIES}.torchvision:assemble_torchvision",
            "custom": f"{_FAMILIES}.custom:assemble_custom",
        },
        short_family="deeplabv3",
        torchvision=("deeplabv3_resnet50", "deeplabv3_resnet101", "fcn_resnet50", "fcn_resnet101"),
        features_only=("timm",),
        forms="r18, r34, r50, r101, mbv2, deeplabv3:ENCODER, pspnet:ENCODER, timm:NAME, tv:NAME, "
        "package.module:factory",
        instead="take r18, deeplabv3:ENCODER or pspnet:ENCODER",
        head="segmentation head",
        example_data="camvid",
        tag_holds_head=False,
        padded=True,
        default_stride=8,
        student_weights="imagenet",
        listing_px=(512, 512),
    ),
)
