"""Small descriptions as JSON objects of a store: zarr's, and the indexes of target tars."""

import json
from collections.abc import Mapping
from typing import Any

from kdcache.cache.files.plain_json import kind_of_value, parse_json
from kdcache.cache.stores.contract import Store, bad_object

MAX_BYTES = 1 << 20


def json_bytes(plain: Mapping[str, Any]) -> bytes:
    """The one form that the same values have."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def read_json(store: Store, name: str) -> dict[str, Any]:
    """The values back. Raises BadCache when the object is missing, too large, or no JSON object."""
    content = read_bytes(store, name, MAX_BYTES)
    try:
        plain = parse_json(content, MAX_BYTES)
    except ValueError as error:
        raise bad_object(f"'{name}' is not JSON: {error}", store.where(name)) from error
    if not isinstance(plain, dict):
        raise bad_object(f"'{name}' holds no JSON object, but {kind_of_value(plain)}", store.where(name))
    return plain


def read_bytes(store: Store, name: str, max_bytes: int) -> bytes:
    """An object of so many bytes at most. Raises BadCache when it is missing or larger."""
    content = store.get(name)[0]
    if len(content) > max_bytes:
        raise bad_object(
            f"'{name}' has {len(content)} bytes, at most {max_bytes} are read", store.where(name)
        )
    return bytes(content)
