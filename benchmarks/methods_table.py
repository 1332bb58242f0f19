"""The methods benchmark's JSON files as Markdown: one table per dataset, means and spreads over seeds."""

import json
import statistics
from pathlib import Path
from typing import Any

TITLES = {"cifar": "CIFAR-mini", "fashion": "Fashion-MNIST (first 5000)"}
GROUPS = ("teacher", "none", "cached", "no-cache")


def table(home: Path) -> str:
    """Every dataset that has results; methods in order of their mean, the baseline's rows first."""
    parts = []
    for name, title in TITLES.items():
        found = [json.loads(path.read_text()) for path in sorted((home / name / "cells").glob("*.json"))]
        if found:
            parts.append(f"## {title}\n\n" + "\n".join(_rows(found)))
    return "\n\n".join(parts)


def _rows(found: list[dict[str, Any]]) -> list[str]:
    lines = [
        "| method | seeds | val top-1 | test top-1 | against `none` | ms a step |",
        "|---|---|---|---|---|---|",
    ]
    stored = _tests(found, "none-stored")
    fresh = _tests(found, "none-fresh")
    for group in GROUPS:
        methods = dict.fromkeys(r["method"] for r in found if r["group"] == group)
        ranked = sorted(methods, key=lambda m: -statistics.mean(_tests(found, m) or [0.0]))
        for method in ranked:
            base = fresh if group == "no-cache" else stored
            lines.append(_row(method, [r for r in found if r["method"] == method], base))
    return lines


def _row(method: str, results: list[dict[str, Any]], base: list[float]) -> str:
    good = [r for r in results if "test" in r]
    if not good:
        return f"| {method} | 0 | failed | {results[0].get('error', '')} | | |"
    test = [r["test"] for r in good]
    gain = f"{100 * (statistics.mean(test) - statistics.mean(base)):+.2f}" if base else "-"
    step_ms = statistics.median(r["step_ms"] for r in good)
    val = _spread([r["val"] for r in good])
    return f"| {method} | {len(good)} | {val} | {_spread(test)} | {gain} | {step_ms:.0f} |"


def _spread(values: list[float]) -> str:
    """Mean in percent, with the sample deviation where there are several seeds."""
    mean = f"{100 * statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} +- {100 * statistics.stdev(values):.2f}"


def _tests(found: list[dict[str, Any]], method: str) -> list[float]:
    return [r["test"] for r in found if r["method"] == method and "test" in r]
