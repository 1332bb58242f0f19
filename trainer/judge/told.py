"""What is told of images as files that other programs read: CSV and JSON."""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def csv_bytes(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """Lines of comma-separated values, quoted where a value holds a comma; numbers that are no integers with
    six digits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows([_cell(value) for value in row] for row in rows)
    return text.getvalue().encode()


def json_bytes(value: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(value)}\n".encode()


def _cell(value: Any) -> str:
    return str(value) if isinstance(value, str | int) else f"{float(value):.6f}"
