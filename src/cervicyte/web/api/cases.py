"""Jobs and cases, for programs."""

from __future__ import annotations

from typing import Any

from flask import Response, url_for

from cervicyte.web.api import rows
from cervicyte.web.api.common import at, files, incoming, key, limits, page_of, taken, texts
from cervicyte.web.cases import cases, deletion, intake, listing as case_list, submissions
from cervicyte.web.cases.cases import CaseSummary
from cervicyte.web.middleware import current
from cervicyte.web.middleware.responses import download
from cervicyte.web.reading import worklist
from cervicyte.web.reports import exports


@at
def new_job() -> Any:
    """Pictures in a case of their own."""
    site, user = current.site(), current.user()
    sent = texts("new_job", "accession", "notes")
    found = submissions.submit(
        site, user, files("images", *sent), **sent, key=key(), allowed=limits(), folder=incoming()
    )
    receipt = taken(found.receipt)
    made = cases.get(site, user, found.number)
    return _job(made) | {"receipt": receipt}, 202, {"Location": url_for("api.job", number=made.number)}


@at
def job(number: str) -> Any:
    """How far it is."""
    return _job(cases.get(current.site(), current.user(), number))


@at
def list_cases(q: str, order: str, page: int, size: int, state: str = "") -> Any:
    """Those that one may see."""
    found = case_list.listing(current.site(), current.user(), q, state, order, page, size)
    return {"cases": [rows.case(row) for row in found.rows], "page": page_of(found, size)}


@at
def new_case(body: dict[str, str]) -> Any:
    """Open one."""
    made = cases.create(current.site(), current.user(), **body)
    return rows.case(made), 201, {"Location": url_for("api.case", number=made.number)}


@at
def case(number: str) -> Any:
    """One case."""
    return rows.case(cases.get(current.site(), current.user(), number))


@at
def change_case(number: str, body: dict[str, str]) -> Any:
    """Change what is sent, and leave the rest."""
    site, user = current.site(), current.user()
    before = cases.get(site, user, number, "edit")
    cases.edit(site, user, number, body.get("accession", before.accession), body.get("notes", before.notes))
    return rows.case(cases.get(site, user, number))


@at
def delete_case(number: str) -> Any:
    """Delete it; its number in the address is what a person would have to type."""
    site, user = current.site(), current.user()
    deletion.delete(site, user, number, cases.get(site, user, number).number)
    return Response(status=204)


@at
def upload(number: str) -> Any:
    """More pictures for a case."""
    sent = files("images")
    receipt = intake.upload(current.site(), current.user(), number, sent, key(), limits(), incoming())
    return taken(receipt), 202


@at
def list_cells(number: str, show: str, page: int, size: int) -> Any:
    """Its cells in the order of reading."""
    site, user = current.site(), current.user()
    number = cases.get(site, user, number).number
    found = worklist.cells(site, user, number, show, page, size)
    return {"cells": [rows.cell(row, number) for row in found.rows], "page": page_of(found, size)}


@at
def case_table(number: str) -> Any:
    """Its cells as CSV."""
    return download(exports.case_table(current.site(), current.user(), number))


@at
def export_cells(labels: str, case: str) -> Any:
    """Reviewed cells to train from."""
    return download(exports.reviewed_cells(current.site(), current.user(), labels, case))


@at
def export_table() -> Any:
    """All cells as CSV."""
    return download(exports.all_table(current.site(), current.user()))


def _job(found: CaseSummary) -> dict[str, Any]:
    running = current.running()
    problem = (
        running.workers.health().problem if running.workers is not None else "nothing works on waiting pictures here"
    )
    return rows.job(found, url_for("api.list_cells", number=found.number), problem)
