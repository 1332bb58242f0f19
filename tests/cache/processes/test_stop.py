"""Signals: the first ends a command where it is, or when its work is done; the second ends it at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from kdcache.cache.processes import watch
from kdcache.cache.processes.stop import FORWARDED, Stopped, asked, finishing, signals
from kdcache.cache.processes.watch import LostRank, watching

WAITS = """
import sys, time
from kdcache.cache.processes.stop import finishing, signals
with signals(), finishing():
    print("ready", flush=True)
    time.sleep(1)
    while True:  # work that never asks
        time.sleep(1)
"""
PARENT = """
import sys
from kdcache.cache.processes.child import in_a_process
from kdcache.cache.processes.stop import Stopped, signals
with signals():
    try:
        in_a_process([sys.executable, "-c", sys.argv[1], sys.argv[2]])
    except Stopped as stop:
        sys.exit(stop.status)
"""
CHILD = """
import pathlib, sys, time
from kdcache.cache.processes.stop import asked, finishing, signals
with signals(), finishing():
    print("ready", flush=True)
    while not asked():
        time.sleep(0.05)
    time.sleep(0.5)  # longer than subprocess.run waits for a child after Ctrl-C
    pathlib.Path(sys.argv[1]).write_text("kept")
"""


@contextmanager
def started(code: str, *arguments: str, **environment: str) -> Iterator["subprocess.Popen[str]"]:
    """Killed in the end, with what it started: one that no signal ends would be waited for."""
    with subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **environment},
        start_new_session=True,
    ) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_raises_where_the_command_is(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with signals():
        with pytest.raises(Stopped) as stopped:
            os.kill(os.getpid(), number)
            time.sleep(5)
        assert stopped.value.number == asked() == number
    assert asked() == 0 and signal.getsignal(number) is before


def test_it_waits_for_work_and_not_inside_of_what_can_be_given_up() -> None:
    with signals(), finishing():
        os.kill(os.getpid(), signal.SIGTERM)
        assert asked() == signal.SIGTERM
    with signals(), finishing(), pytest.raises(Stopped), finishing(False):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_second_ends_a_process_that_never_asks(number: signal.Signals) -> None:
    with started(WAITS) as process:
        process.send_signal(number)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.3)
        process.send_signal(number)
        assert process.wait(3) == 128 + number


def test_what_a_launcher_hands_on_is_no_second_signal() -> None:
    """Ctrl-C reaches every process of a terminal, and the launcher sends it to its children once more."""
    with started(WAITS, **{FORWARDED: "1"}) as process:
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)
        time.sleep(1)
        process.send_signal(signal.SIGINT)
        assert process.wait(3) == 130


def test_torchrun_may_ask_twice_while_a_rank_says_why_it_ends() -> None:
    """SIGTERM comes when a rank is gone, and once more when torchrun ends. A Ctrl-C still counts."""
    with started(WAITS, WORLD_SIZE="2", TORCHELASTIC_RUN_ID="none") as process:
        process.send_signal(signal.SIGTERM)
        time.sleep(1.5)
        process.send_signal(signal.SIGTERM)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(3) == 130


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_child_keeps_its_work_before_its_parent_ends(tmp_path: Path, number: signal.Signals) -> None:
    with started(PARENT, CHILD, str(tmp_path / "kept")) as process:
        process.send_signal(number)
        assert process.wait(5) == 128 + number
    assert (tmp_path / "kept").read_text() == "kept"


class _RankThatIsEnded:
    """A rank whose launcher ends it while it finds out which other one is gone."""

    def __init__(self, *_: object, **__: object) -> None:
        self.start = self.leave = lambda *_: None
        self.speaks = lambda _: True

    def lost_now(self) -> LostRank:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)  # in which Python calls the handler
        return LostRank("rank 0 of 2 is gone", where="rank 0", fix="resume")


def test_a_rank_names_the_lost_one_although_the_launcher_ends_it_meanwhile(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(watch, "Watch", _RankThatIsEnded)
    monkeypatch.setattr(watch, "dist", SimpleNamespace(
        is_available=lambda: True, is_initialized=lambda: True, get_world_size=lambda: 2, get_rank=lambda: 1,
    ))  # fmt: skip
    with signals(), pytest.raises(LostRank, match="rank 0 of 2 is gone"):
        with watching(fix=str):
            raise RuntimeError("connection closed by peer")
    with signals(), pytest.raises(Stopped):  # the next command of this process is one that can be stopped
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)
