"""Persistent work: threads that take waiting pictures from the database, ask the predictor, and store what it says.

What waits is a row, so there is nothing to resume: a picture waits until its prediction is stored, and prediction and
state change in one transaction. A kill at any moment costs the pictures in hand their seconds and nothing else.

No answer is made up. A picture that cannot be read fails with the reason, and the others go on. Where the model itself
fails, told by a drawn cell that it could answer for at the start, work stops and the pictures wait.
"""

from __future__ import annotations

import io
import logging
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Future, TimeoutError as NotYet
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

import numpy as np
from sqlalchemy import func, select

from cervicyte.bundle.predictions import Prediction
from cervicyte.errors import CervicyteError, StorageError, UsageError
from cervicyte.web.base.schema import Image
from cervicyte.web.base.site import Site
from cervicyte.web.cases.answers import Answer, measured, store
from cervicyte.web.engine.predictor import Predictor
from cervicyte.web.errors import BusyError, GivenUpError, ModelBrokenError, StoppedError

_log = logging.getLogger("cervicyte.web")

#: Seconds between two looks for waiting pictures, when nobody says that there are some.
_LOOK_S = 1.0
#: Seconds after which what the database or the disk refused is tried again: at first, and at most.
_AGAIN_S = (0.5, 30.0)
#: Seconds for which pictures are put aside that cannot be worked on for a reason that may pass.
_ASIDE_S = 60.0
#: Most pictures, and bytes of them, that one thread takes at a time.
_AT_ONCE, _BYTES_AT_ONCE = 32, 64 << 20

_Given = TypeVar("_Given")


@dataclass(frozen=True)
class WorkerHealth:
    """Whether the work goes on.

    Attributes
    ----------
    ok : nothing is wrong
    problem : what is, one line; pictures wait until it is mended
    working : pictures that are in hand
    """

    ok: bool
    problem: str
    working: int


@dataclass(frozen=True)
class Backlog:
    """How much is left to do; ``oldest_at`` is when the picture that has waited longest came, None where none waits."""

    waiting: int
    failed: int
    working: int
    oldest_at: datetime | None


def backlog(site: Site, working: int = 0) -> Backlog:
    """How many pictures wait and how many failed, of all cases; ``working`` as `ImageWorkers.health` says."""
    with site.database.read() as session:
        rows = session.execute(select(Image.state, func.count(), func.min(Image.created_at)).group_by(Image.state))
        states = {state: (count, oldest) for state, count, oldest in rows}
    waiting, oldest = states.get("waiting", (0, None))
    return Backlog(waiting, states.get("failed", (0, None))[0], min(working, waiting), oldest)


class ImageWorkers:
    """Works through all waiting pictures from `start` to `stop`; every method may be called from any thread.

    Stop it before its predictor is closed.

    Parameters
    ----------
    predictor : the model at work; None where there is none, and then nothing is done
    problem : why there is none
    threads : how many take pictures; two, so that one decodes and stores while the other waits for the engine
    """

    def __init__(self, site: Site, predictor: Predictor | None, problem: str = "", threads: int = 2) -> None:
        self._site = site
        self._predictor = predictor
        self._broken = "" if predictor is not None else problem or "there is no model"  # to the end of this process
        self._sound = False  # the drawn cell had an answer
        self._trouble: dict[str, str] = {}  # of each thread, until it goes well again
        self._in_hand: set[str] = set()
        self._aside: dict[str, tuple[float, str]] = {}
        self._lock = threading.Lock()
        self._come = threading.Event()
        self._stopping = threading.Event()
        self._end = float("inf")
        self._threads = [
            threading.Thread(target=self._forever, name=f"image worker {i}", daemon=True)
            for i in range(threads if predictor is not None else 0)
        ]

    def __enter__(self) -> ImageWorkers:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin, with whatever waits; once."""
        if self._broken:
            _log.error("pictures wait, because there is no model at work: %s", self._broken)
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Say that pictures have come; without it they are seen within a second."""
        self._come.set()

    def stop(self, timeout_s: float = 30.0) -> None:
        """Take nothing more and store what is in hand; what does not come in time waits for the next start."""
        self._end = time.monotonic() + timeout_s
        self._stopping.set()
        self._come.set()
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(max(0.0, self._end - time.monotonic()) + 2.0)

    def health(self) -> WorkerHealth:
        """Whether the work goes on."""
        with self._lock:
            asides = [why for until, why in self._aside.values() if until > time.monotonic()]
            problems = [self._broken, *self._trouble.values(), *asides[:1]]
            working = len(self._in_hand)
        dead = any(t.ident is not None and not t.is_alive() for t in self._threads)
        if dead and not self._broken and not self._stopping.is_set():
            problems.append("a thread that works on waiting pictures has died")
        problem = next(filter(None, problems), "")
        return WorkerHealth(not problem, problem, working)

    # ---- threads

    def _forever(self) -> None:
        pause = _AGAIN_S[0]
        while not self._stopping.is_set() and not self._broken:
            taken: list[Image] = []
            try:
                if not self._sound:
                    self._sound = self._answers_probe()
                taken = self._take()
                if taken:
                    self._work(taken)
                self._well()
                pause = _AGAIN_S[0]
                if not taken:
                    self._come.wait(_LOOK_S)
                    self._come.clear()
            except GivenUpError:
                return
            except ModelBrokenError as error:
                self._break(str(error))
            except StoppedError as error:  # the predictor was closed, or is dead
                if not self._stopping.is_set():
                    self._break(error.one_line)
            except CervicyteError as error:  # the database, mostly: what waits still waits
                self._ill(error.one_line)
                self._stopping.wait(pause)
                pause = min(2 * pause, _AGAIN_S[1])
            except Exception as error:  # noqa: BLE001  a thread that dies would leave all waiting
                _log.exception("an error in cervicyte, over %d waiting pictures", len(taken))
                self._put_aside(taken, f"an error in cervicyte: {type(error).__name__}: {error}")
                self._stopping.wait(pause)
            finally:
                with self._lock:
                    self._in_hand.difference_update(image.id for image in taken)

    def _take(self) -> list[Image]:
        """Some waiting pictures that no thread has in hand."""
        with self._lock:
            now = time.monotonic()
            self._aside = {i: row for i, row in self._aside.items() if row[0] > now}
            others = len(self._in_hand) + len(self._aside)
        with self._site.database.read() as session:
            images: Sequence[Image] = session.scalars(_waiting(_AT_ONCE + others)).all()
        taken: list[Image] = []
        size = 0
        with self._lock:
            for image in images:
                size += image.size
                if len(taken) == _AT_ONCE or (taken and size > _BYTES_AT_ONCE):
                    break
                if image.id not in self._in_hand and image.id not in self._aside:
                    taken.append(image)
            self._in_hand.update(image.id for image in taken)
        return taken

    def _work(self, taken: Sequence[Image]) -> None:
        answers: list[Answer] = []
        pictures: list[tuple[Image, bytes]] = []
        for image in taken:
            try:
                pictures.append((image, self._site.image_store.get(image.sha256)))
            except CervicyteError as error:
                if isinstance(error.__cause__, OSError):  # the disk, or a limit of the system: it may pass
                    _log.error("picture %s waits: %s", image.id, error.one_line)
                    self._put_aside([image], error.what)
                else:
                    answers.append(Answer(image, reason=_reason(error)))
        if pictures:
            answers += self._ask(pictures)
        if answers:
            self._keep(answers)

    def _ask(self, pictures: Sequence[tuple[Image, bytes]]) -> list[Answer]:
        """What the predictor says of pictures, and what is measured on them meanwhile."""
        try:
            future = self._when_room(lambda predictor: predictor.submit([data for _, data in pictures]))
            values = [measured(data) for _, data in pictures]
            predictions = self._wait_for(future)
        except (StoppedError, GivenUpError):
            raise
        except Exception as error:  # noqa: BLE001  more than the queue ever holds, or an engine that breaks over one of them
            return self._one_by_one(pictures, error)
        answers = []
        for (image, _), prediction, measurements in zip(pictures, predictions, values, strict=True):
            if prediction.error and measurements is not None:  # it is a picture, so whose fault is it?
                self._check_model(prediction.error)
            refused = prediction.error
            answers.append(Answer(image, None if refused else prediction, refused, measurements))
        return answers

    def _one_by_one(self, pictures: Sequence[tuple[Image, bytes]], error: Exception) -> list[Answer]:
        """Each picture by itself, so that one which the engine cannot take stops no other."""
        if len(pictures) > 1:
            return [answer for picture in pictures for answer in self._ask([picture])]
        image = pictures[0][0]
        if not isinstance(error, UsageError):
            self._check_model(f"{type(error).__name__}: {error}")
        _log.error("there is no answer for picture %s: %s", image.id, error)
        known = isinstance(error, CervicyteError)
        return [Answer(image, reason=_reason(error) if known else "the model could not answer for this picture")]

    def _keep(self, answers: Sequence[Answer]) -> None:
        """Store answers, however long the database is busy or full; meanwhile they are kept in memory."""
        assert self._predictor is not None
        pause = _AGAIN_S[0]
        while True:
            try:
                store(self._site, self._predictor.bundle, answers)
                return
            except StorageError as error:
                self._ill(error.one_line)
                if self._stopping.wait(pause):
                    raise GivenUpError from None
                pause = min(2 * pause, _AGAIN_S[1])

    # ---- the predictor

    def _when_room(self, ask: Callable[[Predictor], _Given]) -> _Given:
        """Ask the predictor as soon as it has room."""
        assert self._predictor is not None
        while True:
            try:
                return ask(self._predictor)
            except BusyError as error:
                if self._stopping.wait(error.retry_after_s):
                    raise GivenUpError from None

    def _wait_for(self, future: Future[list[Prediction]]) -> list[Prediction]:
        while True:
            try:
                return future.result(timeout=0.5)
            except NotYet:
                if future.done():  # the engine's own error, which has this name
                    raise
                if time.monotonic() > self._end:
                    future.cancel()
                    raise GivenUpError from None
            except CancelledError:
                raise GivenUpError from None

    def _check_model(self, error: str) -> None:
        """Raise where the model does not answer for the drawn cell any more, as it did at the start."""
        if self._sound and not self._answers_probe():
            raise ModelBrokenError(f"the model has failed: {error}")

    def _answers_probe(self) -> bool:
        try:
            future = self._when_room(lambda predictor: predictor.submit([_probe()]))
            return not self._wait_for(future)[0].error
        except (StoppedError, GivenUpError):
            raise
        except Exception:  # noqa: BLE001  whatever it is, it is no answer
            return False

    # ---- accounts

    def _put_aside(self, taken: Sequence[Image], why: str) -> None:
        until = time.monotonic() + _ASIDE_S
        with self._lock:
            self._aside.update({image.id: (until, why) for image in taken})

    def _ill(self, problem: str) -> None:
        name = threading.current_thread().name
        with self._lock:
            known = self._trouble.get(name) == problem
            self._trouble[name] = problem
        if not known:
            _log.error("pictures wait, and it is tried again: %s", problem)

    def _well(self) -> None:
        with self._lock:
            was = self._trouble.pop(threading.current_thread().name, "")
        if was:
            _log.warning("pictures are worked on again, after: %s", was)

    def _break(self, problem: str) -> None:
        with self._lock:
            self._broken = self._broken or problem
        _log.critical("pictures wait until cervicyte is started again: %s", problem)


def _waiting(most: int) -> Any:
    """Waiting pictures, a few of each case in turn, so that a large case holds up no small one."""
    turn = func.row_number().over(partition_by=Image.case_id, order_by=Image.position)
    queue = select(Image.id, turn.label("turn")).where(Image.state == "waiting").subquery()
    ordered = select(Image).join(queue, queue.c.id == Image.id)
    return ordered.order_by(queue.c.turn, Image.created_at, Image.id).limit(most)


def _reason(error: Exception) -> str:
    """What was wrong and what to do, without what was received, which may be a path of this machine."""
    assert isinstance(error, CervicyteError)
    return "; ".join(part for part in (error.what, error.todo) if part)


def _probe() -> bytes:
    """A drawn cell, by which a model that fails is told from a picture that is at fault."""
    from PIL import Image as Pillow

    y, x = np.mgrid[-1:1:96j, -1:1:96j]
    distance = np.hypot(x, y)[..., None]
    cell = np.where(distance < 0.3, (95, 60, 125), np.where(distance < 0.75, (190, 150, 185), (235, 225, 235)))
    buffer = io.BytesIO()
    Pillow.fromarray(cell.astype(np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()
