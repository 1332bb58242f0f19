"""Every place in the code that makes a KdError, and what its text must look like: for docs/errors.md."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("cache", "losses", "trainer", "cli")
BASE = "KdError"
ANYTHING = ".*"


class Site(NamedTuple):
    """One call that makes an error. `pattern` is of its first part, what is wrong."""

    file: str  # 'cache/build/plan.py'
    function: str  # 'Cache.row'; of nested functions the outermost one
    lines: range
    pattern: str

    def made(self, text: str) -> bool:
        """Whether it can have made this printed error."""
        return re.match(f"error: {self.pattern}\n  where: ", text, re.DOTALL) is not None


def sites() -> list[Site]:
    """In the order of files and lines."""
    trees = {path: ast.parse(path.read_text()) for package in PACKAGES for path in _files(ROOT / package)}
    classes = error_classes(list(trees.values()))
    return [
        site
        for path, tree in trees.items()
        for site in _sites_in(path.relative_to(ROOT).as_posix(), tree, classes)
    ]


def error_classes(trees: list[ast.Module]) -> set[str]:
    """Names of KdError and of all that inherit from it."""
    classes = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    names, before = {BASE}, 0
    while len(names) != before:
        before = len(names)
        names |= {one.name for one in classes if names & {ast.unparse(base) for base in one.bases}}
    return names


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(folder.rglob("*.py"))


def _sites_in(file: str, tree: ast.Module, classes: set[str]) -> Iterator[Site]:
    for function, body in _functions(tree):
        for node in ast.walk(body):
            if isinstance(node, ast.Call) and ast.unparse(node.func) in classes:
                first = node.args[0] if node.args else None
                lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
                yield Site(file, function, lines, ANYTHING if first is None else pattern_of(first))


def _functions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{getattr(one, 'name', '')}", one) for one in node.body)
        else:
            yield getattr(node, "name", ""), node


def pattern_of(text: ast.expr) -> str:
    """A regular expression of what an expression may print; `.*` for what only a run can say."""
    if isinstance(text, ast.Constant):
        return re.escape(str(text.value))
    if isinstance(text, ast.JoinedStr):
        return "".join(map(pattern_of, text.values))
    if isinstance(text, ast.BinOp) and isinstance(text.op, ast.Add):
        return pattern_of(text.left) + pattern_of(text.right)
    if isinstance(text, ast.IfExp):
        return f"(?:{pattern_of(text.body)}|{pattern_of(text.orelse)})"
    return ANYTHING
