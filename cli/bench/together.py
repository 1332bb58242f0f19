"""`kdtrain train-together`, hidden: what a sweep calls for runs that read the same batches, in one process.

Each run is given as its own command line. What it prints alone goes into a log of its own; stdout gets a line
of JSON for each run that ended: its name, the status with which its own process would have ended, and that of
its judging.
"""

import shlex
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from kdcache.cache.files.system import touching
from kdcache.cache.processes.stop import Stopped
from kdcache.cache.record.advice import advised
from kdcache.cache.trust import consent, names_in
from kdcache.cache.visible import shell_line
from kdcache.cli.bench.judge_run import judge_splits
from kdcache.cli.shared import EXIT_KD_ERROR, as_kd_error, home_folder, written
from kdcache.cli.terminal import Terminal
from kdcache.cli.training.train_options import typed

if TYPE_CHECKING:
    from kdcache.trainer.together.group import Ended, Member


@click.command("train-together", hidden=True)
@click.argument("commands", nargs=-1, required=True)
@click.option("--logs", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.pass_context
def train_together(context: click.Context, commands: tuple[str, ...], logs: Path) -> None:
    """Train what each of COMMANDS trains, such as 'kdtrain --run a --loss kd', and judge it."""
    from kdcache.trainer.together import group

    root = context.find_root().command
    assert isinstance(root, click.Group)
    with ExitStack() as stack:
        speakers = {one.run: one for one in (_speaker(root, line, logs, stack) for line in commands)}
        finished: list[str] = []

        def ended(one: "Ended") -> None:
            if one.error is None:
                finished.append(one.name)  # told when it has been judged
            else:
                _tell(one.name, speakers[one.name].says(one.error))

        opened = _opening()
        group.train_together([one.member(opened) for one in speakers.values()], ended)
        for name in finished:
            _tell(name, 0, unjudged=speakers[name].judges())


def _tell(run: str, status: int, *, unjudged: int = 0) -> None:
    Terminal().document({"run": run, "status": status, "unjudged": unjudged})


class _Speaker(NamedTuple):
    """A run of the group: its command, its options as they were typed, and the log that hears of it."""

    words: tuple[str, ...]
    given: Mapping[str, Any]
    resume: bool
    terminal: Terminal
    listen: Any

    @property
    def run(self) -> str:
        return str(self.given["run"])

    def member(self, opened: Callable[..., Any]) -> "Member":
        from kdcache.trainer.run import training_of
        from kdcache.trainer.together.group import Member

        make = partial(training_of, self.given, home=home_folder(), resume=self.resume)
        return Member(self.run, self.words, partial(make, listen=self.listen, opened=opened))

    def judges(self) -> int:
        """Judge the finished run; the status with which its own process would have ended."""
        device, threads = self.given.get("device"), self.given.get("threads")
        try:
            with consent(names_in(self.words), self.words):
                judge_splits(self.run, device=device, threads=threads, terminal=self.terminal)
        except Exception as error:
            return self.says(error)
        return 0

    def says(self, error: Exception | Stopped) -> int:
        """The error in the log as the run alone would print it; the status of its own process."""
        if isinstance(error, Stopped):
            self.terminal.say(f"stopped; {error.said}")
            return error.status
        known = as_kd_error(error)
        lines = traceback.format_exception(error) if known is None else [f"error: {advised(str(known))}"]
        for line in "".join(lines).splitlines():
            self.terminal.say(line)
        return 1 if known is None else EXIT_KD_ERROR


def _speaker(root: click.Group, line: str, logs: Path, stack: ExitStack) -> _Speaker:
    """A run from its command line, read as `kdtrain` reads it."""
    from kdcache.cli.training.train_display import TrainDisplay

    words = tuple(shlex.split(line))
    with root.make_context(words[0], list(words[1:])) as context:
        given = written(context)
    resume = bool(given.pop("resume", False))
    path = logs / f"{given['run']}.log"
    with touching("the log of a run cannot be written", path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = stack.enter_context(path.open("a", encoding="utf-8", errors="backslashreplace", buffering=1))
    terminal = Terminal(file=file)
    terminal.say(f"$ {shell_line(words)}")
    listen = stack.enter_context(TrainDisplay(terminal))
    return _Speaker(words, typed(given), resume, terminal, listen)


def _opening() -> Callable[..., Any]:
    """Opens data and caches, each once for all runs that name it alike."""
    from kdcache.trainer.stream.run_source import open_run_source

    known: dict[object, Any] = {}

    def opened(config: Any, home: Path, **of_run: Any) -> Any:
        named = ("data", "cache", "crop", "augment", "keep_empty", "teacher", "online")
        key = (home, *(getattr(config, name) for name in named), *sorted(of_run.items()))
        if key not in known:
            known[key] = open_run_source(config, home, **of_run)
        return known[key]

    return opened
