"""Error numbers of faults.py: every call of the store and of the run folder fails once, or from then on.

A command that is refused a call ends in three parts or does no harm, never advises a repair, and when the
fault is gone the same command ends with the same bytes. What `show`, `verify` and `eval` print under a fault
they print without one, or refuse.
"""

import errno
import json
import random
import re
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

from cache_scene import tree
from faults_home import FORMATS, Home, Ran, before_of, honest, made_home
from refusals import CODES, Refusing

JOBS = ("build", "nothing", "grow", "verify", "show", "train", "resume", "eval")
SMALL = 30
LOOKING = ("show", "verify", "eval")


def errno_cases(small: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Every number at the first and the last call of every kind, in an order that a short run samples fairly;
    `small` takes the first ones, and one format."""
    formats = FORMATS[:1] if small else FORMATS
    cases = [
        (target_format, job, site, code, lasting)
        for target_format in formats
        for job in JOBS
        for site in sites(target_format, job)
        for code in CODES
        for lasting in (False, True)
    ]
    random.Random(0).shuffle(cases)
    for target_format, job, (at, call), code, lasting in cases[: SMALL if small else None]:
        when = "from" if lasting else "at"
        name = f"{target_format} {job} {errno.errorcode[code]} {when} call {at}, {call}"
        yield name, partial(refused_call, target_format, job, at, code, lasting)


@cache
def sites(target_format: str, job: str) -> tuple[tuple[int, str], ...]:
    """(number of the call, what it is): the first and the last of each function on each kind of file."""
    honest(target_format, job)
    home = made_home(target_format)
    home.begin(before_of(job))
    listed = home.room / "calls.json"
    counted = Refusing(home.root)
    home.run(job, counted.__enter__, after=lambda: _written(counted, listed))
    places: dict[str, list[int]] = {}
    for number, (function, name) in enumerate(json.loads(listed.read_text())):
        if name.startswith(("caches", "runs")):
            places.setdefault(f"{function} {re.sub(r'[0-9a-f]{6,}|[0-9]+', 'N', name)}", []).append(number)
    both = {(number, call) for call, numbers in places.items() for number in (numbers[0], numbers[-1])}
    return tuple(sorted(both))


def _written(counted: Refusing, listed: Path) -> None:
    counted.__exit__()
    listed.write_text(json.dumps(counted.calls))


def refused_call(target_format: str, job: str, at: int, code: int, lasting: bool) -> dict[str, Any]:
    home = made_home(target_format)
    reference(target_format, job)
    home.begin(before_of(job))
    ran = home.run(job, lambda: Refusing(home.root, at, code, lasting=lasting).__enter__())
    return judged(home, job, ran)


@cache
def reference(target_format: str, job: str) -> object:
    """What is there when nothing was refused."""
    home = made_home(target_format)
    home.begin(before_of(job))
    ran = home.run(job)
    return left_behind(home, job, ran)


def left_behind(home: Home, job: str, ran: Ran) -> object:
    """Files of the cache and what the command made. The notes of times differ between two builds."""
    files = {name: digest for name, digest in tree(home.cache).items() if not name.startswith("stamps/")}
    return files, home.result(job, ran)


def judged(home: Home, job: str, ran: Ran) -> dict[str, Any]:
    """Of a disturbed command, then of the same command undisturbed."""
    outcome, wanted = ran.outcome, reference(home.target_format, job)
    if outcome == "reported":
        outcome = "traceback"  # nobody has seen damage
    if outcome == "done" and job in LOOKING and home.result(job, ran) != honest(home.target_format, job)[0]:
        outcome = "silent"
    if outcome == "refused" and "--repair" in ran.text:
        return {"failed": 1, "advises a repair": 1, "why": ran.last}
    if outcome not in ("done", "refused"):
        return {"failed": 1, outcome: 1, "why": f"{outcome}: {ran.last}"}
    again = home.run(job)
    if again.outcome == "refused" and job == "train" and "with --resume" in again.text:
        again = home.run(job, more=("--resume",))
    if again.outcome != "done":
        return {
            "failed": 1,
            "not finished": 1,
            "why": f"the same command: {again.last}; before it: {ran.last}",
        }
    if left_behind(home, job, again) != wanted:
        return {
            "failed": 1,
            "silent": 1,
            "why": f"{_differing(left_behind(home, job, again), wanted)} differ",
        }
    return {"no harm" if outcome == "done" else outcome: 1}


def _differing(got: Any, wanted: Any) -> str:
    names = [name for name in {**got[0], **wanted[0]} if got[0].get(name) != wanted[0].get(name)]
    return ", ".join(sorted(names)[:4]) or "results"
