"""What must hold after a kill and after the job was finished nevertheless. Used by kill.py."""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

TIMING = ("steps_per_s", "wait_share")


def tree(home: Path) -> dict[str, str]:
    """Digest of every file below `home`/caches, by path relative to `home`; the lock holds nothing."""
    files = sorted(p for p in (home / "caches").rglob("*") if p.is_file() and p.name != "build.lock")
    return {str(p.relative_to(home)): hashlib.blake2b(p.read_bytes()).hexdigest() for p in files}


def compare_trees(wanted: dict[str, str], home: Path) -> list[str]:
    """Every file that is missing, too much or different, and what verify finds."""
    found = tree(home)
    names = sorted(wanted.keys() | found.keys())
    wrong = [name for name in names if wanted.get(name) != found.get(name)]
    return [f"{home.name}: '{name}' differs from the unkilled build's" for name in wrong] + half_committed(
        home
    )


def half_committed(home: Path) -> list[str]:
    """What is wrong right after a kill: something that verify finds, or a record beyond the generation that
    stands for a missing or torn object."""
    from kdcache.cache.look.verify import problems

    roots = [path.parent for path in (home / "caches").glob("*/manifest.json")]
    wrong = [f"{p.title}: {p.text}" for root in roots for p in problems(root)]
    wrong += [text for root in roots for text in _torn_beyond(root)]
    return [f"{home.name}: {text}" for text in wrong]


def _torn_beyond(root: Path) -> list[str]:
    """Of shards that are recorded and that no generation counts yet."""
    from kdcache.cache.look.verify import unfinished
    from kdcache.cache.record.records import objects_of, read_record
    from kdcache.cache.stores.local import LocalStore
    from kdcache.cache.stores.object_check import object_problem

    records = (read_record(root, key)[0] for key in unfinished(root))
    entries = (entry for record in records for entry in objects_of(record))
    return [text for entry in entries if (text := object_problem(LocalStore(root), entry))]


def compare_runs(wanted: Path, found: Path, num_steps: int) -> list[str]:
    """The exported student byte by byte, the metrics without timings, each step once."""
    wrong = []
    for name, read in (("student.safetensors", Path.read_bytes), ("network.json", _read_json)):
        if not (found / name).is_file() or read(wanted / name) != read(found / name):
            wrong.append(f"{found.name}: {name} differs from the uninterrupted run's")
    if _metrics(wanted) != _metrics(found):
        wrong.append(f"{found.name}: metrics.jsonl differs from the uninterrupted run's")
    steps = Counter(line["step"] for line in _metrics(found) if "loss" in line)
    if steps != Counter(range(1, num_steps + 1)):
        wrong.append(f"{found.name}: steps of metrics.jsonl are {sorted(steps.elements())}")
    return wrong


def _read_json(path: Path) -> object:
    return json.loads(path.read_text())


def _metrics(run: Path) -> list[dict[str, Any]]:
    path = run / "metrics.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    left_out = (*TIMING, "check")  # the check of a line is over its timings too
    return [{key: value for key, value in line.items() if key not in left_out} for line in lines]
