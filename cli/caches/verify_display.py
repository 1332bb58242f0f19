"""`kdcache verify`: what was checked, what is not as it must be, and what to do. Each check says whether all
is well."""

from pathlib import Path
from typing import TYPE_CHECKING

from kdcache.cache.look.verify import deep_check, pixel_check, problems, undescribed, unfinished
from kdcache.cache.reader.cache import open_cache
from kdcache.cache.record.advice import CACHES, cache_word
from kdcache.cache.record.copied import finishing_line, is_unfinished_copy
from kdcache.cache.record.generation import Generation, list_generations, newest_generation
from kdcache.cache.trust import OPTION, command_with
from kdcache.cache.visible import shell_word
from kdcache.cli.shared import home_folder
from kdcache.cli.terminal import Table, Terminal

if TYPE_CHECKING:
    from kdcache.cache.networks.network import Network


def check_seals(root: Path, terminal: Terminal) -> bool:
    """Everything that the newest generation counts; also says what no generation counts yet."""
    bad = list(problems(root))
    for problem in bad:
        terminal.say(f"{problem.title}: {problem.text}", style="red")
    if bad:
        word = shell_word(cache_word(root, home_folder() / CACHES))
        advice = list(dict.fromkeys(problem.fix for problem in bad if problem.fix))
        if not all(problem.fix for problem in bad):
            advice.append(f"run: kdcache build --cache {word} --repair")
        terminal.say(f"{len(bad)} problems; {'; then '.join(advice)}")
        return False
    if is_unfinished_copy(root):
        terminal.say("this copy of a cache is not finished: nothing in it counts yet")
        terminal.say(f"finish it with: {finishing_line(root)}")
        return True
    generation = newest_generation(root) if list_generations(root) else None
    if generation is None:
        terminal.say("no build of this cache has finished: nothing in it counts yet")
    else:
        _say_undescribed(generation, terminal)
        terminal.say(
            f"generation {generation.number}: {len(generation.seals)} shards checked, "
            f"{generation.num_living} samples, {len(generation.retired)} retired, 0 damaged",
        )
    if later := unfinished(root):
        terminal.say(
            f"{len(later)} shards are recorded that no generation counts: a build did not end; "
            "the same 'kdcache build' finishes it",
        )
    return True


def _say_undescribed(generation: Generation, terminal: Terminal) -> None:
    """What was left out, because it needs code that nobody trusts, and the line that includes it."""
    if taps := undescribed(generation):
        codecs = dict.fromkeys(tap.codec for tap in taps)
        line = command_with(*(word for codec in codecs for word in (OPTION, codec)))
        terminal.say(
            f"descriptions of the arrays of {', '.join(tap.name for tap in taps)} were not compared: that "
            f"takes code of somebody's own; if you trust it: {line}"
        )


def check_pixels(root: Path, terminal: Terminal) -> bool:
    """The teacher's input of every living row, made again."""
    cache = open_cache(root)
    count = 0

    def seen() -> None:
        nonlocal count
        count += 1

    other = list(pixel_check(cache, seen=seen))
    for row in other:
        terminal.say(
            f"'{row.key}' view {row.view}: other pixels than the teacher saw",
            style="red",
        )
    terminal.say(f"pixels of {count} rows made again, {len(other)} differ")
    if other:
        terminal.say(
            "the image pipeline of now is another one (DALI's version, the device), or the cache is: "
            "verify where it was built, or build it again here",
        )
    return not other


def check_deeply(root: Path, teacher: "Network", rows: int, terminal: Terminal) -> bool:
    """The teacher's answers, computed again."""
    table = Table("target", "rows", "largest error", "stated bound", "relative L2")
    errors = deep_check(root, teacher, rows)
    for error in errors:
        table.add_row(
            error.target,
            str(error.rows),
            f"{error.max_abs:.3g}",
            f"{error.bound:.3g}",
            f"{error.relative_l2:.2e}",
        )
    terminal.show(table)
    for error in errors:
        for row in error.beyond:
            terminal.say(
                f"{row}: '{error.target}' is further from the teacher than its bound",
                style="red",
            )
    return not any(error.beyond for error in errors)
