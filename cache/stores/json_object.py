"""Small descriptions as JSON objects of a store: zarr's, and the indexes of target tars."""

import json
from collections.abc import Mapping
from typing import Any

from kdcache.cache.stores.contract import Store, bad_object

MAX_BYTES = 256 << 20


def json_bytes(plain: Mapping[str, Any]) -> bytes:
    """The one form that the same values have."""
    return json.dumps(plain, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def read_json(store: Store, name: str) -> dict[str, Any]:
    """The values back. Raises BadCache when the object is missing, too large, or no JSON object."""
    content = store.get(name)[0]
    if len(content) > MAX_BYTES:
        raise bad_object(
            f"'{name}' has {len(content)} bytes, at most {MAX_BYTES} are read", store.where(name)
        )
    try:
        plain = json.loads(bytes(content))
    except (ValueError, RecursionError) as error:
        raise bad_object(f"'{name}' is not JSON: {error}", store.where(name)) from error
    if not isinstance(plain, dict):
        raise bad_object(f"'{name}' holds no JSON object", store.where(name))
    return plain
