"""Which values and which combinations of `kdtrain`'s options make sense, each refused by name."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from kdcache.cache.errors import BadOption, unknown

if TYPE_CHECKING:
    from kdcache.trainer.config import TrainConfig

# Drops of the rate at epochs 150, 180, 210 of 240, by 10 (Tian et al. 2020, appendix: CIFAR-100).
MILESTONES = (0.625, 0.75, 0.875)
LR_DROP = 0.1
POLY_POWER = 0.9
_CHOICES: dict[str, tuple[str, ...]] = {
    "optimizer": ("sgd", "adamw"),
    "lr_schedule": ("poly", "multistep", "cosine"),
    "amp": ("no", "bf16", "fp16"),
    "device": ("auto", "cpu", "cuda"),
    "views": ("fresh", "stored"),
}
_POSITIVE = (
    "steps",
    "epochs",
    "batch_size",
    "lr",
    "lr_drop",
    "accumulate",
    "threads",
    "eval_every",
    "save_every",
    "clip",
)
_NOT_NEGATIVE = ("weight_decay", "momentum", "poly_power", "warmup_steps", "seed")


def flag(name: str) -> str:
    """'batch_size' -> '--batch-size': the way a user wrote the option."""
    return "--" + name.replace("_", "-")


def bad(name: str, value: object, legal: str) -> BadOption:
    return BadOption(f"{flag(name)} cannot be {value}", where=f"{flag(name)} {value}", fix=f"give {legal}")


def check_config(config: "TrainConfig") -> None:
    """Raises BadOption for the first option that cannot work, alone or beside another one."""
    for name, legal in _CHOICES.items():
        value = getattr(config, name)
        if value is not None and value not in legal:
            raise unknown(f"value of {flag(name)}", str(value), legal, where=f"{flag(name)} {value}")
    for name in _POSITIVE + _NOT_NEGATIVE:
        _check_sign(name, getattr(config, name))
    if config.ema is not None and not 0 < config.ema < 1:
        raise bad("ema", config.ema, "a decay between 0 and 1, such as 0.999")
    if config.crop is not None and min(config.crop) < 1:
        raise bad("crop", config.crop, "H,W in pixels, such as 360,360")
    if config.batch_size % config.accumulate:
        raise bad("batch_size", config.batch_size, f"a multiple of --accumulate {config.accumulate}")
    for check in _CHECKS:
        check(config)


def _check_sign(name: str, value: float | None) -> None:
    if value is None:
        return
    if name in _POSITIVE and not value > 0:
        raise bad(name, value, "a number above 0")
    if name in _NOT_NEGATIVE and not value >= 0:
        raise bad(name, value, "0 or more")


def _check_run_name(config: "TrainConfig") -> None:
    run = config.run
    if not run or run.startswith(".") or "/" in run or "\\" in run:
        raise bad("run", repr(run), "a plain folder name; it is made under runs/")


def _check_schedule(config: "TrainConfig") -> None:
    """Milestones that rise inside the run, and no number that the chosen schedule would not read."""
    marks = config.milestones
    inside = all(0 < mark < 1 for mark in marks)
    if not marks or not inside or any(a >= b for a, b in zip(marks, marks[1:], strict=False)):
        shown = ",".join(f"{mark:g}" for mark in marks)
        raise bad(
            "milestones", shown or "empty", "rising shares of the run between 0 and 1, such as 0.5,0.75"
        )
    read = {"poly": ("poly_power",), "multistep": ("milestones", "lr_drop"), "cosine": ()}
    default = {"poly_power": POLY_POWER, "milestones": MILESTONES, "lr_drop": LR_DROP}
    for owner, names in read.items():
        for name in names:
            if owner != config.lr_schedule and getattr(config, name) != default[name]:
                raise BadOption(
                    f"{flag(name)} with --lr-schedule {config.lr_schedule}, which does not read it",
                    where=f"{flag(name)} {getattr(config, name)}",
                    fix=f"add --lr-schedule {owner}, or leave {flag(name)} out",
                )


def _check_nesterov(config: "TrainConfig") -> None:
    if config.nesterov and (config.optimizer != "sgd" or config.momentum == 0):
        used = f"--optimizer {config.optimizer} --momentum {config.momentum:g}"
        raise BadOption(
            "--nesterov without the momentum of sgd",
            where=f"--nesterov {used}",
            fix="use --optimizer sgd with a momentum above 0, or leave --nesterov out",
        )


def _check_start(config: "TrainConfig") -> None:
    if config.init and config.weights:
        raise BadOption(
            "--init and --weights together: both say what the student begins with",
            where=f"--init {config.init} --weights {config.weights}",
            fix="give one of them: --init takes a run's whole student, --weights a backbone",
        )


def _check_augment(config: "TrainConfig") -> None:
    if config.augment is not None and not config.data:
        raise BadOption(
            "--augment without --data: the views of a cache were drawn when it was built",
            where=f"--augment {config.augment}",
            fix="add --data NAME:FOLDER for fresh views, or build the cache with 'kdcache build --augment'",
        )


def _check_origin(config: "TrainConfig") -> None:
    """Which of --data, --cache, --online, --teacher, --views go together."""
    if config.data and config.cache:
        raise BadOption(
            "--data and --cache together: the first trains on fresh views, the second on stored ones",
            where=f"--data {config.data} --cache {config.cache}",
            fix="give one of them; '--online --teacher T --data D' is a live teacher on fresh views",
        )
    if config.online and not config.teacher:
        raise BadOption("--online without a teacher", where="--online", fix="add --teacher RUN_OR_NETWORK")
    if config.teacher and not config.online:
        raise BadOption(
            f"--teacher {config.teacher} without --online: a cached run loads no teacher",
            where=f"--teacher {config.teacher}",
            fix="add --online, or leave --teacher out to read its answers from the cache",
        )
    clash = {"stored": "data", "fresh": "cache"}.get(config.views or "")
    if clash and getattr(config, clash):
        raise BadOption(
            f"--views {config.views} and {flag(clash)} exclude each other",
            where=f"--views {config.views} {flag(clash)} {getattr(config, clash)}",
            fix="--views stored needs --cache, --views fresh needs --data",
        )


_CHECKS: tuple[Callable[["TrainConfig"], None], ...] = (
    _check_run_name,
    _check_schedule,
    _check_nesterov,
    _check_start,
    _check_augment,
    _check_origin,
)
