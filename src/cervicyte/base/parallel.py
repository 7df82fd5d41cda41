"""Letting several threads start safely."""

from __future__ import annotations

from collections.abc import Callable
from threading import Lock
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


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
            found = function(*args, **kwargs)
            done = True
            return found

    return careful
