"""A command of ours as a forked child of this process, which has imported everything already.

Starting `kdcache` costs seconds of imports; a forked child is a process as real to SIGKILL and costs none.
Offers the few methods of subprocess.Popen that kill_on_cue uses.
"""

import os
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path

YIELD = 10  # nice value of what is killed, above that of what watches it


class WarmProcess:
    """`command` as its console script would run it, with stdout and stderr appended to `log`."""

    def __init__(self, command: list[str], environment: Mapping[str, str], log: Path) -> None:
        self.args = command
        self.returncode: int | None = None
        import_all()
        self._pid = os.fork()
        if self._pid == 0:
            os.nice(YIELD)
            os._exit(run_command(command, environment, log))

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int:
        found = self._wait(0)
        assert found is not None
        return found

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self._pid, number)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self._pid, options)
            self.returncode = os.waitstatus_to_exitcode(status) if pid else None
        return self.returncode


def import_all() -> None:
    """What the commands import when they run. Starts no thread, so that a fork of it is a whole process."""
    import torchmetrics.classification  # noqa: F401
    import zarr  # noqa: F401

    import kdcache.cache.build.build
    import kdcache.cli.caches.build_display
    import kdcache.cli.caches.loss_fit
    import kdcache.cli.caches.show_table
    import kdcache.cli.caches.verify_display
    import kdcache.cli.kdcache
    import kdcache.cli.kdtrain
    import kdcache.cli.training.train_display
    import kdcache.losses.dense.mgd
    import kdcache.trainer.judge.segmentation
    import kdcache.trainer.run  # noqa: F401


def run_command(command: list[str], environment: Mapping[str, str], log: Path) -> int:
    """In a forked child. Returns the exit status."""
    with log.open("ab", buffering=0) as out:
        os.dup2(out.fileno(), 1)
        os.dup2(out.fileno(), 2)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment["PYTHONPATH"].split(os.pathsep)
    sys.argv = command
    try:
        import torch

        torch.set_num_threads(1)  # OMP_NUM_THREADS was read when torch was imported
        from kdcache.cli.kdcache import main as kdcache
        from kdcache.cli.kdtrain import main as kdtrain

        kdtrain() if command[0] == "kdtrain" else kdcache()
    except SystemExit as error:
        return error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
    return 0
