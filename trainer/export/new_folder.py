"""A folder that is there whole or not at all: drawn under a temporary name beside its place, then renamed."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from kdcache.cache.errors import BadOption
from kdcache.cache.files.system import sync, touching, user_path


@contextmanager
def new_folder(place: Path) -> Iterator[Path]:
    """The draft of `place`, to fill; it is renamed when the block ends well, and removed otherwise.

    A killed process leaves `.NAME.drawing-PID` behind, which may be removed. Raises BadOption where
    something is there, DiskFull and Refused.
    """
    place = user_path(place)
    check_new(place)
    draft = place.with_name(f".{place.name}.drawing-{os.getpid()}")
    with touching(f"'{place.name}' could not be written", place):
        try:
            draft.mkdir(parents=True)
            yield draft
            for path in (*draft.rglob("*"), draft):
                sync(path)
            if place.is_dir():  # an empty one, as `check_new` saw; rename takes its place
                place.rmdir()
            draft.rename(place)
            sync(place.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def check_new(place: Path) -> None:
    """Raises BadOption where something is there that would be lost, or would stand in the way."""
    place = user_path(place)
    with touching(f"'{place.name}' cannot be looked at", place):
        taken = place.exists() and not (place.is_dir() and not any(place.iterdir()))
    if taken:
        raise BadOption(
            f"'{place.name}' is there already, and nothing is written over it",
            where=f"--out {place}",
            fix="choose another --out, or move away what is there",
        )
