"""Everything that a kill, a flipped bit or a builder beside a reader may do to a cache, counted.

    .venv/bin/python benchmarks/faults.py [--only KIND,KIND] [--out DIR] [--hours 2] [--small]

    crash    SIGKILL before and after every operation of the store, in eight jobs and both formats: the same
             command finishes the job; living rows equal those of the run that was never killed, and where
             nothing changed in the data every file does
    kills    SIGKILL at random moments of real commands (`kill.py`)
    flips    one bit of any kind of file in a cache: found by verify or by the reader, mended by --repair
    fire     a reader that compares every row with a live teacher while builders update, grow, repair and die
    compact  rounds of changes, deletions and growth, then a compacted copy, compared bit for bit
    hostile  files that a stranger made, of caches and runs, before every command that reads them: memory and
             seconds of each child, beside those of the honest one
    errnos   every error number at every call of the store and of the run folder, once and lasting, in eight
             jobs: then the same command finishes with the same bytes
    environments  read-only, full, another user's, short of descriptors and memory, strangely named

'silent' is damage that nobody notices and that changes what is read, 'traceback' an error that is no KdError.
Each kind writes DIR/KIND.json as it goes and continues there; one that was not ended prints "incomplete".
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

SUPPORT = Path(__file__).resolve().parents[1] / "tests" / "support"
KINDS = ("crash", "kills", "flips", "fire", "compact", "hostile", "errnos", "environments")


class Log:
    """The cases of one kind that are done, kept in a file so that a second run goes on."""

    def __init__(self, path: Path, until_s: float) -> None:
        self._path, self._until_s = path, until_s
        self.cases: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.is_file() else {}
        self.complete = False

    def run(self, cases: Iterator[tuple[str, Callable[[], dict[str, Any]]]]) -> None:
        """Each case that is not done yet, until time is up."""
        for number, (name, case) in enumerate(cases):
            if name in self.cases:
                continue
            if time.monotonic() > self._until_s:
                self.write()
                return
            self.cases[name] = case()
            if number % 20 == 0:
                self.write()
        self.complete = True
        self.write()

    def write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(json.dumps(self.cases, indent=0) + "\n")

    def row(self, kind: str) -> str:
        """One line of the table: counts per outcome."""
        totals: dict[str, int] = {}
        for case in self.cases.values():
            for outcome, count in case.items():
                if isinstance(count, int):
                    totals[outcome] = totals.get(outcome, 0) + count
        silent, traceback = totals.pop("silent", 0), totals.pop("traceback", 0)
        others = ", ".join(f"{name} {count}" for name, count in sorted(totals.items()))
        for name in ("largest MB more", "largest s more"):
            if figures := [case[name] for case in self.cases.values() if name in case]:
                others += f", {name} {max(figures):.1f}"
        state = "" if self.complete else " (incomplete)"
        return f"| {kind}{state} | {len(self.cases)} | {silent} | {traceback} | {others} |"


def cases_of(kind: str, small: bool) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """The cases of a kind, in a fixed order."""
    if kind == "crash":
        from faults_crash import crash_cases

        return crash_cases(small)
    if kind == "kills":
        from faults_kills import kill_cases

        return kill_cases(small)
    if kind == "flips":
        from faults_flips import flip_cases

        return flip_cases(small)
    if kind == "fire":
        from faults_fire import fire_cases

        return fire_cases(small)
    if kind == "hostile":
        from faults_hostile import hostile_cases

        return hostile_cases(small)
    if kind == "errnos":
        from faults_errnos import errno_cases

        return errno_cases(small)
    if kind == "environments":
        from faults_environments import environment_cases

        return environment_cases(small)
    from faults_compact import compact_cases

    return compact_cases(small)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default=",".join(KINDS))
    parser.add_argument("--out", type=Path, default=Path("bench-out/faults"))
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--small", action="store_true", help="a minute of everything, with a fixed seed")
    args = parser.parse_args()
    sys.path.insert(0, str(SUPPORT))
    import torch

    from kdcache.cache.trust import trust

    trust("tiny_teacher")
    torch.set_num_threads(1)  # one and two threads give different bits
    until_s = time.monotonic() + args.hours * 3600
    print("| kind | cases | silent | traceback | others |\n|---|---|---|---|---|")
    bad = 0
    for kind in args.only.split(","):
        log = Log(args.out / f"{kind}.json", until_s)
        log.run(cases_of(kind, args.small))
        print(log.row(kind), flush=True)
        failed = [(name, case) for name, case in log.cases.items() if case.get("failed")]
        for name, case in failed[:20]:
            print(f"    {name}: {case.get('why', '')}", file=sys.stderr)
        bad += len(failed) + (not log.complete)
    raise SystemExit(1 if bad else 0)


if __name__ == "__main__":
    main()
