"""What a store and a target format promise.

A store keeps named, immutable byte objects: `put` makes one whole or not at all, `get` reads ranges of it,
`create` writes the small record that alone says the objects count, and never over another. A target format
lays targets out in objects: it writes one shard, a (block, view, pass), at a time, always whole, and hands
rows out again.
"""

import builtins
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple, Protocol

import numpy as np
from msgspec import Meta

from kdcache.cache.errors import BadCache
from kdcache.cache.spec import PartSpec, RowParts, TensorSpec
from kdcache.cache.stores.even_rows import Slots

Buffer = bytes | memoryview
ObjectName = Annotated[str, Meta(pattern=r"\A[^\x00-\x1f]{1,1024}\Z")]
NumBytes = Annotated[int, Meta(ge=0, le=1 << 50)]
REPAIR = "run 'kdcache build --repair': it re-makes just that shard"


class ShardKey(NamedTuple):
    """Which shard: the samples of a block, or what one pass of the teacher wrote for it under one view."""

    block: int
    view: int = -1  # global view number; -1 for the samples
    pass_id: str = ""  # 8 hex digits of `pass_id`; empty for the samples

    @property
    def of_samples(self) -> bool:
        return self.view < 0

    @property
    def title(self) -> str:
        return f"shard {self.block:05d}" + (" (samples)" if self.of_samples else f" view {self.view}")


class ObjectRecord(NamedTuple):
    """One finished object: its name in the store, its bytes, 'x3:' and the XXH3-128 of them."""

    name: ObjectName
    num_bytes: NumBytes
    digest: str


class Store(Protocol):
    """Named objects. Names are posix paths relative to the store, without '..'."""

    def put(self, name: str, buffer: Buffer | Sequence[Buffer]) -> ObjectRecord:
        """Store the buffers, one after another, as one object; replaces an older one atomically.

        Raises DiskFull, with nothing left behind and everything older intact.
        """
        ...

    def get(self, name: str, ranges: Sequence[tuple[int, int]] | None = None) -> "builtins.list[memoryview]":
        """Read-only bytes for each (offset, number of bytes), or all of them. Raises BadCache if not
        there."""
        ...

    def open_map(self, name: str) -> np.ndarray:
        """The whole object as one read-only uint8 array, without copying it. Raises BadCache if not there."""
        ...

    def exists(self, name: str) -> bool: ...

    def where(self, name: str) -> str:
        """Where an object lies, or would: what a message names."""
        ...

    def list(self, prefix: str = "") -> "builtins.list[str]":
        """Names that start with `prefix`, sorted."""
        ...

    def remove(self, name: str) -> None:
        """Forget an object; nothing happens when it is not there. Open maps of it stay readable."""
        ...

    def create(self, name: str, buffer: Buffer) -> ObjectRecord:
        """Store an object under a free name, after everything put before it is safely stored.

        Raises BadCache when the name is taken by other bytes, DiskFull.
        """
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class TapLayout:
    """How one tap is stored: the codec's name, and the parts for each map size (`TensorSpec.size_key`)."""

    codec: str
    parts: Mapping[str, Mapping[str, PartSpec]]


@dataclass(frozen=True, slots=True, kw_only=True)
class TargetLayout:
    """What a format must know of a cache: how many views and samples, how they are blocked, which taps."""

    teacher: str
    num_views: int
    num_samples: int  # indices that exist: blocks x shard_samples
    shard_samples: int
    zstd: bool
    taps: Mapping[str, TapLayout]
    vector_bytes: int = 0  # that a chunk of vectors has at least; 0: every row is a chunk of its own


class BlockRows(Protocol):
    """The rows of one (block, view, tap, map size)."""

    @property
    def parts(self) -> tuple[str, ...]: ...

    def row(self, index: int, part: str) -> np.ndarray:
        """One part of the row at place `index` of the block: a read-only view of the mapped object where it
        is stored raw. Raises BadCache when the row is not there."""
        ...

    def gather(self, places: np.ndarray, part: str, out: np.ndarray, slots: Slots) -> None:
        """Copy one part of the rows at `places` (int64) into the rows `slots` of `out` (B, *part.shape), as
        many, of the part's type. Raises BadCache when one of them is not there."""
        ...


class TargetFormat(Protocol):
    """A way to lay targets out in objects."""

    @property
    def name(self) -> str: ...

    def prepare(self, store: Store, layout: TargetLayout, live: Container[str]) -> None:
        """Write or grow what describes the targets; touches no target. Calling it again writes nothing.

        Raises BadCache where one of the taps `live`, which a generation counts, is described otherwise.
        """
        ...

    def problems(self, store: Store, layout: TargetLayout) -> Iterator[str]:
        """What is wrong with the descriptions that `prepare` wrote of this layout."""
        ...

    def pack(
        self,
        layout: TargetLayout,
        shard: ShardKey,
        *,
        targets: Mapping[str, Sequence[RowParts | None]],
        sizes: Mapping[str, Sequence[TensorSpec | None]],
    ) -> Iterator[tuple[str, Sequence[Buffer]]]:
        """The objects of one shard of targets, as names and bytes. `targets[tap][row]` is None for a row
        without a target; `sizes[tap][row]` says which map size a row has, and the layout holds the parts of
        each."""
        ...

    def open(
        self,
        store: Store,
        layout: TargetLayout,
        shard: ShardKey,
        *,
        tap: str,
        size_key: str,
        valid: np.ndarray | None = None,
    ) -> BlockRows:
        """The rows of one tap and map size. `valid`, (rows,) bool, is the shard's own column of that name:
        where many rows share a chunk only it says which are there. Raises BadCache when the object is
        missing, short or corrupt."""
        ...


def bad_object(what: str, where: str) -> BadCache:
    """The error for bytes of a store that are not what they must be; `where` is as `Store.where` says it."""
    return BadCache(what, where=where, fix=REPAIR)


def rows_by_size(
    targets: Sequence[RowParts | None], sizes: Sequence[TensorSpec | None]
) -> dict[str, list[RowParts | None]]:
    """Size key -> all rows of the block, None at rows of another size or without a target."""
    keys = [None if t is None or s is None else s.size_key for t, s in zip(targets, sizes, strict=True)]
    return {
        key: [t if k == key else None for t, k in zip(targets, keys, strict=True)]
        for key in sorted({k for k in keys if k is not None})
    }
