"""The heat map of a stored answer, for those who may see the answer and as long as its model is the one that runs."""

from __future__ import annotations

from cervicyte.bundle.predictions import UNSATISFACTORY
from cervicyte.explain.evidence import ABNORMAL
from cervicyte.web.base.schema import PredictionRow, User
from cervicyte.web.base.site import Site
from cervicyte.web.cases import pictures
from cervicyte.web.cases.pictures import Picture
from cervicyte.web.engine.predictor import Predictor
from cervicyte.web.reading import map_image, worklist


def overlay(site: Site, user: User, predictor: Predictor | None, image_id: str) -> Picture | None:
    """A picture's map as PNG to be laid over it; None where there is none, or this user reads blinded.

    Raises
    ------
    NotFoundError : no such picture, or the user may not see it
    BusyError, StoppedError, ImageError, BundleError : as `cervicyte.web.engine.predictor.Predictor.explain`
    """
    row = worklist.prediction(site, user, image_id)
    if row is None or predictor is None or not explains(predictor, row):
        return None
    drawn = map_image.png(predictor.explain(pictures.stored(site, user, image_id), target(row)))
    return Picture(drawn, "image/png", f"{row.image_id}-{row.model_sha256[:16]}")


def explains(predictor: Predictor, row: PredictionRow) -> bool:
    """Whether the model that runs is the one that answered, and looks at places: no other's map explains it."""
    if row.label == UNSATISFACTORY or row.model_sha256 != predictor.bundle.graph_sha256:
        return False
    return map_image.has_map(predictor.bundle)


def target(row: PredictionRow) -> str:
    """What a map speaks for: abnormal where that is defined, else the most probable class."""
    if row.p_abnormal is not None or not row.probabilities:
        return ABNORMAL
    return max(row.probabilities.items(), key=lambda pair: pair[1])[0]
