"""Progress of long work on standard error: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar

from cervicyte import settings

T = TypeVar("T")

#: Seconds between two plain progress lines where there is no terminal.
_LINE_EVERY_S = 15.0


def track(items: Iterable[T], label: str, total: int | None = None) -> Iterator[T]:
    """Yield the items, showing how far the work has come and how fast it goes.

    On a terminal a bar is drawn; elsewhere (a log) one line each 15 seconds, and
    none at all for work shorter than that.
    """
    mode = settings.get_str("progress")
    if total is None and isinstance(items, Sized):
        total = len(items)
    if mode == "off":
        yield from items
    elif mode == "on" or sys.stderr.isatty():
        yield from _bar(items, label, total)
    else:
        yield from _lines(items, label, total)


def say(message: str) -> None:
    """One line for the person who waits, on standard error."""
    if settings.get_str("progress") != "off":
        print(message, file=sys.stderr, flush=True)


#: The bars that are on the terminal now; work inside other work draws its bar below the other's.
_LIVE: list[Any] = []


def _bar(items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    if _LIVE:
        task = _LIVE[0].add_task(label, total=total)
        try:
            yield from _LIVE[0].track(items, task_id=task)
        finally:
            _LIVE[0].remove_task(task)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        _LIVE.append(bar)
        try:
            yield from bar.track(items, total=total, description=label)
        finally:
            _LIVE.clear()


def _lines(items: Iterable[T], label: str, total: int | None) -> Iterator[T]:
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last >= _LINE_EVERY_S:
            last = now
            of = f" of {total}" if total else ""
            print(f"{label}: {done}{of}, {done / (now - start):.1f}/s", file=sys.stderr, flush=True)
