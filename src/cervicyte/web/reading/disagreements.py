"""Cells on which two readers differ, to be settled, and how well the readers agree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import not_, select
from sqlalchemy.orm import Session

from cervicyte.web.accounts.users import may
from cervicyte.web.base.schema import Case, Image, PredictionRow, User, VerdictRow
from cervicyte.web.cases import blinding, latest, permissions
from cervicyte.web.errors import DeniedError
from cervicyte.web.paging import Listing, place
from cervicyte.web.reading import agreement, verdicts


@dataclass(frozen=True)
class Row:
    """A cell on which two readers differ.

    Attributes
    ----------
    case : number
    first, second, settled : verdicts as they are shown; settled is None as long as nobody settled it
    model, bethesda : label of the newest prediction and its category, or empty
    """

    case: str
    image_id: str
    first: str
    second: str
    first_reader: str
    second_reader: str
    model: str
    bethesda: str
    settled: str | None
    settled_by: str


def listing(session: Session, user: User, show: str = "open", page: int = 1, size: int = 50) -> Listing[Row]:
    """The cells on which readers differ, newest cases first, but those that `cervicyte.web.cases.blinding` hides.

    Parameters
    ----------
    show : "all" for the settled ones too

    Raises
    ------
    DeniedError : the user is no reviewer
    """
    pairs = [
        (image, number, standing)
        for image, number, standing in _read_twice(session, user)
        if (standing.differs if show == "all" else standing.open)
    ]
    number, pages = place(page, len(pairs), size)
    part = pairs[(number - 1) * size : number * size]
    labels = _labels(session, [image for image, _, _ in part])
    return Listing(tuple(_row(i, case, s, *labels.get(i, ("", ""))) for i, case, s in part), number, pages, len(pairs))


def kappa(session: Session, user: User) -> agreement.Kappa | None:
    """How well owners and second readers agree on the cells that they read blinded; None without such a cell.

    Verdicts count as these two gave them, not as they were settled. See `cervicyte.web.reading.agreement.kappa`.

    Raises
    ------
    DeniedError : the user is no reviewer
    """
    _check(user)
    first = latest.verdict(Image, Case, Case.owner_id, "first")
    second = latest.verdict(Image, Case, Case.second_reader_id, "second")
    query = select(first, second, Case.number).select_from(Image).join(Case, Case.id == Image.case_id)
    query = query.where(Case.blinded.is_(True), Case.second_reader_id.is_not(None))
    records = session.execute(query.where(permissions.visible_to(user), not_(blinding.blinds(user))))
    rows = [(verdicts.shown(a), verdicts.shown(b), number) for a, b, number in records if a and b]
    return agreement.kappa(*zip(*rows, strict=True)) if rows else None


def _check(user: User) -> None:
    if not may(user, "see_all"):
        raise DeniedError("disagreements are for reviewers", None, "ask a reviewer")


def _read_twice(session: Session, user: User) -> list[tuple[str, str, verdicts.Standing]]:
    """(image id, number of the case, what counts) of every cell with two readings that this user may see."""
    _check(user)
    query = (
        select(Image.id, Case.number)
        .join(Case, Case.id == Image.case_id)
        .where(
            permissions.visible_to(user),
            not_(blinding.blinds(user)),
            *(
                select(VerdictRow.id).where(VerdictRow.image_id == Image.id, VerdictRow.reading == reading).exists()
                for reading in ("first", "second")
            ),
        )
        .order_by(Case.created_at.desc(), Case.number, Image.position)
    )
    images = [(image, number) for image, number in session.execute(query)]
    counts = verdicts.standing(session, user, [image for image, _ in images])
    return [(i, number, s) for i, number in images if (s := counts.get(i)) is not None and s.first and s.second]


def _labels(session: Session, image_ids: Sequence[str]) -> dict[str, tuple[str, str]]:
    columns = (Image.id, PredictionRow.label, PredictionRow.bethesda)
    query = select(*columns).join(PredictionRow, latest.newest_prediction())
    records = session.execute(query.where(Image.id.in_(image_ids)))
    return {image: (label, bethesda or "") for image, label, bethesda in records}


def _row(image_id: str, case: str, standing: verdicts.Standing, label: str, bethesda: str) -> Row:
    first, second, settled = standing.first, standing.second, standing.settled
    assert first is not None
    assert second is not None
    return Row(
        case,
        image_id,
        first.verdict,
        second.verdict,
        first.reader,
        second.reader,
        label,
        bethesda,
        settled.verdict if settled else None,
        settled.reader if settled else "",
    )
