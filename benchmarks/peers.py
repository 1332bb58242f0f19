"""Ours beside what others would use, job by job, on one machine in interleaved rounds.

    .venv/bin/python benchmarks/peers.py [--only rows,streams,jobs,kills] [--rounds 5] [--minutes 60]
        [--data cifar10_mini.npz --weights cifar_resnet56.safetensors] [--epochs 8] [--small] [--out DIR]

rows      shuffled rows of three sizes and their bytes: memmap, LMDB, HDF5, MosaicML Streaming, LitData,
          tensorstore, zarr-python, one .pt a sample, torchdistill's cache, ours          (peers_rows.py)
streams   32x32 batches: DataLoader, webdataset, arrays in memory, ours                   (peers_streams.py)
jobs      six ablations, whole: a hand-written loop, ours alone and together, online, torchdistill
                                                                                          (peers_jobs.py)
kills     20 SIGKILLs while a store is written: what it says afterwards, and what is lost (peers_kills.py)

Peers live in environments of their own below --envs, made on demand, at the versions pinned in peers_envs.py.
What cannot be installed or fails is reported with its reason. Writes PART.json, peers.md and cost.svg to
--out. Needs about 6 GB of disk. --small takes seconds a part and proves nothing about speed.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import peers_hand
import peers_jobs
import peers_page
import peers_rows
from peers_envs import OWN, CallFailed, NotInstalled, Workers
from peers_ours import drawn_images
from rounds import machine

PARTS = ("rows", "streams", "jobs", "kills")
SMALL_JOB_IMAGES = 160


def rows(args: argparse.Namespace, work: Path, until_s: float) -> dict[str, Any]:
    stores = (peers_rows.REFERENCE, *args.stores) if args.stores else ()
    asked = peers_rows.Asked(work, args.rounds, args.small, until_s, stores)
    with Workers(args.envs, work) as workers:
        return peers_rows.measure(asked, workers)


def streams(args: argparse.Namespace, work: Path, until_s: float) -> dict[str, Any]:
    job = job_of(args, work)
    with Workers(args.envs, work) as workers:
        worker = workers.of(OWN)
        root = worker.call("peers_streams:built", data=str(job.data), work=str(work), views=job.views)
        left_s = until_s - time.monotonic()
        told = worker.call(
            "peers_streams:measure", data=str(job.data), root=root, work=str(work), images=job.images,
            rounds=args.rounds, seconds=left_s, timed=4 if args.small else 60,
        )  # fmt: skip
    return {"measured": told, "missing": {}}


def jobs(args: argparse.Namespace, work: Path, until_s: float) -> dict[str, Any]:
    job, names = job_of(args, work), tuple(args.contenders)
    rounds = 1 if args.small else args.rounds
    return peers_jobs.measure(job, work, args.envs, rounds=rounds, until_s=until_s, contenders=names)


def kills(args: argparse.Namespace, work: Path, until_s: float) -> dict[str, Any]:
    """A store whose turn comes after the time is up is reported as such."""
    result: dict[str, Any] = {"stores": {}, "missing": {}}
    table, number = str(work / "killed-rows"), 2 if args.small else args.kills
    with Workers(args.envs, work) as workers:
        workers.of(OWN).call("peers_kills:drawn_rows", folder=table, small=args.small)
        for name in (peers_rows.OURS, *peers_rows.BY_NAME):
            unlike = name == peers_rows.OURS or peers_rows.BY_NAME[name].killed
            if not unlike or (args.stores and name not in args.stores):
                continue
            if time.monotonic() > until_s:
                result["missing"][name] = "not run: the minutes were up"
                continue
            try:
                result["stores"][name] = _killed(workers, name, table, work, number, args)
            except NotInstalled as error:
                result["missing"][name] = f"not installed: {error}"
            except CallFailed as error:
                result["missing"][name] = f"failed: {error}"
    return result


def _killed(
    workers: Workers, name: str, table: str, work: Path, number: int, args: argparse.Namespace
) -> dict[str, Any]:
    asked: dict[str, Any] = {"work": str(work), "kills": number, "seed": args.seed}
    if name == peers_rows.OURS:
        told = workers.of(OWN).call("peers_kills_ours:trials", small=args.small, **asked)
    else:
        env = peers_rows.STORES[peers_rows.BY_NAME[name]]
        told = workers.of(env).call("peers_kills:trials", store=name, table=table, **asked)
    return dict(told)


def job_of(args: argparse.Namespace, work: Path) -> peers_jobs.Job:
    """What is trained: the data that was given, or drawn noise and a teacher with random weights."""
    if args.small or args.data is None:
        images = SMALL_JOB_IMAGES if args.small else args.images
        data = drawn_images(work, images, side_px=32)
        temperatures = peers_jobs.TEMPERATURES[:2] if args.small else peers_jobs.TEMPERATURES
        weights, teacher = work / "random.safetensors", "resnet20a" if args.small else args.teacher
        peers_hand.save_random(teacher, str(weights))
        epochs = 1 if args.small else args.epochs
        return peers_jobs.Job(data, weights, teacher, "resnet8", epochs, images, temperatures)
    data, images = cut(args.data.absolute(), args.images, work)
    return peers_jobs.Job(data, args.weights.absolute(), args.teacher, "resnet8", args.epochs, images)


def cut(data: Path, images: int, work: Path) -> tuple[Path, int]:
    """The file itself where it has no more training images, else a copy; and how many there are."""
    with np.load(data) as arrays:
        if len(arrays["y_train"]) <= images:
            return data, len(arrays["y_train"])
        copied = {name: values[:images] for name, values in arrays.items() if name[:2] in ("x_", "y_")}
    file = work / f"{data.stem}-{images}.npz"
    np.savez(file, **copied)
    return file, images


def cost_chart(result: dict[str, Any], job: dict[str, Any]) -> str:
    """Of the first round of every contender."""
    run, num_runs = job["steps"] * job["batch"], len(job["temperatures"])
    lines = {name: peers_page.points(each[0], run, num_runs) for name, each in result.items() if each}
    return peers_page.chart(lines, "Ablations of one teacher: seconds until a student is trained")


def arguments(words: list[str]) -> argparse.Namespace:
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=60.0, help="a part begins no round after them")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, help="npz file of 32x32 images [drawn noise]")
    parser.add_argument("--weights", type=Path, help="of the teacher [random]")
    parser.add_argument("--teacher", default="resnet56a")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--images", type=int, default=5000, help="training rows of --data that are used")
    parser.add_argument("--stores", action="append", default=[], help="of rows and kills: only these")
    parser.add_argument("--contenders", action="append", default=[], help="of jobs: only these")
    parser.add_argument("--envs", type=Path, default=Path("bench-out/peers-envs"))
    parser.add_argument("--out", type=Path, default=Path("bench-out/peers"))
    parser.add_argument("--small", action="store_true", help="seconds a part, to try it out")
    args = parser.parse_args(words)
    args.only = args.only.split(",")
    if args.data and not args.weights:
        parser.error("--data needs --weights of a teacher that knows it")
    if unknown := [part for part in args.only if part not in PARTS]:
        parser.error(f"--only takes {', '.join(PARTS)}, not {', '.join(unknown)}")
    return args


def measured(args: argparse.Namespace) -> dict[str, Any]:
    """Part -> what it gave; each is written as soon as it is there."""
    measures = {"rows": rows, "streams": streams, "jobs": jobs, "kills": kills}
    result: dict[str, Any] = {"machine": machine(), "command": " ".join(sys.argv)}
    args.out.mkdir(parents=True, exist_ok=True)
    for part in args.only:
        print(f"{part} ...", file=sys.stderr, flush=True)
        work = Path(tempfile.mkdtemp(prefix=f"kdcache-peers-{part}-"))
        result[part] = measures[part](args, work, time.monotonic() + 60 * args.minutes)
        shutil.rmtree(work, ignore_errors=True)
        whole = {"machine": result["machine"], "command": result["command"], part: result[part]}
        (args.out / f"{part}.json").write_text(json.dumps(whole, indent=1) + "\n")
    return result


def main(words: list[str] | None = None) -> None:
    args = arguments(sys.argv[1:] if words is None else words)
    result = measured(args)
    page = peers_page.markdown(result)
    (args.out / "peers.md").write_text(page)
    if any(result.get("jobs", {}).get("rounds", {}).values()):
        svg = cost_chart(result["jobs"]["rounds"], result["jobs"]["job"])
        (args.out / "cost.svg").write_text(svg)
    print(page)


if __name__ == "__main__":
    main()
