"""How much memory this process may still take: of the machine, and of the control group it runs in."""

from pathlib import Path

from kdcache.cache.errors import Refused

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/proc/self/cgroup")
_ROOT = Path("/sys/fs/cgroup")
# Of a control group, in its second form and in its first: where it lies, what it may hold, what it holds, and
# what of that is files that are given back when others want the room.
_FILES = (
    ("", "memory.max", "memory.current", "inactive_file"),
    ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
)


def free_memory() -> int | None:
    """Bytes that can still be had without swapping; None where the system does not say."""
    said = [bytes_ for bytes_ in (_of_machine(), *_of_groups()) if bytes_ is not None]
    return max(0, min(said)) if said else None


def _of_machine() -> int | None:
    for line in _read(_MEMINFO).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            return int(value.split()[0]) * 1024
    return None


def _of_groups() -> list[int]:
    """What the groups that bound this process have left: its own, and every one that holds it."""
    free = []
    for line in _read(_GROUP).splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "memory" not in controllers.split(","):
            continue
        inner = Path(path.lstrip("/"))
        for folder in (inner, *inner.parents):
            for base, most, now, files in _FILES:
                limit, used = _read(_ROOT / base / folder / most), _read(_ROOT / base / folder / now)
                if limit.strip().isdecimal() and used.strip().isdecimal():
                    stat = _read(_ROOT / base / folder / "memory.stat").splitlines()
                    words = dict(line.split() for line in stat if len(line.split()) == 2)
                    free.append(int(limit) - int(used) + int(words.get(files, 0)))
    return free


def _read(path: Path) -> str:
    """A file of the kernel; '' where it is not there or may not be read."""
    try:
        return path.read_text()
    except Refused:
        raise
    except OSError:
        return ""
