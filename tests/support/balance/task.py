"""A toy task, what cache/tasks/X.py is to a real one: how much brighter the right half of an image is.

One number per image, -1..1, which a flip turns around and a mixup averages: no class, no map.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from kdcache.cache.spec import RecipeRules
from kdcache.cache.tasks.contract import Mixed, NetworkRules, RowTruth, TaskKind, Truth
from kdcache.cache.tasks.panels import Colours, text_panel
from kdcache.cache.views.view import Geometry, Op

_FAMILIES = "kdcache.cache.networks.families"


class Balance(Truth):
    """(1,) float32; stored as text. No column: it is read from the tar."""

    suffix = "balance.txt"

    def parse(self, encoded: bytes | memoryview) -> np.ndarray:
        return np.array([float(bytes(encoded))], dtype=np.float32)

    def moved(
        self, value: np.ndarray, geometry: Geometry, effects: Sequence[Op], size: tuple[int, int]
    ) -> np.ndarray:
        del effects, size
        return -value if geometry.flip else value

    def collate(self, rows: Sequence[RowTruth], maps_BHW: Tensor | None) -> tuple[Tensor, Mixed | None]:
        """(B,) float32; a mixed image has the mean of both numbers, so there is nothing second."""
        del maps_BHW
        return torch.tensor([_mean(row) for row in rows], dtype=torch.float32), None

    def panel(
        self,
        row: RowTruth,
        map_HW: np.ndarray | None,
        class_names: Sequence[str],
        image_HWC: np.ndarray | None = None,
        colours: Colours = (),
    ) -> np.ndarray:
        del map_HW, image_HWC, colours
        return text_panel([f"{class_names[0]} {_mean(row):+.3f}"])

    def answer_panel(
        self,
        answer: np.ndarray,
        class_names: Sequence[str],
        image_HWC: np.ndarray | None = None,
        colours: Colours = (),
    ) -> np.ndarray:
        return text_panel([f"{class_names[0]} {float(answer[0]):+.3f}"])


def _mean(row: RowTruth) -> float:
    other = row.own if row.other is None else row.other
    return float(row.own_share * row.own[0] + (1 - row.own_share) * other[0])


KIND = TaskKind(
    name="balance",
    truth=Balance(),
    default_taps=("embedding", "logits"),
    default_views="crops:2",
    recipes=RecipeRules(
        default="flip", items=("flip", "mixup"), refusal="{items} changes the balance", fix="use flip, mixup"
    ),
    networks=NetworkRules(
        families={
            "timm": f"{_FAMILIES}.timm:assemble_classifier",
            "custom": f"{_FAMILIES}.custom:assemble_custom",
        },
        short_family="timm",
        forms="r18, timm:NAME, package.module:factory",
        instead="take r18 or timm:NAME",
        head="regression head",
        example_data="balance",
        tag_holds_head=False,
        padded=False,
        default_stride=None,
        no_stride="networks of one number keep the stride they have",
        no_aux="a number has no auxiliary head",
        student_weights="none",
        listing_px=(32, 32),
    ),
)
