"""`views/<block>-v<view>-<pass>.safetensors`: the columns of a shard's rows, one object of its record.

valid    uint8 (rows,)      1 where the row holds targets
geometry int32 (rows, 7)    resize h, w, flip, crop y, x, h, w
pixels   uint64 (rows,)     XXH3 of the teacher's input, seeded with the XXH3 of its shape
partner  int64 (rows,)      index of the sample that is mixed in, -1; only where views mix
effects  text               what follows the crop, as JSON; only where there is any
"""

from collections.abc import Mapping, Sequence

import numpy as np

from kdcache.cache.stores.columns import SUFFIX, column, pack_columns, read_columns, text_column
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.views.block_views import NOBODY, BlockViews
from kdcache.cache.views.view import Geometry

FOLDER = "views"


def columns_name(shard: ShardKey) -> str:
    return f"{FOLDER}/{shard.block:05d}-v{shard.view:03d}-{shard.pass_id}{SUFFIX}"


def pack_views(views: BlockViews) -> bytes:
    """The object's bytes."""
    columns: dict[str, np.ndarray | Sequence[str]] = {
        "valid": views.valid.astype(np.uint8),
        "geometry": views.geometry,
        "pixels": views.pixels,
    }
    columns |= {"partner": views.partners} if len(views.partners) else {}
    columns |= {"effects": views.effects} if views.effects else {}
    return pack_columns(columns)


def unpack_views(content: bytes | memoryview, *, first: int, number: int, rows: int) -> BlockViews:
    """The columns of `rows` rows. Raises ValueError for anything else."""
    arrays: Mapping[str, np.ndarray] = read_columns(content, rows)
    valid = column(arrays, "valid", "uint8", (rows,))
    if (valid > 1).any():
        raise ValueError("column 'valid' holds another number than 0 and 1")
    partners = np.zeros(0, dtype=np.int64)
    if "partner" in arrays:
        partners = column(arrays, "partner", "int64", (rows,))
        if (partners < NOBODY).any():
            raise ValueError("column 'partner' holds an index below 0")
    return BlockViews(
        first=first,
        number=number,
        valid=valid.astype(bool),
        geometry=column(arrays, "geometry", "int32", (rows, len(Geometry._fields))),
        pixels=column(arrays, "pixels", "uint64", (rows,)),
        partners=partners,
        effects=text_column(arrays, "effects", rows) if "effects.ends" in arrays else [],
    )
