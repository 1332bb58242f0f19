"""The options of training, in the panels of `kdtrain --help`. `kdtrain` and `kdtrain chain` share them.

No option has a default of its own: every default lives in `TrainConfig`.
"""

from collections.abc import Callable, Collection
from typing import Any

import click

from kdcache.cli.shared import crop_option, device_option, option, threads_option

Function = Callable[..., None]
Decorator = Callable[[Function], Function]
Panel = tuple[str, tuple[str, ...]]  # title, flags

_WHAT: tuple[Decorator, ...] = (
    option("--student", text="r18, r50, resnet20, wrn-16-2, timm:NAME, package.module:factory ... [r18]"),
    option(
        "--loss",
        text="A method or a sum: none, kd, afdcd, 'cwd(tau=4,weight=3)+kd', package.module:Class. "
        "'kdtrain methods' lists all. [none]",
    ),
    option("--run", "--name", "run", text="Name of the folder under runs/. [from student and loss]"),
    option("--seed", type=int, text="[0]"),
)
_PIXELS: tuple[Decorator, ...] = (
    option("--data", text="Fresh views of NAME:FOLDER, such as camvid:DIR or cifar10:DIR."),
    option("--cache", text="Stored views: a path, or a name under caches/. [the only one]"),
    option("--online", is_flag=True, text="Targets from a live teacher instead of the cache."),
    option("--teacher", text="With --online: a run's name, then a network's."),
    option("--teacher-weights", text="With --online: weights file of a teacher that is no run."),
    option(
        "--views",
        type=click.Choice(["fresh", "stored"]),
        text="With --online: which views. [by --data/--cache]",
    ),
    crop_option,
    option(
        "--augment",
        text="With --data: what fresh views draw, such as 'pad=4,flip', 'rrc,flip,jitter=0.4,mixup=0.2' or "
        "none. [the dataset's own]",
    ),
)
_NETWORK: tuple[Decorator, ...] = (
    option(
        "--weights",
        text="none, imagenet, a tag or a file. [the backbone's imagenet; for classification none]",
    ),
    option("--init", text="Begin with the student and learned parts of this run."),
    option("--output-stride", type=int, text="Segmentation. [the cached teacher's, otherwise 8]"),
    option("--aux/--no-aux", default=None, text="Auxiliary head on stage 3. [on for segmenting ResNets]"),
    option("--ema", type=float, text="Decay of averaged weights, which are then judged and exported."),
)
_LENGTH: tuple[Decorator, ...] = (
    option("--steps", type=int, text="Optimizer steps. [40000]"),
    option("--epochs", type=float, text="Passes over the training samples, instead of --steps."),
    option("--batch-size", type=int, text="Samples per step over all processes. [16]"),
    option("--accumulate", type=int, text="Micro batches per step. [1]"),
)
_OPTIMIZER: tuple[Decorator, ...] = (
    option("--optimizer", type=click.Choice(["sgd", "adamw"]), text="[sgd]"),
    option("--lr", type=float, text="[0.02 for sgd, 0.0002 for adamw]"),
    option("--weight-decay", type=float, text="[0.0001 for sgd, 0.01 for adamw]"),
    option("--momentum", type=float, text="[0.9]"),
    option("--nesterov", is_flag=True, text="Nesterov's momentum, with sgd."),
    option("--clip", type=float, text="Largest norm of the student's gradient."),
    option(
        "--lr-schedule",
        type=click.Choice(["poly", "multistep", "cosine"]),
        text="How the rate falls over the run, whatever its length. [poly]",
    ),
    option("--poly-power", type=float, text="poly: rate = lr * (1 - step/steps) ** power. [0.9]"),
    option("--milestones", text="multistep: shares of the run after which it drops. [0.625,0.75,0.875]"),
    option("--lr-drop", type=float, text="multistep: factor of each drop. [0.1]"),
    option("--warmup-steps", type=int, text="A linear rise first, with any schedule. [0]"),
)
_MACHINE: tuple[Decorator, ...] = (
    device_option,
    option("--amp", type=click.Choice(["no", "bf16", "fp16"]), text="[no]"),
    option("--compile", "compile", is_flag=True, text="Compile the student with torch.compile."),
    option("--sync-bn/--no-sync-bn", default=None, text="[on for several GPU processes]"),
    threads_option,
)
_KEPT: tuple[Decorator, ...] = (
    option("--eval-every", type=int, text="Steps between validations. [only at the end]"),
    option("--save-every", type=int, text="Steps between checkpoints. [1000]"),
    option("--log", text="tensorboard, wandb, both with a comma, or none. [tensorboard]"),
)
FIRST_PANEL = "What is trained"
_PANELS: tuple[tuple[str, tuple[Decorator, ...]], ...] = (
    (FIRST_PANEL, _WHAT),
    ("Pixels and targets", _PIXELS),
    ("Student", _NETWORK),
    ("Length", _LENGTH),
    ("Optimizer and rate", _OPTIMIZER),
    ("Machine", _MACHINE),
    ("Kept and shown", _KEPT),
)


def train_options(*, without: Collection[str] = ()) -> Decorator:
    """Decorates a command with every option of training but those `without`, by parameter name."""

    def decorate(function: Function) -> Function:
        for _, decorators in reversed(_PANELS):
            for one in reversed(decorators):
                if _parameter(one).name not in without:
                    function = one(function)
        return function

    return decorate


def panels(*, without: Collection[str] = ()) -> list[Panel]:
    """Title and flags of each panel, in the order of the help."""
    found = []
    for title, decorators in _PANELS:
        kept = [p for p in (_parameter(one) for one in decorators) if p.name not in without]
        found.append((title, tuple(p.opts[0] for p in kept)))
    return found


def typed(given: dict[str, Any]) -> dict[str, Any]:
    """What a user wrote, with texts read that click leaves alone. Raises BadOption."""
    # Imported here: usage errors should not wait for it.
    from kdcache.trainer.config import parse_crop, parse_milestones

    readers: dict[str, Callable[[str], Any]] = {"crop": parse_crop, "milestones": parse_milestones}
    return {name: readers[name](value) if name in readers else value for name, value in given.items()}


def _parameter(decorator: Decorator) -> click.Parameter:
    """The option that a decorator adds."""

    def nothing(**_: Any) -> None: ...

    parameters: list[click.Parameter] = getattr(decorator(nothing), "__click_params__")  # noqa: B009
    return parameters[0]
