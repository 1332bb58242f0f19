"""Compaction of faults.py: many rounds of changes, deletions and growth, then a copy of what still counts.

The copy's rows must be those of the cache bit for bit, and those of a fresh build of the final data within
the codec's bound: a teacher that convolves rounds otherwise in a batch of other rows.
"""

import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from cache_scene import Scene, add, built_scene, images, living_rows, relabel, remove, repaint

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.compact import compact
from kdcache.cache.look.verify import problems
from kdcache.cache.reader.cache import Cache, open_cache

ROUNDS, SMALL = 50, 4


def compact_cases(small: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    for target_format in ("zarr", "webdataset"):
        yield target_format, partial(rounds, target_format, SMALL if small else ROUNDS)


def rounds(target_format: str, count: int) -> dict[str, Any]:
    root = Path(tempfile.mkdtemp(prefix="kdcache-compact-"))
    draw = random.Random(0)
    scene = built_scene(root / "scene", target_format)
    for number in range(count):
        disturb(scene, draw, number)
        build_cache(scene.options(update=True))
    copied = compact(scene.cache, scene.caches / "small")
    fresh = build_cache(replace(scene.options(), caches_dir=root / "fresh"))
    outcome: dict[str, Any] = {"rounds": count, "retired": len(open_cache(scene.cache).generation.retired)}
    if living_rows(copied.root) != living_rows(scene.cache):
        outcome |= {"failed": 1, "silent": 1, "why": "the copy has other rows"}
    if list(problems(copied.root)):
        outcome |= {"failed": 1, "why": "verify finds something in the copy"}
    if far := differing(open_cache(copied.root), open_cache(fresh.root)):
        outcome |= {"failed": 1, "silent": len(far), "why": f"unlike a fresh build: {far[0]}"}
    shutil.rmtree(root)
    return outcome


def disturb(scene: Scene, draw: random.Random, number: int) -> None:
    """One round: something is added, repainted, relabelled or removed."""
    files = images(scene)
    action = draw.choice(("add", "repaint", "relabel", "remove"))
    if action == "add" or len(files) < 4:
        add(scene, draw.choice(("aaa", "new", "zzz")) + f"{number:03d}", number)
    elif action == "repaint":
        repaint(draw.choice(files), 1000 + number)
    elif action == "relabel":
        relabel(draw.choice(files))
    else:
        remove(draw.choice(files))


def differing(one: Cache, other: Cache) -> list[str]:
    """Rows whose values are further apart than the codec allows, or that only one of them has."""
    keys = {one.key(i): i for i in one.living.tolist()}
    others = {other.key(i): i for i in other.living.tolist()}
    if keys.keys() != others.keys():
        return sorted(keys.keys() ^ others.keys())
    return [
        f"{key} view {view} {target}"
        for key, index in keys.items()
        for view in one.view_numbers()
        for target in one.manifest.tap_names
        if not _near(one, other, target, (index, others[key]), view)
    ]


def _near(one: Cache, other: Cache, target: str, indices: tuple[int, int], view: int) -> bool:
    if one.pixel_digest(indices[0], view) != other.pixel_digest(indices[1], view):
        return False
    codec = one.codec(target)
    values = [
        codec.decode({k: torch.from_numpy(v.copy())[None] for k, v in cache.parts(target, i, view).items()})
        for cache, i in zip((one, other), indices, strict=True)
    ]
    bound = 2 * codec.bound(values[0]) + 1e-5 * values[0].abs().max()
    return bool(((values[0] - values[1]).abs() <= bound).all())
