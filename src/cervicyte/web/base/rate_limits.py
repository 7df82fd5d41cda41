"""How often something may be tried within a window of time, kept in the database and so the same for all processes."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import Session

from cervicyte.web.base.database import Database, lock, remove_ended
from cervicyte.web.base.schema import Attempt
from cervicyte.web.errors import TooManyRequestsError


@dataclass(frozen=True)
class Limit:
    """At most ``most`` within ``window`` for one subject; ``what`` is said when there are more."""

    kind: str
    most: int
    window: timedelta
    what: str


_SIGN_IN = "too many sign-ins that failed"
_CODES = "too many codes that were wrong"
#: By account, so that no password is tried out from many addresses; by address, so that nobody tries many accounts.
PASSWORD_BY_ACCOUNT = Limit("password by account", 10, timedelta(minutes=15), _SIGN_IN)
PASSWORD_BY_ADDRESS = Limit("password by address", 50, timedelta(minutes=15), _SIGN_IN)
CODE_BY_ACCOUNT = Limit("code by account", 10, timedelta(minutes=15), _CODES)
CODE_BY_ADDRESS = Limit("code by address", 50, timedelta(minutes=15), _CODES)
MAIL_BY_ACCOUNT = Limit("mail by account", 5, timedelta(hours=1), "too many mails were asked for")
MAIL_BY_ADDRESS = Limit("mail by address", 20, timedelta(hours=1), "too many mails were asked for")
UPLOAD_BY_USER = Limit("upload by user", 2000, timedelta(minutes=10), "too many uploads")
LIMITS = (
    PASSWORD_BY_ACCOUNT,
    PASSWORD_BY_ADDRESS,
    CODE_BY_ACCOUNT,
    CODE_BY_ADDRESS,
    MAIL_BY_ACCOUNT,
    MAIL_BY_ADDRESS,
    UPLOAD_BY_USER,
)


def take(database: Database, limit: Limit, subject: str, at: datetime) -> int:
    """Count one attempt, stored at once whatever becomes of it, and return its number, by which to `forgive` it.

    The one too many is refused and not counted.

    Raises
    ------
    TooManyRequestsError : there were as many as the limit allows
    StorageError : the database is busy or full
    """
    subject = _stored(subject)
    with database.write() as session:
        conditions = _held(session, limit, subject)
        session.execute(delete(Attempt).where(*conditions, Attempt.at <= at - limit.window))
        count, oldest = session.execute(select(func.count(), func.min(Attempt.at)).where(*conditions)).one()
        attempt = Attempt(kind=limit.kind, subject=subject, at=at)
        if count < limit.most:
            session.add(attempt)
    if count >= limit.most:
        raise TooManyRequestsError(limit.what, max(1, int((oldest + limit.window - at).total_seconds()) + 1))
    return attempt.id


def forgive(database: Database, attempts: Iterable[int]) -> None:
    """Take back attempts that were right, so that a laboratory behind one address is not taken for an attacker."""
    with database.write() as session:
        session.execute(delete(Attempt).where(Attempt.id.in_(list(attempts))))


def clear(database: Database, limit: Limit, subject: str) -> None:
    """Forget a subject's attempts, because one of them was right."""
    with database.write() as session:
        session.execute(delete(Attempt).where(*_held(session, limit, _stored(subject))))


def prune(database: Database, at: datetime) -> int:
    """Remove what no limit counts any more, network addresses among it; how many rows that were."""
    with database.write() as session:
        oldest = at - max(limit.window for limit in LIMITS)
        return remove_ended(session, Attempt.id, Attempt.at < oldest)


def network(address: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 network that one subscriber of IPv6 has.

    >>> network("2001:db8:1:2:3:4:5:6"), network("::ffff:192.0.2.7")
    ('2001:db8:1:2::/64', '192.0.2.7')
    """
    try:
        parsed = ipaddress.ip_address(address.strip().split("%")[0])
    except ValueError:
        return "unknown"
    if isinstance(parsed, ipaddress.IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)


def _stored(subject: str) -> str:
    return subject.replace("\x00", "")[:254]


def _held(session: Session, limit: Limit, subject: str) -> tuple[ColumnElement[bool], ...]:
    """The conditions on a subject's attempts, which nobody else counts or forgets before the transaction's end."""
    lock(session, f"{limit.kind} {subject}")
    return Attempt.kind == limit.kind, Attempt.subject == subject
