"""The model, single cells, verdicts and reports, for programs."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from cervicyte.errors import MissingError, StorageError
from cervicyte.web.api import models, openapi
from cervicyte.web.api.common import at, files
from cervicyte.web.api.endpoints import FILES, PDF
from cervicyte.web.cases import permissions, pictures
from cervicyte.web.cases.uploads import UploadLimits
from cervicyte.web.engine import one_picture
from cervicyte.web.errors import AddressNotFoundError, BadRequestError
from cervicyte.web.middleware import current
from cervicyte.web.middleware.responses import picture
from cervicyte.web.reading import heat_maps, verdicts, worklist
from cervicyte.web.reports import reports
from cervicyte.web.reports.pdf import render
from cervicyte.web.reports.reports import View


@at
def document() -> Any:
    """The API's own description."""
    return openapi.document()


@at
def model() -> Any:
    """The model that answers."""
    return models.Model.of(current.running().model().bundle)


@at
def predict() -> Any:
    """One image, answered at once."""
    predictor = current.running().model()
    answered = one_picture.predict(current.site(), predictor, current.user(), _one_image())
    return models.Answer.of(answered, predictor.bundle)


@at
def cell(id: str) -> Any:
    """A cell with all that the model said of it."""
    site, user = current.site(), current.user()
    with site.database.read() as session:
        image, case = permissions.find_image(session, user, id)
    row = worklist.one(site, user, case.number, image.id)
    prediction = worklist.prediction(site, user, image.id)
    answer = models.StoredAnswer.of(prediction) if prediction else None
    return models.CellWithAnswer.of(row, case.number, answer=answer)


@at
def image(id: str) -> Any:
    """Its image."""
    return picture(pictures.original(current.site(), current.user(), id))


@at
def map(id: str) -> Any:
    """What speaks for the model's answer, and against."""
    overlay = heat_maps.overlay(current.site(), current.user(), current.running().predictor, id)
    if overlay is None:
        raise AddressNotFoundError("there is no map of this image")
    return picture(overlay)


@at
def list_reviews(id: str) -> Any:
    """The verdicts that this reader may see."""
    user = current.user()
    with current.site().database.read() as session:
        image, case = permissions.find_image(session, user, id)
        own = verdicts.own(session, user, image.id)
        rows = [*([own] if own else []), *verdicts.others(session, user, case, image.id)]
    return models.Reviews([models.Review.of(row, user) for row in rows])


@at
def review(id: str, body: models.NewReview) -> Any:
    """Give a verdict."""
    verdict = verdicts.decide(current.site(), current.user(), id, body.verdict, body.comment)
    return models.Review.of(verdict, current.user())


@at
def report(number: str, version: int | None = None) -> Any:
    """A case's report."""
    return models.Report.of(_report(number, version))


@at
def report_pdf(number: str, version: int | None = None) -> Any:
    """The same as PDF."""
    view = _report(number, version)
    pdf = render(view, _bytes)
    reports.note_export(current.site(), current.user(), view)
    return Response(pdf, mimetype=PDF)


def _one_image() -> bytes:
    most = UploadLimits().image_bytes
    if request.mimetype == FILES:
        images = files("image")
        if len(images) > 1:
            raise BadRequestError(422, "one image is answered at a time", f"{len(images)} files", "send many to /jobs")
        data = images[0][1].read(most + 1)
    else:
        data = request.get_data(cache=False)
    if len(data) > most:
        raise BadRequestError(413, "the image is too large", f"{len(data):,} bytes", f"at most {most:,} bytes")
    return data


def _report(number: str, version: int | None) -> View:
    site = current.site()
    with site.database.read() as session:
        return reports.view(session, current.user(), number, site.clock(), version)


def _bytes(sha256: str) -> bytes | None:
    """An image for the PDF; a report without one of its images is better than none."""
    try:
        return current.site().image_store.get(sha256)
    except (MissingError, StorageError):
        return None
