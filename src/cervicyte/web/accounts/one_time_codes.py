"""What opens one door once: links with a long token, and short codes that are typed from a mail.

Only hashes are stored. Each is used once, also when two try at the same moment: using it is one UPDATE that only the
first can make. A short code takes five attempts, and an attempt is counted, and stored, before the code is compared.
"""

from __future__ import annotations

import hmac
from datetime import datetime, timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from cervicyte.web.base import credentials
from cervicyte.web.base.database import Database, change
from cervicyte.web.base.schema import Code
from cervicyte.web.errors import DeniedError

#: How long each works.
SETUP, INVITATION, NEW_PASSWORD = timedelta(days=1), timedelta(days=7), timedelta(days=7)
TYPED, SECOND_STEP = timedelta(minutes=30), timedelta(minutes=10)
MOST_ATTEMPTS = 5


def _bad_link() -> DeniedError:
    return DeniedError("the link was used, withdrawn or is too old", None, "ask for a new one")


def bad_code() -> DeniedError:
    """What a wrong, old, used or never issued code is answered with, one like the other."""
    return DeniedError(
        "the code is wrong or too old", None, f"look at the newest mail; after {MOST_ATTEMPTS} attempts ask for another"
    )


def issue(
    session: Session,
    purpose: str,
    sha256: str,
    at: datetime,
    lasts: timedelta,
    *,
    email: str = "",
    role: str = "",
    user_id: str | None = None,
    issued_by: str = "",
    replaces: bool = True,
) -> Code:
    """Store the hash of a new link or code; with ``replaces`` earlier ones of its purpose and address are withdrawn."""
    if replaces:
        session.execute(delete(Code).where(Code.purpose == purpose, Code.email == email, Code.used_at.is_(None)))
    code = Code(
        purpose=purpose,
        email=email,
        role=role,
        user_id=user_id,
        issued_by=issued_by,
        sha256=sha256,
        created_at=at,
        expires_at=at + lasts,
        attempts=0,
    )
    session.add(code)
    session.flush()
    return code


def look_up(session: Session, purpose: str, token: str, at: datetime) -> Code:
    """The open code of a link, which stays unused: to show its page.

    Raises
    ------
    DeniedError : there is none, it was used, or it is too old
    """
    code = session.scalar(
        select(Code).where(
            Code.purpose == purpose,
            Code.sha256 == credentials.digest(token),
            Code.used_at.is_(None),
            Code.expires_at > at,
        )
    )
    if code is None:
        raise _bad_link()
    return code


def use(session: Session, code: Code, at: datetime) -> None:
    """Use a code up in the caller's transaction; when that fails the code is as good as before.

    Raises
    ------
    DeniedError : another used it first, it was withdrawn, or it has become too old
    """
    taken = change(
        session,
        update(Code)
        .where(Code.id == code.id, Code.used_at.is_(None), Code.expires_at > at)
        .values(used_at=at)
        .execution_options(synchronize_session=False),
    )
    if taken != 1:
        raise _bad_link()


def count_attempt(database: Database, code_id: str, at: datetime) -> bool:
    """Count one attempt at a code, at once and for good; False when it had its last one, was used or is too old."""
    with database.write() as session:
        counted = change(
            session,
            update(Code)
            .where(Code.id == code_id, Code.attempts < MOST_ATTEMPTS, Code.used_at.is_(None), Code.expires_at > at)
            .values(attempts=Code.attempts + 1)
            .execution_options(synchronize_session=False),
        )
    return counted == 1


def check_typed(database: Database, purpose: str, email: str, typed: str, at: datetime) -> Code:
    """The newest code of a purpose and address, when it is the one that was typed; `use` it next.

    Raises
    ------
    DeniedError : it is wrong, too old, used, had its attempts, or there never was one
    """
    with database.read() as session:
        code = session.scalar(
            select(Code)
            .where(Code.purpose == purpose, Code.email == email, Code.used_at.is_(None), Code.expires_at > at)
            .order_by(Code.created_at.desc())
            .limit(1)
        )
    sha256 = credentials.code_digest(purpose, email, typed)
    if code is None or not count_attempt(database, code.id, at) or not hmac.compare_digest(code.sha256, sha256):
        raise bad_code()
    return code
