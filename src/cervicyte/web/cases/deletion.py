"""Deleting cases: rows first, then the files that no other case has, under the lock that uploads take as well.

A kill between the two leaves files without a row; `drop_orphans` finds them, as those of an upload that was killed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from itertools import islice

from sqlalchemy import delete as remove, func, select
from sqlalchemy.orm import Session

from cervicyte.web.base.database import lock
from cervicyte.web.base.schema import Case, Image, Report, User
from cervicyte.web.base.site import Site
from cervicyte.web.cases.intake import LOCK
from cervicyte.web.cases.permissions import check, find
from cervicyte.web.errors import InvalidFieldError

_AT_ONCE = 500


def delete(site: Site, user: User, number: str, confirm: str) -> None:
    """Delete a case with its pictures, predictions, verdicts and reports, for good.

    Raises
    ------
    NotFoundError, DeniedError : as `cervicyte.web.cases.permissions.find`
    InvalidFieldError : ``confirm`` is not the case's number
    """
    with site.database.read() as session:
        case = find(session, user, number, "delete")
        if confirm.strip().upper() != case.number:
            raise InvalidFieldError(
                "confirm", "this is not the number of the case", None, f"type {case.number} to delete it"
            )

    def still(_: Session, held: Case) -> bool:
        check(held, user, "delete")  # signed meanwhile, it is no longer its owner's
        return True

    erase(site, user.email, [case.id], still)


def erase(site: Site, actor: str, case_ids: Sequence[str], still: Callable[[Session, Case], bool]) -> int:
    """Delete cases, whoever asks: for `delete`, and for retention by policy; how many there were.

    Parameters
    ----------
    actor : who, for the audit log
    still : asked of each case once nobody else can change it, whether it is to be deleted; what it raises is raised
    """
    count = 0
    for case_id in case_ids:
        with site.database.write() as session:
            case = session.scalar(select(Case).where(Case.id == case_id).with_for_update())
            if case is None or not still(session, case):
                continue
            pictures = select(Image.sha256).where(Image.case_id == case_id).order_by(Image.id)
            digests = session.scalars(pictures.with_for_update()).all()
            reports = session.scalar(select(func.count()).where(Report.case_id == case_id))
            session.execute(remove(Case).where(Case.id == case_id))
            detail = {"images": len(digests), "reports": reports}
            site.audit_log.append(session, actor, "case.deleted", case.number, detail, site.clock())
        _drop_unused(site, set(digests))
        count += 1
    return count


def drop_orphans(site: Site, older_s: float = 86400.0) -> int:
    """Remove files of the image store that no case has and that are older than so many seconds; how many they were.

    Raises
    ------
    StorageError : a file cannot be removed
    """
    before = time.time() - older_s
    old = (d for d in site.image_store.digests() if (at := site.image_store.stored_at(d)) is not None and at < before)
    return _drop_unused(site, old)


def _drop_unused(site: Site, digests: Iterable[str]) -> int:
    gone = 0
    rest = iter(digests)
    while some := list(islice(rest, _AT_ONCE)):
        with site.database.write() as session:
            lock(session, LOCK)
            used = set(session.scalars(select(Image.sha256).where(Image.sha256.in_(some))))
            gone += sum(site.image_store.delete(digest) for digest in some if digest not in used)
    return gone
