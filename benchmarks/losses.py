"""Forward and backward time and peak memory of every loss, next to a plain student step.

    .venv/bin/python benchmarks/losses.py [--device cpu] [--scale 4] [--only afdcd kd] [--repeats 3]

Sizes are those of the papers: segmentation, two images of 512x1024 pixels on one GPU, ResNet-101 -> ResNet-18
(stage 4 2048 and 512 channels, neck 256 and 128, 19 classes, 64x128 cells); classification, 64 images of
CIFAR-100, resnet32x4 -> resnet8x4. On a CPU both sides of the maps are divided by --scale; on a GPU it is 1.
Each loss runs in a process of its own, so that its peak is its own: on a CPU the largest resident size above
that with inputs and modules in place, on a GPU the allocator's peak above the same. Losses without a cached
teacher are left out: their cost is that of the networks they train.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from kdcache.cache.networks.build import build_network
from kdcache.cache.spec import Task, TensorSpec
from kdcache.cache.tasks.table import CLASSIFICATION, SEGMENTATION
from kdcache.losses.contract import Facts, LossTerm
from kdcache.losses.loss_set import LossSet
from kdcache.losses.plan.load import load_loss
from kdcache.losses.plan.plan import LossPlan, parse_losses
from kdcache.losses.plan.table import LOSSES
from kdcache.losses.step_inputs import StepInputs

IMAGES: Mapping[Task, int] = {SEGMENTATION: 2, CLASSIFICATION: 64}
CLASSES: Mapping[Task, int] = {SEGMENTATION: 19, CLASSIFICATION: 100}
CROP = (512, 1024)  # pixels, divided by --scale
SAMPLES = 50_000  # of CIFAR-100, for memories
DENSE = {  # tap -> channels of student, of teacher; here all at stride 8
    "stage1": (64, 256), "stage2": (128, 512), "stage3": (256, 1024), "stage4": (512, 2048),
    "neck": (128, 256), "logits": (19, 19), "aux": (19, 19),
}  # fmt: skip
CIFAR: Mapping[str, tuple[int, ...]] = {  # tap -> shape of both sides, channels last
    "stem": (32, 32, 32),
    **{f"{kind}1": (32, 32, 64) for kind in ("stage", "pre")},
    **{f"{kind}2": (16, 16, 128) for kind in ("stage", "pre")},
    **{f"{kind}3": (8, 8, 256) for kind in ("stage", "pre")},
    "embedding": (256,),
    "logits": (100,),
}


def tap_specs(task: Task, scale: int) -> tuple[dict[str, TensorSpec], dict[str, TensorSpec]]:
    """What student and teacher give, by tap."""
    if task == SEGMENTATION:
        cells = (CROP[0] // 8 // scale, CROP[1] // 8 // scale)
        student = {tap: TensorSpec((*cells, pair[0]), 8) for tap, pair in DENSE.items()}
        return student, {tap: TensorSpec((*cells, pair[1]), 8) for tap, pair in DENSE.items()}
    both = {tap: TensorSpec(s, 32 // s[0] if len(s) > 1 else 0) for tap, s in CIFAR.items()}
    return both, both


def tensors(specs: Mapping[str, TensorSpec], rows: int, device: str, *, grad: bool) -> dict[str, Tensor]:
    pairs = {}
    for tap, spec in specs.items():
        shape = (rows, spec.channels, *spec.shape[:-1])
        value = torch.randn(shape, device=device)
        pairs[tap] = (value.relu() if "stage" in tap else value).requires_grad_(grad)
    return pairs


def written(name: str, task: Task, scale: int) -> str:
    """The expression that is measured: a method with its companions, the critic alone under its own name."""
    levels = 4 if scale == 1 else 2  # of the critic, whose smallest map is 4 * 2^levels cells a side
    small = {"skds-holistic": f"(levels={levels})", "skds": "(skds-holistic=0)", "ifvd": "(skds-holistic=0)"}
    if (name, task) == ("mgd", CLASSIFICATION):
        return "mgd(tap=stage3)"  # the networks of CIFAR have three stages
    if (name, task) == ("pkd", SEGMENTATION):
        return "pkd(taps=logits)"  # no other pair of these maps has equal channels
    return name + small.get(name, "")


def prepare(name: str, task: Task, scale: int, device: str) -> tuple[LossSet, StepInputs]:
    plan: LossPlan = parse_losses(f"{written(name, task, scale)}+task(weight=0)", preset=None, task=task)
    student, teacher = tap_specs(task, scale)
    rows = IMAGES[task] * (4 if plan.turns else 1)
    labels_N = torch.arange(SAMPLES) % CLASSES[task]
    size = (CROP[0] // scale, CROP[1] // scale) if task == SEGMENTATION else (32, 32)
    classifier = torch.randn(CLASSES[task], 256)
    facts = Facts(task, CLASSES[task], SAMPLES, labels_N, classifier, 782.0, size)
    needs = {need.name: teacher[need.tap] for need in plan.needs if not need.reduction}
    losses = plan.build(student={tap: student[tap] for tap in student}, teacher=needs, facts=facts).to(device)
    label_shape = (rows, *size) if task == SEGMENTATION else (rows,)
    if name == "sskd":
        losses.get_buffer("terms.sskd.head_steps").fill_(1)  # as after the first stage
    inputs = StepInputs(
        student=tensors(
            {tap: student[tap] for tap in (*plan.student_taps, *_aux(plan))}, rows, device, grad=True
        ),
        teacher=tensors(needs, rows, device, grad=False),
        truth=torch.randint(0, CLASSES[task], label_shape, device=device),
        generator=torch.Generator(device),
        step=0,
        epoch=30,
        samples_B=torch.arange(rows),
        images_BHWC=torch.randint(0, 256, (rows, *size, 3), dtype=torch.uint8, device=device),
        rows_per_sample=4 if plan.turns else 1,
    )
    return losses, inputs


def _aux(plan: LossPlan) -> tuple[str, ...]:
    return tuple(plan.optional_student_taps)


def measure(name: str, task: Task, scale: int, device: str, repeats: int) -> dict[str, Any]:
    """Best time of some repeats and the peak above what the inputs and modules take, in this process."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    losses, inputs = prepare(name, task, scale, device)
    before = _memory(device)
    times_s = []
    for _ in range(repeats):
        began_s = time.perf_counter()
        losses(inputs).total.backward()
        _rivals(losses, inputs)
        if device != "cpu":
            torch.cuda.synchronize()
        times_s.append(time.perf_counter() - began_s)
    return {"ms": 1000 * min(times_s), "peak_mib": (_memory(device) - before) / 2**20}


def _rivals(losses: LossSet, inputs: StepInputs) -> None:
    """What a critic learns from after the student's step counts as the loss's cost too."""
    seen = inputs._replace(student={tap: value.detach() for tap, value in inputs.student.items()})
    for label in losses.rivals():
        term = losses.terms[label]
        assert isinstance(term, LossTerm)
        term.rival_loss(seen).backward()


def measure_step(task: Task, scale: int, device: str, repeats: int) -> dict[str, Any]:
    """Forward and backward of the plain student with its task loss."""
    torch.set_num_threads(1)
    classes = CLASSES[task]
    name = "r18" if task == SEGMENTATION else "resnet8x4"
    student = build_network(name, task=task, num_classes=classes, role="student").to(device).train()
    size = (CROP[0] // scale, CROP[1] // scale) if task == SEGMENTATION else (32, 32)
    rows = IMAGES[task]
    images = torch.randint(0, 256, (rows, *size, 3), dtype=torch.uint8, device=device)
    shape = (rows, *size) if task == SEGMENTATION else (rows,)
    labels = torch.randint(0, classes, shape, device=device)
    task_loss = parse_losses("none", preset=None, task=task).build(
        student=student.tap_specs(["logits"], *size), teacher={}
    )
    before = _memory(device)
    times_s = []
    for _ in range(repeats):
        began_s = time.perf_counter()
        maps = student(images, ("logits",))
        task_loss(StepInputs(maps, {}, labels, torch.Generator(), 0, 0)).total.backward()
        if device != "cpu":
            torch.cuda.synchronize()
        times_s.append(time.perf_counter() - began_s)
    return {"ms": 1000 * min(times_s), "peak_mib": (_memory(device) - before) / 2**20}


def _memory(device: str) -> int:
    """Bytes: the process's largest resident size so far, or the allocator's."""
    if device != "cpu":
        return int(torch.cuda.max_memory_allocated())
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def jobs(only: list[str]) -> list[tuple[str, Task]]:
    """('', task) is the plain step."""
    pairs: list[tuple[str, Task]] = [("", SEGMENTATION), ("", CLASSIFICATION)]
    for name, path in LOSSES.items():
        if ".peers." not in path:
            loss_class = load_loss(name, task=SEGMENTATION, where="benchmark")
            pairs += [
                (name, task) for task in loss_class.tasks if task in IMAGES
            ]  # inputs are made for these
    return [job for job in pairs if not only or job[0] in (*only, "")]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--scale", type=int, default=0, help="divides both sides of maps; 0: 4 on a CPU, else 1"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=[])
    parser.add_argument("--one", nargs=2, metavar=("NAME", "TASK"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    scale = args.scale or (4 if args.device == "cpu" else 1)
    if args.one:
        name, task = args.one
        pairs = (
            measure(name, task, scale, args.device, args.repeats)
            if name
            else measure_step(task, scale, args.device, args.repeats)
        )
        print(json.dumps(pairs))
        return
    print("| task | loss | forward and backward, ms | of the plain step | peak above its inputs, MiB |")
    print("|---|---|---|---|---|")
    plain: dict[str, float] = {}
    for name, task in jobs(args.only):
        command = [sys.executable, __file__, "--device", args.device, "--scale", str(scale)]
        command += ["--repeats", str(args.repeats), "--one", name, task]
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
        if answer.returncode:
            print(
                f"| {task} | {name} | failed: {answer.stderr.strip().splitlines()[-1][:80]} | | |", flush=True
            )
            continue
        result = json.loads(answer.stdout.splitlines()[-1])
        plain.setdefault(task, result["ms"])
        share = f"{100 * result['ms'] / plain[task]:.0f} %"
        label = name or "the plain student step"
        print(f"| {task} | {label} | {result['ms']:.1f} | {share} | {result['peak_mib']:.0f} |", flush=True)


if __name__ == "__main__":
    main()
