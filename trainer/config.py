"""What a training run is asked to do: one flat, validated record, kept as `config.toml` beside the results.

Steps: the command line gives options -> `TrainConfig` checks each of them -> `write_config` keeps them
together with what they were resolved to -> `read_config` reads them back, and `merge_for_resume` refuses to
continue a run under other options, because the result would be neither the old run nor a new one.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import tomli_w

from kdcache.cache.errors import BadOption, Missing, unknown
from kdcache.trainer.atomic_file import write_text
from kdcache.trainer.config_checks import LR_DROP, MILESTONES, POLY_POWER, bad, check_config
from kdcache.trainer.config_checks import flag as flag

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
