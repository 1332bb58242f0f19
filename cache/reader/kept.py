"""What a reader keeps open is bounded: the oldest goes when there is no room for another."""

from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


def make_room(kept: dict[K, V], most: int) -> None:
    """Forget what was put into `kept` first, until one more fits under `most`."""
    while len(kept) >= most:
        oldest = next(iter(list(kept)))  # a copy: another thread may put something in meanwhile
        kept.pop(oldest, None)
