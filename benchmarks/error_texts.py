"""docs/errors.md: every error as it is printed, collected while the tests raise them.

    .venv/bin/python benchmarks/error_texts.py [--out docs/errors.md] [--workers 2] [TEST ...]

Runs the tests (all, or those that are named) with this file as a plugin. One example for
each place in the code that makes an error: the shortest text. Paths and digests of a test are shortened.
`tests/test_errors_page.py` fails where an error has no example, or an example no error.
"""

import argparse
import json
import os
import re
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "support"))
from error_sites import PACKAGES, Site, sites  # noqa: E402  # where the tests' helpers lie

PARTS = "KDCACHE_ERROR_TEXTS"  # environment: the folder where each process of the tests puts what it saw
SHORTENED = (
    (
        re.compile(r"(?:/[\w.-]+)*/pytest-of-[^/\s]+/(?:pytest-\d+|popen-gw\d+)(?:/popen-gw\d+)?/[^/\s']+"),
        "/data",
    ),
    (re.compile(re.escape(str(ROOT))), "/checkout"),
    (re.compile(r"\b(x3:[0-9a-f]{4})[0-9a-f]{28}"), r"\1..."),
    (re.compile(r"/\S*/bin/python\S*"), "python"),
)
Texts = dict[tuple[str, int], set[str]]  # file, line that makes the error -> texts
seen: Texts = defaultdict(set)


def pytest_configure(config: Any) -> None:
    """Remember every KdError that is made from here on."""
    if PARTS not in os.environ:
        return
    from kdcache.cache.errors import KdError

    made = KdError.__init__

    def remembered(error: KdError, what: str, *, where: str, fix: str) -> None:
        made(error, what, where=where, fix=fix)
        frame = sys._getframe(1)
        file = _file_of(frame.f_code.co_filename)
        if file is not None:
            seen[file, frame.f_lineno].add(str(error))

    KdError.__init__ = remembered  # type: ignore[method-assign]


def pytest_sessionfinish() -> None:
    if PARTS in os.environ and seen:
        listed = [[file, line, sorted(texts, key=_by_length)[:20]] for (file, line), texts in seen.items()]
        (Path(os.environ[PARTS]) / f"{os.getpid()}.json").write_text(json.dumps(listed))


def _file_of(path: str) -> str | None:
    """'cache/build/plan.py', also where packages are seen through links; None for what is not ours."""
    parts = Path(path).resolve().parts
    own = ROOT.parts
    inside = parts[len(own) :]
    return "/".join(inside) if parts[: len(own)] == own and inside[0] in PACKAGES else None


def _by_length(text: str) -> tuple[int, str]:
    return len(text), text


def _short(text: str) -> str:
    for pattern, short in SHORTENED:
        text = pattern.sub(short, text)
    return text


def collected(folder: Path) -> Texts:
    """What all processes of the tests saw."""
    texts: Texts = defaultdict(set)
    for part in folder.glob("*.json"):
        for file, line, some in json.loads(part.read_text()):
            texts[file, line].update(some)
    return texts


def page(texts: Texts) -> str:
    """The document: a heading for each file and function, an example for each place."""
    lines = [
        "# Errors",
        "",
        "Every error that a user can cause, as it is printed: what is wrong, where, what to do; exit status",
        "2. Made from the tests by `benchmarks/error_texts.py`; paths are shortened.",
    ]
    file = function = ""
    for site in sites():
        example = _example(site, texts)
        if example is None:
            continue
        if site.file != file:
            lines += ["", f"## {site.file}"]
        if (site.file, site.function) != (file, function):
            lines += ["", f"### {site.function}"]
        file, function = site.file, site.function
        lines += ["", "```text", example, "```"]
    return "\n".join(lines) + "\n"


def _example(site: Site, texts: Texts) -> str | None:
    of_site = [text for line in site.lines for text in texts.get((site.file, line), ())]
    shown = sorted((f"error: {_short(text)}" for text in of_site), key=_by_length)
    return next((text for text in shown if site.made(text)), None)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "errors.md")
    parser.add_argument("--workers", default="2")
    parser.add_argument("tests", nargs="*")
    args = parser.parse_args()
    spread = ["-n", args.workers, "--dist", "loadfile"] if args.workers != "0" else []
    sys.path.insert(0, str(Path(__file__).parent))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    with tempfile.TemporaryDirectory() as folder:
        os.environ[PARTS] = folder
        chosen = args.tests or [str(ROOT / "tests")]
        status = pytest.main(["-q", "-p", "no:cacheprovider", "-p", "error_texts", *spread, *chosen])
        args.out.write_text(page(collected(Path(folder))))
    print(f"{args.out} is written; the tests ended with status {int(status)}")
    raise SystemExit(int(status))


if __name__ == "__main__":
    main()
