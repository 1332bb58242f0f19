"""Samples, each once: `samples/<block>.tar` for WebDataset readers, `samples/<block>.safetensors` with
columns.

Members of the sample at global index 12: `00000012.jpg` or `.png` (the source's own bytes), its label under
the suffix of its task's truth, `00000012.label.png` (8-bit grey train ids) or `00000012.cls` (the class in
ASCII), and `00000012.json` (its key and size). The key is never a member's name: a dot in it would merge
samples. A sample that '--skip-bad' marked invalid has no members, but keeps its place in the index. What the
truth keeps in columns of its own ('truth.classes') stands in the index too: it is known without touching a
tar.

Columns of the index, one value a sample: text `keys` and `suffixes`, uint8 `valid`, int32 `heights` and
`widths`, int64 `images` and `labels` (offset and bytes in the tar), uint8[16] `image_digests` and
`label_digests` (XXH3 of the source's own bytes).
"""

import io
import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from kdcache.cache.errors import LEAVE_OUT, BadCache, BadSample
from kdcache.cache.files.picture import MAX_PIXELS, is_png, picture_size
from kdcache.cache.files.plain_json import parse_json
from kdcache.cache.stores.columns import SUFFIX, column, pack_columns, read_columns, text_column
from kdcache.cache.stores.contract import Buffer, Store, bad_object
from kdcache.cache.stores.tar_pack import pack_tar
from kdcache.cache.views.words import key_hash

DIGEST_BYTES = 16
NO_DIGEST = bytes(DIGEST_BYTES)  # of what could not be read
_MAGIC = {b"\xff\xd8\xff": "jpg", b"\x89PNG": "png"}
_ABOUT_BYTES = 1 << 16  # of a member that tells a key and a size
_TRUTH = "truth."  # before the names of the truth's own columns


class SampleEntry(NamedTuple):
    """One sample on its way into a tar. Height and width in pixels; digests are of the source's own bytes."""

    key: str
    suffix: str  # of the image's member
    image: bytes
    label_suffix: str
    label: bytes
    height: int
    width: int
    valid: bool = True
    image_digest: bytes = NO_DIGEST
    label_digest: bytes = NO_DIGEST
    columns: Mapping[str, int] = {}  # what the truth keeps in the index; the same names in every entry


def image_suffix(image: bytes, *, key: str) -> str:
    """'jpg' or 'png' by the first bytes, whatever the file is called. Raises BadSample for anything else."""
    for magic, suffix in _MAGIC.items():
        if image.startswith(magic):
            return suffix
    raise BadSample(
        f"the image of '{key}' is neither JPEG nor PNG: it starts with {image[:8].hex(' ') or 'nothing'}",
        where=f"sample '{key}'",
        fix=f"convert it to JPEG or PNG, or {LEAVE_OUT}",
    )


def bad_entry(
    key: str,
    image_digest: bytes = NO_DIGEST,
    label_digest: bytes = NO_DIGEST,
    *,
    columns: Mapping[str, int] | None = None,
) -> SampleEntry:
    """The entry of a sample that cannot be used: keeps its place, holds nothing."""
    return SampleEntry(key, "", b"", "", b"", 0, 0, False, image_digest, label_digest, columns or {})


def tar_name(block: int) -> str:
    return f"samples/{block:05d}.tar"


def index_name(block: int) -> str:
    return f"samples/{block:05d}{SUFFIX}"


def pack_samples(first_index: int, entries: Sequence[SampleEntry]) -> tuple[list[Buffer], bytes]:
    """One block's tar as buffers, and its index."""
    buffers, offsets = pack_tar(_members(first_index, entries))
    place = iter(offsets)
    spans = np.zeros((2, len(entries), 2), dtype=np.int64)  # of images, of labels
    for row, entry in enumerate(entries):
        if entry.valid:
            image, label, _ = next(place), next(place), next(place)
            spans[:, row] = (image, len(entry.image)), (label, len(entry.label))
    columns: dict[str, np.ndarray | Sequence[str]] = {
        "keys": [e.key for e in entries],
        "suffixes": [e.suffix for e in entries],
        "valid": np.array([e.valid for e in entries], dtype=np.uint8),
        "heights": np.array([e.height for e in entries], dtype=np.int32),
        "widths": np.array([e.width for e in entries], dtype=np.int32),
        "image_digests": _digest_column([e.image_digest for e in entries]),
        "label_digests": _digest_column([e.label_digest for e in entries]),
        "images": spans[0],
        "labels": spans[1],
    }
    names = dict.fromkeys(name for e in entries for name in e.columns)
    of_truth = {_TRUTH + n: np.array([e.columns[n] for e in entries], dtype=np.int64) for n in names}
    return buffers, pack_columns(columns | of_truth)


def packed_objects(
    block: int, shard_samples: int, entries: Sequence[SampleEntry]
) -> list[tuple[str, Sequence[Buffer]]]:
    """The tar and the index of a block, by name, in the order in which they are stored."""
    buffers, index = pack_samples(block * shard_samples, entries)
    return [(tar_name(block), buffers), (index_name(block), [index])]


class SampleColumns:
    """What an index says of the samples of one block, but for their keys and where they lie."""

    def __init__(self, index: Mapping[str, np.ndarray], rows: int) -> None:
        """Raises ValueError for columns that are not those of `rows` samples."""
        self.valid = column(index, "valid", "uint8", (rows,)).astype(bool)
        self.heights = column(index, "heights", "int32", (rows,)).astype(np.int64)
        self.widths = column(index, "widths", "int32", (rows,)).astype(np.int64)
        self._check_sizes()
        # What the truth keeps here, by name, int64.
        truths = [name for name in index if name.startswith(_TRUTH)]
        self.columns = {n.removeprefix(_TRUTH): column(index, n, "int64", (rows,)) for n in truths}

    def __len__(self) -> int:
        return len(self.valid)

    def _check_sizes(self) -> None:
        """Raises ValueError for an image without pixels, or of more than are decoded."""
        heights, widths = self.heights[self.valid], self.widths[self.valid]
        if heights.size and (min(heights.min(), widths.min()) < 1 or (heights * widths).max() > MAX_PIXELS):
            raise ValueError(f"an image of no pixels, or of more than {MAX_PIXELS}")


class SampleBlock(SampleColumns):
    """The samples of one block: columns in memory, images and labels as views of the mapped tar."""

    def __init__(
        self, tar: np.ndarray, index: Mapping[str, np.ndarray], *, rows: int, name: str, where: str
    ) -> None:
        """Raises ValueError for columns that are not those of `rows` samples, BadCache, naming the tar, when
        they do not fit it."""
        self.name, self.where = name, where
        self._tar = tar
        self.keys: tuple[str, ...] = tuple(text_column(index, "keys", rows))
        self.suffixes: tuple[str, ...] = tuple(text_column(index, "suffixes", rows))
        self.image_digests = column(index, "image_digests", "uint8", (rows, DIGEST_BYTES))
        self.label_digests = column(index, "label_digests", "uint8", (rows, DIGEST_BYTES))
        super().__init__(index, rows)
        self.key_hashes = np.asarray([key_hash(key) for key in self.keys], dtype=np.uint64)
        self._images = self._spans(column(index, "images", "int64", (rows, 2)))
        self._labels = self._spans(column(index, "labels", "int64", (rows, 2)))

    def image(self, row: int) -> np.ndarray:
        """The encoded image at place `row` of the block, 1-D uint8. Raises BadSample when marked invalid,
        BadCache where it claims another size than the index says, or none that could be compared."""
        encoded = self._picture(self._span(self._images, row), row, "image")
        if picture_size(encoded.data) is None and not is_png(encoded.data):
            head = bytes(encoded[:8]).hex(" ") or "nothing"
            what = f"the image of '{self.keys[row]}' is neither JPEG nor PNG, or cut short"
            raise bad_object(f"{what}: it starts with {head}", self.where)
        return encoded

    def label(self, row: int) -> np.ndarray:
        """The label as it lies in the tar, 1-D uint8. Raises as `image`."""
        return self._picture(self._span(self._labels, row), row, "label")

    def _picture(self, encoded: np.ndarray, row: int, part: str) -> np.ndarray:
        """The same bytes, of a size that was declared: memory is taken by what the header claims."""
        claimed, said = picture_size(encoded.data), (int(self.heights[row]), int(self.widths[row]))
        if claimed is not None and claimed != said:
            sizes = f"{claimed[0]}x{claimed[1]} pixels, its index says {said[0]}x{said[1]}"
            raise bad_object(f"the {part} of '{self.keys[row]}' has {sizes}", self.where)
        return encoded

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
                where=self.where,
                fix="leave it out, or mend the files and run 'kdcache build --update'",
            )

    def _spans(self, spans: np.ndarray) -> np.ndarray:
        if spans.size and (spans.min() < 0 or (spans[:, 1] > self._tar.size - spans[:, 0]).any()):
            raise bad_object(f"'{self.name}' has {self._tar.size} bytes, its index needs more", self.where)
        return spans

    @property
    def valid_sizes(self) -> list[tuple[int, int]]:
        """(height, width) in pixels of the samples that can be used."""
        pairs = zip(self.heights.tolist(), self.widths.tolist(), self.valid, strict=True)
        return [(height, width) for height, width, valid in pairs if valid]

    def content_digest(self, row: int) -> tuple[bytes, bytes]:
        """Digests of the source's own bytes: of the image, of the label."""
        return self.image_digests[row].tobytes(), self.label_digests[row].tobytes()


def open_samples(store: Store, block: int, rows: int) -> SampleBlock:
    """Map one block's tar and read its index of `rows` samples. Raises BadCache when either is missing, torn
    or too short."""
    tar, name = store.open_map(tar_name(block)), index_name(block)
    try:
        index = read_columns(store.get(name)[0], rows)
        return SampleBlock(tar, index, rows=rows, name=tar_name(block), where=store.where(tar_name(block)))
    except ValueError as error:
        raise bad_object(f"'{name}' cannot be read: {error}", store.where(name)) from error


def packed_keys(store: Store, block: int, rows: int) -> tuple[tuple[str, ...], np.ndarray] | None:
    """Keys and validity of a block whose bytes nobody vouches for, from its index; None where it says
    nothing."""
    try:
        index = read_columns(store.get(index_name(block))[0], rows)
        return tuple(text_column(index, "keys", rows)), column(index, "valid", "uint8", (rows,)).astype(bool)
    except (BadCache, ValueError):
        return None


def keys_in_tar(store: Store, block: int, rows: int) -> tuple[tuple[str, ...], np.ndarray] | None:
    """As `packed_keys`, from the members of the tar; None also where a sample has no members."""
    try:
        with tarfile.open(fileobj=io.BytesIO(store.get(tar_name(block))[0])) as tar:
            members = [m for m in tar if m.name.endswith(".json") and m.isreg() and not m.issparse()]
            files = [tar.extractfile(member) for member in members]
            keys = tuple(
                str(parse_json(file.read(_ABOUT_BYTES))["key"]) for file in files if file is not None
            )
    except (BadCache, tarfile.TarError, ValueError, KeyError, TypeError, OverflowError):
        return None
    return (keys, np.ones(rows, dtype=bool)) if len(keys) == rows else None


def _digest_column(digests: Sequence[bytes]) -> np.ndarray:
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(len(digests), DIGEST_BYTES)


def _members(first_index: int, entries: Sequence[SampleEntry]) -> Iterator[tuple[str, Buffer]]:
    for number, entry in enumerate(entries, first_index):
        if not entry.valid:
            continue
        about = {"height": entry.height, "key": entry.key, "width": entry.width}
        yield f"{number:08d}.{entry.suffix}", entry.image
        yield f"{number:08d}.{entry.label_suffix}", entry.label
        yield f"{number:08d}.json", json.dumps(about, sort_keys=True).encode()
