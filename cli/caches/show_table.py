"""`kdcache show`: what a cache holds, as tables."""

from typing import Any

from kdcache.cache.errors import size_text
from kdcache.cache.look.size import codecs_are_trusted, retired_bytes
from kdcache.cache.look.verify import unfinished
from kdcache.cache.reader.cache import Cache
from kdcache.cache.record.sums import Taken, add, taken_by
from kdcache.cache.views.sets import ViewSet
from kdcache.cli.caches.served_losses import served_losses
from kdcache.cli.terminal import GRID, Table, Terminal


def print_cache(cache: Cache, terminal: Terminal) -> None:
    """Teacher, data, views, taps with shape, codec and bytes, shards, the losses it can serve, digests."""
    m = cache.manifest
    facts = Table(**GRID)
    facts.add_row("cache", str(cache.root))
    facts.add_row("teacher", f"{m.teacher_origin} ({m.network['name']}), {m.precision}")
    facts.add_row(
        "data",
        f"{m.data['name']} split '{m.data['split']}', {cache.generation.num_living} samples, "
        f"{len(m.class_names)} classes, {m.task}",
    )
    if m.classifier:
        facts.add_row("classifier", "the teacher's last linear layer")
    facts.add_row("pixels", ", ".join(f"{k} {v}" for k, v in m.pipeline.items()))
    facts.add_row(
        "format", f"{m.target_format}{' + zstd' if m.zstd else ''}, shards of {m.shard_samples} samples"
    )
    for views in m.views:
        facts.add_row("views", view_title(views))
    facts.add_row("generation", _generation_text(cache))
    terminal.show(facts)
    terminal.show(_tap_table(cache))
    if len(cache.generation.retired):
        known = codecs_are_trusted(m)  # else nobody may ask how large a row is
        freed = f"about {size_text(retired_bytes(cache))}" if known else "their room"
        advice = f"'kdcache compact --cache {cache.root.name} --out NAME' frees {freed}"
        terminal.say(advice)
    for line in served_losses(cache).lines():
        terminal.say(line)
    terminal.show(_digests(cache))


def cache_record(cache: Cache) -> dict[str, Any]:
    """The same as plain values, for `--json`: sizes in bytes, digests whole."""
    m, generation, stored = cache.manifest, cache.generation, _bytes_by_tap(cache)
    losses = served_losses(cache)
    return {
        "cache": str(cache.root), "name": m.name, "teacher": m.teacher_origin, "network": m.network["name"],
        "weights": m.identity["weights"], "precision": m.precision, "data": dict(m.data), "task": m.task,
        "class_names": m.class_names, "pixels": dict(m.pipeline), "format": m.target_format, "zstd": m.zstd,
        "shard_samples": m.shard_samples, "generation": generation.number,
        "samples": generation.num_living, "retired": len(generation.retired),
        "unfinished_shards": len(unfinished(cache.root)), "classifier": m.classifier,
        "views": [
            {"kind": v.kind, "first": v.first, "count": v.count, "crop": v.crop, "digest": v.digest()}
            for v in m.views
        ],
        "taps": [
            {"name": tap.name, "module": tap.module, "shape": tap.spec(*(m.views[0].crop or m.crop)).shape,
             "codec": tap.codec, "bytes": stored[tap.name][0], "digest": tap.digest}
            for tap in m.taps
        ],
        "kept": [{"name": tap.name, "bytes": stored[tap.name][0]} for tap in m.kept],
        "bytes": sum(num_bytes for num_bytes, _ in stored.values()),
        "losses": {"any_student": losses.free, "asking": losses.asking, "refused": losses.refused},
    }  # fmt: skip


def _digests(cache: Cache) -> Table:
    """What two caches are compared by. No digest is broken: half of one is none."""
    m = cache.manifest
    table = Table(box=None, pad_edge=False)
    table.add_column("digest of", overflow="fold")
    table.add_column("", no_wrap=True)
    table.add_row("teacher's weights", str(m.identity["weights"])[:19])
    if m.classifier:
        table.add_row("classifier", m.classifier)
    for views in m.views:
        table.add_row(f"views from number {views.first} on", views.digest())
    for tap in m.taps:
        table.add_row(tap.name if tap.name == tap.module else f"{tap.name} of {tap.module}", tap.digest)
    return table


def _generation_text(cache: Cache) -> str:
    """Number, living and retired samples, what is not finished."""
    generation = cache.generation
    text = f"{generation.number}: {generation.num_living} samples live, {len(generation.retired)} are retired"
    later = len(unfinished(cache.root))
    return text + (f"; {later} shards beyond it are unfinished" if later else "")


def _tap_table(cache: Cache) -> Table:
    m = cache.manifest
    stored = _bytes_by_tap(cache)
    table = Table("tap", "H x W x C", "codec", "shards", "bytes", "bytes a value", box=None, pad_edge=False)
    blocks = cache.generation.block_numbers
    whole = m.num_views * len(blocks)
    all_done = 0
    for tap in m.stored:
        spec = tap.spec(*(m.views[0].crop or m.crop))
        done = cache.coverage.count(tap.name)
        all_done += done
        table.add_row(
            tap.name, " x ".join(map(str, spec.shape)), tap.codec, f"{done}/{whole}",
            *_bytes_text(*stored.get(tap.name, (0, 0))),
        )  # fmt: skip
    total = [sum(column) for column in zip(*stored.values(), strict=True)] or [0, 0]
    table.add_section()
    table.add_row("total", "", "", f"{all_done}/{whole * len(m.stored)}", *_bytes_text(*total))
    return table


def _bytes_text(num_bytes: int, values: int) -> tuple[str, str]:
    return size_text(num_bytes), f"{num_bytes / values:.3f}" if values else "-"


def _bytes_by_tap(cache: Cache) -> Taken:
    """Tap -> (bytes on disk, stored values), as the generation says; of one that does not, from the records.
    What lies in one object is divided by values where a codec is code that nobody trusts."""
    m = cache.manifest
    if cache.generation.totals:
        return {total.target: (total.num_bytes, total.values) for total in cache.generation.totals}
    taken: Taken = dict.fromkeys(m.stored_names, (0, 0))
    trusted = codecs_are_trusted(m)
    for key in cache.coverage.keys():
        record, views = cache.targets_record(key), cache.block_views(key.block, key.view)
        add(taken, taken_by(m, record, views, trusted=trusted))
    return taken


def view_title(views: ViewSet) -> str:
    """'crops 360x360 (numbers 0..7, scale=0.5x2,flip, seed 0)' and the like."""
    numbers = f"{views.first}..{views.first + views.count - 1}" if views.count > 1 else str(views.first)
    if views.crop is None:
        return f"{views.kind} (number {numbers})"
    if not views.draws:
        return f"{views.kind} {views.crop[0]}x{views.crop[1]} (number {numbers})"
    drawn = f"numbers {numbers}, {views.recipe.text}, seed {views.seed}"
    return f"{views.kind} {views.crop[0]}x{views.crop[1]} ({drawn})"
