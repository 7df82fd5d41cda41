"""Many pictures sent by a program in one request: they get a case of their own, whose work is the job."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import select

from cervicyte.errors import CervicyteError
from cervicyte.web import cases, intake, removal
from cervicyte.web.intake import Receipt
from cervicyte.web.schema import Case, Upload, User
from cervicyte.web.site import Site
from cervicyte.web.uploads import Limits, Readable


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
    allowed: Limits | None = None,
    folder: Path | None = None,
) -> Submission:
    """Open a case and take the files into it; when this raises, or no file could be used, there is no case.

    A kill between the two leaves an empty case, and the same request sent again opens another.

    Parameters
    ----------
    key : the request's Idempotency-Key, or empty; one of this user that was answered before gets that answer
    files, allowed, folder : as `cervicyte.web.intake.upload`

    Raises
    ------
    Denied, Invalid : as `cervicyte.web.cases.create`
    TooMany, StorageError, Busy : as `cervicyte.web.intake.upload`
    """
    if key:
        key = f"job:{hashlib.sha256(key.encode()).hexdigest()}"  # apart from those of uploads into a case
        if (before := _answered(site, user, key)) is not None:
            return before
    number = cases.create(site, user, accession, notes).number
    try:
        receipt = intake.upload(site, user, number, files, key, allowed, folder)
    except BaseException:
        with suppress(CervicyteError):  # what went wrong first is what is told
            removal.delete(site, user, number, number)
        raise
    if not receipt.accepted:
        removal.delete(site, user, number, number)
        return Submission("", receipt)
    return Submission(number, receipt)


def _answered(site: Site, user: User, key: str) -> Submission | None:
    same = select(Case.number, Upload.receipt).join(Case, Case.id == Upload.case_id)
    with site.database.read() as session:
        found = session.execute(same.where(Upload.user_id == user.id, Upload.key == key).limit(1)).one_or_none()
    return None if found is None else Submission(found[0], Receipt.from_json(found[1]))
