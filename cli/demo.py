"""`kdcache demo`: the main job on scenes that the project draws itself, in the commands that a user would
type.

Teacher -> cache -> one student three ways (no distillation on fresh views, the same on stored views, a loss
from the cache) -> one table of what was measured, and two pictures. Nothing is downloaded.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import click

from kdcache.cache.errors import size_text
from kdcache.cache.processes.child import in_a_process
from kdcache.cache.visible import shell_line
from kdcache.cli.terminal import Table, Terminal, say_error

TEACHER, STUDENT = "deeplabv3:resnet18", "deeplabv3:test_resnet"  # 13 and 1 million weights
TEACHER_STEPS, STUDENT_STEPS = 700, 400
VIEWS = "crops:4"
LOSS = "afdcd"
COMMON = "--weights none --batch-size 8 --optimizer adamw --lr 0.001 --output-stride 16 --log none".split()
RUNS = {
    "teacher": "teacher",
    "none, fresh views": "none-fresh",
    "none, stored views": "none-stored",
    LOSS: LOSS,
}


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-out"),
    help="Folder to work in. [default: demo-out]",
)
def demo(out: Path) -> None:
    """Draw a dataset, train a teacher, cache it, train students; print one table and two pictures."""
    terminal = Terminal()
    home = out.resolve()
    start_s = time.monotonic()
    data = f"demo:{home / 'data'}"
    student = ["--student", STUDENT, "--steps", str(STUDENT_STEPS), *COMMON]
    teacher = ["--student", TEACHER, "--steps", str(TEACHER_STEPS), *COMMON]
    steps = [
        ["kdtrain", "--loss", "none", "--data", data, "--run", "teacher", *teacher],
        ["kdcache", "build", "--teacher", "teacher", "--views", VIEWS],
        ["kdtrain", "--loss", "none", "--data", data, "--run", "none-fresh", *student],
        ["kdtrain", "--loss", "none", "--run", "none-stored", *student],
        ["kdtrain", "--loss", LOSS, "--run", LOSS, *student],
    ]
    home.mkdir(parents=True, exist_ok=True)
    terminal.say(f"working in {out}; every command below can be typed by hand with KDCACHE_HOME={out}")
    for command in steps:
        _run(command, home, terminal)
    _results(home, terminal)
    _pictures(home, data)
    terminal.say(f"{time.monotonic() - start_s:.0f} s; pictures: {out}/predictions.png, {out}/peek.png")


def _run(command: list[str], home: Path, terminal: Terminal) -> None:
    """Run one command with its log in the demo's folder; a run that is there already is continued."""
    shown = shell_line(command).replace(str(home), home.name)
    terminal.say(f"$ {shown}", style="bold")
    if "--run" in command and (home / "runs" / command[command.index("--run") + 1]).is_dir():
        command = [*command, "--resume"]
    log = home / f"{command[command.index('--run') + 1] if '--run' in command else 'build'}.log"
    environment = os.environ | {"KDCACHE_HOME": str(home)}
    start_s = time.monotonic()
    with log.open("w") as output:
        module = [sys.executable, "-m", f"kdcache.cli.{command[0]}", *command[1:]]
        status = in_a_process(module, env=environment, stdout=output, stderr=subprocess.STDOUT)
    if status:
        say_error(log.read_text(encoding="utf-8", errors="surrogateescape")[-2000:].rstrip())
        raise SystemExit(status)
    terminal.say(f"  {time.monotonic() - start_s:.0f} s, log {log.name}")


def _results(home: Path, terminal: Terminal) -> None:
    """The table, from what the runs and the cache recorded."""
    from kdcache.cache.reader.cache import open_cache
    from kdcache.cache.record.find import find_cache
    from kdcache.trainer.folder.metrics_log import read_metrics

    cache = open_cache(find_cache(None, home / "caches"))
    num_bytes = sum(p.stat().st_size for p in cache.root.rglob("*") if p.is_file())
    rows = cache.generation.num_living * cache.manifest.num_views
    table = Table(
        "run", "val mIoU %", "ms a step", "cache", "teacher forwards paid", title="demo, as measured"
    )
    records = []
    for title, run in RUNS.items():
        lines = read_metrics(home / "runs" / run)
        rates = sorted(line["steps_per_s"] for line in lines if "steps_per_s" in line)
        miou = max(line["miou"] for line in lines if line.get("split") == "val")
        stored = run in ("none-stored", LOSS)
        row = [title, f"{100 * miou:.1f}", f"{1000 / rates[len(rates) // 2]:.0f}"]
        row += [size_text(num_bytes) if stored else "-", f"{rows} (once)" if run == LOSS else "0"]
        table.add_row(*row)
        records.append(dict(zip(("run", "miou", "step_ms", "cache", "teacher_forwards"), row, strict=True)))
    (home / "table.json").write_text(json.dumps(records, indent=1) + "\n")
    terminal.show(table)


def _pictures(home: Path, data: str) -> None:
    from kdcache.cache.look.peek import peek
    from kdcache.cache.reader.cache import open_cache
    from kdcache.cache.record.find import find_cache
    from kdcache.cache.sources.table import open_source
    from kdcache.trainer.judge.pictures import draw_predictions

    cache = open_cache(find_cache(None, home / "caches"))
    peek(cache, cache.key(0), 0, home / "peek.png")
    runs = {title: home / "runs" / run for title, run in RUNS.items()}
    draw_predictions(runs, open_source(data, "val"), range(4), home / "predictions.png")
