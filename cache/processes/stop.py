"""Signals that end a command: Ctrl-C (SIGINT) and SIGTERM mean the same.

The first one raises `Stopped` where the main thread is, or waits where work is finished first (`finishing`).
The second ends the process at once, also while the main thread waits inside of a library: Python's own
handler writes every signal to a pipe, which a thread reads.
"""

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from kdcache.cache.visible import visible

TIMEOUT_S = 1800.0  # without a sign of life of another process; here, where nothing loads torch
MOST_TIMEOUT_S = 1e7  # 116 days: what a process group can still be told
STOPPING = (signal.SIGINT, signal.SIGTERM)
FORWARDED = "KDCACHE_FORWARDED"  # in the environment of a process to which another one hands its signals on
# A launcher hands on what the terminal has sent already: within this time it is one signal, not two.
_ECHO_S = 1.0
# torchrun ends the ranks that are left with SIGTERM, and again when it ends itself. In between they say why.
_TORCHRUN, _TORCHRUN_S = "TORCHELASTIC_RUN_ID", 15.0
_SHOW_CURSOR = b"\x1b[?25h"  # a live display hides it


class Stopped(KeyboardInterrupt):
    """A signal ended the command. `said` tells what is kept and how to go on; '' where nobody knows more."""

    def __init__(self, number: int, said: str = "") -> None:
        super().__init__(said or signal.Signals(number).name)
        self.number, self.said = number, said

    @property
    def status(self) -> int:
        """What a shell reports of a process that the signal ended: 130, 143."""
        return 128 + self.number


class _Command:
    """What signals mean in this process now."""

    asked = 0  # the first signal that came
    finishing = False  # whether it waits until work is finished
    failing = False  # whether the command ends by itself, with an error that is still to be said
    watched = False  # whether `signals` is in force


_now = _Command()


def asked() -> int:
    """The signal that asked this command to end; 0 while none did."""
    return _now.asked


@contextmanager
def finishing(on: bool = True) -> Iterator[None]:
    """Within it a signal only sets `asked`, and whoever works asks for it. With `on=False` it raises again.

    A signal that came while it waited raises nothing later: asking is the caller's part.
    """
    before, _now.finishing = _now.finishing, on
    try:
        yield
    finally:
        _now.finishing = before


def failing() -> None:
    """From now on the first signal is no news: this command ends with an error, and says which. A launcher
    that lost one rank ends the others while they find out whom they lost."""
    _now.failing = True


@contextmanager
def signals() -> Iterator[None]:
    """Within it SIGINT and SIGTERM end the command as described above. Only the main thread can listen."""
    if _now.watched or threading.current_thread() is not threading.main_thread():
        yield
        return
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    threading.Thread(target=_end_at_the_second, args=(reading,), name="signals", daemon=True).start()
    before = {number: signal.signal(number, _first) for number in STOPPING}
    pipe_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    _now.watched, _now.asked, _now.failing = True, 0, False
    try:
        yield
    finally:
        signal.set_wakeup_fd(pipe_before)
        for number, handler in before.items():
            signal.signal(number, handler)
        _now.watched, _now.asked, _now.failing = False, 0, False
        os.close(writing)  # the thread reads the end of the pipe


def end_now(status: int, text: str = "") -> None:
    """End the process without another word of its own: no other thread can hold it back."""
    if text:
        os.write(2, b"".join(f"{visible(line)}\n".encode() for line in text.split("\n")))
    if os.isatty(2):
        os.write(2, _SHOW_CURSOR)
    os._exit(status)


def _first(number: int, frame: FrameType | None) -> None:
    del frame
    if _now.asked:
        return
    _now.asked = number
    if not (_now.finishing or _now.failing):
        raise Stopped(number)


def _end_at_the_second(pipe: int) -> None:
    echoes = FORWARDED in os.environ or int(os.environ.get("WORLD_SIZE", "1")) > 1
    first_s: float | None = None
    with open(pipe, "rb", buffering=0) as numbers:
        while read := numbers.read(1):
            now_s = time.monotonic()
            if read[0] not in STOPPING:
                continue
            if first_s is None:
                first_s = now_s
            elif not echoes or now_s - first_s > _echo_s(read[0]):
                end_now(128 + read[0])


def _echo_s(number: int) -> float:
    return _TORCHRUN_S if number == signal.SIGTERM and _TORCHRUN in os.environ else _ECHO_S
