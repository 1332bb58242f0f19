"""The end of a command's process: at once, and with nothing left out that Python would have done."""

import subprocess
import sys
from pathlib import Path

import pytest

AS_PROCESS = "from kdcache.cli.quitting import as_process\n"
# Python takes modules apart when it ends, and so deletes what they hold; a process that is gone does not.
TAKEN_APART = "class Held:\n    def __del__(self):\n        os.write(2, b'taken apart')\nheld = Held()\n"


def _ends(code: str, *options: str, **given: object) -> "subprocess.CompletedProcess[str]":
    script = f"import atexit, os, sys, threading, time\n{AS_PROCESS}{TAKEN_APART}{code}"
    return subprocess.run(
        [sys.executable, *options, "-c", script],
        capture_output=True, text=True, timeout=60, check=False, **given,
    )  # type: ignore[call-overload]  # fmt: skip


@pytest.mark.parametrize(
    ("ends", "status"),
    [("None", 0), ("sys.exit()", 0), ("sys.exit(2)", 2), ("sys.exit(130)", 130), ("sys.exit(-1)", 255)],
)
def test_the_status_is_the_commands_and_nothing_is_taken_apart(ends: str, status: int) -> None:
    done = _ends(f"as_process(lambda: {ends})")
    assert (done.returncode, done.stderr) == (status, "")


def test_a_plain_script_is_taken_apart() -> None:
    """Else the test above could not fail."""
    assert _ends("").stderr == "taken apart"


def test_what_was_promised_for_the_end_is_done_and_printed(tmp_path: Path) -> None:
    file = tmp_path / "open.txt"
    done = _ends(
        f"left_open = open({str(file)!r}, 'w')\n"
        "atexit.register(print, 'promised')\n"
        "as_process(lambda: (print('said', end=' '), left_open.write('kept')))"
    )
    assert (done.returncode, done.stdout) == (0, "said promised\n")
    assert file.read_text() == "kept"


def test_a_thread_that_works_is_waited_for() -> None:
    work = "lambda: (time.sleep(0.3), os.write(1, b'done'))"
    done = _ends(f"as_process(lambda: threading.Thread(target={work}).start())")
    assert done.stdout == "done"


def test_a_text_is_printed_and_a_traceback_stays() -> None:
    done = _ends("as_process(lambda: sys.exit('why'))")
    assert done.returncode == 1 and done.stderr.startswith("why")
    done = _ends("as_process(lambda: 1 / 0)")
    assert done.returncode == 1 and "ZeroDivisionError" in done.stderr


def test_a_callback_that_fails_is_said() -> None:
    done = _ends("atexit.register(lambda: 1 / 0)\nas_process(lambda: None)")
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("measured", ["sys.setprofile(ignore)", "sys.settrace(ignore)", ""])
def test_who_measures_a_process_sees_its_end(measured: str) -> None:
    at_once = "def ignore(*of): pass\nos._exit = lambda status: os.write(1, b'at once')\n"
    done = _ends(f"{at_once}{measured}\nas_process(lambda: None)")
    assert done.stdout == ("" if measured else "at once")


def test_ranks_end_as_python_ends() -> None:
    done = _ends("os.environ['WORLD_SIZE'] = '2'\nas_process(lambda: None)")
    assert "taken apart" in done.stderr


@pytest.mark.parametrize("command", ["kdcache", "kdtrain"])
def test_both_commands_end_so(command: str) -> None:
    done = _ends(
        f"import kdcache.cli.{command} as module\nsys.argv = [{command!r}, '--help']\nmodule.process()"
    )
    assert (done.returncode, done.stderr) == (0, "") and f"Usage: {command}" in done.stdout
