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
import importlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple, NoReturn

ROOT = Path(__file__).resolve().parents[1]
LISTS = ROOT / "benchmarks" / "mutations"
FOLDERS = ("cache", "losses", "trainer", "cli")
PASSED, FAILED = 0, 1  # exit status of pytest; everything above says that no verdict was reached
NO_VERDICT = 70
WORKER = ("PYTEST_XDIST", "PYTEST_CURRENT")  # variables by which a worker of pytest knows itself
LIMIT_S, WARM_LIMIT_S = 300, 3600
LIBRARIES = (
    *("torch", "nvidia.dali.fn", "timm", "segmentation_models_pytorch", "zarr", "accelerate", "torchmetrics"),
    *("hypothesis", "torch.utils.tensorboard", "webdataset"),
)


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


@cache
def definitions(text: str) -> tuple[tuple[str, ast.stmt], ...]:
    """`named_nodes` of a file's text; one file is read for many changes."""
    return tuple(named_nodes(ast.parse(text)))


def span(text: str, node: ast.stmt) -> tuple[int, int]:
    """Offsets of a definition with its decorators."""
    starts = [0]
    for line in text.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    assert node.end_lineno is not None
    return starts[first - 1], starts[node.end_lineno]


def places_of(root: Path, mutant: Mutant) -> list[Place]:
    """Where the symbol is defined and holds the old text exactly once; in a script only where it says so."""
    part, _, name = mutant.symbol.rpartition(":")
    folders = ("benchmarks",) if part.startswith("benchmarks/") else FOLDERS
    places = []
    for file in sorted(path for folder in folders for path in (root / folder).rglob("*.py")):
        text = file.read_text(encoding="utf-8")
        if part not in file.relative_to(root).as_posix() or name.rpartition(".")[2] not in text:
            continue
        for first, last in (span(text, node) for dotted, node in definitions(text) if dotted == name):
            if text[first:last].count(mutant.old) == 1:
                places.append(Place(file, first, last))
    return places


def changed_text(root: Path, mutant: Mutant) -> tuple[Path, str]:
    """The module's file and its text with the change. Raises LookupError if the change does not fit."""
    places = places_of(root, mutant)
    if len(places) != 1:
        where = ", ".join(str(place.file.relative_to(root)) for place in places) or "nowhere"
        raise LookupError(f"{mutant.symbol} with one {mutant.old!r}: {where}")
    file, first, last = places[0]
    text = file.read_text(encoding="utf-8")
    return file, text[:first] + text[first:last].replace(mutant.old, mutant.new) + text[last:]


def apply(root: Path, mutant: Mutant) -> tuple[Path, bytes]:
    """Change the copy; the file and its bytes before. Raises LookupError if the change does not fit."""
    if (root / mutant.symbol).is_file():
        removed = (root / mutant.symbol).read_bytes()
        (root / mutant.symbol).unlink()
        return root / mutant.symbol, removed
    file, changed = changed_text(root, mutant)
    original = file.read_bytes()
    file.write_text(changed, encoding="utf-8")
    return file, original


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
    own = {name: value for name, value in os.environ.items() if not name.startswith(WORKER)}
    return {**own, "PYTHONPATH": str(root / ".import"), "PYTHONDONTWRITEBYTECODE": "1"}


def import_libraries() -> None:
    """What the tests import besides kdcache: forked trials do not pay for it again. Starts no thread."""
    for library in LIBRARIES:
        importlib.import_module(library)
    importlib.import_module("torch").set_num_threads(1)


def run_here(root: Path, tests: str, log: Path, limit_s: int, plugins: Sequence[object] = ()) -> NoReturn:
    """In a forked child: pytest on the copy; its status is the exit status. A hang ends in SIGALRM."""
    signal.alarm(limit_s)
    with log.open("wb") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    os.chdir(root)
    environment = surroundings(root)
    os.environ.clear()
    os.environ.update(environment)
    sys.path.insert(0, str(root / ".import"))
    sys.dont_write_bytecode = True
    sys.meta_path[:] = [
        finder for finder in sys.meta_path if "kdcache" not in getattr(finder, "__module__", "")
    ]
    import pytest

    import kdcache.trainer

    # Without this every change would survive, because the tests would run on the checkout.
    assert Path(str(kdcache.trainer.__file__)).resolve().is_relative_to(root.resolve())
    already = ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # plugins that LIBRARIES have imported
    options = ["-q", "-x", "-p", "no:cacheprovider", *already, *tests.split()]
    status = pytest.main(options, plugins=list(plugins))
    sys.stdout.flush()
    os._exit(int(status))


class Trial(NamedTuple):
    """A forked child at work on a copy."""

    room: str
    mutant: Mutant
    root: Path
    log: Path
    changed: tuple[Path, bytes] | None  # file and its bytes before


def begin(root: Path, room: str, mutant: Mutant, *, limit_s: int = LIMIT_S) -> tuple[int, Trial]:
    """Change the copy and fork the tests; the child's process number. Raises LookupError."""
    changed = apply(root, mutant)
    log = root.parent / "pytest.log"
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            run_here(root, mutant.tests, log, limit_s)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
        finally:
            os._exit(NO_VERDICT)
    return pid, Trial(room, mutant, root, log, changed)


def end(trial: Trial, status: int) -> Verdict:
    """Restore the copy and read the verdict."""
    if trial.changed is not None:
        trial.changed[0].write_bytes(trial.changed[1])
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        code = FAILED  # killed: it hung, or the change took the process down
    words = {PASSED: "SURVIVED", FAILED: "red"}
    if code > FAILED:
        sys.stderr.write(trial.log.read_text(errors="replace")[-1500:])
    return Verdict(trial.mutant, trial.room, words.get(code, f"no verdict: pytest ended with {code}"))


def run_trials(copies: list[Path], trials: list[tuple[str, Mutant]]) -> Iterator[Verdict]:
    """As many at a time as there are copies. One thread: a fork of it is a whole process."""
    free, waiting, running = list(copies), list(trials), dict[int, Trial]()
    while waiting or running:
        while waiting and free:
            room, mutant = waiting.pop(0)
            try:
                pid, trial = begin(free[-1], room, mutant)
                free.pop()
                running[pid] = trial
            except LookupError as problem:
                yield Verdict(mutant, room, f"does not fit: {problem}")
        if running:
            pid, status = os.wait()
            trial = running.pop(pid)
            free.append(trial.root)
            yield end(trial, status)


def red_when_warm(root: Path, trials: list[tuple[str, Mutant]], jobs: int) -> set[int] | None:
    """Numbers of the trials that are red without a new collection; None: the unchanged code does not pass."""
    from mutants_warm import Trials  # of this folder; it imports pytest

    def text_of(mutant: Mutant) -> tuple[Path, str, str] | None:
        if (root / mutant.symbol).is_file() or len(places_of(root, mutant)) != 1:
            return None
        file, text = changed_text(root, mutant)
        module = file.relative_to(root).with_suffix("").as_posix().replace("/", ".")
        return file, f"kdcache.{module}", text

    out, log = root.parent / "red.txt", root.parent / "warm.log"
    tests = " ".join(sorted({test for _, mutant in trials for test in mutant.tests.split()}))
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            run_here(root, tests, log, WARM_LIMIT_S, [Trials(trials, text_of, jobs, out)])
        finally:
            os._exit(NO_VERDICT)
    os.waitpid(pid, 0)
    lines = out.read_text().splitlines() if out.is_file() else []
    if not lines:
        print(log.read_text(errors="replace")[-3000:])
        return None
    return {int(line) for line in lines[1:]}


def read_list(file: Path) -> list[Mutant]:
    """MUTANTS of one file of benchmarks/mutations: tuples in the order of `Mutant`."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return [Mutant(*entry) for entry in module.MUTANTS]


def chosen(only: str, name: str) -> list[tuple[str, Mutant]]:
    """The changes of these lists whose name contains `name`. Exits with a sentence where there are none."""
    legal = sorted(file.stem for file in LISTS.glob("*.py"))
    rooms = only.split(",") if only else legal
    if strange := sorted(set(rooms) - set(legal)):
        sys.exit(f"there is no list '{strange[0]}'; there are {', '.join(legal)}")
    listed = [(room, mutant) for room in rooms for mutant in read_list(LISTS / f"{room}.py")]
    trials = [(room, mutant) for room, mutant in listed if name in mutant.name]
    return trials or sys.exit(f"no change of {', '.join(rooms)} has '{name}' in its name")


def show(verdict: Verdict) -> None:
    print(f"{verdict.room:<20} {verdict.word:<9} {verdict.mutant.name}", flush=True)


def main() -> int:
    asked = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    asked.add_argument("--only", default="", help="lists of benchmarks/mutations, separated by commas")
    asked.add_argument("--name", default="", help="only changes whose name contains this")
    asked.add_argument("--jobs", type=int, default=2, help="copies that are tested at a time (default 2)")
    asked.add_argument("--cold", action="store_true", help="collect the tests anew for every change")
    options = asked.parse_args()
    trials = chosen(options.only, options.name)
    import_libraries()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [copy_of_the_checkout(Path(folder) / str(number)) for number in range(options.jobs)]
        warm = None if options.cold else red_when_warm(copies[0], trials, options.jobs)
        if warm is None and not options.cold:
            print("the unchanged code does not pass these tests; no verdict")
            return 2
        verdicts = [Verdict(trials[number][1], trials[number][0], "red") for number in sorted(warm or ())]
        for verdict in verdicts:
            show(verdict)
        rest = [pair for number, pair in enumerate(trials) if number not in (warm or ())]
        for verdict in run_trials(copies, rest):
            verdicts.append(verdict)
            show(verdict)
    alive = [verdict for verdict in verdicts if verdict.word != "red"]
    print(f"{len(verdicts)} changes, {len(verdicts) - len(alive)} red, {len(alive)} not")
    return 1 if alive else 0


if __name__ == "__main__":
    sys.exit(main())
