"""What a checkpoint must be before a run goes on with it: a digest shows that nobody changed it, not that it
is one of this run."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import msgspec

from kdcache.cache.errors import BadWeights, KdError
from kdcache.cache.files.plain_json import read_json_object

FileName = Annotated[str, msgspec.Meta(pattern=r"\A(?!\.)[A-Za-z0-9_.-]{1,100}\Z")]


class _Progress(msgspec.Struct):
    best: dict[str, float | None] | None = None
    last: dict[str, float | None] = {}
    unjudged: bool = False
    skipped: Annotated[int, msgspec.Meta(ge=0)] = 0


def read_digests(path: Path) -> dict[str, str]:
    """File of the checkpoint -> digest. Raises OSError, ValueError."""
    return msgspec.convert(read_json_object(path), type=dict[FileName, str])


def read_progress(path: Path) -> dict[str, Any]:
    """The plain values of a checkpoint. Raises OSError, ValueError for other types."""
    plain = read_json_object(path)
    msgspec.convert(plain, type=_Progress)
    return plain


def state_problem(state: object) -> str:
    """Why this cannot be the state of a part of a run; '' where it may be."""
    if not isinstance(state, Mapping):
        return f"holds a {type(state).__name__}, not a state"
    return "" if state else "holds an empty state"


@contextmanager
def fitting(folder: Path) -> Iterator[None]:
    """Around what takes states over: raises BadWeights where they are not of this run's parts."""
    try:
        yield
    except KdError:
        raise
    except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
        first = (str(error).splitlines() or [""])[0]
        raise BadWeights(
            f"the checkpoint '{folder.name}' is not of this run: {type(error).__name__} {first}".rstrip(),
            where=str(folder),
            fix=f"delete {folder} and --resume again: the checkpoint before it is used",
        ) from error
