"""Build a cache: once over a dataset with a teacher; again, to continue, grow, update or repair it.

Steps: plan (nothing written) -> repair what is asked for -> survey the source -> assign keys to new blocks ->
predict bytes and refuse a disk that is too small -> manifest -> samples -> targets -> the next generation.
Nothing that a generation counts is replaced. Calling it twice does nothing the second time. A SIGKILL loses
at most the three shards in flight, and the same command finishes what it left.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch

from kdcache.cache.build.copies import Copies
from kdcache.cache.build.draw import Living
from kdcache.cache.build.lock import Held, build_lock
from kdcache.cache.build.options import USUAL_BATCH, BuildOptions
from kdcache.cache.build.pending import (
    claims,
    counted,
    drop_conflicts,
    drop_other_samples,
    drop_stale,
    pending_passes,
    recorded,
    same_blocks,
)
from kdcache.cache.build.plan import Plan, Work, make_plan
from kdcache.cache.build.predict import Prediction, missing_work, predict, refuse_full_disk
from kdcache.cache.build.ranks import group, meet, over_ranks, told
from kdcache.cache.build.repair import Repaired, Repairing, repair
from kdcache.cache.build.samples.assign import Assignment, assign
from kdcache.cache.build.samples.moved import check_moved
from kdcache.cache.build.samples.pack import pack_blocks
from kdcache.cache.build.samples.survey import Survey, survey
from kdcache.cache.build.settle import settle
from kdcache.cache.build.size import image_sizes, largest_input
from kdcache.cache.build.stages.batch_size import TRIAL_ROWS, chosen_batch_size
from kdcache.cache.build.stages.keep import PixelKeeper, keeps
from kdcache.cache.build.taps import passes_with
from kdcache.cache.build.targets import TargetBuilder
from kdcache.cache.errors import BadCache
from kdcache.cache.look.describe import whole_layout
from kdcache.cache.processes.threads import computing, plan_threads
from kdcache.cache.reader.cache import Cache
from kdcache.cache.record.classifier import CLASSIFIER_FILE, classifier_problem
from kdcache.cache.record.manifest import FILE_NAME, Manifest, manifest_bytes
from kdcache.cache.record.packed import open_packed
from kdcache.cache.record.standing import Beside
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.table import target_format
from kdcache.cache.trust import consent


class BuildEvents(NamedTuple):
    """Where a build reports. The CLI prints; tests collect."""

    repaired: Callable[[Repaired], None] = lambda repaired: None
    surveyed: Callable[[Survey], None] = lambda survey: None
    repairing: Callable[[Repairing], None] = lambda repairing: None  # before it writes
    planned: Callable[[Plan, Prediction, Assignment], None] = lambda plan, prediction, assignment: None
    packed: Callable[[int], None] = lambda samples: None
    computed: Callable[[int], None] = lambda rows: None
    skipped: Callable[[Sequence[str]], None] = lambda keys: None


class BuildReport(NamedTuple):
    """What a build did: shards and rows that it made or put back. `shards` is 0 when everything was there."""

    root: Path
    manifest: Manifest
    shards: int
    rows: int
    skipped: tuple[str, ...]
    generation: int
    settled: bool  # whether this build wrote that generation


class Begun(NamedTuple):
    """What rank 0 decided and every rank works on."""

    manifest: Manifest  # with the passes that this build makes
    works: list[Work]
    assignment: Assignment
    dead: frozenset[int]
    copied_from: dict[str, int]
    repaired: Repaired

    def blocks(self, plan: Plan) -> list[int]:
        """Numbers of the blocks of the next generation."""
        return standing_blocks(plan, self.assignment.num_blocks, self.repaired.lost)


def build_cache(options: BuildOptions, events: BuildEvents | None = None) -> BuildReport:
    """Build, continue, grow, update or repair a cache. Raises KdError children; finished shards always
    survive."""
    events = events or BuildEvents()
    plan = make_plan(options)
    with (
        consent(plan.typed),
        group(options.rank_timeout) as (rank, world),
        build_lock(plan.root) if rank == 0 else nullcontext() as lock,
        computing(plan_threads(options.threads, on_gpu=options.device != "cpu").torch),
    ):
        # Only rank 0 looks at what is there: another would already see the first blocks of this build.
        begun = told(_begin(plan, options, events, lock) if lock else None, world)
        plan = replace(plan, manifest=begun.manifest)
        to_pack = begun.assignment.to_pack
        mine = sorted(to_pack)[rank::world]
        skipped = pack_blocks(plan, to_pack, mine, skip_bad=options.skip_bad, done=events.packed)
        if skipped:
            events.skipped(skipped)
        meet(world)
        if rank == 0:
            _describe_arrays(plan, begun.blocks(plan), begun.assignment.num_blocks, anew=options.repair)
        meet(world)
        todo = begun.works[rank::world]
        rows = _targets(plan, options, todo, begun, events)
        shards, rows = over_ranks(world, len(todo), rows)
        shards, rows = shards + begun.repaired.shards, rows + begun.repaired.rows
        number = _finish(plan, begun) if rank == 0 else 0
        meet(world)
    settled = plan.generation is None or number != plan.generation.number
    return BuildReport(plan.root, plan.manifest, shards, rows, tuple(skipped), number, settled)


def _begin(plan: Plan, options: BuildOptions, events: BuildEvents, lock: Held) -> Begun:
    """Sweep a killed builder's litter, mend what is damaged if asked, and decide what is to be done."""
    store = LocalStore(plan.root)
    lock.sweep(store, always=options.repair)
    repaired = repair(plan, options, events.repairing, events.computed) if options.repair else Repaired()
    events.repaired(repaired)
    if plan.generation is not None and not store.exists(FILE_NAME):
        store.put(FILE_NAME, manifest_bytes(plan.generation.manifest))  # it says the same
    there = Beside(plan.root, plan.generation)
    drop_conflicts(plan, store, there)
    cache = Cache(plan.root, generation=plan.generation) if plan.generation else None
    check_moved(plan, cache, repaired.lost)
    renew = options.update or repaired.lost_generation
    state = survey(cache, plan.source, update=renew, lost=repaired.lost, every_file=options.check)
    events.surveyed(state)
    assignment = _assigned(plan, state, there)
    drop_other_samples(plan, store, there, assignment.num_blocks)
    dead = state.dead | assignment.unwanted
    drop_stale(plan, store, there, dead)
    blocks = standing_blocks(plan, assignment.num_blocks, repaired.lost)
    _refuse_lost(plan, there, blocks)
    manifest, works = work_of(plan, there, blocks)
    earlier, grown = _earlier_rows(cache, state), replace(plan, manifest=manifest)
    prediction = predict(grown, works, assignment.to_pack, dead, Copies(cache, earlier))
    manifest = with_batch_size(manifest, plan, options, prediction.rows)
    grown = replace(plan, manifest=manifest)
    events.planned(grown, prediction, assignment)
    refuse_full_disk(plan.root, prediction.target_bytes + prediction.sample_bytes)
    _write_claims(plan, claims(plan, manifest))
    return Begun(manifest, works, assignment, dead, earlier, repaired)


def with_batch_size(manifest: Manifest, plan: Plan, options: BuildOptions, rows: int) -> Manifest:
    """A new cache keeps how many rows go through the teacher together: as asked for, else by a trial where
    there are many."""
    if not manifest.forward or manifest.batch_size is not None:
        return manifest
    size = USUAL_BATCH
    if rows >= TRIAL_ROWS:
        size = chosen_batch_size(
            plan.network,
            sorted({tap.tap for tap in manifest.taps}),
            largest_input(manifest, image_sizes(manifest, plan.source)),
            memory_bytes=options.memory_bytes,
            device=torch.device(options.device),
        )
    return manifest.grown(forward={**manifest.forward, "batch_size": size})


def _assigned(plan: Plan, state: Survey, there: Beside) -> Assignment:
    return assign(
        plan.root,
        plan.source,
        state.wanted,
        there.beyond,
        counted=counted(plan),
        shard_samples=plan.manifest.shard_samples,
        keep=plan.generation is not None or same_blocks(plan),
    )


def standing_blocks(plan: Plan, num_blocks: int, lost: frozenset[int]) -> list[int]:
    """Of the blocks 0 .. num_blocks - 1 those that are there: not lost, now or before."""
    old = plan.generation.block_numbers if plan.generation else []
    return [block for block in (*old, *range(counted(plan), num_blocks)) if block not in lost]


def _refuse_lost(plan: Plan, there: Beside, blocks: list[int]) -> None:
    """Raises BadCache where a record that the generation names is gone: made anew here it might be another
    one, under the name of one that counts."""
    standing = set(blocks) if there.lost else set()
    if lost := [key for key in there.lost if key.block in standing and not key.of_samples]:
        raise BadCache(
            f"the records of {len(lost)} shards are lost, the first is {min(lost).title}",
            where=str(plan.root),
            fix="run 'kdcache build --repair'",
        )


def work_of(plan: Plan, there: Beside, blocks: list[int]) -> tuple[Manifest, list[Work]]:
    """The manifest with every pass that counts or will be made, and the shards that are missing."""
    passes = dict(plan.manifest.passes) | pending_passes(plan, there)
    manifest = plan.manifest.grown(passes=passes)
    works = missing_work(recorded(plan, there, passes), manifest, blocks)
    passes = passes_with(passes, [work.targets for work in works], manifest.stored)
    return manifest.grown(passes=passes), works


def _earlier_rows(cache: Cache | None, state: Survey) -> dict[str, int]:
    """Key -> its newest earlier row, of the keys that get another one."""
    wanted = set(state.wanted)
    rows: dict[str, int] = {}
    for block in cache.generation.block_numbers if cache else ():
        assert cache is not None
        try:
            samples = cache.block(block)
        except BadCache:
            continue
        first = block * cache.shard_samples
        rows |= {k: first + row for row, k in enumerate(samples.keys) if k in wanted and samples.valid[row]}
    return rows


def _targets(plan: Plan, options: BuildOptions, todo: list[Work], begun: Begun, events: BuildEvents) -> int:
    rows = 0

    def count(done: int) -> None:
        nonlocal rows
        rows += done
        events.computed(done)

    living = Living(frozenset(begun.blocks(plan)), begun.dead)
    if answers := [work for work in todo if not keeps(work)]:
        counts = plan.generation
        cache = Cache(plan.root, generation=counts) if counts and begun.copied_from else None
        TargetBuilder(
            plan,
            device=options.device,
            batch_size=options.batch_size or begun.manifest.batch_size or USUAL_BATCH,
            threads=options.threads,
            copies=Copies(cache, begun.copied_from),
            living_of=lambda work: living,
        ).run(answers, count)
    if kept := [work for work in todo if keeps(work)]:
        keeper = PixelKeeper(
            plan, device=options.device, threads=options.threads, living_of=lambda work: living
        )
        keeper.run(kept, count)
    return rows


def _finish(plan: Plan, begun: Begun) -> int:
    """The next generation; what was marked bad while packing does not live in it."""
    dead = set(begun.dead)
    store, size = LocalStore(plan.root), plan.manifest.shard_samples
    for block in range(counted(plan), begun.assignment.num_blocks):
        valid = open_packed(store, block).valid
        dead |= {block * size + row for row, good in enumerate(valid) if not good}
    return settle(plan, begun.blocks(plan), begun.assignment.num_blocks, dead)


def _write_claims(plan: Plan, manifest: Manifest) -> None:
    """Manifest and what it alone stands for, before any shard: a killed build leaves a cache that says what
    it will hold."""
    store = LocalStore(plan.root)
    if classifier_problem(plan.root, manifest):
        store.put(CLASSIFIER_FILE, plan.classifier)
    content = manifest_bytes(manifest)
    if not store.exists(FILE_NAME) or bytes(store.get(FILE_NAME)[0]) != content:
        store.put(FILE_NAME, content)


def _describe_arrays(plan: Plan, blocks: list[int], num_blocks: int, *, anew: bool) -> None:
    """Create or grow the description of every array, for every map size that a view gives; `anew` also where
    another one is there."""
    manifest, store = plan.manifest, LocalStore(plan.root)
    layout = whole_layout(plan.root, manifest, blocks, num_blocks)
    live = set(plan.generation.manifest.stored_names) if plan.generation and not anew else set()
    target_format(manifest.target_format).prepare(store, layout, live)
