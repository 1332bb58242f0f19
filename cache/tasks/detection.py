"""A stand-in until the branch of the views brings the real one: only what networks ask of a task."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from kdcache.cache.spec import RecipeRules
from kdcache.cache.tasks.contract import Mixed, NetworkRules, RowTruth, TaskKind, Truth

if TYPE_CHECKING:
    from torch import Tensor

_FAMILIES = "kdcache.cache.networks.families"
_DETECTORS = f"{_FAMILIES}.detectors"


class Objects(Truth):
    """Nothing yet."""

    suffix = "boxes.json"

    def parse(self, encoded: bytes | memoryview) -> np.ndarray:
        raise NotImplementedError

    def collate(self, rows: Sequence[RowTruth], maps_BHW: "Tensor | None") -> "tuple[Tensor, Mixed | None]":
        raise NotImplementedError

    def panel(self, row: RowTruth, map_HW: np.ndarray | None, class_names: Sequence[str]) -> np.ndarray:
        raise NotImplementedError

    def answer_panel(self, answer: np.ndarray, class_names: Sequence[str]) -> np.ndarray:
        raise NotImplementedError


KIND = TaskKind(
    name="detection",
    truth=Objects(),
    default_taps=("cls", "box"),
    default_views="crops:8",
    recipes=RecipeRules(default="flip", items=("flip", "jitter"), refusal="no {items}", fix="use flip"),
    networks=NetworkRules(
        families={
            **dict.fromkeys(("retinanet", "fcos", "atss", "gfl"), f"{_DETECTORS}.assemble:assemble_detector"),
            "tv": f"{_DETECTORS}.torchvision_detectors:assemble_torchvision",
            "custom": f"{_FAMILIES}.custom:assemble_custom",
        },
        short_family="gfl",
        torchvision=("retinanet_resnet50_fpn", "retinanet_resnet50_fpn_v2", "fcos_resnet50_fpn"),
        forms="r18, r34, r50, r101, mbv2, gfl:ENCODER, retinanet:ENCODER, fcos:ENCODER, atss:ENCODER, "
        "'gfl(width=128,convs=2):ENCODER', tv:NAME, package.module:factory",
        instead="take r18, gfl:ENCODER, retinanet:ENCODER, fcos:ENCODER or atss:ENCODER",
        head="detection head",
        example_data="coco",
        tag_holds_head=False,
        padded=True,
        default_stride=None,
        no_stride="detectors have the strides of their levels",
        no_aux="the auxiliary head is a segmentation network's",
        student_weights="imagenet",
        frozen="stem+stage1",
        rests_norms=True,
        listing_px=(640, 640),
    ),
)
