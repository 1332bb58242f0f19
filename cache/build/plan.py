"""From options to a manifest: who the teacher is, what the cache is called, what it will hold.

A new cache gets a manifest of its own; one that a generation counts gets further views and taps beside what
is there, nothing moved, nothing renamed. What an unfinished first build claimed binds nobody: its manifest
only fills in what is not said again. Nothing here writes; nothing here runs a forward of full size.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from kdcache.cache.build.options import BuildOptions
from kdcache.cache.build.samples.remembered import open_remembered, own_word
from kdcache.cache.build.size import shard_samples
from kdcache.cache.build.taps import fresh_taps, passes_with, say_classes, tap_entries
from kdcache.cache.errors import BadCache, BadOption
from kdcache.cache.images.feed import PIPELINE_VERSION
from kdcache.cache.images.pipeline import pipeline_facts
from kdcache.cache.look.teacher import own_teacher
from kdcache.cache.networks.build import refuse_stride
from kdcache.cache.networks.network import Network
from kdcache.cache.networks.resolve import member_names, resolve_teacher, run_folder
from kdcache.cache.networks.run_card import DataClasses, RunCard, read_run_card
from kdcache.cache.networks.weights import weights_digest
from kdcache.cache.record.advice import works_on
from kdcache.cache.record.classifier import classifier_digest, pack_classifier
from kdcache.cache.record.command import EMPTY, KEPT, build_words, difference, keeps_empty, view_word
from kdcache.cache.record.find import list_caches
from kdcache.cache.record.generation import Generation
from kdcache.cache.record.manifest import LABELS, PIXELS, Manifest, TapEntry, cache_name, kept_entry
from kdcache.cache.record.precision import chosen_precision
from kdcache.cache.record.standing import Standing, standing
from kdcache.cache.sources.contract import Source
from kdcache.cache.sources.table import open_source
from kdcache.cache.stores.contract import ShardKey
from kdcache.cache.stores.table import DEFAULT_FORMAT
from kdcache.cache.stores.zarr_shards import VECTOR_BYTES
from kdcache.cache.tasks.table import task_of
from kdcache.cache.trust import consent, require_trust
from kdcache.cache.views.recipe import Recipe, parse_recipe
from kdcache.cache.views.sets import MIRROR_OF, ViewSet, extend_views, parse_views, whole_kind
from kdcache.cache.visible import shell_line

OTHER_HOME = "for another form, build a cache of its own under another $KDCACHE_HOME"


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
    generation: Generation | None  # what counts already
    claimed: Manifest | None  # what the folder's manifest says, where there is one
    classifier: bytes = b""  # the object `classifier.safetensors`; empty without one
    typed: tuple[str, ...] = ()  # code of somebody's own that these very options name

    @property
    def existed(self) -> bool:
        return self.claimed is not None or self.generation is not None


def make_plan(options: BuildOptions) -> Plan:
    """Resolve teacher, source and cache, and grow the manifest by what was asked for. Writes nothing."""
    named = standing(options.cache, repair=options.repair) if options.cache else Standing(None, None)
    old = named.manifest
    precision = chosen_precision(options.amp, old if named.generation else None, old)
    teacher = options.teacher or own_teacher(old, own_word(options))
    network, card, choice, source = _teacher_and_source(options, teacher, old)
    options = options.resolved(source.task, tuple(network.taps), network.groups)
    if said := say_classes(options, source, network):
        choice = f"{choice}; {said}"
    drawn = _drawn(options, card, source, old)
    identity = _identity(
        network,
        source,
        precision,
        drawn,
        old,
        keep_empty=options.keep_empty or (old is not None and keeps_empty(old)),
    )
    name = cache_name(source.name.rpartition(":")[2], _label(teacher), identity)
    root = options.cache or options.caches_dir / name
    if options.cache is None:
        works_on(root, options.caches_dir, list_caches(options.caches_dir))
        named = standing(root, repair=options.repair)
    typed = tuple(n for r in options.requests() for n in (r.codec or "", r.reduction) if ":" in n)
    with consent(typed):
        if named.counted is not None:
            _same_identity(named.counted, identity, root)
            manifest = grown_manifest(named.counted, options, network)
            manifest = manifest.grown(data_spec=_spec_of(source))
        else:
            manifest = _fresh(options, name, teacher, identity, network, source, drawn, named.claimed)
    classifier = pack_classifier(network.classifier_weight())
    manifest = manifest.grown(classifier=classifier_digest(classifier))
    if options.fits is not None:
        options.fits(manifest, source, network)
    return Plan(root, manifest, source, network, choice, named.generation, named.claimed, classifier, typed)


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
    _refuse_keeping(options, source)
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
        classes=DataClasses(tuple(source.class_names), _spec_of(source)),
    )
    differ = network.config.class_difference(source.class_names)
    if differ and task_of(source.task).networks.other_classes is None:
        raise BadOption(
            differ,
            where=f"--teacher {teacher}",
            fix="name a teacher that was trained on this dataset's classes",
        )
    return network, card, choice, source


def _source_of(options: BuildOptions, teacher: str, old: Manifest | None) -> Source:
    """The data that were named, else the cache's, else those that the teacher was trained on."""
    keep = options.keep_empty or (old is not None and keeps_empty(old))
    if options.data is not None:
        return open_source(options.data, options.split, keep_empty=keep)
    if old is not None and old.data_spec:
        return open_remembered(old.data_spec, options, teacher, keep_empty=keep)
    folders = [run_folder(name, options.runs_dir) for name in member_names(teacher, options.runs_dir)]
    runs = [folder for folder in folders if folder is not None]
    if not runs:
        raise BadOption(
            f"no data was named, and '{teacher}' is not a run that would name them",
            where="kdcache build",
            fix="give --data NAME:DIR, such as --data camvid:DIR",
        )
    return open_remembered(read_run_card(runs[0]).data, options, teacher, keep_empty=keep)


def _refuse_keeping(options: BuildOptions, source: Source) -> None:
    if options.keep_empty and not task_of(source.task).truth.counts:
        raise BadOption(
            f"--keep-empty: every sample of {source.task} has something to learn",
            where=f"--data {_spec_of(source)}",
            fix="leave --keep-empty out",
        )


# ---- what cannot change ------------------------------------------------------------------------------------


def _label(teacher: str) -> str:
    """A teacher's name as a folder name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "_", teacher).strip("_.") or "teacher"


class Drawn(NamedTuple):
    """What stored crops of a cache are: part of what it is."""

    crop: tuple[int, int]
    recipe: Recipe


def _drawn(options: BuildOptions, card: RunCard | None, source: Source, old: Manifest | None) -> Drawn:
    """As asked for, else as the cache has it, else the run's crop and the data's recipe."""
    kind = task_of(source.task)
    kept = [views.recipe for views in old.views if views.draws] if old else []
    text = options.augment
    if text is None:
        text = str(old.identity["recipe"]) if old else source.augment
    recipe = kept[0] if kept and options.augment is None else parse_recipe(text, kind.recipes)
    crop = options.crop or (old.crop if old else None) or (card.crop if card else source.default_crop)
    kind.check_input(crop, where=f"--crop {crop[0]},{crop[1]}")
    return Drawn(crop, recipe)


def _identity(
    network: Network, source: Source, precision: str, drawn: Drawn, old: Manifest | None, *, keep_empty: bool
) -> dict[str, object]:
    identity = {
        "source": source.describe(),
        # Not the folder: data that were moved, even under another name, keep the cache that is named.
        "label": str(old.identity.get("label")) if old else source.label,
        # Where taps are read is each tap's own entry: naming one by hand must not rename the cache.
        "network": {k: v for k, v in network.config.nameless.to_dict().items() if k != "taps"},
        "weights": weights_digest(network),
        "precision": precision,
        "pixels": PIPELINE_VERSION,
        "views": drawn.recipe.version,
        "crop": list(drawn.crop),
        "recipe": drawn.recipe.text,
    }
    return identity | ({EMPTY: KEPT} if keep_empty else {})


def _same_identity(old: Manifest, identity: dict[str, object], root: Path) -> None:
    for key, value in identity.items():
        if old.identity.get(key) != value:
            words = build_words(old)
            if key == "crop":
                words += ["--crop", "x".join(map(str, value))]  # type: ignore[call-overload]
            elif key == "recipe":
                words += ["--augment", str(value)]
            raise BadCache(
                f"the cache was made with {difference(key, old.identity.get(key), value)}",
                where=str(root),
                fix="another teacher, dataset, precision, crop or recipe gets a cache of its own: "
                + (shell_line(words) if key in ("crop", "recipe") else "build without --cache"),
            )


def _spec_of(source: Source) -> str:
    return f"{source.name}:{source.root}"


# ---- a new manifest ----------------------------------------------------------------------------------------


def _fresh(
    options: BuildOptions,
    name: str,
    teacher: str,
    identity: dict[str, object],
    network: Network,
    source: Source,
    drawn: Drawn,
    planned: Manifest | None,
) -> Manifest:
    """`planned` is what an unfinished first build of this cache meant to make: what is not asked for now
    stays as it was asked for then, and what is recorded already is kept."""
    taps = fresh_taps(options, source, network, planned, drawn.crop)
    manifest = Manifest(
        name=planned.name if planned else name,
        identity=identity,
        teacher=_label(teacher),
        network=network.config.to_dict(),
        teacher_origin=teacher,
        teacher_weights=options.weights or (planned.teacher_weights if planned else ""),
        data=source.describe(),
        data_spec=_spec_of(source),
        crop=drawn.crop,
        output_stride=network.output_stride,
        precision=str(identity["precision"]),
        pipeline=pipeline_facts(None if options.device == "cpu" else 0),
        target_format=options.target_format or (planned.target_format if planned else DEFAULT_FORMAT),
        zstd=options.zstd or bool(planned and planned.zstd),
        shard_samples=1,
        vector_bytes=planned.vector_bytes if planned else VECTOR_BYTES,
        views=tuple(_fresh_views(options, source, drawn, planned)),
        taps=tuple(taps.values()),
        kept=_kept(options, source.task, planned),
        forward=_forward(options, network, planned),
    )
    rows = options.shard_rows or (planned.shard_samples if planned else 0)
    passes = passes_with({}, [manifest.tap_names, manifest.kept_names], manifest.stored)
    rows = rows or shard_samples(manifest, source, options.memory_bytes)
    return manifest.grown(shard_samples=rows, passes=passes)


def _kept(options: BuildOptions, task: str, old: Manifest | None) -> tuple[TapEntry, ...]:
    """What is stored of the views themselves: as asked for, or as the cache has it, or meant to."""
    if options.keep is None:
        return old.kept if old else ()
    names = (PIXELS, LABELS) if task_of(task).truth.rides else (PIXELS,)
    return tuple(kept_entry(name) for name in names)


def _forward(options: BuildOptions, network: Network, planned: Manifest | None) -> dict[str, object]:
    """What an unfinished first build began with; of a new one the size of batches may still be unknown."""
    kept = dict(planned.forward) if planned else {"memory_format": network.memory_format}
    return kept | ({"batch_size": options.batch_size} if options.batch_size and kept else {})


def _fresh_views(
    options: BuildOptions, source: Source, drawn: Drawn, planned: Manifest | None
) -> Sequence[ViewSet]:
    """Those that are asked for, else those that were planned, of the crop and recipe of now; else the
    task's."""
    kind, mirrors = task_of(source.task), MIRROR_OF.values()
    text, mirror, seed = options.views, options.mirror, options.seed or 0
    if planned and not (text or mirror):
        text = "+".join(view_word(views) for views in planned.views if views.kind not in mirrors)
        mirror = any(views.kind in mirrors for views in planned.views)
        if options.seed is None:
            seed = next((views.seed for views in planned.views if views.draws), seed)
    mirror = mirror or (text is None and kind.views.mirror)
    text = text or kind.default_views
    return parse_views(
        text, crop=drawn.crop, seed=seed, mirror=mirror, augment=drawn.recipe, rules=kind.views
    )


# ---- a manifest with more in it ----------------------------------------------------------------------------


def grown_manifest(old: Manifest, options: BuildOptions, network: Network) -> Manifest:
    """The same manifest with more views and taps. What is there keeps its place, codec and numbers."""
    require_trust(old.foreign_names, where=f"manifest of cache {old.name}")  # before anything is promised
    entries = tap_entries(options.requests(), network, old.crop)
    _refuse_other_layout(old, options)
    views = old.views
    if options.views or options.mirror:
        kind = task_of(old.task)
        recipe = [v.recipe for v in old.views if v.draws] or [
            parse_recipe(str(old.identity["recipe"]), kind.recipes)
        ]
        wanted = parse_views(
            options.views or whole_kind(kind.views),
            crop=old.crop,
            seed=_seed_of(old) if options.seed is None else options.seed,
            mirror=options.mirror,
            augment=recipe[0],
            rules=kind.views,
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
    return old.grown(views=views, taps=tuple(taps.values()), kept=_kept(options, old.task, old))


def _seed_of(old: Manifest) -> int:
    """Of the views that are drawn; 0 where none is."""
    return next((views.seed for views in old.views if views.draws), 0)


def _refuse_other_layout(old: Manifest, options: BuildOptions) -> None:
    """What a cache cannot change once it is there must not be ignored when it is asked for."""
    seeds = {views.seed for views in old.views if views.draws}  # one, where anything is drawn
    asked: list[tuple[str, object, object]] = [
        ("--seed", options.seed if seeds else None, _seed_of(old)),
        ("--shard-rows", options.shard_rows, old.shard_samples),
        ("--format", options.target_format, old.target_format),
        ("--zstd", options.zstd or None, old.zstd),
    ]
    for flag, now, then in asked:
        if now is not None and now != then:
            raise BadOption(
                f"the cache was built with {flag} {then}, not {now}",
                where=f"cache {old.name}",
                fix=f"leave {flag} out; {OTHER_HOME}",
            )
