"""A manifest with more in it: further views and taps beside what is there, nothing moved, nothing renamed."""

from collections.abc import Iterable, Sequence

from kdcache.cache.build_options import BuildOptions, TapRequest
from kdcache.cache.codecs.table import default_codec, make_codec
from kdcache.cache.errors import BadOption, unknown
from kdcache.cache.manifest import Manifest, TapEntry, pass_id
from kdcache.cache.networks.network import Network
from kdcache.cache.recipe import Recipe, parse_recipe
from kdcache.cache.reduction import load_reduction, reduced_spec
from kdcache.cache.view_draw import extend_views, parse_views

OTHER_HOME = "for another form, build a cache of its own under another $KDCACHE_HOME"


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
    return parse_recipe(options.augment if options.augment is not None else augment, task=old.task)


def _refuse_other_layout(old: Manifest, options: BuildOptions) -> None:
    """What a cache cannot change once it is there must not be ignored when it is asked for."""
    sizes = {v.crop for v in old.views if v.crop} or {old.crop}
    drawn = {v.recipe.text for v in old.views if v.crop}
    augment = None if options.augment is None else parse_recipe(options.augment, task=old.task).text
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


def tap_entries(requests: Sequence[TapRequest], network: Network) -> tuple[TapEntry, ...]:
    for request in requests:
        if request.tap not in network.taps:
            raise unknown("tap", request.tap, network.taps, where=f"teacher {network.name}")
    taps = network.tap_specs([r.tap for r in requests], 64, 64) if requests else {}
    found = []
    for r in requests:
        spec = reduced_spec(r.reduction, taps[r.tap]) if r.reduction else taps[r.tap]
        codec = make_codec(r.codec or default_codec(r.name, spec), may_import=True)
        found.append(
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
    return tuple(found)


def passes_with(
    old: dict[str, tuple[str, ...]], groups: Iterable[tuple[str, ...]], taps: Sequence[TapEntry]
) -> dict[str, tuple[str, ...]]:
    by_name = {t.name: t for t in taps}
    return old | {pass_id(group, by_name): tuple(sorted(group)) for group in groups if group}
