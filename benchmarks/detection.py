"""What detection costs beside the bare network, its stream and its judge.

    .venv/bin/python benchmarks/detection.py [--data coco:DIR] [--only build,step,stream,open,ap] [--rounds 5]

build   `kdcache build` of a gfl teacher's scores and boxes against the bare forward of it
step    a step from the cache against one whose targets lie in memory, the loss the same; and the assignment
        with all terms, forward and backward from the maps on, against that step without any stream
stream  images with their boxes against the same images without
open    `coco:DIR` of train2017's size (118,287 images, 860,001 boxes, drawn numbers) without its index and
        with it, each in a fresh process, imports not counted: seconds and the peak of memory
ap      average precision of 5,000 images with 99 boxes each, seconds of CPU

Drawn images of 480x640 pixels without `--data`. Networks have random weights: times do not depend on them.
`--scale 0.01` makes `open` and `ap` as much smaller, for a trial.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from itertools import repeat
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from accelerate import Accelerator
from bench_cache import build_from_run, make_run, parse_pair
from building import Builds, Forwards
from rounds import TIMED, Figure, figure, interleave, report, turn
from stepping import FixedTargets

from kdcache.cache.grid import levels_of_kinds
from kdcache.cache.images.feed import Feed
from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network_config import grid_of
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.reader.rows import pixel_feed
from kdcache.cache.tasks.contract import RowTruth
from kdcache.cache.tasks.table import DETECTION
from kdcache.losses.contract import Facts
from kdcache.losses.plan.plan import parse_losses
from kdcache.losses.step_inputs import StepInputs
from kdcache.trainer.assemble import student_taps
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.judge.detection_metrics import ImageBoxes, metrics_of
from kdcache.trainer.steps.step import Distiller, Stepper
from kdcache.trainer.stream.batch import Batch, BatchLayout
from kdcache.trainer.stream.stored import StoredStream

DRAWN_SIZE = (480, 640)
IMAGES, BOXES, CATEGORIES = 118_287, 860_001, 80  # of train2017
JUDGED, SAID, OBJECTS = 5_000, 99, 7  # images of val2017, boxes said of each, objects in each
GB = 1e9
Part = tuple[list[Figure], Mapping[str, object]]
OPEN = """
import json, resource, sys, time
from kdcache.cache.sources.table import open_source
began = time.perf_counter()
source = open_source(sys.argv[1], "train")
usable = int(source.usable_boxes.per_sample.sum())
spent = time.perf_counter() - began
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps({"seconds": spent, "peak_bytes": peak * 1024, "images": len(source.keys), "usable": usable}))
"""


class Work(NamedTuple):
    """A temporary home with data, a teacher of random weights and its cache."""

    home: Path
    cache: Cache
    args: argparse.Namespace


class WithoutBoxes(StoredStream):
    """Of the same rows the pixels alone."""

    def feed(self, micro_step: int) -> Feed:
        rows = self.rows(micro_step)
        return pixel_feed(self._cache, rows)._replace(truths=[RowTruth(np.zeros((0, 5)))] * len(rows))


class Steps:
    """The student, its trainer step, and an endless iterator of batches a stream."""

    def __init__(self, work: Work) -> None:
        cache, args = work.cache, work.args
        config = TrainConfig(run="bench", batch_size=args.batch_size, loss=args.loss, device="cpu")
        crop, classes = cache.manifest.crop, len(cache.manifest.class_names)
        student = build_network(args.student, task=DETECTION, num_classes=classes, role="student")
        teacher_grid = grid_of(cache.teacher_config)
        plan = parse_losses(args.loss, preset=None, task=DETECTION)
        plan = plan.with_levels(levels_of_kinds(student.grid), levels_of_kinds(teacher_grid))
        taps = student_taps(plan, student)
        self.losses = plan.build(
            student=student.tap_specs(taps, *crop),
            teacher={need.name: cache.tap(need.name).spec(*crop) for need in plan.needs},
            facts=Facts(DETECTION, classes, input_size=crop),
            student_grid=student.grid,
            teacher_grid=teacher_grid,
        )
        self.stepper = Stepper(config, Distiller(student, self.losses, taps), Accelerator(cpu=True))
        layout = BatchLayout(seed=0, global_batch=args.batch_size)
        cached = StoredStream(cache, needs=plan.needs, layout=layout)
        fixed = FixedTargets(cache, needs=(), layout=layout)
        self.streams = {"plain": fixed, "cached": cached}
        self.batches: dict[str, Iterator[Batch]] = {name: s.run() for name, s in self.streams.items()}
        batch = next(self.batches["cached"])
        fixed.fixed = cached.targets(batch)
        self.streams["memory"], self.batches["memory"] = fixed, repeat(batch)
        with torch.no_grad():
            maps = student(batch.images_BHWC, taps)
        self.inputs = StepInputs(
            maps, fixed.fixed, batch.truth, torch.Generator(), 0, 0, images_BHWC=batch.images_BHWC
        )
        self.count = 0

    def turn(self, name: str) -> Callable[[], float]:
        """Seconds per step of one stream, after the steps that use up what lies ready."""

        def step() -> None:
            self.stepper.step(self.count, self.batches[name], self.streams[name])
            self.count += 1

        return turn(step)

    def terms(self) -> float:
        """Seconds of assignment and terms on maps that are there, with their gradient."""
        began = time.perf_counter()
        for _ in range(TIMED):
            leaves = {tap: value.detach().requires_grad_() for tap, value in self.inputs.student.items()}
            self.losses(self.inputs._replace(student=leaves)).total.backward()
        return (time.perf_counter() - began) / TIMED

    def close(self) -> None:
        for stream in self.streams.values():
            stream.close()


def build_part(work: Work) -> Part:
    args = work.args
    builds = Builds(work.home, args.views, args.batch_size)
    builds.build()  # learns rows and taps
    network = build_network(args.teacher, task=DETECTION, num_classes=len(work.cache.manifest.class_names))
    forwards = Forwards(network, args.crop, args.batch_size, builds)
    seconds = interleave({"forward": forwards.forward, "build": builds.build}, args.rounds)
    name = f"build / bare teacher forward, {args.teacher} at {args.crop[0]}x{args.crop[1]}"
    return [figure(name, ">= 0.95", seconds["forward"], seconds["build"], skip=0)], {"build": seconds}


def step_part(work: Work) -> Part:
    steps = Steps(work)
    contenders = {name: steps.turn(name) for name in steps.streams} | {"terms": steps.terms}
    seconds = interleave(contenders, work.args.rounds)
    steps.close()
    figures = [
        figure("step from cache / plain step, same loss", "<= 1.03", seconds["cached"], seconds["plain"]),
        figure("assignment and all terms / step", "<= 0.10", seconds["terms"], seconds["memory"]),
    ]
    return figures, {"step": seconds}


def stream_part(work: Work) -> Part:
    layout = BatchLayout(seed=0, global_batch=work.args.batch_size)
    kinds = {"with": StoredStream, "without": WithoutBoxes}
    streams = {name: kind(work.cache, needs=(), layout=layout) for name, kind in kinds.items()}
    batches = {name: stream.run() for name, stream in streams.items()}
    assert next(batches["with"]).truth.shape[1] > next(batches["without"]).truth.shape[1] == 0

    turns = {name: turn(partial(next, one), timed=work.args.batches) for name, one in batches.items()}
    seconds = interleave(turns, work.args.rounds)
    for stream in streams.values():
        stream.close()
    name = "stream with boxes / images alone"
    return [figure(name, "<= 1.03", seconds["with"], seconds["without"])], {"stream": seconds}


def open_part(work: Work) -> Part:
    root = work.home / "train2017"
    written = write_json(root, work.args.scale)
    environment = {**os.environ, "KDCACHE_HOME": str(work.home / "indexed")}
    index = work.home / "indexed" / "indexes"

    def opened() -> dict[str, float]:
        command = [sys.executable, "-c", OPEN, f"coco:{root}"]
        done = subprocess.run(command, env=environment, check=True, capture_output=True)
        said: dict[str, float] = json.loads(done.stdout)
        return said

    runs: dict[str, list[dict[str, float]]] = {"without": [], "with": []}
    for _ in range(work.args.rounds):
        for file in index.glob("*.npz") if index.is_dir() else ():
            file.unlink()
        for name in runs:
            runs[name].append(opened())
    assert all(one["images"] == written for pair in runs.values() for one in pair)
    title = f"opening coco of {written} images"
    figures = [
        spread(f"{title}, with its index", "< 1", [one["seconds"] for one in runs["with"]], " s"),
        spread(f"{title}, without", "< 30", [one["seconds"] for one in runs["without"]], " s"),
        spread(f"{title}, without: peak", "< 4", [one["peak_bytes"] / GB for one in runs["without"]], " GB"),
    ]
    return figures, {"open": runs}


def ap_part(work: Work) -> Part:
    truths, said = judged(round(JUDGED * work.args.scale))
    names = [str(number) for number in range(CATEGORIES)]
    seconds = []
    for _ in range(work.args.rounds):
        began = time.process_time()
        metrics = metrics_of(truths, said, names)
        seconds.append(time.process_time() - began)
    assert 0 < metrics.figures.ap < 1
    title = f"average precision of {len(said)} images, {len(said) * SAID} boxes"
    return [spread(title, "< 15", seconds, " s of CPU")], {"ap": seconds}


def spread(name: str, target: str, values: Sequence[float], unit: str) -> Figure:
    return Figure(name, target, statistics.median(values), (min(values), max(values)), unit)


def write_json(root: Path, scale: float) -> int:
    """A json of boxes as train2017's is written, with its polygons' length of text; the number of images."""
    draws = np.random.default_rng(0)
    num_images, num_boxes = round(IMAGES * scale), round(BOXES * scale)
    owners = np.sort(draws.integers(0, num_images, num_boxes)).tolist()
    boxes = draws.uniform(1, 200, (num_boxes, 4)).round(2).tolist()
    polygon = draws.uniform(0, 600, 40).round(2).tolist()
    kinds = draws.integers(1, CATEGORIES + 1, num_boxes).tolist()
    annotations = [
        {"segmentation": [polygon], "area": box[2] * box[3] / 2, "iscrowd": 0, "image_id": owner, "bbox": box,
         "category_id": kind, "id": number}
        for number, (owner, box, kind) in enumerate(zip(owners, boxes, kinds, strict=True))
    ]  # fmt: skip
    images = [
        {"license": 3, "file_name": f"{number:012d}.jpg", "coco_url": "-" * 55, "height": 480, "width": 640,
         "date_captured": "2013-11-14 11:18:45", "flickr_url": "-" * 60, "id": number}
        for number in range(num_images)
    ]  # fmt: skip
    categories = [{"id": number, "name": f"class {number}"} for number in range(1, CATEGORIES + 1)]
    for folder in ("annotations", "train2017"):
        (root / folder).mkdir(parents=True)
    (root / "train2017" / f"{0:012d}.jpg").touch()
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations" / "instances_train2017.json").write_text(json.dumps(content))
    return num_images


def judged(num_images: int) -> tuple[list[np.ndarray], list[ImageBoxes]]:
    """Truths, and boxes of which some are near an object."""
    draws = np.random.default_rng(0)
    truths, said = [], []
    for number in range(num_images):
        corner, sides = draws.uniform(0, 400, (OBJECTS, 2)), draws.uniform(10, 200, (OBJECTS, 2))
        boxes, kinds = np.hstack([corner, corner + sides]), draws.integers(0, CATEGORIES, OBJECTS)
        area = sides.prod(1)
        ids = np.arange(OBJECTS) + number * OBJECTS
        truths.append(np.column_stack([boxes, kinds, np.zeros(OBJECTS), area, ids]))
        whose = draws.integers(0, OBJECTS, SAID)
        near = boxes[whose] + draws.normal(0, 12, (SAID, 4))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        guessed = np.where(draws.random(SAID) < 0.5, kinds[whose], draws.integers(0, CATEGORIES, SAID))
        said.append(ImageBoxes(number, near, np.sort(draws.random(SAID))[::-1], guessed))
    return truths, said


def drawn_data(given: str | None, home: Path, num_images: int) -> str:
    if given:
        return given
    from painted_objects import paint, write_coco  # tests/support, on the path since bench_cache

    write_coco(home / "drawn", [paint(number, DRAWN_SIZE) for number in range(num_images)])
    return f"coco:{home / 'drawn'}"


PARTS: Mapping[str, Callable[[Work], Part]] = {
    "build": build_part, "step": step_part, "stream": stream_part, "open": open_part, "ap": ap_part,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="coco:DIR [drawn images]")
    parser.add_argument("--images", type=int, default=64, help="of the drawn ones")
    parser.add_argument("--only", default=",".join(PARTS), help="parts, separated by commas")
    parser.add_argument("--teacher", default="gfl(width=128,convs=2):r18")
    parser.add_argument("--student", default="gfl(width=128,convs=2):r18")
    parser.add_argument("--loss", default="bckd")
    parser.add_argument("--views", default="fit")
    parser.add_argument("--crop", type=parse_pair, default=(192, 256), metavar="H,W")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--batches", type=int, default=16, help="of a turn of the stream")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    figures: list[Figure] = []
    measured: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="kdcache-detection-") as temporary:
        home = Path(temporary)
        data = drawn_data(args.data, home, args.images)
        make_run(home, "teacher", args.teacher, data, args.crop, 8)
        root = build_from_run(home, "teacher", caches="kept", views=args.views, batch_size=args.batch_size)
        work = Work(home, open_cache(root), args)
        for name in args.only.split(","):
            rows, seconds = PARTS[name](work)
            figures += rows
            measured |= seconds
    report("detection", figures, measured)


if __name__ == "__main__":
    main()
