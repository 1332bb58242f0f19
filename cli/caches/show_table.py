"""`kdcache show`: what a cache holds, as tables."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from kdcache.cache.errors import size_text
from kdcache.cache.look.size import codecs_are_trusted, retired_bytes
from kdcache.cache.look.verify import unfinished
from kdcache.cache.reader.cache import Cache
from kdcache.cache.record.layout import bytes_per_row
from kdcache.cli.caches.build_display import view_title
from kdcache.cli.terminal import GRID, Table, Terminal


def print_cache(cache: Cache, terminal: Terminal) -> None:
    """Teacher, data, views, taps with shape, codec and bytes, shards, digests, and the losses it can
    serve."""
    m = cache.manifest
    facts = Table(**GRID)
    facts.add_row("cache", str(cache.root))
    facts.add_row(
        "teacher",
        f"{m.teacher_origin} ({m.network['name']}), {m.precision}, weights {str(m.identity['weights'])[:19]}",
    )
    facts.add_row(
        "data",
        f"{m.data['name']} split '{m.data['split']}', {cache.generation.num_living} samples, "
        f"{len(m.class_names)} classes, {m.task}",
    )
    if m.classifier:
        facts.add_row("classifier", f"the teacher's last linear layer, digest {m.classifier}")
    facts.add_row("pixels", ", ".join(f"{k} {v}" for k, v in m.pipeline.items()))
    facts.add_row(
        "format", f"{m.target_format}{' + zstd' if m.zstd else ''}, shards of {m.shard_samples} samples"
    )
    for views in m.views:
        facts.add_row("views", f"{view_title(views)}  digest {views.digest()}")
    facts.add_row("generation", _generation_text(cache))
    terminal.show(facts)
    terminal.show(_tap_table(cache))
    if len(cache.generation.retired):
        known = codecs_are_trusted(m)  # else nobody may ask how large a row is
        freed = f"about {size_text(retired_bytes(cache))}" if known else "their room"
        advice = f"'kdcache compact --cache {cache.root.name} --out NAME' frees {freed}"
        terminal.say(advice)
    _print_losses(cache, terminal)


def _generation_text(cache: Cache) -> str:
    """Number, living and retired samples, what is not finished."""
    generation = cache.generation
    text = f"{generation.number}: {generation.num_living} samples live, {len(generation.retired)} are retired"
    later = len(unfinished(cache.root))
    return text + (f"; {later} shards beyond it are unfinished" if later else "")


def _tap_table(cache: Cache) -> Table:
    m = cache.manifest
    stored = _bytes_by_tap(cache)
    table = Table("tap", "H x W x C", "codec", "shards", "bytes", "bytes a value", box=None)
    for column in ("module", "digest"):
        table.add_column(column, overflow="fold")
    for tap in m.taps:
        spec = tap.spec(*(m.views[0].crop or m.crop))
        done = cache.coverage.count(tap.name)
        num_bytes, values = stored.get(tap.name, (0, 0))
        table.add_row(
            tap.name, " x ".join(map(str, spec.shape)), tap.codec,
            f"{done}/{m.num_views * len(cache.generation.block_numbers)}", size_text(num_bytes),
            f"{num_bytes / values:.3f}" if values else "-", tap.module, tap.digest,
        )  # fmt: skip
    return table


def _bytes_by_tap(cache: Cache) -> dict[str, tuple[int, int]]:
    """Tap -> (bytes on disk, stored values), from the records alone. An object of several taps is divided
    among them by their raw sizes; by their values, where a codec is code that nobody trusts."""
    m = cache.manifest
    stored = {name: 0 for name in m.tap_names}
    counted = dict(stored)
    trusted = codecs_are_trusted(m)
    for key in cache.coverage.keys():
        record = cache.targets_record(key)
        views = cache.block_views(key.block, key.view)
        sizes = Counter(tuple(size) for size in views.geometry[views.valid][:, 5:7].tolist())
        values, raw = {}, {}
        for tap in record.targets:
            specs = [(m.tap(tap).spec(*size), rows) for size, rows in sizes.items()]
            values[tap] = sum(rows * math.prod(spec.shape) for spec, rows in specs)
            counted[tap] += values[tap]
            if trusted:
                raw[tap] = sum(rows * bytes_per_row(m, tap, spec) for spec, rows in specs)
        for entry in record.objects:
            # The path of an array names format, teacher and tap; a tar lies in no folder of a tap.
            folder = entry.name.split("/")[2:3]
            owners = [tap for tap in record.targets if [tap] == folder] or record.targets
            for tap, share in zip(owners, _divided(entry.num_bytes, owners, raw or values), strict=True):
                stored[tap] += share
    return {name: (stored[name], counted[name]) for name in m.tap_names}


def _divided(num_bytes: int, taps: Sequence[str], weights: Mapping[str, int]) -> Iterator[int]:
    """Whole bytes for each tap, in the ratio of their weights; together exactly `num_bytes`."""
    whole, before, given = sum(weights[tap] for tap in taps) or 1, 0, 0
    for tap in taps:
        before += weights[tap]
        yield num_bytes * before // whole - given
        given = num_bytes * before // whole


def _print_losses(cache: Cache, terminal: Terminal) -> None:
    """Those that any student can be trained with; those that ask something of it; those that cannot be
    served although all that they read is there."""
    from kdcache.cli.caches.loss_fit import served  # tables of a cache should not wait for the losses

    fits = dict(served(cache))
    free = [name for name, fit in fits.items() if fit.refusal is None and not fit.student]
    terminal.say(f"losses it can serve: {', '.join(free)}")
    by_need: dict[tuple[str, ...], list[str]] = {}
    for name, fit in fits.items():
        if fit.student:
            by_need.setdefault(fit.student, []).append(name)
    for need, names in by_need.items():
        words = f"needs a student of {' and '.join(need)}: {', '.join(names)}"
        terminal.say(f"  {words}")
    for name, fit in fits.items():
        if fit.refusal is not None:
            terminal.say(f"  not {name}: {fit.refusal.what}")
