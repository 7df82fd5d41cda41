"""Lists of cases: found by words, narrowed, put in order, in pages."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, func, or_, select
from sqlalchemy.orm import Session

from cervicyte.web.base.schema import Case, User
from cervicyte.web.base.site import Site
from cervicyte.web.cases.cases import CaseSummary, summaries
from cervicyte.web.cases.permissions import visible_to
from cervicyte.web.paging import Listing, place

#: What a list of cases can be narrowed to and put in order by: (value, words).
STATES = (("open", "open"), ("signed", "signed"))
ORDERS = (("new", "newest first"), ("old", "oldest first"), ("accession", "by accession number"), ("number", "by case"))


def listing(
    site: Site, user: User, q: str = "", state: str = "", order: str = "new", page: int = 1, size: int = 25
) -> Listing[CaseSummary]:
    """The cases that a user may see, a page of them.

    Parameters
    ----------
    q : words; each must be in the number, the accession number or the notes
    state : one of `STATES`, or anything else for all
    order : one of `ORDERS`; anything else is the first
    page : from 1; one that is not there is the nearest that is
    """
    query = select(Case).where(visible_to(user), *map(_holds, _words(q)))
    if state in dict(STATES):
        query = query.where(Case.state == state)
    with site.database.read() as session:
        return _page(session, user, query.order_by(*_order(order)), page, size)


def as_second_reader(site: Site, user: User) -> list[CaseSummary]:
    """The cases in which a user is the second reader, newest first."""
    with site.database.read() as session:
        cases = session.scalars(
            select(Case).where(Case.second_reader_id == user.id).order_by(Case.created_at.desc(), Case.id)
        )
        return summaries(session, user, cases.all())


def _page(session: Session, user: User, query: Any, page: int, size: int) -> Listing[CaseSummary]:
    total = session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0
    number, pages = place(page, total, size)
    cases = session.scalars(query.offset((number - 1) * size).limit(size)).all()
    return Listing(tuple(summaries(session, user, cases)), number, pages, total)


def _order(order: str) -> tuple[Any, ...]:
    return {
        "old": (Case.created_at, Case.id),
        "accession": (func.lower(Case.accession), Case.created_at, Case.id),
        "number": (Case.number,),
    }.get(order, (Case.created_at.desc(), Case.id))


def _words(q: str) -> list[str]:
    return "".join(c if c.isprintable() else " " for c in q[:200]).lower().split()


def _holds(word: str) -> ColumnElement[bool]:
    columns: Iterable[Any] = (Case.number, Case.accession, Case.notes)
    return or_(*(func.lower(column).contains(word, autoescape=True) for column in columns))
