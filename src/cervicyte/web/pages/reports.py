"""The report of a case: as a page and as PDF, its versions, its signature."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, Response, request, url_for

from cervicyte.errors import CervicyteError, MissingError, StorageError
from cervicyte.web.accounts import sessions
from cervicyte.web.cases import cases, permissions
from cervicyte.web.errors import InvalidFieldError
from cervicyte.web.middleware import current
from cervicyte.web.pages.common import at, go, page, tell, values, wrong
from cervicyte.web.reports import pdf as report_pdf, reports
from cervicyte.web.reports.reports import View

blueprint = Blueprint("reports", __name__)


@at(blueprint)
def show(number: str) -> Any:
    """A version of the report; without one in the address the newest that is signed, else a draft."""
    return _show(number)


@at(blueprint)
def pdf(number: str) -> Response:
    """The same as a PDF document."""
    view = _view(number)
    document = report_pdf.render(view, _bytes)
    reports.note_export(current.site(), current.user(), view)
    answer = Response(document, mimetype="application/pdf")
    name = f"cervicyte-{view.case.number}-{view.version}{'' if view.signed_at else '-draft'}.pdf"
    answer.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return answer


@at(blueprint)
def sign(number: str) -> Any:
    """Sign what the readers decided; a signed report is amended by a new version."""
    site, user, form = current.site(), current.user(), request.form
    with site.database.read() as session:
        permissions.find(session, user, number, "sign")
    try:
        sessions.confirm_password(site, user.id, form.get("password", ""), current.address())
    except CervicyteError as error:
        errors, status = wrong(error)
        return _show(number, status, errors={"password": errors[""]}, values=values())
    try:
        made = reports.sign(
            site, user, number, form.get("conclusion", ""), form.get("reason", ""), form.get("seen", "")
        )
    except InvalidFieldError as error:
        errors, status = wrong(error)
        return _show(number, status, errors=errors, values=values())
    tell("done", f"Version {made.version} is signed.")
    return go("reports.show", number=number)


@at(blueprint)
def reopen(number: str) -> Any:
    """Let a signed case be decided again."""
    try:
        reports.reopen(current.site(), current.user(), number, request.form.get("reopen-reason", ""))
    except InvalidFieldError as error:
        errors, status = wrong(error)
        return _show(number, status, errors={"reopen-reason": next(iter(errors.values()))}, values=values())
    tell("done", "The case is open again; its signed report stays.")
    return go("cases.show", number=number)


def _view(number: str) -> View:
    asked = request.args.get("version", "")
    version = int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 9 else None
    site = current.site()
    with site.database.read() as session:
        return reports.view(
            session, current.user(), number, site.clock(), version, lambda n: url_for(".show", number=number, version=n)
        )


def _show(number: str, status: int = 200, **more: Any) -> Any:
    view = _view(number)
    case = cases.get(current.site(), current.user(), number)
    return page(
        "report.html",
        status,
        case=case,
        report=view,
        pdf_url=url_for("reports.pdf", number=number, version=request.args.get("version") or None),
        changed=view.changed,
        may=permissions.rights(current.user(), case),
        **more,
    )


def _bytes(sha256: str) -> bytes | None:
    """A picture for the PDF; a report without one of its pictures is better than none."""
    try:
        return current.site().image_store.get(sha256)
    except (MissingError, StorageError):
        return None
