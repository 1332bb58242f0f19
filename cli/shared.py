"""What both commands share: errors as text with exit status 2, where things lie, options of one meaning."""

import errno
import os
import re
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, NoReturn, ParamSpec, TypeVar

import click
from click.core import ParameterSource
from rich_click import RichGroup

from kdcache.cache.errors import BadOption, KdError
from kdcache.cache.files.system import current_folder, out_of_memory, refused, touching, user_path
from kdcache.cache.networks.names import is_library
from kdcache.cache.processes.heap import keep_freed
from kdcache.cache.processes.stop import Stopped, signals
from kdcache.cache.processes.threads import calm
from kdcache.cache.record.advice import advised, forget
from kdcache.cache.spec import MOST_ROWS
from kdcache.cache.tasks.contract import TaskKind
from kdcache.cache.tasks.table import task_names, task_of
from kdcache.cache.trust import OPTION, consent, current_command, names_in
from kdcache.cache.views import crop as crop_size
from kdcache.cli.completing import offer_names
from kdcache.cli.terminal import AnyEncoding, beside_another, say_error, visible_usage

EXIT_KD_ERROR = 2
# What a command that a signal ends says of what it did, where it knows no more itself.
_KEPT = {
    "build": "finished shards are kept, the same command continues",
    "chain": "the same command continues the chain",
    "compact": "the same command finishes the copy",
    "demo": "the same command continues",
    "kdtrain": "no step was made; the same command starts again",
    "rm": "what was removed is gone, all else is as it was",
    "sweep": "the same command continues",
}
_DATA = ("--data", "--val-data")
CACHE_HELP = "A cache's name or its beginning, its folder, or 'TEACHER DATA'. [default: the only one]"
CAPTION = "Runs lie under runs/, caches under caches/, in $KDCACHE_HOME or the current folder."
_TYPED = "kdcache.typed"  # of a context: the words of the command line

P = ParamSpec("P")
R = TypeVar("R")


class KdGroup(RichGroup):  # type: ignore[misc]  # mypy skips rich_click
    """A command group that prints a KdError's three parts on stderr and exits with 2, those of an error of
    the operating system too.

    Every other exception is a bug and keeps its traceback. The current folder is searched last for modules,
    so that `package.module:Name` finds a user's own file from the installed command as from `python -m`.
    """

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self.params.append(trust_option())
        offer_names(self, self.name)

    def main(self, *arguments: Any, **attributes: Any) -> Any:
        calm()
        keep_freed()
        if os.environ.get("WORLD_SIZE", "1") != "1":
            # A rank that is gone costs the others pages of C++ frames, and the sentence that says it is ours.
            os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        with AnyEncoding():
            return super().main(*arguments, **attributes)

    def make_context(self, *arguments: Any, **attributes: Any) -> click.Context:
        with visible_usage():
            made: click.Context = super().make_context(*arguments, **attributes)
        return made

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.meta[_TYPED] = list(args)
        rest: list[str] = super().parse_args(ctx, args)
        return rest

    def invoke(self, ctx: click.Context) -> Any:
        typed = ctx.meta[_TYPED]
        forget()
        try:
            if (folder := current_folder()) not in sys.path:
                sys.path.append(folder)
            words = [str(ctx.info_name), *typed]
            with signals(), visible_usage(), consent(_naming(typed), words):
                return super().invoke(ctx)
        except KeyboardInterrupt as stop:
            sys.exit(_stopped(stop, ctx.invoked_subcommand or str(ctx.info_name)))
        except Exception as error:
            if (known := as_kd_error(error)) is None:
                raise
            _end(known)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Every command takes `--trust`, and a shell completes what it names."""
        if not any(OPTION in one.opts for one in cmd.params):
            cmd.params.append(trust_option())
        offer_names(cmd, name or cmd.name)
        super().add_command(cmd, name)


def as_kd_error(error: Exception) -> KdError | None:
    """The three parts of an error that a user can do something about; None for a bug."""
    if isinstance(error, KdError):
        return error
    if isinstance(error, OSError):
        # a library's own, or a reader that has seen enough
        return None if error.errno in (None, errno.EPIPE) else refused(error, "")
    if isinstance(error, (MemoryError, RuntimeError)) and out_of_memory(error):
        return refused(OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)), "")
    return None


def _end(error: KdError) -> NoReturn:
    # Options are the same on every rank, and so is what cannot work of them; all else is a rank's own to say.
    if not (isinstance(error, BadOption) and beside_another()):
        say_error(f"error: {advised(str(error))}")
    sys.exit(EXIT_KD_ERROR)


def _stopped(stop: KeyboardInterrupt, command: str) -> int:
    """Say once, on the first rank, what a signal ended; the exit status."""
    said = stop.said if isinstance(stop, Stopped) else ""
    if os.environ.get("RANK", "0") == "0":
        say_error(f"stopped; {said or _KEPT.get(command, 'nothing was changed')}")
    return stop.status if isinstance(stop, Stopped) else 128 + signal.SIGINT


def _naming(words: list[str]) -> list[str]:
    """What names code: 'folder:DIR' behind --data looks alike and names none, 'module:Class:DIR' does."""
    names = []
    for before, word in zip(["", *words], words, strict=False):
        flag, equals, value = word.partition("=")
        if before in _DATA:
            names += _own_data(word)
        elif equals and flag in _DATA:
            names += _own_data(value)
        else:
            names += names_in([word])
    return names


def _own_data(spec: str) -> list[str]:
    if spec.count(":") < 2:  # the table of data sets, which imports much, is not asked
        return []
    from kdcache.cache.sources.table import own_name

    return [name] if (name := own_name(spec)) else []


def consented(context: click.Context) -> list[str]:
    """Modules, or MODULE:NAME, that this command line lets run: for the commands that it starts."""
    typed = context.find_root().meta[_TYPED]
    pairs = zip(["", *typed], typed, strict=False)
    trusted = [
        word.removeprefix(f"{OPTION}=")
        for before, word in pairs
        if OPTION in (before, word.partition("=")[0])
    ]
    named = [name for name in _naming(typed) if not is_library(name)]
    return list(dict.fromkeys(name for name in (*named, *trusted) if name != OPTION))


def trust_option() -> click.Option:
    """What it names was typed, and counts by being there."""
    return click.Option(
        [OPTION],
        multiple=True,
        expose_value=False,
        metavar="MODULE",
        callback=_trust_named,
        help="Code of somebody's own that files may name: a module, or MODULE:NAME. May be repeated.",
    )


def _trust_named(ctx: click.Context, parameter: click.Parameter, names: tuple[str, ...]) -> None:
    """For the rest of this command; `KdGroup.invoke` ends it."""
    del parameter
    ctx.find_root().with_resource(consent(names, current_command()))


def option(*names: str, text: str, **attributes: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A click option without a default of its own: one that was not written is not passed on."""
    decorated: Callable[[Callable[P, R]], Callable[P, R]] = click.option(*names, help=text, **attributes)
    return decorated


def crop_option(function: Callable[P, R]) -> Callable[P, R]:
    return option("--crop", text=f"{crop_size.HELP} [default: {crop_size.SAID}]")(function)


def quiet_option(function: Callable[P, R]) -> Callable[P, R]:
    return option("--quiet", is_flag=True, text="Say nothing but errors.")(function)


def json_option(function: Callable[P, R]) -> Callable[P, R]:
    return option("--json", "as_json", is_flag=True, text="Say it as one line of JSON, and nothing else.")(
        function
    )


def per_task(said: Callable[[TaskKind], str]) -> str:
    """What help says of each task, once where all agree, the first task unnamed: 'stage4, logits;
    classification: embedding, logits'.
    """
    texts = {name: said(task_of(name)) for name in task_names()}
    first, *others = texts
    different = (f"{name}: {texts[name]}" for name in others if texts[name] != texts[first])
    return "; ".join((texts[first], *different))


def written(context: click.Context) -> dict[str, Any]:
    """The options that the user wrote, by parameter name."""
    return {
        name: value
        for name, value in context.params.items()
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }


def home_folder() -> Path:
    """$KDCACHE_HOME, or the current folder."""
    from kdcache.cache.record.find import home_dir

    return home_dir()


@contextmanager
def folder_of(path: Path) -> Iterator[None]:
    """The folder of a file that the block writes: there before an hour of work that could not be kept. What
    was made of it is gone again where the block ends in an error. Raises Refused."""
    path, made = user_path(path), []
    try:
        with touching(f"'{path.name}' could not be written", path):
            made = [folder for folder in path.parents if not folder.is_dir()]  # the deepest first
            path.parent.mkdir(parents=True, exist_ok=True)
            if path.is_file() or not path.exists():  # and no pipe, /dev/stdout
                TemporaryFile(dir=path.parent).close()
        yield
    except BaseException:
        for folder in made:
            with suppress(OSError):  # it holds something
                folder.rmdir()
        raise


def parse_crop(text: str | None) -> tuple[int, int] | None:
    """'360' -> (360, 360), '360,480' -> (360, 480), height first; None stays None. Raises BadOption."""
    return None if text is None else crop_size.parse_crop(text)


def parse_count(text: str, flag: str) -> int:
    """A whole number above 0. Raises BadOption."""
    count = int(text) if text.isdecimal() and len(text) <= len(str(MOST_ROWS)) else 0
    if not 1 <= count <= MOST_ROWS:
        raise BadOption(
            f"'{text}' is no count above 0, at most {MOST_ROWS}",
            where=f"{flag} {text}",
            fix="give a whole number, or auto",
        )
    return count


def pick_device(text: str) -> str:
    """'auto' -> 'cuda' where torch sees one, otherwise 'cpu'; other names as they are. Raises BadOption."""
    import torch

    if text == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not re.fullmatch(r"cpu|cuda(:\d+)?", text):
        raise BadOption(f"no device '{text}'", where=f"--device {text}", fix="use auto, cpu, cuda or cuda:N")
    if text.startswith("cuda") and not torch.cuda.is_available():
        raise BadOption("torch sees no CUDA device", where=f"--device {text}", fix="use --device auto or cpu")
    return text
