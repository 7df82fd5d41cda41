"""Many pictures sent by a program in one request: they get a case of their own, whose work is the job.

The case, its pictures and the answer under the request's key are stored in one transaction, and so one is never there
without the others: a kill leaves no empty case, and the same request sent again, or twice at once, makes one case.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from cervicyte.web.base.database import lock
from cervicyte.web.base.schema import Case, Upload, User
from cervicyte.web.base.site import Site
from cervicyte.web.cases import cases, intake
from cervicyte.web.cases.intake import Receipt
from cervicyte.web.cases.uploads import Readable, UploadLimits


@dataclass(frozen=True)
class Submission:
    """The number of the case, empty where no picture could be used and there is none; and what became of the files."""

    number: str
    receipt: Receipt


def submit(
    site: Site,
    user: User,
    files: Iterable[tuple[str, bytes | Readable]],
    accession: str = "",
    notes: str = "",
    key: str = "",
    allowed: UploadLimits | None = None,
    folder: Path | None = None,
) -> Submission:
    """Open a case with the files in it; when this raises, or no file could be used, there is no case.

    Parameters
    ----------
    key : the request's Idempotency-Key, or empty; one of this user that was answered before gets that answer
    files, allowed, folder : as `cervicyte.web.cases.intake.upload`

    Raises
    ------
    DeniedError, InvalidFieldError : as `cervicyte.web.cases.cases.create`
    TooManyRequestsError, StorageError, BusyError : as `cervicyte.web.cases.intake.upload`
    """
    if key:
        key = f"job:{hashlib.sha256(key.encode()).hexdigest()}"  # apart from those of uploads into a case
    with site.database.read() as session:
        if (before := _answered(session, user, key)) is not None:
            return before
    fields = cases.check_new(user, accession, notes)
    images, receipt = intake.read_in(site, user, files, allowed, folder)
    if not images:
        return Submission("", receipt)
    with site.database.write() as session:
        lock(session, intake.LOCK)
        if (before := _answered(session, user, key)) is not None:
            return before  # the same request, sent again while it was at work
        case = cases.add(session, site, user, *fields)
        intake.add(session, site, user, case, images, receipt, key)
        cases.note_opened(session, site, user, case)
        intake.note_uploaded(session, site, user, case, receipt)
    return Submission(case.number, receipt)


def _answered(session: Session, user: User, key: str) -> Submission | None:
    if not key:
        return None
    same = select(Case.number, Upload.receipt).join(Case, Case.id == Upload.case_id)
    row = session.execute(same.where(Upload.user_id == user.id, Upload.key == key).limit(1)).one_or_none()
    return None if row is None else Submission(row[0], Receipt.from_json(row[1]))
