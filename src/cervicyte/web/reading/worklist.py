"""The cells of a case in the order in which they should be read, the most suspicious first, and one cell by itself.

The order: at or above the operating point by P(abnormal); then what the model does not answer for (uncertain); then
what it refuses (unsatisfactory), since nobody has looked at that; then the rest by P(abnormal); then pictures without
an answer. Who must not see the model's answers gets the order of arrival, so that the order tells nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, and_, case, false, func, not_, select, true
from sqlalchemy.orm import Session

from cervicyte.web.base.schema import Case, Image, PredictionRow, User, VerdictRow
from cervicyte.web.base.site import Site
from cervicyte.web.cases import blinding, latest
from cervicyte.web.cases.permissions import find, find_image
from cervicyte.web.errors import NotFoundError
from cervicyte.web.paging import Listing, place
from cervicyte.web.reading.verdicts import shown

#: What the cells of a case can be narrowed to: (name, words).
FILTERS = (
    ("all", "all"),
    ("undecided", "without your verdict"),
    ("abnormal", "abnormal"),
    ("uncertain", "uncertain"),
    ("unsatisfactory", "unsatisfactory"),
    ("waiting", "waiting"),
    ("failed", "unreadable"),
)
#: Those that would tell a blinded reader what the model says.
_TELLING = ("abnormal", "uncertain", "unsatisfactory")


@dataclass(frozen=True)
class Cell:
    """A picture of a case as one user may see it; to a blinded reader the model's answer is as if there were none.

    Nor is a blinded reader told whether a verdict agrees with it.

    Attributes
    ----------
    name, place : its name, and the archive and folders it came in, as sent
    position : from 1, in order of arrival
    reason : why it failed, or empty
    width, height, size : pixels, and bytes
    label, bethesda, p_abnormal, uncertain, quality : the newest prediction; label is empty without one
    flagged : at or above the operating point; None where that is not defined
    verdict, agrees : this user's newest verdict, None without one; a class that has a category is shown as that
    """

    id: str
    name: str
    place: str
    position: int
    state: str
    reason: str
    width: int
    height: int
    size: int
    sha256: str
    media_type: str
    created_at: datetime
    label: str
    bethesda: str | None
    p_abnormal: float | None
    flagged: bool | None
    uncertain: bool
    quality: str
    model_sha256: str
    verdict: str | None
    agrees: bool | None


@dataclass(frozen=True)
class Step:
    """One cell in the order of reading, for going from one to the next; ``verdict`` is this user's, or None."""

    image_id: str
    state: str
    verdict: str | None


def counts(site: Site, user: User, number: str) -> list[tuple[str, str, int]]:
    """The filters that a user may choose, with their words and how many cells each leaves.

    Raises
    ------
    NotFoundError : as `cervicyte.web.cases.permissions.find`
    """
    with site.database.read() as session:
        case_row = find(session, user, number)
        offered = _offered(blinding.is_model_hidden(session, user, case_row))
        numbers = [latest.how_many(_condition(name)).label(name) for name, _ in offered]
        row = session.execute(_joined(user, case_row, select(*numbers))).one()
        return [(name, words, int(count)) for (name, words), count in zip(offered, row, strict=True)]


def cells(site: Site, user: User, number: str, show: str = "all", page: int = 1, size: int = 60) -> Listing[Cell]:
    """A page of a case's cells in the order of reading; ``show`` is one of `FILTERS`, anything else is all.

    Raises
    ------
    NotFoundError : as `cervicyte.web.cases.permissions.find`
    """
    with site.database.read() as session:
        case_row = find(session, user, number)
        hidden = blinding.is_model_hidden(session, user, case_row)
        condition = _condition(show if show in dict(_offered(hidden)) else "all")
        total = session.scalar(_joined(user, case_row, select(func.count(Image.id))).where(condition)) or 0
        number_, pages = place(page, total, size)
        query = _joined(user, case_row, select(Image, PredictionRow, VerdictRow)).where(condition)
        query = query.order_by(*_order(hidden)).offset((number_ - 1) * size).limit(size)
        return Listing(tuple(_cells(session, hidden, query)), number_, pages, total)


def order(site: Site, user: User, number: str) -> list[Step]:
    """All cells of a case in the order of reading, without what is said of them. Raises as `cells`."""
    with site.database.read() as session:
        case_row = find(session, user, number)
        hidden = blinding.is_model_hidden(session, user, case_row)
        query = _joined(user, case_row, select(Image.id, Image.state, VerdictRow.verdict))
        return [
            Step(i, state, shown(v) if v else None) for i, state, v in session.execute(query.order_by(*_order(hidden)))
        ]


def next_undecided(steps: Sequence[Step], after: str = "") -> str | None:
    """The id of the next cell that has an answer of the model and no verdict: after one, else from the start.

    >>> steps = [Step("a", "done", None), Step("b", "done", "HSIL"), Step("c", "failed", None)]
    >>> next_undecided(steps, after="b"), next_undecided(steps[1:])
    ('a', None)
    """
    start = next((i + 1 for i, step in enumerate(steps) if step.image_id == after), 0)
    turned = [*steps[start:], *steps[:start]]
    return next((s.image_id for s in turned if s.state == "done" and not s.verdict and s.image_id != after), None)


def one(site: Site, user: User, number: str, image_id: str) -> Cell:
    """A cell of a case.

    Raises
    ------
    NotFoundError : no such case, or the cell is not of this case
    """
    with site.database.read() as session:
        case_row = find(session, user, number)
        query = _joined(user, case_row, select(Image, PredictionRow, VerdictRow)).where(
            Image.id == image_id[:32].replace("\x00", "")
        )
        matching = _cells(session, blinding.is_model_hidden(session, user, case_row), query)
        if not matching:
            raise NotFoundError("there is no such picture", None, "look it up in its case")
        return matching[0]


def prediction(site: Site, user: User, image_id: str) -> PredictionRow | None:
    """The newest prediction of a picture, None where there is none or this user is blinded to it.

    Raises
    ------
    NotFoundError : no such picture, or the user may not see it
    """
    with site.database.read() as session:
        image, case_row = find_image(session, user, image_id)
        return None if blinding.is_model_hidden(session, user, case_row) else latest.prediction(session, image.id)


# ---- inside


def _offered(hidden: bool) -> list[tuple[str, str]]:
    return [row for row in FILTERS if not hidden or row[0] not in _TELLING]


def _joined(user: User, case_row: Case, query: Any) -> Any:
    return (
        query.select_from(Image)
        .join(Case, Case.id == Image.case_id)
        .outerjoin(PredictionRow, latest.newest_prediction())
        .outerjoin(VerdictRow, latest.newest_verdict(user.id))
        .where(Image.case_id == case_row.id)
    )


def _condition(show: str) -> ColumnElement[bool]:
    """What is left by a filter; each is known, never null, for every row."""
    return {
        "undecided": and_(Image.state == "done", not_(latest.decided())),
        "abnormal": func.coalesce(latest.flagged(), false()),
        "uncertain": func.coalesce(latest.uncertain(), false()),
        "unsatisfactory": func.coalesce(latest.unsatisfactory(), false()),
        "waiting": Image.state == "waiting",
        "failed": Image.state == "failed",
    }.get(show, true())


def _order(hidden: bool) -> tuple[Any, ...]:
    if hidden:
        return (Image.position,)
    rank = case(
        (PredictionRow.id.is_(None), case((Image.state == "failed", 5), else_=4)),
        (latest.flagged(), 0),
        (latest.uncertain(), 1),
        (latest.unsatisfactory(), 2),
        else_=3,
    )
    return rank, func.coalesce(PredictionRow.p_abnormal, -1.0).desc(), Image.position


def _cells(session: Session, hidden: bool, query: Any) -> list[Cell]:
    return [
        _cell(image, None if hidden else prediction, review, hidden)
        for image, prediction, review in session.execute(query)
    ]


def _cell(image: Image, prediction: PredictionRow | None, review: VerdictRow | None, hidden: bool) -> Cell:
    decided = review is not None and bool(review.verdict)
    flagged = None
    if prediction is not None and prediction.p_abnormal is not None and prediction.operating_point is not None:
        flagged = prediction.p_abnormal >= prediction.operating_point
    return Cell(
        image.id,
        image.name,
        image.place,
        image.position,
        image.state,
        image.reason,
        image.width,
        image.height,
        image.size,
        image.sha256,
        image.media_type,
        image.created_at,
        label=prediction.label if prediction else "",
        bethesda=(prediction.bethesda or None) if prediction else None,
        p_abnormal=prediction.p_abnormal if prediction else None,
        flagged=flagged,
        uncertain=prediction.uncertain if prediction else False,
        quality=prediction.quality if prediction else "",
        model_sha256=prediction.model_sha256 if prediction else "",
        verdict=shown(review.verdict) if review is not None and decided else None,
        agrees=review.agrees if review is not None and decided and not hidden else None,
    )
