"""From options to a manifest: who the teacher is, what the cache is called, what it will hold.

A new cache gets a manifest of its own; one that exists gets further views and taps beside what is there,
nothing moved, nothing renamed. Nothing here writes; nothing here runs a forward of full size.
"""

import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.build.options import BuildOptions, TapRequest, default_requests
from kdcache.cache.build.size import shard_samples
from kdcache.cache.codecs.reduction import load_reduction, reduced_spec
from kdcache.cache.codecs.table import default_codec, make_codec
from kdcache.cache.errors import BadCache, BadOption, TornManifest, unknown
from kdcache.cache.images.feed import PIPELINE_VERSION
from kdcache.cache.images.pipeline import pipeline_facts
from kdcache.cache.look.teacher import own_teacher
from kdcache.cache.networks.build import refuse_stride
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.resolve import member_names, resolve_teacher, run_folder
from kdcache.cache.networks.run_card import RunCard, read_run_card
from kdcache.cache.networks.weights import weights_digest
from kdcache.cache.record.classifier import classifier_digest, pack_classifier
from kdcache.cache.record.manifest import FILE_NAME, Manifest, TapEntry, cache_name, pass_id, read_manifest
from kdcache.cache.record.precision import chosen_precision
from kdcache.cache.record.records import stored_shard_samples
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.table import open_source
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.table import DEFAULT_FORMAT
from kdcache.cache.tasks.table import task_of
from kdcache.cache.views.recipe import Recipe, parse_recipe
from kdcache.cache.views.sets import extend_views, parse_views
from kdcache.cache.views.view import VIEW_VERSION

OTHER_HOME = "for another form, build a cache of its own under another $KDCACHE_HOME"
_ANY_PX = (64, 64)  # an input for channels and strides of taps, which do not depend on it


class Work(NamedTuple):
    """One shard to make: the missing targets of one block under one view, in one pass of the teacher."""

    shard: ShardKey
    targets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything decided before the first byte is written."""

    root: Path
    manifest: Manifest
    source: Source
    network: Network
    choice: str  # the sentence that says which teacher was taken
    existed: bool
    classifier: bytes = b""  # the object `classifier.safetensors`; empty without one


def make_plan(options: BuildOptions) -> Plan:
    """Resolve teacher, source and cache, and grow the manifest by what was asked for. Writes nothing."""
    old = read_manifest(options.cache) if options.cache else None
    precision = chosen_precision(options.amp, old)
    teacher = options.teacher or own_teacher(old)
    network, card, choice, source = _teacher_and_source(options, teacher, old)
    options = options.resolved(source.task, tuple(network.taps))
    classifier = pack_classifier(network.classifier_weight())
    identity = _identity(network, source, precision)
    name = cache_name(source.name, _label(teacher), identity)
    root = options.cache or options.caches_dir / name
    if old is None and (root / FILE_NAME).is_file():
        with suppress(TornManifest):  # the options say again what it said; the shards are kept
            old = read_manifest(root)
    if old is not None:
        _same_identity(old, identity, root)
        manifest = grown_manifest(old, options, network, source.augment)
    else:
        manifest = _fresh(options, name, teacher, identity, network, card, source)
    manifest = manifest.grown(classifier=classifier_digest(classifier))
    return Plan(root, manifest, source, network, choice, old is not None, classifier)


# ---- teacher and source ------------------------------------------------------------------------------------


def _teacher_and_source(
    options: BuildOptions, teacher: str, old: Manifest | None
) -> tuple[Network, RunCard | None, str, Source]:
    modules = {r.tap: r.module for r in options.taps if r.module}
    if old is not None:
        modules = {t.tap: t.module for t in old.taps} | modules
    weights = options.weights or (old.teacher_weights or None if old else None)
    stride = options.output_stride or (old.output_stride if old else None)
    source = _source_of(options, teacher, old)
    refuse_stride(options.output_stride, source.task)
    network, card, choice = resolve_teacher(
        teacher,
        options.runs_dir,
        task=source.task,
        num_classes=len(source.class_names),
        output_stride=stride,
        weights=weights,
        taps=modules or None,
        mean=options.mean or (old is not None and bool(old.network.get("mean"))),
    )
    if network.num_classes not in (0, len(source.class_names)):  # 0: a backbone, features only
        raise BadOption(
            f"the teacher answers {network.num_classes} classes, {source.name} has {len(source.class_names)}",
            where=f"--teacher {teacher}",
            fix="name a teacher that was trained on this dataset's classes",
        )
    return network, card, choice, source


def _source_of(options: BuildOptions, teacher: str, old: Manifest | None) -> Source:
    """The data that were named, else the cache's, else those that the teacher was trained on."""
    spec = options.data or (old.data_spec if old else None)
    if spec is not None:
        return open_source(spec, options.split)
    folders = [run_folder(name, options.runs_dir) for name in member_names(teacher, options.runs_dir)]
    runs = [folder for folder in folders if folder is not None]
    if not runs:
        raise BadOption(
            f"no data was named, and '{teacher}' is not a run that would name them",
            where="kdcache build",
            fix="give --data NAME:DIR, such as --data camvid:DIR",
        )
    return open_source(read_run_card(runs[0]).data, options.split)


# ---- what cannot change ------------------------------------------------------------------------------------


def _label(teacher: str) -> str:
    """A teacher's name as a folder name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", teacher).strip("_.") or "teacher"


def _identity(network: Network, source: Source, precision: str) -> dict[str, object]:
    return {
        "source": source.describe(),
        # Where taps are read is each tap's own entry: naming one by hand must not rename the cache.
        "network": {k: v for k, v in network.config.to_dict().items() if k != "taps"},
        "weights": weights_digest(network),
        "precision": precision,
        "pixels": PIPELINE_VERSION,
        "views": VIEW_VERSION,
    }


def _same_identity(old: Manifest, identity: dict[str, object], root: Path) -> None:
    for key, value in identity.items():
        if old.identity.get(key) != value:
            raise BadCache(
                f"the cache was made with {key} {str(old.identity.get(key))[:60]}, now it is "
                f"{str(value)[:60]}",
                where=str(root),
                fix="build without --cache: another teacher, dataset or precision gets a cache of its own",
            )


# ---- a new manifest ----------------------------------------------------------------------------------------


def _fresh(
    options: BuildOptions,
    name: str,
    teacher: str,
    identity: dict[str, object],
    network: Network,
    card: RunCard | None,
    source: Source,
) -> Manifest:
    kind = task_of(source.task)
    crop = options.crop or (card.crop if card else source.default_crop)
    recipe = parse_recipe(source.augment if options.augment is None else options.augment, kind.recipes)
    text = options.views or kind.default_views
    views = parse_views(text, crop=crop, seed=options.seed, mirror=options.mirror, augment=recipe)
    wanted = options.requests() or default_requests(source.task, tuple(network.taps))
    entries = tap_entries(wanted, network)
    manifest = Manifest(
        name=name,
        identity=identity,
        teacher=_label(teacher),
        network=network.config.to_dict(),
        teacher_origin=teacher,
        teacher_weights=options.weights or "",
        data=source.describe(),
        data_spec=f"{source.name}:{source.root}",
        crop=crop,
        output_stride=network.output_stride,
        precision=str(identity["precision"]),
        pipeline=pipeline_facts(None if options.device == "cpu" else 0),
        target_format=options.target_format or DEFAULT_FORMAT,
        zstd=options.zstd,
        shard_samples=1,
        num_samples=len(source.keys),
        views=tuple(views),
        taps=entries,
    )
    kept = stored_shard_samples(options.caches_dir / name)  # of a cache whose manifest was lost
    rows = kept or options.shard_rows or shard_samples(manifest, source, options.memory_bytes)
    return manifest.grown(shard_samples=rows, passes=passes_with({}, [manifest.tap_names], entries))


# ---- a manifest with more in it ----------------------------------------------------------------------------


def grown_manifest(old: Manifest, options: BuildOptions, network: Network, augment: str = "") -> Manifest:
    """The same manifest with more views and taps. What is there keeps its place, codec and numbers.

    `augment` is the source's own recipe, for a cache that has drawn none yet.
    """
    entries = tap_entries(options.requests(), network)
    for entry in old.taps:
        if entry.reduction:
            load_reduction(entry.reduction, may_import=False)  # refuse now, before anything is promised
    _refuse_other_layout(old, options)
    views = old.views
    if options.views or options.mirror:
        text = options.views or "full"
        wanted = parse_views(
            text,
            crop=options.crop or old.crop,
            seed=options.seed,
            mirror=options.mirror,
            augment=_recipe(old, options, augment),
        )
        views = tuple(extend_views(old.views, wanted))
    taps = {t.name: t for t in old.taps}
    for entry, request in zip(entries, options.requests(), strict=True):
        have = taps.get(entry.name)
        if have is None:
            taps[entry.name] = entry
        elif request.codec and entry.codec != have.codec or entry.module != have.module:
            raise BadOption(
                f"'{have.name}' is stored as {have.codec} from {have.module}, not as {entry.codec} "
                f"from {entry.module}",
                where=f"cache {old.name}",
                fix=f"leave the codec out; {OTHER_HOME}",
            )
    return old.grown(views=views, taps=tuple(taps.values()))


def _recipe(old: Manifest, options: BuildOptions, augment: str) -> Recipe:
    """What is asked for; else as the cache draws already; else the source's own."""
    drawn = [views.recipe for views in old.views if views.crop]
    if options.augment is None and drawn:
        return drawn[0]
    return parse_recipe(augment if options.augment is None else options.augment, task_of(old.task).recipes)


def _refuse_other_layout(old: Manifest, options: BuildOptions) -> None:
    """What a cache cannot change once it is there must not be ignored when it is asked for."""
    sizes = {v.crop for v in old.views if v.crop} or {old.crop}
    drawn = {v.recipe.text for v in old.views if v.crop}
    augment = None
    if options.augment is not None:
        augment = parse_recipe(options.augment, task_of(old.task).recipes).text
    asked: list[tuple[str, object, object]] = [
        ("--augment", augment, augment if not drawn or augment in drawn else min(drawn)),
        ("--crop", options.crop, options.crop if options.crop in sizes else min(sizes)),
        ("--shard-rows", options.shard_rows, old.shard_samples),
        ("--format", options.target_format, old.target_format),
        ("--zstd", options.zstd or None, old.zstd),
    ]
    for flag, now, then in asked:
        if now is not None and now != then:
            raise BadOption(
                f"the cache was built with {flag} {then}, not {now}",
                where=f"cache {old.name}",
                fix=OTHER_HOME,
            )


# ---- taps and passes ---------------------------------------------------------------------------------------


def tap_entries(requests: Sequence[TapRequest], network: Network) -> tuple[TapEntry, ...]:
    """What a manifest says of each request. Raises BadOption for a tap that the teacher does not have."""
    for request in requests:
        if request.tap not in network.taps:
            raise unknown("tap", request.tap, network.taps, where=f"teacher {network.name}")
    specs = network.tap_specs([r.tap for r in requests], *_ANY_PX) if requests else {}
    entries = []
    for r in requests:
        spec = reduced_spec(r.reduction, specs[r.tap]) if r.reduction else specs[r.tap]
        codec = make_codec(r.codec or default_codec(r.name, spec), may_import=True)
        entries.append(
            TapEntry(
                name=r.name,
                tap=r.tap,
                module=network.taps[r.tap],
                stride=spec.stride,
                channels=spec.channels,
                codec=codec.name,
                reduction=r.reduction,
            )
        )
    return tuple(entries)


def passes_with(
    old: dict[str, tuple[str, ...]], groups: Iterable[tuple[str, ...]], taps: Sequence[TapEntry]
) -> dict[str, tuple[str, ...]]:
    """`old` and one more pass of the teacher for each group of targets that it writes together."""
    by_name = {t.name: t for t in taps}
    return old | {pass_id(group, by_name): tuple(sorted(group)) for group in groups if group}
