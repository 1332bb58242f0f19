"""What a cache cost and saved, counted in images that went through the teacher.

Paid once: every stored row, once per pass of the teacher. Without the cache, every run that reads its answers
would have asked the teacher about each image of each step. The run at which both are equal is the break-even.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.errors import KdError
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.find import caches_dir, find_cache
from kdcache.trainer.bench.entries import Entry
from kdcache.trainer.folder.environment import read_environment


class CacheAccount(NamedTuple):
    """Of one cache and the runs that read it."""

    cache: str
    teacher: str
    rows: int  # living samples times views
    paid: int  # forwards of the teacher, in images
    num_bytes: int  # everything in the cache's folder
    asked: tuple[tuple[str, int], ...]  # run, images that it would have asked a live teacher about
    digests: Mapping[str, str]  # of what is read, as runs record it

    @property
    def without(self) -> int:
        """Forwards that a live teacher would have made, in images."""
        return sum(images for _, images in self.asked)

    @property
    def saved(self) -> int:
        """Below 0 as long as the cache has cost more than it saved."""
        return self.without - self.paid

    @property
    def break_even(self) -> int | None:
        """The number, from 1, of the run with which the cache had paid for itself; None: not yet."""
        total = 0
        for number, (_, images) in enumerate(self.asked, 1):
            total += images
            if total >= self.paid:
                return number
        return None


def accounts(home: Path, entries: Sequence[Entry]) -> tuple[list[CacheAccount], list[str]]:
    """One account per cache that is still there, and sentences about those that are not."""
    made, notes = [], []
    for name in dict.fromkeys(entry.cache for entry in entries if entry.cache):
        try:
            made.append(_account(home, name, [entry for entry in entries if entry.cache == name]))
        except KdError as error:
            notes.append(f"cache '{name}' is left out of the ledger: {error.what}")
    return made, notes


def _account(home: Path, name: str, entries: Sequence[Entry]) -> CacheAccount:
    cache = open_cache(find_cache(name, caches_dir(home)))
    blocks = cache.generation.blocks
    paid = sum(blocks[key.block].rows for key in cache.generation.seals if not key.of_samples)
    return CacheAccount(
        cache=cache.manifest.name,
        teacher=cache.manifest.teacher_origin,
        rows=cache.generation.num_living * len(cache.view_numbers()),
        paid=paid,
        num_bytes=sum(path.stat().st_size for path in cache.root.rglob("*") if path.is_file()),
        asked=tuple(
            (entry.run, asked_images(entry)) for entry in entries if entry.finished and reads_teacher(entry)
        ),
        digests=cache.entry_digests(),
    )


def reads_teacher(entry: Entry) -> bool:
    """Whether any answer of a teacher went into the run."""
    table = read_environment(entry.run_dir) or {"stream": {}}
    return any(name.startswith("tap/") for name in table["stream"].get("entries", {}))


def asked_images(entry: Entry) -> int:
    """Images of all its steps."""
    config = entry.config
    return 0 if config is None else int(config.steps or 0) * config.batch_size
