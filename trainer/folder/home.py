"""Which run a user means, what a run is called, and how it remembers where its cache and its images lie.

`home` is the folder that holds runs/ and caches/.
"""

import re
from pathlib import Path

from kdcache.cache.errors import BadOption
from kdcache.cache.files.system import user_path
from kdcache.cache.record.find import caches_dir, runs_dir
from kdcache.cache.sources.table import split_spec
from kdcache.trainer.folder.run_folder import CONFIG_NAME, no_run


def find_run(home: Path, name_or_path: str) -> Path:
    """The run folder a user means: a path, or a name under runs/. Raises Missing listing them."""
    runs = runs_dir(home)
    for run_dir in (user_path(name_or_path), runs / name_or_path):
        if (run_dir / CONFIG_NAME).is_file():
            return run_dir
    raise no_run(runs, name_or_path)


def cache_label(home: Path, cache_dir: Path) -> str:
    """How a run remembers its cache: by name when it lies under caches/, so that the home may move."""
    inside = cache_dir.parent.resolve() == caches_dir(home).resolve()
    return cache_dir.name if inside else str(cache_dir.resolve())


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
    """'camvid:DIR' or 'module:Class:DIR' with DIR made absolute: it is found from any folder."""
    if ":" not in spec:
        return spec
    name, folder = split_spec(spec)
    if not folder:
        raise BadOption(f"no folder in '{spec}'", where=f"--data {spec}", fix=f"write {name}:FOLDER")
    return f"{name}:{user_path(folder).resolve()}"
