"""The precision of a teacher's forward: `--amp` says it once, a manifest keeps it, every later shard has it.

Two shards of one cache in two precisions would be two teachers under one name.
"""

import shlex
from contextlib import AbstractContextManager, nullcontext

import torch

from kdcache.cache.errors import BadOption
from kdcache.cache.record.manifest import Manifest
from kdcache.cache.spec import PRECISIONS

FULL = "fp32"  # as a manifest writes what --amp calls 'no'; the others have one name
_NO = "no"


def chosen_precision(amp: str | None, old: Manifest | None) -> str:
    """What the new shards are computed in: the cache's precision; of a new cache `amp`, None is 'no'.

    Raises BadOption when an `amp` is asked for that is not the cache's.
    """
    if old is None:
        return _kept(amp or _NO)
    if amp is not None and _kept(amp) != old.precision:
        raise BadOption(
            f"the cache was built with --amp {_amp_of(old.precision)}, not {amp}",
            where=f"cache {old.name}",
            fix=f"leave --amp out to grow it as it is, or build another cache: {_command(old, amp)}",
        )
    return old.precision


def in_precision(precision: str, device: str) -> AbstractContextManager[object]:
    """Where a teacher computes in a manifest's precision; `device` is 'cpu' or 'cuda'."""
    name = PRECISIONS.get(_amp_of(precision))
    return torch.autocast(device, dtype=getattr(torch, name)) if name else nullcontext()


def _kept(amp: str) -> str:
    return FULL if amp == _NO else amp


def _amp_of(precision: str) -> str:
    return _NO if precision == FULL else precision


def _command(old: Manifest, amp: str) -> str:
    """What builds a cache of the same teacher and data in another precision, to be typed as it stands."""
    words = ["kdcache", "build", "--teacher", old.teacher_origin, "--data", old.data_spec, "--amp", amp]
    if (split := str(old.data["split"])) != "train":
        words += ["--split", split]
    if old.teacher_weights:
        words += ["--weights", old.teacher_weights]
    if old.network.get("mean"):
        words += ["--mean"]
    return shlex.join(words)
