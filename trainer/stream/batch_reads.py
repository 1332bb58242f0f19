"""STAND-IN until the reader has it."""

import numpy as np

from kdcache.cache.reader.row_batch import RowBatch


def key_hashes(cache, samples):
    return np.array([cache.key_hash(int(s)) for s in samples], dtype=np.uint64)


def row_batch(cache, samples, views):
    rows = [cache.row(int(s), int(v)) for s, v in zip(samples, views, strict=True)]
    own = _of(rows)
    partners = [r.partner for r in rows]
    if any(partners):
        other = _of([p or r for p, r in zip(partners, rows, strict=True)])
        mixed = np.array([p is not None for p in partners])
        other = other._replace(samples=np.where(mixed, other.samples, -1))
        own = own._replace(partners=other)
    return own


def _of(rows):
    effects = [r.effects for r in rows]
    return RowBatch(
        np.array([r.sample for r in rows]),
        np.array([r.view for r in rows]),
        np.array([r.geometry for r in rows], dtype=np.int32).reshape(-1, 7),
        effects if any(effects) else (),
    )


def gather(cache, target, rows, part, out):
    for place, (s, v) in enumerate(zip(rows.samples.tolist(), rows.views.tolist(), strict=True)):
        out[place] = cache.parts(target, s, v)[part]
