"""Numbers over time: cases, throughput, agreement with the model, and drift of its scores.

What too few cells would make up is None, and the page says so.
"""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from sqlalchemy import func, not_, select
from sqlalchemy.orm import Session

from cervicyte.web.accounts.users import may
from cervicyte.web.base.schema import Case, Image, PredictionRow, User, VerdictRow
from cervicyte.web.cases import blinding
from cervicyte.web.errors import DeniedError
from cervicyte.web.reading import agreement, verdicts
from cervicyte.web.reports import drift
from cervicyte.web.reports.drift import Scores

#: Periods to choose from, in days.
PERIODS = (7, 30, 90)
#: A model's first answers here are what later ones are compared with: a bundle does not keep the scores that it was
#: made with, and another laboratory's cells would say more of the laboratory than of time.
REFERENCE = 500
#: The newest answers are enough for the median time and for the recent scores.
_NEWEST = 5000


def overview(session: Session, user: User, days: int, at: datetime) -> dict[str, Any]:
    """Everything that ``dashboard.html`` shows but the links to its periods; days are those of UTC.

    Parameters
    ----------
    days : how many days, the present one the last
    at : the time

    Raises
    ------
    DeniedError : the user may not see it
    """
    if not may(user, "dashboard"):
        raise DeniedError("the dashboard is for reviewers and administrators", None, "ask one of them")
    today = at.astimezone(UTC).date()
    dates = [today - timedelta(days=days - 1 - k) for k in range(days)]
    since, midnight = (datetime.combine(d, time(), UTC) for d in (dates[0], today))
    cases_by_day, cells_by_day = _per_day(session, Case.created_at, since), _first_answers_per_day(session, since)
    blind = blinding.ids(session, user)
    decided = _decided(session, user, since, blind)
    compared = [(when, agrees, case) for when, _, agrees, case in decided if agrees is not None]
    recent, reference = _scores(session, user, since, blind)
    drifted = drift.compare(recent, reference)
    return {
        "days": days,
        "today": {
            "cases": cases_by_day[today],
            "cells": cells_by_day[today],
            "waiting": session.scalar(select(func.count()).where(Image.state == "waiting")) or 0,
            "seconds": _median_seconds(session, midnight),
        },
        "dates": dates,
        "cases_per_day": [cases_by_day[d] for d in dates],
        "cells_per_day": [cells_by_day[d] for d in dates],
        "agreement_per_day": _agreement_per_day(dates, compared),
        "agreement": agreement.share([a for _, a, _ in compared], [case for _, _, case in compared]),
        "drift": drifted,
        "score_edges": list(drift.EDGES),
        "score_reference": drift.shares(reference.p) if drifted else [],
        "score_recent": drift.shares(recent.p) if drifted else [],
        "verdicts": Counter(verdict for _, verdict, _, _ in decided).most_common(),
    }


def _per_day(session: Session, column: Any, since: datetime) -> Counter[date]:
    """Rows by day; SQLite gives a day as text."""
    day = func.date(column)
    rows = session.execute(select(day, func.count()).where(column >= since).group_by(day))
    return Counter({d if isinstance(d, date) else date.fromisoformat(d): n for d, n in rows})


def _first_answers_per_day(session: Session, since: datetime) -> Counter[date]:
    """Pictures by the day of their first answer, so that one judged again by a new model counts once."""
    first = select(func.min(PredictionRow.created_at).label("at")).group_by(PredictionRow.image_id).subquery()
    return _per_day(session, first.c.at, since)


def _median_seconds(session: Session, since: datetime) -> float | None:
    first = (
        select(PredictionRow.image_id, func.min(PredictionRow.id).label("id"))
        .group_by(PredictionRow.image_id)
        .subquery()
    )
    query = (
        select(PredictionRow.created_at, Image.created_at)
        .join(first, first.c.id == PredictionRow.id)
        .join(Image, Image.id == PredictionRow.image_id)
        .where(PredictionRow.created_at >= since)
        .order_by(PredictionRow.id.desc())
        .limit(_NEWEST)
    )
    seconds = [(answered - uploaded).total_seconds() for answered, uploaded in session.execute(query)]
    return statistics.median(seconds) if seconds else None


def _decided(
    session: Session, user: User, since: datetime, blind: Sequence[str]
) -> list[tuple[datetime, str, bool | None, str]]:
    """(when, verdict as shown, agrees, case) of each reading that stands and was given since then.

    Those of cases that the user reads blinded are left out as long as that is not complete: of few, the numbers would
    tell what they are.
    """
    newest = (
        select(func.max(VerdictRow.id))
        .where(VerdictRow.reading != "settled")
        .group_by(VerdictRow.image_id, VerdictRow.reader_id, VerdictRow.reading)
    )
    query = (
        select(VerdictRow.created_at, VerdictRow.verdict, VerdictRow.agrees, Image.case_id)
        .join(Image, Image.id == VerdictRow.image_id)
        .join(Case, Case.id == Image.case_id)
        .where(VerdictRow.id.in_(newest), VerdictRow.verdict != verdicts.WITHDRAWN, VerdictRow.created_at >= since)
        .where(not_(blinding.blinds(user, blind)))
    )
    return [(when, verdicts.shown(verdict), agrees, case) for when, verdict, agrees, case in session.execute(query)]


def _agreement_per_day(dates: Sequence[date], compared: Sequence[tuple[datetime, bool, str]]) -> list[float | None]:
    days = [when.astimezone(UTC).date() for when, _, _ in compared]
    total, right = Counter(days), Counter(d for d, (_, agrees, _) in zip(days, compared, strict=True) if agrees)
    return [right[d] / total[d] if total[d] else None for d in dates]


def _scores(session: Session, user: User, since: datetime, blind: Sequence[str]) -> tuple[Scores, Scores]:
    """P(abnormal) of the newest model: recent answers since then, and its first ones, of which no case is in both.

    Those of cases whose answers are hidden from the user are left out.
    """
    model = session.scalar(
        select(PredictionRow.model_sha256)
        .where(PredictionRow.p_abnormal.is_not(None))
        .order_by(PredictionRow.id.desc())
        .limit(1)
    )
    query = (
        select(PredictionRow.id, PredictionRow.p_abnormal, Image.case_id)
        .join(Image, Image.id == PredictionRow.image_id)
        .join(Case, Case.id == Image.case_id)
        .where(PredictionRow.model_sha256 == (model or ""), PredictionRow.p_abnormal.is_not(None))
        .where(not_(blinding.hides_model(user, blind)))
    )
    first = session.execute(query.order_by(PredictionRow.id).limit(REFERENCE)).all()
    started = {case for _, _, case in first}
    last = max((key for key, _, _ in first), default=0)
    newest = query.where(PredictionRow.id > last, PredictionRow.created_at >= since)
    rows = session.execute(newest.order_by(PredictionRow.id.desc()).limit(_NEWEST))
    recent = [(p, case) for _, p, case in rows if case not in started]
    return (
        Scores([p or 0.0 for p, _ in recent], [case for _, case in recent]),
        Scores([p or 0.0 for _, p, _ in first], [case for _, _, case in first]),
    )
