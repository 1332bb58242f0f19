"""What a careful user writes in an afternoon instead of a tool, for benchmarks/peers.py: arrays in memory.

    python peers_hand.py JOB.json

K views of each image (shift by up to 4 pixels, flip) are drawn once as numbers, the teacher answers each of
them once (float16 logits), and six students are trained one after the other in one process: a batch of crops
is one fancy index, pixels are channels last as they lie, the loss is logged each step, the student is saved
and judged, once on `val` and once on `test`. The networks are the project's, the formulas torch's. Prints a
line of JSON after each part of the job.
"""

import json
import math
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

PAD, SIDE = 4, 32
TEACHER_BATCH = 256


class Drawn(NamedTuple):
    """Padded images and the numbers of every view. N images, K views."""

    padded_NHWC: np.ndarray
    top_NK: np.ndarray
    left_NK: np.ndarray
    flip_NK: np.ndarray

    def cut(self, samples_B: np.ndarray, views_B: np.ndarray) -> np.ndarray:
        """(B,32,32,3) uint8."""
        along = np.arange(SIDE)
        across_BW = np.where(self.flip_NK[samples_B, views_B, None], along[::-1], along)
        rows_BH = self.top_NK[samples_B, views_B, None] + along
        columns_BW = self.left_NK[samples_B, views_B, None] + across_BW
        return self.padded_NHWC[samples_B[:, None, None], rows_BH[:, :, None], columns_BW[:, None, :]]


class Logits(nn.Module):
    """A network of the project as a plain one: normalised (B,3,32,32) -> logits (B,K)."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def forward(self, pixels_BCHW: Tensor) -> Tensor:
        logits: Tensor = self.network.read_normalised(pixels_BCHW, ["logits"])["logits"]
        return logits


def logits_of(network: Any) -> Logits:
    return Logits(network)


def mini(job: dict[str, Any], split: str) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels: the last tenth of the training rows is for validation, as the project parts them."""
    with np.load(job["data"]) as arrays:
        if split == "test":
            return arrays["x_test"], arrays["y_test"].astype(np.int64)
        images, labels = arrays["x_train"][: job["images"]], arrays["y_train"][: job["images"]]
    first = len(labels) - max(1, len(labels) // 10)
    part = slice(first) if split == "train" else slice(first, None)
    return images[part], labels[part].astype(np.int64)


def mini_networks(job: dict[str, Any]) -> tuple[Any, Any]:
    """The teacher with its weights and a fresh student."""
    from kdcache.cache.networks.build import build_network
    from kdcache.cache.spec import Task

    task: Task = "classification"
    teacher = build_network(job["teacher"], task=task, num_classes=10, weights=job["weights"])
    student = build_network(job["student"], task=task, num_classes=10, role="student")
    return teacher, student


def title(temperature: float | None) -> str:
    """Of an ablation."""
    return f"T={temperature:g}" if temperature else "none"


def save_random(name: str, file: str) -> None:
    """Weights for a network whose answers do not matter: nobody may teach without any."""
    from safetensors.torch import save_file

    from kdcache.cache.networks.build import build_network

    torch.manual_seed(0)
    network = build_network(name, task="classification", num_classes=10)
    # A teacher may lie in memory as channels_last, which that format has no word for.
    save_file({name: value.contiguous() for name, value in network.model.state_dict().items()}, file)


def draw(images_NHWC: np.ndarray, num_views: int) -> Drawn:
    rng, size = np.random.default_rng(0), (len(images_NHWC), num_views)
    padded = np.pad(images_NHWC, ((0, 0), (PAD, PAD), (PAD, PAD), (0, 0)))
    top, left = (rng.integers(0, 2 * PAD + 1, size) for _ in range(2))
    return Drawn(padded, top, left, rng.random(size) < 0.5)


def pixels(images_BHWC: np.ndarray, norm: nn.Module) -> Tensor:
    """Normalised (B,3,H,W), channels last in memory."""
    mean, std = norm.mean.view(1, 3, 1, 1), norm.std.view(1, 3, 1, 1)  # type: ignore[union-attr,operator]
    return torch.from_numpy(images_BHWC).permute(0, 3, 1, 2).float().div_(255).sub_(mean).div_(std)


@torch.no_grad()
def teacher_answers(teacher: Any, drawn: Drawn) -> Tensor:
    """(N,K,classes) float16."""
    model = logits_of(teacher).eval().to(memory_format=torch.channels_last)
    num_samples, num_views = drawn.top_NK.shape
    samples = np.repeat(np.arange(num_samples), num_views)
    views = np.tile(np.arange(num_views), num_samples)
    answers = []
    for first in range(0, len(samples), TEACHER_BATCH):
        run = slice(first, first + TEACHER_BATCH)
        answers.append(model(pixels(drawn.cut(samples[run], views[run]), teacher.normalise)).half())
    return torch.cat(answers).view(num_samples, num_views, -1)


def batches(job: dict[str, Any], drawn: Drawn, seed: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(samples, views) of every step: each epoch a new order, each sample with the next view."""
    num_samples, num_views = drawn.top_NK.shape
    rng, size = np.random.default_rng(seed), job["batch"]
    epochs = -(-job["steps"] * size // num_samples)
    order = np.concatenate([rng.permutation(num_samples) for _ in range(epochs)])
    epoch = np.repeat(np.arange(epochs), num_samples)
    for step in range(job["steps"]):
        run = slice(step * size, (step + 1) * size)
        yield order[run], (epoch[run] + order[run]) % num_views


def train(
    job: dict[str, Any],
    temperature: float | None,
    student: Any,
    drawn: Drawn,
    labels_N: Tensor,
    answers: Tensor,
    seed: int,
) -> float:
    """One ablation; returns the share of validation images that are right."""
    model = logits_of(student).train().to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), **job["sgd"])
    with Path(job["log"]).open("a") as log:
        for step, (samples, views) in enumerate(batches(job, drawn, seed)):
            rate = job["sgd"]["lr"] * (1 + math.cos(math.pi * step / job["steps"])) / 2
            for group in optimizer.param_groups:
                group["lr"] = rate
            said = model(pixels(drawn.cut(samples, views), student.normalise))
            hard = F.cross_entropy(said, labels_N[samples])
            loss = hard
            if temperature:
                teacher = (answers[samples, views].float() / temperature).log_softmax(1)
                soft = F.kl_div(
                    (said / temperature).log_softmax(1), teacher, reduction="batchmean", log_target=True
                )
                loss = 0.1 * hard + 0.9 * temperature**2 * soft
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            log.write(json.dumps({"step": step + 1, "loss": loss.item(), "lr": rate}) + "\n")
    torch.save(student.state_dict(), f"{job['log']}.student{seed}.pt")
    with Path(job["log"]).open("a") as log:
        log.write(json.dumps({"test": judge(job, model, student, "test")}) + "\n")
    return judge(job, model, student, "val")


@torch.no_grad()
def judge(job: dict[str, Any], model: nn.Module, student: Any, split: str) -> float:
    images, labels = mini(job, split)
    right = (model.eval()(pixels(images, student.normalise)).argmax(1) == torch.from_numpy(labels)).sum()
    return int(right) / len(labels)


def main() -> None:
    job, began = json.loads(Path(sys.argv[1]).read_text()), time.perf_counter()

    def say(label: str, score: float | None = None) -> None:
        print(json.dumps({"label": label, "at_s": time.perf_counter() - began, "score": score}), flush=True)

    images, labels = mini(job, "train")
    teacher, _ = mini_networks(job)
    drawn = draw(images, job["views"])
    answers = teacher_answers(teacher, drawn)
    say("teacher")
    for number, temperature in enumerate(job["temperatures"]):
        torch.manual_seed(number)
        _, student = mini_networks(job)
        say(
            title(temperature),
            train(job, temperature, student, drawn, torch.from_numpy(labels), answers, number),
        )


if __name__ == "__main__":
    main()
