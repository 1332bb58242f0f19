"""Runs that are trained together in one process: opened one by one, driven in rounds, ended each alone.

Each has its own student, losses, optimizer, random numbers, folder, checkpoints and trackers. What they share
is the stream, what Accelerate keeps once per process (device, precision, accumulation) and the signals. A run
that fails ends by itself; a signal ends all of them at the same step.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

from kdcache.cache.errors import BadOption
from kdcache.cache.files.system import touching
from kdcache.cache.processes.stop import Stopped, asked, finishing
from kdcache.cache.trust import consent, names_in
from kdcache.cache.visible import shell_line
from kdcache.trainer.folder.atomic_file import RUN_AGAIN
from kdcache.trainer.loop import Run, Training, open_run
from kdcache.trainer.ranks import quiet_trackers, reset_accelerate
from kdcache.trainer.stream.ahead import batches_on
from kdcache.trainer.together.alike import alone_because
from kdcache.trainer.together.rounds import make_steps
from kdcache.trainer.together.shared import OwnView, SharedStream, shared_stream


class Member(NamedTuple):
    """A run that is asked for."""

    name: str
    command: Sequence[str]  # what trains it alone
    training: Callable[[], Training]  # raises KdError for what its options do not allow


class Ended(NamedTuple):
    """What became of a run: the metrics of its card, or the error that ended it, Stopped after a signal."""

    name: str
    card: Mapping[str, float]
    error: Exception | Stopped | None


def train_together(members: Sequence[Member], ended: Callable[[Ended], None]) -> None:
    """Train all of `members`; `ended` hears of each when it ends.

    Those whose streams turn out to differ are trained after one another. Raises Stopped when a signal ended
    them.
    """
    group = _Group(ended)
    reset_accelerate()
    try:
        with quiet_trackers():
            for member in members:
                group.open(member)
            with finishing():
                for seats in group.alike():
                    group.train(seats)
    except BaseException as error:
        group.close(error)
        raise
    finally:
        reset_accelerate()
    if number := asked():
        raise Stopped(number, "every run keeps its checkpoint")


class _Seat:
    """A run, and what is given back when it ends."""

    def __init__(self, member: Member, stack: ExitStack) -> None:
        self.member, self.stack = member, stack
        self.run: Run | None = None

    def close(self, error: BaseException | None) -> None:
        """Give everything back; a folder in which nothing was kept goes with an error."""
        self.stack.__exit__(type(error) if error is not None else None, error, None)


class _Group:
    def __init__(self, ended: Callable[[Ended], None]) -> None:
        self._ended = ended
        self._seats: dict[str, _Seat] = {}  # of runs that have not ended, by name

    def open(self, member: Member) -> None:
        """Everything up to the first step of a run, or its error."""
        seat = self._seats[member.name] = _Seat(member, ExitStack())
        with self._apart(seat, Exception):
            what = member.training()
            if said := alone_because(what.config):
                raise BadOption(
                    f"run '{member.name}' cannot be trained beside others: {said}",
                    where=shell_line(member.command),
                    fix=f"train it alone: {shell_line(member.command)}",
                )
            seat.run = open_run(what, seat.stack, alone=False)
            seat.run.begin()

    def alike(self) -> list[list[_Seat]]:
        """Seats whose batches are the same, in the order in which they were opened."""
        alike: dict[object, list[_Seat]] = {}
        for seat in self._seats.values():
            shareable = seat.run.parts.shareable if seat.run is not None else None
            key: object = id(seat) if shareable is None else shareable.pixels
            alike.setdefault(key, []).append(seat)
        return list(alike.values())

    def train(self, seats: Sequence[_Seat]) -> None:
        """All remaining steps of runs whose batches are the same."""
        runs = [seat.run for seat in seats if seat.run is not None]
        for run in list(runs) if asked() else ():
            with self._turn(run, runs, None):
                run.stop(0)
        if len(runs) < 2:  # nothing to share
            for run in list(runs):
                there = partial(batches_on, run.ranks.device)
                make_steps(runs, run.parts.stream, lambda one: self._turn(one, runs, None), there)
            return
        shared = shared_stream([run.parts.shareable for run in runs if run.parts.shareable is not None])
        for run in runs:
            assert run.parts.shareable is not None
            view = OwnView(run.parts.stream, shared, run.parts.shareable.plan)
            run.parts = replace(run.parts, stream=view)
        try:
            there = partial(batches_on, runs[0].ranks.device)
            make_steps(runs, shared, lambda run: self._turn(run, runs, shared), there)
        finally:
            shared.close()

    def close(self, error: BaseException) -> None:
        """Give back whatever is still held when `error` ends all runs."""
        for seat in list(self._seats.values()):
            with suppress(Exception):
                seat.close(error)
        self._seats.clear()

    @contextmanager
    def _turn(self, run: Run, runs: list[Run], shared: SharedStream | None) -> Iterator[None]:
        """Around what one run does: where it ends, with a card or an error, it leaves `runs`."""
        seat = self._seats[run.config.run]
        with self._apart(seat, Exception, Stopped):
            yield
            if shared is not None and shared.changed():
                shared.failed = _wrote(seat.member)
                raise shared.failed
        if run.card:
            self._end(seat, None)
        runs[:] = [one for one in runs if one.config.run in self._seats]
        if shared is not None and shared.failed is not None:  # the others would read the same
            for one in list(runs):
                self._end(self._seats[one.config.run], shared.failed)
            runs.clear()

    @contextmanager
    def _apart(self, seat: _Seat, *ends: type[BaseException]) -> Iterator[None]:
        """Errors are of this run alone, in the words that it says alone."""
        run_dir = seat.run.run_dir if seat.run is not None else ""
        command = seat.member.command
        try:
            with (
                consent(names_in(command), command),
                touching("the run had to stop", run_dir, again=RUN_AGAIN),
            ):
                yield
        except ends as error:
            self._end(seat, error)

    def _end(self, seat: _Seat, error: Any) -> None:
        """Close a run's files, free what it holds, and say what became of it."""
        card = seat.run.card if seat.run is not None else {}
        del self._seats[seat.member.name]
        seat.run = None
        try:
            seat.close(error)
        except Exception as late:
            error = error or late
        self._ended(Ended(seat.member.name, card, error))


def _wrote(member: Member) -> BadOption:
    return BadOption(
        f"run '{member.name}' writes into the batch that the other runs read: a loss or a student of its own "
        "changes its input",
        where=shell_line(member.command),
        fix=f"train it alone: {shell_line(member.command)}; and have that code copy what it changes",
    )
