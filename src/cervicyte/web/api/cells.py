"""The model, single cells, verdicts and reports, for programs."""

from __future__ import annotations

from typing import Any

from flask import Response, request

from cervicyte.errors import MissingError, StorageError
from cervicyte.web.api import openapi, rows
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
    return rows.model(current.running().model().bundle)


@at
def predict() -> Any:
    """One picture, answered at once."""
    predictor = current.running().model()
    return rows.answer(one_picture.predict(current.site(), predictor, current.user(), _one_picture()), predictor.bundle)


@at
def cell(id: str) -> Any:
    """A cell with all that the model said of it."""
    site, user = current.site(), current.user()
    with site.database.read() as session:
        image, case = permissions.find_image(session, user, id)
    found = rows.cell(worklist.one(site, user, case.number, image.id), case.number)
    said = worklist.prediction(site, user, image.id)
    return found | {"answer": rows.stored(said) if said else None}


@at
def image(id: str) -> Any:
    """Its picture."""
    return picture(pictures.original(current.site(), current.user(), id))


@at
def map(id: str) -> Any:
    """What speaks for the model's answer, and against."""
    found = heat_maps.overlay(current.site(), current.user(), current.running().predictor, id)
    if found is None:
        raise AddressNotFoundError("there is no map of this picture")
    return picture(found)


@at
def list_reviews(id: str) -> Any:
    """The verdicts that this reader may see."""
    user = current.user()
    with current.site().database.read() as session:
        image, case = permissions.find_image(session, user, id)
        mine = verdicts.mine(session, user, image.id)
        found = [*([mine] if mine else []), *verdicts.others(session, user, case, image.id)]
    return {"reviews": [rows.review(row, user) for row in found]}


@at
def review(id: str, body: dict[str, str]) -> Any:
    """Give a verdict."""
    found = verdicts.decide(current.site(), current.user(), id, body["verdict"], body.get("comment", ""))
    return rows.review(found, current.user()), 201


@at
def report(number: str, version: int | None = None) -> Any:
    """A case's report."""
    return rows.report(_report(number, version))


@at
def report_pdf(number: str, version: int | None = None) -> Any:
    """The same as PDF."""
    view = _report(number, version)
    made = render(view, _bytes)
    reports.note_export(current.site(), current.user(), view)
    return Response(made, mimetype=PDF)


def _one_picture() -> bytes:
    most = UploadLimits().image_bytes
    if request.mimetype == FILES:
        sent = files("image")
        if len(sent) > 1:
            raise BadRequestError(422, "one picture is answered at a time", f"{len(sent)} files", "send many to /jobs")
        data = sent[0][1].read(most + 1)
    else:
        data = request.get_data(cache=False)
    if len(data) > most:
        raise BadRequestError(413, "the picture is too large", f"{len(data):,} bytes", f"at most {most:,} bytes")
    return data


def _report(number: str, version: int | None) -> View:
    site = current.site()
    with site.database.read() as session:
        return reports.view(session, current.user(), number, site.clock(), version)


def _bytes(sha256: str) -> bytes | None:
    """A picture for the PDF; a report without one of its pictures is better than none."""
    try:
        return current.site().image_store.get(sha256)
    except (MissingError, StorageError):
        return None
