"""Build a cache: once over a dataset with a teacher; again, to continue, grow, update or repair it.

Steps: plan (nothing written) -> predict bytes and refuse a disk that is too small -> samples -> targets.
Calling it twice does nothing the second time. A SIGKILL loses at most the three shards in flight.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.distributed as dist

from kdcache.cache.build.lock import build_lock
from kdcache.cache.build.options import BuildOptions
from kdcache.cache.build.plan import Plan, Work, make_plan, passes_with
from kdcache.cache.build.predict import Prediction, missing_work, predict
from kdcache.cache.build.samples import pack_blocks, sample_order
from kdcache.cache.build.targets import TargetBuilder
from kdcache.cache.errors import DiskFull
from kdcache.cache.look.verify import damaged_shards
from kdcache.cache.record.classifier import CLASSIFIER_FILE, classifier_problem
from kdcache.cache.record.layout import target_layout
from kdcache.cache.record.manifest import FILE_NAME, Manifest
from kdcache.cache.record.records import record_name
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.sample_tars import open_samples
from kdcache.cache.stores.table import target_format


class BuildEvents(NamedTuple):
    """Where a build reports. The CLI prints; tests collect."""

    planned: Callable[[Plan, Prediction], None] = lambda plan, prediction: None
    packed: Callable[[int], None] = lambda samples: None
    computed: Callable[[int], None] = lambda rows: None
    skipped: Callable[[Sequence[str]], None] = lambda keys: None


class BuildReport(NamedTuple):
    """What a build did. `shards` is 0 when everything was there."""

    root: Path
    manifest: Manifest
    shards: int
    rows: int
    skipped: tuple[str, ...]


def build_cache(options: BuildOptions, events: BuildEvents | None = None) -> BuildReport:
    """Build, continue, grow, update or repair a cache. Raises KdError children; finished shards always
    survive."""
    events = events or BuildEvents()
    plan = make_plan(options)
    with _group() as (rank, world):
        with build_lock(plan.root) if rank == 0 else nullcontext():
            if rank > 0:
                _meet(world)  # rank 0 decides first what is there: every rank must see the same records
            order, plan = _begin(plan, options, rank)
            if rank == 0:
                prediction = predict(plan, order)
                events.planned(plan, prediction)
                _refuse_full_disk(plan.root, prediction)
                _write_claims(plan)
                _meet(world)
            blocks = list(range(plan.manifest.num_blocks))
            skipped = pack_blocks(
                plan,
                order,
                blocks[rank::world],
                skip_bad=options.skip_bad,
                update=options.update,
                done=events.packed,
            )
            if skipped:
                events.skipped(skipped)
            _meet(world)
            if rank == 0:
                _describe_arrays(plan)
            todo = missing_work(plan.root, plan.manifest)[rank::world]
            _meet(world)
            rows = _targets(plan, options, todo, events)
            shards, rows = _over_ranks(world, len(todo), rows)
    return BuildReport(plan.root, plan.manifest, shards, rows, tuple(skipped))


def _targets(plan: Plan, options: BuildOptions, todo: list[Work], events: BuildEvents) -> int:
    rows = 0

    def count(done: int) -> None:
        nonlocal rows
        rows += done
        events.computed(done)

    if todo:
        TargetBuilder(
            plan,
            device=options.device,
            batch_size=options.batch_size,
            threads=options.threads,
        ).run(todo, count)
    return rows


def _begin(plan: Plan, options: BuildOptions, rank: int) -> tuple[list[str], Plan]:
    """Sweep a killed builder's litter, drop damaged shards if asked, and fix the order and number of
    samples."""
    if rank == 0:
        store = LocalStore(plan.root)
        store.sweep()
        if options.repair:
            for key in damaged_shards(plan.root):
                store.remove(record_name(key))
    order = sample_order(plan.root, plan.manifest, plan.source, update=options.update)
    manifest = plan.manifest.grown(num_samples=len(order))
    groups = [work.targets for work in missing_work(plan.root, manifest)]
    passes = passes_with(dict(manifest.passes), groups, manifest.taps)
    manifest = manifest.grown(passes=passes)
    return order, replace(plan, manifest=manifest)


def _refuse_full_disk(root: Path, prediction: Prediction) -> None:
    wanted = prediction.target_bytes + prediction.sample_bytes
    if wanted > prediction.free_bytes:
        raise DiskFull(
            f"the build writes {wanted / 1e9:.2f} GB, the disk has {prediction.free_bytes / 1e9:.2f} GB free",
            where=str(root),
            fix=(
                "free some space, ask for fewer views (--views crops:2), a smaller --crop or fewer "
                "taps (--tap logits)"
            ),
        )


def _write_claims(plan: Plan) -> None:
    """Manifest and what it alone stands for, before any shard: a killed build leaves a cache that says what
    it will hold."""
    store = LocalStore(plan.root)
    if classifier_problem(plan.root, plan.manifest):
        store.put(CLASSIFIER_FILE, plan.classifier)
    text = plan.manifest.to_json()
    path = plan.root / FILE_NAME
    if not path.is_file() or path.read_text() != text:
        store.put(FILE_NAME, text.encode())


def _describe_arrays(plan: Plan) -> None:
    """Create or grow the description of every array, for every map size that a view gives."""
    manifest, store = plan.manifest, LocalStore(plan.root)
    sizes = {v.crop for v in manifest.views if v.crop is not None}
    if any(v.crop is None for v in manifest.views):
        for block in range(manifest.num_blocks):
            samples = open_samples(store, block)
            sizes |= {
                (int(h), int(w))
                for h, w, ok in zip(samples.heights, samples.widths, samples.valid, strict=True)
                if ok
            }
    specs = {t.name: {t.spec(*size) for size in sizes} for t in manifest.taps}
    target_format(manifest.target_format).prepare(store, target_layout(manifest, specs))


@contextmanager
def _group() -> Iterator[tuple[int, int]]:
    """(rank, world size), with a process group of CPU barriers when torchrun started several ranks."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield 0, 1
        return
    mine = not dist.is_initialized()
    if mine:
        dist.init_process_group("gloo")
    try:
        yield dist.get_rank(), world
    finally:
        if mine:
            dist.destroy_process_group()


def _meet(world: int) -> None:
    if world > 1:
        dist.barrier()


def _over_ranks(world: int, *counts: int) -> list[int]:
    """Each count summed over the ranks; also where they meet at the end."""
    total = torch.tensor(counts)
    if world > 1:
        dist.all_reduce(total)
    return [int(n) for n in total]
