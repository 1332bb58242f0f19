"""Where a run computes: device, ranks, precision; and evaluation spread over those ranks."""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.tracking import TensorBoardTracker
from accelerate.utils import ProjectConfiguration
from torch import nn

from kdcache.cache.errors import BadOption, unknown
from kdcache.cache.sources.contract import Source
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.judge.judge import evaluate_any
from kdcache.trainer.judge.metrics import Metrics
from kdcache.trainer.judge.segmentation import LogitsOf

TRACKERS = ("tensorboard", "wandb")
_DTYPES = {"no": None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Place(NamedTuple):
    """One rank's view of the machine."""

    device: torch.device
    rank: int
    world: int
    amp: torch.dtype | None
    reduce: Callable[[torch.Tensor], torch.Tensor] | None  # sum over the ranks

    @property
    def device_id(self) -> int | None:
        """DALI's number of the device; None is the CPU."""
        return (self.device.index or 0) if self.device.type == "cuda" else None

    def evaluation(
        self,
        source: Source,
        class_names: tuple[str, ...],
        *,
        input_size: tuple[int, int] | None = None,
        num_threads: int,
    ) -> Callable[[nn.Module], Metrics]:
        """A function that judges a network on `source`, each rank counting its share.

        `input_size` is (height, width) in pixels of a classifier's input; None is the source's own.
        """

        def judge(network: nn.Module) -> Metrics:
            return evaluate_any(
                network,
                source,
                task=source.task,
                device=self.device,
                class_names=class_names,
                input_size=input_size or source.default_crop,
                num_threads=num_threads,
                amp=self.amp,
                rank=self.rank,
                world=self.world,
                reduce=self.reduce,
            )

        return judge


def check_device(device: str, amp: str = "no") -> None:
    """Refuse what this machine cannot do."""
    if amp == "fp16" and (device == "cpu" or not torch.cuda.is_available()):
        raise BadOption(
            "--amp fp16 needs a CUDA device", where="--amp fp16", fix="use --amp bf16 or --amp no"
        )
    if device == "cuda" and not torch.cuda.is_available():
        raise BadOption(
            "--device cuda, and torch sees no CUDA device", where="--device cuda", fix="use --device auto"
        )


def start_accelerator(config: TrainConfig, run_dir: Path, *, start: int) -> Accelerator:
    """Accelerate with this run's precision, accumulation and trackers.

    `start`: first step, for TensorBoard.
    """
    check_device(config.device, config.amp)
    reset_accelerate()
    return Accelerator(
        mixed_precision=config.amp,
        gradient_accumulation_steps=config.accumulate,
        cpu=config.device == "cpu",
        log_with=_trackers(config, run_dir, start) or None,  # an empty list is warned about
        project_config=ProjectConfiguration(project_dir=str(run_dir)),
    )


def place_of(accelerator: Accelerator) -> Place:
    world = int(accelerator.num_processes)

    def total(value: torch.Tensor) -> torch.Tensor:
        summed: torch.Tensor = accelerator.reduce(value, reduction="sum")
        return summed

    return Place(
        device=accelerator.device,
        rank=int(accelerator.process_index),
        world=world,
        amp=_DTYPES[accelerator.mixed_precision],
        reduce=total if world > 1 else None,
    )


def uses_sync_bn(config: TrainConfig, place: Place) -> tuple[bool, str]:
    """Whether batch statistics span the ranks, and a sentence when the default could not be followed."""
    if place.world == 1:
        return False, ""
    if place.device.type == "cpu":
        if config.sync_bn:
            raise BadOption(
                "--sync-bn on CPU ranks: torch synchronises batch statistics on GPUs only",
                where="--sync-bn",
                fix="leave it out, or use GPUs",
            )
        return False, "CPU ranks: batch statistics are not synchronised"
    return config.sync_bn is not False, ""


def start_trackers(accelerator: Accelerator, config: TrainConfig, options: Mapping[str, Any]) -> None:
    """Open the trackers; the options become their hyperparameters."""
    if config.trackers:
        flat = {name: value for name, value in options.items() if isinstance(value, (int, float, str, bool))}
        accelerator.init_trackers("kdcache", config=flat, init_kwargs={"wandb": {"name": config.run}})


def reset_accelerate() -> None:
    """Accelerate keeps one state per process; a second run in this process would inherit the first one's."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def _trackers(config: TrainConfig, run_dir: Path, start: int) -> list[Any]:
    for name in config.trackers:
        if name not in TRACKERS:
            raise unknown("tracker", name, TRACKERS, where=f"--log {config.log}")
    if "wandb" in config.trackers and not _installed("wandb"):
        raise BadOption(
            "--log wandb, and wandb is not installed", where=f"--log {config.log}", fix="pip install wandb"
        )
    found: list[Any] = ["wandb"] if "wandb" in config.trackers else []
    if "tensorboard" in config.trackers and os.environ.get("RANK", "0") == "0":
        # purge_step: after a resume the curves continue at the checkpoint, without the killed run's tail.
        found.append(TensorBoardTracker("tensorboard", str(run_dir), purge_step=start))
    return found


def _installed(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def judge_alone(
    network: nn.Module | LogitsOf,
    source: Source,
    *,
    input_size: tuple[int, int],
    device: str,
    num_threads: int,
    teacher: nn.Module | None = None,
) -> Metrics:
    """Judge a network in this process, without Accelerate, in float32."""
    check_device(device)
    found = "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    if isinstance(network, nn.Module):
        network = network.to(found)
    return evaluate_any(
        network,
        source,
        task=source.task,
        device=found,
        class_names=tuple(source.class_names),
        input_size=input_size,
        num_threads=num_threads,
        teacher=None if teacher is None else teacher.to(found),
    )
