"""The cells of a sweep: which runs it is made of, what each is called, and the command that trains it.

Order: seed, cache, point of the option axes, student; then `none` on fresh views, `none` on the stored ones,
and the losses. So a sweep that is stopped early has whole rounds, and shards get some of everything.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from kdcache.cache.errors import BadOption
from kdcache.cache.fingerprint import digest_of
from kdcache.cache.record.find import caches_dir, find_cache
from kdcache.cache.record.standing import counted_manifest
from kdcache.cache.tasks.table import task_of
from kdcache.losses.plan.table import NONE
from kdcache.trainer.bench.definition import MOST_CELLS, Definition, Value
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.folder.home import absolute_spec, cache_label, default_run_name
from kdcache.trainer.folder.option_field import about, flag, spelled

Role = Literal["cell", "none", "none-fresh"]
CELL: Role = "cell"
STORED_NONE: Role = "none"
FRESH_NONE: Role = "none-fresh"
# What a run without a teacher does not take.
_OF_TEACHER = ("online", "teacher", "teacher_weights", "views")
_MOST_NAME = 160  # of the 255 bytes that a file system gives
# Options that may differ between two commands of one sweep: they change no result, or only what is kept.
FREE = frozenset(name for name, one in TrainConfig.__dataclass_fields__.items() if about(one).free_on_resume)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One run of a sweep. `options`: of kdtrain, values as they are typed behind a flag."""

    run: str
    student: str
    loss: str
    seed: int
    cache: str | None = None  # stored views
    data: str | None = None  # fresh views
    role: Role = CELL
    options: Mapping[str, Value] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """All that makes this cell another one than its neighbours."""
        plain = asdict(self)
        del plain["run"]
        plain["options"] = {name: value for name, value in self.options.items() if name not in FREE}
        return plain

    @property
    def key(self) -> str:
        return digest_of(self.values)

    @property
    def given(self) -> dict[str, Any]:
        """Options by field name, as a command line gives them."""
        pixels = {"cache": self.cache} if self.cache else {"data": self.data}
        own = {"run": self.run, "student": self.student, "loss": self.loss, **pixels, "seed": self.seed}
        return {**own, **self.options}


def command_of(cell: Cell, *, resume: bool = False, threads: int | None = None) -> list[str]:
    """The words that train a cell; `threads` is the most that decode images."""
    given = dict(cell.given)
    if threads is not None and int(given.get("threads", TrainConfig.threads)) > threads:
        given["threads"] = threads
    words = ["kdtrain"]
    for name, value in given.items():
        if isinstance(value, bool):
            words.append(flag(name) if value else f"--no-{flag(name)[2:]}")
        else:
            words += [flag(name), spelled(value)]
    return [*words, *(["--resume"] if resume else [])]


@dataclass(frozen=True, slots=True)
class Pixels:
    """Where cells of a sweep read: a cache and the data behind it, or data alone."""

    cache: str | None
    data: str
    fresh: Mapping[str, Value] = field(default_factory=dict)  # what makes fresh views like the cache's


def pixels_of(definition: Definition, home: Path) -> tuple[Pixels, ...]:
    """Raises Missing and BadOption for caches that are not there, and for caches beside data."""
    spec = definition.options.get("data")
    if spec is not None and definition.caches:
        raise BadOption(
            "a sweep on data and on caches: the first are fresh views, the second stored ones",
            where=f"data {spec}, cache {', '.join(definition.caches)}",
            fix="leave the data out: 'none' on fresh views is a cell of every sweep over caches",
        )
    if spec is not None:
        return (Pixels(None, absolute_spec(str(spec))),)
    named: Sequence[str | None] = definition.caches or (None,)
    return tuple(_cached(find_cache(name, caches_dir(home)), home) for name in named)


def _cached(root: Path, home: Path) -> Pixels:
    m = counted_manifest(root)
    fresh: dict[str, Value] = {"crop": ",".join(map(str, m.crop))}
    if any(views.draws for views in m.views):
        fresh["augment"] = str(m.identity["recipe"]) or "none"
    usual = task_of(m.task).networks.default_stride
    if usual is not None and m.output_stride not in (0, usual):
        fresh["output_stride"] = m.output_stride
    return Pixels(cache_label(home, root), m.data_spec, fresh)


def cells_of(definition: Definition, pixels: Sequence[Pixels]) -> tuple[Cell, ...]:
    """Every cell, each with a name that no other one has. Raises BadOption for more than `MOST_CELLS`."""
    count = len(definition.losses) * len(definition.students) * len(definition.seeds) * len(pixels)
    for values in definition.axes.values():
        count *= len(values)
    if count > MOST_CELLS:
        raise BadOption(
            f"the grid has {count} cells, at most {MOST_CELLS} are one sweep",
            where=f"sweep {definition.name}",
            fix="list fewer values; a random or a smaller grid says as much",
        )
    cells: dict[str, Cell] = {}
    names: set[str] = set()
    for unnamed, words in _unnamed(definition, pixels):
        if unnamed.key in cells:
            continue
        name = _short("-".join([definition.name, *words]))
        if name in names:
            name = _short(f"{name}-{unnamed.key[:6]}", keep_end=True)
        names.add(name)
        cells[unnamed.key] = Cell(**{**_fields(unnamed), "run": name})
    return tuple(cells.values())


def _fields(cell: Cell) -> dict[str, Any]:
    return {name: getattr(cell, name) for name in Cell.__dataclass_fields__}


def _unnamed(definition: Definition, pixels: Sequence[Pixels]) -> Iterator[tuple[Cell, list[str]]]:
    """Cells, and the parts of their names behind the sweep's."""
    fixed = {name: value for name, value in definition.options.items() if name != "data"}
    points = [
        dict(zip(definition.axes, values, strict=True))
        for values in itertools.product(*definition.axes.values())
    ]
    for seed, place, point, student in itertools.product(
        definition.seeds, pixels, points, definition.students
    ):
        options = {**fixed, **point}
        of_cache = [str(place.cache).rpartition("-")[2]] if len(pixels) > 1 else []
        marks = [*of_cache, *(f"{name}={spelled(value)}" for name, value in point.items())]
        for loss, role in _losses(definition, place):
            cell = _cell(place, student, loss, seed, role, options)
            fresh = role == FRESH_NONE and place.cache is not None
            # Fresh views are the same for all caches of one data set, and so is this run.
            of_point = marks[len(of_cache) :] if fresh else marks
            yield cell, _name_parts(student, loss, of_point, seed=seed, fresh=fresh)


def _losses(definition: Definition, place: Pixels) -> Iterator[tuple[str, Role]]:
    if definition.fresh or place.cache is None:
        yield NONE, FRESH_NONE
    if place.cache is not None:
        yield NONE, STORED_NONE
    yield from ((loss, CELL) for loss in definition.losses if loss != NONE)


def _cell(
    place: Pixels, student: str, loss: str, seed: int, role: Role, options: Mapping[str, Value]
) -> Cell:
    spec = place.data if place.cache is None or role == FRESH_NONE else None
    if role != CELL:
        keeps = "inherit" in options
        options = {n: v for n, v in options.items() if n not in _OF_TEACHER or (keeps and n != "online")}
    if role == FRESH_NONE:
        options = {**place.fresh, **options}
    cache = None if spec is not None else place.cache
    return Cell(
        run="", student=student, loss=loss, seed=seed, cache=cache, data=spec, role=role, options=options
    )


def _name_parts(student: str, loss: str, marks: Sequence[str], *, seed: int, fresh: bool) -> list[str]:
    parts = [default_run_name(student, loss, fresh=fresh, online=False, seed=0)]
    parts += [default_run_name(mark, "", fresh=False, online=False, seed=0).rstrip("-") for mark in marks]
    return [*parts, *([f"seed{seed}"] if seed else [])]


def _short(name: str, *, keep_end: bool = False) -> str:
    """A name that a file system takes."""
    if len(name) <= _MOST_NAME:
        return name
    end = name[-7:] if keep_end else f"-{digest_of(name, 6)}"
    return f"{name[: _MOST_NAME - len(end)]}{end}"
