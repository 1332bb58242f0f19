"""Check a cache: every object against its record's size and digest; with `deep`, stored targets against the
teacher."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from kdcache.cache.codecs.reduction import load_reduction
from kdcache.cache.errors import BadCache
from kdcache.cache.images.feed import Feed
from kdcache.cache.images.pipeline import ImagePipeline
from kdcache.cache.networks.network import Network
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.reader.rows import pixel_feed
from kdcache.cache.record.classifier import classifier_problem
from kdcache.cache.record.manifest import read_manifest
from kdcache.cache.record.precision import in_precision
from kdcache.cache.record.records import list_records, read_record
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.object_check import object_problem


class Problem(NamedTuple):
    """One object that is not what its record, or the manifest, says."""

    key: ShardKey | None  # None: the classifier, which belongs to no shard
    text: str

    @property
    def title(self) -> str:
        return self.key.title if self.key else "classifier"


class DeepError(NamedTuple):
    """How far stored targets are from the teacher run anew on the same pixels, over the rows that were
    checked."""

    target: str
    rows: int
    max_abs: float
    relative_l2: float
    bound: float  # the codec's stated largest error over these rows


def problems(root: Path, seen: Callable[[int], None] = lambda num_bytes: None) -> Iterator[Problem]:
    """Every damaged or missing object of every committed shard. `seen(bytes)` is called as objects are
    read."""
    manifest = read_manifest(root)
    if text := classifier_problem(root, manifest):
        yield Problem(None, text)
    for key in sorted(list_records(root)):
        try:
            record = read_record(root, key)
        except BadCache as error:
            yield Problem(key, error.what)
            continue
        for entry in record["objects"]:
            if text := object_problem(root, entry):
                yield Problem(key, text)
            seen(entry.num_bytes)


def damaged_shards(root: Path) -> list[ShardKey]:
    """Shards that 'build --repair' must re-make; a build writes a damaged classifier anew by itself."""
    if not (root / "manifest.json").is_file():
        return []
    return sorted({p.key for p in problems(root) if p.key is not None})


def deep_check(root: Path, teacher: Network, num_rows: int = 8) -> list[DeepError]:
    """Run the teacher again on `num_rows` rows spread over the cache and compare every stored target.

    It computes in the cache's own precision, on the CPU.
    """
    cache = open_cache(root)
    rows = _spread(cache, num_rows)
    worst: dict[str, list[tuple[float, float, float, float]]] = {t: [] for t in cache.manifest.tap_names}

    def feed(number: int) -> Feed | None:
        if number >= len(rows):
            return None
        return pixel_feed(cache, [cache.row(*rows[number])])

    pipeline = ImagePipeline(feed, batch_size=1, with_maps=False, mixes=cache.mixes)
    teacher.eval()
    for (index, view), batch in zip(rows, pipeline.run(), strict=False):
        with torch.no_grad(), in_precision(cache.manifest.precision, "cpu"):
            fresh = teacher(batch.images_BHWC, [t.tap for t in cache.manifest.taps])
        for tap in cache.manifest.taps:
            if cache.coverage.key(tap.name, view, index // cache.shard_samples):
                value = fresh[tap.tap].float()
                if tap.reduction:
                    value = load_reduction(tap.reduction, may_import=False)(value)
                worst[tap.name].append(_compare(cache, tap.name, index, view, value))
    pipeline.close()
    return [_summary(name, errors) for name, errors in worst.items() if errors]


def _spread(cache: Cache, num_rows: int) -> list[tuple[int, int]]:
    bad = set(cache.invalid.tolist())
    good = [i for i in range(cache.num_samples) if i not in bad]
    views = [n for v in cache.manifest.views for n in range(v.first, v.first + v.count)]
    step = max(1, len(good) // num_rows)
    return [(index, views[k % len(views)]) for k, index in enumerate(good[::step][:num_rows])]


def _compare(
    cache: Cache, target: str, index: int, view: int, fresh: torch.Tensor
) -> tuple[float, float, float, float]:
    codec = cache.codec(target)
    stored = codec.decode(
        {k: torch.from_numpy(v.copy())[None] for k, v in cache.parts(target, index, view).items()}
    )
    difference = stored - fresh
    return (
        float(difference.abs().max()),
        float(difference.square().sum()),
        float(fresh.square().sum()),
        float(codec.bound(fresh).max()),
    )


def _summary(target: str, errors: list[tuple[float, float, float, float]]) -> DeepError:
    relative = (sum(e[1] for e in errors) / max(sum(e[2] for e in errors), 1e-30)) ** 0.5
    return DeepError(target, len(errors), max(e[0] for e in errors), relative, max(e[3] for e in errors))
