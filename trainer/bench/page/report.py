"""`kdtrain report`: gather what runs and caches recorded, ask the networks about a few images, write a page.

What cannot be had any more, such as data that moved or a teacher whose weights are gone, is left out with a
sentence that says so: a report of what is there is better than none.
"""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.errors import BadOption, KdError
from kdcache.cache.files.system import user_path, write_whole
from kdcache.cache.look.teacher import manifest_teacher
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.run import load_run_network
from kdcache.cache.record.command import repeat_words
from kdcache.cache.record.find import caches_dir, find_cache, runs_dir
from kdcache.cache.record.manifest import read_manifest
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.table import data_word, open_source
from kdcache.cache.visible import shell_line
from kdcache.trainer.bench.curves import Curves, read_curves
from kdcache.trainer.bench.entries import Entry
from kdcache.trainer.bench.ledger import accounts
from kdcache.trainer.bench.page.analysis import Analysis, analyse
from kdcache.trainer.bench.page.examples import Example, colours_of, draw_examples
from kdcache.trainer.bench.score_table import TEST, VAL, Row, ScoreTable, table_of
from kdcache.trainer.folder.environment import read_environment

MOST_STUDENTS = 8  # networks that are asked beside the teacher
NUM_EXAMPLES = 4


class Looked(NamedTuple):
    """What the networks say, and what could not be asked."""

    examples: Sequence[Example] = ()
    colours: Mapping[str, tuple[int, int, int]] = {}
    analysis: Analysis | None = None
    notes: Sequence[str] = ()


def write_report(
    home: Path,
    runs: Sequence[str],
    sweep: str | None,
    out: Path,
    *,
    with_analysis: bool = False,
    num_threads: int = 1,
) -> ScoreTable:
    """Writes the page to `out` and returns its table. Raises BadOption where plotly is not installed, KdError
    for runs that one table cannot hold."""
    require_plotly()
    table = table_of(home, runs, sweep)
    page = report_html(home, table, with_analysis=with_analysis, num_threads=num_threads)
    write_whole(user_path(out), page.encode())
    return table


def require_plotly() -> None:
    """Raises BadOption naming the extra that brings it."""
    if find_spec("plotly") is None:
        raise BadOption(
            "a report is drawn by plotly, and plotly is not installed",
            where="kdtrain report",
            fix="pip install 'kdcache[report]'; 'kdtrain compare' shows the same table in the terminal",
        )


def report_html(home: Path, table: ScoreTable, *, with_analysis: bool = False, num_threads: int = 1) -> str:
    """The page of a table, whole."""
    from kdcache.trainer.bench.page.page import Contents, Page

    every = [entry for row in table.rows for entry in row.entries]
    curves = {entry.run: read_curves(entry.run_dir, table.metric) for entry in every}
    looked = _look(home, table, with_analysis=with_analysis, num_threads=num_threads)
    paid, lost = accounts(home, table.entries)
    on = table.split
    return Page(
        Contents(
            table=table,
            data=next((data_word(entry.card.data) for entry in every if entry.card), "no data"),
            curves=curves,
            class_title=next((f"{one.class_word} %" for one in curves.values() if one.class_word), ""),
            classes={row.name: class_means(row, curves, on) for row in table.rows},
            classes_on=on,
            class_names=next((entry.card.class_names for entry in every if entry.card), ()),
            accounts=paid,
            builds=_builds(home, table.entries),
            versions=_versions(every),
            examples=looked.examples,
            colours=looked.colours,
            analysis=looked.analysis,
            notes=(*lost, *looked.notes, *(one.note for one in curves.values() if one.note)),
        )
    ).html()


def class_means(row: Row, curves: Mapping[str, Curves], split: str) -> dict[str, float]:
    """Class -> mean over the seeds that have a figure there."""
    values: dict[str, list[float]] = {}
    for entry in row.entries:
        if entry.finished:
            of_run = entry.test_classes if split == TEST else curves[entry.run].classes
            for name, value in of_run.items():
                if value is not None:
                    values.setdefault(name, []).append(value)
    return {name: sum(all_of) / len(all_of) for name, all_of in values.items()}


def _look(home: Path, table: ScoreTable, *, with_analysis: bool, num_threads: int) -> Looked:
    """Of each row the run with the lowest seed is asked, of the first rows."""
    firsts = {
        table.name_of(row): next((e for e in row.entries if e.card), None)
        for row in table.rows
        if not row.role
    }
    asked = {name: entry for name, entry in firsts.items() if entry is not None}
    chosen = dict(list(asked.items())[:MOST_STUDENTS])
    if not chosen:
        return Looked()
    notes = (
        [f"pictures are of the first {len(chosen)} of {len(asked)} rows"] if len(asked) > len(chosen) else []
    )
    card = next(iter(chosen.values())).card
    assert card is not None
    try:
        source = open_source(card.data, VAL)
        students = {name: load_run_network(entry.run_dir).eval() for name, entry in chosen.items()}
    except KdError as error:
        return Looked(notes=[*notes, f"no pictures: {error.what}"])
    teacher, why = _teacher(home, list(chosen.values()))
    notes += [why] if why else []
    networks = {"teacher": teacher, **students} if teacher is not None else dict(students)
    try:
        examples = draw_examples(
            networks, source, NUM_EXAMPLES, input_size=card.crop, num_threads=num_threads
        )
    except KdError as error:
        examples, notes = [], [*notes, f"no pictures: {error.what}"]
    analysis, unsaid = None, ""
    if with_analysis:
        analysis, unsaid = _analysis(teacher, students, source, card.crop, num_threads)
    return Looked(examples, colours_of(source), analysis, [*notes, *([unsaid] if unsaid else [])])


def _teacher(home: Path, entries: Sequence[Entry]) -> tuple[Network | None, str]:
    """The teacher behind the first cache, or why there is none."""
    cache = next((entry.cache for entry in entries if entry.cache), None)
    if cache is None:
        return None, "no teacher in the pictures: no run read a cache"
    try:
        return manifest_teacher(find_cache(cache, caches_dir(home)), runs_dir(home), None).eval(), ""
    except KdError as error:
        return None, f"no teacher in the pictures: {error.what}"


def _analysis(
    teacher: Network | None,
    students: Mapping[str, Network],
    source: Source,
    input_size: tuple[int, int],
    num_threads: int,
) -> tuple[Analysis | None, str]:
    if teacher is None:
        return None, "no analysis of features: there is no teacher to compare with"
    try:
        return analyse(teacher, students, source, input_size=input_size, num_threads=num_threads), ""
    except KdError as error:
        return None, f"no analysis of features: {error.what}"


def _builds(home: Path, entries: Sequence[Entry]) -> dict[str, str]:
    """Cache -> the commands that build it, a line each."""
    commands = {}
    for name in dict.fromkeys(entry.cache for entry in entries if entry.cache):
        try:
            manifest = read_manifest(find_cache(name, caches_dir(home)))
        except KdError:  # the ledger says why
            continue
        losses = [entry.loss for entry in entries if entry.cache == name and not entry.is_none]
        steps = repeat_words(manifest, list(dict.fromkeys(losses)))
        commands[name] = "\n".join(map(shell_line, steps))
    return commands


def _versions(entries: Sequence[Entry]) -> dict[str, list[str]]:
    """What ran, with every version among the runs."""
    versions: dict[str, list[str]] = {}
    for entry in entries:
        table = read_environment(entry.run_dir) if entry.run_dir.is_dir() else None
        environment = (table or {}).get("environment", {})
        packages = environment.get("packages", {})
        plain = {
            name: environment[name]
            for name in ("python", "system", "device", "cuda")
            if environment.get(name)
        }
        for name, version in {**plain, **packages}.items():
            if version and str(version) not in versions.setdefault(str(name), []):
                versions[str(name)].append(str(version))
    return {name: all_of for name, all_of in versions.items() if all_of}
