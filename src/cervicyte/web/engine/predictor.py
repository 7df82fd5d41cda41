"""The one engine for all users: workers that prepare pictures, runners that batch them across users, explanations.

What is said of a picture is what `cervicyte predict` says: the bundle's own extractor, the bundle's own verdict.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from cervicyte.bundle.folder import Bundle
from cervicyte.bundle.predictions import Prediction
from cervicyte.errors import CervicyteError, ImageError
from cervicyte.explain.evidence import Explanation
from cervicyte.features.extraction import odd_cells
from cervicyte.images import decoding
from cervicyte.settings import available_threads
from cervicyte.web.engine.explanations import Explanations
from cervicyte.web.engine.request_queue import Item, Queue, Source, Statistics
from cervicyte.web.errors import StoppedError

#: Seconds without a single answer, while pictures wait, after which the predictor calls itself stuck.
STUCK_S = 120.0


@dataclass(frozen=True)
class PredictorHealth:
    """Whether the predictor works.

    Attributes
    ----------
    ok : nothing is wrong
    problems : what is, one line each
    workers, runners : living threads that prepare pictures, and that run the engine
    """

    ok: bool
    problems: tuple[str, ...]
    workers: int
    runners: int


class Predictor:
    """A bundle at work for many callers at once; every method may be called from any thread.

    >>> with Predictor(Bundle.load("run/bundle")) as predictor:                       # doctest: +SKIP
    ...     predictor.predict([Path("cell.png").read_bytes()])[0].label

    Parameters
    ----------
    bundle : the model; it is compiled, and tried on a drawn cell, before this returns
    queue_size : pictures that are taken and not answered, of all callers together
    queue_bytes : encoded bytes that may wait with them
    max_wait_ms : how long a prepared picture waits for others to fill its batch, while others are on their way
    workers : threads that decode and prepare; None for one per processor, two at least
    precision : see `cervicyte.networks.runtime.Engine`; None takes the setting
    explanations : how many are kept

    Raises
    ------
    BundleError : graphs that do not give what a bundle's graphs give
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        queue_size: int = 512,
        queue_bytes: int = 512 << 20,
        max_wait_ms: float = 5.0,
        workers: int | None = None,
        precision: str | None = None,
        explanations: int = 64,
    ) -> None:
        self.bundle = bundle
        self._extractor = bundle.extractor(precision)
        self._explanations = Explanations(bundle, precision, explanations)
        batch_size, parallel = self._extractor.batch_size, self._extractor.parallel
        # Prepared ahead is one batch more than the engine works on: it is never idle, and newcomers wait for little.
        self._queue = Queue(queue_size, queue_bytes, batch_size * (parallel + 1), batch_size, max_wait_ms / 1000)
        # One runner more than the engine has turns: it reads the verdicts of one batch while the engine takes the next.
        self._turns = threading.BoundedSemaphore(parallel)
        self._lock = threading.Lock()
        self._deaths: list[str] = []
        self._living = {"worker": workers or max(2, available_threads()), "runner": parallel + 1}
        self._try_out()
        self._workers = [self._thread("worker", i, self._prepare_forever) for i in range(self._living["worker"])]
        self._runners = [self._thread("runner", i, self._run_forever) for i in range(self._living["runner"])]
        for thread in self._workers + self._runners:
            thread.start()

    def __enter__(self) -> Predictor:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def submit(self, sources: Sequence[Source]) -> Future[list[Prediction]]:
        """Take pictures (encoded bytes or files), all or none, and promise their verdicts in the same order.

        A picture that cannot be used has its ``error``, and the others go on. The future may be cancelled at any time
        before it is done; what was not begun then gives its place back.

        Raises
        ------
        BusyError : the queue is full
        UsageError : more pictures, or more bytes, than the queue ever holds
        StoppedError : the predictor is closed, or its threads have died
        """
        return self._queue.submit(sources)

    def predict(self, sources: Sequence[Source]) -> list[Prediction]:
        """The verdicts on pictures, in their order; waits for them. Raises what `submit` raises."""
        return self.submit(sources).result()

    def explain(self, source: Source, target: str | None = None) -> Explanation:
        """Why the bundle answers as it does; what was explained is kept for a while. Done in the caller's thread.

        Raises
        ------
        BusyError : too many callers wait for an explanation
        ImageError, UsageError, BundleError : as `cervicyte.explain.explainer.explain`
        StoppedError : the predictor is closed, or its threads have died
        """
        self._queue.check()
        explanation, from_cache = self._explanations.get(_bytes(source), target)
        self._queue.count_explanation(from_cache)
        return explanation

    def statistics(self) -> Statistics:
        """Counts for metrics, as they are now."""
        return self._queue.statistics()

    def health(self) -> PredictorHealth:
        """Whether all threads live, the engine's last run went well, and answers keep coming."""
        workers, runners = (sum(t.is_alive() for t in kind) for kind in (self._workers, self._runners))
        problems = list(self._deaths)
        dead = len(self._workers) + len(self._runners) - workers - runners
        try:
            self._queue.check()
        except StoppedError as error:
            problems.append(error.what)
        else:
            if dead > len(problems):
                problems.append(f"{dead} threads of the predictor are dead")
        if self._queue.last_error:
            problems.append(f"the last failure, after which nothing went well: {self._queue.last_error}")
        if (silence := self._queue.silence_s) > STUCK_S:
            problems.append(f"{self.statistics().open:,} pictures wait, and none was answered for {silence:.0f} s")
        return PredictorHealth(not problems, tuple(problems), workers, runners)

    def close(self, timeout_s: float | None = None) -> None:
        """Take nothing more, answer what was taken, and end the threads; may be called twice.

        Parameters
        ----------
        timeout_s : seconds to wait; what has no answer then gets `StoppedError`. None waits for all
        """
        drained = self._queue.drain(timeout_s)
        if not drained:
            self._queue.stop(
                StoppedError("the predictor was closed before it came to these pictures", todo="send them again")
            )
        patience = time.monotonic() + 1.0
        for thread in self._workers + self._runners:  # one that hangs in the engine is not waited for
            thread.join(None if drained else max(0.0, patience - time.monotonic()))

    # ---- threads

    def _prepare_forever(self) -> None:
        while (item := self._queue.take()) is not None:
            start = time.perf_counter()
            refused = ""
            try:
                item.row = self._row(item)
            except CervicyteError as error:
                refused = error.one_line
            except BaseException as error:
                self._queue.fail([item.request], _for_caller(error))
                if not isinstance(error, Exception):
                    raise
            finally:
                self._queue.prepared(item, time.perf_counter() - start)
            if refused:
                self._queue.answer([(item, Prediction(item.path, error=refused))])

    def _row(self, item: Item) -> np.ndarray:
        """What the engine takes of a picture; raises ImageError."""
        name = item.path or "the picture"
        data = _bytes(item.source)
        with odd_cells(name):
            return self._extractor.prepare(decoding.decode(data, name))

    def _run_forever(self) -> None:
        while True:
            batch: list[Item] = []
            try:
                with self._turns:
                    batch = self._queue.batch()
                    if not batch:
                        return
                    vectors = self._run(batch)
                self._queue.answer([(item, self._verdict(item, v)) for item, v in zip(batch, vectors, strict=True)])
            except BaseException as error:
                self._queue.fail({item.request for item in batch}, _for_caller(error))
                if not isinstance(error, Exception):
                    raise

    def _run(self, batch: list[Item]) -> list[np.ndarray | CervicyteError]:
        """Vectors of a batch; where the bundle refuses all of it, of each picture by itself."""
        start = time.perf_counter()
        try:
            vectors = self._extractor.run(np.stack([item.row for item in batch if item.row is not None]))
        except CervicyteError as error:
            self._queue.ran(len(batch), time.perf_counter() - start, error.one_line)
            return [error] if len(batch) == 1 else [self._run([item])[0] for item in batch]
        self._queue.ran(len(batch), time.perf_counter() - start)
        return list(vectors)

    def _verdict(self, item: Item, vector: np.ndarray | CervicyteError) -> Prediction:
        if isinstance(vector, CervicyteError):
            return Prediction(item.path, error=vector.one_line)
        return self.bundle.verdict(item.path, vector)

    def _try_out(self) -> None:
        """Run a drawn cell through everything: heavy imports happen here alone, and a broken bundle is found now."""
        y, x = np.mgrid[-1:1:96j, -1:1:96j]
        distance = np.hypot(x, y)[..., None]
        cell = np.where(distance < 0.25, (90, 60, 120), np.where(distance < 0.7, (190, 150, 180), (235, 225, 235)))
        row = None
        with suppress(ImageError), odd_cells("a drawn cell"):  # a chain of filters may not like it
            row = self._extractor.prepare(cell.astype(np.uint8))
        if row is not None:
            self.bundle.verdict("", self._extractor.run(row[None])[0])

    def _thread(self, kind: str, number: int, loop: Callable[[], None]) -> threading.Thread:
        return threading.Thread(target=self._watched, args=(kind, loop), name=f"{kind} {number}", daemon=True)

    def _watched(self, kind: str, loop: Callable[[], None]) -> None:
        """Run a thread's loop; should it ever break, write it down, and leave no caller waiting for nobody."""
        try:
            loop()
        except BaseException as error:  # noqa: BLE001  whatever ends a thread is told by health()
            with self._lock:
                self._deaths.append(f"{threading.current_thread().name} died: {type(error).__name__}: {error}")
                self._living[kind] -= 1
                last = not self._living[kind]
            if last:
                self._queue.stop(
                    StoppedError(f"every {kind} of the predictor has died", repr(error), "start cervicyte again")
                )


def _bytes(source: Source) -> bytes:
    return source if isinstance(source, bytes) else decoding.read_bytes(source)


def _for_caller(error: BaseException) -> Exception:
    """What ends a thread of the predictor must not end its caller's as well."""
    if isinstance(error, Exception):
        return error
    return StoppedError("a thread of the predictor has died", repr(error), "send the pictures again")
