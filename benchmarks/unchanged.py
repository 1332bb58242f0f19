"""Proof that nothing changed: digests of caches, weights and metrics that two checkouts must have in common.

    .venv/bin/python benchmarks/unchanged.py --checkout DIR --out before.json
    .venv/bin/python benchmarks/unchanged.py --checkout DIR2 --out after.json
    .venv/bin/python benchmarks/unchanged.py --compare before.json after.json

The commands of `unchanged_jobs.JOBS` run on a copy of the checkout's four folders, so that it may be edited
meanwhile, one run at a time; what they left is digested as `unchanged_digests` says. Status of --compare: 1
where anything differs. Both runs must be on one machine with the same libraries: other kernels give other
bits. Every command is a process of its own, forked from one that has imported the libraries and nothing else.
It takes about three minutes on a core of its own.
"""

import argparse
import json
import os
import shlex
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from unchanged_jobs import CLASSES, JOBS, ROWS, SIZE, TEACHERS, Job

FOLDERS = ("cache", "losses", "trainer", "cli")  # together they are the package kdcache
LIBRARIES = ("torch", "torchvision", "timm", "segmentation_models_pytorch", "accelerate", "torchmetrics")
LIBRARIES += ("nvidia.dali", "zarr", "numcodecs", "webdataset")
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
OF_OTHERS = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "PYTHONPATH")  # settings that would reach the commands
# One place for all runs: some files hold its path under a seal, which would differ with it.
ROOM = Path(tempfile.gettempdir()) / "kdcache-unchanged"
DRAWN_AT_S = 1_000_000_000  # time of every data file, because records of samples hold it


def pin() -> None:
    """Before torch and numpy are imported: one thread and no GPU give the same bits again."""
    os.environ |= {**dict.fromkeys(THREADS, "1"), "CUDA_VISIBLE_DEVICES": ""}
    for name in OF_OTHERS:
        os.environ.pop(name, None)


def import_copy(checkout: Path, room: Path) -> None:
    """A copy of the checkout that comes before the installed kdcache; the libraries, once for all jobs."""
    for name in FOLDERS:
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(checkout / name, room / "import" / "kdcache" / name, ignore=ignored)
    sys.path.insert(0, str(room / "import"))
    for library in LIBRARIES:
        import_module(library)


def draw_arrays(file: Path) -> None:
    """Noise under a colour per class: enough for rates of learning, and no two images alike."""
    import numpy as np  # after the threads are pinned

    rng, arrays = np.random.default_rng(0), {}
    for split, rows in ROWS.items():
        classes = arrays[f"y_{split}"] = np.arange(rows) % CLASSES
        noise = rng.integers(0, 128, (rows, SIZE, SIZE, 3))
        arrays[f"x_{split}"] = (noise + 32 * classes[:, None, None, None]).astype(np.uint8)
    np.savez(file, **arrays)


def settle(room: Path) -> None:
    """Equal times for the data, which were drawn now."""
    for path in (room / "arrays.npz", *(room / "demo").rglob("*.*")):
        os.utime(path, (DRAWN_AT_S, DRAWN_AT_S))


def prepare(home: Path, teachers: Path) -> None:
    (home / "runs").mkdir(parents=True)
    for run in sorted(teachers.iterdir()) if home != teachers.parent else []:
        (home / "runs" / run.name).symlink_to(run)


def run_job(job: Job, room: Path) -> int:
    """Exit status of the command in a forked process; its output is in the home's log."""
    home, words = room / job.home, shlex.split(job.command.format(room=room))
    if not home.is_dir():
        prepare(home, room / TEACHERS / "runs")
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    status = 1
    try:
        log = os.open(home / "log.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(home)
        os.environ["KDCACHE_HOME"], sys.argv = str(home), words
        status = call(words[0], room)
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def call(command: str, room: Path) -> int:
    """What the installed script of that name does. Another checkout's module would prove nothing."""
    status = 0
    try:
        import_module(f"kdcache.cli.{command}").main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException as error:  # a fork must not go on as its parent would
        sys.excepthook(type(error), error, error.__traceback__)
        status = 1
    files = {n: getattr(m, "__file__", None) for n, m in sys.modules.items() if n.startswith("kdcache.")}
    strange = [n for n, f in files.items() if f and not Path(f).is_relative_to(room / "import")]
    if strange:
        print(f"not from the copy of the checkout: {', '.join(strange)}")
    return 1 if strange else status


def run_jobs(jobs: Sequence[Job], room: Path) -> None:
    """Raises SystemExit with the end of the log of a command that fails."""
    for number, job in enumerate(jobs, start=1):
        start_s = time.monotonic()
        status = run_job(job, room)
        took_s = time.monotonic() - start_s
        shown = job.command.replace("{room}", "ROOM")
        print(f"{number:>2}/{len(jobs)} {took_s:5.1f} s  {job.home}: {shown[:80]}", flush=True)
        if status:
            raise SystemExit(f"{(room / job.home / 'log.txt').read_text()[-3000:]}\nfailed: {shown}")
        if job.home == TEACHERS:
            settle(room)


def machine() -> dict[str, str]:
    import torch

    return {"python": sys.version, "torch": torch.__version__, "cpu": torch.backends.cpu.get_cpu_capability()}


def record(checkout: Path, room: Path, jobs: Sequence[Job]) -> dict[str, Any]:
    start_s = time.monotonic()
    pin()
    import_copy(checkout, room)
    draw_arrays(room / "arrays.npz")
    run_jobs(jobs, room)
    from unchanged_digests import LEFT_OUT, digests_of  # it imports torch

    digests = digests_of(room, list(dict.fromkeys(job.home for job in jobs)))
    print(f"{len(digests)} digests, {time.monotonic() - start_s:.0f} s")
    for name, reason in LEFT_OUT.items():
        print(f"left out: {name} ({reason})")
    return {"machine": machine(), "left_out": LEFT_OUT, "digests": digests}


def compare(before: Mapping[str, Any], after: Mapping[str, Any]) -> int:
    """Prints what differs. 0 if there is something to compare and all of it is equal."""
    if before["machine"] != after["machine"]:
        print(f"not one machine, so that bits may differ: {before['machine']}, {after['machine']}")
    old, new = before["digests"], after["digests"]
    names = sorted(old.keys() | new.keys())
    unequal = [name for name in names if old.get(name) != new.get(name)]
    for name in unequal:
        print("only before:" if name not in new else "only after:" if name not in old else "differs:", name)
    print(f"{len(names) - len(unequal)} entries are equal, {len(unequal)} are not")
    return 1 if unequal or not names else 0


def main() -> int:
    asked = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    asked.add_argument("--checkout", type=Path, help="the checkout to run")
    asked.add_argument("--out", type=Path, help="file for its digests")
    asked.add_argument("--only", default="", help="homes of unchanged_jobs.py, separated by commas")
    asked.add_argument("--keep", type=Path, help="a new folder for homes and data, kept to be looked at")
    asked.add_argument("--compare", nargs=2, type=Path, metavar=("BEFORE", "AFTER"), help="two such files")
    options = asked.parse_args()
    if options.compare:
        before, after = (json.loads(path.read_text()) for path in options.compare)
        return compare(before, after)
    if not (options.checkout and options.out):
        asked.error("give --checkout DIR --out FILE, or --compare BEFORE AFTER")
    homes = {TEACHERS, *options.only.split(",")} if options.only else {job.home for job in JOBS}
    jobs = [job for job in JOBS if job.home in homes]
    checkout, out = options.checkout.resolve(), options.out.resolve()
    room = (options.keep or ROOM).resolve()
    if room.exists():
        asked.error(f"{room} is there: of another run, or of one that was killed; remove it first")
    room.mkdir(parents=True)
    try:
        out.write_text(json.dumps(record(checkout, room, jobs), indent=1) + "\n")
    finally:
        if not options.keep:
            shutil.rmtree(room, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
