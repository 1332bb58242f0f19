"""Which object each position of a detector answers for: made once per micro step, read by every term."""

from typing import NamedTuple

from torch import Tensor

BACKGROUND, IGNORED = -1, -2  # in place of a class


class Matched(NamedTuple):
    """B images, P positions (over levels, then cells row by row, then anchors), L levels."""

    labels_BP: Tensor  # int64 class of the object that a position answers for, -1: background, -2: ignored
    weights_BP: Tensor  # float32, 1, or 0 where ignored
    boxes_BP4: Tensor  # float32 x1 y1 x2 y2 in pixels of the matched object; 0 where none
    centerness_BP: Tensor  # float32 target of positives (ltrb formula), 0 elsewhere
    positive_levels: Tensor  # (L,) bool: levels with a positive in this batch of this rank
    level_sizes: tuple[int, ...]  # P_l per level
    num_positives: Tensor  # scalar float32, summed over ranks / world, at least 1 (N)
