"""How a sweep talks to a person: its plan, a line for each run that begins or ends, what is left."""

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from kdcache.cache.errors import size_text
from kdcache.cache.record.find import runs_dir
from kdcache.cache.visible import shell_line
from kdcache.cli.terminal import Terminal
from kdcache.trainer.bench.grid import CELL, FRESH_NONE, Cell
from kdcache.trainer.bench.plan import CellPlan
from kdcache.trainer.bench.run_state import state_of
from kdcache.trainer.bench.work import Machine, Outcome, Word
from kdcache.trainer.judge.metrics import shown
from kdcache.trainer.together.cells import StreamKeys

if TYPE_CHECKING:
    from kdcache.trainer.bench.definition import Definition
    from kdcache.trainer.bench.sweep_folder import Sweep

DONE = ("kept", "finished")
LISTED = 10  # of failed runs, their errors in full
UNKNOWN = "until the first of them has ended"


class SweepDisplay:
    """Listens to `work_off`."""

    def __init__(self, terminal: Terminal, machine: Machine, home: Path) -> None:
        self.terminal, self._machine, self._home = terminal, machine, home
        self._count = self._ended = self.num_done = 0
        self._begun_s = time.monotonic()
        self._trained = 0  # cells whose time was measured here

    def planned(
        self,
        definition: "Definition",
        sweep: "Sweep",
        plans: Sequence[CellPlan],
        shard: tuple[int, int],
        missing: Sequence[tuple[str, Sequence[str]]],
    ) -> None:
        """The plan of the cells of this shard."""
        mine = plans[shard[0] :: shard[1]]
        self._count = len(mine)
        say = self.terminal.say
        say("", strong=f"sweep {sweep.name}: {len(plans)} runs", rest=f", in {sweep.folder}")
        say(f"  grid     {_grid_text(definition, sweep.cells)}")
        if definition.caches:
            say(f"  caches   {', '.join(definition.caches)}")
        if shard[1] > 1:
            say(f"  shard    {shard[0] + 1} of {shard[1]}: {len(mine)} of these runs")
        say(f"  state    {_states_text(mine, retry=self._machine.retry)}")
        todo = [one for one in mine if self._machine.retry or one.failure is None]
        say(f"  steps    {sum(one.left for one in todo)} to make")
        say(f"  time     {_time_text(todo)}")
        say(f"  bytes    {_bytes_text(todo)}")
        threads = self._machine.threads
        jobs = (
            f"one {'process' if self._machine.together > 1 else 'run'} at a time"
            if threads is None
            else f"{self._machine.jobs} runs at a time, {threads} threads each"
        )
        say(f"  jobs     {jobs}")
        if self._machine.together > 1:
            left = [one.cell for one in todo if one.state.word != "finished"]
            say(
                f"  together {_together_text(StreamKeys(self._home).set_sizes(left, self._machine.together))}"
            )
        for cache, losses in missing:
            lacks = f"cache {cache} lacks what {', '.join(losses)} read"
            say(f"  targets  {lacks}: built first, in one pass of the teacher, which says its bytes")

    def commands(self, builds: Sequence[Sequence[str]], cells: Sequence[Cell]) -> None:
        """What would be run, to be typed."""
        self.terminal.list_lines(f"$ {shell_line(words)}" for words in builds)
        self.terminal.list_lines(f"$ {self._machine.line(cell)}" for cell in cells)

    def begun(self, cell: Cell, how: str) -> None:
        self.terminal.say(f"{cell.run} is {how}")

    def ended(self, outcome: Outcome) -> None:
        self._ended += 1
        self.num_done += outcome.word in DONE
        if outcome.word == "kept":
            return
        place = f"[{self._ended}/{self._count}] {outcome.cell.run}"
        if outcome.word == "finished":
            self._trained += 1
            self.terminal.say(
                f"{place} finished in {duration(outcome.seconds)}{self._score(outcome.cell)}{self._rest()}"
            )
        elif outcome.word == "held":
            self.terminal.say(f"{place} is left alone: {outcome.text}")
        else:
            first = outcome.text.partition("\n")[0]
            self.terminal.say(f"{place} {outcome.word}: {first}")

    def _score(self, cell: Cell) -> str:
        state = state_of(runs_dir(self._home) / cell.run)
        return "" if state.best is None else f", {state.metric} {shown(state.metric, state.best)}"

    def _rest(self) -> str:
        left = self._count - self._ended
        if not left:
            return ""
        each_s = (time.monotonic() - self._begun_s) / self._trained
        return f"; {left} left, about {duration(each_s * left)}"

    def summary(self, outcomes: Sequence[Outcome]) -> bool:
        """What became of the runs; whether none is left to be done by this command."""
        counts = Counter(outcome.word for outcome in outcomes)
        say = self.terminal.say
        bad = [outcome for outcome in outcomes if outcome.word in ("failed", "stopped", "unjudged")]
        for outcome in bad[:LISTED]:
            say("", strong=f"{outcome.cell.run} {outcome.word}")
            for line in outcome.text.split("\n"):
                say(f"  {line}")
        if len(bad) > LISTED:
            say(f"and {len(bad) - LISTED} more; kdtrain ls shows all")
        say(f"{counts['kept'] + counts['finished']} of {len(outcomes)} runs are finished{_rest_text(counts)}")
        if counts["failed"] and not self._machine.retry:
            say("failed runs hold their place; --retry tries them again")
        return not bad


def _together_text(sizes: Sequence[int]) -> str:
    """How many runs share a process, and what that takes."""
    if not sizes:
        return "nothing to train"
    text = f"{', '.join(map(str, sizes))} runs in a process"
    if max(sizes) == 1:
        return f"{text}: no two read the same batches"
    return f"{text}, on batches that are read once; memory holds that many students at a time"


def duration(seconds: float) -> str:
    """'45 s', '12 min', '3.5 h'."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _grid_text(definition: "Definition", cells: Sequence[Cell]) -> str:
    sizes = [(len(definition.losses), "loss"), (len(definition.students), "student")]
    parts = [
        f"{count} {word}{'es' if word == 'loss' else 's'}" if count > 1 else f"1 {word}"
        for count, word in sizes
    ]
    parts += [f"{len(values)} x {name}" for name, values in definition.axes.items()]
    parts.append(f"{len(definition.seeds)} seeds" if len(definition.seeds) > 1 else "1 seed")
    roles = Counter(cell.role for cell in cells)
    fresh, stored = roles[FRESH_NONE], len(cells) - roles[CELL] - roles[FRESH_NONE]
    beside = [f"{stored} without a teacher on stored views"] if stored else []
    beside += [f"{fresh} on fresh ones"] if fresh else []
    return f"{' x '.join(parts)}: {roles[CELL]} runs" + (
        f"; beside them {', '.join(beside)}" if beside else ""
    )


def _states_text(plans: Sequence[CellPlan], *, retry: bool) -> str:
    failed = sum(one.failure is not None for one in plans)
    words = Counter(one.state.word for one in plans if one.failure is None)
    said = {"not begun": "new", "stopped": "to continue", "running": "trained by another process"}
    parts = [f"{words[word]} {said.get(word, word)}" for word in (*said, "finished") if words[word]]  # type: ignore[index]
    parts += [f"{failed} failed before{', tried again' if retry else ''}"] if failed else []
    return ", ".join(parts) or "no runs"


def _time_text(plans: Sequence[CellPlan]) -> str:
    known = [one.seconds for one in plans if one.seconds is not None]
    unknown = len(plans) - len(known)
    if not plans or not any(one.left for one in plans):
        return "none"
    if not any(known):
        return f"unknown {UNKNOWN}"
    text = f"about {duration(sum(known))} of steps, one after another, at the rates of runs that are there"
    text += f"; unknown for {unknown} more runs {UNKNOWN}" if unknown else ""
    return f"{text}; each run's start and judging come on top, unknown {UNKNOWN}"


def _bytes_text(plans: Sequence[CellPlan]) -> str:
    known = [one.num_bytes for one in plans if one.num_bytes is not None]
    unknown = len(plans) - len(known)
    if not plans or not any(one.left for one in plans):
        return "none"
    if not any(known):
        return f"unknown {UNKNOWN}"
    of = f"{len(known)} of {len(plans)} runs" if unknown else f"all {len(plans)} runs together"
    text = f"about {size_text(sum(known))} of checkpoints and students for {of}, as runs that are there"
    return text + (f"; unknown for {unknown} more runs {UNKNOWN}" if unknown else "")


def _rest_text(counts: "Counter[Word]") -> str:
    words: tuple[Word, ...] = ("failed", "stopped", "unjudged", "held")
    said: dict[Word, str]
    said = {"unjudged": "trained and not judged", "held": "in work elsewhere"}
    parts = [f"{counts[word]} {said.get(word, word)}" for word in words if counts[word]]
    return f", {', '.join(parts)}" if parts else ""
