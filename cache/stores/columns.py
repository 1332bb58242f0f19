"""Columns: what a block says of its rows, one array a fact, in a safetensors file that any reader opens.

A column of text is two arrays, `<name>.text` (the UTF-8 bytes of all rows, joined) and `<name>.ends` (where
each row ends).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from kdcache.cache.files.tensors import COLUMNS_HEADER, check_header

SUFFIX = ".safetensors"
_TEXT, _ENDS = ".text", ".ends"
FREE_BYTES, BYTES_OF_ROW, MOST_BYTES = (
    1 << 20,
    8192,
    128 << 20,
)  # numbers of a row take 100, its texts the rest


def pack_columns(columns: Mapping[str, np.ndarray | Sequence[str]]) -> bytes:
    """The bytes of a file; the same columns give the same bytes."""
    arrays: dict[str, np.ndarray] = {}
    for name, column in columns.items():
        if isinstance(column, np.ndarray):
            arrays[name] = np.ascontiguousarray(column)
            continue
        rows = [text.encode() for text in column]
        arrays[name + _TEXT] = np.frombuffer(b"".join(rows), dtype=np.uint8)
        arrays[name + _ENDS] = np.cumsum([len(row) for row in rows], dtype=np.int64)
    packed: bytes = save({name: arrays[name] for name in sorted(arrays)})
    return packed


def read_columns(content: bytes | memoryview, rows: int | None = None) -> dict[str, np.ndarray]:
    """Every array by name, of a file of `rows` rows. Raises ValueError for bytes that are no such file, or
    more than so many rows take."""
    most = MOST_BYTES if rows is None else min(MOST_BYTES, FREE_BYTES + BYTES_OF_ROW * rows)
    if len(content) > most:
        raise ValueError(f"it has {len(content)} bytes, at most {most} are read for {rows} rows")
    check_header(content, len(content), COLUMNS_HEADER)
    try:
        arrays: dict[str, np.ndarray] = load(bytes(content))
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"no file of columns: {error}") from error
    return arrays


def column(arrays: Mapping[str, np.ndarray], name: str, dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    """One array of this type and shape. Raises ValueError for another, or none."""
    array = arrays.get(name)
    if array is None or array.dtype != np.dtype(dtype) or array.shape != shape:
        have = "absent" if array is None else f"{array.dtype}{list(array.shape)}"
        raise ValueError(f"column '{name}' is {have}, not {dtype}{list(shape)}")
    return array


def text_column(arrays: Mapping[str, np.ndarray], name: str, num_rows: int) -> list[str]:
    """The texts of a column. Raises ValueError where it is none of `num_rows` rows."""
    ends = column(arrays, name + _ENDS, "int64", (num_rows,))
    text = arrays.get(name + _TEXT)
    total = int(ends[-1]) if num_rows else 0
    if (
        text is None
        or text.dtype != np.uint8
        or text.shape != (total,)
        or (np.diff(ends, prepend=0) < 0).any()
    ):
        raise ValueError(f"column '{name}' is no text of {num_rows} rows")
    joined, starts = text.tobytes(), [0, *ends.tolist()]
    return [joined[start:end].decode() for start, end in zip(starts, starts[1:], strict=False)]
