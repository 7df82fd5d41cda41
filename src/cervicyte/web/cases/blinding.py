"""Blinded reading: of two readers neither gets the other's verdicts before both have decided every cell.

This is the one place that knows; pages, reports, exports, the API and the audit log ask here. The two are the owner of
a case and its second reader; a picture that cannot be read need not be decided. Until the reading is complete each of
the two sees no verdicts but the own, and the second reader no answer of the model either. From then on both see all,
and what they said stands, so that what is seen cannot change it. A picture that comes later opens the reading again,
for that picture. A second reader who has begun and is taken away leaves it open and stays one of its readers, so that
nobody looks in between. Who is none of them gives no verdict on the case until the reading is complete.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, and_, func, not_, or_, select
from sqlalchemy.orm import Session, aliased

from cervicyte.web.base.schema import Case, CompletedReading, Image, User, VerdictRow
from cervicyte.web.base.site import Site
from cervicyte.web.cases import latest

# ---- the rule


def _goes_on(case: Any) -> ColumnElement[bool]:
    """The condition on `Case` or an alias of it that it is read blinded, and that a reader has a cell to decide."""
    image = aliased(Image)
    pictures = select(image.id).where(image.case_id == case.id).correlate(case)
    undecided = or_(
        latest.verdict(image, case, case.owner_id, "first") == "",
        latest.verdict(image, case, case.second_reader_id, "second") == "",
    )
    return and_(
        case.blinded.is_(True),
        case.state == "open",
        or_(case.second_reader_id.is_not(None), _given(case, "second")),
        or_(not_(pictures.exists()), pictures.where(image.state != "failed", undecided).exists()),
    )


def _given(case: Any, reading: str, reader_id: str | None = None) -> ColumnElement[bool]:
    """The condition on `Case` or an alias of it that anyone, or this reader, gave a verdict of that reading."""
    whose = _VERDICT.image_id == _IMAGE.id if reader_id is None else latest.of_reader(_VERDICT, _IMAGE.id, reader_id)
    verdicts = select(_VERDICT.id).join(_IMAGE, _IMAGE.id == _VERDICT.image_id)
    return verdicts.where(_IMAGE.case_id == case.id, whose, _VERDICT.reading == reading).correlate(case).exists()


# Made once: every query about verdicts holds one of them, and making them takes longer than asking them.
_CASE, _IMAGE, _VERDICT = aliased(Case), aliased(Image), aliased(VerdictRow)
_OF_CASE, _OF_ALIAS = _goes_on(Case), _goes_on(_CASE)


# ---- conditions, for queries


def blinds(user: User, among: Sequence[str] | None = None) -> ColumnElement[bool]:
    """A user is a reader of the `Case`, present or former, which is read blinded, and the reading is not complete.

    Parameters
    ----------
    among : ids of the cases that the query is about, where they are known: the others need not be looked at
    """
    is_reader = or_(_CASE.owner_id == user.id, _CASE.second_reader_id == user.id, _given(_CASE, "second", user.id))
    case_ids = select(_CASE.id).where(is_reader, _OF_ALIAS)
    return Case.id.in_(case_ids if among is None else case_ids.where(_CASE.id.in_(among)))


def hides_model(user: User, among: Sequence[str] | None = None) -> ColumnElement[bool]:
    """The model's answers on the `Case` are hidden from a user too, who reads it second; ``among`` as in `blinds`."""
    return and_(Case.owner_id != user.id, blinds(user, among))


def may_see(user: User, among: Sequence[str] | None = None) -> ColumnElement[bool]:
    """A user may see the `VerdictRow`, in a query that has its `Case`; ``among`` as in `blinds`."""
    return or_(VerdictRow.reader_id == user.id, not_(blinds(user, among)))


# ---- asked of the database


def is_blind(session: Session, user: User, case: Case) -> bool:
    """Whether a user must see no verdict on a case but the own ones: `blinds`, asked of one."""
    return _is_reader(session, user, case) and goes_on(session, case)


def is_model_hidden(session: Session, user: User, case: Case) -> bool:
    """Whether a user must not see the model's answers either: `hides_model`, asked of one."""
    return case.owner_id != user.id and is_blind(session, user, case)


def ids(session: Session, user: User) -> Sequence[str]:
    """The ids of all cases of which `blinds` holds for a user: what several queries are best asked ``among``."""
    return session.scalars(select(Case.id).where(blinds(user))).all()


def numbers(session: Session, user: User) -> Sequence[str]:
    """The numbers of all cases of which `blinds` holds for a user."""
    return session.scalars(select(Case.number).where(blinds(user))).all()


def goes_on(session: Session, case: Case) -> bool:
    """Whether a case is read blinded and the reading is not complete."""
    if not case.blinded or case.state != "open":
        return False
    return session.scalar(select(Case.id).where(Case.id == case.id, _OF_CASE)) is not None


def is_for_others(session: Session, user: User, case: Case) -> bool:
    """Whether a user gives no verdict on a case, as others read it blinded and the reading is not complete."""
    return user.id not in (case.owner_id, case.second_reader_id) and goes_on(session, case)


def is_closed(session: Session, user: User, case: Case) -> bool:
    """Whether a user is one of the readers, the reading is complete, and so all is seen."""
    return _is_reader(session, user, case) and _is_complete(session, case)


def stands(session: Session, user: User, case: Case, verdict_id: int) -> bool:
    """Whether a reader's verdict was given before the reading was complete, and so before others' were seen."""
    if not case.blinded or not _is_reader(session, user, case):
        return False
    completed = select(CompletedReading.id).where(CompletedReading.case_id == case.id)
    return session.scalar(completed.where(CompletedReading.last_verdict_id >= verdict_id).limit(1)) is not None


def has_read(session: Session, case: Case, reading: str, reader: User | None = None) -> bool:
    """Whether anyone, or this reader, gave a verdict of that reading on a case, taken back or not."""
    condition = _given(Case, reading, reader.id if reader else None)
    return session.scalar(select(Case.id).where(Case.id == case.id, condition)) is not None


def note_completion(session: Session, site: Site, actor: str, case: Case) -> None:
    """Store that a blinded reading is complete, if what was just stored made it so, and write it into the audit log.

    Hold the case before, and call this after `AuditLog.append` has taken the log's lock: on PostgreSQL too it then
    sees all that others stored before, so that of several who complete a reading together one notes it.
    """
    session.refresh(case)  # it may have been read before the lock was taken
    if not _is_complete(session, case):
        return
    last = select(func.max(VerdictRow.id)).join(Image, Image.id == VerdictRow.image_id).where(Image.case_id == case.id)
    last_verdict_id = session.scalar(last) or 0
    session.add(CompletedReading(case_id=case.id, last_verdict_id=last_verdict_id))
    detail = {"review": last_verdict_id}
    site.audit_log.append(session, actor, "review.completed", case.number, detail, site.clock())


# ---- inside


def _is_reader(session: Session, user: User, case: Case) -> bool:
    """The owner, the second reader, and who was that and gave a verdict."""
    return user.id in (case.owner_id, case.second_reader_id) or has_read(session, case, "second", user)


def _is_complete(session: Session, case: Case) -> bool:
    blinded = case.blinded and case.state == "open" and case.second_reader_id is not None
    return blinded and not goes_on(session, case)
