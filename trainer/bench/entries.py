"""What one run says of itself, for tables: read from its folder, nothing computed anew.

A run counts when it came to its end. One that stopped, failed or never began keeps its place and no score:
the best of fewer steps is another experiment.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from kdcache.cache.errors import BadOption
from kdcache.cache.networks.run_card import RunCard, read_run_card
from kdcache.cache.record.find import runs_dir
from kdcache.cache.sources.table import data_word
from kdcache.cache.visible import shell_line
from kdcache.trainer.bench.grid import FREE, Cell, Role
from kdcache.trainer.bench.run_state import state_of
from kdcache.trainer.bench.sweep_folder import Sweep, failure_of
from kdcache.trainer.config import TrainConfig, read_config, start_words
from kdcache.trainer.folder.home import find_run
from kdcache.trainer.folder.option_field import spelled
from kdcache.trainer.folder.run_folder import CONFIG_NAME
from kdcache.trainer.folder.scores import read_scores
from kdcache.trainer.judge.judge import judge_of

STORED, FRESH, ONLINE = "stored", "fresh", "online"  # where pixels come from
FINISHED, RUNNING, NOT_BEGUN = "finished", "running", "not begun"  # words of a run's state
NONE = "none"  # the loss of an undistilled student
# Of a run's options those that have a column of their own, or that change no figure.
_APART = FREE | {"run", "save_every", "log", "student", "loss", "seed", "data", "cache", "online"}
_OF_PIXELS = frozenset({"views", "crop", "augment", "keep_empty", "teacher", "teacher_weights"})

Options = tuple[tuple[str, str], ...]  # name, value


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One run, or the place of one."""

    run: str
    run_dir: Path
    student: str
    loss: str
    options: Options  # those that tell it from most of the others
    pixels: str
    cache: str  # '' without one
    seed: int
    state: str  # 'finished', or in words what it is instead
    metric: str = ""  # the name of the score
    val: float | None = None  # a ratio in 0..1, of the best validation
    test: float | None = None  # of the student that val chose
    config: TrainConfig | None = None
    card: RunCard | None = None
    test_classes: Mapping[str, float | None] = field(default_factory=dict)

    @property
    def is_none(self) -> bool:
        return self.loss.strip() == NONE

    @property
    def finished(self) -> bool:
        return self.state == FINISHED

    def command(self) -> str:
        """What makes this run again, as it is typed; '' where nothing says it."""
        return "" if self.config is None else shell_line(start_words(self.config, self.run))


def entries_of_runs(home: Path, names: Sequence[str]) -> list[Entry]:
    """The named runs, each once; without names every run of the home that is not another one's teacher.

    Raises Missing for a run that is not there, BadOption where there is none at all.
    """
    folders = [find_run(home, name) for name in names] if names else _all_runs(home)
    folders = list({folder.resolve(): folder for folder in folders}.values())
    configs = {folder: read_config(folder) for folder in folders}
    if not folders:
        raise BadOption(
            "there are no runs to compare", where=str(runs_dir(home)), fix="train some first: kdtrain --help"
        )
    told = _differences(configs)
    return [
        _entry(
            folder,
            student=config.student,
            loss=config.loss,
            options=told[folder],
            pixels=_pixels(config),
            cache=config.cache or "",
            seed=config.seed,
            config=config,
        )
        for folder, config in configs.items()
    ]


def entries_of_sweep(home: Path, sweep: Sweep) -> list[Entry]:
    """Every cell, also those that have no run."""
    entries, told = [], _differing(sweep.cells)
    for cell in sweep.cells:
        run_dir = runs_dir(home) / cell.run
        entries.append(
            _entry(
                run_dir,
                student=cell.student,
                loss=cell.loss,
                options=tuple(
                    (name, spelled(value))
                    for name, value in cell.options.items()
                    if name in told.get(cell.role, ())
                ),
                pixels=STORED if cell.data is None else FRESH,
                cache=cell.cache or "",
                seed=cell.seed,
                config=read_config(run_dir) if (run_dir / CONFIG_NAME).is_file() else None,
                failure=failure_of(sweep, cell),
            )
        )
    return entries


def require_one_data(entries: Iterable[Entry]) -> None:
    """Raises BadOption for runs whose scores cannot stand in one table: of other tasks, classes or data."""
    cards = [(entry, entry.card) for entry in entries if entry.card is not None]
    for entry, card in cards[1:]:
        first, first_card = cards[0]
        theirs = first_card.task, first_card.class_names, data_word(first_card.data)
        if (card.task, card.class_names, data_word(card.data)) != theirs:
            raise BadOption(
                f"run '{first.run}' is of {first_card.data}, run '{entry.run}' of {card.data}: no table "
                "holds scores of both",
                where=str(entry.run_dir),
                fix="compare runs of one data set, each set for itself; "
                "folders of other names are other sets",
            )


def without_teachers(entries: Sequence[Entry], teachers: Iterable[str]) -> list[Entry]:
    """All but the runs that have a row as teachers."""
    apart = set(teachers)
    return [entry for entry in entries if entry.run not in apart]


def _all_runs(home: Path) -> list[Path]:
    return sorted(path.parent for path in runs_dir(home).glob(f"*/{CONFIG_NAME}"))


def _entry(
    run_dir: Path, *, config: TrainConfig | None, failure: str | None = None, **identity: Any
) -> Entry:
    state = state_of(run_dir)
    if state.word != FINISHED:
        said = f"failed: {failure.splitlines()[0]}" if failure and state.word != RUNNING else state.word
        if said != NOT_BEGUN and state.steps:
            said += f" (step {state.step} of {state.steps})"
        return Entry(run=run_dir.name, run_dir=run_dir, config=config, state=said, **identity)
    card = read_run_card(run_dir)
    counting = judge_of(card.task, card.class_names)
    judged = read_scores(run_dir, "test") or {}
    classes = next((value for value in judged.values() if isinstance(value, dict)), {})
    return Entry(
        run=run_dir.name,
        run_dir=run_dir,
        config=config,
        state=FINISHED,
        metric=counting.score_name,
        val=card.metrics.get(f"best/{counting.score_name}"),
        test=judged.get(counting.score_name),
        card=card,
        test_classes=classes,
        **identity,
    )


def _pixels(config: TrainConfig) -> str:
    if config.data is None:
        return STORED
    return ONLINE if config.online else FRESH


def _differing(cells: Sequence[Cell]) -> dict[Role, set[str]]:
    """Role -> options that change figures and are not the same in all cells of the role: what is common to
    them tells none from another."""
    values: dict[tuple[Role, str], Counter[str]] = {}
    for cell in cells:
        for name, value in cell.options.items():
            values.setdefault((cell.role, name), Counter())[spelled(value)] += 1
    num_cells = Counter(cell.role for cell in cells)
    told: dict[Role, set[str]] = {}
    for (role, name), counts in values.items():
        if name not in _APART and counts.most_common(1)[0][1] < num_cells[role]:
            told.setdefault(role, set()).add(name)
    return told


def _said(value: object) -> str:
    """None is what nobody typed."""
    return "default" if value is None else str(value)


def _differences(configs: Mapping[Path, TrainConfig]) -> dict[Path, Options]:
    """Of each run the options whose values are not those of most runs; of what describes pixels, of most runs
    with pixels from the same place."""
    told: dict[Path, list[tuple[str, str]]] = {folder: [] for folder in configs}
    for one in fields(TrainConfig):
        if one.name in _APART:
            continue
        groups: dict[str, Counter[str]] = {}
        values = {}
        for folder, config in configs.items():
            place = _pixels(config) if one.name in _OF_PIXELS else ""
            values[folder] = place, _said(getattr(config, one.name))
            groups.setdefault(place, Counter())[values[folder][1]] += 1
        for folder, (place, value) in values.items():
            if value != groups[place].most_common(1)[0][0]:
                told[folder].append((one.name, value))
    return {folder: tuple(pairs) for folder, pairs in told.items()}
