"""The lists of benchmarks/mutations fit the code and the tests that they name; the runner says who survived.

No trial is run here: that is `benchmarks/mutants.py`. A list that no longer fits is found at once, though.
"""

import importlib.util
import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
LISTS = sorted(file.stem for file in (ROOT / "benchmarks" / "mutations").glob("*.py"))


def load_runner() -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants_runner", ROOT / "benchmarks" / "mutants.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


mutants = load_runner()
read_once = cache(Path.read_text)


@cache
def mutants_of(room: str) -> list[Any]:
    listed: list[Any] = mutants.read_list(mutants.LISTS / f"{room}.py")
    return listed


def changes_of(room: str) -> Iterator[tuple[Any, list[Any]]]:
    """Each change of the code with the places that it fits; a removed file fits by being there."""
    for mutant in mutants_of(room):
        if not (ROOT / mutant.symbol).is_file():
            yield mutant, mutants.places_of(ROOT, mutant)


@pytest.mark.parametrize("room", LISTS)
def test_every_change_of_a_list_fits_the_code_in_one_place(
    room: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Path, "read_text", read_once)  # a file is looked at for many changes
    wrong = [f"{one.name}: fits {len(places)} places" for one, places in changes_of(room) if len(places) != 1]
    wrong += [f"{one.name}: changes nothing" for one in mutants_of(room) if one.old == one.new != ""]
    assert wrong == [], "rewrite these with the code; docs/testing.md"


@pytest.mark.slow
@pytest.mark.parametrize("room", LISTS)
def test_every_change_of_a_list_leaves_python(room: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change that is no Python would be red for a reason that says nothing of the tests."""
    monkeypatch.setattr(Path, "read_text", read_once)
    for mutant, places in changes_of(room):
        file, first, last = places[0]
        text = file.read_text(encoding="utf-8")
        changed = text[:first] + text[first:last].replace(mutant.old, mutant.new) + text[last:]
        compile(changed, str(file), "exec")


@pytest.mark.parametrize("room", LISTS)
def test_every_test_that_a_list_names_exists(room: str) -> None:
    missing = []
    for test in {word for mutant in mutants_of(room) for word in named_tests(mutant.tests)}:
        path, *names = test.split("::")
        if not (ROOT / path).exists():
            missing.append(test)
        elif names:
            text = (ROOT / path).read_text(encoding="utf-8")
            *classes, function = (name.partition("[")[0] for name in names)
            defined = re.search(rf"\bdef {function}\(|\bclass {function}\b", text)
            if not defined or not all(re.search(rf"\bclass {one}\b", text) for one in classes):
                missing.append(test)
    assert missing == []


def named_tests(tests: str) -> list[str]:
    """Without options of pytest and what stands behind them."""
    words = tests.split()
    return [
        word for before, word in zip(["", *words], words, strict=False) if "-" not in (word[0], before[:1])
    ]


def test_no_two_changes_have_one_name_and_every_name_is_words() -> None:
    names = Counter(mutant.name for room in LISTS for mutant in mutants_of(room))
    assert len(LISTS) > 1 and sum(names.values()) > 100, "the lists were not found"
    assert [name for name, count in names.items() if count > 1] == []
    assert [name for name in names if len(name.split()) < 3] == []


CODE = """
LIMIT = 3


class Scale:
    def times(self, number: int) -> int:
        factor = 2
        return factor * number
"""
TESTS = """
from kdcache.cache.scale import Scale

def test_doubles():
    assert Scale().times(4) == 8
"""
DRIVER = """
import json, sys
from pathlib import Path

sys.path.insert(0, str(Path(sys.argv[1]).parent))
import mutants

tree, entries = Path(sys.argv[2]), json.loads(sys.argv[3])
mutants.import_libraries = lambda: None
mutants.copy_of_the_checkout = lambda folder: tree
mutants.chosen = lambda only, name: [("room", mutants.Mutant(*entry)) for entry in entries]
sys.argv = ["mutants.py", "--jobs", "1", *sys.argv[4:]]
sys.exit(mutants.main())
"""
DOUBLES = "tests/test_scale.py::test_doubles"
RED = ("the factor is 3", "Scale.times", "factor = 2", "factor = 3", DOUBLES)
ALIVE = ("the limit is 4", "LIMIT", "3", "4", DOUBLES)
NO_TEST = ("the factor is 4", "Scale.times", "factor = 2", "factor = 4", "tests/test_scale.py::test_gone")
UNFIT = ("the factor is 5", "Scale.times", "factor = 7", "factor = 5", DOUBLES)
TWICE = ("the factor is 6", "Scale.times", "factor", "faktor", DOUBLES)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A checkout of one module and one test, with the kdcache that a copy has."""
    root = tmp_path / "main"
    written = {
        "cache/__init__.py": "",
        "cache/scale.py": CODE,
        "trainer/__init__.py": "",
        "tests/test_scale.py": TESTS,
        "pytest.ini": "[pytest]\n",
    }
    for name, text in written.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    (root / ".import" / "kdcache").mkdir(parents=True)
    for name in ("cache", "trainer"):
        (root / ".import" / "kdcache" / name).symlink_to(root / name)
    return root


def run_mutants(tree: Path, entries: list[tuple[str, ...]], *options: str) -> tuple[int, list[str]]:
    """Exit status and printed lines of the runner on that tree, in a process of its own because it forks."""
    command = [sys.executable, "-c", DRIVER, str(ROOT / "benchmarks" / "mutants.py"), str(tree)]
    quick = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    ended = subprocess.run(
        [*command, json.dumps(entries), *options], env=quick, capture_output=True, text=True, check=False
    )
    lines = [" ".join(line.split()) for line in ended.stdout.splitlines()]
    assert lines, ended.stderr
    return ended.returncode, lines


def test_the_runner_tells_a_change_that_a_test_notices_from_one_that_survives(tree: Path) -> None:
    status, lines = run_mutants(tree, [RED, ALIVE, NO_TEST, UNFIT, TWICE], "--cold")
    assert lines[:2] == ["room red the factor is 3", "room SURVIVED the limit is 4"]
    assert lines[2].startswith("room no verdict: pytest ended with 4")
    assert all(line.startswith("room does not fit: Scale.times with one 'factor") for line in lines[3:5])
    assert (status, lines[5]) == (1, "5 changes, 1 red, 4 not")
    assert (tree / "cache" / "scale.py").read_text() == CODE, "every change is taken back"


def test_without_a_new_collection_the_verdicts_are_the_same(tree: Path) -> None:
    """Whatever is not red at once is tried on a changed copy too, a change that does not fit included."""
    status, lines = run_mutants(tree, [ALIVE, RED, UNFIT])
    assert lines[:2] == ["room red the factor is 3", "room SURVIVED the limit is 4"]
    assert lines[2].startswith("room does not fit") and (status, lines[3]) == (1, "3 changes, 1 red, 2 not")
    assert (tree / "cache" / "scale.py").read_text() == CODE


def test_the_runner_ends_with_status_0_where_every_change_was_noticed(tree: Path) -> None:
    assert run_mutants(tree, [RED]) == (0, ["room red the factor is 3", "1 changes, 1 red, 0 not"])


def test_the_runner_gives_no_verdict_where_the_unchanged_code_fails(tree: Path) -> None:
    (tree / "cache" / "scale.py").write_text(CODE.replace("= 2", "= 5"))
    status, lines = run_mutants(tree, [RED])
    assert status == 2 and lines[-1] == "the unchanged code does not pass these tests; no verdict"


@pytest.mark.parametrize(
    ("only", "name", "said"),
    [
        ("stepp", "", "there is no list 'stepp'; there are "),
        ("ema", "nothing has this", "no change of ema has"),
    ],
)
def test_a_choice_that_leaves_nothing_says_so(only: str, name: str, said: str) -> None:
    with pytest.raises(SystemExit, match=said):
        mutants.chosen(only, name)
