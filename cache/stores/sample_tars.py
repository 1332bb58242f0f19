"""Samples, each once: `samples/<block>.tar` for WebDataset readers, `samples/<block>.json` with offsets.

Members of the sample at global index 12: `00000012.jpg` or `.png` (the source's own bytes),
`00000012.label.png` (8-bit grey train ids) or `00000012.cls` (the class in ASCII), `00000012.json` (its key
and size). The key is never a member's name: a dot in it would merge samples. A sample that '--skip-bad'
marked invalid has no members, but keeps its place in the index. The index of classification has the classes
as one more column, so that the class of every sample is known without touching a tar.
"""

import json
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from kdcache.cache.errors import BadSample
from kdcache.cache.stores.contract import Buffer, ObjectRecord, Store, damaged
from kdcache.cache.stores.tar_pack import pack_tar
from kdcache.cache.views.draw import key_hash

FORMAT = 1
_MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png"}
_COLUMNS = ("keys", "suffixes", "valid", "heights", "widths", "digests", "images", "labels")


class SampleEntry(NamedTuple):
    """One sample on its way into a tar. Height and width in pixels; `digest` is of the source's own bytes."""

    key: str
    suffix: str
    image: bytes
    label: bytes
    height: int
    width: int
    valid: bool = True
    digest: str = ""
    class_id: int | None = None  # of classification; -1 where the sample is invalid


def image_suffix(image: bytes, *, key: str) -> str:
    """'jpg' or 'png' by the first bytes, whatever the file is called. Raises BadSample for anything else."""
    for magic, suffix in _MAGIC.items():
        if image.startswith(magic):
            return suffix
    raise BadSample(
        f"the image of '{key}' is neither JPEG nor PNG: it starts with {image[:8].hex(' ') or 'nothing'}",
        where=f"sample '{key}'",
        fix="convert it to JPEG or PNG, or leave it out with --skip-bad",
    )


def bad_entry(key: str, digest: str = "", *, classified: bool = False) -> SampleEntry:
    """The entry of a sample that cannot be used: keeps its place, holds nothing."""
    return SampleEntry(key, "", b"", b"", 0, 0, False, digest, -1 if classified else None)


def tar_name(block: int) -> str:
    return f"samples/{block:05d}.tar"


def index_name(block: int) -> str:
    return f"samples/{block:05d}.json"


def pack_samples(first_index: int, entries: Sequence[SampleEntry]) -> tuple[list[Buffer], dict[str, Any]]:
    """One block's tar as buffers, and its index: columns of one value per sample, [0, 0] where there is
    none."""
    buffers, offsets = pack_tar(_members(first_index, entries))
    place = iter(offsets)
    images, labels = [], []
    for entry in entries:
        ours = [next(place), next(place), next(place)] if entry.valid else [0, 0, 0]
        images.append([ours[0], len(entry.image) if entry.valid else 0])
        labels.append([ours[1], len(entry.label) if entry.valid else 0])
    index: dict[str, Any] = {
        "format": FORMAT,
        "first_index": first_index,
        "keys": [e.key for e in entries],
        "suffixes": [e.suffix for e in entries],
        "valid": [e.valid for e in entries],
        "heights": [e.height for e in entries],
        "widths": [e.width for e in entries],
        "digests": [e.digest for e in entries],
        "images": images,
        "labels": labels,
    }
    if any(e.class_id is not None for e in entries):
        index["classes"] = [e.class_id for e in entries]
    return buffers, index


def write_samples(
    store: Store, block: int, first_index: int, entries: Sequence[SampleEntry]
) -> list[ObjectRecord]:
    """Store one block's tar, then its index."""
    buffers, index = pack_samples(first_index, entries)
    return [store.put(tar_name(block), buffers), store.commit(index_name(block), index)]


class SampleBlock:
    """The samples of one block: columns in memory, images and labels as views of the mapped tar."""

    def __init__(self, tar: np.ndarray, index: dict[str, Any], *, name: str) -> None:
        """Raises BadCache, naming the tar, when the index does not fit it."""
        self.name = name
        self._tar = tar
        self.keys: tuple[str, ...] = tuple(index["keys"])
        self.suffixes: tuple[str, ...] = tuple(index["suffixes"])
        self.digests: tuple[str, ...] = tuple(index["digests"])
        self.first_index = int(index["first_index"])
        self.valid = np.asarray(index["valid"], dtype=bool)
        self.heights = np.asarray(index["heights"], dtype=np.int64)
        self.widths = np.asarray(index["widths"], dtype=np.int64)
        self.key_hashes = np.asarray([key_hash(key) for key in self.keys], dtype=np.uint64)
        # Class of each sample, -1 where it is invalid; None in segmentation.
        self.classes = _class_column(index)
        self._images = self._spans(index["images"])
        self._labels = self._spans(index["labels"])

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, row: int) -> np.ndarray:
        """The encoded image at place `row` of the block, 1-D uint8. Raises BadSample when marked invalid."""
        return self._span(self._images, row)

    def label(self, row: int) -> np.ndarray:
        """The encoded grey PNG of train ids, or the class in ASCII, 1-D uint8. Raises BadSample when it is
        marked invalid."""
        return self._span(self._labels, row)

    def class_of(self, row: int) -> np.ndarray:
        """The class, (1,) int64. Raises BadSample when the sample is marked invalid."""
        self._require_valid(row)
        assert self.classes is not None, "classification only"
        return self.classes[row : row + 1]

    def _span(self, spans: np.ndarray, row: int) -> np.ndarray:
        self._require_valid(row)
        offset, num_bytes = spans[row]
        view: np.ndarray = self._tar[offset : offset + num_bytes]
        return view

    def _require_valid(self, row: int) -> None:
        if not self.valid[row]:
            raise BadSample(
                f"sample '{self.keys[row]}' is marked invalid: its image or label could not be used",
                where=self.name,
                fix="leave it out, or mend the files and run 'kdcache build --update'",
            )

    def _spans(self, pairs: Sequence[Sequence[int]]) -> np.ndarray:
        spans = np.asarray(pairs, dtype=np.int64).reshape(len(self.keys), 2)
        if spans.size and (spans.min() < 0 or int(spans.sum(1).max()) > self._tar.size):
            raise damaged(f"'{self.name}' has {self._tar.size} bytes, its index needs more", self.name)
        return spans


def open_samples(store: Store, block: int) -> SampleBlock:
    """Map one block's tar and read its index. Raises BadCache when either is missing, torn or too short."""
    tar, name = store.open_map(tar_name(block)), index_name(block)
    try:
        index = store.read_json(name)
        if index["format"] != FORMAT:
            raise ValueError(f"format {index['format']}, this kdcache reads {FORMAT}")
        optional = ("classes",) if "classes" in index else ()
        lengths = {len(index[column]) for column in (*_COLUMNS, *optional)}
        if len(lengths) != 1:
            raise ValueError("its columns differ in length")
        return SampleBlock(tar, index, name=tar_name(block))
    except (ValueError, KeyError, TypeError) as error:
        raise damaged(f"'{name}' cannot be read: {error}", name) from error


def _class_column(index: dict[str, Any]) -> np.ndarray | None:
    """Raises ValueError unless exactly the valid samples have a class."""
    if "classes" not in index:
        return None
    classes = np.asarray(index["classes"], dtype=np.int64)
    if ((classes >= 0) != np.asarray(index["valid"], dtype=bool)).any():
        raise ValueError("a valid sample without a class")
    return classes


def _members(first_index: int, entries: Sequence[SampleEntry]) -> Iterator[tuple[str, Buffer]]:
    for number, entry in enumerate(entries, first_index):
        if not entry.valid:
            continue
        about = {"height": entry.height, "key": entry.key, "width": entry.width}
        yield f"{number:08d}.{entry.suffix}", entry.image
        yield f"{number:08d}.{'label.png' if entry.class_id is None else 'cls'}", entry.label
        yield f"{number:08d}.json", json.dumps(about, sort_keys=True).encode()
