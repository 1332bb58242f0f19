"""`kdcache compact`: a fresh cache of what still counts in one."""

import click

from kdcache.cli.shared import CACHE_HELP, home_folder
from kdcache.cli.terminal import Terminal


@click.command()
@click.option("--cache", help=CACHE_HELP)
@click.option("--out", required=True, help="Name of the new cache.")
def compact(cache: str | None, out: str) -> None:
    """Copy the living rows of a cache into a new one, without the teacher. The old cache stays as it is."""
    from kdcache.cache.build.compact import compact as copy
    from kdcache.cache.errors import BadOption
    from kdcache.cache.record.find import caches_dir, find_cache
    from kdcache.cache.record.manifest import is_name

    home = caches_dir(home_folder())
    if not is_name(out):
        raise BadOption(
            f"'{out}' is no name of a cache", where="--out", fix="give a plain name, such as --out small"
        )
    copied = copy(find_cache(cache, home, besides=out), home / out)
    Terminal().say(f"{copied.samples} samples, {copied.shards} shards copied; the cache is {copied.root}")
