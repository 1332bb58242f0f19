"""A cache that gave every vector a chunk of its own still trains: its stream is that of one built today."""

from pathlib import Path

import pytest
import torch
from aligned_classes import GLOBAL_BATCH, NEEDS, RECIPES, build_class_cache, draw_classes

from kdcache.cache.build import plan as planning
from kdcache.cache.reader.cache import Cache
from kdcache.trainer.stream.batch import BatchLayout
from kdcache.trainer.stream.stored import StoredStream

STEPS = 4


def targets(cache: Cache) -> list[dict[str, torch.Tensor]]:
    layout = BatchLayout(global_batch=GLOBAL_BATCH, seed=3)
    stream = StoredStream(cache, needs=NEEDS, layout=layout)
    try:
        batches = [batch for batch, _ in zip(stream.run(), range(STEPS), strict=False)]
        return [stream.targets(batch) for batch in batches]
    finally:
        stream.close()


def test_a_cache_of_before_gives_the_batches_of_one_of_today(tmp_path: Path) -> None:
    folder = draw_classes(tmp_path / "data")
    today = build_class_cache(folder, "zarr", RECIPES[0])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(planning, "VECTOR_BYTES", 0)
        before = build_class_cache(folder, "zarr", RECIPES[0], caches_dir=tmp_path / "before")
    assert (today.manifest.vector_bytes > 0, before.manifest.vector_bytes) == (True, 0)
    for ours, theirs in zip(targets(today), targets(before), strict=True):
        assert ours.keys() == theirs.keys() == {need.name for need in NEEDS}
        assert all(torch.equal(ours[name], theirs[name]) for name in ours)
