"""What builds before this one left unfinished: kept while it still fits, removed where it would be in the
way.

Only what no generation counts is touched here, under the builder's lock.
"""

from collections.abc import Mapping

from kdcache.cache.build.plan import Plan
from kdcache.cache.build.same_pixels import EarlierPixels
from kdcache.cache.build.samples.assign import remove_shard
from kdcache.cache.errors import BadCache
from kdcache.cache.record.manifest import Manifest, pass_id
from kdcache.cache.record.records import Coverage, read_samples_record, read_targets_record
from kdcache.cache.record.standing import Beside
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.views.block_views import BlockViews


def counted(plan: Plan) -> int:
    """Blocks of the generation that counts."""
    return plan.generation.num_blocks if plan.generation else 0


def same_blocks(plan: Plan) -> bool:
    """Whether an unfinished first build cut the samples into blocks as this one does."""
    claimed = plan.claimed
    return (
        claimed is not None
        and claimed.shard_samples == plan.manifest.shard_samples
        and claimed.task == plan.manifest.task
    )


def claims(plan: Plan, manifest: Manifest) -> Manifest:
    """What the folder's manifest is to say: `manifest`, and the views that an unfinished build has planned
    beyond it. Without them nobody would know what its shards show."""
    claimed = plan.claimed
    if plan.generation is None or claimed is None or claimed.views[: len(manifest.views)] != manifest.views:
        return manifest
    return manifest.grown(views=claimed.views)


def drop_conflicts(plan: Plan, store: LocalStore, there: Beside) -> None:
    """Remove unfinished shards that hold something else under a name that this build will write."""
    for key in there.pending:
        if not _fits(plan, key):
            _drop(plan, store, there, key)


def _drop(plan: Plan, store: LocalStore, there: Beside, key: ShardKey) -> None:
    remove_shard(plan.root, store, key)
    there.beyond.remove(key)


def drop_other_samples(plan: Plan, store: LocalStore, there: Beside, num_blocks: int) -> None:
    """Remove unfinished shards of blocks that were packed anew, or that are no more."""
    root = plan.root
    seals: dict[int, str] = {}
    for key in there.pending:
        if key.block < counted(plan):
            continue
        try:
            seals.setdefault(key.block, read_samples_record(root, key.block)[1])
            fits = key.block < num_blocks and read_targets_record(root, key)[0].samples == seals[key.block]
        except BadCache:
            fits = False
        if not fits:
            _drop(plan, store, there, key)


def drop_stale(plan: Plan, store: LocalStore, there: Beside, dead: frozenset[int]) -> None:
    """Remove unfinished shards in which a row that lives on shows one that does not: nobody would ever look
    whether what it shows has changed, or is gone from the data."""
    if not any(views.recipe.mixes for views in plan.manifest.views):
        return
    recorded = EarlierPixels(store, plan.manifest)
    counts = {(key.block, key.view) for key in (plan.generation.seals if plan.generation else ())}
    for key in there.pending:
        if (key.block, key.view) in counts:
            continue  # it shows whom the pass that counts shows: the survey looked at that one
        views = recorded.read(key, read_targets_record(plan.root, key)[0].rows)
        if views is None or _shows_dead(views, key.block * plan.manifest.shard_samples, dead):
            _drop(plan, store, there, key)


def _shows_dead(views: BlockViews, first: int, dead: frozenset[int]) -> bool:
    living = (place for place, good in enumerate(views.valid) if good and first + place not in dead)
    return any(views.partner(place) in dead for place in living)


def recorded(plan: Plan, there: Beside, passes: Mapping[str, tuple[str, ...]]) -> Coverage:
    """What is there of targets, counted or not. None of the counted ones may be lost, but in lost blocks."""
    counts = plan.generation.coverage if plan.generation else Coverage((), {})
    return counts.grown(there.beyond, passes)


def pending_passes(plan: Plan, there: Beside) -> dict[str, tuple[str, ...]]:
    """Pass -> its targets, of unfinished shards that are what this build would make."""
    passes = {}
    for key in there.pending:
        names = read_targets_record(plan.root, key)[0].targets
        if _is_pass(plan.manifest, key, names):
            passes[key.pass_id] = tuple(sorted(names))
    return passes


def _is_pass(manifest: Manifest, key: ShardKey, names: tuple[str, ...]) -> bool:
    taps = {t.name: t for t in manifest.stored}
    return all(name in taps for name in names) and pass_id(names, taps) == key.pass_id


def _fits(plan: Plan, key: ShardKey) -> bool:
    """Whether a shard is what this build would make, or of no concern to it."""
    manifest, claimed = plan.manifest, plan.claimed
    try:
        names = read_targets_record(plan.root, key)[0].targets
    except BadCache:
        return False
    if claimed is None:
        return False  # nobody knows what its views were
    if plan.generation is None and not _same_store(claimed, manifest):
        return False
    if set(names) & set(manifest.stored_names) and not _is_pass(manifest, key, names):
        return False
    return _draws_alike(claimed, claims(plan, manifest), key.view)


def _same_store(claimed: Manifest, manifest: Manifest) -> bool:
    fields = ("identity", "teacher", "shard_samples", "target_format", "zstd")
    return all(getattr(claimed, name) == getattr(manifest, name) for name in fields)


def _draws_alike(claimed: Manifest, manifest: Manifest, number: int) -> bool:
    """Whether a view number shows the same in both."""
    if number >= min(claimed.num_views, manifest.num_views):
        return False
    one, other = claimed.view_set(number), manifest.view_set(number)
    same = (one.kind, one.crop, one.seed, one.recipe) == (other.kind, other.crop, other.seed, other.recipe)
    return same and one.draw_first - one.first == other.draw_first - other.first
