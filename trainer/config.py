"""What a training run is asked to do: one flat, validated record, kept as `config.toml` beside the results.

Steps: the command line gives options -> each section of `TrainConfig` checks its own -> `write_config` keeps
them together with what they were resolved to -> `read_config` reads them back, and `merge_for_resume` refuses
to continue a run under other options, because the result would be neither the old run nor a new one.

The file is for people, so its seal stands in a comment, the last line, and is compared on --resume alone.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import msgspec
import tomli_w

from kdcache.cache.errors import BadOption, Missing, Refused, unknown
from kdcache.cache.files.regular import TEXT_BYTES, read_regular, read_text
from kdcache.cache.files.system import touching
from kdcache.cache.fingerprint import digest_bytes
from kdcache.cache.processes.stop import MOST_TIMEOUT_S, TIMEOUT_S
from kdcache.cache.spec import MOST_SEED, MOST_THREADS, PRECISIONS
from kdcache.trainer.folder.atomic_file import write_text
from kdcache.trainer.folder.option_field import Legal, Section, about, flag, option, positive
from kdcache.trainer.folder.options import FolderOptions
from kdcache.trainer.folder.run_folder import CONFIG_NAME, no_run
from kdcache.trainer.steps.options import StepOptions
from kdcache.trainer.stream.options import StreamOptions
from kdcache.trainer.students.options import StudentOptions

_SEAL = "# compared on --resume, delete this line after a change of your own: "
_SEALED = re.compile(rb"\n" + re.escape(_SEAL.encode()) + rb"(x3:[0-9a-f]{32})\n\Z")
# Keys of the file's first version in their order; what came later follows in the order of the sections.
_FILE_ORDER = (
    "run", "student", "loss", "data", "cache", "online", "teacher", "teacher_weights", "views", "steps",
    "epochs", "batch_size", "accumulate", "optimizer", "lr", "weight_decay", "momentum", "nesterov",
    "lr_schedule", "poly_power", "milestones", "lr_drop", "warmup_steps", "clip", "ema", "crop", "augment",
    "output_stride", "weights", "init", "aux", "seed", "amp", "compile", "sync_bn", "eval_every",
    "save_every", "threads", "device", "log",
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class MachineOptions(Section):
    """Where a run computes and how precisely; ranks.py reads these."""

    device: str = option("auto", label="default: ", choices=("auto", "cpu", "cuda"), free_on_resume=True)
    amp: str = option("no", choices=tuple(PRECISIONS))
    compile: bool = option(False, help="Compile the student with torch.compile.")
    sync_bn: bool | None = option(None, said="on for several GPU processes")
    threads: int = option(
        1,
        help="Threads that decode images.",
        label="default: ",
        legal=Legal(f"a number from 1 to {MOST_THREADS}", lambda threads: 1 <= threads <= MOST_THREADS),
        free_on_resume=True,
    )
    rank_timeout: float = option(
        TIMEOUT_S,
        help="Seconds after which the others end, where one process gives no sign of life or stands still.",
        label="default: ",
        legal=positive(MOST_TIMEOUT_S),
        free_on_resume=True,
    )


@dataclass(frozen=True, kw_only=True)
class TrainConfig(MachineOptions, StreamOptions, StudentOptions, StepOptions, FolderOptions):
    """Options of `kdtrain`, by the names of its flags."""

    loss: str = option(
        "none",
        help="A method or a sum: none, kd, afdcd, 'cwd(tau=4,weight=3)+kd', package.module:Class. "
        "'kdtrain methods' lists all.",
    )
    recipe: str | None = option(  # 'afdcd' or 'afdcd@camvid'
        None,
        help="A published script's optimizer, rate, length, batch, crop and views: afdcd, cirkd@camvid. What "
        "you write wins. 'kdtrain methods' lists all.",
    )
    seed: int = option(0, legal=Legal("0 or more, below 2^63", lambda seed: 0 <= seed <= MOST_SEED))

    @property
    def asks_teacher(self) -> bool:
        return self.online or self.inherit is not None

    def check(self) -> None:
        super().check()
        if self.inherit and not self.teacher:
            raise BadOption(
                "--inherit without a teacher: a cache has its answers and not its weights",
                where=f"--inherit {self.inherit}",
                fix="add --teacher RUN, the run whose answers the cache holds",
            )

    def to_dict(self) -> dict[str, Any]:
        """Every option by name, in the order of `config.toml`."""
        names = [one.name for one in fields(self)]
        later = [name for name in names if name not in _FILE_ORDER]
        return {name: getattr(self, name) for name in (*_FILE_ORDER, *later)}


def write_config(run_dir: Path, config: TrainConfig, resolved: Mapping[str, Any]) -> None:
    """Write `config.toml`: table `options` (read back by --resume) and table `resolved` (for people)."""
    tables = {"options": _without_none(config.to_dict()), "resolved": _without_none(resolved)}
    text = tomli_w.dumps(tables)
    write_text(run_dir / CONFIG_NAME, f"{text}{_SEAL}{digest_bytes(text.encode())}\n")


def read_config(run_dir: Path) -> TrainConfig:
    """The options of a run.

    Raises Missing when there is none, BadOption when the file names an unknown option.
    """
    path = run_dir / CONFIG_NAME
    if not path.is_file():
        raise no_run(run_dir.parent, run_dir.name)
    values = _read_values(path, "repair the file, or start under another --run", bare=False)
    return TrainConfig(**values)


def read_options_file(path: Path) -> dict[str, Any]:
    """The options that a TOML file gives: its table `options`, as a run's own `config.toml` has it, else its
    top level. Without `run`, and without the `steps` that a run computed from its `epochs`.

    Raises Missing for no such file, BadOption for an unknown option or a value of another type.
    """
    if not path.is_file():
        raise Missing("there is no such file", where=f"--config {path}", fix="name a TOML file of options")
    values = _read_values(path, "repair the file", bare=True)
    computed = {"run", *(["steps"] if "epochs" in values else [])}
    return {name: value for name, value in values.items() if name not in computed}


def _read_values(path: Path, fix: str, *, bare: bool) -> dict[str, Any]:
    """`bare`: a file without the table `options` is that table itself."""
    try:
        with touching(f"'{path.name}' cannot be read", path):
            text = read_text(path)
        tables = tomllib.loads(text)
        options = tables if bare and "options" not in tables else tables["options"]
        if not isinstance(options, dict):
            raise ValueError("'options' is no table")
    except Refused:
        raise
    except (OSError, ValueError, KeyError, RecursionError) as error:
        raise BadOption(f"{path.name} cannot be read: {error}", where=str(path), fix=fix) from error
    legal = {one.name for one in fields(TrainConfig)}
    for name in options:
        if name not in legal:
            raise unknown("option", name, legal, where=str(path))
    values: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in options.items()
    }
    _check_types({"run": "unnamed", **values} if bare else values, path, fix)
    return values


def check_config_seal(run_dir: Path) -> None:
    """Raises BadOption when `config.toml` is not as it was written. A file without a seal is of before there
    were seals, or of a person who deleted it after a change."""
    path = run_dir / CONFIG_NAME
    content = read_regular(path, TEXT_BYTES)
    match = _SEALED.search(content)
    text = content if match is None else content[: match.start() + 1]
    commented = content.rstrip(b"\n").rpartition(b"\n")[2].startswith(b"#")
    if (match is None and not commented) or (match and match[1].decode() == digest_bytes(text)):
        return
    raise BadOption(
        f"{CONFIG_NAME} is not as the run wrote it, and --resume would go on under other options",
        where=str(path),
        fix="put the text back as it was; or delete its last line to go on with what it says now",
    )


def _check_types(values: Mapping[str, Any], path: Path, fix: str) -> None:
    """Raises BadOption for a value of another type than its option has."""
    try:
        msgspec.convert(values, type=TrainConfig)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, BadOption):  # a legal type, and no value for this option
            raise error.__cause__ from None
        raise BadOption(
            f"{path.name} holds an option of another type: {error}",
            where=str(path),
            fix=fix,
        ) from error


def start_words(config: TrainConfig, run: str) -> list[str]:
    """The command that starts a run with the options of another one, under the name `run`."""
    words = ["kdtrain", "--run", run]
    computed = {"run", *(["steps"] if config.epochs is not None else [])}
    for one in fields(config):
        value = getattr(config, one.name)
        if one.name in computed or value is None or value == one.default:
            continue
        if isinstance(value, bool):
            words.append(flag(one.name) if value else f"--no-{flag(one.name)[2:]}")
        elif isinstance(value, tuple):
            words += [flag(one.name), ",".join(map(str, value))]
        else:
            words += [flag(one.name), str(value)]
    return words


def merge_for_resume(stored: TrainConfig, given: Mapping[str, Any], *, where: str) -> TrainConfig:
    """The stored options, with those that are free on resume replaced by what the user gave now.

    `given` holds only what the user wrote. Raises BadOption naming the first option that differs.
    """
    free = {one.name for one in fields(TrainConfig) if about(one).free_on_resume}
    for name, value in given.items():
        old = getattr(stored, name)
        if name not in free and value != old:
            why = " (the learning rate depends on it)" if name in ("steps", "epochs") else ""
            raise BadOption(
                f"{flag(name)} {value} differs from {old}, under which this run was started{why}",
                where=where,
                fix=f"leave {flag(name)} out, or start another run with --run NEW_NAME",
            )
    return replace(stored, **{name: value for name, value in given.items() if name in free})


def _without_none(table: Mapping[str, Any]) -> dict[str, Any]:
    """TOML has no null: an absent key stands for None. Tuples become arrays."""
    return {key: _plain(value) for key, value in table.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, (tuple, list)):
        return [_plain(inner) for inner in value]
    return value
