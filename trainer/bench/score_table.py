"""The table of an ablation: one row per student, loss and options, a score per seed.

Rows in order: the teacher; then of each student `none` on fresh views, `none` on stored views, and the losses
as they were named. Val chose the student of every run; test is only read off, never chosen by. Paired
differences are taken to `none` on the same stored views, over the seeds that both have: on test where every
run has a score there, else on val.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.errors import KdError
from kdcache.cache.networks.resolve import member_names, run_folder
from kdcache.cache.networks.run_card import CARD
from kdcache.cache.record.find import caches_dir, find_cache, runs_dir
from kdcache.cache.record.manifest import read_manifest
from kdcache.cache.visible import shell_line
from kdcache.trainer.bench.entries import (
    FINISHED,
    FRESH,
    NONE,
    STORED,
    Entry,
    Options,
    entries_of_runs,
    entries_of_sweep,
    require_one_data,
    without_teachers,
)
from kdcache.trainer.bench.statistics import Spread, paired, spread, verdict
from kdcache.trainer.bench.sweep_folder import read_sweep

TEACHER = "teacher"
VAL, TEST = "val", "test"


class RowKey(NamedTuple):
    """Of a teacher, `loss` is its own name, and `student` its network where that is known."""

    student: str
    loss: str
    options: Options
    pixels: str
    cache: str


@dataclass(frozen=True, kw_only=True)
class Row:
    """Scores are ratios in 0..1 by seed."""

    key: RowKey
    entries: tuple[Entry, ...]  # by seed; those without a score too
    role: str = ""  # TEACHER, or ''
    says_cache: bool = False  # whether the name does, where several caches were read
    val: Spread | None = None
    test: Spread | None = None
    differences: Mapping[int, float] = field(default_factory=dict)
    difference: Spread | None = None
    verdict: str = ""  # '' for a row that is compared with nothing

    @property
    def name(self) -> str:
        """'r18 kd, lr=0.1', 'r18 none (fresh views)'."""
        return self.label if self.role else f"{self.key.student} {self.label}"

    @property
    def label(self) -> str:
        """The name among the rows of one student."""
        place = f" ({self.key.pixels} views)" if self.key.pixels != STORED else ""
        parts = [f"{self.key.loss}{place}", self.options]
        parts += [f"cache {self.key.cache}"] if self.says_cache and self.key.cache else []
        if self.role:
            return TEACHER if self.key.loss == TEACHER else f"{TEACHER} {self.key.loss}"
        return ", ".join(filter(None, parts))

    @property
    def options(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in self.key.options)

    def scores(self, split: str) -> dict[int, float]:
        pairs = ((entry.seed, entry.val if split == VAL else entry.test) for entry in self.entries)
        return {seed: score for seed, score in pairs if score is not None}

    @property
    def is_fresh_none(self) -> bool:
        return not self.role and self.key.loss.strip() == NONE and self.key.pixels == FRESH

    @property
    def is_stored_none(self) -> bool:
        return not self.role and self.key.loss.strip() == NONE and self.key.pixels == STORED


@dataclass(frozen=True, kw_only=True)
class ScoreTable:
    title: str
    metric: str
    split: str  # of the differences
    rows: tuple[Row, ...]
    notes: tuple[str, ...]
    several_caches: bool

    @property
    def entries(self) -> list[Entry]:
        return [entry for row in self.rows if not row.role for entry in row.entries]

    @property
    def students(self) -> list[str]:
        return list(dict.fromkeys(row.key.student for row in self.rows if not row.role))

    def name_of(self, row: Row) -> str:
        """As short as it can be: without the student where all rows have the same."""
        return row.label if len(self.students) == 1 else row.name

    @property
    def has_test(self) -> bool:
        return any(row.test is not None for row in self.rows)


def table_of(home: Path, runs: Sequence[str], sweep: str | None) -> ScoreTable:
    """Of the named runs, of a sweep, or of every run of the home.

    Raises KdError for what is not there, and for runs that one table cannot hold.
    """
    if sweep is not None:
        read = read_sweep(home, sweep)
        title, entries = f"sweep {read.name}", entries_of_sweep(home, read)
    else:
        title, entries = "runs", entries_of_runs(home, runs)
    teachers = teachers_of(home, entries)
    if not runs:
        entries = without_teachers(entries, teachers) or entries
    require_one_data(entries)
    return make_table(title, entries, [_teacher_row(home, name) for name in teachers])


def make_table(title: str, entries: Sequence[Entry], teachers: Sequence[Row] = ()) -> ScoreTable:
    """The rows of these runs, each compared with its `none`."""
    grouped: dict[RowKey, list[Entry]] = {}
    repeated: list[str] = []
    for entry in entries:
        row = grouped.setdefault(_key_of(entry), [])
        if other := next((one for one in row if one.seed == entry.seed), None):
            repeated.append(f"run '{entry.run}' is as run '{other.run}', with the same seed: it is left out")
        else:
            row.append(entry)
    several = len({key.cache for key in grouped if key.cache}) > 1
    plain = [replace(_row(key, members), says_cache=several) for key, members in grouped.items()]
    ended = [entry for entry in entries if entry.finished]
    split = TEST if ended and all(entry.test is not None for entry in ended) else VAL
    rows = [*teachers, *(_compared(row, plain, split) for row in _in_order(plain))]
    return ScoreTable(
        title=title,
        metric=next((entry.metric for row in rows for entry in row.entries if entry.metric), "score"),
        split=split,
        rows=tuple(rows),
        notes=(*repeated, *_notes(rows)),
        several_caches=several,
    )


def teachers_of(home: Path, entries: Sequence[Entry]) -> list[str]:
    """Names of the teachers whose answers these runs read, in order, each once."""
    names: list[str] = []
    for entry in entries:
        if entry.cache:
            try:
                names.append(read_manifest(find_cache(entry.cache, caches_dir(home))).teacher_origin)
            except KdError:  # a cache that is gone takes no score away
                continue
        elif entry.config is not None and entry.config.teacher:
            names.append(entry.config.teacher)
    return list(dict.fromkeys(names))


def _teacher_row(home: Path, name: str) -> Row:
    """With the scores of its run, where the teacher is one."""
    folder = run_folder(name, runs_dir(home)) if len(member_names(name, runs_dir(home))) == 1 else None
    key = RowKey("", name, (), "", "")
    if folder is None or not (folder / CARD).is_file():
        return Row(key=key, entries=(), role=TEACHER)
    (entry,) = entries_of_runs(home, [str(folder)])
    return _row(key._replace(student=entry.student, loss=entry.run), [entry], role=TEACHER)


def _key_of(entry: Entry) -> RowKey:
    return RowKey(entry.student, entry.loss, entry.options, entry.pixels, entry.cache)


def _row(key: RowKey, entries: Sequence[Entry], role: str = "") -> Row:
    ordered = tuple(sorted(entries, key=lambda entry: entry.seed))
    bare = Row(key=key, entries=ordered, role=role)
    val, test = bare.scores(VAL), bare.scores(TEST)
    return Row(key=key, entries=ordered, role=role, val=_spread(val), test=_spread(test))


def _spread(scores: Mapping[int, float]) -> Spread | None:
    return spread(list(scores.values())) if scores else None


def _compared(row: Row, rows: Sequence[Row], split: str) -> Row:
    """The row with its paired differences to the undistilled student on the same stored views."""
    if row.is_stored_none:
        return row
    base = _base_of(row, rows)
    differences = {} if base is None else paired(row.scores(split), base.scores(split))
    difference = _spread(differences)
    words = verdict(difference, NONE) if row.scores(split) else "no score"
    return replace(row, differences=differences, difference=difference, verdict=words)


def _base_of(row: Row, rows: Sequence[Row]) -> Row | None:
    """The `none` that differs in the loss alone; where no run has the row's options, the only `none`."""
    nones = [one for one in rows if one.is_stored_none and one.key.student == row.key.student]
    if row.key.cache:
        nones = [one for one in nones if one.key.cache == row.key.cache]
    same = [one for one in nones if one.key.options == row.key.options]
    chosen = same or nones
    return chosen[0] if len(chosen) == 1 else None


def _in_order(rows: Sequence[Row]) -> list[Row]:
    students = list(dict.fromkeys(row.key.student for row in rows))

    def rank(row: Row) -> tuple[int, int]:
        place = 0 if row.is_fresh_none else 1 if row.is_stored_none else 2
        return students.index(row.key.student), place

    return sorted(rows, key=rank)


def _notes(rows: Sequence[Row]) -> list[str]:
    """Sentences without which the table would say more than was measured."""
    notes = []
    for row in rows:
        for entry in row.entries:
            if entry.state != FINISHED:
                notes.append(f"run '{entry.run}' has no score: {entry.state}")
            elif entry.val is None and not row.role:
                notes.append(f"run '{entry.run}' has no score: it was never validated, see --eval-every")
        if row.role and row.val is None:
            notes.append(f"{row.name} is no run of this home, and was not judged here")
        elif row.role and row.test is None and any(other.test is not None for other in rows):
            command = shell_line(["kdtrain", "eval", row.key.loss, "--split", TEST])
            notes.append(f"{row.name} has no score on test yet: {command}")
    compared = [row for row in rows if row.verdict]
    if any(row.verdict == "no pair" for row in compared):
        notes.append(
            "no pair: a run of the same student with --loss none on the same stored views and of an equal "
            "seed is missing"
        )
    tested = sum(row.difference is not None and row.difference.low is not None for row in compared)
    if tested > 1:
        notes.append(
            f"{tested} intervals of 95 % each: where nothing differs, one of twenty leaves 0 out by chance"
        )
    if any(row.test is not None for row in rows):
        notes.append("scores on test are of the student that val chose; nothing was chosen on test")
    return notes
