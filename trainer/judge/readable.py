"""Whether a split can be judged, asked before the first step and not after the last one."""

from kdcache.cache.processes.progress import moved
from kdcache.cache.sources.contract import Source

CHECKED = 16  # samples whose image and truth are decoded


def check_readable(source: Source, *, rank: int = 0, world: int = 1) -> None:
    """Sizes of all images from their headers, that all files are there, and a few samples decoded as a whole:
    image against label, label against the classes. Each of several ranks looks at its share.

    Raises BadSample as `Source.check`.
    """
    count = len(source.keys)
    spread = min(CHECKED, count)
    few = {place * (count - 1) // max(1, spread - 1) for place in range(spread)}
    for index in range(rank, count, world):
        moved()
        source.size(index)
        if index in few or not all(path.exists() for path in source.files(index)):
            source.check(index)
