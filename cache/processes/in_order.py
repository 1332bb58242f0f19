"""Work beside the main thread, in order and bounded: what is made ahead of it, what is done behind it.

An error of such a thread is raised where the main thread meets it next, whole, with its own trace. After one
nothing more is begun.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from queue import Full, Queue
from threading import Event
from typing import Generic, TypeVar

from kdcache.cache.processes.threads import begun_alone

Item = TypeVar("Item")
_LOOK_S = 0.05  # a producer that waits looks as often whether anybody still wants its items


class Behind(Generic[Item]):
    """A thread that works on what it is given, in order, at most `waiting` items behind. A context: leaving
    it waits for everything that was given."""

    def __init__(self, work: Callable[[Item], None], *, name: str, waiting: int = 1) -> None:
        self._do = work
        self._queue: Queue[Item | None] = Queue(maxsize=waiting)
        self._failure: BaseException | None = None
        self._name = name

    def __enter__(self) -> "Behind[Item]":
        self._thread = begun_alone(self._work, self._name)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._failure is not None and kind is None:
            raise self._failure

    def put(self, item: Item) -> None:
        """Hand over an item. Raises what an earlier one failed with."""
        if self._failure is not None:
            raise self._failure
        self._queue.put(item)

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            if self._failure is None:
                try:
                    self._do(item)
                except BaseException as error:  # raised again in the thread that hands over
                    self._failure = error


def ahead(items: Callable[[], Iterator[Item]], *, name: str, waiting: int = 2) -> Generator[Item, None, None]:
    """The items, made in a thread of its own, at most `waiting` of them ahead. An error of it is raised
    behind the items before it. Closing the generator ends the thread, after the item that it is making."""
    queue: Queue[tuple[Item | None, BaseException | None]] = Queue(maxsize=waiting)
    unwanted = Event()

    def offer(item: Item | None, error: BaseException | None) -> bool:
        while not unwanted.is_set():
            with suppress(Full):
                queue.put((item, error), timeout=_LOOK_S)
                return True
        return False

    def make() -> None:
        try:
            for item in items():
                if not offer(item, None):
                    return
        except BaseException as error:
            offer(None, error)
        else:
            offer(None, None)

    thread = begun_alone(make, name)
    try:
        while True:
            item, error = queue.get()
            if error is not None:
                raise error
            if item is None:
                return
            yield item
    finally:
        unwanted.set()
        thread.join()
