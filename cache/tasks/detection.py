"""Detection: objects in boxes. The truth is a list of boxes with classes, which follows the view by numbers.

Stored beside each image as JSON, {"boxes": [[x1, y1, x2, y2]], "classes": [], "crowd": [], "area": [],
"ids": []}: edges in pixels of the stored image, as the data set has them, also where a box leaves the image.
Training leaves crowds out and cuts boxes to what a view shows; judges read them as written.

Axes: B rows, M objects. A row of a parsed truth is x1 y1 x2 y2 class crowd area id, (M, 8) float64; of a
moved one x1 y1 x2 y2 class on the canvas, (M, 5) float64; of a batch the same in float32, where class -1
pads rows of fewer objects.
"""

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import msgspec
import numpy as np

from kdcache.cache.boxes import seen, usable
from kdcache.cache.grid import BOX, CLS, CTR, FPN, DenseGrid, tap_of
from kdcache.cache.spec import RecipeRules, ViewRules
from kdcache.cache.tasks.contract import (
    AnsweredRow,
    Mixed,
    NetworkRules,
    OtherClasses,
    RowTruth,
    TaskKind,
    Truth,
    check_ids,
)
from kdcache.cache.tasks.panels import Colours, draw_boxes
from kdcache.cache.tasks.table import load
from kdcache.cache.views.view import Geometry, Op

if TYPE_CHECKING:
    from torch import Tensor

_COLUMN = "objects"  # of a block's index: usable boxes of every sample
_FAMILIES = "kdcache.cache.networks.families"
_DETECTORS = f"{_FAMILIES}.detectors"
DECODE = f"{_DETECTORS}.decode:decode"
DRAWN_SCORE = 0.3  # a picture with every box of a low score shows nothing
SCORE = 5  # column of a detection, after x1 y1 x2 y2 class
PADDING = -1  # class of what pads a batch
CLASS, CROWD, AREA, ID = 4, 5, 6, 7  # columns of a parsed truth
NUM_STORED = 8


ClassId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 16)]
Exact = Annotated[int, msgspec.Meta(ge=-(1 << 53), le=1 << 53)]  # as float64 holds them


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    boxes: list[tuple[float, float, float, float]]
    classes: list[ClassId]
    crowd: list[Exact]
    area: list[float]
    ids: list[Exact]


_DECODER = msgspec.json.Decoder(_Stored)


def encode_objects(objects_M8: np.ndarray) -> bytes:
    """What `Objects.parse` reads; numbers come back as they are."""
    x = objects_M8
    named = {
        "boxes": x[:, :4].tolist(),
        "classes": x[:, CLASS].astype(int).tolist(),
        "crowd": x[:, CROWD].astype(int).tolist(),
        "area": x[:, AREA].tolist(),
        "ids": x[:, ID].astype(int).tolist(),
    }
    return json.dumps(named, separators=(",", ":")).encode()


class Objects(Truth):
    """Boxes with classes; of an image without objects an array without rows."""

    suffix = "boxes.json"
    columns = (_COLUMN,)
    counts = _COLUMN

    def parse(self, encoded: bytes | memoryview) -> np.ndarray:
        """(M, 8) float64 as written: x1 y1 x2 y2 class crowd area id. Raises ValueError for other bytes."""
        stored = _DECODER.decode(encoded)
        columns: tuple[list[int] | list[float], ...]
        columns = stored.classes, stored.crowd, stored.area, stored.ids
        if {len(column) for column in columns} != {len(stored.boxes)}:
            raise ValueError("boxes, classes, crowd, area and ids differ in number")
        objects_M8 = np.empty((len(stored.boxes), NUM_STORED))
        objects_M8[:, :CLASS] = np.array(stored.boxes, dtype=np.float64).reshape(-1, 4)
        for place, column in enumerate(columns, CLASS):
            objects_M8[:, place] = np.array(column, dtype=np.float64)
        return objects_M8

    def column_values(self, encoded: bytes | None, size: tuple[int, int]) -> dict[str, int]:
        """Boxes that training may use: no crowds, and at least a pixel of both sides in the image."""
        if encoded is None:
            return {_COLUMN: 0}
        objects_M8 = self.parse(encoded)
        return {_COLUMN: int((usable(objects_M8[:, :4], size) & (objects_M8[:, CROWD] == 0)).sum())}

    def check_columns(self, columns: Mapping[str, np.ndarray], valid: np.ndarray, num_classes: int) -> None:
        del num_classes
        if (columns[_COLUMN] < 0).any() or columns[_COLUMN][~valid].any():
            raise ValueError("fewer than no objects, or objects of a sample that cannot be used")

    def check_classes(self, value: np.ndarray, num_classes: int) -> None:
        check_ids(value[:, CLASS], num_classes)

    def moved(
        self, value: np.ndarray, geometry: Geometry, effects: Sequence[Op], size: tuple[int, int]
    ) -> np.ndarray:
        """(M', 5) float64: what the view shows of objects that are no crowds. Colours move nothing."""
        del effects
        single_M8 = value[value[:, CROWD] == 0]
        shown = seen(single_M8[:, :4], geometry, size)
        return np.concatenate([shown.boxes_M4, single_M8[shown.kept_N, CLASS : CLASS + 1]], axis=1)

    def collate(self, rows: Sequence[RowTruth], maps_BHW: "Tensor | None") -> "tuple[Tensor, Mixed | None]":
        """(B, M, 5) float32, M that of the row with the most objects, perhaps 0; class -1 is padding."""
        import torch  # here: the help of a command, which asks for a task, should not wait for it

        del maps_BHW
        most = max((len(row.own) for row in rows), default=0)
        truth_BM5 = torch.zeros(len(rows), most, CLASS + 1)
        truth_BM5[:, :, CLASS] = PADDING
        for place, row in enumerate(rows):
            truth_BM5[place, : len(row.own)] = torch.from_numpy(row.own[:, : CLASS + 1]).float()
        return truth_BM5, None

    def panel(
        self,
        row: RowTruth,
        map_HW: np.ndarray | None,
        class_names: Sequence[str],
        image_HWC: np.ndarray | None = None,
        colours: Colours = (),
    ) -> np.ndarray:
        """The boxes on the image that they belong to, each with its class."""
        del map_HW, colours
        assert image_HWC is not None, "boxes are drawn on their image"
        names = [class_names[int(number)] for number in row.own[:, CLASS]]
        return draw_boxes(image_HWC, row.own[:, :4], row.own[:, CLASS], names)

    def answers(self, row: AnsweredRow) -> dict[str, np.ndarray]:
        """(N, 6) x1 y1 x2 y2 class score on the canvas, by the prefix of the taps that they come from."""
        decoded = {}
        for prefix, grid in row.grids.items():
            kinds = [grid.groups[kind] for kind in (CLS, BOX, CTR) if kind in grid.groups]
            taps = [tap for levels in kinds for tap in levels]
            if all(prefix + tap in row.values for tap in taps):
                maps = {tap: row.values[prefix + tap] for tap in taps}
                decoded[f"{prefix}boxes"] = _detections(maps, grid, row.size)
        return decoded

    def answer_panel(
        self,
        answer: np.ndarray,
        class_names: Sequence[str],
        image_HWC: np.ndarray | None = None,
        colours: Colours = (),
    ) -> np.ndarray:
        """Boxes of a score of at least 0.3 on the image, each with its class and score."""
        assert image_HWC is not None, "boxes are drawn on their image"
        sure = answer[answer[:, SCORE] >= DRAWN_SCORE]
        said = [f"{class_names[int(number)]} {score:.0%}" for number, score in sure[:, CLASS : SCORE + 1]]
        return draw_boxes(image_HWC, sure[:, :4], sure[:, CLASS], said)


def _detections(maps: Mapping[str, np.ndarray], grid: DenseGrid, size: tuple[int, int]) -> np.ndarray:
    """(N, 6): what evaluation would find in these maps (H, W, C)."""
    import torch  # here: as in `collate`

    tensors = {
        tap: torch.from_numpy(np.ascontiguousarray(v)).permute(2, 0, 1)[None] for tap, v in maps.items()
    }
    num_classes = maps[tap_of(CLS, grid.levels[0])].shape[-1] // grid.anchors_per_cell
    ((boxes_N4, scores_N, classes_N),) = load(DECODE)(tensors, grid, num_classes, size)
    columns = (boxes_N4, classes_N[:, None], scores_N[:, None])
    return torch.cat([column.double() for column in columns], dim=1).numpy()


KIND = TaskKind(
    name="detection",
    truth=Objects(),
    default_taps=("cls", "box"),
    default_views="fit",
    views=ViewRules(
        kinds=("crops", "fit"),
        refusal="{kind} views are not for objects: images of different sizes make no batch, and the answer "
        "to a mirrored or turned image is not that to the image, mirrored or turned",
        fix="use --views fit --mirror, which holds all views of the published training, or crops:K",
        mirror=True,
        multiple_px=32,
    ),
    recipes=RecipeRules(
        default="fit=1,flip",
        items=("fit", "flip", "jitter"),
        always={"fit": (1.0, 1.0)},
        refusal="detection cannot have {items}: boxes do not follow",
        fix="use fit, flip, jitter, such as --augment fit=0.7x1.5,flip,jitter=0.4",
    ),
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
        no_stride="detectors keep the strides of their levels",
        no_aux="the auxiliary head is a segmentation network's",
        student_weights="imagenet",
        frozen="stem+stage1",
        rests_norms=True,
        other_classes=OtherClasses(
            teaches=(FPN,),
            scores=(CLS,),
            instead="train the teacher on these classes, or keep its features and distil those: --for pkd, "
            "then kdtrain --loss pkd",
        ),
        listing_px=(640, 640),
    ),
)
