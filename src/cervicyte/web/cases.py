"""Cases: opening, finding, changing and listing them. Whoever reads or changes one comes by `find`, which asks `may`.

A case that a user may not see looks like one that does not exist, here and so everywhere.
"""

from __future__ import annotations

import math
import secrets
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from sqlalchemy import ColumnElement, func, or_, select, true
from sqlalchemy.orm import Session

from cervicyte.errors import CervicyteError, UsageError
from cervicyte.web import newest
from cervicyte.web.accounts import ACTIONS, Denied, may
from cervicyte.web.database import lock
from cervicyte.web.schema import Case, Image, PredictionRow, Review, User
from cervicyte.web.site import Site

#: Digits and letters that nobody takes for one another, as in Crockford's Base32.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_NUMBER_LENGTH = 6
_READ_AS = str.maketrans("OIL", "011")

#: Longest accession number and notes, in characters.
ACCESSION_LENGTH, NOTES_LENGTH = 80, 2000

#: What a list of cases can be narrowed to and put in order by: (value, words).
STATES = (("open", "open"), ("signed", "signed"))
ORDERS = (("new", "newest first"), ("old", "oldest first"), ("accession", "by accession number"), ("number", "by case"))

#: Actions that concern no single case.
_ANYWHERE = ("new", "dashboard", "see_all", "administer")

Row = TypeVar("Row")


class NotFound(CervicyteError):  # noqa: N818  (as HTTP's 404 is)
    """What is asked for does not exist, or may not be seen by who asks; nobody can tell which."""


class Invalid(UsageError):  # noqa: N818
    """A value that cannot be used; ``field`` is the name of the form's field that it came from."""

    def __init__(self, field: str, what: str, received: object = None, todo: str | None = None) -> None:
        self.field = field
        super().__init__(what, received, todo)


@dataclass(frozen=True)
class CaseSummary:
    """A case and its counts, for one user.

    Attributes
    ----------
    owner, second_reader : names; None without a second reader
    images, done, waiting, failed : pictures; predicted, not yet, and unreadable ones
    decided : pictures with a verdict of this user
    abnormal : pictures at or above the operating point, the uncertain ones among them
    uncertain : pictures of cells that the model does not answer for
    unsatisfactory : pictures that the model refuses
        These three are None for a blinded second reader.
    """

    id: str
    number: str
    accession: str
    notes: str
    owner_id: str
    owner: str
    created_at: datetime
    state: str
    second_reader_id: str | None
    second_reader: str | None
    blinded: bool
    images: int
    done: int
    waiting: int
    failed: int
    decided: int
    abnormal: int | None
    uncertain: int | None
    unsatisfactory: int | None


@dataclass(frozen=True)
class Listing(Generic[Row]):
    """One page of a list; ``number`` counts from 1, ``pages`` is at least 1, ``total`` the rows of all pages."""

    rows: tuple[Row, ...]
    number: int
    pages: int
    total: int


# ---- who may


def find(session: Session, user: User | None, number: str, action: str = "see") -> Case:
    """A case by its number, for a user who may do the action with it.

    Raises
    ------
    NotFound : there is none, or the user may not see it
    Denied : the user sees it, and may not do this
    """
    return _checked(session.scalar(select(Case).where(Case.number == _normal(number))), user, action)


def hold(session: Session, user: User | None, number: str, action: str) -> Case:
    """The same for a change: the case stays as it is found until the transaction's end. Raises what `find` raises."""
    found = session.scalar(select(Case).where(Case.number == _normal(number)).with_for_update())
    return _checked(found, user, action)


def check(case: Case | None, user: User | None, action: str) -> Case:
    """The same for a case that was read otherwise. Raises what `find` raises."""
    return _checked(case, user, action)


def rights(user: User | None, case: Case | CaseSummary | None = None) -> frozenset[str]:
    """All that a user may do, and with a case, if one is given."""
    return frozenset(
        action
        for action in ACTIONS
        if (action in _ANYWHERE and may(user, action))
        or (action not in _ANYWHERE and case is not None and may(user, action, case))
    )


def reading_of(user: User, case: Case | CaseSummary) -> str:
    """Which reading this user's decisions are: "second" for the assigned second reader, else "first"."""
    return "second" if case.second_reader_id == user.id else "first"


def is_blinded(user: User, case: Case | CaseSummary) -> bool:
    """Whether this user must see neither the model's answers nor the first reading, as long as the case is open."""
    return case.blinded and case.second_reader_id == user.id and case.state == "open"


def visible_to(user: User) -> ColumnElement[bool]:
    """The condition that `Case` may be seen by a user, for lists; the same as ``may(user, "see", case)``."""
    if may(user, "see_all"):
        return true()
    return or_(Case.owner_id == user.id, Case.second_reader_id == user.id)


# ---- reading


def get(site: Site, user: User, number: str, action: str = "see") -> CaseSummary:
    """A case with its counts. Raises what `find` raises."""
    with site.database.read() as session:
        return summaries(session, user, [find(session, user, number, action)])[0]


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
        found = session.scalars(
            select(Case).where(Case.second_reader_id == user.id).order_by(Case.created_at.desc(), Case.id)
        )
        return summaries(session, user, found.all())


def summaries(session: Session, user: User, cases: Sequence[Case]) -> list[CaseSummary]:
    """Cases with their counts, in their order, by two queries however many they are."""
    people = {c.owner_id for c in cases} | {c.second_reader_id for c in cases if c.second_reader_id}
    names: dict[str, str] = {}
    counted: dict[str, Any] = {}
    if cases:
        names = {u: name for u, name in session.execute(select(User.id, User.name).where(User.id.in_(people)))}
        rows = session.execute(_counts(user).where(Case.id.in_([c.id for c in cases])))
        counted = {row.case_id: row for row in rows}
    found = []
    for case in cases:
        row = counted.get(case.id)
        hidden = is_blinded(user, case)
        found.append(
            CaseSummary(
                case.id,
                case.number,
                case.accession,
                case.notes,
                case.owner_id,
                names[case.owner_id],
                case.created_at,
                case.state,
                case.second_reader_id,
                names[case.second_reader_id] if case.second_reader_id else None,
                case.blinded,
                images=row.images if row else 0,
                done=row.done if row else 0,
                waiting=row.waiting if row else 0,
                failed=row.failed if row else 0,
                decided=row.decided if row else 0,
                abnormal=None if hidden else row.abnormal if row else 0,
                uncertain=None if hidden else row.uncertain if row else 0,
                unsatisfactory=None if hidden else row.unsatisfactory if row else 0,
            )
        )
    return found


def second_readers(site: Site, user: User, number: str) -> list[tuple[str, str]]:
    """Who can be the second reader of a case: (id, name) of everyone active but the owner. Raises as `find`."""
    with site.database.read() as session:
        case = find(session, user, number, "assign")
        people = select(User.id, User.name).where(User.active.is_(True), User.id != case.owner_id)
        return [(found, name) for found, name in session.execute(people.order_by(User.name, User.id))]


# ---- changing


def create(site: Site, user: User, accession: str = "", notes: str = "") -> CaseSummary:
    """Open a case.

    Raises
    ------
    Denied : the user may not
    Invalid : the accession number or the notes are too long
    """
    if not may(user, "new"):
        raise Denied("you may not open a case", None, "ask your administrator")
    accession, notes = _accession(accession), _notes(notes)
    with site.database.write() as session:
        lock(session, "case numbers")
        case = Case(
            number=_new_number(session),
            accession=accession,
            notes=notes,
            owner_id=user.id,
            created_at=site.clock(),
            state="open",
            blinded=True,
        )
        session.add(case)
        site.ledger.append(session, user.email, "case.opened", case.number, at=site.clock())
        return summaries(session, user, [case])[0]


def edit(site: Site, user: User, number: str, accession: str, notes: str) -> None:
    """Change a case's accession number and notes.

    Raises
    ------
    NotFound, Denied : as `find`
    Invalid : as `create`
    """
    accession, notes = _accession(accession), _notes(notes)
    with site.database.write() as session:
        case = hold(session, user, number, "edit")
        changed = [
            n for n, old, new in (("accession", case.accession, accession), ("notes", case.notes, notes)) if old != new
        ]
        if changed:
            case.accession, case.notes = accession, notes
            site.ledger.append(session, user.email, "case.edited", case.number, {"changed": changed}, site.clock())


def assign(site: Site, user: User, number: str, second_reader_id: str, blinded: bool) -> None:
    """Give a case a second reader, or none where the id is empty.

    Raises
    ------
    NotFound, Denied : as `find`
    Invalid : the second reader is nobody, disabled, the owner, or has read first; or a reading that began without
        blinding, or whose blinding was lifted, is to count as blinded
    """
    with site.database.write() as session:
        case = hold(session, user, number, "assign")
        reader = session.get(User, second_reader_id[:32].replace("\x00", "")) if second_reader_id else None
        if second_reader_id and (reader is None or not reader.active):
            raise Invalid("second_reader", "there is no such reader", None, "choose one from the list")
        if reader is not None and reader.id == case.owner_id:
            raise Invalid("second_reader", "the second reader must be another than the first", None, "choose another")
        if reader is not None and reader.id != case.second_reader_id and _is_read(session, case, "first", reader):
            raise Invalid("second_reader", "this person has read the case as the first reader", None, "choose another")
        if blinded and not case.blinded and _is_read(session, case, "second"):
            raise Invalid("second_reader", "cells were read a second time without blinding", None, "leave it so")
        before = (case.second_reader_id, case.blinded)
        case.second_reader_id, case.blinded = reader.id if reader else None, blinded
        if before != (case.second_reader_id, case.blinded):
            detail = {"second_reader": reader.email if reader else "", "blinded": blinded}
            site.ledger.append(session, user.email, "case.assigned", case.number, detail, site.clock())


# ---- inside


def _checked(case: Case | None, user: User | None, action: str) -> Case:
    if case is None or not may(user, "see", case):
        raise NotFound("there is no such case", None, "look it up in the list of cases")
    if not may(user, action, case):
        if case.state == "signed":
            raise Denied("the case is signed and no longer changes", None, "amend its report")
        raise Denied("you may not do this with this case", None, "ask its reader or a reviewer")
    return case


def _counts(user: User) -> Any:
    many = newest.how_many
    return (
        select(
            Image.case_id.label("case_id"),
            func.count().label("images"),
            many(Image.state == "done").label("done"),
            many(Image.state == "waiting").label("waiting"),
            many(Image.state == "failed").label("failed"),
            many(newest.decided()).label("decided"),
            many(newest.flagged()).label("abnormal"),
            many(newest.uncertain()).label("uncertain"),
            many(newest.unsatisfactory()).label("unsatisfactory"),
        )
        .join(Case, Case.id == Image.case_id)
        .outerjoin(PredictionRow, newest.newest_prediction())
        .outerjoin(Review, newest.newest_review(user.id))
        .group_by(Image.case_id)
    )


def _page(session: Session, user: User, query: Any, page: int, size: int) -> Listing[CaseSummary]:
    total = session.scalar(select(func.count()).select_from(query.order_by(None).subquery())) or 0
    number, pages = place(page, total, size)
    found = session.scalars(query.offset((number - 1) * size).limit(size)).all()
    return Listing(tuple(summaries(session, user, found)), number, pages, total)


def place(page: int, total: int, size: int) -> tuple[int, int]:
    """The nearest page that is there, and how many there are.

    >>> place(9, 45, 20), place(-1, 0, 20)
    ((3, 3), (1, 1))
    """
    pages = max(1, math.ceil(total / size))
    return min(max(1, page), pages), pages


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


def _is_read(session: Session, case: Case, reading: str, reader: User | None = None) -> bool:
    """Whether anyone, or this reader, has given a verdict of that reading."""
    given = select(Review.id).join(Image, Image.id == Review.image_id)
    given = given.where(Image.case_id == case.id, Review.reading == reading)
    if reader is not None:
        given = given.where(Review.reader_id == reader.id)
    return session.scalar(given.limit(1)) is not None


def _new_number(session: Session) -> str:
    while True:  # a thousand million numbers: the second attempt is rare, the third unheard of
        number = "".join(secrets.choice(_ALPHABET) for _ in range(_NUMBER_LENGTH))
        if session.scalar(select(Case.id).where(Case.number == number)) is None:
            return number


def _normal(number: str) -> str:
    """A number as people type it."""
    return number[:40].replace("\x00", "").strip().upper().translate(_READ_AS)


def _accession(text: str) -> str:
    found = " ".join("".join(c if c.isprintable() else " " for c in unicodedata.normalize("NFC", text)).split())
    if len(found) > ACCESSION_LENGTH:
        raise Invalid(
            "accession",
            "the accession number is too long",
            f"{len(found)} characters",
            f"at most {ACCESSION_LENGTH} characters",
        )
    return found


def _notes(text: str) -> str:
    lines = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    found = "".join(c if c.isprintable() or c in "\n\t" else " " for c in lines).strip()
    if len(found) > NOTES_LENGTH:
        raise Invalid(
            "notes", "the notes are too long", f"{len(found)} characters", f"at most {NOTES_LENGTH} characters"
        )
    return found
