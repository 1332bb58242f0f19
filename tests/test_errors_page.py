"""docs/errors.md has an example of every error that the code makes, and none of an error that is gone."""

import ast
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from error_sites import Site, pattern_of, sites

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
AGAIN = "run .venv/bin/python benchmarks/error_texts.py"
# (file, function) of errors that no test of one process raises -> why.
UNSEEN: Mapping[tuple[str, str], str] = {
    ("cache/build/compact.py", "Copy._moved"): "an update re-makes such rows before anything can be copied",
    (
        "cache/build/plan.py",
        "_teacher_and_source",
    ): "a teacher of other classes meets another check first",
    (
        "cache/processes/watch.py",
        "Watch._lost",
    ): "said in a process that ends: test_lost_ranks.py",
}


def examples() -> dict[tuple[str, str], list[str]]:
    """(file, function) -> the errors that the page prints below them."""
    listed: dict[tuple[str, str], list[str]] = defaultdict(list)
    file = function = ""
    for part in re.split(
        r"^(#+ [^\n]*|```text\n.*?\n```)$", PAGE.read_text(), flags=re.DOTALL | re.MULTILINE
    ):
        if part.startswith("## "):
            file = part[3:]
        elif part.startswith("### "):
            function = part[4:]
        elif part.startswith("```text\n"):
            listed[file, function].append(part.removeprefix("```text\n").removesuffix("\n```"))
    return listed


def test_every_error_in_the_code_is_printed_on_the_page() -> None:
    printed = examples()
    absent = {
        (one.file, one.function)
        for one in sites()
        if not any(one.made(text) for text in printed[one.file, one.function])
    }
    assert sorted(absent - set(UNSEEN)) == [], f"test it, then {AGAIN}"
    assert sorted(set(UNSEEN) - absent) == [], "these have an example: take them out of UNSEEN"


def test_every_error_on_the_page_is_one_of_the_code() -> None:
    made: dict[tuple[str, str], list[Site]] = defaultdict(list)
    for one in sites():
        made[one.file, one.function].append(one)
    stale = [
        (place, text.partition("\n")[0])
        for place, texts in examples().items()
        for text in texts
        if not any(one.made(text) for one in made[place])
    ]
    assert stale == [], AGAIN


def test_every_example_has_three_parts() -> None:
    lame = [
        t for texts in examples().values() for t in texts if "\n  where: " not in t or "\n  fix:   " not in t
    ]
    assert lame == []
    assert sum(map(len, examples().values())) > 300


def test_a_text_that_changed_is_noticed() -> None:
    """The pattern of an error is its own words, with anything where only a run knows them."""
    (call,) = (
        node for node in ast.walk(ast.parse('f"no tap {name!r} of " + kind')) if isinstance(node, ast.BinOp)
    )
    site = Site("cache/x.py", "f", range(1), pattern_of(call))
    assert site.made("error: no tap 'a' of it\n  where: here\n  fix:   none")
    assert not site.made("error: no such tap 'a' of it\n  where: here\n  fix:   none")
