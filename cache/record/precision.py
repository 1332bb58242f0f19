"""The precision of a teacher's forward: `--amp` says it once, a manifest keeps it, every later shard has it.

Two shards of one cache in two precisions would be two teachers under one name.
"""

from contextlib import AbstractContextManager, nullcontext

from kdcache.cache.errors import BadOption
from kdcache.cache.record.command import build_words
from kdcache.cache.record.manifest import FULL as FULL
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.spec import PRECISIONS
from kdcache.cache.visible import shell_line

_NO = "no"


def chosen_precision(amp: str | None, old: Manifest | None, planned: Manifest | None = None) -> str:
    """What the new shards are computed in: the cache's precision; of a new cache `amp`, else what an
    unfinished first build `planned`, else 'no'.

    Raises BadOption when an `amp` is asked for that is not the cache's.
    """
    if old is None:
        return _kept(amp) if amp or planned is None else planned.precision
    if amp is not None and _kept(amp) != old.precision:
        raise BadOption(
            f"the cache was built with --amp {_amp_of(old.precision)}, not {amp}",
            where=f"cache {old.name}",
            fix="leave --amp out to grow it as it is, or build another cache: "
            + shell_line([*build_words(old), "--amp", amp]),
        )
    return old.precision


def in_precision(precision: str, device: str) -> AbstractContextManager[object]:
    """Where a teacher computes in a manifest's precision; `device` is 'cpu' or 'cuda'."""
    import torch  # here: a manifest's precision is read and compared without it

    name = PRECISIONS.get(_amp_of(precision))
    return torch.autocast(device, dtype=getattr(torch, name)) if name else nullcontext()


def _kept(amp: str | None) -> str:
    return FULL if amp in (None, _NO) else str(amp)


def _amp_of(precision: str) -> str:
    return _NO if precision == FULL else precision
