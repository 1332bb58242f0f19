"""Environments of faults.py: where a command finds itself, and what it does there and afterwards.

A command in a bad place ends in three parts or does what it does elsewhere; in the usual place the same
command then ends with the same bytes. What this machine does not allow (mounts, capabilities) counts as
'not possible here'.
"""

import ctypes
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from faults_errnos import JOBS, LOOKING, judged, reference
from faults_home import BUILD, FORMATS, SUPPORT, TRAIN, Home, before_of, child, made_home
from warm_process import run_command

NEWNS, BIND, RDONLY, REMOUNT, REC, PRIVATE = 0x20000, 0x1000, 0x1, 0x20, 0x4000, 0x40000
CAPABILITIES_V3 = 0x20080522
DESCRIPTORS = (16, 24, 32, 64, 128)
MORE_MEMORY_MB = (8, 64, 256)
FULL_KB = (0, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # free when the command begins
NAMES: dict[str, str] = {
    "spaces": "a b  c ",
    "quotes": "a'b\"c",
    "a newline": "a\nerror: x",
    "escape sequences": "\x1b]0;x\x07\x1b[2J",
    "bytes that are not UTF-8": os.fsdecode(b"a\xff\xfeb"),
    "a leading dash": "-rf",
    "200 characters": "x" * 200,
    "letters of other scripts": "猫\u202eא",
    "marks of a shell": "$(touch x);*?&|<>",
    "marks of a format": "%s{0}[red]\\n",
    "colons and commas": "a:b,c=d@e+f",
}
POSIX = {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
COLD: dict[str, dict[str, str]] = {
    "locale C": {"LC_ALL": "C"},
    "locale POSIX, file names in ASCII": POSIX,
    "output in ASCII": {"PYTHONIOENCODING": "ascii"},
    "locale C, output in ASCII": {"LC_ALL": "C", "PYTHONIOENCODING": "ascii"},
}
Case = tuple[str, Callable[[], dict[str, Any]]]


def environment_cases(small: bool) -> Iterator[Case]:
    """Every place and every job; `small` takes a part of each."""
    cases = list(_placed(small)) + list(_named(small))
    for target_format in FORMATS[: 1 if small else 2]:
        sizes = FULL_KB[1::4] if small else FULL_KB
        cases += [
            (f"{target_format} {job}, {kb} KiB left", partial(full, target_format, job, kb))
            for job in ("build", "grow", "train", "resume")
            for kb in sizes
        ]
    cases += [
        (f"{job}, {name}", partial(cold, job, values))
        for name, values in list(COLD.items())[: 1 if small else None]
        for job in ("show", "build", "train")[: 1 if small else 3]
    ]
    yield from cases


def _placed(small: bool) -> Iterator[Case]:
    formats = FORMATS[:1] if small else FORMATS
    number = 0
    for target_format in formats:
        for name, (enter, values) in places().items():
            for job in JOBS:
                number += 1
                if not small or number % 13 == 0:
                    yield f"{target_format} {job}, {name}", partial(placed, target_format, job, enter, values)


def _named(small: bool) -> Iterator[Case]:
    for name, text in list(NAMES.items())[:: 5 if small else 1]:
        yield f"names with {name}", partial(named, text)


# ---- places that a child enters ---------------------------------------------------------------------------


def places() -> dict[str, tuple[Callable[[Home], object], dict[str, str | None]]]:
    """Name -> (what the child does first, variables that are changed)."""
    made: dict[str, tuple[Callable[[Home], object], dict[str, str | None]]] = {}
    for part in ("caches", "runs", "data", ""):
        made[f"{part or 'everything'} read-only"] = (partial(_read_only, part), {})
        made[f"no permission to write {part or 'anything'}"] = (partial(_forbidden, part, 0o222), {})
        made[f"no permission to read {part or 'anything'}"] = (partial(_forbidden, part, 0o777), {})
    for number in DESCRIPTORS:
        made[f"{number} descriptors"] = (partial(_descriptors, number), {})
    for megabytes in MORE_MEMORY_MB:
        made[f"{megabytes} MB of address space"] = (partial(_memory, megabytes), {})
    made["HOME unset"] = (_nothing, {"HOME": None})
    made["HOME is nothing"] = (_nothing, {"HOME": "/nonexistent"})
    made["no environment"] = (_nothing, {name: None for name in ("HOME", "PATH", "USER", "LANG", "TERM")})
    made["a terminal of no width"] = (_nothing, {"COLUMNS": "1", "LINES": "1"})
    made["the current folder deleted"] = (_deleted, {})
    made["no folder for temporary files"] = (_nothing, {"TMPDIR": "/nonexistent"})
    return made


class NotPossible(Exception):
    """This machine does not let us."""


def _nothing(home: Home) -> None:
    del home


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments):
        raise NotPossible(f"{name}: {os.strerror(ctypes.get_errno())}")


def _read_only(part: str, home: Home) -> None:
    """In a mount namespace of the child's own, which ends with it."""
    path = os.fsencode(home.root / part)
    _call("unshare", NEWNS)
    _call("mount", None, b"/", None, REC | PRIVATE, None)
    if os.path.isdir(path):
        _call("mount", path, path, None, BIND, None)
        _call("mount", None, path, None, BIND | REMOUNT | RDONLY, None)


def _forbidden(part: str, taken: int, home: Home) -> None:
    """Bits of the modes are taken from all below `part`, and from root what passes over modes."""
    if not (home.root / part).exists():
        return
    for path in (home.root / part, *(home.root / part).rglob("*")):
        path.chmod(path.stat().st_mode & ~taken)
    header = (ctypes.c_uint32 * 2)(CAPABILITIES_V3, 0)
    _call("capset", header, (ctypes.c_uint32 * 6)())


def _descriptors(number: int, home: Home) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (number, number))


def _memory(megabytes: int, home: Home) -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + (megabytes << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _deleted(home: Home) -> None:
    gone = home.room / "gone"
    gone.mkdir()
    os.chdir(gone)
    gone.rmdir()


IMPOSSIBLE = 77  # exit status of a child that could not enter


def placed(
    target_format: str, job: str, enter: Callable[[Home], object], values: dict[str, str | None]
) -> dict[str, Any]:
    reference(target_format, job)
    home = made_home(target_format)
    home.begin(before_of(job))

    def before() -> None:
        try:
            enter(home)
        except NotPossible:
            os._exit(IMPOSSIBLE)

    ran = home.run(job, before, environment=values)
    for path in (home.root, *home.root.rglob("*")):
        path.chmod(0o755)
    if ran.status == IMPOSSIBLE:
        return {"not possible here": 1}
    if "COLUMNS" in values and job in LOOKING and ran.outcome == "done":
        return {"no harm": 1}  # tables are broken at other places
    return judged(home, job, ran)


# ---- a disk that fills ------------------------------------------------------------------------------------


def full(target_format: str, job: str, kilobytes: int) -> dict[str, Any]:
    """On a disk of its own with so much room left; then the disk grows."""
    reference(target_format, job)
    home = made_home(target_format)
    shutil.rmtree(home.root, ignore_errors=True)
    home.root.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "none", home.root], capture_output=True).returncode:
        home.root.rmdir()
        return {"not possible here": 1}
    try:
        shutil.copytree(home.kept, home.root, copy_function=shutil.copy2, dirs_exist_ok=True)
        if changed := before_of(job):
            changed(home)
        status = os.statvfs(home.root)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        _resize(home.root, (used >> 10) + kilobytes)
        ran = home.run(job)
        _resize(home.root, 1 << 20)
        return judged(home, job, ran)
    finally:
        subprocess.run(["umount", home.root], check=True)


def _resize(root: Path, kilobytes: int) -> None:
    subprocess.run(["mount", "-o", f"remount,size={kilobytes}k", root], check=True)


# ---- names and languages ----------------------------------------------------------------------------------


def named(text: str) -> dict[str, Any]:
    """Home, data, images and run of such names: every command of a story ends well or in three parts."""
    made = made_home("zarr")
    odd = Home(made.room / f"odd {text}", "zarr")
    shutil.rmtree(odd.room, ignore_errors=True)
    odd.room.mkdir()
    odd.root = odd.room / text
    shutil.copytree(made.kept / "data", odd.root / text, copy_function=shutil.copy2)
    for kind in ("images", "labels"):
        first = min((odd.root / text / "train" / kind).iterdir())
        first.rename(first.with_name(f"{text}{first.suffix}"))
    counts: dict[str, int] = {}
    build = BUILD.replace("folder:{data}", "{data}").split(" ")
    lines = (
        [*(word.replace("{data}", f"folder:{odd.root}/{text}") for word in build), "zarr"],
        ["kdcache", "show"], ["kdcache", "show", "--keys"], ["kdcache", "verify"],
        [*TRAIN.split(" ")[:-1], f"--run={text}"], [*TRAIN.split(" ")[:-1], f"--run={text}", "--resume"],
        ["kdtrain", "eval", "--device", "cpu", "--", text],
    )  # fmt: skip
    for words in lines:
        ran = child(partial(_command, words, odd), made.log)
        if ran.outcome not in ("done", "refused"):
            return {"failed": 1, ran.outcome: 1, "why": f"{words[:2]}: {ran.last}"}
        counts[ran.outcome] = counts.get(ran.outcome, 0) + 1
    shutil.rmtree(odd.room)
    return counts


def _command(words: list[str], home: Home) -> int:
    values = os.environ | {"KDCACHE_HOME": str(home.root), "PYTHONPATH": str(SUPPORT)}
    return run_command(words, values, home.room.parent / "log")


def cold(job: str, values: dict[str, str]) -> dict[str, Any]:
    """In a process of its own: a language is chosen when Python starts."""
    reference("zarr", job)
    home = made_home("zarr")
    home.begin(before_of(job))

    def work() -> int:
        module = "kdtrain" if home.words(job)[0] == "kdtrain" else "kdcache"
        path = os.pathsep.join([str(SUPPORT), os.environ.get("PYTHONPATH", "")])
        environment = (
            os.environ | {"KDCACHE_HOME": str(home.root), "PYTHONPATH": path, "COLUMNS": "200"} | values
        )
        with home.log.open("ab") as out:
            command = [sys.executable, "-W", "ignore", "-m", f"kdcache.cli.{module}", *home.words(job)[1:]]
            return subprocess.run(command, env=environment, stdout=out, stderr=out).returncode

    ran = child(work, home.log, 200)
    if job == "show" and ran.outcome == "done":
        return {"no harm": 1}  # tables are drawn with other letters
    return judged(home, job, ran)
