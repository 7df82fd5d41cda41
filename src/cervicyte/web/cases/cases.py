"""Cases: opening one, changing what it says, and its counts."""

from __future__ import annotations

import secrets
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cervicyte.web.accounts.users import may
from cervicyte.web.base.database import lock
from cervicyte.web.base.schema import Case, Image, PredictionRow, User, VerdictRow
from cervicyte.web.base.site import Site
from cervicyte.web.cases import blinding, latest
from cervicyte.web.cases.permissions import find, hold
from cervicyte.web.errors import DeniedError, InvalidFieldError

#: Digits and letters that nobody takes for one another, as in Crockford's Base32.
_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_NUMBER_LENGTH = 6

#: Longest accession number and notes, in characters.
ACCESSION_LENGTH, NOTES_LENGTH = 80, 2000


@dataclass(frozen=True, kw_only=True)
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
        These three are None where the model's answers are hidden.
    blind, hides_model : others' verdicts are hidden from this user, and the model's answers; see `web.blinding`
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
    blind: bool
    hides_model: bool


# ---- reading


def get(site: Site, user: User, number: str, action: str = "see") -> CaseSummary:
    """A case with its counts. Raises what `cervicyte.web.cases.permissions.find` raises."""
    with site.database.read() as session:
        return summaries(session, user, [find(session, user, number, action)])[0]


def summaries(session: Session, user: User, cases: Sequence[Case]) -> list[CaseSummary]:
    """Cases with their counts, in their order, by two queries however many they are."""
    people = {c.owner_id for c in cases} | {c.second_reader_id for c in cases if c.second_reader_id}
    names: dict[str, str] = {}
    counted: dict[str, Any] = {}
    if cases:
        names = {u: name for u, name in session.execute(select(User.id, User.name).where(User.id.in_(people)))}
        rows = session.execute(_counts(user, [c.id for c in cases]))
        counted = {row.case_id: row for row in rows}
    summarised = []
    for case in cases:
        row = counted[case.id]
        hidden = row.hides_model
        summarised.append(
            CaseSummary(
                id=case.id,
                number=case.number,
                accession=case.accession,
                notes=case.notes,
                owner_id=case.owner_id,
                owner=names[case.owner_id],
                created_at=case.created_at,
                state=case.state,
                second_reader_id=case.second_reader_id,
                second_reader=names[case.second_reader_id] if case.second_reader_id else None,
                blinded=case.blinded,
                images=row.images,
                done=row.done,
                waiting=row.waiting,
                failed=row.failed,
                decided=row.decided,
                abnormal=None if hidden else row.abnormal,
                uncertain=None if hidden else row.uncertain,
                unsatisfactory=None if hidden else row.unsatisfactory,
                blind=row.blind,
                hides_model=hidden,
            )
        )
    return summarised


# ---- changing


def create(site: Site, user: User, accession: str = "", notes: str = "") -> CaseSummary:
    """Open a case.

    Raises
    ------
    DeniedError : the user may not
    InvalidFieldError : the accession number or the notes are too long
    """
    fields = check_new(user, accession, notes)
    with site.database.write() as session:
        case = add(session, site, user, *fields)
        note_opened(session, site, user, case)
        return summaries(session, user, [case])[0]


def check_new(user: User, accession: str, notes: str) -> tuple[str, str]:
    """Accession number and notes as they are stored, where this user may open a case with them. Raises as `create`."""
    if not may(user, "new"):
        raise DeniedError("you may not open a case", None, "ask your administrator")
    return _accession(accession), _notes(notes)


def add(session: Session, site: Site, user: User, accession: str, notes: str) -> Case:
    """A new case in the caller's transaction, with what `check_new` gave; `note_opened` is to follow."""
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
    session.flush()
    return case


def clean_lines(text: str) -> str:
    """A text of several lines as it is kept: without what is invisible, but what joins letters and parts them."""
    lines = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    return "".join(c if c.isprintable() or c in "\n\t\u200c\u200d" else " " for c in lines).strip()


def note_opened(session: Session, site: Site, user: User, case: Case) -> None:
    """Write into the audit log that a case was opened, once the transaction has stored all else."""
    site.audit_log.append(session, user.email, "case.opened", case.number, at=site.clock())


def edit(site: Site, user: User, number: str, accession: str, notes: str) -> None:
    """Change a case's accession number and notes.

    Raises
    ------
    NotFoundError, DeniedError : as `cervicyte.web.cases.permissions.find`
    InvalidFieldError : as `create`
    """
    accession, notes = _accession(accession), _notes(notes)
    with site.database.write() as session:
        case = hold(session, user, number, "edit")
        changed = [
            n for n, old, new in (("accession", case.accession, accession), ("notes", case.notes, notes)) if old != new
        ]
        if changed:
            case.accession, case.notes = accession, notes
            site.audit_log.append(session, user.email, "case.edited", case.number, {"changed": changed}, site.clock())


# ---- inside


def _counts(user: User, case_ids: Sequence[str]) -> Any:
    many = latest.how_many
    return (
        select(
            Case.id.label("case_id"),
            blinding.blinds(user, case_ids).label("blind"),
            blinding.hides_model(user, case_ids).label("hides_model"),
            func.count(Image.id).label("images"),
            many(Image.state == "done").label("done"),
            many(Image.state == "waiting").label("waiting"),
            many(Image.state == "failed").label("failed"),
            many(latest.decided()).label("decided"),
            many(latest.flagged()).label("abnormal"),
            many(latest.uncertain()).label("uncertain"),
            many(latest.unsatisfactory()).label("unsatisfactory"),
        )
        .select_from(Case)
        .outerjoin(Image, Image.case_id == Case.id)
        .outerjoin(PredictionRow, latest.newest_prediction())
        .outerjoin(VerdictRow, latest.newest_verdict(user.id))
        .where(Case.id.in_(case_ids))
        .group_by(Case.id)
    )


def _new_number(session: Session) -> str:
    while True:  # a thousand million numbers: the second attempt is rare, the third unheard of
        number = "".join(secrets.choice(_ALPHABET) for _ in range(_NUMBER_LENGTH))
        if session.scalar(select(Case.id).where(Case.number == number)) is None:
            return number


def _accession(text: str) -> str:
    accession = " ".join("".join(c if c.isprintable() else " " for c in unicodedata.normalize("NFC", text)).split())
    if len(accession) > ACCESSION_LENGTH:
        raise InvalidFieldError(
            "accession",
            "the accession number is too long",
            f"{len(accession)} characters",
            f"at most {ACCESSION_LENGTH} characters",
        )
    return accession


def _notes(text: str) -> str:
    notes = clean_lines(text)
    if len(notes) > NOTES_LENGTH:
        raise InvalidFieldError(
            "notes", "the notes are too long", f"{len(notes)} characters", f"at most {NOTES_LENGTH} characters"
        )
    return notes
