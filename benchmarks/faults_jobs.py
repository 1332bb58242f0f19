"""The eight jobs of faults.py, each on a `cache_scene`."""

from collections.abc import Callable
from typing import NamedTuple

from cache_scene import Scene, add, damage, images, relabel, remove, repaint

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.compact import compact
from kdcache.cache.build.options import parse_tap


class Job(NamedTuple):
    """A command, and what happened before it. `same_data`: the whole cache must end byte-identical."""

    name: str
    before: Callable[[Scene], None]
    run: Callable[[Scene], object]
    built: bool = True  # the cache was built before
    same_data: bool = True


def _grow(scene: Scene) -> None:
    add(scene, "aaa", 1)
    add(scene, "zzz", 2)


def _change(scene: Scene) -> None:
    repaint(images(scene)[1], 3)
    relabel(images(scene)[4])


def _damage_some(scene: Scene) -> None:
    """One shard that can be put back, and a block of samples that cannot: its source changed too."""
    stored = [p for p in scene.cache.rglob("*") if "targets" in p.parts[-6:][0] or "targets" in str(p)]
    shards = sorted(p for p in stored if p.is_file() and p.suffix not in (".json",))
    damage(shards[0])
    damage(scene.cache / "samples" / "00001.tar")
    repaint(images(scene)[4], 5)


def nothing(scene: Scene) -> None:
    del scene


JOBS = (
    Job("build", nothing, lambda s: build_cache(s.options()), built=False),
    Job("tap", nothing, lambda s: build_cache(s.options(taps=(parse_tap("stage1"),)))),
    Job("views", nothing, lambda s: build_cache(s.options(views="crops:3+full"))),
    Job("growth", _grow, lambda s: build_cache(s.options())),
    Job("change", _change, lambda s: build_cache(s.options(update=True)), same_data=False),
    Job(
        "deletion",
        lambda s: remove(images(s)[2]),
        lambda s: build_cache(s.options(update=True)),
        same_data=False,
    ),
    Job(
        "repair",
        _damage_some,
        lambda s: build_cache(s.options(repair=True, update=True)),
        same_data=False,
    ),
    Job("compact", nothing, lambda s: compact(s.cache, s.caches / "small")),
)
