"""A sealed file with other contents and a seal that fits: what no digest finds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdcache.cache.files.seal import sealed_text
from kdcache.cache.record.sealed import sealed


def reseal(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """`change` gets the file's plain JSON and alters it in place."""
    plain = json.loads(path.read_text())
    del plain["seal"]
    change(plain)
    path.write_bytes(sealed(plain))


def reseal_text(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """The same of a file of a run, which is written for people."""
    plain = json.loads(path.read_text())
    del plain["seal"]
    change(plain)
    path.write_text(sealed_text(plain))
