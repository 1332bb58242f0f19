"""docs/errors.md: every error about caches and consent as it is printed, collected while the tests raise
them.

    .venv/bin/python benchmarks/error_texts.py [--out docs/errors.md]

One example for each place in the code that raises: the first by text. Paths and digests of a test are
shortened.
"""

import argparse
import re
import sys
from collections import defaultdict
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
TESTS = (
    "tests/cache",
    "tests/cli/test_strangers.py",
    "tests/trainer/stream",
    "tests/trainer/test_resume_on_cache.py",
)
SCOPE = (
    "cache/build/", "cache/look/", "cache/reader/", "cache/record/", "cache/stores/", "cache/trust.py",
    "cache/views/block_views.py", "trainer/stream/pixel_check.py",
)  # fmt: skip
SHORTENED = (
    (re.compile(r"(?:/[\w.-]+)*/pytest-of-[^/\s]+/pytest-\d+/[^/\s']+"), "/data"),
    (re.compile(r"\b(x3:[0-9a-f]{4})[0-9a-f]{28}"), r"\1..."),
)
Places = dict[str, dict[int, set[str]]]  # file -> line that raises -> texts


class Collector:
    """A plugin of pytest that remembers every KdError that is made."""

    def __init__(self) -> None:
        self.texts: Places = defaultdict(lambda: defaultdict(set))

    def pytest_configure(self) -> None:
        from kdcache.cache.errors import KdError

        made = KdError.__init__
        collector = self

        def remembered(error: KdError, what: str, *, where: str, fix: str) -> None:
            made(error, what, where=where, fix=fix)
            collector.note(error, sys._getframe(1))

        KdError.__init__ = remembered  # type: ignore[method-assign]

    def note(self, error: Any, frame: FrameType | None) -> None:
        names = [f for f in _files(frame) if f[0].startswith(SCOPE)]
        if names:
            file, line = names[0]
            self.texts[file][line].add(_short(str(error)))


def _files(frame: FrameType | None) -> list[tuple[str, int]]:
    """(file below the checkout, line) of the frames above, innermost first."""
    places = []
    while frame is not None and len(places) < 6:
        path = Path(frame.f_code.co_filename)
        parts = path.parts
        tops = [i for i, part in enumerate(parts) if part in ("cache", "trainer", "cli", "losses")]
        if tops and "site-packages" not in parts and "tests" not in parts:
            places.append(("/".join(parts[tops[0] :]), frame.f_lineno))
        frame = frame.f_back
    return places


def _short(text: str) -> str:
    for pattern, short in SHORTENED:
        text = pattern.sub(short, text)
    return text


def page(texts: Places) -> str:
    lines = [
        "# Errors",
        "",
        "What goes wrong with a cache, as it is printed: what is wrong, where, what to do; exit status 2.",
        "Made from the tests by `benchmarks/error_texts.py`; paths are shortened.",
    ]
    for file in sorted(texts):
        lines += ["", f"## {file}"]
        for line in sorted(texts[file]):
            example = min(texts[file][line], key=lambda text: (len(text), text))
            lines += ["", "```text", f"error: {example}", "```"]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "errors.md")
    args = parser.parse_args()
    collector = Collector()
    status = pytest.main(["-q", "-p", "no:cacheprovider", *TESTS], plugins=[collector])
    if status:
        raise SystemExit(int(status))
    args.out.write_text(page(collector.texts))
    print(f"{sum(len(one) for one in collector.texts.values())} errors in {args.out}")


if __name__ == "__main__":
    main()
