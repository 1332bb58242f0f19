"""`kdcache demo`: the main job on scenes that the project draws itself, in the commands that a user would
type.

Teacher -> cache -> a sweep of six runs from that one cache (a loss and `none`, three seeds each) -> one table
and one page. Nothing is downloaded. Scenes, student, length and loss were chosen on seeds 0 to 2; shown are
the seeds 3 to 5, which nobody looked at before.
"""

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import click

from kdcache.cache.processes.child import in_a_process
from kdcache.cache.visible import shell_line
from kdcache.cli.terminal import Terminal, say_error

TEACHER, STUDENT = "deeplabv3:resnet10t", "deeplabv3:test_resnet"  # 7 and 1 million weights
TEACHER_STEPS, STUDENT_STEPS = 150, 120
CROP = ["--crop", "64,64"]  # pixels: of crops of 96 a step takes twice as long
VIEWS = "crops:4"
LOSS, SEEDS = "cwd", "3,4,5"
NAME = "demo"
COMMON = "--weights none --batch-size 8 --optimizer adamw --lr 0.001 --output-stride 8 --log none".split()
COMMON += CROP
SAID = ("compare", "report")  # what these print is the demo's own end


@click.command()
@click.option(
    "--out",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("demo-out"),
    help="Folder to work in. [default: demo-out]",
)
def demo(out: Path) -> None:
    """Draw a dataset, train a teacher, cache it, train six students from the cache; print one table and the
    path of a report."""
    terminal = Terminal()
    home = out.resolve()
    start_s = time.monotonic()
    home.mkdir(parents=True, exist_ok=True)
    terminal.say(f"working in {out}; every command below can be typed by hand with KDCACHE_HOME={out}")
    report = home / "report.html"
    drawn = importlib.util.find_spec("plotly") is not None
    for command in commands(f"demo:{home / 'data'}", report if drawn else None, cores()):
        _run(command, home, terminal)
    rest = f"report: {out / report.name}" if drawn else "no report: that takes pip install 'kdcache[report]'"
    terminal.say(f"{time.monotonic() - start_s:.0f} s; {rest}")


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0))


def commands(data: str, report: Path | None, num_cores: int) -> list[list[str]]:
    """What is typed, in order. Without a `report` the same table is printed alone."""
    sweep = ["--loss", LOSS, "--student", STUDENT, "--seeds", SEEDS, "--no-fresh", "--name", NAME]
    teacher = ["--student", TEACHER, "--steps", str(TEACHER_STEPS), *COMMON]
    shown = ["compare"] if report is None else ["report", "--out", str(report)]
    return [
        ["kdtrain", "--loss", "none", "--data", data, "--run", "teacher", *teacher],
        ["kdcache", "build", "--teacher", "teacher", "--views", VIEWS, *CROP, "--for", LOSS],
        [
            "kdtrain",
            "sweep",
            *sweep,
            "--jobs",
            str(min(num_cores, 6)),
            "--steps",
            str(STUDENT_STEPS),
            *COMMON,
        ],
        ["kdtrain", shown[0], "--sweep", NAME, *shown[1:]],
    ]


def _run(command: list[str], home: Path, terminal: Terminal) -> None:
    """Run one command with its log in the demo's folder; a run that is there already is continued."""
    terminal.say(f"$ {shell_line(command).replace(str(home), home.name)}", style="bold")
    if "--run" in command and (home / "runs" / command[command.index("--run") + 1]).is_dir():
        command = [*command, "--resume"]
    module = [sys.executable, "-m", f"kdcache.cli.{command[0]}", *command[1:]]
    environment = os.environ | {"KDCACHE_HOME": str(home)}
    if command[1] in SAID:
        if status := in_a_process(module, env=environment):
            raise SystemExit(status)
        return
    log = home / f"{'teacher' if '--run' in command else command[1]}.log"
    start_s = time.monotonic()
    with log.open("w") as output:
        status = in_a_process(module, env=environment, stdout=output, stderr=subprocess.STDOUT)
    if status:
        say_error(log.read_text(encoding="utf-8", errors="surrogateescape")[-2000:].rstrip())
        raise SystemExit(status)
    terminal.say(f"  {time.monotonic() - start_s:.0f} s, log {log.name}")
