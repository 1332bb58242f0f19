"""A command as a process of its own, which ends as its parent does: with its work kept."""

import os
import subprocess
from typing import Any

from kdcache.cache.processes.stop import FORWARDED, Stopped


def in_a_process(command: list[str], **options: Any) -> int:
    """Exit status of `command`; `options` are those of subprocess.Popen.

    A signal that stops this process is handed on, and `Stopped` is raised once the child has ended.
    """
    environment = {**(options.pop("env", None) or os.environ), FORWARDED: "1"}
    with subprocess.Popen(command, env=environment, **options) as child:
        try:
            return child.wait()
        except KeyboardInterrupt as stop:
            if isinstance(stop, Stopped):
                child.send_signal(stop.number)
            child.wait()
            raise
