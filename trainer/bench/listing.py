"""What runs and caches a home has, a row each. Light: no torch, no image is opened."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.errors import KdError
from kdcache.cache.record.find import caches_dir, list_begun, runs_dir
from kdcache.cache.record.generation import list_generations
from kdcache.cache.record.records import holds_targets
from kdcache.cache.record.standing import counted_manifest
from kdcache.cache.views.sets import ViewSet
from kdcache.trainer.bench.removal import run_configs, runs_of_cache
from kdcache.trainer.bench.run_state import Word, state_of
from kdcache.trainer.bench.sizes import folder_bytes
from kdcache.trainer.bench.sweep_folder import failure_of, list_sweeps, read_sweep
from kdcache.trainer.config import read_config
from kdcache.trainer.folder.run_folder import CONFIG_NAME

NO_PLACE = "-"
NO_TARGETS = "no targets yet; the same build continues"


class RunRow(NamedTuple):
    """One run. `best` is a validation score, named by `metric`; `problem` says why a run cannot be read."""

    run: str
    student: str = NO_PLACE
    loss: str = NO_PLACE
    cache: str | None = None  # None: fresh views
    data: str | None = None  # of fresh views
    seed: int | None = None
    step: int = 0
    steps: int = 0
    metric: str = ""
    best: float | None = None
    state: Word | str = "unreadable"
    problem: str = ""


class CacheRow(NamedTuple):
    """One cache."""

    cache: str
    teacher: str = NO_PLACE
    data: str = NO_PLACE
    views: tuple[str, ...] = ()
    taps: tuple[str, ...] = ()
    num_bytes: int = 0
    runs: tuple[str, ...] = ()
    state: str = "unreadable"
    problem: str = ""


def run_rows(home: Path) -> Iterator[RunRow]:
    """Every run under runs/, and the cells of sweeps that failed before they had a folder."""
    failed = dict(_failures(home))
    for path in sorted(runs_dir(home).glob(f"*/{CONFIG_NAME}")):
        run = path.parent.name
        error = failed.pop(run, "")
        try:
            yield _run_row(path.parent, error)
        except KdError as damage:
            yield RunRow(run, problem=damage.what)
    for run, error in sorted(failed.items()):
        yield RunRow(run, state="failed", problem=_first_line(error))


def _run_row(run_dir: Path, error: str) -> RunRow:
    config, state = read_config(run_dir), state_of(run_dir)
    failed = bool(error) and state.word == "stopped"
    return RunRow(
        run=run_dir.name,
        student=config.student,
        loss=config.loss,
        cache=config.cache,
        data=config.data,
        seed=config.seed,
        step=state.step,
        steps=state.steps,
        metric=state.metric,
        best=state.best,
        state="failed" if failed else state.word,
        problem=_first_line(error) if failed else "",
    )


def _failures(home: Path) -> Iterator[tuple[str, str]]:
    for folder in list_sweeps(home):
        try:
            sweep = read_sweep(home, str(folder))
            for cell in sweep.cells:
                if (error := failure_of(sweep, cell)) is not None:
                    yield cell.run, error
        except KdError:
            continue


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


def cache_rows(home: Path) -> Iterator[CacheRow]:
    """Every cache under caches/."""
    configs = run_configs(home)
    for root in list_begun(caches_dir(home)):
        runs = runs_of_cache(root, home, configs)
        try:
            manifest = counted_manifest(root)
        except KdError as damage:
            yield CacheRow(root.name, num_bytes=folder_bytes(root), runs=runs, problem=damage.what)
            continue
        yield CacheRow(
            cache=root.name,
            teacher=manifest.teacher_origin,
            data=f"{manifest.identity.get('label') or manifest.data['name']} {manifest.data['split']}",
            views=tuple(views_word(views) for views in manifest.views),
            taps=manifest.tap_names,
            num_bytes=folder_bytes(root),
            runs=runs,
            state="complete" if list_generations(root) else "unfinished",
            problem="" if list_generations(root) or holds_targets(root) else NO_TARGETS,
        )


def views_word(views: ViewSet) -> str:
    """'crops:8 360x360', 'full'."""
    if views.crop is None or not views.draws:
        return views.kind
    return f"{views.kind}:{views.count} {views.crop[0]}x{views.crop[1]}"
