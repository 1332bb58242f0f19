"""Fences: who may import whom and what, how large a piece of code may be, what a wheel must hold. The rooms
inside a folder and their doors: test_rooms.py.

The tree of imports is read from the sources, so that an import inside a function counts like any other.
Every fence is a pure function over imports; below each stands a test that it can fail.
"""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("cache", "losses", "trainer", "cli")
# Folder -> what it may import of this project. A name allows itself and everything below it.
ALLOWED: Mapping[str, tuple[str, ...]] = {
    "cache": ("kdcache.cache",),
    "losses": (
        *("kdcache.losses", "kdcache.cache.spec"),
        *("kdcache.cache.tasks.table", "kdcache.cache.tasks.contract"),  # light: names, and Mixed
        *("kdcache.cache.grid", "kdcache.cache.positions"),  # where a detector answers
        "kdcache.cache.trust",  # whose losses may be imported
    ),
    "trainer": ("kdcache.trainer", "kdcache.losses", "kdcache.cache"),
    "cli": ("kdcache",),
}
# Library -> the only places that may import it (a folder ends in '/').
FENCED: Mapping[str, tuple[str, ...]] = {
    "click": ("cli/",),
    "rich": ("cli/",),
    "rich_click": ("cli/",),
    "nvidia": ("cache/images/pipeline.py",),
    "zarr": ("cache/stores/",),
    "numcodecs": ("cache/stores/",),
    "webdataset": ("cache/stores/",),
    "accelerate": ("trainer/",),
    "plotly": ("trainer/bench/page/",),
    "torchmetrics": ("trainer/",),
    "faster_coco_eval": ("trainer/judge/detection_metrics.py",),
    "pycocotools": (),  # of tests alone
    "timm": ("cache/networks/",),
    "segmentation_models_pytorch": ("cache/networks/",),
    "torchvision": ("cache/networks/",),
    "torchvision.models.detection": ("cache/networks/families/detectors/",),
    "torch.optim": ("trainer/",),
    "torch.onnx": ("trainer/export/",),
    "torch.export": ("trainer/export/",),
    "onnx": ("trainer/export/graphs.py",),
    "onnxruntime": ("trainer/export/graphs.py",),
    "onnxscript": ("trainer/export/graphs.py",),
}
# A loss computes: it reads no file, starts no process, asks no environment.
NO_IO = ("os", "io", "pathlib", "shutil", "subprocess", "tempfile", "socket", "urllib")
MAX_FILE_LINES, MAX_FUNCTION_LINES = 400, 40
SIZED = (*FOLDERS, "tests", "benchmarks")  # a test that nobody can read through guards nothing
LARGER: Mapping[str, str] = {}  # 'file' or 'file:function' -> why it may be larger


class Import(NamedTuple):
    """One imported thing by its full dotted name: `from a.b import c` is 'a.b.c'."""

    file: str  # posix, relative to the repository
    line: int
    name: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"


@cache
def sources(folders: tuple[str, ...] = FOLDERS) -> list[tuple[str, ast.Module, int]]:
    """(file, syntax tree, number of lines) of every module in these folders."""
    paths = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    texts = [(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]
    return [(name, ast.parse(text), len(text.splitlines())) for name, text in texts]


def imports_of(file: str, tree: ast.AST) -> Iterator[Import]:
    """Statements anywhere in the file, and import_module with a literal name. A relative one keeps its
    dots."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (Import(file, node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = "." * node.level + (node.module or "")
            yield from (Import(file, node.lineno, f"{base}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if called in ("import_module", "__import__"):
                yield Import(file, node.lineno, str(node.args[0].value))


def below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def bare_or_relative(imported: Import) -> bool:
    """`import cache.spec` works from the repository's root and gives every class a second time."""
    return imported.name.startswith(".") or imported.name.partition(".")[0] in FOLDERS


def against_the_flow(imported: Import) -> bool:
    allowed = ALLOWED[imported.file.partition("/")[0]]
    return below(imported.name, "kdcache") and not any(below(imported.name, name) for name in allowed)


def over_a_fence(imported: Import) -> bool:
    return any(
        below(imported.name, library) and not imported.file.startswith(places)
        for library, places in FENCED.items()
    )


def reads_or_writes(imported: Import) -> bool:
    return imported.file.startswith("losses/") and any(below(imported.name, name) for name in NO_IO)


RULES = (bare_or_relative, against_the_flow, over_a_fence, reads_or_writes)


def too_large(file: str, tree: ast.AST, num_lines: int) -> Iterator[str]:
    """What is over a limit. A function counts from its `def` line: decorators of a command are its table."""
    if num_lines > MAX_FILE_LINES:
        yield file
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            if node.end_lineno - node.lineno + 1 > MAX_FUNCTION_LINES:
                yield f"{file}:{node.name}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_no_import_breaks_a_rule(rule: object) -> None:
    assert callable(rule)
    imports = [one for file, tree, _ in sources() for one in imports_of(file, tree)]
    assert len(imports) > 500, "the sources were not found"
    assert [str(one) for one in imports if rule(one)] == []


@pytest.mark.parametrize(
    ("rule", "file", "statement"),
    [
        (bare_or_relative, "losses/kd.py", "from cache.spec import Need"),
        (bare_or_relative, "losses/kd.py", "from .contract import LossTerm"),
        (
            bare_or_relative,
            "cache/reader/cache.py",
            "import importlib\nimportlib.import_module('trainer.loop')",
        ),
        (
            against_the_flow,
            "cache/reader/cache.py",
            "def f():\n    from kdcache.losses.plan.plan import needs_of",
        ),
        (against_the_flow, "losses/kd.py", "from kdcache.cache.errors import BadOption"),
        (against_the_flow, "losses/kd.py", "from kdcache.cache import manifest"),
        (against_the_flow, "trainer/loop.py", "import kdcache.cli.shared"),
        (over_a_fence, "cache/look/peek.py", "import nvidia.dali.fn"),
        (over_a_fence, "cache/reader/cache.py", "import zarr"),
        (over_a_fence, "trainer/loop.py", "from rich.console import Console"),
        (over_a_fence, "losses/kd.py", "from torch.optim import SGD"),
        (over_a_fence, "cli/kdcache.py", "import timm"),
        (over_a_fence, "trainer/judge/detection.py", "import faster_coco_eval"),
        (over_a_fence, "trainer/judge/detection_metrics.py", "from pycocotools.coco import COCO"),
        (over_a_fence, "trainer/judge/alone.py", "import onnxruntime"),
        (reads_or_writes, "losses/kd.py", "from pathlib import Path"),
    ],
)
def test_a_rule_catches_what_it_is_for(rule: object, file: str, statement: str) -> None:
    assert callable(rule)
    assert any(rule(one) for one in imports_of(file, ast.parse(statement)))


def test_what_the_design_allows_passes_every_rule() -> None:
    legal = {
        "losses/kd.py": "from kdcache.cache.spec import Need\nfrom kdcache.losses.plan.table import LOSSES",
        "cache/stores/zarr_format.py": "import zarr.codecs",
        "trainer/loop.py": "import accelerate\nfrom kdcache.losses.plan.plan import LossPlan",
        "cli/kdtrain.py": "import click\nfrom kdcache.trainer.run import train_run",
    }
    for file, text in legal.items():
        for one in imports_of(file, ast.parse(text)):
            assert not any(rule(one) for rule in RULES), str(one)


def test_no_file_and_no_function_is_too_large() -> None:
    larger = [one for source in sources(SIZED) for one in too_large(*source)]
    assert {file.partition("/")[0] for file, _, _ in sources(SIZED)} == set(SIZED)
    assert larger == sorted(LARGER), "split it, or list it in LARGER with a reason"


def test_the_limits_of_size_can_be_broken() -> None:
    text = "def f():\n" + "    pass\n" * MAX_FUNCTION_LINES + "x = 1\n" * MAX_FILE_LINES
    assert list(too_large("a.py", ast.parse(text), len(text.splitlines()))) == ["a.py", "a.py:f"]


def test_no_refusal_of_the_system_is_taken_for_an_absent_file() -> None:
    """`os.path.exists` and its like answer False for EIO and ESTALE: what is there would be begun anew."""
    asked = ("exists", "lexists", "isfile", "isdir", "islink")
    swallowing = re.compile(rf"os\.path\.({'|'.join(asked)})\(")
    assert swallowing.search("if os.path.lexists(path):")
    wrong = [str(path) for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")
             if swallowing.search(path.read_text(encoding="utf-8"))]  # fmt: skip
    assert wrong == []


def test_only_the_command_line_prints() -> None:
    printed = [
        f"{file}:{node.lineno}"
        for file, tree, _ in sources()
        if not file.startswith("cli/")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printed == []


def test_every_package_folder_is_declared() -> None:
    """An undeclared one works in an editable install and is missing from the wheel."""
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    folders = {path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    names = {f"kdcache.{folder.relative_to(ROOT).as_posix().replace('/', '.')}" for folder in folders}
    assert sorted(declared) == sorted(names)
    assert [str(f) for f in folders if not (f / "__init__.py").is_file()] == []


def test_every_folder_says_that_it_is_typed() -> None:
    """kdcache is a namespace without a folder of its own, so each of the four carries its marker."""
    package_data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]
    assert package_data == {"*": ["py.typed"]}
    assert [folder for folder in FOLDERS if not (ROOT / folder / "py.typed").is_file()] == []


def left_out(files: list[str], patterns: list[str]) -> list[str]:
    """Test files below a folder that pytest does not look into."""
    return [f for f in files if any(fnmatch(part, p) for part in f.split("/")[:-1] for p in patterns)]


def test_pytest_looks_into_every_folder_of_tests(pytestconfig: pytest.Config) -> None:
    files = [p.relative_to(ROOT).as_posix() for p in (ROOT / "tests").rglob("test_*.py")]
    assert len(files) > 100
    assert left_out(files, pytestconfig.getini("norecursedirs")) == []
    assert left_out(["tests/cache/build/test_build.py"], ["build", "dist"]), "its own list would leave it out"


def test_foreign_code_is_imported_in_one_place() -> None:
    """Whoever imports by a name must have asked for consent; our own tables are the other place."""
    calls = [
        file
        for file, tree, _ in sources()
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
        and (getattr(node, "attr", None) or getattr(node, "id", None)) in ("import_module", "__import__")
    ]
    assert sorted(calls) == ["cache/tasks/table.py", "cache/trust.py"]


def past_the_door(file: str, tree: ast.AST) -> Iterator[str]:
    """What speaks to a terminal beside cli/terminal.py: rich itself, click's or Python's own printing, a
    stream; and a text that rich would read as markup."""
    doors = ("rich", "click.echo", "click.secho", "click.style", "print", "sys.stdout", "sys.stderr")
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and ast.unparse(node) in doors:
            yield f"{file}:{node.lineno} {ast.unparse(node)}"
        elif isinstance(node, ast.Import | ast.ImportFrom):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [a.name for a in node.names]
            yield from (f"{file}:{node.lineno} {n}" for n in names if n.partition(".")[0] == "rich")
        elif isinstance(node, ast.Attribute) and node.attr == "from_markup":
            yield f"{file}:{node.lineno} from_markup"


def test_nothing_is_said_past_the_door_to_the_terminal() -> None:
    """What came from data would be obeyed there."""
    files = [(file, tree) for file, tree, _ in sources() if file != "cli/terminal.py"]
    assert len(files) > 200
    assert [one for file, tree in files for one in past_the_door(file, tree)] == []


@pytest.mark.parametrize(
    "line",
    [
        'console.print(f"[bold]{name}[/bold]")\nfrom rich.console import Console',
        "import rich",
        "click.echo(key)",
        "print(key)",
        "sys.stderr.write(key)",
    ],
)
def test_a_way_past_the_door_is_seen(line: str) -> None:
    assert list(past_the_door("cli/x.py", ast.parse(line)))
    assert not list(past_the_door("cli/x.py", ast.parse("terminal.say(key)")))


def test_no_markup_is_read_behind_the_door() -> None:
    """rich reads a plain str as markup: the door gives it Text alone, and columns of a bar that read none."""
    tree = next(tree for file, tree, _ in sources() if file == "cli/terminal.py")
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    named = {ast.unparse(call.func): call for call in calls}
    assert not any(name.endswith("from_markup") for name in named)
    columns = [call for call in calls if ast.unparse(call.func) == "TextColumn"]
    assert columns and all("markup=False" in ast.unparse(call) for call in columns)
