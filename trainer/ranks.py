"""Where a run computes: device, ranks, precision, and the trackers that Accelerate opens for it."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from accelerate.tracking import TensorBoardTracker, get_available_trackers
from accelerate.utils import InitProcessGroupKwargs, ProjectConfiguration

from kdcache.cache.errors import BadOption
from kdcache.cache.processes.stop import TIMEOUT_S
from kdcache.cache.processes.threads import ThreadPlan, plan_threads
from kdcache.cache.spec import PRECISIONS
from kdcache.trainer.config import MachineOptions, TrainConfig
from kdcache.trainer.folder.environment import began_with
from kdcache.trainer.folder.options import TRACKERS, FolderOptions

_TENSORBOARD = "tensorboard"


class Ranks(NamedTuple):
    """This process among those of a run: its device and number, and how they add up what each has."""

    device: torch.device
    rank: int
    world: int
    amp: torch.dtype | None
    reduce: Callable[[torch.Tensor], torch.Tensor] | None  # sum over the ranks

    @property
    def device_id(self) -> int | None:
        """DALI's number of the device; None is the CPU."""
        return (self.device.index or 0) if self.device.type == "cuda" else None


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


def start_accelerator(config: TrainConfig, run_dir: Path, *, start: int, alone: bool = True) -> Accelerator:
    """Accelerate with this run's precision, accumulation and trackers.

    `start`: first step, for TensorBoard. Not `alone`: beside other runs of this process, which share device,
    precision and accumulation.
    """
    check_device(config.device, config.amp)
    torch.set_num_threads(training_threads(config, run_dir).torch)
    if alone:
        reset_accelerate()
    return Accelerator(
        mixed_precision=config.amp,
        gradient_accumulation_steps=config.accumulate,
        kwargs_handlers=[
            InitProcessGroupKwargs(timeout=timedelta(seconds=max(config.rank_timeout, TIMEOUT_S)))
        ],
        cpu=config.device == "cpu",
        log_with=_trackers(config, run_dir, start) or None,  # an empty list is warned about
        project_config=ProjectConfiguration(project_dir=str(run_dir)),
    )


def training_threads(config: TrainConfig, run_dir: Path) -> ThreadPlan:
    """The threads of a run. One that goes on computes with as many as it began with, where they may run:
    another number gives other bits."""
    on_gpu = config.device != "cpu" and torch.cuda.is_available()
    plan = plan_threads(config.threads, on_gpu=on_gpu)
    began = began_with(run_dir).get("torch_threads")
    if plan.said or not isinstance(began, int) or not 1 <= began <= plan.cores:
        return plan
    return plan._replace(torch=began)


def ranks_of(accelerator: Accelerator) -> Ranks:
    world = int(accelerator.num_processes)
    amp = PRECISIONS[accelerator.mixed_precision]

    def total(value: torch.Tensor) -> torch.Tensor:
        summed: torch.Tensor = accelerator.reduce(value, reduction="sum")
        return summed

    return Ranks(
        device=accelerator.device,
        rank=int(accelerator.process_index),
        world=world,
        amp=None if amp is None else getattr(torch, amp),
        reduce=total if world > 1 else None,
    )


def uses_sync_bn(options: MachineOptions, ranks: Ranks) -> tuple[bool, str]:
    """Whether batch statistics span the ranks, and a sentence when the default could not be followed."""
    if ranks.world == 1:
        return False, ""
    if ranks.device.type == "cpu":
        if options.sync_bn:
            raise BadOption(
                "--sync-bn on CPU ranks: torch synchronises batch statistics on GPUs only",
                where="--sync-bn",
                fix="leave it out, or use GPUs",
            )
        return False, "CPU ranks: batch statistics are not synchronised"
    return options.sync_bn is not False, ""


def start_trackers(accelerator: Accelerator, config: TrainConfig) -> None:
    """Open the trackers; the options become their hyperparameters."""
    if config.trackers:
        options = config.to_dict()
        flat = {name: value for name, value in options.items() if isinstance(value, (int, float, str, bool))}
        named = _named(config.run, Path(accelerator.project_dir))
        accelerator.init_trackers("kdcache", config=flat, init_kwargs=named)


@contextmanager
def quiet_trackers() -> Iterator[None]:
    """TensorBoard's thread prints a traceback of what the system refuses it and hands the error on to the
    thread that trains, which reports it: once is enough."""
    before = threading.excepthook

    def hook(thrown: threading.ExceptHookArgs) -> None:
        if getattr(thrown.exc_value, "errno", None) is None:
            before(thrown)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def reset_accelerate() -> None:
    """Accelerate keeps one state per process; a second run in this process would inherit the first one's."""
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


def _trackers(options: FolderOptions, run_dir: Path, start: int) -> list[Any]:
    """What accelerate opens; it passes over those that are not installed, so they are refused here."""
    available = {str(one) for one in get_available_trackers()}
    for name in options.trackers:
        if name not in available:
            raise BadOption(
                f"--log {name}, and {TRACKERS[name]} is not installed",
                where=f"--log {options.log}",
                fix=f"pip install {TRACKERS[name]}",
            )
    trackers: list[Any] = [name for name in options.trackers if name != _TENSORBOARD]
    if _TENSORBOARD in options.trackers and os.environ.get("RANK", "0") == "0":
        # purge_step: after a resume the curves continue at the checkpoint, without the killed run's tail.
        trackers.append(TensorBoardTracker(_TENSORBOARD, str(run_dir), purge_step=start))
    return trackers


def _named(run: str, run_dir: Path) -> dict[str, dict[str, str]]:
    """How each tracker is told the run's name; the others make up one."""
    return {
        "wandb": {"name": run},
        "mlflow": {"run_name": run},
        "trackio": {"name": run},
        "clearml": {"task_name": run},
        "swanlab": {"experiment_name": run},
        "dvclive": {"dir": str(run_dir / "dvclive")},  # else every run writes into one folder
    }
