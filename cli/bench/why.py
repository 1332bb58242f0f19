"""`kdcache why A [B]`: in what two caches differ, or a cache and what a build would make now."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich_click import RichCommand

from kdcache.cache.errors import BadOption
from kdcache.cli.shared import home_folder, option, written
from kdcache.cli.terminal import Table, Terminal

if TYPE_CHECKING:
    from kdcache.cache.build.options import BuildOptions
    from kdcache.cache.record.manifest import Manifest

SHOWN = 10  # fields; --json has all
NOT_ASKED = (  # of build: they make no other cache
    *("cache", "update", "repair", "check", "skip_bad"),
    *("rank_timeout", "quiet", "as_json"),
)
Read = Callable[[Mapping[str, Any]], "BuildOptions"]


def why_command(build: click.Command, read: Read) -> click.Command:
    """The command, with the options of `build`, which `read` makes a build of."""
    taken = [one for one in build.params if isinstance(one, click.Option) and one.name not in NOT_ASKED]
    names = {str(one.name) for one in taken if one.expose_value}

    @click.command("why", cls=RichCommand, context_settings=dict(help_option_names=["-h", "--help"]))
    @click.argument("first", metavar="A")
    @click.argument("second", required=False, metavar="[B]")
    @option("--json", "as_json", is_flag=True, text="Print every differing field as JSON, for scripts.")
    @click.pass_context
    def why(context: click.Context, /, first: str, second: str | None, **_: Any) -> None:
        """Why are A and B two caches? The first fields in which they differ. Without B: in what A differs
        from what 'kdcache build' with these options would make now; without options, with A's own.

        \b
        kdcache why camvid-r50-1a2b3c4d camvid-r50-5e6f7a8b
        kdcache why camvid-r50-1a2b3c4d --teacher r50 --crop 360
        """
        given = written(context)
        asked = {name: value for name, value in given.items() if name in names}
        defaults = {name: context.params[name] for name in names}
        _why(first, second, asked, lambda more: read({**defaults, **more, **asked}), "as_json" in given)

    made: click.Command = why
    made.params += [one for one in taken if "--trust" not in one.opts]
    return made


def _why(
    first: str,
    second: str | None,
    asked: Mapping[str, Any],
    read: Callable[[Mapping[str, Any]], "BuildOptions"],
    as_json: bool,
) -> None:
    from kdcache.cache.record.difference import identity_differences, kept_differences

    if second is not None and asked:
        raise BadOption(
            f"two caches and options of a build: '{second}' is there already",
            where=f"kdcache why {first} {second} --{next(iter(asked)).replace('_', '-')}",
            fix="leave the options out, or the second cache",
        )
    name, one = _manifest(first)
    if second is not None:
        other, two = _manifest(second)
    else:
        other, two = "what would be built now", _planned(one, asked, read)
    of_identity = identity_differences(one.identity, two.identity)
    kept = kept_differences(one, two) if second is not None else ()
    if as_json:
        rows = [d._asdict() for d in of_identity], [d._asdict() for d in kept]
        plain = {"first": name, "second": other, "identity": rows[0], "kept": rows[1]}
        Terminal().list_lines([json.dumps(plain)])
        return
    _show(name, other, of_identity, kept)


def _show(name: str, other: str, of_identity: tuple[Any, ...], kept: tuple[Any, ...]) -> None:
    terminal = Terminal()
    for title, rows in (("what they are", of_identity), ("what they keep", kept)):
        if not rows:
            continue
        terminal.say(f"{title} differs in {len(rows)} {'field' if len(rows) == 1 else 'fields'}")
        table = Table("field", box=None, pad_edge=False)
        for header in (name, other):
            table.add_column(header, overflow="fold")
        for row in rows[:SHOWN]:
            table.add_row(row.field, _text(row.first), _text(row.second))
        terminal.show(table)
        if len(rows) > SHOWN:
            terminal.say(f"and {len(rows) - SHOWN} more; --json shows all")
    if not of_identity:
        same = "the same teacher, data, precision, crop and recipe"
        again = (
            ""
            if kept
            else ": a build would use this cache"
            if "would be" in other
            else ", and they keep the same"
        )
        terminal.say(f"{same}{again}")


def _text(value: Any) -> str:
    return "not there" if value is None else value if isinstance(value, str) else json.dumps(value)


def _manifest(named: str) -> "tuple[str, Manifest]":
    from kdcache.cache.record.find import caches_dir, find_cache
    from kdcache.cache.record.standing import counted_manifest

    root: Path = find_cache(named, caches_dir(home_folder()))
    return root.name, counted_manifest(root)


def _planned(
    manifest: "Manifest", asked: Mapping[str, Any], read: Callable[[Mapping[str, Any]], "BuildOptions"]
) -> "Manifest":
    """What a build would make: as asked for; with no teacher asked for, as the cache was made."""
    from kdcache.cache.build.plan import make_plan
    from kdcache.cache.look.teacher import own_teacher
    from kdcache.cache.record.command import keeps_empty

    own: dict[str, Any] = {"data": manifest.data_spec, "split": manifest.data["split"]}
    if "teacher" not in asked:
        precision = manifest.precision
        own |= {"teacher": own_teacher(manifest), "mean": bool(manifest.network.get("mean"))}
        own |= {"weights": manifest.teacher_weights or None, "keep_empty": keeps_empty(manifest)}
        own |= {
            "crop": ",".join(map(str, manifest.crop)),
            "augment": str(manifest.identity["recipe"]) or "none",
        }
        own |= {"amp": None if precision == "fp32" else precision}
        own |= {"output_stride": manifest.output_stride} if _has_stride(manifest) else {}
    return make_plan(read(own)).manifest


def _has_stride(manifest: "Manifest") -> bool:
    from kdcache.cache.tasks.table import task_of

    return task_of(manifest.task).networks.default_stride is not None and manifest.output_stride > 0
