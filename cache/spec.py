"""The words every part shares: sizes of maps, what a loss needs, what a tap gives, what a codec stores.

Light on purpose: `kdcache.losses` may import this file and nothing else of `kdcache.cache`.

What an ensemble's cache can answer although it does not keep it: the mean over its members.

An ensemble's targets are named `<member>.<target>`: 'a.logits', 'b.logits'. A need 'logits' that such a cache
does not keep is read as the unweighted mean of those of every member.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from kdcache.cache.errors import BadOption as BadOption
from kdcache.cache.errors import KdError as KdError
from kdcache.cache.errors import nearest as nearest
from kdcache.cache.errors import unknown as unknown

IGNORE = 255  # label of pixels that no loss and no metric counts
Task = Literal["segmentation", "classification"]
SEGMENTATION: Task = "segmentation"
CLASSIFICATION: Task = "classification"
FILL_RGB = (124, 116, 104)  # colour of padding: the ImageNet mean, so that it normalises to about zero


def ceil_div(value: int, step: int) -> int:
    """ceil(value / step) for positive integers: the cells that cover `value` pixels at stride `step`."""
    return -(-value // step)


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
        return "x".join(str(n) for n in self.shape[:-1]) or "vector"


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

    @property
    def name(self) -> str:
        return self.tap if not self.reduction else f"{self.tap}.{self.reduction.rpartition(':')[2]}"


Parts = Mapping[str, np.ndarray]  # part name -> array, what one row's target is on disk


def members_of(names: Iterable[str], need: str) -> tuple[str, ...]:
    """The targets whose mean stands for `need`, in the order of `names`; () when there is no such mean.

    () also when `need` itself is kept, and when only some of the members have it: a mean over some would be
    another teacher. ('a.logits', 'b.logits', 'a.stage4'): 'logits' has two members, 'stage4' none.
    """
    names = tuple(names)
    if need in names:
        return ()
    dotted = [name.partition(".") for name in names if "." in name]
    taps = {tap for _, _, rest in dotted for tap in (rest, rest.partition(".")[0])}
    members = dict.fromkeys(first for first, _, _ in dotted if first not in taps)
    found = tuple(name for member in members if (name := f"{member}.{need}") in names)
    return found if len(found) == len(members) > 1 else ()
