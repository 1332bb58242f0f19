"""A training step from the cache against the plain step, and against the step with its teacher online.

    .venv/bin/python benchmarks/stepping.py [--data camvid:DIR] [--loss cwd] [--crop 128] [--rounds 7]

One student, one trainer step, four streams in turns of a few steps (seconds per step):
`plain`   stored views, images and labels only; the loss gets targets that lie in memory already
`cached`  stored views with their targets: what `kdtrain --loss cwd` does
`online`  stored views, targets from the teacher in memory: what `--online` does
`memory`  the same batch again and again: no stream at all
`hand`    with --hand: what a user would write for kd of a classifier, of the same network and batch
The loss is the same in all four, so `cached / plain` is the price of reading and decoding targets, and
`cached / memory` that of the whole stream. The teacher's forward alone (`teacher`) gives what online should
cost.
"""

import argparse
import copy
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path

import torch
from accelerate import Accelerator
from bench_cache import build_from_run, data_spec, make_run, parse_pair
from rounds import TIMED, figure, interleave, report, turn
from torch import Tensor
from torch.nn import functional

from kdcache.cache.networks.build import build_network
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.losses.plan.plan import parse_losses
from kdcache.trainer.assemble import student_taps
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.steps.step import Distiller, Stepper
from kdcache.trainer.stream.batch import Batch, BatchLayout, Stream
from kdcache.trainer.stream.online import OnlineStream
from kdcache.trainer.stream.stored import StoredStream


class FixedTargets(StoredStream):
    """A stored stream without targets, whose losses get the same ones every time."""

    fixed: dict[str, Tensor]

    def targets(self, batch: Batch) -> dict[str, Tensor]:
        return self.fixed


class Steps:
    """The student, its trainer step, and one endless iterator of batches per stream."""

    def __init__(self, cache: Cache, teacher: Network, args: argparse.Namespace) -> None:
        config = TrainConfig(
            run="bench", batch_size=args.batch_size, loss=args.loss, device="cpu", amp=args.amp
        )
        plan = parse_losses(args.loss, preset=None, task=cache.task)
        self.needs = plan.needs
        classes, stride = len(cache.manifest.class_names), cache.manifest.output_stride
        student = build_network(
            args.student, task=cache.task, num_classes=classes, output_stride=stride, aux=True, role="student"
        )
        taps = student_taps(plan, student)
        specs = {need.name: cache.tap(need.name).spec(*args.crop) for need in plan.needs}
        losses = plan.build(student=student.tap_specs(taps, *args.crop), teacher=specs)
        accelerator = Accelerator(cpu=True, mixed_precision=args.amp)
        self.stepper = Stepper(config, Distiller(student, losses, taps), accelerator)
        layout = BatchLayout(seed=0, global_batch=args.batch_size)
        cached = StoredStream(cache, needs=plan.needs, layout=layout)
        fixed = FixedTargets(cache, needs=(), layout=layout)
        bare = StoredStream(cache, needs=(), layout=layout)
        amp = torch.bfloat16 if args.amp == "bf16" else None
        online = OnlineStream(bare, teacher, plan.needs, "cpu", amp=amp)
        self.streams: dict[str, Stream] = {"plain": fixed, "cached": cached, "online": online}
        self.batches: dict[str, Iterator[Batch]] = {name: s.run() for name, s in self.streams.items()}
        batch = next(self.batches["cached"])
        fixed.fixed = cached.targets(batch)
        self.streams["memory"], self.batches["memory"] = fixed, repeat(batch)
        self.images_BHWC = batch.images_BHWC
        self.teacher = online
        self.count = 0

    def turn(self, name: str) -> Callable[[], float]:
        """Seconds per step of one stream, after the steps that use up what lies ready."""

        def step() -> None:
            self.stepper.step(self.count, self.batches[name], self.streams[name])
            self.count += 1

        return turn(step)

    def by_hand(self) -> Callable[[], float]:
        """Seconds per step of cross-entropy + kd at temperature 4, SGD with momentum and decay, and the loss
        read once per step, as loops do that print it."""
        student = copy.deepcopy(self.stepper.module.student).train()
        optimizer = torch.optim.SGD(student.parameters(), lr=0.02, momentum=0.9, weight_decay=1e-4)
        batch = next(self.batches["memory"])
        teacher_BK, truth_B = self.streams["memory"].targets(batch)["logits"] / 4, batch.truth.long()

        def step() -> None:
            logits_BK = student(batch.images_BHWC, ("logits",))["logits"]
            kd = functional.kl_div(
                (logits_BK / 4).log_softmax(1), teacher_BK.softmax(1), reduction="batchmean"
            )
            loss = functional.cross_entropy(logits_BK, truth_B) + 16 * kd
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            loss.item()

        return turn(step)

    def teacher_forward(self) -> float:
        batch = Batch(
            self.images_BHWC, self.images_BHWC[..., 0], {}, 0, 0, torch.arange(len(self.images_BHWC))
        )
        self.teacher.targets(batch)
        began = time.perf_counter()
        for _ in range(TIMED):
            self.teacher.targets(batch)
        return (time.perf_counter() - began) / TIMED

    def close(self) -> None:
        for stream in self.streams.values():
            stream.close()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", help="NAME:DIR [drawn images]")
    parser.add_argument("--images", type=int, default=32, help="of the drawn ones")
    parser.add_argument("--teacher", default="r18")
    parser.add_argument("--student", default="r18")
    parser.add_argument("--loss", default="cwd+kd")
    parser.add_argument("--crop", type=parse_pair, default=(128, 128), metavar="H,W")
    parser.add_argument("--output-stride", type=int, default=16)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--amp", choices=["no", "bf16"], default="no")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--hand", action="store_true", help="also a step written by hand (classifiers, kd)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kdcache-stepping-") as temporary:
        work = Path(temporary)
        data = data_spec(args.data, work, args.images)
        teacher = make_run(work, "teacher", args.teacher, data, args.crop, args.output_stride)
        root = build_from_run(work, "teacher", caches="caches", views="crops:1", batch_size=args.batch_size)
        steps = Steps(open_cache(root), teacher, args)
        contenders = {name: steps.turn(name) for name in steps.streams} | {"teacher": steps.teacher_forward}
        if args.hand:
            contenders["hand"] = steps.by_hand()
        seconds = interleave(contenders, args.rounds)
        steps.close()
    fair = [(t + p) / p for t, p in zip(seconds["teacher"], seconds["plain"], strict=True)]
    gain = [o / c for o, c in zip(seconds["online"], seconds["cached"], strict=True)]
    figures = [
        figure("step from cache / plain step, same loss", "<= 1.03", seconds["cached"], seconds["plain"]),
        figure("(online / cached) / ((teacher + step) / step)", ">= 0.95", gain, fair),
        figure("step from cache / step without any stream", "<= 1.06", seconds["cached"], seconds["memory"]),
    ]
    if args.hand:
        name = "step without any stream / the same step by hand"
        figures.append(figure(name, "<= 1.05", seconds["memory"], seconds["hand"]))
    report("stepping", figures, {"seconds_per_step": seconds, "online_over_cached": gain, "expected": fair})


if __name__ == "__main__":
    main()
