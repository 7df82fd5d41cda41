"""Retention by policy, and what is tidied every day; `operations.backup` makes backups and restores them."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import func, select, text
from sqlalchemy.orm import Session

from cervicyte import settings
from cervicyte.web.accounts import sessions
from cervicyte.web.accounts.users import may
from cervicyte.web.base import rate_limits
from cervicyte.web.base.schema import Case, Image, Report, RetentionPolicy, User
from cervicyte.web.base.site import Site
from cervicyte.web.cases import deletion
from cervicyte.web.errors import DeniedError, InvalidFieldError
from cervicyte.web.operations import backup

#: Most days that a case can be kept by policy: a hundred years.
MOST_DAYS = 36500


@dataclass(frozen=True)
class Storage:
    """Bytes that are taken and free."""

    database: int
    images: int
    free: int


@dataclass(frozen=True)
class Tidied:
    """What was removed: signed cases by policy, rows that no longer count, files without a row or half-written."""

    cases: int
    rows: int
    files: int


def retention_days(session: Session) -> int:
    """Days that a signed case is kept after its last signature; 0 keeps all.

    It is what an administrator set last, else CERVICYTE_RETENTION_DAYS.
    """
    days = session.scalar(select(RetentionPolicy.days))
    return settings.get_int("retention_days") if days is None else days


def set_retention(site: Site, user: User, days: int) -> None:
    """Set how many days signed cases are kept; nothing is deleted yet.

    Raises
    ------
    DeniedError : the user is no administrator
    InvalidFieldError : fewer than 0 or more than `MOST_DAYS`
    """
    if not may(user, "administer"):
        raise DeniedError("retention is for administrators", None, "ask one of them")
    if not 0 <= days <= MOST_DAYS:
        raise InvalidFieldError("days", f"the days must be 0 to {MOST_DAYS}", days, "0 keeps all")
    with site.database.write() as session:
        policy = session.scalars(select(RetentionPolicy).with_for_update()).one()
        before = retention_days(session)
        if days != before:
            policy.days = days
            detail = {"days": days, "before": before}
            site.audit_log.append(session, user.email, "retention.set", "", detail, site.clock())


def due(session: Session, at: datetime, days: int) -> list[str]:
    """Ids of the signed cases whose last signature is older than so many days, the oldest first; none for 0 days.

    A case that is open, or was opened again, is never due: its work is not done.
    """
    if days <= 0:
        return []
    last = func.max(Report.signed_at)
    query = (
        select(Case.id)
        .join(Report, Report.case_id == Case.id)
        .where(Case.state == "signed")
        .group_by(Case.id)
        .having(last < at - timedelta(days=days))
        .order_by(last, Case.id)
    )
    return list(session.scalars(query))


def apply_retention(site: Site, actor: str) -> int:
    """Delete the cases that are due, with their pictures, verdicts and reports, for good; how many they were.

    The audit log keeps which they were and why.
    """
    at = site.clock()
    with site.database.read() as session:
        days = retention_days(session)
        case_ids = due(session, at, days)
    if not case_ids:
        return 0
    with site.database.write() as session:
        detail = {"days": days, "cases": len(case_ids)}
        site.audit_log.append(session, actor, "retention.applied", "", detail, at)
    # One that is opened again or amended meanwhile stays.
    return deletion.erase(site, actor, case_ids, lambda session, case: case.id in due(session, at, days))


def tidy(site: Site) -> Tidied:
    """What is to be done every day: retention, sessions and attempts that ended, files that a kill left behind."""
    cases = apply_retention(site, "system")
    rows = sessions.prune(site) + rate_limits.prune(site.database, site.clock())
    return Tidied(cases, rows, site.image_store.sweep() + deletion.drop_orphans(site))


def storage(site: Site) -> Storage:
    """How much the database and the pictures take, and what is free where they lie."""
    with site.database.read() as session:
        stored = select(func.min(Image.size).label("size")).group_by(Image.sha256).subquery()
        images = session.scalar(select(func.coalesce(func.sum(stored.c.size), 0))) or 0
        if site.database.is_sqlite:
            file = Path(site.database.url.database or "")
            parts = (file, file.with_name(f"{file.name}-wal"))
            database = sum(part.stat().st_size for part in parts if part.exists())
        else:
            database = session.scalar(text("SELECT pg_database_size(current_database())")) or 0
    return Storage(int(database), int(images), shutil.disk_usage(site.data_dir).free)


def overview(site: Site) -> Mapping[str, Any]:
    """What ``admin_upkeep.html`` shows of retention, backups and storage."""
    with site.database.read() as session:
        days = retention_days(session)
        count = len(due(session, site.clock(), days))
    return {"retention_days": days, "due": count, "backups": backup.listing(site), "storage": storage(site)}
