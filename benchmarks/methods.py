"""The methods table of docs/results.md: every classification method on two small datasets, on a CPU.

    .venv/bin/python benchmarks/methods.py --set cifar --data DIR --weights DIR [--minutes 100]
    .venv/bin/python benchmarks/methods.py --set fashion --data DIR [--minutes 100]
    .venv/bin/python benchmarks/methods.py --table

Per dataset: one teacher, one cache, one small student; every cacheable method once, `none` on fresh and on
stored views and the five best with three seeds, every method without a cache once. A finished cell leaves a
JSON file and is skipped the next time, a killed one is resumed, so the script may be stopped and started at
will; it starts no cell after --minutes. Cells run in one process: importing the libraries costs as much as a
fifth of a cell.
"""

import argparse
import json
import os
import time
from pathlib import Path

import torch
from methods_cells import FIVE, SETS, Cell, Set, first_cells, prepare, seed_cells
from methods_table import table

from kdcache.cache.build.build import build_cache
from kdcache.cache.errors import KdError
from kdcache.cache.networks.resolve import resolve_teacher
from kdcache.cache.sources.table import open_source
from kdcache.trainer.judge.alone import judge_alone
from kdcache.trainer.run import evaluate_run, train_run

HOME = Path("bench-out/methods")


def run_set(chosen: Set, home: Path, deadline_s: float, only: list[str]) -> None:
    """Every cell that is not there yet: the table's first pass, then further seeds of `none` and the best."""
    if chosen.teacher_run is None:
        judge_teacher(chosen, home)
    for cell in first_cells(chosen):
        if not only or cell.name in only:
            run_cell(cell, home, deadline_s)
    for cell in seed_cells(chosen, best_methods(home)):
        if not only or cell.name in only:
            run_cell(cell, home, deadline_s)


def best_methods(home: Path) -> list[str]:
    """The five cacheable methods with the best validation figure in the first pass."""
    results = [json.loads(path.read_text()) for path in (home / "cells").glob("*-0.json")]
    ranked = sorted((r for r in results if r.get("group") == "cached"), key=lambda r: -r.get("val", 0.0))
    return [r["method"] for r in ranked[:FIVE]]


def run_cell(cell: Cell, home: Path, deadline_s: float) -> None:
    """One build or one run with its evaluation on the test split; a failure is a result that is written."""
    done = home / "cells" / f"{cell.name}.json"
    if done.is_file() or time.time() > deadline_s:
        return
    print(f"[{time.strftime('%H:%M:%S')}] {cell.text}", flush=True)
    began_s = time.time()
    result: dict[str, object] = {"method": cell.method, "group": cell.group, "command": cell.text}
    try:
        result |= build(cell, home) if cell.build is not None else train(cell, home)
    except KdError as error:
        result["error"] = str(error)
        print(error, flush=True)
    result["wall_s"] = round(time.time() - began_s, 1)
    done.write_text(json.dumps(result, indent=1) + "\n")


def judge_teacher(chosen: Set, home: Path) -> None:
    """The row of a teacher that came with its weights and was not trained here."""
    done = home / "cells" / "teacher-0.json"
    if done.is_file():
        return
    classes = len(open_source(chosen.data, "val").class_names)
    teacher, _, _ = resolve_teacher(
        chosen.teacher, home / "runs", task="classification", num_classes=classes, weights=chosen.weights
    )
    scores = {}
    for split in ("val", "test"):
        source = open_source(chosen.data, split)
        judged = judge_alone(teacher, source, input_size=source.default_crop, device="cpu", num_threads=1)
        scores[split] = judged.score
    result = {"method": "teacher", "group": "teacher", "command": f"--teacher {chosen.teacher}"}
    done.write_text(json.dumps(result | scores | {"step_ms": 0.0}, indent=1) + "\n")


def build(cell: Cell, home: Path) -> dict[str, object]:
    assert cell.build is not None
    report = build_cache(cell.build(home))
    return {"rows": report.rows, "cache": report.root.name}


def train(cell: Cell, home: Path) -> dict[str, object]:
    """Train (or resume), read the best validation figure and the step time, judge on the test split."""
    run_dir = home / "runs" / cell.name
    options = cell.options | {"run": cell.name}
    if "cache" in options:
        (options["cache"],) = (str(path.resolve()) for path in (home / options["cache"]).iterdir())
    train_run(options, home=home, resume=(run_dir / "config.toml").is_file())
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    rates = sorted(r["steps_per_s"] for r in rows if "steps_per_s" in r)
    judged = evaluate_run(cell.name, home=home, data=None, split="test", device="cpu")
    figures = judged.metrics.named()
    return {
        "val": max(r["top1"] for r in rows if "top1" in r),
        "test": figures["top1"],
        "ece": figures["ece"],
        "step_ms": 1000 / rates[len(rates) // 2],
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--set", choices=SETS)
    parser.add_argument("--data", type=Path, help="the folder of cifar10_mini.npz, or of the four idx files")
    parser.add_argument("--weights", type=Path, help="the folder of cifar_resnet56.safetensors")
    parser.add_argument("--minutes", type=float, default=100.0)
    parser.add_argument("--only", nargs="*", default=[], help="names of cells; the others are left")
    parser.add_argument("--table", action="store_true", help="only print what there is")
    args = parser.parse_args()
    torch.set_num_threads(1)
    deadline_s = time.time() + 60 * args.minutes
    if not args.table:
        home = HOME / args.set
        for folder in ("cells", "runs"):
            (home / folder).mkdir(parents=True, exist_ok=True)
        os.environ["KDCACHE_HOME"] = str(home)
        run_set(prepare(args.set, args.data, args.weights, home), home, deadline_s, args.only)
    print(table(HOME))


if __name__ == "__main__":
    main()
