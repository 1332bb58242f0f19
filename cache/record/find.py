"""Where runs and caches lie, and which cache is meant: a path, a name or its beginning, 'TEACHER DATA',
or the only one there is.

Home is `$KDCACHE_HOME`, the current folder when it is not set; runs lie under runs/, caches under caches/.
"""

import os
from pathlib import Path

from kdcache.cache.errors import BadOption, KdError, Missing, nearest
from kdcache.cache.files.system import user_path
from kdcache.cache.record.advice import CACHES, works_on
from kdcache.cache.record.copied import is_unfinished_copy
from kdcache.cache.record.generation import FOLDER, list_generations
from kdcache.cache.record.manifest import FILE_NAME, read_manifest
from kdcache.cache.record.records import holds_targets
from kdcache.cache.visible import shell_word

HOME_VARIABLE = "KDCACHE_HOME"


def home_dir() -> Path:
    """Raises BadOption for a home that is no folder; one that is not there yet is made when it is needed."""
    home = user_path(os.environ.get(HOME_VARIABLE) or ".")
    if home.exists() and not home.is_dir():
        raise BadOption(
            f"${HOME_VARIABLE} is a file, and runs and caches lie in a folder",
            where=str(home),
            fix=f"name a folder: export {HOME_VARIABLE}=DIR",
        )
    return home


def runs_dir(home: Path) -> Path:
    return home / "runs"


def caches_dir(home: Path) -> Path:
    return home / CACHES


def list_caches(caches_dir: Path) -> list[Path]:
    """Folders of caches that hold targets, of an unfinished build too; a copy that did not end is none."""
    return [path for path in list_begun(caches_dir) if not _has_only_begun(path)]


def _has_only_begun(path: Path) -> bool:
    """A build of this format ended before its first target. One whose manifest cannot be read, or is of
    another format, is a cache of which that must be said."""
    if list_generations(path) or holds_targets(path):
        return False
    try:
        read_manifest(path)
    except (KdError, OSError):
        return False
    return True


def list_begun(caches_dir: Path) -> list[Path]:
    """`list_caches`, and the folders of builds that ended before their first target."""
    if not caches_dir.is_dir():
        return []
    return sorted(path for path in caches_dir.iterdir() if is_cache(path) and not is_unfinished_copy(path))


def is_cache(path: Path) -> bool:
    """Whether a cache is or was there: a lost manifest is damage, and generations hold a copy of it."""
    return (path / FILE_NAME).exists() or any((path / FOLDER).glob("*.json"))


def find_cache(name: str | None, caches_dir: Path, *, besides: str = "") -> Path:
    """The folder of cache `name`, of the only one whose name begins so, or of the only one of 'TEACHER DATA';
    with None the only one under `caches_dir` that is not called `besides`, or an error that lists them."""
    caches = [path for path in list_caches(caches_dir) if name is not None or path.name != besides]
    if name is None:
        if len(caches) == 1:
            works_on(caches[0], caches_dir, caches)
            return caches[0]
        if not caches:
            raise _none_yet(caches_dir)
        listed = ", ".join(p.name for p in caches)
        raise BadOption(
            f"there are {len(caches)} caches: {listed}", where=str(caches_dir), fix="name one with --cache"
        )
    if exact := _exact(name, caches_dir):
        works_on(exact, caches_dir, caches)
        return exact
    meant = [path for path in caches if name and path.name.startswith(name)] or _described(name, caches)
    if len(meant) == 1:
        works_on(meant[0], caches_dir, caches)
        return meant[0]
    if meant:
        raise BadOption(
            f"'{name}' means {len(meant)} caches: {', '.join(path.name for path in meant)}",
            where=str(caches_dir),
            fix=f"name one of them, such as --cache {shell_word(meant[0].name)}",
        )
    raise _no_cache(name, caches_dir, caches)


def _none_yet(caches_dir: Path) -> Missing:
    what, fix = "there is no cache yet", "build one with 'kdcache build --teacher NAME --data NAME:DIR'"
    if begun := list_begun(caches_dir):
        what += f"; the build of '{begun[0].name}' ended before its first shard"
        fix = "type the command that began it again, or " + fix
    return Missing(what, where=str(caches_dir), fix=fix)


def stored_cache(name: str | None, caches_dir: Path) -> Path:
    """The cache that a file remembers: a whole name or path, never one that only begins so."""
    if name is None:
        return find_cache(None, caches_dir)
    exact, caches = _exact(name, caches_dir), list_caches(caches_dir)
    if exact is None:
        raise _no_cache(name, caches_dir, caches)
    works_on(exact, caches_dir, caches)
    return exact


def _exact(name: str, caches_dir: Path) -> Path | None:
    return next((path for path in (user_path(name), caches_dir / name) if is_cache(path)), None)


def _no_cache(name: str, caches_dir: Path, caches: list[Path]) -> Missing:
    close = nearest(name, [p.name for p in caches])
    hint = (
        f"did you mean '{close}'?"
        if close
        else f"caches there: {', '.join(p.name for p in caches) or 'none'}"
    )
    return Missing(f"there is no cache '{name}'", where=str(caches_dir), fix=hint)


def _described(words: str, caches: list[Path]) -> list[Path]:
    """Caches of 'TEACHER DATA': what --teacher said when it was built, and the data set, or the label of a
    folder of one's own."""
    pair = tuple(words.split())
    return [path for path in caches if len(pair) == 2 and pair in _names_of(path)]


def _names_of(path: Path) -> set[tuple[str, str]]:
    try:
        manifest = read_manifest(path)
    except KdError:  # a cache that cannot be read is not what is meant; its own name still finds it
        return set()
    data = str(manifest.data["name"])
    of_data = {data, data.rpartition(":")[2], str(manifest.identity.get("label"))}
    return {(teacher, one) for teacher in (manifest.teacher_origin, manifest.teacher) for one in of_data}
