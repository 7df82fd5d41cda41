"""Keys of the API: made by a user, shown once, kept as hashes, with an end, and revoked at any time."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import bindparam, func, select, update
from sqlalchemy.orm import Session

from cervicyte.errors import StorageError, UsageError
from cervicyte.web.accounts import users
from cervicyte.web.base import credentials
from cervicyte.web.base.schema import Token, User
from cervicyte.web.base.site import Site

#: How a token begins, so that people and scanners know what they found.
PREFIX = "cervicyte_"
LONGEST_DAYS = 366
MOST = 50
_USED = timedelta(minutes=5)
_USER = User.__table__.c
# Asked with every request of a program: built once, and without a session, it takes a quarter of the time.
_WHOSE = (
    select(Token.id, Token.used_at, *_USER)
    .join_from(Token.__table__, User.__table__)
    .where(
        Token.sha256 == bindparam("sha256"),
        Token.revoked_at.is_(None),
        Token.expires_at.is_(None) | (Token.expires_at > bindparam("at")),
        _USER.active.is_(True),
    )
)


@dataclass(frozen=True)
class NewToken:
    """A token as it is shown once."""

    id: str
    text: str


def make(site: Site, user_id: str, name: str, days: int = 90) -> NewToken:
    """Make a token that works for so many days. Ask for the password first (`sessions.confirm_password`).

    Raises
    ------
    UsageError : no name, a time that is too long, or too many tokens
    """
    name = users.clean_name(name)
    if not name:
        raise UsageError("the token has no name", None, "name it after what will use it")
    if not 1 <= days <= LONGEST_DAYS:
        raise UsageError("a token works for 1 to 366 days", days, "make another one when it ends")
    text, at = credentials.new_token(PREFIX), site.clock()
    with site.database.write() as session:
        user = users.hold(session, user_id)
        if not user.active:
            raise UsageError("the user is disabled", user.email, "enable it first")
        tokens = select(func.count()).where(Token.user_id == user_id, Token.revoked_at.is_(None), Token.expires_at > at)
        if (session.scalar(tokens) or 0) >= MOST:
            raise UsageError("too many tokens", MOST, "revoke those that are not used")
        row = Token(
            user_id=user_id,
            name=name,
            sha256=credentials.digest(text),
            created_at=at,
            expires_at=at + timedelta(days=days),
        )
        session.add(row)
        session.flush()
        site.audit_log.append(session, user.email, "token.made", user.email, {"name": name, "days": days}, at)
    return NewToken(row.id, text)


def load(site: Site, text: str) -> User | None:
    """Whose token it is; None when it is unknown, revoked or too old, or the user was disabled."""
    if not text.startswith(PREFIX):
        return None
    at = site.clock()
    row = site.database.row(_WHOSE, {"sha256": credentials.digest(text), "at": at})
    if row is None:
        return None
    token_id, used_at, *columns = row
    if used_at is None or at - used_at > _USED:
        with contextlib.suppress(StorageError), site.database.write() as session:  # a busy database loses no request
            session.execute(update(Token).where(Token.id == token_id).values(used_at=at))
    return User(**dict(zip(_USER.keys(), columns, strict=True)))


def of_user(session: Session, user_id: str) -> Sequence[Token]:
    """A user's tokens that were not revoked, newest first; those that ended are among them."""
    return session.scalars(
        select(Token).where(Token.user_id == user_id, Token.revoked_at.is_(None)).order_by(Token.created_at.desc())
    ).all()


def revoke(site: Site, user_id: str, token_id: str) -> None:
    """Revoke one of a user's own tokens.

    Raises
    ------
    UsageError : the user has no such token
    """
    with site.database.write() as session:
        token = session.get(Token, token_id[:32].replace("\x00", ""))
        if token is None or token.user_id != user_id or token.revoked_at is not None:
            raise UsageError("no such token", repr(token_id[:40]), "see the list of your tokens")
        user = users.find(session, user_id)
        token.revoked_at = site.clock()
        site.audit_log.append(session, user.email, "token.revoked", user.email, {"name": token.name}, site.clock())
