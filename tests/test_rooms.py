"""The house: which room may import which, where a task may be named, no circles, few files at the top.

Every import counts, also one inside a function: a door that is opened late is a door. Below each rule stands
a test that it can fail.
"""

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("cache", "losses", "trainer", "cli")
MOST_AT_THE_TOP = 8  # modules beside __init__ at the top of cache/, losses/, trainer/
TASK_WORDS = ("segmentation", "classification", "detection")
# Where a task may be named: its three files, the table, what belongs to one task by nature.
TASK_HOMES = (
    *(f"cache/tasks/{task}.py" for task in TASK_WORDS),
    *(f"losses/supervised/{task}.py" for task in TASK_WORDS),
    *(f"trainer/judge/{task}.py" for task in TASK_WORDS),
    "cache/tasks/table.py",
    "cache/sources/",
    "cache/networks/families/",
)
TASK_ATTRIBUTES = ("tasks", "task_settings", "task_clip", "refused")  # of loss classes
# Room -> all that it may import of the project besides itself.
BOTTOM = (
    *("cache.spec", "cache.errors", "cache.visible", "cache.fingerprint"),
    *("cache.files",),
)
DOORS: Mapping[str, tuple[str, ...]] = {
    "cache.files": ("cache.errors", "cache.fingerprint"),
    "cache.views": ("cache.spec", "cache.errors"),
    "cache.tasks": (
        *("cache.spec", "cache.grid", "cache.errors", "cache.visible"),
        *("cache.views.view", "cache.boxes"),
    ),
    "cache.images": (*BOTTOM, "cache.views"),
    "cache.stores": (*BOTTOM, "cache.views"),
    "losses": (
        "cache.spec",
        "cache.grid",
        "cache.positions",
        "cache.tasks.table",
        "cache.tasks.contract",
        "cache.trust",
    ),
}
# Room -> rooms that it never imports.
CLOSED: Mapping[str, tuple[str, ...]] = {
    "cache.reader": ("cache.build", "cache.look"),
    "cache.look": ("cache.build",),
    "cache.record": ("cache.build", "cache.look", "cache.reader"),
    "cache.networks": ("cache.build", "cache.look", "cache.reader", "cache.record"),
    "trainer.stream": ("trainer.judge", "trainer.steps", "trainer.students"),
    "trainer.judge": ("trainer.steps", "trainer.students"),
}


def sources() -> dict[str, ast.Module]:
    """'cache/views/view.py' -> its syntax tree."""
    paths = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path.relative_to(ROOT).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def module_of(file: str) -> str:
    """'cache/views/view.py' -> 'cache.views.view'."""
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def for_types_only(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Full dotted names without 'kdcache.', of every import that runs at some time."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("kdcache"):
            base = str(node.module).removeprefix("kdcache").removeprefix(".")
            yield from (f"{base}.{alias.name}".removeprefix(".") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("kdcache.") for a in node.names if a.name.startswith("kdcache."))
        elif not for_types_only(node):
            yield from imports_of(node)


def below(name: str, parent: str) -> bool:
    return name == parent or name.startswith(f"{parent}.")


def wrong_doors(module: str, imported: str) -> bool:
    """Whether `module` may not import `imported`."""
    for room, allowed in DOORS.items():
        if below(module, room) and not any(below(imported, name) for name in (room, *allowed)):
            return True
    closed = [name for room, names in CLOSED.items() if below(module, room) for name in names]
    return any(below(imported, name) for name in closed)


def test_every_import_goes_through_a_door() -> None:
    pairs = [(module_of(f), name) for f, tree in sources().items() for name in imports_of(tree)]
    assert len(pairs) > 800, "the sources were not found"
    assert [f"{module} imports {name}" for module, name in pairs if wrong_doors(module, name)] == []


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("cache.views.sets", "cache.tasks.table.task_of"),
        ("cache.tasks.segmentation", "cache.views.recipe.Recipe"),
        ("cache.images.pipeline", "cache.reader.cache.Cache"),
        ("cache.stores.local", "cache.record.manifest.Manifest"),
        ("cache.reader.cache", "cache.build.plan.Plan"),
        ("cache.look.teacher", "cache.build.plan"),
        ("trainer.stream.stored", "trainer.judge.judge.judge"),
        ("trainer.stream.stored", "trainer.steps.step"),
        ("trainer.judge.judge", "trainer.students.contract"),
        ("losses.logits.kd", "cache.tasks.panels"),
    ],
)
def test_a_closed_door_is_seen(module: str, imported: str) -> None:
    assert wrong_doors(module, imported)


def test_an_import_inside_a_function_counts_and_one_for_types_does_not() -> None:
    late = ast.parse("def f():\n    from kdcache.cache.build import plan")
    typed = ast.parse("if TYPE_CHECKING:\n    from kdcache.cache.build import plan")
    assert list(imports_of(late)) == ["cache.build.plan"] and list(imports_of(typed)) == []


def graph_of(trees: Mapping[str, ast.Module]) -> dict[str, set[str]]:
    """Module -> modules that it imports, at whatever time."""
    modules = {module_of(file): tree for file, tree in trees.items()}
    return {
        module: {
            name for one in imports_of(tree) for name in (one, one.rpartition(".")[0]) if name in modules
        }
        for module, tree in modules.items()
    }


def test_no_module_imports_itself_in_a_circle() -> None:
    order = list(TopologicalSorter(graph_of(sources())).static_order())  # raises and shows the circle
    assert order.index("cache.spec") < order.index("losses.plan.plan") < order.index("trainer.assemble")


def test_a_circle_through_a_function_is_seen() -> None:
    trees = {
        "cache/a.py": ast.parse("from kdcache.cache.b import x"),
        "cache/b.py": ast.parse("def f():\n    from kdcache.cache import a"),
    }
    with pytest.raises(CycleError):
        list(TopologicalSorter(graph_of(trees)).static_order())


def task_words(tree: ast.AST) -> Iterator[int]:
    """Lines on which a task is named by a text or by its constant, but in the attributes of losses."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            if any(isinstance(t, ast.Name) and t.id in TASK_ATTRIBUTES for t in targets):
                continue
        if isinstance(node, ast.Constant) and node.value in TASK_WORDS:
            yield node.lineno
        if isinstance(node, ast.Name) and node.id.lower() in TASK_WORDS and node.id.isupper():
            yield node.lineno
        yield from task_words(node)


def test_a_task_is_named_at_home_only() -> None:
    strays = [
        f"{file}:{line}"
        for file, tree in sources().items()
        if not file.startswith(TASK_HOMES)
        for line in task_words(tree)
    ]
    assert strays == [], "ask task_of(name), or move it into the task's own files"


@pytest.mark.parametrize(
    "text",
    ['if task == "segmentation":\n    pass', "x = CLASSIFICATION", 'def f(task="classification"): ...'],
)
def test_a_stray_word_is_seen(text: str) -> None:
    assert list(task_words(ast.parse(text)))


def test_what_losses_say_of_themselves_is_no_stray_word() -> None:
    assert not list(task_words(ast.parse("class A:\n    tasks = (SEGMENTATION,)\n    x = 'a segmentation'")))


def test_few_files_lie_at_the_top() -> None:
    for folder in ("cache", "losses", "trainer"):
        names = [path.name for path in (ROOT / folder).glob("*.py") if path.name != "__init__.py"]
        assert len(names) <= MOST_AT_THE_TOP, f"{folder}/: {sorted(names)}: give some of them a room"


def test_a_room_is_a_table_of_contents() -> None:
    """About fifteen files at most; a data set more is a file more."""
    rooms = {path.parent for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")}
    for room in rooms:
        modules = [path for path in room.glob("*.py") if path.name != "__init__.py"]
        most = 25 if room.name == "sources" else 17
        assert len(modules) <= most, f"{room.relative_to(ROOT)} holds {len(modules)} modules"
