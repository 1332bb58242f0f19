"""The end of a command's process: what was promised for the end is done, then the process is gone at once.

Python takes itself apart piece by piece before it ends. With torch, DALI and torch's compiler loaded that
takes 1.5 s more (docs/benchmarks.md), in which a person waits for nothing: the system frees a process whole.
"""

import atexit
import gc
import io
import os
import sys
import threading
from collections.abc import Callable
from typing import Any, NoReturn

_FILES = (io.BufferedWriter, io.BufferedRandom, io.TextIOWrapper)


def as_process(command: Callable[[], Any]) -> NoReturn:
    """Run `command`, which is all that this process does, and end with its status."""
    status: object = 0
    try:
        command()
    except SystemExit as end:
        status = end.code
    if (number := _number(status)) is not None and not _watched() and _is_done():
        os._exit(number)
    sys.exit(status)  # type: ignore[arg-type]


def _number(status: object) -> int | None:
    """The status as the system takes it; None for a text, which Python prints."""
    if status is None:
        return 0
    return status & 0xFF if isinstance(status, int) else None


def _watched() -> bool:
    """Whether somebody measures this process, or waits for its prompt, or for it among other ranks."""
    measured = sys.getprofile() is not None or sys.gettrace() is not None
    return measured or bool(sys.flags.interactive) or os.environ.get("WORLD_SIZE", "1") != "1"


def _is_done() -> bool:
    """Do what is done when Python ends, in its order; False where Python itself has to."""
    main = threading.main_thread()
    if any(one is not main and not one.daemon for one in threading.enumerate()):
        return False
    try:
        atexit._run_exitfuncs()
        for one in gc.get_objects():  # files that somebody's own code never closed
            # By type: isinstance asks an object for its class, and some answer with a warning.
            if issubclass(type(one), _FILES) and not one.closed and one.writable():
                one.flush()
    except Exception:  # a pipe that nobody reads any more, a callback that failed: Python says it
        return False
    return True
