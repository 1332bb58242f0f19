"""Removing runs and caches: what still names them, who holds them, and the way that leaves nothing half.

A folder that is removed is first moved aside, in one step, to `.removed` beside it, where nothing looks for
runs or caches. A kill leaves it there, and the next removal ends it.
"""

import fcntl
import os
import shutil
from contextlib import suppress
from pathlib import Path

from kdcache.cache.build.lock import FILE_NAME as BUILD_LOCK
from kdcache.cache.build.lock import build_lock
from kdcache.cache.errors import Busy, KdError
from kdcache.cache.files.system import touching
from kdcache.cache.networks.names import split_names
from kdcache.cache.record.find import caches_dir, list_begun, runs_dir
from kdcache.cache.record.manifest import read_manifest
from kdcache.trainer.bench.run_state import is_held
from kdcache.trainer.bench.sweep_folder import list_sweeps, read_sweep
from kdcache.trainer.config import TrainConfig, read_config
from kdcache.trainer.folder.home import cache_label
from kdcache.trainer.folder.run_folder import CONFIG_NAME, held

ASIDE = ".removed"


def run_configs(home: Path) -> dict[str, TrainConfig]:
    """Run -> its options, of those that can be read."""
    configs = {}
    for path in sorted(runs_dir(home).glob(f"*/{CONFIG_NAME}")):
        try:
            configs[path.parent.name] = read_config(path.parent)
        except KdError:
            continue
    return configs


def runs_of_cache(root: Path, home: Path, configs: dict[str, TrainConfig]) -> tuple[str, ...]:
    """Runs that read a cache."""
    label = cache_label(home, root)
    return tuple(run for run, config in configs.items() if config.cache == label)


def named_by(run: str, home: Path) -> tuple[str, ...]:
    """What still names a run: caches of which it is the teacher, sweeps of which it is a cell."""
    said = []
    for root in list_begun(caches_dir(home)):
        try:
            if run in split_names(read_manifest(root).teacher_origin):
                said.append(f"teacher of cache {root.name}")
        except KdError:
            continue
    for folder in list_sweeps(home):
        try:
            if any(cell.run == run for cell in read_sweep(home, str(folder)).cells):
                said.append(f"of sweep {folder.name}")
        except KdError:
            continue
    return tuple(said)


def remove_run(run_dir: Path) -> None:
    """Raises Busy for a run that a process trains, Refused where it cannot be removed."""
    with held(run_dir):
        _remove(run_dir)


def refuse_held(run_dir: Path) -> None:
    """Raises Busy for a run that a process trains now."""
    if is_held(run_dir):
        raise Busy(
            f"run '{run_dir.name}' is trained by a process now",
            where=str(run_dir),
            fix="wait for it, or stop it",
        )


def remove_cache(root: Path, home: Path) -> None:
    """Raises Busy for a cache that is being built, or that a run reads now."""
    refuse_read(root, home)
    with build_lock(root):
        _remove(root)


def refuse_read(root: Path, home: Path) -> None:
    """Raises Busy for a cache that is being built, or that a run reads now."""
    if is_built(root):
        with build_lock(root):
            pass
    readers = [run for run in runs_of_cache(root, home, run_configs(home)) if is_held(runs_dir(home) / run)]
    if readers:
        raise Busy(
            f"cache '{root.name}' is read by a run that trains now: {', '.join(readers)}",
            where=str(root),
            fix="wait for it, or stop it",
        )


def is_built(root: Path) -> bool:
    """Whether a process builds this cache now."""
    path = root / BUILD_LOCK
    if not path.is_file():
        return False
    with touching("the lock of the cache cannot be read", path), path.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _remove(folder: Path) -> None:
    aside = folder.parent / ASIDE
    with touching(f"'{folder.name}' could not be removed", folder):
        aside.mkdir(exist_ok=True)
        target = aside / f"{folder.name}.{os.getpid()}"
        os.rename(folder, target)
        shutil.rmtree(target)
    for litter in aside.iterdir():  # what a killed removal left
        if not Path(f"/proc/{litter.name.rpartition('.')[2]}").exists():
            shutil.rmtree(litter, ignore_errors=True)
    with suppress(OSError):  # another removal is at work
        aside.rmdir()
