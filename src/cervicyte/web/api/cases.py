"""Jobs and cases, for programs."""

from __future__ import annotations

from typing import Any

import msgspec
from flask import Response, url_for

from cervicyte.web.api import models
from cervicyte.web.api.common import at, files, incoming, key, limits, page_of, receipt_of, texts
from cervicyte.web.cases import cases, deletion, intake, listing as case_list, submissions
from cervicyte.web.cases.cases import CaseSummary
from cervicyte.web.middleware import current
from cervicyte.web.middleware.responses import download
from cervicyte.web.reading import worklist
from cervicyte.web.reports import exports


@at
def new_job() -> Any:
    """Images in a case of their own."""
    site, user = current.site(), current.user()
    new = texts(models.NewCase)
    images = files("images", *models.NewCase.__struct_fields__)
    submission = submissions.submit(
        site, user, images, accession=new.accession, notes=new.notes, key=key(), allowed=limits(), folder=incoming()
    )
    receipt = receipt_of(submission.receipt)
    case = cases.get(site, user, submission.number)
    job = models.NewJob.of(case, *_progress(case), receipt=receipt)
    return job, {"Location": url_for("api.job", number=case.number)}


@at
def job(number: str) -> Any:
    """How far it is."""
    case = cases.get(current.site(), current.user(), number)
    return models.Job.of(case, *_progress(case))


@at
def list_cases(q: str, order: str, page: int, size: int, state: str = "") -> Any:
    """Those that one may see."""
    listing = case_list.listing(current.site(), current.user(), q, state, order, page, size)
    return models.Cases([models.Case.of(row) for row in listing.rows], page_of(listing, size))


@at
def new_case(body: models.NewCase) -> Any:
    """Open one."""
    case = cases.create(current.site(), current.user(), body.accession, body.notes)
    return models.Case.of(case), {"Location": url_for("api.case", number=case.number)}


@at
def case(number: str) -> Any:
    """One case."""
    return models.Case.of(cases.get(current.site(), current.user(), number))


@at
def change_case(number: str, body: models.CaseChange) -> Any:
    """Change what is sent, and leave the rest."""
    site, user = current.site(), current.user()
    before = cases.get(site, user, number, "edit")
    after = {"accession": before.accession, "notes": before.notes} | msgspec.to_builtins(body)
    cases.edit(site, user, number, **after)
    return models.Case.of(cases.get(site, user, number))


@at
def delete_case(number: str) -> Any:
    """Delete it; its number in the address is what a person would have to type."""
    site, user = current.site(), current.user()
    deletion.delete(site, user, number, cases.get(site, user, number).number)
    return Response(status=204)


@at
def upload(number: str) -> Any:
    """Add images to a case."""
    images = files("images")
    receipt = intake.upload(current.site(), current.user(), number, images, key(), limits(), incoming())
    return receipt_of(receipt)


@at
def list_cells(number: str, show: str, page: int, size: int) -> Any:
    """Its cells in the order of reading."""
    site, user = current.site(), current.user()
    number = cases.get(site, user, number).number
    listing = worklist.cells(site, user, number, show, page, size)
    return models.Cells([models.Cell.of(row, number) for row in listing.rows], page_of(listing, size))


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


def _progress(case: CaseSummary) -> tuple[str, str]:
    """The address of a case's cells, and why the work on them does not go on, or empty."""
    workers = current.running().workers
    problem = workers.health().problem if workers is not None else "nothing works on waiting images here"
    return url_for("api.list_cells", number=case.number), problem
