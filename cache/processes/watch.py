"""Ranks of one command that notice when one of them is gone: a kill, an error of its own, no sign of life.

Every rank has a thread that writes a beat to the store of the process group and reads those of the others. A
rank whose process ended is seen on its own machine at once; from another one, and where a process stands
still, its beats fail to come. A beat says how far the main thread has come (`progress`): a rank that others
wait for and that does not get on stands still although it lives. Whoever waits for a lost rank in a
collective gets the library's error, which names nobody, or nothing at all: the first becomes `LostRank`, in
the second case the thread ends the process.
"""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

from kdcache.cache.errors import KdError
from kdcache.cache.processes.living import Process, own_process
from kdcache.cache.processes.progress import Progress, progress
from kdcache.cache.processes.stop import TIMEOUT_S, asked, end_now, failing

_BEAT_S = 1.0
_GRACE_S = 8.0  # in which the main thread may find out by itself what the thread knows
_SILENT_S = 4.0  # of a rank, once a collective has failed
_STATUS = 2
_DONE, _FAILED, _STOPPED, _FOLLOWED, _STOOD = "done", "failed", "stopped", "followed", "stood"
_WHY = {
    _FAILED: "ended with an error of its own",
    _STOPPED: "was stopped",
    _STOOD: "stands still: the others have waited for it",
}
_groups = iter(range(1 << 62))  # of this process: keys of an earlier one must not be read


class LostRank(KdError, RuntimeError):
    """A rank is gone or stands still, so none can go on."""

    rank = -1  # which


class Alone:
    """What `watching` gives a command of one process."""

    def stops_after(self, step: int) -> bool:
        """Whether the command ends after `step` finished steps: the same answer on every rank."""
        del step
        return bool(asked())


class Watch(Alone):
    """One rank's view of the others. `fix` says how the command goes on later."""

    def __init__(self, rank: int, world: int, *, timeout_s: float, fix: Callable[[], str]) -> None:
        self.rank, self.world, self._timeout_s, self._fix = rank, world, timeout_s, fix
        self._peers = [one for one in range(world) if one != rank]
        store, group = _get_default_store(), next(_groups)
        # A client each: one that waits for an answer lets nobody else ask.
        self._beats = PrefixStore(f"kdcache-{group}", store.clone())
        self._steps = PrefixStore(f"kdcache-{group}", store.clone())
        self._beat_s = min(_BEAT_S, timeout_s / 4)
        self._count, self._left = 0, False
        self._begun = progress().arrivals  # of earlier commands in this process
        self._came = {one: Progress(0, 0) for one in range(world)}  # how far each main thread has come
        self._still = dict.fromkeys(range(world), 0.0)  # seconds of our own beats since it got on
        self._said = dict.fromkeys(self._peers, "")  # the last beat of each
        self._silent = dict.fromkeys(self._peers, 0.0)  # seconds of our own beats since it changed
        self._ending = threading.Lock()  # held by whichever thread ends this rank, so that one of them speaks
        self._stood: dict[int, str] = {}  # ranks that stood still, and for how long
        self._leaving = threading.Event()
        self._lock = threading.Lock()
        self._processes: dict[int, Process] = {}
        self._thread = threading.Thread(target=self._run, name="ranks", daemon=True)

    def start(self) -> None:
        self._beat("0")
        self._beats.set(f"process/{self.rank}", own_process().text())
        for peer in self._peers:
            self._processes[peer] = Process.read(self._beats.get(f"process/{peer}").decode())
        self._thread.start()

    def stops_after(self, step: int) -> bool:
        """A rank that was asked to stop names the step after this one, before it takes part in it; whoever
        has finished that step has met that rank in it, and reads the name."""
        if asked():
            self._steps.compare_set("stop", "", str(step + 1))
        return bool(self._steps.check(["stop"])) and step >= int(self._steps.get("stop"))

    def leave(self, why: str) -> None:
        """Tell the others that this rank goes, and stop watching them."""
        self._leaving.set()
        try:
            with self._lock:
                self._left = True
                self._beat(why)
        except Exception:  # the store went with the rank that kept it
            return

    def lost_now(self) -> LostRank | None:
        """Which rank made a collective fail; None where every rank is there."""
        self._leaving.set()  # the thread may not end the process while this looks
        self._ending.acquire()  # and has the word where it began to: it never gives that back
        until_s = time.monotonic() + _GRACE_S
        while time.monotonic() < until_s:
            lost = self._look(silent_s=min(_SILENT_S, self._timeout_s))
            if lost is not None:
                return lost
            time.sleep(self._beat_s / 2)
        return None

    def speaks(self, lost: LostRank) -> bool:
        """Whether it falls to this rank to tell a person: the first one that is left. One that stands still
        itself tells nothing, for the others do."""
        gone = {peer for peer in self._peers if self._said[peer] in _WHY or not self._processes[peer].lives()}
        before = (peer for peer in self._peers if peer < self.rank)
        silent = gone | {lost.rank}
        return lost.rank != self.rank and all(
            peer in silent or self._is_silent(peer, _SILENT_S) for peer in before
        )

    def _run(self) -> None:
        known_s: float | None = None
        while not self._leaving.wait(self._beat_s):
            lost = self._look(silent_s=self._timeout_s)
            if lost is None:
                continue
            known_s = known_s or time.monotonic()
            if (
                time.monotonic() - known_s >= min(_GRACE_S, 2 * self._timeout_s)
                and not self._leaving.is_set()
            ):
                if not self._ending.acquire(blocking=False):
                    return  # the main thread has heard of it
                self.leave(_STOOD if lost.rank == self.rank else _FOLLOWED)
                end_now(_STATUS, f"error: {lost}" if self.speaks(lost) else "")

    def _look(self, *, silent_s: float) -> LostRank | None:
        """Beat, read the others' beats, and say who is lost. Silence is counted in our own beats: a machine
        that slept has not missed any."""
        with self._lock:
            reached = self._exchange()
        gone = [peer for peer in self._peers if self._said[peer] not in (_DONE, _FOLLOWED)]
        for peer in gone:
            if self._said[peer] not in _WHY and not self._processes[peer].lives():
                why = self._stood.get(peer, "is gone: its process was killed or broke down")
                return self._lost(peer, why)
        for peer in gone:
            if self._said[peer] in _WHY:
                return self._lost(peer, self._stood.get(peer, _WHY[self._said[peer]]))
        for peer in gone:
            if self._is_silent(peer, silent_s):
                said = f"gave no sign of life for {self._silent[peer]:.0f} s"
                return self._lost(peer, said if reached else "cannot be reached")
        if (still := self._standing(silent_s)) is not None:
            waited = f"stands still: the others have waited {self._still[still]:.0f} s for it"
            self._stood[still] = waited  # it ends itself soon, and that is not what happened to it
            return self._lost(still, waited)
        return None

    def _exchange(self) -> bool:
        """Whether the store could be reached."""
        try:
            if not self._left:
                self._count += 1
                now = self._own_progress()
                self._beat(f"{self._count} {now.arrivals} {now.moves}")
            beats = self._beats.multi_get([f"beat/{peer}" for peer in self._peers])
        except Exception:
            beats = [self._said[peer].encode() for peer in self._peers]
            reached = False
        else:
            reached = True
        for peer, beat in zip(self._peers, beats, strict=True):
            same = beat.decode() == self._said[peer]
            self._silent[peer] = self._silent[peer] + self._beat_s if same else 0.0
            self._said[peer] = beat.decode()
            if len(words := self._said[peer].split()) == 3:
                self._come(peer, Progress(int(words[1]), int(words[2])))
        self._come(self.rank, self._own_progress())
        return reached

    def _own_progress(self) -> Progress:
        now = progress()
        return now._replace(arrivals=now.arrivals - self._begun)

    def _come(self, rank: int, now: Progress) -> None:
        self._still[rank] = self._still[rank] + self._beat_s if now == self._came[rank] else 0.0
        self._came[rank] = now

    def _standing(self, silent_s: float) -> int | None:
        """The rank, perhaps this one, that others wait for and that has not got on for so long. One that
        waits is never among them: it has arrived as often as any."""
        first = max(now.arrivals for now in self._came.values())
        behind = [rank for rank, now in self._came.items() if now.arrivals < first]
        ended = (_DONE, _FOLLOWED, *_WHY)
        there = [rank for rank in behind if rank == self.rank or self._said[rank] not in ended]
        return next((rank for rank in there if self._still[rank] >= silent_s), None)

    def _is_silent(self, peer: int, silent_s: float) -> bool:
        return self._silent[peer] >= silent_s and self._said[peer] not in (_DONE, _FOLLOWED)

    def _beat(self, value: str) -> None:
        self._beats.set(f"beat/{self.rank}", value)

    def _process_of(self, rank: int) -> Process:
        return own_process() if rank == self.rank else self._processes[rank]

    def _lost(self, peer: int, why: str) -> LostRank:
        lost = LostRank(
            f"rank {peer} of {self.world} {why}; the others end too",
            where=f"rank {peer}, {self._process_of(peer).title}",
            fix=self._fix(),
        )
        lost.rank = peer
        return lost


@contextmanager
def watching(*, timeout_s: float = TIMEOUT_S, fix: Callable[[], str]) -> Iterator[Alone]:
    """Around what the ranks of this process group do together. Raises LostRank on the first rank that is
    left, SystemExit on the others."""
    if not (dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1):
        yield Alone()
        return
    watch = Watch(dist.get_rank(), dist.get_world_size(), timeout_s=timeout_s, fix=fix)
    watch.start()
    try:
        yield watch
    except KeyboardInterrupt:
        watch.leave(_STOPPED)
        raise
    except KdError:
        watch.leave(_FAILED)
        raise
    except Exception as error:
        failing()
        lost = watch.lost_now()
        watch.leave(_FAILED if lost is None else _FOLLOWED)
        if lost is None:
            raise
        if not watch.speaks(lost):
            raise SystemExit(_STATUS) from error
        raise lost from error
    except BaseException:
        watch.leave(_FAILED)
        raise
    watch.leave(_DONE)
