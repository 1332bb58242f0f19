"""Work beside the main thread keeps its order, its bound, and the whole of its errors."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from threading import Thread

import pytest
import torch

from kdcache.cache.processes.in_order import Behind, ahead


def test_what_is_handed_over_is_done_in_order_before_the_end() -> None:
    seen: list[int] = []

    def work(item: int) -> None:
        time.sleep(0.001)
        seen.append(item)

    with Behind(work, name="t") as behind:
        for item in range(1, 30):
            behind.put(item)
    assert seen == list(range(1, 30))


def test_an_error_reaches_the_caller_as_it_is_and_nothing_follows_it() -> None:
    seen: list[int] = []

    def work(item: int) -> None:
        seen.append(item)
        if item == 2:
            raise ValueError("two")

    with pytest.raises(ValueError, match="two") as error, Behind(work, name="t", waiting=8) as behind:
        for item in (1, 2, 3, 4):
            behind.put(item)
    assert seen == [1, 2] and any("work" in str(one.name) for one in error.traceback)


def test_the_error_of_the_main_thread_is_not_replaced() -> None:
    def fail(item: int) -> None:
        raise ValueError(item)

    with pytest.raises(KeyError), Behind(fail, name="t") as behind:
        behind.put(1)
        raise KeyError


def test_at_most_so_many_wait() -> None:
    go, done = threading.Event(), threading.Event()
    with Behind(lambda item: go.wait(30), name="t", waiting=2) as behind:

        def hand_over() -> None:
            for item in range(1, 5):  # one is worked on, two wait
                behind.put(item)
            done.set()

        thread = threading.Thread(target=hand_over)
        thread.start()
        assert not done.wait(0.2)
        go.set()
        thread.join(30)
    assert done.is_set()


def test_items_are_made_ahead_in_order_and_no_more_than_asked() -> None:
    made: list[int] = []

    def items() -> Iterator[int]:
        for item in range(1, 50):
            made.append(item)
            yield item

    stream = ahead(items, name="t", waiting=2)
    assert next(stream) == 1
    time.sleep(0.3)
    assert len(made) <= 1 + 2 + 1, "one is offered, two wait"
    assert list(stream) == list(range(2, 50))


def test_an_error_of_the_maker_comes_after_the_items_before_it() -> None:
    def items() -> Iterator[int]:
        yield from (1, 2)
        raise OSError("gone")

    stream, seen = ahead(items, name="t"), []
    with pytest.raises(OSError, match="gone"):
        for item in stream:
            seen.append(item)
    assert seen == [1, 2]


def test_closing_ends_the_maker_and_what_it_holds() -> None:
    closed = threading.Event()

    def items() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    stream = ahead(items, name="endless-maker")
    next(stream)
    stream.close()
    assert "endless-maker" not in [one.name for one in threading.enumerate()] and closed.wait(5)


@pytest.fixture
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("three_threads")
def test_threads_beside_the_main_one_compute_by_themselves_and_change_it_for_nobody_else() -> None:
    seen: dict[str, int] = {}

    def see(name: str) -> None:
        seen[name] = torch.get_num_threads()

    def items() -> Iterator[str]:
        see("ahead")
        yield "behind"

    with Behind(see, name="t") as behind:
        for item in ahead(items, name="t"):
            behind.put(item)
    assert seen == {"ahead": 1, "behind": 1}
    later = Thread(target=see, args=("later",))
    later.start()
    later.join()
    see("main")
    assert (seen["main"], seen["later"]) == (3, 3)


def test_nobody_waits_for_torch_where_it_is_not_loaded() -> None:
    code = "import sys; from kdcache.cache.processes.in_order import ahead; "
    code += "assert list(ahead(lambda: iter([1, 2]), name='t')) == [1, 2]; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
