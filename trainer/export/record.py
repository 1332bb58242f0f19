"""What an export says of itself: `export.json`, sealed, beside the files that it names by their digests.

Whoever opens an export compares every file with its digest first: a graph of another student, or one whose
bytes were changed, is refused before a library reads it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import msgspec

from kdcache.cache.errors import BadWeights, Missing, Refused
from kdcache.cache.files.plain_json import MAX_BYTES
from kdcache.cache.files.regular import read_regular
from kdcache.cache.files.seal import decode_sealed, sealed
from kdcache.cache.files.system import touching, user_path
from kdcache.cache.grid import DenseGrid
from kdcache.cache.networks.run_card import file_digest
from kdcache.cache.tasks.table import task_row

RECORD = "export.json"
FORMAT = 1
Side = Annotated[int, msgspec.Meta(ge=1, le=1 << 16)]
Text = Annotated[str, msgspec.Meta(max_length=4096)]
Plain = Annotated[str, msgspec.Meta(pattern=r"\A[A-Za-z0-9_][A-Za-z0-9_.-]*\Z", max_length=128)]


class ExportRecord(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`crop` is the input (height, width) that the student was made for, `data` what it was trained on."""

    format: int
    form: Plain  # of trainer/export/export.py
    run: Text
    student: Text  # digest of the run's weights
    task: Plain
    data: Text
    class_names: Annotated[tuple[Text, ...], msgspec.Meta(max_length=1 << 16)]
    crop: tuple[Side, Side]
    outputs: Annotated[tuple[Plain, ...], msgspec.Meta(min_length=1, max_length=256)]  # taps, in order
    # (height, width) that a graph takes, or none: any from `least_px` on
    fixed_px: tuple[Side, Side] | None
    least_px: Side
    stride: Annotated[int, msgspec.Meta(ge=0, le=1 << 16)]  # pixels per cell of its maps, where they are cut
    grid: dict[str, Any] | None  # of a detector
    difference: float  # from torch, the largest that was seen
    files: dict[Plain, Text]  # name -> SHA-256

    @property
    def dense_grid(self) -> DenseGrid | None:
        return None if self.grid is None else DenseGrid.from_dict(self.grid)


def write_record(folder: Path, record: ExportRecord) -> None:
    (folder / RECORD).write_bytes(sealed(record, readable=True))


def digests(folder: Path) -> Mapping[str, str]:
    """Of every file in a folder that is being drawn."""
    return {path.name: file_digest(path) for path in sorted(folder.iterdir()) if path.name != RECORD}


def read_record(folder: Path) -> ExportRecord:
    """The record, its files compared with their digests.

    Raises Missing for a folder that is no export, BadWeights for one that was changed, BadOption for a task
    that this kdcache does not have.
    """
    folder = user_path(folder)
    path = folder / RECORD
    if not path.is_file():
        raise Missing(
            f"no export: there is no {RECORD}",
            where=str(folder),
            fix="write one: kdtrain export RUN --to onnx --out DIR",
        )
    try:
        with touching(f"'{RECORD}' cannot be read", path):
            record, _ = decode_sealed(read_regular(path, MAX_BYTES), ExportRecord)
        if record.format != FORMAT:
            raise ValueError(f"format {record.format}, and {FORMAT} is read")
        _ = record.dense_grid
    except Refused:
        raise
    except (OSError, ValueError, KeyError, TypeError) as damage:
        raise _changed(folder, f"'{RECORD}' is not as it was written: {damage}") from damage
    task_row(record.task, where=str(path))
    for name, digest in record.files.items():
        _check_file(folder, name, digest)
    return record


def _check_file(folder: Path, name: str, digest: str) -> None:
    path = folder / name
    if not path.is_file():
        raise _changed(folder, f"'{name}' is not there")
    try:
        there = file_digest(path)
    except Refused:
        raise
    except (OSError, ValueError) as damage:
        raise _changed(folder, f"'{name}' cannot be read: {damage}") from damage
    if there != digest:
        raise _changed(folder, f"'{name}' is not as it was exported: {digest[:8]} then, {there[:8]} now")


def _changed(folder: Path, what: str) -> BadWeights:
    return BadWeights(what, where=str(folder), fix="export the run again into a new folder")
