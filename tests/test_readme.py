"""What the README says and a line of the code can contradict: its commands and what stands in their options,
its lists of data and methods, the files that it points to, the bytes that it counts."""

import re
import shlex
import subprocess
import tomllib
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from kdcache.cache.codecs.table import make_codec
from kdcache.cache.networks.names import parse_name, split_names
from kdcache.cache.sources.table import SOURCES
from kdcache.cache.spec import Task, TensorSpec
from kdcache.cache.tasks.table import CLASSIFICATION, DETECTION, SEGMENTATION, task_of
from kdcache.cache.views.recipe import parse_recipe
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.losses.plan.catalogue import entries
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.plan.table import TASK

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
PROGRAMS: dict[str, click.Group] = {"kdcache": kdcache, "kdtrain": kdtrain}
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
YOURS = "my_source"  # a module that nobody has until the user writes it
OF_THE_FIRST_LINES = ("r101",)  # a run that the two commands at the top take for granted


class Line(NamedTuple):
    """A command of a block, without its comment."""

    text: str
    before: str  # all that stands above it

    @property
    def task(self) -> Task:
        passage = self.before.rpartition("\n## ")[2]
        if "And detectors" in passage:
            return DETECTION
        return CLASSIFICATION if "distil classifiers" in passage else SEGMENTATION


def commands() -> list[Line]:
    shown = re.finditer(r"^ {4}((?:kdcache|kdtrain) .*)$", README, re.MULTILINE)
    return [Line(one[1].partition(" #")[0].strip(), README[: one.start()]) for one in shown]


def parsed(line: str) -> tuple[str, dict[str, object]]:
    """The command's name, and what click makes of the words behind it: a flag that is none fails."""
    program, *words = shlex.split(line)
    group = PROGRAMS[program]
    name = words[0] if words and words[0] in group.commands else ""
    command: click.Command = group.commands[name] if name else group
    with command.make_context(name or program, words[1:] if name else words) as context:
        return f"{program} {name}".strip(), dict(context.params)


def table_rows() -> list[tuple[str, str]]:
    """First and second cell of each row of the table of commands."""
    table = README.partition("| command | what it does |\n|---|---|\n")[2].partition("\n\n")[0]
    return [(cells[0], cells[1]) for line in table.splitlines() for cells in [line[2:-2].split(" | ", 1)]]


def commands_in(text: str) -> set[str]:
    """Names of commands, such as 'kdcache build'; a bare program is its own."""
    named = re.findall(r"`(kdcache|kdtrain)\b ?([a-z]*)", text)
    return {f"{program} {word}" if word in PROGRAMS[program].commands else program for program, word in named}


def flags_of(name: str) -> set[str]:
    program, _, word = name.partition(" ")
    command = PROGRAMS[program].commands[word] if word else PROGRAMS[program]
    return {flag for one in command.params for flag in (*one.opts, *one.secondary_opts)}


def test_every_passage_has_commands_that_are_read() -> None:
    assert len(commands()) > 25
    assert {line.task for line in commands()} == {SEGMENTATION, CLASSIFICATION, DETECTION}


@pytest.mark.parametrize("line", commands(), ids=lambda line: line.text)
def test_a_line_can_be_typed(line: Line) -> None:
    """Losses, networks and data that it names are there for its task; a run was made by a line above it."""
    task, (name, given) = line.task, parsed(line.text)
    runs = {*re.findall(r"--run (\S+)", line.before), *OF_THE_FIRST_LINES}
    losses = str(given.get("losses" if name == "kdcache build" else "loss") or "")
    joined = name in ("kdcache build", "kdtrain sweep")
    for loss in re.split(r",(?![^(]*\))", losses) if joined else [losses]:
        if loss:
            parse_losses(loss, preset=None, task=task)
    networks = [str(given.get(option) or "") for option in ("student", "teacher")]
    for network in (one for text in networks for one in split_names(text) if one and one not in runs):
        parse_name(network, task=task)
    if (data := given.get("data")) and not str(data).startswith(YOURS):
        assert SOURCES[str(data).partition(":")[0]].task == task


@pytest.mark.parametrize(
    ("words", "task"), [("Segmentation", SEGMENTATION), ("Classification", CLASSIFICATION)]
)
def test_the_list_of_data_is_that_of_the_sources(words: str, task: Task) -> None:
    listed = README.partition(f"{words} data: ")[2].partition("\nDetection data: ")[0]
    named = re.findall(r"`([\w-]+)`", listed.partition(" data: ")[0])
    assert sorted(named) == sorted(name for name, source in SOURCES.items() if source.task == task)


def test_there_are_as_many_methods_as_it_says_and_its_examples_are_some() -> None:
    (number, examples) = re.findall(r"^(\d+) methods, .*settings: (.*)\.$", README, re.MULTILINE)[0]
    assert int(number) == len([one for one in entries() if one.name != TASK])
    for example in re.findall(r"`'(.*?)'`", examples):
        parse_losses(example, preset=None, task=SEGMENTATION)


@pytest.mark.parametrize("row", table_rows(), ids=lambda row: row[0][:30])
def test_a_row_of_the_table_names_options_of_its_command(row: tuple[str, str]) -> None:
    """Those of another command stand behind that command's name."""
    left, right = row
    named = commands_in(left) | (commands_in(right) if "`kdtrain eval --exported" in right else set())
    flags = set().union(*(flags_of(name) for name in named)) or {"--trust"}
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", left + right)) <= flags


def test_the_table_has_every_command_that_help_lists() -> None:
    shown = {
        f"{program} {name}"
        for program, group in PROGRAMS.items()
        for name, command in group.commands.items()
        if not command.hidden
    }
    assert set().union(*(commands_in(left) for left, _ in table_rows())) == shown | {"kdtrain"}


def test_consent_can_be_given_with_any_command() -> None:
    assert any("with any command" in right for left, right in table_rows() if "--trust" in left)
    for program, group in PROGRAMS.items():
        assert {n for n in group.commands if "--trust" not in flags_of(f"{program} {n}")} == set()
        assert "--trust" in flags_of(program)


def test_the_recipe_of_the_table_can_be_drawn() -> None:
    (text,) = re.findall(r"--augment RECIPE` \| what views draw: `'(.*?)'`", README)
    drawn = parse_recipe(text, task_of(CLASSIFICATION).recipes).text
    items = [{part.partition("=")[0] for part in one.split(",")} for one in (text, drawn)]
    assert items[0] == items[1] and len(items[0]) == 6


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_a_test_or_a_script_that_a_document_names_is_there(document: Path) -> None:
    """A bare name is that of a file in the folder that was named last."""
    folder, lost = ROOT / "tests", []
    scripts = r"|\w+\.py" if document.name in ("benchmarks.md", "results.md") else ""  # without their folder
    named = rf"`((?:tests|benchmarks)/[\w/.-]*|test_\w+\.py{scripts})[` ]"
    for name in re.findall(named, document.read_text()):
        path = ROOT / name if "/" in name else ROOT / "benchmarks" / name
        if name.startswith("test_"):
            path = folder / name
        elif name.startswith("tests/") and path.suffix:
            folder = path.parent
        if not path.exists():
            lost.append(name)
    assert lost == []


def test_the_stated_bytes_of_a_row_and_of_camvid_are_those_of_the_codec() -> None:
    (cells, rows, channels, megabytes, views, gigabytes) = re.findall(
        r"is (\d+) x (\d+) x (\d+) bytes, ([\d.]+) MB\n?\s*as int8; CamVid with (\d+) views is (\d+) GB",
        README,
    )[0]
    spec = TensorSpec((int(cells), int(rows), int(channels)), 8)
    assert int(cells) == -(-360 // spec.stride)
    row = sum(part.num_bytes for part in make_codec("int8").parts(spec).values())
    assert round(row / 1e6, 1) == pytest.approx(float(megabytes), abs=0.11)
    assert round(367 * int(views) * row / 1e9) == int(gigabytes)


def test_python_is_as_old_as_it_says_and_make_types_what_it_says() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (version,) = re.findall(r"Python ([\d.]+) or newer", README)
    assert project["requires-python"] == f">={version}"
    typed = subprocess.run(
        ["make", "-n", "demo", "test", "DALI=cuda120"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout  # fmt: skip
    assert "kdcache.cli.kdcache demo --out demo-out" in typed and "-m venv .venv" in typed
    assert "-m pytest" in typed and "nvidia-dali-cuda120" in typed
