"""Environments for benchmarks/peers.py: made on demand, one for each set of packages that go together.

Each is a venv of the project's own Python that sees the project's packages through a .pth file and holds only
a peer with what it lacks, at the versions pinned here: that saves gigabytes of torch. MosaicML Streaming
wants an older NumPy and stands alone, LitData too. What cannot be installed is reported with pip's reason,
never left out.
"""

import importlib.metadata
import json
import os
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
OWN = "project"  # the environment that runs the script
PINS = {
    "arrays": ("lmdb==3.0.0", "h5py==3.16.0", "tensorstore==0.1.86"),
    "torchdistill": ("torchdistill==1.1.4",),
    "litdata": ("litdata==0.2.76",),
    "mds": ("mosaicml-streaming==0.13.0",),
}
INSTALL_S, CALL_S = 1200, 1800
WHY_CHARS = 200  # of pip's last line


class NotInstalled(Exception):
    """An environment is not there; the text says why."""


class CallFailed(Exception):
    """What a worker was asked for raised; the text is the error's."""


class Env(NamedTuple):
    """An environment's name and its Python."""

    name: str
    python: Path


def made(name: str, folder: Path) -> Env:
    """The environment, made if it is not there. Raises NotInstalled with pip's reason."""
    if name == OWN:
        return Env(name, Path(sys.executable))
    root = folder.absolute() / name
    done = root / "installed.txt"
    wanted = "\n".join(PINS[name]) + "\n"
    if not done.is_file() or done.read_text() != wanted:
        _run([sys.executable, "-m", "venv", "--clear", str(root)])
        _see_project(root)
        _run([str(root / "bin/python"), "-m", "pip", "install", "--quiet", *PINS[name]])
        done.write_text(wanted)
    return Env(name, root / "bin/python")


def _see_project(root: Path) -> None:
    """The project's packages behind the environment's own, with its editable install."""
    packages = next(root.glob("lib/python*/site-packages"))
    seen = sysconfig.get_path("purelib")
    (packages / "project-packages.pth").write_text(f"import site; site.addsitedir({seen!r})\n")


def _run(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_S)
    except subprocess.TimeoutExpired as error:
        raise NotInstalled(f"not done after {INSTALL_S} s: {' '.join(command[:4])}") from error
    if done.returncode:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.startswith("ERROR")]
        said = lines[-1] if lines else f"exit status {done.returncode}"
        raise NotInstalled(said.removeprefix("ERROR: ")[:WHY_CHARS])


def versions(packages: Sequence[str]) -> dict[str, str]:
    """Of the packages that are in this environment. Called in a worker."""
    found_in: dict[str, str] = {}
    for package in packages:
        with suppress(importlib.metadata.PackageNotFoundError):
            found_in[package] = importlib.metadata.version(package)
    return found_in


class Worker:
    """A process in an environment that calls functions of this folder's modules; ends with the block."""

    def __init__(self, env: Env, log: Path) -> None:
        self.env = env
        self._log = log.open("ab")
        self._process = subprocess.Popen(
            [str(env.python), str(HERE / "peers_worker.py")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True, env=environment(),
        )  # fmt: skip

    def call(self, function: str, **arguments: object) -> Any:
        """`function` is 'module:name'. Raises CallFailed with what it raised, or when the process is gone."""
        assert self._process.stdin and self._process.stdout
        try:
            self._process.stdin.write(json.dumps({"call": function, "with": arguments}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise CallFailed(f"the process in '{self.env.name}' ended, see {self._log.name}")
        answer = json.loads(line)
        if "error" in answer:
            raise CallFailed(answer["error"])
        return answer["value"]

    def close(self) -> None:
        if self._process.stdin:
            with suppress(BrokenPipeError):
                self._process.stdin.close()
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stdout:
            self._process.stdout.close()
        self._log.close()


class Workers:
    """One worker for each environment, started when first asked for."""

    def __init__(self, envs: Path, work: Path) -> None:
        self._envs, self._work = envs, work
        self._running: dict[str, Worker] = {}
        self.missing: dict[str, str] = {}  # environment -> why it is not there

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._running.values():
            worker.close()

    def of(self, name: str) -> Worker:
        """Raises NotInstalled."""
        if name in self.missing:
            raise NotInstalled(self.missing[name])
        if name not in self._running:
            try:
                env = made(name, self._envs)
            except NotInstalled as error:
                self.missing[name] = str(error)
                raise
            self._running[name] = Worker(env, self._work / f"{name}.log")
        return self._running[name]


def environment() -> dict[str, str]:
    """Of every worker: no peer asks a network for news of itself."""
    quiet = {"DO_NOT_TRACK": "1", "LITDATA_DISABLE_VERSION_CHECK": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return os.environ | quiet
