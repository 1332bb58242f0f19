"""Which values and which combinations of `kdtrain`'s options make sense, each refused by name.

What a training run is asked to do: one flat, validated record, kept as `config.toml` beside the results.

Steps: the command line gives options -> `TrainConfig` checks each of them -> `write_config` keeps them
together with what they were resolved to -> `read_config` reads them back, and `merge_for_resume` refuses to
continue a run under other options, because the result would be neither the old run nor a new one.
"""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import tomli_w

from kdcache.cache.errors import BadOption, Missing, unknown
from kdcache.trainer.folder.atomic_file import write_text

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


FILE_NAME = "config.toml"
# These change where and how fast a run computes, or what it keeps, not what it computes.
FREE_ON_RESUME = frozenset({"device", "threads", "log", "save_every"})
_DEFAULT_LR = {"sgd": 0.02, "adamw": 2e-4}
_DEFAULT_WEIGHT_DECAY = {"sgd": 1e-4, "adamw": 0.01}


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """Options of `kdtrain`, by the names of its flags.

    None stands for "decided from the data or the network".
    """

    run: str
    student: str = "r18"
    loss: str = "none"
    data: str | None = None  # 'camvid:/abs/dir': fresh views
    cache: str | None = None  # name under caches/ or a path: stored views
    online: bool = False
    teacher: str | None = None
    teacher_weights: str | None = None
    views: str | None = None
    steps: int = 40_000
    epochs: float | None = None  # when given, `steps` is computed from it
    batch_size: int = 16  # global: over all ranks and accumulated micro batches
    accumulate: int = 1
    optimizer: str = "sgd"
    lr: float | None = None
    weight_decay: float | None = None
    momentum: float = 0.9
    nesterov: bool = False
    lr_schedule: str = "poly"
    poly_power: float = POLY_POWER
    milestones: tuple[float, ...] = MILESTONES  # shares of the run after which the rate drops
    lr_drop: float = LR_DROP  # factor of each drop
    warmup_steps: int = 0
    clip: float | None = None  # largest norm of the student's gradient
    ema: float | None = None
    crop: tuple[int, int] | None = None  # (h, w) pixels
    augment: str | None = None  # recipe of fresh views, such as 'pad=4,flip'
    output_stride: int | None = None
    weights: str | None = None
    init: str | None = None  # a run whose student and learned parts this one begins with
    aux: bool | None = None
    seed: int = 0
    amp: str = "no"
    compile: bool = False
    sync_bn: bool | None = None
    eval_every: int | None = None
    save_every: int = 1_000
    threads: int = 1
    device: str = "auto"
    log: str = "tensorboard"

    def __post_init__(self) -> None:
        check_config(self)

    @property
    def base_lr(self) -> float:
        return _DEFAULT_LR[self.optimizer] if self.lr is None else self.lr

    @property
    def decay(self) -> float:
        return _DEFAULT_WEIGHT_DECAY[self.optimizer] if self.weight_decay is None else self.weight_decay

    @property
    def trackers(self) -> tuple[str, ...]:
        return tuple(part for part in self.log.replace(" ", "").split(",") if part not in ("", "none"))

    def with_steps(self, num_samples: int) -> "TrainConfig":
        """`steps` from `epochs`, where given: the fewest steps that see every sample `epochs` times."""
        if self.epochs is None:
            return self
        return replace(self, steps=max(1, -int(-self.epochs * num_samples // self.batch_size)))


def write_config(run_dir: Path, config: TrainConfig, resolved: Mapping[str, Any]) -> None:
    """Write `config.toml`: table `options` (read back by --resume) and table `resolved` (for people)."""
    tables = {"options": _without_none(asdict(config)), "resolved": _without_none(resolved)}
    write_text(run_dir / FILE_NAME, tomli_w.dumps(tables))


def read_config(run_dir: Path) -> TrainConfig:
    """The options of a run.

    Raises Missing when there is none, BadOption when the file names an unknown option.
    """
    path = run_dir / FILE_NAME
    if not path.is_file():
        raise Missing(f"no run in '{run_dir}'", where=str(path), fix="leave --resume out to start it")
    try:
        options = tomllib.loads(path.read_text())["options"]
    except (tomllib.TOMLDecodeError, KeyError, UnicodeDecodeError) as error:
        raise BadOption(
            f"{FILE_NAME} cannot be read: {error}",
            where=str(path),
            fix="repair the file, or start under another --run",
        ) from error
    legal = {field.name for field in fields(TrainConfig)}
    for name in options:
        if name not in legal:
            raise unknown("option", name, legal, where=str(path))
    options |= {name: tuple(options[name]) for name in ("crop", "milestones") if name in options}
    return TrainConfig(**options)


def merge_for_resume(stored: TrainConfig, given: Mapping[str, Any], *, where: str) -> TrainConfig:
    """The stored options, with those of `FREE_ON_RESUME` replaced by what the user gave now.

    `given` holds only what the user wrote. Raises BadOption naming the first option that differs.
    """
    for name, value in given.items():
        old = getattr(stored, name)
        if name not in FREE_ON_RESUME and value != old:
            why = " (the learning rate depends on it)" if name in ("steps", "epochs") else ""
            raise BadOption(
                f"{flag(name)} {value} differs from {old}, under which this run was started{why}",
                where=where,
                fix=f"leave {flag(name)} out, or start another run with --run NEW_NAME",
            )
    return replace(stored, **{name: value for name, value in given.items() if name in FREE_ON_RESUME})


def parse_crop(text: str) -> tuple[int, int]:
    """'360' -> (360, 360); '360,480' or '360x480' -> (360, 480): height before width, pixels."""
    parts = text.lower().replace("x", ",").split(",")
    if len(parts) > 2 or not all(part.strip().isdecimal() for part in parts):
        raise bad("crop", text, "H,W in pixels, such as 360,480, or one number for a square")
    sizes = [int(part) for part in parts]
    return sizes[0], sizes[-1]


def parse_milestones(text: str) -> tuple[float, ...]:
    """'0.5,0.75' or '50%,75%' -> (0.5, 0.75): shares of the run."""
    try:
        return tuple(
            float(part[:-1]) / 100 if part.endswith("%") else float(part)
            for part in text.replace(" ", "").split(",")
        )
    except ValueError:
        raise bad("milestones", text, "shares of the run, such as 0.625,0.75,0.875 or 50%,75%") from None


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null: an absent key stands for None. Tuples become arrays."""
    return {key: _plain(value) for key, value in table.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in value]
    return value
