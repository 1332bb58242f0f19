"""Where runs and caches lie: `$KDCACHE_HOME/{runs,caches}`, the current directory when it is not set."""

import os
import re
from pathlib import Path

from kdcache.cache.errors import BadOption, Missing, nearest
from kdcache.cache.record.find import find_cache as find_under
from kdcache.trainer.config import FILE_NAME as CONFIG_NAME

VARIABLE = "KDCACHE_HOME"


def home_dir() -> Path:
    return Path(os.environ.get(VARIABLE) or ".").expanduser()


def runs_dir(home: Path) -> Path:
    return home / "runs"


def caches_dir(home: Path) -> Path:
    return home / "caches"


def find_cache(home: Path, given: str | None) -> Path:
    """The cache a user means: a path, a name under caches/, or the only one. Raises Missing, BadOption."""
    return find_under(given, caches_dir(home))


def find_run(home: Path, given: str) -> Path:
    """The run folder a user means: a path, or a name under runs/. Raises Missing listing them."""
    for path in (Path(given).expanduser(), runs_dir(home) / given):
        if (path / CONFIG_NAME).is_file():
            return path
    folder = runs_dir(home)
    names = sorted(path.parent.name for path in folder.glob(f"*/{CONFIG_NAME}"))
    close = nearest(Path(given).name, names)
    hint = f"did you mean '{close}'? " if close else ""
    raise Missing(
        f"no run '{given}'", where=str(folder), fix=f"{hint}runs there: {', '.join(names) or 'none'}"
    )


def cache_label(home: Path, path: Path) -> str:
    """How a run remembers its cache: by name when it lies under caches/, so that the home may move."""
    inside = path.parent.resolve() == caches_dir(home).resolve()
    return path.name if inside else str(path.resolve())


def default_run_name(student: str, loss: str, *, fresh: bool, online: bool, seed: int) -> str:
    """'r18-afdcd', with '-fresh', '-online' and '-seed1' where they apply: ablations of one cache never
    collide.
    """
    parts = [student, loss]
    parts += ["online"] if online else []
    parts += ["fresh"] if fresh else []
    parts += [f"seed{seed}"] if seed else []
    return re.sub(r"[^A-Za-z0-9_.+=@-]+", "_", "-".join(parts)).strip("._")


def absolute_spec(spec: str) -> str:
    """'camvid:DIR' with DIR made absolute: a run's data is found again from any folder."""
    name, colon, folder = spec.partition(":")
    if not colon:
        return spec
    if not folder:
        raise BadOption(f"no folder in '{spec}'", where=f"--data {spec}", fix=f"write {name}:FOLDER")
    return f"{name}:{Path(folder).expanduser().resolve()}"
