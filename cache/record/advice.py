"""Which cache a command works on, so that the command that an error advises names it where it must.

An error that is raised deep in a reader knows a file, not how its cache was found: 'kdcache build --repair'
works as typed where the home holds that cache alone, and needs `--cache` where it holds several or the cache
lies elsewhere.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from kdcache.cache.visible import shell_word

CACHES = "caches"  # the folder of a home
_ADVISED = re.compile(r"kdcache build (?=--(?:repair|update)\b)")
_named: list[str] = []  # what `--cache` must say for the cache that this process works on; empty: nothing


def works_on(root: Path, caches_dir: Path, caches: Sequence[Path]) -> None:
    """From here on `root` is meant; `caches` are all of the home."""
    word = cache_word(root, caches_dir)
    _named[:] = [] if [path.name for path in caches] == [word] else [word]


def cache_word(root: Path, caches_dir: Path) -> str:
    """The cache `root` as --cache takes it: its name under `caches_dir`, else its whole path."""
    root = root.absolute()
    return root.name if root.parent.resolve() == caches_dir.resolve() else str(root)


def forget() -> None:
    """A new command begins."""
    _named.clear()


def advised(text: str) -> str:
    """The text with `--cache NAME` in every command of it that would not know which cache is meant."""
    if not _named:
        return text
    return _ADVISED.sub(lambda match: f"{match[0]}--cache {shell_word(_named[0])} ", text)
