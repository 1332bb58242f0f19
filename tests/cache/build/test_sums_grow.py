"""What generations say that targets take, over builds that add to a cache: each is what a loop over all rows
says."""

from pathlib import Path

import numpy as np
import pytest
from cache_scene import Scene, add, tree

from kdcache.cache.build.build import build_cache
from kdcache.cache.build.options import parse_tap
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record import sums
from kdcache.cache.record.generation import (
    BlockEntry,
    Total,
    generation_bytes,
    generation_name,
    newest_generation,
)
from kdcache.cache.record.sums import block_entry
from kdcache.cli.caches.show_table import _bytes_by_tap


def slow_totals(root: Path) -> list[Total]:
    """Bytes of the objects in each target's folder, and the numbers of its rows, one by one."""
    cache = open_cache(root)
    num_bytes = dict.fromkeys(cache.manifest.tap_names, 0)
    values = dict(num_bytes)
    for key in cache.coverage.keys():
        record = cache.targets_record(key)
        for one in record.objects:
            (owner,) = [name for name in record.targets if f"/{name}/" in one.name]
            num_bytes[owner] += one.num_bytes
        views = cache.block_views(key.block, key.view)
        for place in np.flatnonzero(views.valid).tolist():
            size = views.geometry_of(place)
            for name in record.targets:
                values[name] += int(np.prod(cache.tap(name).spec(size.crop_h, size.crop_w).shape))
    return [Total(name, num_bytes[name], values[name]) for name in sorted(num_bytes)]


def test_totals_follow_a_cache_that_grows_by_samples_views_and_taps(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[object] = []
    plain = sums.read_targets_record
    monkeypatch.setattr(sums, "read_targets_record", lambda *args: (read.append(args), plain(*args))[1])
    add(scene, "aaa", 1)
    steps: list[tuple[dict[str, object], int]] = [
        ({"update": True}, 2), ({"views": "crops:3+full"}, 8), ({"taps": (parse_tap("stage1"),)}, 16),
    ]  # fmt: skip
    for options, new in steps:
        read.clear()
        build_cache(scene.options(**options))
        generation = newest_generation(scene.cache)
        assert generation is not None and list(generation.totals) == slow_totals(scene.cache)
        assert len(read) == new, "records that counted before are not read again"


def without_sums(root: Path) -> None:
    """The newest generation as it was written before there were sums."""
    g = newest_generation(root)
    assert g is not None
    (root / generation_name(g.number)).write_bytes(
        generation_bytes(
            g.number, g.manifest, blocks=[BlockEntry(*one[:2]) for one in g.blocks],
            retired=g.retired.tolist(), complete=g.complete, records=g.records,
        )
    )  # fmt: skip


def test_a_cache_of_before_there_were_sums_gets_them_when_it_grows(scene: Scene) -> None:
    wanted = _bytes_by_tap(open_cache(scene.cache))
    without_sums(scene.cache)
    before = tree(scene.cache)
    assert _bytes_by_tap(open_cache(scene.cache)) == wanted, "the same, from the records"
    assert not build_cache(scene.options()).settled and tree(scene.cache) == before
    add(scene, "aaa", 1)
    build_cache(scene.options(update=True))
    generation = newest_generation(scene.cache)
    assert generation is not None and list(generation.totals) == slow_totals(scene.cache)
    store = open_cache(scene.cache).store
    blocks = [block_entry(store, generation.manifest, block) for block in generation.block_numbers]
    assert list(generation.blocks) == blocks and all(one.height > 0 for one in blocks)


def test_places_without_targets_have_no_values(scene: Scene) -> None:
    """A sample that cannot be used keeps its place."""
    add(scene, "aaa", 1)
    add(scene, "aab", 2)
    (scene.data / "train/images/aaa.jpg").write_bytes(b"nothing")
    build_cache(scene.options(update=True, skip_bad=True))
    generation = newest_generation(scene.cache)
    assert generation is not None and generation.num_samples > generation.num_living
    assert list(generation.totals) == slow_totals(scene.cache)
