"""Changes that must turn a test red: apply each to a copy of the checkout, run the tests that should care.

    .venv/bin/python benchmarks/mutants.py                     # all of them
    .venv/bin/python benchmarks/mutants.py --only step,ema     # some lists of benchmarks/mutations/
    .venv/bin/python benchmarks/mutants.py --name 'learning rate is never set'

A change names a symbol and a text inside it, not a line, so that it survives moves. The tests are first
run unchanged: they must pass. Printed is a table and, at the end, what survived; status 1 if anything did, or
if a change no longer fits the code. How to add one: docs/testing.md.
"""

import argparse
import ast
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
LISTS = ROOT / "benchmarks" / "mutations"
FOLDERS = ("cache", "losses", "trainer", "cli")
PASSED, FAILED = 0, 1  # exit status of pytest; everything above says that no verdict was reached
LIMIT_S = 300


class Mutant(NamedTuple):
    """One change that no user should ever get."""

    name: str  # what is then wrong, in words
    symbol: str  # 'Class.method', 'function', 'CONSTANT'; 'part/of/path:function' if several have that name,
    # or the path of a file that is no module, which is then removed
    old: str  # a text that stands once inside the symbol
    new: str
    tests: str  # what pytest is given, separated by spaces


class Verdict(NamedTuple):
    mutant: Mutant
    room: str  # the list that it stands in
    word: str  # 'red', 'SURVIVED', or what hindered the trial


class Place(NamedTuple):
    file: Path
    first: int  # offsets into the file's text
    last: int


def named_nodes(tree: ast.AST, prefix: str = "") -> Iterator[tuple[str, ast.stmt]]:
    """Functions, classes and assigned names with their dotted names."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield prefix + node.name, node
            yield from named_nodes(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            yield from ((prefix + t.id, node) for t in targets if isinstance(t, ast.Name))
        elif isinstance(node, ast.stmt | ast.excepthandler):
            yield from named_nodes(node, prefix)


def span(text: str, node: ast.stmt) -> tuple[int, int]:
    """Offsets of a definition with its decorators."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    assert node.end_lineno is not None
    return starts[first - 1], starts[node.end_lineno]


def places_of(root: Path, mutant: Mutant) -> list[Place]:
    """Where the symbol is defined and holds the old text exactly once."""
    part, _, name = mutant.symbol.rpartition(":")
    places = []
    for file in sorted(path for folder in FOLDERS for path in (root / folder).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if part not in file.relative_to(root).as_posix() or name.rpartition(".")[2] not in text:
            continue
        for dotted, node in named_nodes(ast.parse(text)):
            first, last = span(text, node)
            if dotted == name and text[first:last].count(mutant.old) == 1:
                places.append(Place(file, first, last))
    return places


def apply(root: Path, mutant: Mutant) -> tuple[Path, bytes]:
    """Change the copy; the file and its bytes before. Raises LookupError if the change does not fit."""
    if (root / mutant.symbol).is_file():
        removed = (root / mutant.symbol).read_bytes()
        (root / mutant.symbol).unlink()
        return root / mutant.symbol, removed
    places = places_of(root, mutant)
    if len(places) != 1:
        where = ", ".join(str(place.file.relative_to(root)) for place in places) or "nowhere"
        raise LookupError(f"{mutant.symbol} with one {mutant.old!r}: {where}")
    place = places[0]
    original = place.file.read_bytes()
    before = original.decode()
    changed = before[place.first : place.last].replace(mutant.old, mutant.new)
    place.file.write_text(before[: place.first] + changed + before[place.last :], encoding="utf-8")
    return place.file, original


def copy_of_the_checkout(folder: Path) -> Path:
    """Tracked and new files, and a kdcache to import that is made of this copy's folders."""
    root = folder / "main"
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    for name in subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0"):
        if name and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    (root / ".import" / "kdcache").mkdir(parents=True)
    for name in FOLDERS:
        (root / ".import" / "kdcache" / name).symlink_to(root / name)
    if (ROOT.parent / "shared").is_dir():
        (folder / "shared").symlink_to(ROOT.parent / "shared")
    return root


def surroundings(root: Path) -> dict[str, str]:
    """The copy's kdcache comes before the installed one; a stale byte code file must not hide a change."""
    return {**os.environ, "PYTHONPATH": str(root / ".import"), "PYTHONDONTWRITEBYTECODE": "1"}


def check_copy(root: Path) -> None:
    """Without this every change would survive, because the tests would run on the checkout."""
    asked = [sys.executable, "-c", "import kdcache.trainer as t; print(t.__file__)"]
    environment = surroundings(root)
    answer = subprocess.run(asked, cwd=root, env=environment, capture_output=True, text=True, check=True)
    assert Path(answer.stdout.strip()).resolve().is_relative_to(root.resolve()), answer.stdout


def run_tests(root: Path, tests: str, limit_s: int = LIMIT_S) -> int:
    """The exit status of pytest; a hang is a failure."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests.split()]
    try:
        ended = subprocess.run(
            command, cwd=root, env=surroundings(root), capture_output=True, timeout=limit_s, check=False
        )
    except subprocess.TimeoutExpired:
        return FAILED
    if ended.returncode > FAILED:
        sys.stderr.write(ended.stdout.decode(errors="replace")[-1500:])
    return ended.returncode


def trial(copies: "Queue[Path]", room: str, mutant: Mutant) -> Verdict:
    """Change, test, restore."""
    root = copies.get()
    try:
        file, before = apply(root, mutant)
        try:
            status = run_tests(root, mutant.tests)
        finally:
            file.write_bytes(before)
    except LookupError as problem:
        return Verdict(mutant, room, f"does not fit: {problem}")
    finally:
        copies.put(root)
    words = {PASSED: "SURVIVED", FAILED: "red"}
    return Verdict(mutant, room, words.get(status, f"no verdict: pytest ended with {status}"))


def read_list(file: Path) -> list[Mutant]:
    """MUTANTS of one file of benchmarks/mutations: tuples in the order of `Mutant`."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [Mutant(*entry) for entry in module.MUTANTS]


def chosen(only: str, name: str) -> list[tuple[str, Mutant]]:
    rooms = only.split(",") if only else sorted(file.stem for file in LISTS.glob("*.py"))
    listed = [(room, mutant) for room in rooms for mutant in read_list(LISTS / f"{room}.py")]
    return [(room, mutant) for room, mutant in listed if name in mutant.name]


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--only", default="", help="lists of benchmarks/mutations, separated by commas")
    asked.add_argument("--name", default="", help="only changes whose name contains this")
    asked.add_argument("--jobs", type=int, default=2, help="copies that are tested at a time (default 2)")
    asked.add_argument("--no-baseline", action="store_true", help="do not run the unchanged tests first")
    options = asked.parse_args()
    trials = chosen(options.only, options.name)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies: Queue[Path] = Queue()
        for number in range(options.jobs):
            copies.put(copy_of_the_checkout(Path(folder) / str(number)))
        check_copy(copies.queue[0])
        if not options.no_baseline:
            tests = " ".join(sorted({test for _, mutant in trials for test in mutant.tests.split()}))
            if run_tests(copies.queue[0], tests, 10 * LIMIT_S) != PASSED:
                print("the unchanged code does not pass these tests; no verdict")
                return 2
        with ThreadPoolExecutor(options.jobs) as workers:
            verdicts = []
            for verdict in workers.map(lambda pair: trial(copies, *pair), trials):
                verdicts.append(verdict)
                print(f"{verdict.room:<12} {verdict.word:<9} {verdict.mutant.name}", flush=True)
    alive = [verdict for verdict in verdicts if verdict.word != "red"]
    print(f"{len(verdicts)} changes, {len(verdicts) - len(alive)} red, {len(alive)} not")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
