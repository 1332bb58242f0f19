"""Whether two data sets mean the same by their class numbers."""

from collections.abc import Sequence

from kdcache.cache.errors import BadOption
from kdcache.cache.sources.contract import Source

LISTED = 3  # differing classes that an error names


def require_classes(source: Source, names: Sequence[str], *, of: str, where: str) -> None:
    """Raises BadOption unless `source` has these classes in this order; `of` says whose they are.

    A class folder that was renamed, added or removed gives every later class another number: scores would be
    of other classes and nothing would show it.
    """
    if tuple(source.class_names) == tuple(names):
        return
    raise BadOption(
        f"'{source.name}:{source.root}' split '{source.split}' has other classes than {of}: "
        f"{class_differences(source.class_names, names)}",
        where=where,
        fix="name the classes as they were and keep their order, or build the cache and train again on the "
        "data as they are now",
    )


def class_differences(now: Sequence[str], then: Sequence[str]) -> str:
    """'class 0 is 'aardvark' and was 'ant'; 4 classes, there were 3'."""
    pairs = enumerate(zip(now, then, strict=False))
    texts = [
        f"class {number} is '{one}', there it is '{other}'" for number, (one, other) in pairs if one != other
    ]
    more = [f"and {len(texts) - LISTED} more"] if len(texts) > LISTED else []
    counts = [f"{len(now)} classes and {len(then)}"] if len(now) != len(then) else []
    return "; ".join([*texts[:LISTED], *more, *counts])
