"""Explanations for many callers: one at a time, the last ones kept."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict

from cervicyte.bundle.folder import Bundle
from cervicyte.errors import UsageError
from cervicyte.explain.evidence import Explanation
from cervicyte.explain.explainer import Explainer
from cervicyte.features.extraction import odd_cells
from cervicyte.images import decoding
from cervicyte.web.errors import BusyError

#: Most pixels of all kept explanations together; each takes about 10 bytes.
_KEPT_PIXELS = 8_000_000

#: Most callers that wait for an explanation at a time.
_PLACES = 16

_Key = tuple[str, str | None]


class Explanations:
    """Explains pictures by their bytes, and remembers the last ones; every method may be called from any thread.

    The bundle is compiled a second time, with its maps, when the first explanation is asked for.

    Parameters
    ----------
    bundle : the model
    precision : see `cervicyte.networks.runtime.Engine`; None takes the setting
    most : how many are kept
    """

    def __init__(self, bundle: Bundle, precision: str | None = None, most: int = 64) -> None:
        self._bundle = bundle
        self._precision = precision
        self._most = most
        self._explainer: Explainer | None = None
        self._unexplained: UsageError | None = None
        self._kept: OrderedDict[_Key, Explanation] = OrderedDict()
        self._pixels = 0
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._places = threading.BoundedSemaphore(_PLACES)

    def get(self, data: bytes, target: str | None = None) -> tuple[Explanation, bool]:
        """The explanation, and whether it was kept from before.

        Raises
        ------
        BusyError : too many callers wait
        ImageError, UsageError, BundleError : as `cervicyte.explain.explainer.explain`
        """
        key = (hashlib.sha256(data).hexdigest(), target)
        if (cached := self._look(key)) is not None:
            return cached, True
        if not self._places.acquire(blocking=False):
            raise BusyError("too many explanations are asked for at once", f"{_PLACES} wait already")
        try:
            with self._turn:
                if (cached := self._look(key)) is not None:  # another caller wanted the same
                    return cached, True
                picture = decoding.decode(data, "the picture")
                with odd_cells("the picture"):
                    explanation = self._compiled().explain(picture, target)
                self._keep(key, explanation)
                return explanation, False
        finally:
            self._places.release()

    def _compiled(self) -> Explainer:
        if self._explainer is None and self._unexplained is None:
            try:
                self._explainer = Explainer(self._bundle, self._precision)
            except UsageError as error:  # it has nothing to explain with, and never will
                self._unexplained = error
        if self._explainer is None:
            assert self._unexplained is not None
            raise UsageError(self._unexplained.what, self._unexplained.received, self._unexplained.todo)
        return self._explainer

    def _look(self, key: _Key) -> Explanation | None:
        with self._lock:
            explanation = self._kept.get(key)
            if explanation is not None:
                self._kept.move_to_end(key)
            return explanation

    def _keep(self, key: _Key, explanation: Explanation) -> None:
        with self._lock:
            self._kept[key] = explanation
            self._pixels += explanation.image.size // 3
            while self._kept and (len(self._kept) > self._most or self._pixels > _KEPT_PIXELS):
                _, old = self._kept.popitem(last=False)
                self._pixels -= old.image.size // 3
