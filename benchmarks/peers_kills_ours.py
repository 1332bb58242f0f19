"""Our half of peers_kills.py: `kdcache build` of a tiny teacher, killed at uniform moments, looked at,
finished.

After each kill every committed record must stand for whole objects and `verify` must find nothing; the rows
that are recorded are what the next start does not make again. Then the same command runs to its end, and the
tree must be that of a build that was never killed, byte for byte. Kills at chosen moments of files: kill.py.
"""

import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

from kill_checks import compare_trees, half_committed, tree
from warm_process import WarmProcess, import_all

SUPPORT = Path(__file__).resolve().parents[1] / "tests" / "support"
VIEWS, IMAGES, SMALL_IMAGES = 2, 96, 16
EARLY = 3


def trials(work: str, kills: int, seed: int, small: bool) -> dict[str, Any]:
    """Called in a worker. As `peers_kills.trials`, with how often the same command then ended identical."""
    sys.path.append(str(SUPPORT))
    from tiny_folder import draw_folder  # on the path since the line above

    import_all()
    place, draw = Path(work) / "killed-ours", random.Random(seed)
    place.mkdir(parents=True, exist_ok=True)
    images = SMALL_IMAGES if small else IMAGES
    folder = draw_folder(place / "drawn", images)
    homes = place / "homes"
    spans = [_whole(folder, homes / f"whole-{number}") for number in range(2)]
    span_s, wanted = spans[1], tree(homes / "whole-1")
    looks: list[dict[str, Any]] = []
    for number in range(kills * EARLY):
        home = homes / f"killed-{number}"
        process = _start(folder, home)
        if _kill(process, draw.random() * span_s):
            looks.append(_look(folder, home, wanted))
        shutil.rmtree(home)
        if len(looks) == kills:
            break
    return {"span_s": span_s, "rows": images * VIEWS, "trials": looks} | tally(looks)


def tally(looks: list[dict[str, Any]]) -> dict[str, Any]:
    """In the words of the other stores; 'wrong' counts what was claimed and is damaged."""
    return {
        "kills": len(looks),
        "refused": 0,
        "trials_with_wrong": sum(1 for one in looks if one["problems"]),
        "wrong": sum(len(one["problems"]) for one in looks),
        "unreadable": 0,
        "kept": sum(one["kept"] for one in looks),
        "lost_of_said": 0,
        "finished_identical": sum(1 for one in looks if one["identical"]),
    }


def _whole(folder: Path, home: Path) -> float:
    began = time.perf_counter()
    status = _start(folder, home).wait()
    if status:
        raise RuntimeError(f"an unkilled build ended with status {status}")
    return time.perf_counter() - began


def _start(folder: Path, home: Path) -> WarmProcess:
    from kill import environment

    home.mkdir(parents=True, exist_ok=True)
    command = [
        "kdcache", "build", "--teacher", "tiny_teacher:make", "--data", f"folder:{folder}", "--views",
        f"crops:{VIEWS}", "--shard-rows", "8", "--tap", "stage4", "--tap", "logits", "--device", "cpu",
        "--crop", "64", "--batch-size", "4",
    ]  # fmt: skip
    return WarmProcess(command, environment(home), home.parent / "build.log")


def _kill(process: WarmProcess, after_s: float) -> bool:
    """Whether it was killed before it ended."""
    until = time.perf_counter() + after_s
    while time.perf_counter() < until and process.poll() is None:
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    return process.wait() == -signal.SIGKILL


def _look(folder: Path, home: Path, wanted: dict[str, str]) -> dict[str, Any]:
    problems, kept = half_committed(home), recorded_rows(home)
    status = _start(folder, home).wait()
    different = compare_trees(wanted, home) if not status else [f"exit status {status}"]
    return {"problems": problems, "kept": kept, "identical": not different, "different": different[:3]}


def recorded_rows(home: Path) -> int:
    """Rows whose targets are recorded, in a generation or beyond the newest one."""
    from kdcache.cache.look.verify import unfinished
    from kdcache.cache.reader.cache import open_cache
    from kdcache.cache.record.records import TargetsRecord, read_record
    from kdcache.cache.trust import trust

    trust("tiny_teacher")
    rows = 0
    for root in (path.parent for path in (home / "caches").glob("*/manifest.json")):
        records = [read_record(root, key)[0] for key in unfinished(root)]
        rows += sum(record.rows for record in records if isinstance(record, TargetsRecord))
        if any((root / "generations").glob("*.json")):
            cache = open_cache(root)
            rows += len(cache.living) * len(cache.view_numbers())
    return rows
