"""What comes after a batch's forward, in a thread of its own: digests of the pixels, codecs, a place for each
row in its shard.

On a CPU small batches of one shard wait for each other and are encoded as one: a call costs as much for eight
vectors as for hundreds, and takes the interpreter from the teacher meanwhile.
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from kdcache.cache.build.draw import PackedImages, Shard
from kdcache.cache.build.stages.departure import CudaLane, Departure, Leaving
from kdcache.cache.codecs.contract import Codec
from kdcache.cache.errors import BadSample
from kdcache.cache.images.feed import pixel_digests
from kdcache.cache.record.manifest import TapEntry
from kdcache.cache.spec import TensorSpec
from kdcache.cache.views.view import Row

JOINED_BYTES = 1 << 20  # pixels and answers of batches that are encoded as one; a larger one never waits


class Answered(NamedTuple):
    """A batch and what the teacher said; without rows where a shard has nothing to compute."""

    shard: Shard
    rows: Sequence[Row]
    last: bool  # the shard is complete after this batch
    images_BHWC: Tensor | None = None
    values: Mapping[str, Tensor] = {}  # target -> (B, C, H, W) or (B, C), reduced
    ready: Any = None  # on a GPU: the mark behind which the values stand

    @property
    def num_bytes(self) -> int:
        """Of its pixels and what was said of them."""
        images = () if self.images_BHWC is None else (self.images_BHWC,)
        return sum(t.numel() * t.element_size() for t in (*images, *self.values.values()))

    @property
    def row_shapes(self) -> dict[str, tuple[int, ...]]:
        images = {} if self.images_BHWC is None else {"": tuple(self.images_BHWC.shape[1:])}
        return images | {name: tuple(value.shape[1:]) for name, value in self.values.items()}


class _Encoded(NamedTuple):
    answered: Answered
    parts: Mapping[str, Mapping[str, np.ndarray] | Leaving]
    shapes: Mapping[str, tuple[int, ...]]


class Finisher:
    """Call it for each batch in order; `complete` is called with every shard that is complete."""

    def __init__(
        self,
        entries: Mapping[str, TapEntry],
        codecs: Mapping[str, Codec],
        packed: PackedImages,
        complete: Callable[[Shard], None],
        device: torch.device,
    ) -> None:
        self._entries, self._codecs, self._packed, self._complete = entries, codecs, packed, complete
        self._lane = CudaLane(device) if device.type == "cuda" else None
        self._departures = {name: Departure(self._lane) for name in codecs} if self._lane else {}
        self._under_way: list[_Encoded] = []
        self._waiting: list[Answered] = []  # of one shard and of rows of one shape

    @torch.no_grad()
    def __call__(self, answered: Answered) -> None:
        if self._waiting and self._waiting[0].row_shapes != answered.row_shapes:
            self._encode()
        if answered.rows:
            self._waiting.append(answered)
        full = sum(one.num_bytes for one in (*self._waiting, answered)) > JOINED_BYTES  # with one more
        if self._waiting and (answered.last or full or self._lane):
            self._encode()
        # One batch stays under way on a device while the next one is encoded; on a CPU all have arrived.
        keep = 1 if self._lane and not answered.last else 0
        while len(self._under_way) > keep:
            self._place(self._under_way.pop(0))
        if answered.last:
            self._complete(answered.shard)

    def _encode(self) -> None:
        """What waits, as one batch. Raises BadSample that names the batch that it came with."""
        waiting, self._waiting = self._waiting, []
        try:
            self._under_way.append(self._encoded(joined(waiting)))
        except BadSample:
            for answered in waiting:  # the one that is to blame raises, with its own names
                self._encoded(answered)
            raise

    def _encoded(self, answered: Answered) -> _Encoded:
        images_BHWC = answered.images_BHWC
        assert images_BHWC is not None, "a batch with rows shows images"
        with self._lane.after(answered.ready) if self._lane else nullcontext():
            if self._lane:  # else their memory could be given to the next batch
                for tensor in (images_BHWC, *answered.values.values()):
                    tensor.record_stream(self._lane.stream)
            digests = pixel_digests(images_BHWC)
            for digest, row in zip(digests, answered.rows, strict=True):
                answered.shard.pixels[row.sample - answered.shard.first] = digest
            parts = {name: self._parts(name, value, answered) for name, value in answered.values.items()}
        return _Encoded(answered, parts, {name: tuple(v.shape) for name, v in answered.values.items()})

    def _parts(self, name: str, value: Tensor, answered: Answered) -> Mapping[str, np.ndarray] | Leaving:
        """Raises BadSample that names the batch."""
        codec = self._codecs[name]
        try:
            if self._lane is None or (on_device := getattr(codec, "on_device", None)) is None:
                return codec.encode(value)
            return self._departures[name].leave(on_device(value))
        except BadSample as error:
            raise BadSample(
                f"tap '{name}': {error.what}",
                where=f"one of {', '.join(self._packed.key(row.sample) for row in answered.rows)}",
                fix=error.fix,
            ) from error

    def _place(self, encoded: _Encoded) -> None:
        batch = encoded.answered
        for name, there in encoded.parts.items():
            parts = there.arrive() if isinstance(there, Leaving) else there
            _, channels, *cells = encoded.shapes[name]
            spec = TensorSpec((*cells, channels), self._entries[name].stride)
            targets, sizes = batch.shard.targets[name], batch.shard.sizes[name]
            of_rows = [dict(zip(parts, row, strict=True)) for row in zip(*parts.values(), strict=True)]
            for row, of_row in zip(batch.rows, of_rows, strict=True):
                place = row.sample - batch.shard.first
                targets[place], sizes[place] = of_row, spec


def joined(batches: Sequence[Answered]) -> Answered:
    """Batches of one shard and of rows of one shape as one."""
    first, last = batches[0], batches[-1]
    if first is last:
        return first
    images = [batch.images_BHWC for batch in batches if batch.images_BHWC is not None]
    return last._replace(
        rows=[row for batch in batches for row in batch.rows],
        images_BHWC=torch.cat(images),
        values={name: torch.cat([batch.values[name] for batch in batches]) for name in first.values},
    )
