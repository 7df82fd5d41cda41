"""Reading the audit log: who did what, found by words, people, actions, days. `audit_log` alone writes and checks it.

What was decided in a case is not told to an administrator who reads it blinded, nor found by its words.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import ColumnElement, Text, and_, cast, func, not_, or_, select
from sqlalchemy.orm import Session

from cervicyte.web.base.schema import AuditRow

#: How the names of actions begin that concern verdicts.
_VERDICTS = "review."


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Which rows: words in subject or detail, and who, what and when; what is empty asks for nothing.

    ``untold`` are numbers of cases of whose verdicts no detail is told.
    """

    q: str = ""
    actor: str = ""
    action: str = ""
    since: datetime | None = None
    until: datetime | None = None
    untold: tuple[str, ...] = ()


def count(session: Session, wanted: Wanted) -> int:
    """How many rows fit."""
    return session.scalar(select(func.count()).select_from(AuditRow).where(*_fits(wanted))) or 0


def rows(session: Session, wanted: Wanted, start: int, most: int) -> Sequence[AuditRow]:
    """Rows that fit, newest first."""
    query = select(AuditRow).where(*_fits(wanted)).order_by(AuditRow.id.desc()).offset(start).limit(most)
    return session.scalars(query).all()


def actors(session: Session) -> Sequence[str]:
    """All who did something, by name."""
    return session.scalars(select(AuditRow.actor).distinct().order_by(AuditRow.actor)).all()


def actions(session: Session) -> Sequence[str]:
    """All that was done, by name."""
    return session.scalars(select(AuditRow.action).distinct().order_by(AuditRow.action)).all()


def detail(row: AuditRow, wanted: Wanted) -> str:
    """A row's detail as text: ``role: reader, by: invitation``."""
    if row.action.startswith(_VERDICTS) and row.subject in wanted.untold:
        return "blinded until the reading is complete"
    return ", ".join(f"{key}: {_text(value)}" for key, value in row.detail.items())


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _fits(wanted: Wanted) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if wanted.q:
        words = wanted.q.lower()
        untold = and_(AuditRow.action.startswith(_VERDICTS), AuditRow.subject.in_(wanted.untold))
        in_detail = func.lower(cast(AuditRow.detail, Text)).contains(words, autoescape=True)
        in_subject = func.lower(AuditRow.subject).contains(words, autoescape=True)
        conditions.append(or_(in_subject, and_(in_detail, not_(untold))))
    if wanted.actor:
        conditions.append(AuditRow.actor == wanted.actor)
    if wanted.action:
        conditions.append(AuditRow.action == wanted.action)
    if wanted.since is not None:
        conditions.append(AuditRow.at >= wanted.since)
    if wanted.until is not None:
        conditions.append(AuditRow.at < wanted.until)
    return conditions
