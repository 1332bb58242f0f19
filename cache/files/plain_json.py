"""JSON of bounded length and depth. A byte of text may become twenty of Python objects, and values that lie
in each other a thousand deep end whoever walks them."""

import json
import re
from pathlib import Path
from typing import Any

from kdcache.cache.files.regular import read_regular

MAX_BYTES = 8 << 20  # of a description: manifests, cards, indexes
MAX_DEPTH = 64  # ensembles of networks lie deepest, at about ten
_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*+"|[\[{]|[\]}]', re.DOTALL)


def parse_json(content: bytes | memoryview, max_bytes: int = MAX_BYTES, max_depth: int = MAX_DEPTH) -> Any:
    """The values. Raises ValueError for text that is none, too long or too deep."""
    if len(content) > max_bytes:
        raise ValueError(f"it has {len(content)} bytes, at most {max_bytes} are read")
    plain = bytes(content)
    check_depth(plain, max_depth)
    try:
        return json.loads(plain)
    except RecursionError as error:
        raise ValueError("its values lie too deep in each other") from error


def read_json_object(path: Path, max_bytes: int = MAX_BYTES, *, follow: bool = True) -> dict[str, Any]:
    """The object that a file holds. Raises OSError, or ValueError for anything else."""
    plain = parse_json(read_regular(path, max_bytes, follow=follow), max_bytes)
    if not isinstance(plain, dict):
        raise ValueError(f"it holds {kind_of_value(plain)}, not an object")
    return plain


def check_depth(content: bytes, max_depth: int = MAX_DEPTH) -> None:
    """Raises ValueError where values lie deeper in each other than so many lists and objects."""
    if content.count(b"[") + content.count(b"{") <= max_depth:
        return
    depth = 0
    for token in _TOKEN.finditer(content):
        first = content[token.start()]
        depth += (first in b"[{") - (first in b"]}")
        if depth > max_depth:
            raise ValueError(f"its values lie more than {max_depth} deep in each other")


def kind_of_value(plain: object) -> str:
    """'a list' of what JSON calls so."""
    named = {list: "a list", dict: "an object", str: "a text", bool: "true or false", type(None): "null"}
    return named.get(type(plain), "a number")
