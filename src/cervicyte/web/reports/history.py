"""What was decided, by whom and when: verdicts, signed reports and opened cases, the newest first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Select, String, cast, func, literal, not_, or_, select, union_all
from sqlalchemy.orm import Session

from cervicyte.bundle.predictions import UNSATISFACTORY
from cervicyte.web.accounts.users import may
from cervicyte.web.base.schema import Case, Image, PredictionRow, Report, User, VerdictRow
from cervicyte.web.cases import blinding, permissions
from cervicyte.web.paging import Listing, place
from cervicyte.web.reading import verdicts
from cervicyte.web.reading.categories import CATEGORIES

#: Verdicts to narrow a list to: (value, words).
VERDICTS: tuple[tuple[str, str], ...] = (
    *((row.code, row.code) for row in CATEGORIES),
    (UNSATISFACTORY, "unsatisfactory"),
)
#: "yes" for verdicts that agree with the model, "no" for those that differ.
AGREEMENT = ("yes", "no")


@dataclass(frozen=True, kw_only=True)
class Filters:
    """What a list is narrowed to; empty texts narrow nothing.

    Attributes
    ----------
    q : words; each must be in the case's number or accession number, the picture's name or the comment
    reader : id of a user
    verdict : one of `VERDICTS`; classes of that category count too
    agreement : one of `AGREEMENT`
    since, until : days in UTC, both among those shown
    """

    q: str = ""
    reader: str = ""
    verdict: str = ""
    agreement: str = ""
    since: date | None = None
    until: date | None = None

    @classmethod
    def read(cls, values: Mapping[str, str]) -> Filters:
        """Filters as a form sends them; what is no day, verdict or answer narrows nothing.

        >>> Filters.read({"since": "2026-03-01", "until": "soon"}).since
        datetime.date(2026, 3, 1)
        """
        return cls(
            q="".join(c if c.isprintable() else " " for c in values.get("q", "")[:200]).strip(),
            reader=values.get("reader", "")[:32].replace("\x00", ""),
            verdict=verdict if (verdict := values.get("verdict", "")) in dict(VERDICTS) else "",
            agreement=answer if (answer := values.get("agreement", "")) in AGREEMENT else "",
            since=_day(values.get("since", "")),
            until=_day(values.get("until", "")),
        )


@dataclass(frozen=True, kw_only=True)
class Event:
    """One thing that happened.

    Attributes
    ----------
    kind : "verdict", "report" or "upload" (a case was opened)
    case : number
    cell : name of the image, or empty
    version : of a report, or None
    verdict : as it is shown; empty where the reader took one back
    model : label of the prediction that the verdict was given beside; empty where there was none or it is hidden
    agrees : with the model; None where that is not defined or hidden
    """

    at: datetime
    kind: str
    case: str
    reader: str
    cell: str = ""
    image_id: str | None = None
    version: int | None = None
    verdict: str = ""
    model: str = ""
    agrees: bool | None = None
    comment: str = ""


def listing(session: Session, user: User, filters: Filters, page: int = 1, size: int = 50) -> Listing[Event]:
    """A page of what happened in the cases that a user may see, as far as `cases.blinding` lets the user."""
    blind = blinding.ids(session, user)
    everything = union_all(*_queries(user, filters, blind)).subquery()
    total = session.scalar(select(func.count()).select_from(everything)) or 0
    number, pages = place(page, total, size)
    order = (everything.c.at.desc(), everything.c.kind.desc(), everything.c.id.desc())
    query = select(everything.c.kind, everything.c.id).order_by(*order).offset((number - 1) * size).limit(size)
    keys = [(kind, key) for kind, key in session.execute(query)]
    found = _verdicts(session, user, [int(k) for kind, k in keys if kind == "verdict"], blind)
    found |= _reports(session, [k for kind, k in keys if kind == "report"])
    found |= _openings(session, [k for kind, k in keys if kind == "upload"])
    return Listing(tuple(found[key] for key in keys), number, pages, total)


def readers(session: Session, user: User) -> list[tuple[str, str]]:
    """(id, name) of everyone who decided something, for one who sees all cases; else of the user alone."""
    query = select(User.id, User.name).order_by(User.name, User.id)
    if may(user, "see_all"):
        query = query.where(select(VerdictRow.id).where(VerdictRow.reader_id == User.id).exists())
    else:
        query = query.where(User.id == user.id)
    return [(user_id, name) for user_id, name in session.execute(query)]


def _queries(user: User, filters: Filters, blind: Sequence[str]) -> list[Select[Any]]:
    """(at, kind, id as text) of each kind of event that can fit the filters."""
    decided = (
        select(VerdictRow.created_at.label("at"), literal("verdict").label("kind"), _text(VerdictRow.id))
        .join(Image, Image.id == VerdictRow.image_id)
        .join(Case, Case.id == Image.case_id)
        .where(permissions.visible_to(user), blinding.may_see(user, blind))
    )
    decided = _within(decided, filters, VerdictRow.created_at, VerdictRow.reader_id, (Image.name, VerdictRow.comment))
    if filters.verdict:
        classes = [c for c, code in verdicts.classes().items() if code == filters.verdict]
        decided = decided.where(VerdictRow.verdict.in_([filters.verdict, *classes]))
    if filters.agreement:
        decided = decided.where(
            VerdictRow.agrees.is_(filters.agreement == "yes"), not_(blinding.hides_model(user, blind))
        )
    if filters.verdict or filters.agreement:
        return [decided]
    reports = (
        select(Report.signed_at.label("at"), literal("report").label("kind"), _text(Report.id))
        .join(Case, Case.id == Report.case_id)
        .where(permissions.visible_to(user), not_(blinding.blinds(user, blind)))
    )
    openings = select(Case.created_at.label("at"), literal("upload").label("kind"), _text(Case.id)).where(
        permissions.visible_to(user)
    )
    return [
        decided,
        _within(reports, filters, Report.signed_at, Report.signed_by, (Report.reason,)),
        _within(openings, filters, Case.created_at, Case.owner_id, ()),
    ]


def _text(column: Any) -> Any:
    return cast(column, String).label("id")


def _within(query: Select[Any], filters: Filters, at: Any, reader: Any, columns: Sequence[Any]) -> Select[Any]:
    for word in filters.q.lower().split():
        places: list[ColumnElement[bool]] = [
            func.lower(column).contains(word, autoescape=True) for column in (Case.number, Case.accession, *columns)
        ]
        query = query.where(or_(*places))
    if filters.reader:
        query = query.where(reader == filters.reader)
    if filters.since:
        query = query.where(at >= datetime.combine(filters.since, time(), UTC))
    if filters.until and filters.until < date.max:
        query = query.where(at < datetime.combine(filters.until + timedelta(days=1), time(), UTC))
    return query


def _verdicts(session: Session, user: User, ids: Sequence[int], blind: Sequence[str]) -> dict[tuple[str, str], Event]:
    query = (
        select(VerdictRow, Image.name, Case.number, User.name, PredictionRow.label, blinding.hides_model(user, blind))
        .join(Image, Image.id == VerdictRow.image_id)
        .join(Case, Case.id == Image.case_id)
        .join(User, User.id == VerdictRow.reader_id)
        .outerjoin(PredictionRow, PredictionRow.id == VerdictRow.prediction_id)
        .where(VerdictRow.id.in_(ids))
    )
    events = {}
    for row, cell, number, reader, label, hidden in session.execute(query):
        events["verdict", str(row.id)] = Event(
            at=row.created_at,
            kind="verdict",
            case=number,
            cell=cell,
            image_id=row.image_id,
            reader=reader,
            verdict=verdicts.shown(row.verdict),
            model="" if hidden else label or "",
            agrees=None if hidden else row.agrees,
            comment=row.comment if row.verdict else "taken back",
        )
    return events


def _reports(session: Session, ids: Sequence[str]) -> dict[tuple[str, str], Event]:
    query = (
        select(Report.id, Report.signed_at, Report.version, Report.reason, Case.number, User.name)
        .join(Case, Case.id == Report.case_id)
        .join(User, User.id == Report.signed_by)
        .where(Report.id.in_(ids))
    )
    return {
        ("report", key): Event(at=at, kind="report", case=number, version=version, reader=name, comment=reason)
        for key, at, version, reason, number, name in session.execute(query)
    }


def _openings(session: Session, ids: Sequence[str]) -> dict[tuple[str, str], Event]:
    query = select(Case.id, Case.created_at, Case.number, User.name).join(User, User.id == Case.owner_id)
    return {
        ("upload", key): Event(at=at, kind="upload", case=number, reader=name)
        for key, at, number, name in session.execute(query.where(Case.id.in_(ids)))
    }


def _day(text: str) -> date | None:
    try:
        return date.fromisoformat(text)
    except ValueError:
        return None
