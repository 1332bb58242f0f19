"""Steps in rounds: step n of every run, what is due after it, then step n + 1. One run alone goes so too.

The runs read the same batches. Those of a step are drawn once, by whoever comes first, and kept until all
have had them; a run alone gets them as the stream gives them. A run that is further than the others waits for
them: batch n is the same, whenever it is asked for.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import count
from typing import Any, Protocol, TypeVar

from kdcache.cache.processes.stop import asked
from kdcache.trainer.config import TrainConfig
from kdcache.trainer.stream.batch import Batch, Stream


class Stepping(Protocol):
    """What is driven: a run."""

    config: TrainConfig
    first: int  # the first step that is left to make

    def catch_up(self) -> None: ...
    def step(self, step: int, batches: Iterator[Batch]) -> None: ...
    def after(self, done: int, *, stop: bool) -> None: ...
    def stops_after(self, done: int) -> bool: ...
    def stop(self, done: int) -> None: ...


Run = TypeVar("Run", bound=Stepping)


def make_steps(
    runs: list[Run],
    stream: Stream,
    turn: Callable[[Run], AbstractContextManager[Any]] = nullcontext,
    ahead: Callable[[Iterator[Batch]], Iterator[Batch]] = iter,
) -> None:
    """Every remaining step of `runs` on the batches of `stream`, which `ahead` brings to where they compute.

    `turn(run)` is around whatever a run does; it takes a run that ended out of `runs`, and its error with it.
    After a signal several runs end at the same step.
    """
    several = len(runs) > 1
    for run in list(runs):
        if not (several and asked()):
            with turn(run):
                run.catch_up()
    first = min((run.first for run in runs), default=0)
    last = max((run.config.steps for run in runs), default=0)
    accumulate = runs[0].config.accumulate if runs else 1
    drawn = _Drawn(ahead(stream.run(first * accumulate)), several=several)
    for step in range(first, last):
        if several and asked():
            _stop_all(runs, step, turn)
        if several and runs and min(run.first for run in runs) > step:
            return make_steps(runs, stream, turn, ahead)  # those that went this far have ended
        _round(step, runs, drawn, turn, several=several)
        if runs:
            drawn.end_step(accumulate)
    if several and asked():
        _stop_all(runs, last, turn)
    return None


def _round(
    step: int,
    runs: list[Run],
    drawn: "_Drawn",
    turn: Callable[[Run], AbstractContextManager[Any]],
    *,
    several: bool,
) -> None:
    """Step `step` of every run that has come so far, and what is due after it."""
    going = [run for run in runs if run.first <= step < run.config.steps]
    for run in going:
        if run in runs:  # an error of the stream ends all of them
            with turn(run):
                run.step(step, drawn.reader())
    for run in going:
        if run in runs:
            with turn(run):
                run.after(step + 1, stop=asked() > 0 if several else run.stops_after(step + 1))


def _stop_all(runs: list[Run], done: int, turn: Callable[[Run], AbstractContextManager[Any]]) -> None:
    for run in list(runs):
        with turn(run):
            run.stop(done)


class _Drawn:
    """Micro batches of a stream, for one reader or several."""

    def __init__(self, batches: Iterator[Batch], *, several: bool) -> None:
        self._batches, self._several = batches, several
        self._kept: list[Batch] = []

    def reader(self) -> Iterator[Batch]:
        return self._read() if self._several else self._batches

    def _read(self) -> Iterator[Batch]:
        for place in count():
            if place == len(self._kept):
                self._kept.append(next(self._batches))
            yield self._kept[place]

    def end_step(self, accumulate: int) -> None:
        """On to the next step, also where its readers ended in the middle of this one."""
        while self._several and len(self._kept) < accumulate:
            self._kept.append(next(self._batches))
        self._kept.clear()
