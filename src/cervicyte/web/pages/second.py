"""Second reading: the cases that wait for it, and what two readers do not agree on."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request, url_for

from cervicyte.web.cases import listing as case_list
from cervicyte.web.cases.cases import CaseSummary
from cervicyte.web.errors import AddressNotFoundError, DeniedError, InvalidFieldError
from cervicyte.web.middleware import current
from cervicyte.web.pages.common import asked_page, at, filters, go, page, page_of, wrong
from cervicyte.web.reading import disagreements, verdicts, worklist

blueprint = Blueprint("second", __name__)
_ROW = ("case", "first", "second", "first_reader", "second_reader", "model", "bethesda", "settled", "settled_by")


@at(blueprint)
def index() -> Any:
    """The cases in which one is the second reader."""
    cases = case_list.as_second_reader(current.site(), current.user())
    finished = [case for case in cases if _is_finished(case)]
    waiting = [case for case in cases if not _is_finished(case)]
    return page("second.html", waiting=waiting, finished=finished)


@at(blueprint, name="disagreements")
def list_disagreements() -> Any:
    """Cells on which two readers differ."""
    return _list()


@at(blueprint)
def settle(image_id: str) -> Any:
    """Say what stands where two readers differ."""
    form = request.form
    try:
        verdicts.settle(current.site(), current.user(), image_id, form.get("verdict", ""), form.get("comment", ""))
    except InvalidFieldError as error:
        errors, status = wrong(error)
        return _list(status, errors={"": next(iter(errors.values()))})
    return go("second.disagreements")


def _list(status: int = 200, **more: Any) -> Any:
    site, user = current.site(), current.user()
    show = "all" if filters("show")["show"] == "all" else "open"
    try:
        with site.database.read() as session:
            listing = disagreements.listing(session, user, show, asked_page())
            kappa = disagreements.kappa(session, user)
    except DeniedError as error:  # to who does not settle, the page does not exist
        raise AddressNotFoundError from error
    rows = []
    for row in listing.rows:
        address = url_for("reading.show", number=row.case, image_id=row.image_id)
        cell = worklist.one(site, user, row.case, row.image_id)
        rows.append({**{name: getattr(row, name) for name in _ROW}, "cell": cell, "address": address})
    links = {name: url_for("second.disagreements", show=name) for name in ("open", "all")}
    context = {"rows": rows, "page": page_of(listing), "kappa": kappa, "show": show, "show_links": links}
    return page("disagreements.html", status, **context, **more)


def _is_finished(case: CaseSummary) -> bool:
    return case.state == "signed" or (case.done > 0 and not case.waiting and case.decided >= case.done)
