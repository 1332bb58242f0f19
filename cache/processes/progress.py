"""How far the main thread of this process has come, for the thread that tells the other ranks.

A process lives on while its main thread hangs in a read, so that a sign of life is not enough. `arrived` is
called before every place at which ranks wait for each other, equally often on all of them: a rank that has
arrived less often than another one is waited for. `moved` is called wherever work gets on between two such
places, as often as there is work. Both cost an addition.
"""

from typing import NamedTuple


class Progress(NamedTuple):
    """Counts of this process; only `arrivals` can be compared with another rank's."""

    arrivals: int
    moves: int


class _Main:
    arrivals = 0
    moves = 0


def arrived() -> None:
    """The main thread comes to where ranks wait for each other."""
    _Main.arrivals += 1


def moved() -> None:
    """The main thread has got on with work that is this rank's alone."""
    _Main.moves += 1


def progress() -> Progress:
    return Progress(_Main.arrivals, _Main.moves)
