"""A sealed file with other contents and a seal that fits: what no digest finds."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kdcache.cache.record.sealed import sealed


def reseal(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """`change` gets the file's plain JSON and alters it in place."""
    plain = json.loads(path.read_text())
    del plain["seal"]
    change(plain)
    path.write_bytes(sealed(plain))
