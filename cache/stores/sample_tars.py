"""Samples, each once: `samples/<block>.tar` for WebDataset readers, `samples/<block>.json` with offsets.

Members of the sample at global index 12: `00000012.jpg` or `.png` (the source's own bytes), its label under
the suffix of its task's truth, `00000012.label.png` (8-bit grey train ids) or `00000012.cls` (the class in
ASCII), and `00000012.json` (its key and size). The key is never a member's name: a dot in it would merge
samples. A sample that '--skip-bad' marked invalid has no members, but keeps its place in the index. What the
truth keeps in columns of its own ('classes') stands in the index too: it is known without touching a tar.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from kdcache.cache.errors import BadSample
from kdcache.cache.stores.contract import Buffer, ObjectRecord, Store, bad_object
from kdcache.cache.stores.tar_pack import pack_tar
from kdcache.cache.views.draw import key_hash

FORMAT = 1
_MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png"}
_COLUMNS = ("keys", "suffixes", "valid", "heights", "widths", "digests", "images", "labels")
_FIELDS = ("format", "first_index", *_COLUMNS)  # anything else in an index is a column of the truth


class SampleEntry(NamedTuple):
    """One sample on its way into a tar. Height and width in pixels; `digest` is of the source's own bytes."""

    key: str
    suffix: str  # of the image's member
    image: bytes
    label_suffix: str
    label: bytes
    height: int
    width: int
    valid: bool = True
    digest: str = ""
    columns: Mapping[str, int] = {}  # what the truth keeps in the index; the same names in every entry


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


def bad_entry(key: str, digest: str = "", *, columns: Mapping[str, int] | None = None) -> SampleEntry:
    """The entry of a sample that cannot be used: keeps its place, holds nothing."""
    return SampleEntry(key, "", b"", "", b"", 0, 0, False, digest, columns or {})


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
    columns = dict.fromkeys(name for e in entries for name in e.columns)
    return buffers, index | {name: [e.columns[name] for e in entries] for name in columns}


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
        # What the truth keeps here, by name, int64.
        self.columns = {name: np.asarray(index[name], dtype=np.int64) for name in _truth_columns(index)}
        self._images = self._spans(index["images"])
        self._labels = self._spans(index["labels"])

    def __len__(self) -> int:
        return len(self.keys)

    def image(self, row: int) -> np.ndarray:
        """The encoded image at place `row` of the block, 1-D uint8. Raises BadSample when marked invalid."""
        return self._span(self._images, row)

    def label(self, row: int) -> np.ndarray:
        """The label as it lies in the tar, 1-D uint8. Raises BadSample when the sample is marked invalid."""
        return self._span(self._labels, row)

    def _span(self, spans: np.ndarray, row: int) -> np.ndarray:
        self.require_valid(row)
        offset, num_bytes = spans[row]
        view: np.ndarray = self._tar[offset : offset + num_bytes]
        return view

    def require_valid(self, row: int) -> None:
        """Raises BadSample for a sample that is marked invalid."""
        if not self.valid[row]:
            raise BadSample(
                f"sample '{self.keys[row]}' is marked invalid: its image or label could not be used",
                where=self.name,
                fix="leave it out, or mend the files and run 'kdcache build --update'",
            )

    def _spans(self, pairs: Sequence[Sequence[int]]) -> np.ndarray:
        spans = np.asarray(pairs, dtype=np.int64).reshape(len(self.keys), 2)
        if spans.size and (spans.min() < 0 or int(spans.sum(1).max()) > self._tar.size):
            raise bad_object(f"'{self.name}' has {self._tar.size} bytes, its index needs more", self.name)
        return spans


def open_samples(store: Store, block: int) -> SampleBlock:
    """Map one block's tar and read its index. Raises BadCache when either is missing, torn or too short."""
    tar, name = store.open_map(tar_name(block)), index_name(block)
    try:
        index = store.read_json(name)
        if index["format"] != FORMAT:
            raise ValueError(f"format {index['format']}, this kdcache reads {FORMAT}")
        lengths = {len(index[column]) for column in (*_COLUMNS, *_truth_columns(index))}
        if len(lengths) != 1:
            raise ValueError("its columns differ in length")
        return SampleBlock(tar, index, name=tar_name(block))
    except (ValueError, KeyError, TypeError) as error:
        raise bad_object(f"'{name}' cannot be read: {error}", name) from error


def _truth_columns(index: Mapping[str, Any]) -> list[str]:
    return [name for name in index if name not in _FIELDS]


def _members(first_index: int, entries: Sequence[SampleEntry]) -> Iterator[tuple[str, Buffer]]:
    for number, entry in enumerate(entries, first_index):
        if not entry.valid:
            continue
        about = {"height": entry.height, "key": entry.key, "width": entry.width}
        yield f"{number:08d}.{entry.suffix}", entry.image
        yield f"{number:08d}.{entry.label_suffix}", entry.label
        yield f"{number:08d}.json", json.dumps(about, sort_keys=True).encode()
