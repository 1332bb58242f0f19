"""A home with data, and a cache of a tiny teacher's logits, on which a sweep takes seconds."""

import shlex
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from click.testing import CliRunner, Result
from tiny_folder import draw_folder

from kdcache.cli.kdcache import main as kdcache
from kdcache.cli.kdtrain import kdtrain
from kdcache.trainer.bench.work import JUDGES_VARIABLE

STUDENT = "tiny_teacher:make"
TINY = ["--steps", "2", "--batch-size", "2", "--log", "none", "--device", "cpu"]
SWEEP = ["sweep", "--student", STUDENT, *TINY, "--name", "abl"]


def draw_home(home: Path) -> Path:
    """Splits train, val and test, and `caches/`; $KDCACHE_HOME must be `home`."""
    for split, count in (("train", 4), ("val", 2), ("test", 1)):
        draw_folder(home / "data", count, split)
    build = ["build", "--teacher", STUDENT, "--data", f"folder:{home / 'data'}", "--crop", "64,96"]
    done = CliRunner().invoke(kdcache, [*build, "--views", "crops:1", "--tap", "logits"])
    assert done.exit_code == 0, done.output
    return home


def copied(home: Path, to: Path) -> Path:
    """Another home with the same cache; the data stay where they are."""
    shutil.copytree(home / "caches", to / "caches")
    return to


def typed(*words: str) -> Result:
    """`kdtrain` in this process."""
    return CliRunner().invoke(kdtrain, list(words))


def typed_kdcache(*words: str) -> Result:
    return CliRunner().invoke(kdcache, list(words))


class Ended:
    """What a process that has ended says of itself."""

    def __init__(self, status: int) -> None:
        self.status = status

    def poll(self) -> int:
        return self.status

    def wait(self) -> int:
        return self.status

    def send_signal(self, number: int) -> None:
        del number


class InProcess:
    """Runs a sweep's commands in this process, in place of `work.launch`; `ends` says which runs end with a
    status at once instead. `judges`: whether one that trains hears that it is to judge too, as it does in a
    process of its own."""

    def __init__(self, ends: Mapping[str, int] | None = None) -> None:
        self.judges = False
        self.commands: list[list[str]] = []
        self.environments: list[dict[str, str]] = []
        self.ends = dict(ends or {})

    def __call__(self, command: list[str], log: IO[bytes], environment: dict[str, str]) -> Ended:
        self.commands.append(command)
        self.environments.append(environment)
        if (status := self.ends.get(run_of(command))) is not None:
            return Ended(status)
        told = environment[JUDGES_VARIABLE] if self.judges else None
        result = CliRunner().invoke(kdtrain, command[1:], env={JUDGES_VARIABLE: told})
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        log.write(result.output.encode())
        log.flush()
        return Ended(result.exit_code)

    @property
    def trained(self) -> list[str]:
        """Runs that were trained, in order."""
        return [run_of(command) for command in self.commands if command[1] != "judge-run"]

    @property
    def sets(self) -> list[list[str]]:
        """Runs that each process trained."""
        return [runs_of(command) for command in self.commands if command[1] != "judge-run"]


def runs_of(command: list[str]) -> list[str]:
    if command[1] != "train-together":
        return [run_of(command)]
    return [run_of(shlex.split(word)) for word in command if word.startswith("kdtrain ")]


def run_of(command: list[str]) -> str:
    if command[1] == "train-together":
        return command[1]
    return command[2] if command[1] == "judge-run" else command[command.index("--run") + 1]
