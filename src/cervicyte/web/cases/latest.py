"""What counts where rows are only added: of predictions the newest, and of one reader's verdicts the newest.

They are parts of queries, so that a list of cases or cells is one query on SQLite and PostgreSQL alike.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, and_, case, func, select
from sqlalchemy.orm import Session, aliased

from cervicyte.bundle.predictions import UNSATISFACTORY
from cervicyte.web.base.schema import Case, Image, PredictionRow, VerdictRow


def newest_prediction() -> ColumnElement[bool]:
    """Joins each `Image` to its newest `PredictionRow`, if there is one."""
    other = aliased(PredictionRow)
    newest = select(func.max(other.id)).where(other.image_id == Image.id).correlate(Image).scalar_subquery()
    return PredictionRow.id == newest


def prediction(session: Session, image_id: str) -> PredictionRow | None:
    """The newest prediction of a picture; None where there is none."""
    predictions = select(PredictionRow).where(PredictionRow.image_id == image_id)
    return session.scalar(predictions.order_by(PredictionRow.id.desc()).limit(1))


def newest_verdict(user_id: str) -> ColumnElement[bool]:
    """Joins each `Image`, in a query that has its `Case`, to a user's newest `VerdictRow` of the user's own reading.

    That of an assigned second reader is the second, everybody else's the first. A verdict that was taken back is a
    newer row without a verdict; ask for `decided`.
    """
    other = aliased(VerdictRow)
    reading = case((Case.second_reader_id == user_id, "second"), else_="first")
    newest = (
        select(func.max(other.id))
        .where(of_reader(other, Image.id, user_id), other.reading == reading)
        .correlate(Image, Case)
        .scalar_subquery()
    )
    return VerdictRow.id == newest


def verdict(image: Any, case: Any, reader_id: Any, reading: str) -> ColumnElement[str]:
    """A reader's verdict that stands, else empty, in a query of `Image` and `Case` or aliases of them."""
    review = aliased(VerdictRow)
    last = (
        select(review.verdict)
        .where(of_reader(review, image.id, reader_id), review.reading == reading)
        .order_by(review.id.desc())
        .limit(1)
        .correlate(image, case)
        .scalar_subquery()
    )
    return func.coalesce(last, "")


def of_reader(review: Any, image_id: Any, reader_id: Any) -> ColumnElement[bool]:
    """A review, or an alias of it, is a reader's of a picture.

    Written so that the picture's few reviews are looked up, not the reader's many: SQLite cannot tell which are fewer.
    """
    return and_(review.image_id == image_id, func.coalesce(review.reader_id, "") == reader_id)


def decided() -> ColumnElement[bool]:
    """The joined review has a verdict; false, never unknown, where there is no review."""
    return func.coalesce(VerdictRow.verdict, "") != ""


def flagged() -> ColumnElement[bool]:
    """The joined prediction is at or above its operating point; unknown where either is not defined."""
    return PredictionRow.p_abnormal >= PredictionRow.operating_point


def unsatisfactory() -> ColumnElement[bool]:
    """The model refused the picture."""
    return PredictionRow.label == UNSATISFACTORY


def uncertain() -> ColumnElement[bool]:
    """The model saw a cell and does not answer."""
    return and_(PredictionRow.uncertain.is_(True), PredictionRow.label != UNSATISFACTORY)


def how_many(condition: ColumnElement[bool]) -> Any:
    """The number of rows for which a condition holds, in a query that counts."""
    return func.coalesce(func.sum(case((condition, 1), else_=0)), 0)
