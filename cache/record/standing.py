"""What there is of a cache before a build: what counts, and what the folder's manifest claims."""

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.errors import BadCache, TornManifest
from kdcache.cache.record.copied import refuse_unfinished_copy
from kdcache.cache.record.generation import (
    Generation,
    list_generations,
    newest_generation,
    read_generation,
)
from kdcache.cache.record.manifest import FILE_NAME, Manifest, read_manifest
from kdcache.cache.record.records import list_files, shards_of
from kdcache.cache.stores.contract import ShardKey


class Standing(NamedTuple):
    """What there is of a cache before a build."""

    generation: Generation | None
    claimed: Manifest | None
    lost: bool = False  # whether a newer generation is damaged

    @property
    def counted(self) -> Manifest | None:
        """What a build grows: what the generation holds. Of a newer one that is damaged the folder's manifest
        still says what it held, and the records are there."""
        if self.generation is None:
            return None
        return self.claimed if self.lost and self.claimed else self.generation.manifest

    @property
    def manifest(self) -> Manifest | None:
        """What counts, else what was planned."""
        return self.counted or self.claimed


def standing(root: Path, *, repair: bool = False) -> Standing:
    """Raises BadCache for a damaged generation, for a copy that did not end, and for a manifest that only
    `repair` writes anew."""
    refuse_unfinished_copy(root)
    generation = sound_generation(root) if repair else newest_generation(root)
    lost = generation is not None and list_generations(root)[-1] != generation.number
    if not (root / FILE_NAME).is_file():
        return Standing(generation, None, lost)
    try:
        return Standing(generation, read_manifest(root), lost)
    except TornManifest:
        if not repair and generation is not None:
            raise
        return Standing(generation, None, lost)


def counted_manifest(root: Path) -> Manifest:
    """What a cache holds; of one that no build has finished what it claims. Raises BadCache, Missing."""
    newest = newest_generation(root)
    return read_manifest(root) if newest is None else newest.manifest


def sound_generation(root: Path) -> Generation | None:
    """The newest generation that can be read."""
    for number in reversed(list_generations(root)):
        with suppress(BadCache):
            return read_generation(root, number)
    return None


class Beside:
    """The folder of records beside a generation, listed once: of a million records it takes a while. Whoever
    removes one of those beyond it under the builder's lock removes it from `beyond` too."""

    def __init__(self, root: Path, generation: Generation | None) -> None:
        files, known = list_files(root), generation.record_files if generation else frozenset()
        self.beyond = shards_of(files - known)  # recorded, and not counted
        self.lost = shards_of(known - files)  # counted, and not there

    @property
    def pending(self) -> list[ShardKey]:
        """Shards of targets that are recorded beyond the generation."""
        return sorted(key for key in self.beyond if not key.of_samples)
