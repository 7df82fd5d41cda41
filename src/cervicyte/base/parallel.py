"""Work in several threads: bounded, in order, and started safely."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")


def in_order(function: Callable[[T], R], items: Iterable[T], *, threads: int, ahead: int) -> Generator[R, None, None]:
    """Apply a function to each item in threads, and yield the results in the order of the items.

    The first call runs alone, see `first_alone`. What a call raises is raised in its place; then, and when the
    generator is closed, calls that have not begun are dropped and those that have are waited for.

    Parameters
    ----------
    items : taken one at a time when there is room, so they may be endless
    threads : calls at the same time
    ahead : calls that were begun or queued and whose results were not yielded yet, at most; at least 1

    >>> list(in_order(abs, [-3, 2, -1], threads=2, ahead=2))
    [3, 2, 1]
    """
    careful = first_alone(function)
    waiting: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for item in items:
            waiting.append(pool.submit(careful, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def first_alone(function: Callable[P, T]) -> Callable[P, T]:
    """The function, whose first call runs by itself while those of other threads wait.

    Heavy libraries are imported inside functions, when first needed. Two threads that import compiled
    libraries at the same time can wait for each other for ever (Python's lock of one module against
    another's, or against the dynamic loader's), so the first call does all the importing alone.

    >>> first_alone(abs)(-3)
    3
    """
    lock = Lock()
    done = False

    def careful(*args: P.args, **kwargs: P.kwargs) -> T:
        nonlocal done
        if done:
            return function(*args, **kwargs)
        with lock:
            result = function(*args, **kwargs)
            done = True
            return result

    return careful
