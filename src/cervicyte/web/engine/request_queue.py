"""Pictures that wait for the engine: how many may, whose turn it is, and which go into one batch.

Requests take turns, so that a large one does not hold up a small one. A batch is whatever is prepared, whoever it
belongs to. No model and no thread is in here: `cervicyte.web.engine.predictor` brings both.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from cervicyte.bundle.predictions import Prediction
from cervicyte.errors import UsageError
from cervicyte.web.errors import RETRY_S, BusyError, StoppedError

#: A picture to predict: its encoded bytes, or the file that holds them.
Source = bytes | Path | str


@dataclass(kw_only=True)
class Statistics:
    """Counts since the start, and how much waits now.

    Attributes
    ----------
    queued, preparing, ready, open : pictures that wait for a worker, are with one, wait for the engine; and all that
        are not answered yet, these and those in the engine
    requests, images, failed, turned_away : requests taken; pictures answered, those among them that could not be
        used; pictures turned away because there was no room
    batches, batch_sizes : runs of the engine, and how many there were of each size
    errors : runs and requests that failed
    prepare_s, engine_s, waited_s : seconds of all workers, of all engine runs, and from request to answer of all
        pictures
    explanations, explained_from_cache : explanations given, and those among them that were made before
    """

    queued: int = 0
    preparing: int = 0
    ready: int = 0
    open: int = 0
    requests: int = 0
    images: int = 0
    failed: int = 0
    turned_away: int = 0
    batches: int = 0
    batch_sizes: dict[int, int] = field(default_factory=dict)
    errors: int = 0
    prepare_s: float = 0.0
    engine_s: float = 0.0
    waited_s: float = 0.0
    explanations: int = 0
    explained_from_cache: int = 0


class Request:
    """Pictures that one caller sent together, and the answers so far."""

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources: list[Source] = list(sources)
        self.answers: list[Prediction] = [Prediction("")] * len(self.sources)
        self.taken = 0  # pictures that workers have taken, the first ones
        self.left = len(self.sources)  # pictures without an answer
        self.over = not self.sources
        self.since = time.monotonic()
        self.future: Future[list[Prediction]] = Future()


@dataclass(eq=False, kw_only=True)
class Item:
    """One picture on its way; ``row`` is what the engine takes, once it is prepared (at ``since``)."""

    request: Request
    index: int
    source: Source
    row: np.ndarray | None = None
    since: float = 0.0

    @property
    def path(self) -> str:
        """The file, where the picture is one."""
        return "" if isinstance(self.source, bytes) else str(self.source)


class Queue:
    """Where pictures wait; every method may be called from any thread.

    Parameters
    ----------
    most : pictures that are taken and not answered, of all callers together
    most_bytes : encoded bytes that may wait with them
    most_ready : prepared pictures that are held, and being prepared; what comes later waits as it came
    batch_size : most pictures of one batch
    max_wait_s : how long a prepared picture waits for others to fill its batch, while others are on their way
    """

    def __init__(self, most: int, most_bytes: int, most_ready: int, batch_size: int, max_wait_s: float) -> None:
        self._most = most
        self._most_bytes = most_bytes
        self._most_ready = most_ready
        self._batch_size = batch_size
        self._max_wait_s = max_wait_s
        self._lock = threading.Lock()
        self._work = threading.Condition(self._lock)  # a request came, or there is room for prepared rows
        self._rows = threading.Condition(self._lock)  # a row is ready, or no more is on its way
        self._idle = threading.Condition(self._lock)  # nothing is open
        self._waiting: deque[Request] = deque()  # with pictures that no worker has taken
        self._open: set[Request] = set()
        self._ready: deque[Item] = deque()
        self._bytes = 0
        self._end: StoppedError | None = None
        self._progress = time.monotonic()
        self._pace: deque[tuple[float, int]] = deque(maxlen=64)  # when how many pictures had been answered
        self._counted = Statistics()
        self.last_error = ""

    def submit(self, sources: Sequence[Source]) -> Future[list[Prediction]]:
        """Take pictures, all or none; see `cervicyte.web.engine.predictor.Predictor.submit`."""
        request = Request(sources)
        count, size = len(request.sources), sum(map(_size, request.sources))
        if count > self._most or size > self._most_bytes:
            raise UsageError(
                "more pictures than the queue ever holds",
                f"{count:,} pictures, {size:,} bytes; it holds {self._most:,} and {self._most_bytes:,}",
                "send them in smaller parts",
            )
        with self._lock:
            self._check()
            counted = self._counted
            if counted.open + count > self._most or self._bytes + size > self._most_bytes:
                counted.turned_away += count
                raise BusyError("the queue is full", f"{counted.open:,} pictures wait", self._retry_after())
            counted.requests += 1
            if count:
                if not counted.open:  # a new rush: what was before tells nothing of its pace
                    self._progress = request.since
                    self._pace.clear()
                    self._pace.append((request.since, counted.images))
                counted.open += count
                counted.queued += count
                self._bytes += size
                self._open.add(request)
                self._waiting.append(request)
                self._work.notify(count)
        if not count:
            request.future.set_result([])
        return request.future

    def check(self) -> None:
        """Raise `StoppedError` where nothing more is taken."""
        with self._lock:
            self._check()

    # ---- for workers

    def take(self) -> Item | None:
        """Wait for the next picture to prepare, requests taking turns; None at the end."""
        counted = self._counted
        with self._lock:
            while True:
                while self._waiting and len(self._ready) + counted.preparing < self._most_ready:
                    request = self._waiting.popleft()
                    if not request.over and request.future.cancelled():
                        self._drop(request)
                        request.future.set_running_or_notify_cancel()
                    if request.over:
                        continue
                    item = Item(request=request, index=request.taken, source=request.sources[request.taken])
                    request.sources[request.taken] = b""
                    request.taken += 1
                    if request.taken < len(request.sources):
                        self._waiting.append(request)
                    counted.queued -= 1
                    counted.preparing += 1
                    self._bytes -= _size(item.source)
                    return item
                if self._end and not self._waiting:
                    return None
                self._work.wait()

    def prepared(self, item: Item, seconds: float) -> None:
        """A worker is done with a picture, which goes to the engine where it has a row."""
        with self._lock:
            self._counted.preparing -= 1
            self._counted.prepare_s += seconds
            if item.row is not None:
                item.since = time.monotonic()
                self._ready.append(item)
            else:
                self._work.notify()  # its place among the prepared is free
            if len(self._ready) == 1 or len(self._ready) >= self._batch_size or not self._on_their_way:
                self._rows.notify()  # of those between, a runner that waits for the rest need not know

    # ---- for the engine

    def batch(self) -> list[Item]:
        """Wait for rows that are due, and take them, no more than fit a batch; empty at the end."""
        counted = self._counted
        with self._lock:
            while True:
                if self._ready:
                    patience = self._ready[0].since + self._max_wait_s - time.monotonic()
                    if len(self._ready) >= self._batch_size or not self._on_their_way or patience <= 0:
                        break
                    self._rows.wait(patience)
                elif self._end and not counted.open:
                    return []
                else:
                    self._rows.wait()
            found = [self._ready.popleft() for _ in range(min(len(self._ready), self._batch_size))]
            if self._ready:
                self._rows.notify()  # for another runner that waits: the rest may be due as well
            self._work.notify_all()
            return found

    def ran(self, size: int, seconds: float, error: str = "") -> None:
        """The engine ran a batch, well or not."""
        with self._lock:
            counted = self._counted
            counted.batches += 1
            counted.batch_sizes[size] = counted.batch_sizes.get(size, 0) + 1
            counted.engine_s += seconds
            counted.errors += bool(error)
            self.last_error = error

    # ---- accounts

    def answer(self, answers: Iterable[tuple[Item, Prediction]]) -> None:
        """Give pictures their verdicts, and callers their lists when these are whole."""
        whole = []
        now = time.monotonic()
        with self._lock:
            counted = self._counted
            for item, prediction in answers:
                request = item.request
                if request.over:
                    continue
                request.answers[item.index] = prediction
                request.left -= 1
                counted.open -= 1
                counted.images += 1
                counted.failed += bool(prediction.error)
                counted.waited_s += now - request.since
                if not request.left:
                    self._drop(request)
                    whole.append(request)
            self._progress = now
            self._pace.append((now, counted.images))
        for request in whole:  # without the lock: callbacks may call the predictor
            if request.future.set_running_or_notify_cancel():
                request.future.set_result(request.answers)

    def fail(self, requests: Iterable[Request], error: Exception) -> None:
        """Give requests an error in place of their answers."""
        with self._lock:
            failed = [request for request in requests if not request.over]
            for request in failed:
                self._drop(request)
            if failed and not isinstance(error, StoppedError):
                self._counted.errors += 1
                self.last_error = f"{type(error).__name__}: {error}"
        for request in failed:
            if request.future.set_running_or_notify_cancel():
                request.future.set_exception(error)

    def stop(self, error: StoppedError) -> None:
        """Take nothing more, and give up what is open."""
        with self._lock:
            self._end = error
            left = list(self._open)
        self.fail(left, error)
        with self._lock:
            self._waiting.clear()
            self._ready.clear()
            self._work.notify_all()
            self._rows.notify_all()

    def drain(self, timeout_s: float | None) -> bool:
        """Take nothing more, and wait until all is answered; False when there was no time for it."""
        with self._lock:
            self._end = self._end or StoppedError("the predictor is closed", todo="start cervicyte again")
            drained = self._idle.wait_for(lambda: not self._counted.open, timeout_s)
            self._work.notify_all()
            self._rows.notify_all()
            return drained

    def count_explanation(self, from_cache: bool) -> None:
        """One more explanation was given."""
        with self._lock:
            self._counted.explanations += 1
            self._counted.explained_from_cache += from_cache

    def statistics(self) -> Statistics:
        """Counts, as they are now."""
        with self._lock:
            counted = self._counted
            return replace(counted, ready=len(self._ready), batch_sizes=dict(counted.batch_sizes))

    @property
    def silence_s(self) -> float:
        """Seconds since the last answer while pictures wait for one; 0 when none does."""
        with self._lock:
            return time.monotonic() - self._progress if self._counted.open else 0.0

    # ---- with the lock held

    @property
    def _on_their_way(self) -> int:
        """Pictures that are to be prepared yet."""
        return self._counted.queued + self._counted.preparing

    def _check(self) -> None:
        if self._end is not None:
            raise StoppedError(self._end.what, self._end.received, self._end.todo)

    def _drop(self, request: Request) -> None:
        """Take a request off the accounts, whatever is left of it."""
        request.over = True
        self._counted.open -= request.left
        self._counted.queued -= len(request.sources) - request.taken
        self._bytes -= sum(map(_size, request.sources[request.taken :]))
        self._open.discard(request)
        if not self._counted.open:
            self._idle.notify_all()
            self._rows.notify_all()

    def _retry_after(self) -> int:
        """Seconds until the pictures that are open now should be answered."""
        (first, before), (last, after) = self._pace[0], self._pace[-1]
        seconds = self._counted.open * (last - first) / (after - before) if after > before else 0.0
        return min(max(math.ceil(seconds), RETRY_S[0]), RETRY_S[1])


def _size(source: Source) -> int:
    return len(source) if isinstance(source, bytes) else 0
