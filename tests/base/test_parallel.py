"""Bounded work in threads: order, bound, errors, and an end before the end."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import pytest

from cervicyte.base.parallel import in_order


def test_results_come_in_the_order_of_the_items_whichever_is_done_first() -> None:
    later = threading.Event()

    def work(item: int) -> int:
        if item == 1:
            assert later.wait(10)  # item 2 is done before it
        if item == 2:
            later.set()
        return 10 * item

    assert list(in_order(work, range(5), threads=2, ahead=3)) == [0, 10, 20, 30, 40]


@pytest.mark.parametrize(("threads", "ahead"), [(1, 1), (1, 2), (3, 4), (4, 2)])
def test_no_more_items_are_taken_than_may_be_ahead(threads: int, ahead: int) -> None:
    taken = 0

    def endless() -> Iterator[int]:
        nonlocal taken
        for item in itertools.count():
            taken += 1
            yield item

    results = in_order(lambda item: item, endless(), threads=threads, ahead=ahead)
    for used in range(20):
        assert next(results) == used
        assert taken - used <= ahead
    results.close()
    assert taken - 20 < ahead


def test_calls_run_at_the_same_time_but_the_first_runs_alone() -> None:
    running, together = 0, []
    lock, both = threading.Lock(), threading.Barrier(2)

    def work(item: int) -> None:
        nonlocal running
        with lock:
            running += 1
            first = not together
            together.append(running)
        if first:
            time.sleep(0.05)  # long enough for another thread to begin, were it let
        else:
            both.wait(10)
        with lock:
            running -= 1

    list(in_order(work, range(3), threads=2, ahead=3))
    assert together == [1, 1, 2]


def test_the_first_error_is_raised_in_its_place_and_ends_the_work() -> None:
    begun = []

    def work(item: int) -> int:
        begun.append(item)
        if item in {2, 3}:
            raise ValueError(f"item {item}")
        return item

    results = in_order(work, range(100), threads=1, ahead=4)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(ValueError, match="item 2"):
        next(results)
    assert len(begun) <= 6
    assert list(results) == []


def test_an_error_of_the_items_ends_the_work_too() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("no more")

    with pytest.raises(KeyError, match="no more"):
        list(in_order(abs, items(), threads=2, ahead=5))


def test_closing_drops_what_has_not_begun_and_waits_for_what_has() -> None:
    begun, done = [], []
    free = threading.Event()

    def work(item: int) -> int:
        begun.append(item)
        if item:
            assert free.wait(10)
        done.append(item)
        return item

    before = set(threading.enumerate())
    results = in_order(work, range(10), threads=1, ahead=6)
    assert next(results) == 0
    timer = threading.Timer(0.05, free.set)
    timer.start()
    results.close()
    assert begun == done
    assert len(done) < 6, "queued calls were run"
    timer.join()
    assert set(threading.enumerate()) <= before, "its threads are gone"


def test_nothing_is_taken_and_no_thread_starts_before_the_first_result_is_asked_for() -> None:
    before = threading.active_count()
    results = in_order(abs, iter([1]), threads=2, ahead=2)
    assert threading.active_count() == before
    assert next(results) == 1
    results.close()
