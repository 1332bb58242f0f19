"""The targets of a cache: what its manifest says of each tap that is kept, and which of them one pass of the
teacher writes together."""

from collections.abc import Iterable, Sequence

from kdcache.cache.build.options import BuildOptions, TapRequest, default_requests
from kdcache.cache.codecs.reduction import reduced_spec
from kdcache.cache.codecs.table import default_codec, make_codec
from kdcache.cache.errors import BadOption, unknown
from kdcache.cache.networks.network import Network
from kdcache.cache.record.manifest import Manifest, TapEntry, pass_id
from kdcache.cache.sources.contract import Source
from kdcache.cache.tasks.table import task_of


def fresh_taps(
    options: BuildOptions,
    source: Source,
    network: Network,
    planned: Manifest | None,
    crop: tuple[int, int],
) -> dict[str, TapEntry]:
    """Those that are asked for and those that were planned, else the task's, for an input of `crop` pixels.
    A cache that is named grows by a tap; the command that began it says all that is wanted, or nothing."""
    differ = bool(network.config.class_difference(source.class_names))
    usual = default_requests(source.task, tuple(network.taps), network.groups, differ=differ)
    wanted = options.requests() or (() if planned else usual)
    kept = planned is not None and (options.cache is not None or not wanted)
    entries = {tap.name: tap for tap in planned.taps} if planned and kept else {}
    return entries | {entry.name: entry for entry in tap_entries(wanted, network, crop)}


def say_classes(options: BuildOptions, source: Source, network: Network) -> str:
    """Of a teacher of other classes: that its features alone can teach, and which of them are kept where
    nobody said. '' for any other. Raises BadOption where scores by class are asked for: nothing could be
    compared with them."""
    other = task_of(source.task).networks.other_classes
    differ = network.config.class_difference(source.class_names)
    if not differ or other is None:
        return ""
    scores = {tap for kind in other.scores for tap in network.groups.get(kind, (kind,))}
    asked = list(dict.fromkeys(request.tap for request in options.requests() if request.tap in scores))
    if asked:
        raise BadOption(
            differ, where=f"{', '.join(asked)}: scores by class of {network.name}", fix=other.instead
        )
    kept = "" if options.requests() else f", and {', '.join(other.teaches)} is what is kept"
    return f"{differ}: its features alone can teach{kept}"


def tap_entries(
    requests: Sequence[TapRequest], network: Network, crop: tuple[int, int]
) -> tuple[TapEntry, ...]:
    """What a manifest says of each request. Channels and strides do not depend on the size, but some networks
    take one size only: `crop` is that of the cache. Raises BadOption for a tap that the teacher does not
    have, and for a size that it does not take."""
    for request in requests:
        if request.tap not in network.taps:
            legal = (*network.groups, *network.taps)
            raise unknown("tap", request.tap, legal, where=f"teacher {network.name}")
    specs = network.tap_specs([r.tap for r in requests], *crop) if requests else {}
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
