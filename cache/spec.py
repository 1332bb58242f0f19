"""The words every part shares: sizes of maps, what a loss needs, what a tap gives, what a codec stores.

Light on purpose: of `kdcache.cache`, `kdcache.losses` may import this file, the tasks' table and their
contract, and nothing else.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from kdcache.cache.errors import BadOption as BadOption
from kdcache.cache.errors import KdError as KdError
from kdcache.cache.errors import nearest as nearest
from kdcache.cache.errors import unknown as unknown

IGNORE = 255  # label of pixels that no loss and no metric counts
# Of a forward, by option value: the type that autocast takes, named as in torch.
PRECISIONS: Mapping[str, str | None] = {"no": None, "bf16": "bfloat16", "fp16": "float16"}
Task = str  # the name of a task: a key of `kdcache.cache.tasks.table.TASKS`
# What a number of an option may be at most: far above what anybody means, below what ends memory or int64.
MOST_SEED = 2**63 - 1
MOST_THREADS = 1024
MOST_STRIDE = 1024  # pixels per cell
MOST_ROWS = 2**20  # of one batch or one shard
FILL_RGB = (124, 116, 104)  # colour of padding: the ImageNet mean, so that it normalises to about zero


def ceil_div(value: int, step: int) -> int:
    """ceil(value / step) for positive integers: the cells that cover `value` pixels at stride `step`."""
    return -(-value // step)


def class_difference(data: Sequence[str], teacher: Sequence[str], num_teacher: int = 0) -> str:
    """How the classes that a teacher scores differ from those of the data, in words: the first place where
    they do. '' where they are the same in the same order, and where a side says none. `num_teacher` counts
    those of a teacher that does not name them; 0: nobody counted."""
    if not data or not (teacher or num_teacher):
        return ""
    number = next((n for n, (a, b) in enumerate(zip(data, teacher, strict=False)) if a != b), None)
    if number is not None:
        return f"class {number} is '{data[number]}' in the data and '{teacher[number]}' of the teacher"
    theirs = len(teacher) or num_teacher
    return "" if theirs == len(data) else f"the data has {len(data)} classes and the teacher scores {theirs}"


VECTOR = "vector"  # size key of a value without H and W


class TensorSpec(NamedTuple):
    """One tap's value for one row. `shape` is channels last without the batch: (H, W, C), or (C,) for a
    vector."""

    shape: tuple[int, ...]
    stride: int  # input pixels per cell; 0 for a pooled vector

    @property
    def channels(self) -> int:
        return self.shape[-1]

    @property
    def size_key(self) -> str:
        """'45x60' for maps, 'vector' for pooled values: the folder that arrays of this size share."""
        return "x".join(str(n) for n in self.shape[:-1]) or VECTOR


class PartSpec(NamedTuple):
    """One stored piece of a target, for one row: what a codec writes and reads."""

    shape: tuple[int, ...]
    dtype: str  # numpy name: 'uint8', 'float16', 'float32'
    spatial: bool  # True when the first two axes are the map's H and W, so that a window can be cut

    @property
    def num_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """What a loss reads from a teacher: a tap, or a reduction of one named as 'package.module:function'.

    `name` is the key under which the value reaches the loss and the folder under which a cache keeps it.
    """

    tap: str
    reduction: str = ""
    first: int = 0  # where the tap stands for a group of levels: how many of them, the finest first; 0: all

    @property
    def name(self) -> str:
        return self.tap if not self.reduction else f"{self.tap}.{self.reduction.rpartition(':')[2]}"


class RecipeRules(NamedTuple):
    """What a task may draw for its views, in the words of a recipe."""

    default: str  # text of the recipe when none is given
    items: tuple[str, ...]  # legal ones
    refusal: str  # what is wrong with '{items}', for the error of others
    fix: str
    always: Mapping[str, Any] = {}  # items that are there with these values when a text leaves them out


class ViewRules(NamedTuple):
    """Which kinds of views a task may store, and of which sizes its inputs are."""

    kinds: tuple[str, ...] = ("crops", "full", "turns")
    refusal: str = "'{kind}' is no kind of views for these data"
    fix: str = "use crops:K or full, such as --views crops:8+full"
    mirror: bool = False  # whether the views that nobody named are mirrored too
    multiple_px: int = 1  # both sides of the input are multiples of it


RowParts = Mapping[str, np.ndarray]  # part name -> array, what one row's target is on disk


def first_levels(levels: Iterable[str], most: int) -> tuple[str, ...]:
    """The `most` finest levels of a group, of an ensemble's those of every member; 0: all of them.
    ('a.p3', 'a.p4', 'b.p3', 'b.p4'), 1: 'a.p3', 'b.p3'."""
    levels = tuple(levels)
    members = [level.rpartition(".")[0] for level in levels]
    places = [members[:index].count(member) for index, member in enumerate(members)]
    return tuple(level for level, place in zip(levels, places, strict=True) if not most or place < most)


def members_of(names: Iterable[str], need: str) -> tuple[str, ...]:
    """The targets of an ensemble whose mean stands for `need`, in the order of `names`, or ().

    An ensemble's targets are named `<member>.<target>`: 'a.logits', 'b.logits'. A need 'logits' that its
    cache does not keep is the unweighted mean of those of every member. () also when `need` itself is kept,
    and when only some of the members have it: a mean over some would be another teacher. ('a.logits',
    'b.logits', 'a.stage4'): 'logits' has two members, 'stage4' none.
    """
    names = tuple(names)
    if need in names:
        return ()
    dotted = [name.partition(".") for name in names if "." in name]
    taps = {tap for _, _, rest in dotted for tap in (rest, rest.partition(".")[0])}
    members = dict.fromkeys(first for first, _, _ in dotted if first not in taps)
    targets = tuple(name for member in members if (name := f"{member}.{need}") in names)
    return targets if len(targets) == len(members) > 1 else ()
