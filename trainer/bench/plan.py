"""What a sweep will cost, before it begins: steps exactly, hours and bytes from runs that are there.

Nobody can know a rate that was never measured: cells whose student no run of this home has trained with this
batch are counted as unknown, not guessed.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.errors import KdError, Missing
from kdcache.cache.networks.build import check_buildable
from kdcache.cache.record.find import runs_dir
from kdcache.trainer.bench.definition import read_option
from kdcache.trainer.bench.grid import FRESH_NONE, Cell
from kdcache.trainer.bench.run_state import RunState, state_of
from kdcache.trainer.bench.sizes import folder_bytes
from kdcache.trainer.bench.sweep_folder import Sweep, failure_of
from kdcache.trainer.config import TrainConfig, read_config
from kdcache.trainer.folder.metrics_log import METRICS_NAME, read_metrics
from kdcache.trainer.folder.run_folder import CONFIG_NAME
from kdcache.trainer.folder.start import started
from kdcache.trainer.stream.run_source import RunSource, open_run_source


class CellPlan(NamedTuple):
    """One cell before the sweep runs."""

    cell: Cell
    state: RunState
    failure: str | None  # the error that it ended with
    left: int  # steps still to be made
    seconds: float | None  # of these steps; None: nobody knows the rate
    num_bytes: int | None  # that the run will add; None: nobody knows


class Known(NamedTuple):
    """What runs of one kind took."""

    steps_per_s: float
    num_bytes: int


Kind = tuple[object, ...]


def plan_cells(sweep: Sweep, home: Path) -> tuple[CellPlan, ...]:
    """Raises KdError for options, data, caches or networks with which a cell cannot begin."""
    sources: dict[Kind, RunSource] = {}
    known = measured(home, {cell.student for cell in sweep.cells})
    return tuple(_planned(cell, sweep, home, sources, known) for cell in sweep.cells)


def _planned(
    cell: Cell, sweep: Sweep, home: Path, sources: dict[Kind, RunSource], known: Mapping[Kind, Known]
) -> CellPlan:
    run_dir = runs_dir(home) / cell.run
    state = state_of(run_dir)
    failure = None if state.word in ("finished", "running") else failure_of(sweep, cell)
    if state.word == "finished":
        return CellPlan(cell, state, None, 0, 0.0, 0)
    config = _config(cell, home, sources)
    left = config.steps - state.step
    like = next((known[kind] for kind in _kinds(config) if kind in known), None)
    if like is None:
        return CellPlan(cell, state, failure, left, None, None)
    more = max(0, like.num_bytes - folder_bytes(run_dir))
    return CellPlan(cell, state, failure, left, left / like.steps_per_s, more)


def _config(cell: Cell, home: Path, sources: dict[Kind, RunSource]) -> TrainConfig:
    """The options that the run will have, its steps counted and its student's name known to a library."""
    try:
        config = started({name: read_option(name, value) for name, value in cell.given.items()}, home)
        where: Kind = (config.data, config.cache, config.keep_empty)
        if where not in sources:
            sources[where] = open_run_source(config, home, output_stride=config.output_stride)
    except Missing as error:
        if cell.role != FRESH_NONE or cell.data is None:
            raise
        fix = f"leave fresh views out with --no-fresh, or {error.fix}"
        raise Missing(error.what, where=error.where, fix=fix) from error
    check_buildable(config.student, task=sources[where].task, where=f"--student {config.student}")
    return config.with_steps(sources[where].num_samples)


def measured(home: Path, students: set[str]) -> dict[Kind, Known]:
    """Kind of run -> what those of this home took, in the middle. A run that cannot be read tells nothing."""
    taken: dict[Kind, list[Known]] = {}
    for path in sorted(runs_dir(home).glob(f"*/{CONFIG_NAME}")):
        try:
            config = read_config(path.parent)
            if config.student not in students or not (path.parent / METRICS_NAME).is_file():
                continue
            rates = [
                float(line["steps_per_s"]) for line in read_metrics(path.parent) if "steps_per_s" in line
            ]
        except (KdError, ValueError, TypeError):
            continue
        rates = [rate for rate in rates if rate > 0 and math.isfinite(rate)]
        if rates:
            one = Known(statistics.median(rates), folder_bytes(path.parent))
            for kind in _kinds(config):
                taken.setdefault(kind, []).append(one)
    return {kind: _middle(each) for kind, each in taken.items()}


def _middle(each: Sequence[Known]) -> Known:
    rate = statistics.median(one.steps_per_s for one in each)
    return Known(rate, max(one.num_bytes for one in each))


def _kinds(config: TrainConfig) -> tuple[Kind, ...]:
    """From the most like to the least like; a loss may cost more than the student, so first with it."""
    base = (config.student, config.batch_size, config.crop, config.device)
    return ((*base, config.loss), base)
