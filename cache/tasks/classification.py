"""Classification: one class per image. The truth is the class id; mixing gives a row two of them."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from kdcache.cache.spec import RecipeRules
from kdcache.cache.tasks.contract import (
    Mixed,
    NetworkRules,
    RowTruth,
    TaskKind,
    Truth,
    check_ids,
    share_lines,
)
from kdcache.cache.tasks.panels import Colours, text_panel

if TYPE_CHECKING:
    from torch import Tensor

_COLUMN = "classes"  # of a block's index: the class of every sample is known without touching a tar
_NONE = -1  # of a sample that cannot be used
_FAMILIES = "kdcache.cache.networks.families"
TOP_CLASSES = 5  # lines of a panel


class ImageClass(Truth):
    """A class id 0..K-1, (1,) int64."""

    suffix = "cls"
    columns = (_COLUMN,)
    one_class = True

    def parse(self, encoded: bytes | memoryview) -> np.ndarray:
        """The class of b"7", (1,) int64."""
        return np.array([int(bytes(encoded))], dtype=np.int64)

    def column_values(self, encoded: bytes | None, size: tuple[int, int]) -> dict[str, int]:
        del size
        return {_COLUMN: _NONE if encoded is None else int(encoded)}

    def from_columns(self, columns: Mapping[str, np.ndarray], row: int) -> np.ndarray:
        return columns[_COLUMN][row : row + 1]

    def check_columns(self, columns: Mapping[str, np.ndarray], valid: np.ndarray, num_classes: int) -> None:
        if ((columns[_COLUMN] >= 0) != valid).any():
            raise ValueError("a valid sample without a class")
        check_ids(columns[_COLUMN], num_classes)

    def collate(self, rows: Sequence[RowTruth], maps_BHW: "Tensor | None") -> "tuple[Tensor, Mixed | None]":
        """(B,) int64. Of a mixed row the class of the larger share comes first: where the partner fills more
        than half of the image, the two classes change places."""
        del maps_BHW
        own = {_COLUMN: _column([row.own for row in rows])}
        if rows[0].other is None:
            return self.collate_columns(own)
        other = {_COLUMN: _column([row.other for row in rows if row.other is not None])}
        return self.collate_columns(own, other, np.array([row.own_share for row in rows]))

    def collate_columns(
        self,
        own: Mapping[str, np.ndarray],
        other: Mapping[str, np.ndarray] | None = None,
        own_share: np.ndarray | None = None,
    ) -> "tuple[Tensor, Mixed | None]":
        import torch  # here: the help of a command, which asks for a task, should not wait for it

        own_B = torch.from_numpy(own[_COLUMN])
        if other is None or own_share is None:
            return own_B, None
        other_B = torch.from_numpy(other[_COLUMN])
        share_B = torch.from_numpy(own_share.astype(np.float32))
        smaller_B = share_B < 0.5
        first_B, second_B = torch.where(smaller_B, other_B, own_B), torch.where(smaller_B, own_B, other_B)
        return first_B, Mixed(second_B, torch.where(smaller_B, 1 - share_B, share_B))

    def panel(
        self,
        row: RowTruth,
        map_HW: np.ndarray | None,
        class_names: Sequence[str],
        image_HWC: np.ndarray | None = None,
        colours: Colours = (),
    ) -> np.ndarray:
        """The class's name, and its partner's with both shares where two are mixed."""
        del map_HW, image_HWC, colours
        other = row.own if row.other is None else row.other
        return text_panel(share_lines(row, class_names[int(row.own[0])], class_names[int(other[0])]))

    def answer_panel(
        self,
        answer: np.ndarray,
        class_names: Sequence[str],
        image_HWC: np.ndarray | None = None,
        colours: Colours = (),
    ) -> np.ndarray:
        """(K,): the likeliest classes as text."""
        return text_panel(top_lines(answer, class_names))


def top_lines(logits_K: np.ndarray, names: Sequence[str]) -> list[str]:
    """The likeliest classes with their probabilities."""
    scores = np.exp(logits_K.astype(np.float64) - logits_K.max())
    best = np.argsort(-scores, kind="stable")[:TOP_CLASSES]
    return [f"{scores[k] / scores.sum():.1%} {names[k]}" for k in best]


def _column(values: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate(values).astype(np.int64)


KIND = TaskKind(
    name="classification",
    truth=ImageClass(),
    default_taps=("embedding", "logits"),
    default_views="crops:8",
    recipes=RecipeRules(
        default="none",
        items=("rrc", "pad", "flip", "randaugment", "jitter", "erase", "mixup", "cutmix"),
        refusal="{items} belongs to segmentation",
        fix="use rrc (a random region, resized) or pad=N (a shifted image)",
    ),
    networks=NetworkRules(
        families={
            "timm": f"{_FAMILIES}.timm:assemble_classifier",
            "cifar": f"{_FAMILIES}.cifar:assemble_cifar",
            "custom": f"{_FAMILIES}.custom:assemble_custom",
        },
        short_family="timm",
        forms="r18, r34, r50, r101, mbv2, timm:NAME, resnet20, resnet8x4 and the other CIFAR ResNets, "
        "wrn-D-W, package.module:factory",
        instead="take r18, timm:NAME or a CIFAR network such as resnet20",
        head="classifier",
        example_data="cifar10",
        tag_holds_head=True,
        padded=False,
        default_stride=None,
        no_stride="classifiers keep the stride they have",
        no_aux="the auxiliary head is a segmentation network's",
        student_weights="none",
        listing_px=(224, 224),
    ),
)
