"""A home with a cache and a run, the commands that use them as forked children, and what each child took.

The home always lies in the same folder, as a manifest names it. A run of three steps lies in it as a kill
after the second one left it, so that --resume has a step to make.
"""

import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

from cache_scene import SAMPLES, SHARD, living_rows
from tiny_folder import draw_folder
from warm_process import import_all, run_command

from kdcache.cache.errors import KdError
from kdcache.cache.fingerprint import digest_bytes
from kdcache.trainer.folder.metrics_log import read_metrics

FORMATS = ("zarr", "webdataset")
SUPPORT = Path(__file__).resolve().parents[1] / "tests" / "support"
LIMIT_S = 40.0
BUILD = (
    "kdcache build --teacher tiny_teacher:make --data {data} --views crops:2 --crop 32 --tap stage4 "
    f"--tap logits --shard-rows {SHARD} --batch-size 4 --device cpu --threads 1 --format"
)
TRAIN = (
    "kdtrain --loss mgd --student tiny_teacher:make --batch-size 4 --save-every 1 --device cpu --threads 1 "
    "--log none --steps 3 --run"
)
TIMES = ("steps_per_s", "wait_share")
Work = Callable[[], int]
NOT_KEPT = "not kept with the run: "


class Ran(NamedTuple):
    """How a child ended: its exit status (negative: a signal), what it printed, and what it took."""

    status: int
    text: str
    peak_mb: float
    seconds: float
    hang: bool = False

    @property
    def outcome(self) -> str:
        """'done', 'refused' in three parts, 'reported' by verify, else 'hang', 'died' or 'traceback'."""
        if self.hang:
            return "hang"
        if self.status < 0:
            return "died"
        if "Traceback (most recent call last)" in self.text:
            return "traceback"
        if self.status == 2:
            parts = ("error: ", "  where: ", "  fix:   ")
            return "refused" if all(part in self.text for part in parts) else "traceback"
        return {0: "done", 1: "reported"}.get(self.status, "traceback")

    @property
    def last(self) -> str:
        """The end of what was printed, on one line."""
        return " / ".join(self.text.strip().splitlines()[-4:])[-400:]


def child(work: Work, log: Path, limit_s: float = LIMIT_S) -> Ran:
    """Fork, work, wait; who takes longer than `limit_s` is killed with all that it started."""
    log.unlink(missing_ok=True)
    log.touch()
    start = time.monotonic()
    pid = os.fork()
    if pid == 0:
        os.setpgid(0, 0)
        os._exit(work())
    hang = False
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            break
        if time.monotonic() - start > limit_s and not hang:
            hang = True
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.005)
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)
    seconds = time.monotonic() - start
    text = log.read_bytes().decode("utf-8", "backslashreplace")
    return Ran(os.waitstatus_to_exitcode(status), text, usage.ru_maxrss / 1024, seconds, hang)


class Home:
    """`root`: data, caches and runs, with which every command of a case works; `kept` is how it was made."""

    def __init__(self, room: Path, target_format: str) -> None:
        self.room, self.target_format = room, target_format
        self.root, self.kept, self.log = room / "case", room / "kept", room / "log"

    @property
    def cache(self) -> Path:
        return next(p for p in sorted((self.root / "caches").iterdir()) if p.name.startswith("folder-"))

    def begin(self, changed: Callable[["Home"], object] | None = None) -> None:
        """As it was made, or as `changed` leaves it: with its times, so that nothing looks changed."""
        shutil.rmtree(self.root, ignore_errors=True)
        shutil.copytree(self.kept, self.root, copy_function=shutil.copy2)
        if changed is not None:
            changed(self)

    def words(self, name: str) -> list[str]:
        """A command by its short name."""
        build = f"{BUILD.format(data=f'folder:{self.root}/data')} {self.target_format}"
        line = {
            **dict.fromkeys(("build", "nothing", "grow"), build),
            "show": "kdcache show",
            "verify": "kdcache verify",
            "taps": "kdcache taps --teacher r",
            "first run": f"{TRAIN} r",
            "train": f"{TRAIN} s",
            "resume": f"{TRAIN} r --resume",
            "eval": "kdtrain eval r --device cpu",
        }[name]
        return line.split(" ")

    def run(
        self,
        name: str,
        before: Callable[[], object] = lambda: None,
        *,
        after: Callable[[], object] = lambda: None,
        environment: Mapping[str, str | None] | None = None,
        more: tuple[str, ...] = (),
    ) -> Ran:
        """A command in a child that first calls `before` and in the end `after`; variables of `environment`
        that are None are unset. 'rows' reads every row and prints a digest of each."""
        values = os.environ | {"KDCACHE_HOME": str(self.root), "PYTHONPATH": str(SUPPORT), "COLUMNS": "200"}
        changed = values | dict(environment or {})
        shown = {key: value for key, value in changed.items() if value is not None}

        def work() -> int:
            before()
            if name == "rows":
                return print_rows(self.cache, self.log)
            status = run_command([*self.words(name), *more], shown, self.log)
            after()
            return status

        return child(work, self.log)

    def result(self, name: str, ran: Ran) -> object:
        """What a command that ended well made, in a form that must not differ between two times."""
        if name in ("train", "resume"):
            return run_result(self.root / "runs" / ("s" if name == "train" else "r"))
        if name == "rows":
            return dict(line.rsplit(" ", 1) for line in ran.text.splitlines())
        if name == "eval":  # figures are said also where they cannot be kept beside the run, and that is said
            lines = ran.text.splitlines(keepends=True)
            return "".join(line for line in lines if not line.startswith(NOT_KEPT))
        return ran.text if name in ("show", "verify", "taps") else None


def print_rows(root: Path, log: Path) -> int:
    """Every living row, as the reader gives it; the exit status of a command."""
    with log.open("w") as out:
        try:
            rows = living_rows(root)
            out.writelines(f"{row} {digest_bytes(repr(parts).encode())}\n" for row, parts in rows.items())
        except KdError as error:
            out.write(f"error: {error}\n")
            return 2
        except BaseException:
            import traceback

            traceback.print_exc(file=out)
            return 1
    return 0


def run_result(run_dir: Path) -> object:
    """The student's bytes, its card and its figures without timings."""
    figures = [{k: v for k, v in line.items() if k not in TIMES} for line in read_metrics(run_dir)]
    student, card = ((run_dir / name).read_bytes() for name in ("student.safetensors", "network.json"))
    return digest_bytes(student), digest_bytes(card), repr(figures)


@cache
def made_home(target_format: str) -> Home:
    """A home with one cache and one run, as commands make them."""
    import_all()
    room = Path(tempfile.mkdtemp(prefix="kdcache-faults-"))
    room.chmod(0o755)  # another user may look inside
    home = Home(room, target_format)
    home.root.mkdir()
    draw_folder(home.root / "data", SAMPLES)
    draw_folder(home.root / "data", 2, "val")
    for name in ("build", "first run"):
        ran = home.run(name)
        if ran.outcome != "done":
            raise SystemExit(f"{name} of an honest home ends with {ran.status}: {ran.text[-2000:]}")
    home.root.rename(home.kept)
    return home


def killed_after_two(home: Home) -> None:
    """The run as if it had been killed in its third step."""
    run = home.root / "runs" / "r"
    shutil.rmtree(run / "checkpoints" / "step-00000003")
    for name in ("student.safetensors", "network.json"):
        (run / name).unlink()


@cache
def honest(target_format: str, name: str) -> tuple[object, Ran]:
    """What a command makes of the home as it is, and what it takes."""
    home = made_home(target_format)
    home.begin(before_of(name))
    ran = home.run(name)
    if ran.outcome != "done":
        raise SystemExit(f"an honest {name} ends with {ran.status}: {ran.text[-2000:]}")
    return home.result(name, ran), ran


def before_of(name: str) -> Callable[[Home], object] | None:
    """What is done to the home before a command has anything to do."""
    from cache_scene import Scene, add

    def grown(home: Home) -> None:
        add(Scene(home.root, home.target_format), "zzz", 2)

    def unbuilt(home: Home) -> None:
        shutil.rmtree(home.root / "caches")

    return {"build": unbuilt, "grow": grown, "resume": killed_after_two}.get(name)
