"""Hostile files of faults.py: each variant lies before the commands that read it, in a measured child.

'refused' in three parts, 'reported' by verify, 'harmless' where the command makes what it makes of honest
files, 'silent' where it makes something else; 'memory' and 'slow' count children beyond what an honest one
takes by more than the bounds, 'hang' and 'died' those that did not end by themselves.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from faults_home import FORMATS, Home, Ran, honest, killed_after_two, made_home
from faults_variants import Harm, cache_variants, run_variants

MORE_MB, MORE_S = 500.0, 10.0  # beside what the honest cache or run takes
CACHE_COMMANDS = ("show", "verify", "rows", "train")
RUN_COMMANDS = ("taps", "eval", "resume")
SMALL = 31  # every so many
WAS_HERE = Path("/tmp/kdcache-faults-was-here")
LARGEST = ("largest MB more", "largest s more")


def hostile_cases(small: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Every variant of a cache in both formats, and of a run; `small` takes one of 31."""
    cases = [
        (f"{target_format}: {name}", partial(hostile_cache, target_format, harm))
        for target_format in FORMATS
        for name, harm in cache_variants(target_format)
    ]
    cases += [(f"run: {name}", partial(hostile_run, harm)) for name, harm in run_variants()]
    yield from cases[:: SMALL if small else 1]


def hostile_cache(target_format: str, harm: Harm) -> dict[str, Any]:
    home = made_home(target_format)
    home.begin()
    harm(home.cache)
    return judged(home, CACHE_COMMANDS)


def hostile_run(harm: Harm) -> dict[str, Any]:
    """Looked at when it has ended, and resumed when it was killed after two steps."""
    home, counts = made_home("zarr"), {}
    for commands, changed in (
        (RUN_COMMANDS[:-1], _with_checkpoint_two),
        (RUN_COMMANDS[-1:], killed_after_two),
    ):
        home.begin(changed)
        try:
            harm(home.root / "runs" / "r")
        except (FileNotFoundError, ValueError):  # of a file that a killed run does not have yet
            continue
        counts = added(counts, judged(home, commands))
    return counts


def _with_checkpoint_two(home: Home) -> None:
    """The run as it ended."""


def judged(home: Home, commands: tuple[str, ...]) -> dict[str, Any]:
    """Counts of outcomes, and what was taken beyond the honest command."""
    for name in commands:
        honest_of(home, name)
    counts: dict[str, Any] = {}
    for name in commands:
        ran = home.run(name)
        counts = added(counts, outcome_of(home, name, ran))
        if WAS_HERE.exists():
            WAS_HERE.unlink()
            counts = added(counts, {"failed": 1, "code ran": 1, "why": f"{name}: code of the file ran"})
    return counts


_KEPT: dict[tuple[str, str], tuple[object, Ran]] = {}


def honest_of(home: Home, name: str) -> tuple[object, Ran]:
    """What the honest command makes and takes, measured aside: the harmed home is put back."""
    key = home.target_format, name
    if key not in _KEPT:
        aside = home.root.rename(home.room / "aside")
        try:
            _KEPT[key] = honest(home.target_format, name)
        finally:
            import shutil

            shutil.rmtree(home.root, ignore_errors=True)
            aside.rename(home.root)
    return _KEPT[key]


def outcome_of(home: Home, name: str, ran: Ran) -> dict[str, Any]:
    wanted, usual = honest_of(home, name)
    more_mb, more_s = ran.peak_mb - usual.peak_mb, ran.seconds - usual.seconds
    case: dict[str, Any] = {LARGEST[0]: round(more_mb, 1), LARGEST[1]: round(more_s, 2)}
    outcome = ran.outcome
    if outcome == "reported" and name != "verify":
        outcome = "traceback"
    if outcome == "done":
        outcome = outcome_of_result(home, name, ran, wanted)
    case[outcome] = 1
    why = [f"{outcome}: {ran.last}"] if outcome in ("silent", "traceback", "hang", "died") else []
    if more_mb > MORE_MB:
        case["memory"] = 1
        why.append(f"{more_mb:.0f} MB more")
    if more_s > MORE_S:
        case["slow"] = 1
        why.append(f"{more_s:.1f} s more")
    return case | ({"failed": 1, "why": f"{name}: {'; '.join(why)}"} if why else {})


def outcome_of_result(home: Home, name: str, ran: Ran, wanted: Any) -> str:
    """'harmless', 'silent'; 'told' where a run goes on without some of its figures and says so; 'fewer' where
    a resealed generation counts fewer rows, and those are as they were."""
    if name in ("show", "verify", "taps"):
        return "harmless"  # they only look: what is read is judged by the commands that read it
    result: Any = home.result(name, ran)
    if result == wanted:
        return "harmless"
    if name == "rows" and set(result.items()) <= set(wanted.items()):
        return "fewer"
    same_student = name == "resume" and result[:2] == wanted[:2]
    return "told" if same_student and "metrics.jsonl" in ran.text else "silent"


def added(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    """Counts of both, the larger of what was measured, one reason behind the other."""
    total = dict(one)
    for key, value in other.items():
        if key not in total:
            total[key] = value
        elif isinstance(value, str):
            total[key] = f"{total[key]}; {value}"
        else:
            total[key] = max(total[key], value) if isinstance(value, float) else total[key] + value
    return total
