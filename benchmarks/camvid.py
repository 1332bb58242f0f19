"""The CamVid table of docs/results.md: one teacher, one cache, every student that is compared, seeds and all.

    .venv/bin/python benchmarks/camvid.py --data DIR --weights DIR [--minutes 100] [--table]

DIR of --data is the CamVid folder, DIR of --weights holds resnet18.safetensors and resnet50.safetensors. Each
cell is one command that a user could type; a finished cell leaves a JSON file and is skipped the next time,
so the script may be stopped and started at will. It starts no cell after --minutes. --table only prints what
there is.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

HOME = Path("bench-out/camvid")
CROP, STRIDE, BATCH, STEPS, LR = "176", "16", "8", "300", "0.01"


class Cell(NamedTuple):
    """One command and the run it leaves behind ('' for the build)."""

    name: str
    command: list[str]


def cells(data: Path, weights: Path) -> list[Cell]:
    """The teacher, the cache, then the students, those that answer most first."""
    common = ["--crop", CROP, "--output-stride", STRIDE, "--batch-size", BATCH, "--steps", STEPS, "--lr", LR]
    common += ["--amp", "bf16", "--save-every", "50", "--threads", "1"]
    fresh = ["--data", f"camvid:{data}"]
    r18 = ["--student", "r18", "--weights", str(weights / "resnet18.safetensors")]

    def student(name: str, loss: str, seed: int, *more: str) -> Cell:
        return Cell(
            name, ["kdtrain", "--loss", loss, "--run", name, "--seed", str(seed), *r18, *common, *more]
        )

    live = ["--online", "--teacher", "r50"]
    teacher = ["kdtrain", "--student", "r50", "--loss", "none", "--run", "r50", *fresh, *common]
    build = ["kdcache", "build", "--teacher", "r50", "--views", "crops:8"]
    build += ["--crop", CROP, "--batch-size", BATCH]
    return [
        Cell("r50", [*teacher, "--weights", str(weights / "resnet50.safetensors")]),
        Cell("build", build),
        student("none-fresh-0", "none", 0, *fresh),
        student("none-stored-0", "none", 0),
        student("cwd-0", "cwd", 0),
        student("kd-0", "kd", 0),
        student("cwd-online-stored-0", "cwd", 0, *live, "--views", "stored"),
        student("cwd-online-fresh-0", "cwd", 0, *live, *fresh, "--views", "fresh"),
        student("none-fresh-1", "none", 1, *fresh),
        student("none-stored-1", "none", 1),
        student("cwd-1", "cwd", 1),
        student("kd-1", "kd", 1),
        student("afdcd-0", "afdcd", 0),
        student("mgd-0", "mgd", 0),
    ]


def run_cell(cell: Cell, deadline_s: float) -> None:
    """Run one cell with its log, then evaluate its run on the test split; leave one JSON file."""
    done = HOME / "cells" / f"{cell.name}.json"
    environment = os.environ | {"KDCACHE_HOME": str(HOME)}
    bin_dir = Path(sys.executable).parent
    start_s = time.time()
    log = HOME / "logs" / f"{cell.name}.log"
    resume = ["--resume"] if cell.name != "build" and (HOME / "runs" / cell.name).is_dir() else []
    with log.open("a") as out:
        for command in _commands(cell, resume):
            print(f"[{time.strftime('%H:%M')}] {' '.join(command)}", flush=True)
            left_s = max(60.0, deadline_s - time.time() + 1800)
            subprocess.run(
                [str(bin_dir / command[0]), *command[1:]],
                env=environment, stdout=out, stderr=subprocess.STDOUT, check=True, timeout=left_s,
            )  # fmt: skip
    result = {"command": cell.command, "wall_s": round(time.time() - start_s, 1)}
    done.write_text(json.dumps(result, indent=1) + "\n")


def _commands(cell: Cell, resume: list[str]) -> list[list[str]]:
    if cell.name == "build":
        return [cell.command]
    run = str(HOME / "runs" / cell.name)
    return [
        [*cell.command, *resume],
        ["kdtrain", "eval", run, "--split", "test", "--out", f"{run}/test.json"],
    ]


def table() -> str:
    """What has been measured so far, as a Markdown table."""
    lines = ["| run | val mIoU | test mIoU | ms a step | waiting for the stream |", "|---|---|---|---|---|"]
    for path in sorted((HOME / "cells").glob("*.json"), key=lambda p: p.stem):
        run = HOME / "runs" / path.stem
        if not run.is_dir():
            continue  # the build
        test = json.loads((run / "test.json").read_text())
        val, step_ms, wait = _from_metrics(run / "metrics.jsonl")
        shown = f"{100 * val:.2f} | {100 * test['miou']:.2f} | {step_ms:.0f} | {100 * wait:.1f} %"
        lines.append(f"| {path.stem} | {shown} |")
    return "\n".join(lines)


def _from_metrics(path: Path) -> tuple[float, float, float]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    val = max(r["miou"] for r in rows if r.get("split") == "val")
    rates = sorted(r["steps_per_s"] for r in rows if "steps_per_s" in r)
    waits = [r["wait_share"] for r in rows if "wait_share" in r]
    return val, 1000 / rates[len(rates) // 2], sum(waits) / max(1, len(waits))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=100.0)
    parser.add_argument("--only", nargs="*", help="names of cells; the others are left for another time")
    parser.add_argument("--table", action="store_true")
    args = parser.parse_args()
    for folder in ("cells", "logs"):
        (HOME / folder).mkdir(parents=True, exist_ok=True)
    deadline_s = time.time() + 60 * args.minutes
    for cell in [] if args.table else cells(args.data.resolve(), args.weights.resolve()):
        if args.only and cell.name not in args.only:
            continue
        if not (HOME / "cells" / f"{cell.name}.json").is_file() and time.time() < deadline_s:
            run_cell(cell, deadline_s)
    print(table())


if __name__ == "__main__":
    main()
