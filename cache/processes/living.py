"""Whether a process still lives, as far as this machine can see."""

import os
from pathlib import Path
from typing import NamedTuple


class Process(NamedTuple):
    """A process by its number, the time it began and the place that its number is of."""

    number: int
    began: str  # so that another process of the same number is no life of this one
    place: str  # boot of the machine and space of process numbers; '' where nobody can say

    @property
    def title(self) -> str:
        return f"process {self.number}"

    def text(self) -> str:
        return " ".join((str(self.number), self.began or "-", self.place or "-"))

    @classmethod
    def read(cls, text: str) -> "Process":
        """What `text` gave."""
        number, began, place = text.split(" ")
        return cls(int(number), began.replace("-", ""), "" if place == "-" else place)

    def lives(self) -> bool:
        """False where it has surely ended; True also for one of another machine."""
        if not self.place or self.place != _place():
            return True
        return bool(self.began) and _began(self.number) == self.began


def own_process() -> Process:
    return Process(os.getpid(), _began(os.getpid()), _place())


def _began(number: int) -> str:
    """The tick in which a process began; '' for one that is not there, or waits for its parent to bury it."""
    try:
        fields = Path(f"/proc/{number}/stat").read_text().rpartition(") ")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in ("Z", "X") else fields[19]


def _place() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""
