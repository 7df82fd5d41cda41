"""Users, their roles, and who may do what.

A reader sees the own cases and those where he or she is the second reader; a reviewer sees all, reads second and
signs; an administrator sees all and looks after users, the audit log, retention and backups.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from typing import Protocol

from sqlalchemy import delete, func, select, update
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import Session

from cervicyte.errors import UsageError
from cervicyte.web.base.database import lock
from cervicyte.web.base.mail import normal_address
from cervicyte.web.base.schema import ROLES, Code, User, UserSession
from cervicyte.web.base.site import Site

__all__ = ["ROLES", "may"]


class CaseLike(Protocol):
    """What `may` asks of a case."""

    @property
    def owner_id(self) -> str: ...
    @property
    def second_reader_id(self) -> str | None: ...
    @property
    def state(self) -> str: ...


#: What concerns no single case, and the roles that may.
_ANYWHERE = {
    "new": frozenset(ROLES),
    "dashboard": frozenset(("reviewer", "administrator")),
    "see_all": frozenset(("reviewer", "administrator")),
    "administer": frozenset(("administrator",)),
}
#: What concerns a case, and who may: roles, and the words owner and second for the person's part in this case.
_IN_A_CASE = {
    "see": frozenset(("owner", "second", "reviewer", "administrator")),
    "upload": frozenset(("owner",)),
    "edit": frozenset(("owner", "reviewer")),
    "decide": frozenset(("owner", "reviewer")),
    "second": frozenset(("second", "reviewer")),
    "settle": frozenset(("reviewer",)),
    "assign": frozenset(("owner", "reviewer")),
    "report": frozenset(("owner", "second", "reviewer", "administrator")),
    "sign": frozenset(("reviewer",)),
    "export": frozenset(("owner", "reviewer", "administrator")),
    "delete": frozenset(("owner", "administrator")),
}
#: What a signed case still allows.
_WHEN_SIGNED = frozenset(("see", "report", "sign", "export", "delete"))
ACTIONS = (*_ANYWHERE, *_IN_A_CASE)


def may(user: User | None, action: str, case: CaseLike | None = None) -> bool:
    """Whether a user may do something; the one place that knows. A case that may not be seen does not exist.

    A second reading is by another than the owner, and who reads second does not say who does, nor how. A signed case
    is changed by amending its report (``sign``), and deleted by an administrator alone.

    Raises
    ------
    KeyError : there is no such action, or it needs a case and has none (a bug)
    """
    if case is None:
        allowed = _ANYWHERE[action]
        return user is not None and user.active and user.role in allowed
    allowed = _IN_A_CASE[action]
    if user is None or not user.active or (case.state == "signed" and action not in _WHEN_SIGNED):
        return False
    parts = {user.role}
    if case.owner_id == user.id:
        parts.add("owner")
        if action == "second":
            return False
    if case.second_reader_id == user.id:
        parts.add("second")
        if action == "assign":
            return False
    if action == "delete" and case.state == "signed":
        parts.discard("owner")
    return bool(parts & allowed)


def create(session: Session, site: Site, email: str, name: str, role: str, password_hash: str) -> User:
    """Make a user in the caller's transaction.

    Raises
    ------
    UsageError : the address or role is none, or the address has an account
    """
    email = normal_address(email)
    user = User(
        email=email,
        name=clean_name(name) or email.split("@")[0][:100],
        role=check_role(role),
        password_hash=password_hash,
        created_at=site.clock(),
        active=True,
    )
    session.add(user)
    try:
        session.flush()
    except IntegrityError as error:
        raise UsageError("this address has an account already", email, "reset its password instead") from error
    return user


def check_role(role: str) -> str:
    """The role; raises UsageError where there is no such role."""
    if role not in ROLES:
        raise UsageError("no such role", repr(role), f"use one of: {', '.join(ROLES)}")
    return role


def clean_name(text: str) -> str:
    """A person's name on one line, at most 100 characters, without what is invisible or turns the writing around."""
    characters = (" " if c.isspace() else c for c in unicodedata.normalize("NFC", text[:1000]))
    return " ".join("".join(c for c in characters if c == " " or c.isprintable()).split())[:100].strip()


def find(session: Session, email_or_id: str) -> User:
    """A user by id or address.

    Raises
    ------
    UsageError : there is none
    """
    user = session.get(User, email_or_id[:32].replace("\x00", ""))
    if user is None and "@" in email_or_id:
        user = session.scalar(select(User).where(User.email == normal_address(email_or_id)))
    if user is None:
        raise UsageError("no such user", repr(email_or_id[:100]), "see `cervicyte users list`")
    return user


def hold(session: Session, email_or_id: str) -> User:
    """The same for a change: the user stays as it is found until the transaction's end. Raises what `find` raises.

    What refers to the user can be added meanwhile. Hold the user before anything of the user's is changed.
    """
    user = find(session, email_or_id)
    session.refresh(user, with_for_update={"key_share": True})
    return user


def anybody(session: Session) -> bool:
    """Whether there is any user yet."""
    return session.scalar(select(User.id).limit(1)) is not None


def everyone(session: Session, words: str = "") -> Sequence[User]:
    """All users by address; with ``words`` those whose name or address holds them."""
    query = select(User).order_by(User.email)
    if words.strip():
        part = words.strip().lower()
        query = query.where(
            func.lower(User.name).contains(part, autoescape=True) | User.email.contains(part, autoescape=True)
        )
    return session.scalars(query).all()


def is_last_administrator(session: Session, user: User) -> bool:
    """True where nobody else could look after the users: no other administrator is active and has a password."""
    if user.role != "administrator" or not user.active:
        return False
    others = select(func.count()).where(
        User.role == "administrator", User.active.is_(True), User.password_hash != "", User.id != user.id
    )
    return not session.scalar(others)


def change(site: Site, actor: str, user_id: str, *, role: str | None = None, active: bool | None = None) -> User:
    """Change a user's role, or disable or enable the user; who is disabled is signed out everywhere at once.

    Raises
    ------
    UsageError : no such user or role, or nobody would be left to administer
    """
    with site.database.write() as session:
        lock(session, "administrators")
        user = hold(session, user_id)
        before = (user.role, user.active)
        after = (user.role if role is None else check_role(role), user.active if active is None else active)
        if after == before:
            return user
        if after != ("administrator", True) and is_last_administrator(session, user):
            raise UsageError(
                "the last administrator must stay one", user.email, "make another user an administrator first"
            )
        user.role, user.active = after
        if not user.active:
            end_all(session, user.id)
        if after[0] != before[0]:
            detail = {"from": before[0], "to": after[0]}
            site.audit_log.append(session, actor, "user.role", user.email, detail, site.clock())
        if after[1] != before[1]:
            done = "user.enabled" if user.active else "user.disabled"
            site.audit_log.append(session, actor, done, user.email, at=site.clock())
        return user


def rename(site: Site, user_id: str, name: str) -> User:
    """Give a user another name.

    Raises
    ------
    UsageError : the name is empty
    """
    name = clean_name(name)
    if not name:
        raise UsageError("the name is empty", None, "write the name that reports should show")
    with site.database.write() as session:
        user = find(session, user_id)
        detail = {"from": user.name, "to": name}
        user.name = name
        site.audit_log.append(session, user.email, "user.renamed", user.email, detail, site.clock())
        return user


def end_all(session: Session, user_id: str, but: str = "") -> None:
    """End a user's sign-ins, all ``but`` one, and withdraw what a half-done sign-in or reset has in hand."""
    session.execute(delete(UserSession).where(UserSession.user_id == user_id, UserSession.id != but))
    session.execute(
        delete(Code).where(Code.user_id == user_id, Code.purpose.in_(("sign-in", "reset")), Code.used_at.is_(None))
    )


def set_password(session: Session, user: User, password_hash: str) -> None:
    """Store a new password's hash and end every sign-in."""
    session.execute(update(User).where(User.id == user.id).values(password_hash=password_hash))
    end_all(session, user.id)
