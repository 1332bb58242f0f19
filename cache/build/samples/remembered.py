"""What to type where a cache or a teacher remembers something that is no longer so: the whole line, which
works."""

from contextlib import suppress
from pathlib import Path

from kdcache.cache.build.options import BuildOptions
from kdcache.cache.errors import BadCache, Missing
from kdcache.cache.record.advice import cache_word
from kdcache.cache.record.find import list_caches
from kdcache.cache.record.manifest import read_manifest
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.table import open_source, split_spec, splits
from kdcache.cache.trust import command_with, typed_option
from kdcache.cache.visible import shell_line


def own_word(options: BuildOptions) -> str:
    """The cache of a build as --cache takes it; '' where none was meant."""
    return cache_word(options.cache, options.caches_dir) if options.cache else ""


def open_remembered(spec: str, options: BuildOptions, teacher: str, *, keep_empty: bool) -> Source:
    """The data that a cache or a teacher's run remembers. Raises Missing, for data that are no longer there
    with the line that names where they are now."""
    try:
        return open_source(spec, options.split, keep_empty=keep_empty)
    except Missing as error:
        if not _moved(spec):
            raise
        cache = own_word(options) or _cache_of(spec, teacher, options.caches_dir)
        words = ["--cache", cache] if cache and not typed_option("--cache") else []
        words += ["--data", f"{split_spec(spec)[0]}:DIR"]
        line = command_with(*words) or shell_line(words)
        raise Missing(
            f"{error.what}, and nobody named another with --data",
            where=error.where,
            fix=f"if the data were moved, name the folder that holds them now: {line}",
        ) from error


def _moved(spec: str) -> bool:
    """Whether no split is where the data were."""
    try:
        splits(spec)
    except Missing:
        return True
    return False


def _cache_of(spec: str, teacher: str, caches_dir: Path) -> str:
    """The cache that a teacher has of these data, else its only one of data of that kind, which may have
    moved before: with it named, the moved data stay its own. '' where it could be several."""
    kind, specs = f"{split_spec(spec)[0]}:", {}
    for root in list_caches(caches_dir):
        with suppress(BadCache):
            manifest = read_manifest(root)
            if manifest.teacher_origin == teacher and manifest.data_spec.startswith(kind):
                specs[root.name] = manifest.data_spec
    names = [name for name, own in specs.items() if own == spec] or list(specs)
    return names[0] if len(names) == 1 else ""
