"""Check a cache: everything that its generation counts against seals and digests; with `pixels` and `deep`,
stored rows against the image pipeline and the teacher."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kdcache.cache.codecs.reduction import load_reduction
from kdcache.cache.errors import BadCache, OutsideCache
from kdcache.cache.look.describe import whole_layout
from kdcache.cache.processes.progress import moved
from kdcache.cache.reader.cache import Cache, open_cache
from kdcache.cache.record.classifier import classifier_problem
from kdcache.cache.record.generation import FOLDER as GENERATIONS
from kdcache.cache.record.generation import Generation, generation_name, list_generations, read_generation
from kdcache.cache.record.manifest import FILE_NAME, TapEntry, read_manifest
from kdcache.cache.record.precision import FULL, in_precision
from kdcache.cache.record.records import TargetsRecord, list_records, objects_of, read_record
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.inside import path_inside
from kdcache.cache.stores.local import LocalStore
from kdcache.cache.stores.object_check import object_problem
from kdcache.cache.stores.table import target_format
from kdcache.cache.trust import is_trusted

if TYPE_CHECKING:
    import torch

    from kdcache.cache.images.feed import Feed
    from kdcache.cache.networks.network import Network


class Problem(NamedTuple):
    """One thing that is not what the cache says of it."""

    key: ShardKey | None  # None: of no shard
    where: str  # what it is part of, where it is of no shard
    text: str
    fix: str = ""  # what to do where no repair helps

    @property
    def title(self) -> str:
        return self.key.title if self.key else self.where


class DeepError(NamedTuple):
    """How far stored targets are from the teacher run anew on the same pixels, over the rows that were
    checked."""

    target: str
    rows: int
    max_abs: float
    relative_l2: float
    bound: float  # the codec's stated largest error over these rows
    beyond: tuple[str, ...]  # rows that are further away than their bound, as 'KEY view N'


def problems(root: Path, seen: Callable[[int], None] = lambda num_bytes: moved()) -> Iterator[Problem]:
    """Whatever is damaged, missing, or does not belong together, of all that the newest generation counts.
    `seen(bytes)` is called as objects are read. Raises Missing for no cache, BadCache for another format."""
    generation = None
    try:  # whose files would not be looked for
        path_inside(root, GENERATIONS)
    except OutsideCache as error:
        yield _problem(None, GENERATIONS, error)
    numbers = list_generations(root)
    for number in numbers:
        try:
            generation = read_generation(root, number, numbers[-1])
        except BadCache as error:
            yield _problem(None, generation_name(number), error)
    yield from _of_claims(root, generation)
    if generation is None:
        return
    if text := classifier_problem(root, generation.manifest):
        yield Problem(None, "classifier", text)
    damaged = False
    for problem in _of_shards(root, generation, seen):
        damaged = True
        yield problem
    if not damaged:  # sizes of arrays are read from the samples
        yield from _of_arrays(root, generation)


def _problem(key: ShardKey | None, where: str, error: BadCache) -> Problem:
    return Problem(key, where, error.what, error.fix if isinstance(error, OutsideCache) else "")


def _of_claims(root: Path, generation: Generation | None) -> Iterator[Problem]:
    """The manifest that lies in the folder."""
    try:
        manifest = read_manifest(root)
    except BadCache as error:
        if "has format" in error.what:
            raise
        yield _problem(None, FILE_NAME, error)
        return
    if generation is not None and manifest.identity != generation.manifest.identity:
        yield Problem(None, FILE_NAME, f"{FILE_NAME} is that of another cache, {manifest.name}")


def _of_shards(root: Path, generation: Generation, seen: Callable[[int], None]) -> Iterator[Problem]:
    store = LocalStore(root)
    for key, seal in sorted(generation.seals.items()):
        try:
            record, _ = read_record(root, key, seal)
        except BadCache as error:
            yield _problem(key, "", error)
            continue
        if isinstance(record, TargetsRecord) and record.samples != generation.blocks[key.block].seal:
            yield Problem(key, "", "its targets were made from other samples than the cache holds")
        for entry in objects_of(record):
            try:
                if text := object_problem(store, entry):
                    yield Problem(key, "", text)
            except BadCache as error:
                yield _problem(key, "", error)
            seen(entry.num_bytes)


def _of_arrays(root: Path, generation: Generation) -> Iterator[Problem]:
    """Descriptions for other readers; of taps and views that the generation counts. Those of `undescribed`
    taps are left out: what they must say is known to their codecs alone."""
    manifest = generation.manifest
    strange = undescribed(generation)
    manifest = manifest.grown(taps=tuple(tap for tap in manifest.taps if tap not in strange))
    layout = whole_layout(root, manifest, generation.block_numbers, generation.num_blocks)
    for text in target_format(manifest.target_format).problems(LocalStore(root), layout):
        yield Problem(None, "description of an array", text)


def undescribed(generation: Generation) -> tuple[TapEntry, ...]:
    """Taps whose codecs are somebody's own code that nobody trusts."""
    taps = generation.manifest.taps
    return tuple(tap for tap in taps if ":" in tap.codec and not is_trusted(tap.codec))


def damaged_shards(root: Path, generation: Generation) -> list[ShardKey]:
    """Shards of a generation that 'build --repair' must put back; descriptions are written anew by any
    build."""
    return sorted({p.key for p in _of_shards(root, generation, lambda num_bytes: None) if p.key})


def unfinished(root: Path) -> list[ShardKey]:
    """Shards that are recorded beyond the newest generation: a build has not ended. Those of a block that was
    lost counted before, and never will again."""
    numbers = list_generations(root)
    newest = read_generation(root, numbers[-1]) if numbers else None
    known = newest.seals if newest else {}
    lost = set(range(newest.num_blocks)) - set(newest.block_numbers) if newest else set()
    return sorted(key for key in list_records(root) if key not in known and key.block not in lost)


class OtherPixels(NamedTuple):
    """A row whose pixels cannot be made again."""

    key: str  # of the sample
    view: int


def pixel_check(
    cache: Cache, limit: int | None = None, *, num_threads: int = 1, seen: Callable[[], None] = lambda: None
) -> Iterator[OtherPixels]:
    """Make the teacher's input of every living row again, or of about `limit`, and compare its digest.

    For whole images under `full` views this is the whole view, not the windows that training cuts.
    """
    # Here and below: seals and digests are checked without torch and the image pipeline.
    from kdcache.cache.images.feed import pixel_digests
    from kdcache.cache.images.pipeline import ImagePipeline
    from kdcache.cache.reader.rows import pixel_feed

    rows = cache.stored_rows(limit)
    queued: list[tuple[int, int]] = []

    def feed(number: int) -> "Feed | None":
        row = next(rows, None)
        if row is None:
            return None
        queued.append(row)
        return pixel_feed(cache, [cache.row(*row)])

    pipeline = ImagePipeline(feed, batch_size=1, with_maps=False, mixes=cache.mixes, num_threads=num_threads)
    try:
        for number, batch in enumerate(pipeline.run()):
            index, view = queued[number]
            if int(pixel_digests(batch.images_BHWC)[0]) != cache.pixel_digest(index, view):
                yield OtherPixels(cache.key(index), view)
            seen()
    finally:
        pipeline.close()


class RowError(NamedTuple):
    """One row of one target against the teacher."""

    row: str
    max_abs: float
    squared_error: float
    squared: float
    bound: float
    beyond: bool


# For another batch size a convolution adds up in another order: by this share of a tap's largest number.
ROUNDING = 1e-5
LOW_PRECISION_ROUNDING = 2e-2  # of a forward in bf16 or fp16: a few of its last places


def deep_check(root: Path, teacher: "Network", num_rows: int = 8) -> list[DeepError]:
    """Run the teacher again on `num_rows` rows spread over the cache and compare every stored target.

    It computes in the cache's own precision, on the CPU.
    """
    import torch

    from kdcache.cache.images.pipeline import ImagePipeline
    from kdcache.cache.reader.rows import pixel_feed

    cache = open_cache(root)
    rows = list(cache.stored_rows(num_rows))
    errors: dict[str, list[RowError]] = {t: [] for t in cache.manifest.tap_names}

    def feed(number: int) -> "Feed | None":
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
                errors[tap.name].append(_compare(cache, tap.name, index, view, value))
    pipeline.close()
    return [_summary(name, of_rows) for name, of_rows in errors.items() if of_rows]


def _compare(cache: Cache, target: str, index: int, view: int, fresh: "torch.Tensor") -> RowError:
    import torch

    codec = cache.codec(target)
    stored = codec.decode(
        {k: torch.from_numpy(v.copy())[None] for k, v in cache.parts(target, index, view).items()}
    )
    difference, bound = (stored - fresh).abs(), codec.bound(fresh)
    rounding = ROUNDING if cache.manifest.precision == FULL else LOW_PRECISION_ROUNDING
    slack = rounding * float(fresh.abs().max())
    return RowError(
        row=f"{cache.key(index)} view {view}",
        max_abs=float(difference.max()),
        squared_error=float(difference.square().sum()),
        squared=float(fresh.square().sum()),
        bound=float(bound.max()),
        beyond=not bool((difference <= bound + slack).all()),
    )


def _summary(target: str, errors: list[RowError]) -> DeepError:
    relative = (sum(e.squared_error for e in errors) / max(sum(e.squared for e in errors), 1e-30)) ** 0.5
    return DeepError(
        target,
        len(errors),
        max(e.max_abs for e in errors),
        relative,
        max(e.bound for e in errors),
        tuple(e.row for e in errors if e.beyond),
    )
