"""One picture answered at once for a program: nothing is kept of it but a line of the audit log."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from cervicyte.bundle.predictions import Prediction
from cervicyte.errors import ImageError
from cervicyte.web.base.audit_log import entry
from cervicyte.web.base.schema import User
from cervicyte.web.base.site import Site
from cervicyte.web.engine.predictor import Predictor
from cervicyte.web.errors import BusyError

#: Seconds after which one who waits for an answer is asked to come again.
PATIENCE_S = 60.0


@dataclass(frozen=True)
class Answered:
    """What the model says of a picture, and the SHA-256 of the picture's bytes."""

    sha256: str
    prediction: Prediction


def predict(site: Site, predictor: Predictor, user: User, data: bytes) -> Answered:
    """The model's answer to an encoded picture, which is not stored; that it was given is logged before it is told.

    Raises
    ------
    BusyError : the queue is full, or the model takes too long
    ImageError : the picture cannot be used
    StoppedError : the predictor is closed, or its threads have died
    StorageError : the audit log cannot be written
    """
    promise = predictor.submit([data])
    try:
        prediction = promise.result(PATIENCE_S)[0]
    except TimeoutError:
        promise.cancel()
        raise BusyError("the model did not answer in time", None, 10) from None
    if prediction.error:
        raise ImageError(prediction.error, None, "send a picture of one cell as PNG, JPEG, TIFF, BMP or WebP")
    sha256 = hashlib.sha256(data).hexdigest()
    detail = {"sha256": sha256, "label": prediction.label, "model": predictor.bundle.graph_sha256}
    site.recorder.add(entry(user.email, "picture.predicted", "", detail, site.clock()))
    return Answered(sha256, prediction)
