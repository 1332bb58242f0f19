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
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from cache_scene import tree
from faults_home import FORMATS, Home, Ran, before_of, made_home
from refusals import CODES, Refusing

JOBS = ("nothing", "grow", "build", "verify", "show", "resume", "train", "eval")
COMMAND = {job: job for job in JOBS} | dict.fromkeys(("grow", "nothing"), "build") | {"resume": "train"}
SMALL = 30
LOOKING = ("show", "verify", "eval")


def errno_cases(small: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """Every number at every site, each at another of the site's three calls, and one number that lasts.
    All sites come before any comes again, so that a short run is a fair part; `small` takes the first ones,
    of one format."""
    sites = [site for target_format in FORMATS[: 1 if small else 2] for site in sites_of(target_format)]
    random.Random(0).shuffle(sites)
    yield from islice(_turns(sites), SMALL if small else None)


def _turns(sites: list["Site"]) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    for turn in range(len(CODES) + 1):
        lasting = turn == len(CODES)
        for number, site in enumerate(sites):
            code = CODES[(turn + number) % len(CODES)]
            at = site.calls[(turn + number) % 3]
            when = "from" if lasting else "at"
            place = " ".join((site.target_format, site.job, *site.key[1:]))
            name = f"{place} {errno.errorcode[code]} {when} call {at}"
            yield name, partial(refused_call, site.target_format, site.job, at, code, lasting)


class Site(NamedTuple):
    """A line of ours that makes a call on a kind of file: the first, middle and last such call of a job."""

    key: tuple[str, ...]  # command, function, kind of file, line
    target_format: str
    job: str
    calls: tuple[int, int, int]


@cache
def sites_of(target_format: str) -> tuple[Site, ...]:
    """Of jobs of one command, which reach a line in one way, the cheapest has it; of the second format only
    what the first has not."""
    others = FORMATS[: FORMATS.index(target_format)]
    known = {site.key for other in others for site in sites_of(other)}
    made: dict[tuple[str, ...], Site] = {}
    for job in JOBS:
        for place, numbers in calls_of(target_format, job).items():
            key = COMMAND[job], *place
            if key not in known:
                calls = numbers[0], numbers[len(numbers) // 2], numbers[-1]
                made.setdefault(key, Site(key, target_format, job, calls))
    return tuple(made.values())


@cache
def undisturbed(target_format: str, job: str) -> tuple[object, list[tuple[str, str, str]]]:
    """What is there when nothing was refused, and every call of the job: function, file, line of ours."""
    home = made_home(target_format)
    home.begin(before_of(job))
    listed = home.room / "calls.json"
    counted = Refusing(home.root, deep=True)
    ran = home.run(job, counted.__enter__, after=lambda: _written(counted, listed))
    if ran.outcome != "done":
        raise SystemExit(f"an honest {job} ends with {ran.status}: {ran.text[-2000:]}")
    return left_behind(home, job, ran), json.loads(listed.read_text())


def calls_of(target_format: str, job: str) -> dict[tuple[str, ...], list[int]]:
    """(function, kind of file, line) -> numbers of its calls."""
    places: dict[tuple[str, ...], list[int]] = {}
    for number, (function, name, line) in enumerate(undisturbed(target_format, job)[1]):
        if name.startswith(("caches", "runs")):
            places.setdefault((function, kind_of(name), line), []).append(number)
    return places


def kind_of(name: str) -> str:
    """A file's name without its numbers, taps and parts."""
    kind = re.sub(r"[0-9a-f]{8,}|[0-9]+", "N", name).replace("folder-tiny_teacher_make-N", "C")
    kind = re.sub(r"(targets\.zarr/\w+)/\w+", r"\1/TAP", kind)
    kind = re.sub(r"(TAP/NxN)/\w+", r"\1/PART", kind)
    return re.sub(r"(PART/c)(/N)+", r"\1/N", kind)


def _written(counted: Refusing, listed: Path) -> None:
    counted.__exit__()
    calls = [(*call, line) for call, line in zip(counted.calls, counted.lines, strict=True)]
    listed.write_text(json.dumps(calls))


def refused_call(target_format: str, job: str, at: int, code: int, lasting: bool) -> dict[str, Any]:
    home = made_home(target_format)
    reference(target_format, job)
    home.begin(before_of(job))
    ran = home.run(job, lambda: Refusing(home.root, at, code, lasting=lasting, deep=True).__enter__())
    return judged(home, job, ran)


def reference(target_format: str, job: str) -> Any:
    """Files of the cache, and what the command made, when nothing was refused."""
    return undisturbed(target_format, job)[0]


def left_behind(home: Home, job: str, ran: Ran) -> object:
    """Files of the cache and what the command made. The notes of times differ between two builds."""
    files = {name: digest for name, digest in tree(home.cache).items() if not name.startswith("stamps/")}
    return files, home.result(job, ran)


def judged(home: Home, job: str, ran: Ran) -> dict[str, Any]:
    """Of a disturbed command, then of the same command undisturbed."""
    outcome, wanted = ran.outcome, reference(home.target_format, job)
    if outcome == "reported":
        outcome = "traceback"  # nobody has seen damage
    if outcome == "done" and job in LOOKING and home.result(job, ran) != wanted[1]:
        outcome = "silent"
    if outcome == "refused" and "--repair" in ran.text:
        return {"failed": 1, "advises a repair": 1, "why": ran.last}
    if outcome == "refused" and job in LOOKING and tree(home.root) == tree(home.kept):
        return {outcome: 1}  # nothing was changed: there is nothing to finish
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
