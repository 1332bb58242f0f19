"""`kdcache demo` without its minutes: what it types, where, and what it does when a command fails."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from kdcache.cli import demo as demo_module
from kdcache.cli.demo import commands
from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.bench.definition import read_definition, read_seeds
from kdcache.trainer.bench.grid import Cell, Pixels, cells_of

PROGRAMS: Mapping[str, click.Group] = {"kdcache": kdcache, "kdtrain": kdtrain}


def parsed(words: list[str]) -> dict[str, Any]:
    """What click makes of one command; a flag or a value that is none fails."""
    program, *rest = words
    group = PROGRAMS[program]
    command: click.Command = group.commands[rest[0]] if rest[0] in group.commands else group
    with command.make_context(rest[0], rest[1:] if command is not group else rest) as context:
        return dict(context.params)


def cells() -> tuple[Cell, ...]:
    """The runs of its sweep."""
    given = parsed(commands("demo:D", None, 2)[2])
    table = {"loss": [given["loss"]], "student": [given["student"]], "name": given["name"]}
    table |= {"seeds": list(read_seeds(given["seeds"], "--seeds")), "fresh": not given["no_fresh"]}
    return cells_of(read_definition(None, table), [Pixels("the cache", "demo:D")])


def test_a_teacher_is_trained_and_cached_and_six_students_learn_from_that_cache() -> None:
    teacher, build, _, shown = commands("demo:D", Path("report.html"), 2)
    assert parsed(teacher)["data"] == "demo:D" and parsed(teacher)["loss"] == "none"
    assert parsed(build)["teacher"] == parsed(teacher)["run"], "its own teacher, and so its own data"
    made = cells()
    assert [cell.cache for cell in made] == ["the cache"] * 6
    assert len({cell.seed for cell in made}) == 3 and len({cell.loss for cell in made}) == 2
    assert {(cell.loss, cell.seed) for cell in made if cell.loss == "none"} == {
        ("none", cell.seed) for cell in made
    }
    assert parsed(build)["losses"] == made[-1].loss, "no sweep has to run the teacher again"
    assert {parsed(words)["crop"] for words in commands("demo:D", None, 2)[:3]} == {"64,64"}, (
        "a cache of other crops is another one"
    )
    assert parsed(shown)["sweep"] == parsed(commands("demo:D", None, 2)[2])["name"]


class Typed:
    """Stands for the processes: what was typed where, and each one's status."""

    def __init__(self, fails: str = "") -> None:
        self.fails = fails
        self.words: list[list[str]] = []
        self.homes: set[str] = set()

    def __call__(self, module: list[str], *, env: Mapping[str, str], **streams: Any) -> int:
        assert module[1] == "-m"
        self.words.append([module[2].rpartition(".")[2], *module[3:]])
        self.homes.add(env["KDCACHE_HOME"])
        if "stdout" in streams:
            streams["stdout"].write("what it said\n")
        return 3 if self.fails and self.fails in module else 0


def run(out: Path, monkeypatch: pytest.MonkeyPatch, typed: Typed) -> Result:
    monkeypatch.setattr(demo_module, "in_a_process", typed)
    return CliRunner().invoke(kdcache, ["demo", "--out", str(out)])


def test_everything_lies_in_the_folder_and_the_report_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, typed = tmp_path / "out", Typed()
    done = run(out, monkeypatch, typed)
    assert done.exit_code == 0 and f"report: {out / 'report.html'}" in done.output
    assert typed.homes == {str(out)}
    assert [words[1] for words in typed.words] == ["--loss", "build", "sweep", "report"]
    assert str(out / "report.html") in typed.words[-1]
    assert f"demo:{out / 'data'}" in typed.words[0], "the scenes are drawn there too"


def test_without_plotly_the_table_is_printed_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demo_module.importlib.util, "find_spec", lambda name: None)
    typed = Typed()
    done = run(tmp_path / "out", monkeypatch, typed)
    assert done.exit_code == 0 and "pip install 'kdcache[report]'" in done.output
    assert typed.words[-1][1] == "compare"


def test_a_command_that_fails_ends_it_with_what_that_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    typed = Typed(fails="build")
    done = run(tmp_path / "out", monkeypatch, typed)
    assert done.exit_code == 3 and "what it said" in done.output
    assert len(typed.words) == 2, "nothing follows"


def test_the_same_command_goes_on_with_the_teacher_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "out" / "runs" / "teacher").mkdir(parents=True)
    typed = Typed()
    assert run(tmp_path / "out", monkeypatch, typed).exit_code == 0
    assert typed.words[0][-1] == "--resume" and all("--resume" not in words for words in typed.words[1:])
