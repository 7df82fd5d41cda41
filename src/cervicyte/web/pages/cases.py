"""Cases: the list, one case with its cells, uploads, its second reader, its pictures, and its end."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any

from flask import Blueprint, Response, flash, get_flashed_messages, jsonify, request, url_for
from werkzeug.exceptions import BadRequest

from cervicyte.errors import CervicyteError
from cervicyte.web.cases import (
    cases,
    deletion,
    intake,
    listing as case_list,
    permissions,
    pictures as originals,
    second_readers,
)
from cervicyte.web.cases.cases import CaseSummary
from cervicyte.web.cases.uploads import UploadLimits
from cervicyte.web.errors import InvalidFieldError
from cervicyte.web.formatting import words as show_words
from cervicyte.web.middleware import current
from cervicyte.web.middleware.responses import download, picture
from cervicyte.web.pages.common import asked_page, at, filters, go, page, page_of, tell, values, wrong
from cervicyte.web.reading import worklist
from cervicyte.web.reports import exports

blueprint = Blueprint("cases", __name__)
#: Rows of the list of cases, and cells of a case, on one page.
_CASES, _CELLS = 25, 60
#: Bytes of refused names and reasons that are carried to the next page by a cookie, which holds no more than 4096.
_CARRIED = 2000
_VIEWS = ("grid", "table")


@at(blueprint)
def index() -> Any:
    """All cases that one may see."""
    return _index()


@at(blueprint)
def new() -> Any:
    """Open a case."""
    form = request.form
    try:
        made = cases.create(current.site(), current.user(), form.get("accession", ""), form.get("notes", ""))
    except InvalidFieldError as error:
        errors, status = wrong(error)
        return _index(status, errors=errors, values=values())
    return go("cases.show", number=made.number)


@at(blueprint)
def show(number: str) -> Any:
    """One case, the most suspicious cell first."""
    return _show(number)


@at(blueprint)
def upload(number: str) -> Any:
    """Take pictures; one bad file stops no other."""
    running, user = current.running(), current.user()
    files = [(file.filename or "", file.stream) for file in request.files.getlist("images") if file.filename]
    if not files:
        raise BadRequest
    limits = UploadLimits(upload_bytes=running.max_upload_mb << 20)
    receipt = intake.upload(
        running.site,
        user,
        number,
        files,
        request.headers.get("Idempotency-Key", ""),
        limits,
        running.site.data_dir / "incoming",
    )
    if receipt.accepted and running.workers is not None:
        running.workers.wake()
    if current.wants_json():
        return jsonify(receipt.to_json())
    if receipt.accepted:
        pictures = "picture was" if receipt.accepted == 1 else "pictures were"
        tell("done", f"{receipt.accepted} {pictures} taken.")
    _carry(receipt.refused)
    return go("cases.show", number=number)


@at(blueprint)
def edit(number: str) -> Any:
    """Change accession number and notes."""
    form = request.form
    try:
        cases.edit(current.site(), current.user(), number, form.get("accession", ""), form.get("notes", ""))
    except InvalidFieldError as error:
        return _refused(number, error)
    tell("done", "Saved.")
    return go("cases.show", number=number)


@at(blueprint)
def assign(number: str) -> Any:
    """Give the case a second reader."""
    form = request.form
    try:
        second_readers.assign(
            current.site(), current.user(), number, form.get("second_reader", ""), form.get("blinded") == "1"
        )
    except InvalidFieldError as error:
        return _refused(number, error)
    tell("done", "Saved.")
    return go("cases.show", number=number)


@at(blueprint)
def delete(number: str) -> Any:
    """Delete the case with everything in it."""
    try:
        deletion.delete(current.site(), current.user(), number, request.form.get("confirm", ""))
    except InvalidFieldError as error:
        return _refused(number, error)
    tell("done", f"Case {number} is deleted.")
    return go("cases.index")


@at(blueprint)
def retry(number: str) -> Any:
    """Let the pictures wait again that could not be read."""
    count = intake.retry(current.site(), current.user(), number)
    if (workers := current.running().workers) is not None:
        workers.wake()
    tell("told", f"{count} {'picture waits' if count == 1 else 'pictures wait'} for another attempt.")
    return go("cases.show", number=number)


@at(blueprint)
def table(number: str) -> Response:
    """The case's cells as CSV."""
    return download(exports.case_table(current.site(), current.user(), number))


@at(blueprint)
def image(image_id: str) -> Response:
    """A picture as it came, or as PNG where browsers cannot show its kind."""
    return picture(originals.original(current.site(), current.user(), image_id))


@at(blueprint)
def thumbnail(image_id: str) -> Response:
    """A small picture."""
    return picture(originals.thumbnail(current.site(), current.user(), image_id))


def _index(status: int = 200, **more: Any) -> Any:
    chosen = filters("q", "state", "order")
    listing = case_list.listing(
        current.site(), current.user(), chosen["q"], chosen["state"], chosen["order"], asked_page(), _CASES
    )
    return page(
        "cases.html",
        status,
        cases=listing.rows,
        page=page_of(listing, _CASES),
        filters=chosen,
        orders=case_list.ORDERS,
        states=(("", "all"), *case_list.STATES),
        **more,
    )


def _show(number: str, status: int = 200, **more: Any) -> Any:
    site, user = current.site(), current.user()
    case = cases.get(site, user, number)
    may = permissions.rights(user, case)
    chosen = filters("show", "view")
    counts = worklist.counts(site, user, number)
    shown = chosen["show"] if chosen["show"] in [name for name, _, _ in counts] else "all"
    view = chosen["view"] if chosen["view"] in _VIEWS else "grid"
    listing = worklist.cells(site, user, number, shown, asked_page(), _CELLS)
    following = worklist.next_undecided(worklist.order(site, user, number))
    return page(
        "case.html",
        status,
        case=case,
        cells=listing.rows,
        hide_model=case.hides_model,
        page=page_of(listing, _CELLS),
        view=view,
        show=shown,
        shown=[
            (name, show_words(words), n, _address(number, show=name, view=view))
            for name, words, n in counts
            if n or name in ("all", "undecided", shown)
        ],
        view_links={name: _address(number, show=shown, view=name) for name in _VIEWS},
        max_upload_mb=current.running().max_upload_mb,
        refused=list(_refused_files()),
        next_cell=following and url_for("reading.show", number=case.number, image_id=following),
        second_readers=second_readers.candidates(site, user, number) if "assign" in may else [],
        no_model=_no_model(case),
        may=may,
        **more,
    )


def _no_model(case: CaseSummary) -> str:
    """Why pictures wait, where it is because no model answers."""
    if not case.waiting or current.running().predictor is not None:
        return ""
    why = current.running().no_predictor
    return why.what if why else "none is set up"


def _address(number: str, **changes: str) -> str:
    kept: dict[str, Any] = {k: v for k, v in changes.items() if v not in ("all", "grid")}
    return url_for("cases.show", number=number, **kept)


def _refused(number: str, error: CervicyteError) -> Any:
    errors, status = wrong(error)
    return _show(number, status, errors=errors, values=values())


def _carry(refused: Sequence[tuple[str, str]]) -> None:
    """Name refused files on the next page, as many as a cookie holds."""
    room = _CARRIED
    for i, (name, reason) in enumerate(refused):
        text = f"{name[:60]}\n{reason[:160]}"
        room -= len(json.dumps(text))
        if room < 0:
            flash(f"and {len(refused) - i} more\nnot taken", "refused")
            return
        flash(text, "refused")


def _refused_files() -> Iterator[tuple[str, str]]:
    for text in get_flashed_messages(category_filter=["refused"]):
        name, _, reason = str(text).partition("\n")
        yield name, reason
