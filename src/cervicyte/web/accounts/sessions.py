"""Signing in, staying signed in, and out.

Every sign-in makes a new session with a new secret and ends the one that the browser came with, so that nobody can
plant one beforehand. The browser holds the secret, the database its SHA-256.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, select, update
from sqlalchemy.orm import Session

from cervicyte.errors import StorageError, UsageError
from cervicyte.web.accounts import one_time_codes, users
from cervicyte.web.base import credentials, mail, rate_limits
from cervicyte.web.base.database import change, remove_ended
from cervicyte.web.base.mail import normal_address
from cervicyte.web.base.schema import Code, User, UserSession
from cervicyte.web.base.site import Site
from cervicyte.web.errors import DeniedError

#: How exactly ``seen_at`` is kept; a write for every picture of a page would be too many.
_SEEN = timedelta(minutes=5)
#: How long codes are kept that are too old, for questions about who was invited when.
_KEPT = timedelta(days=30)


@dataclass(frozen=True)
class SignedIn:
    """A user who is in. ``token`` goes into the cookie and nowhere else, ``csrf`` into every form."""

    user: User
    token: str
    csrf: str


@dataclass(frozen=True)
class CodeNeeded:
    """The password was right and a second step is wanted: give ``ticket`` to `second_step` with the code."""

    ticket: str
    kind: str = "totp"


def sign_in(site: Site, email: str, password: str, address: str, previous: str = "") -> SignedIn | CodeNeeded:
    """Check address and password; the answer and its time are the same for a wrong password, no user, a disabled one.

    Parameters
    ----------
    address : network address that asks
    previous : the token that the browser sent with it, whose session ends

    Raises
    ------
    DeniedError : they are not those of a user who may come in
    TooManyRequestsError : too many have failed for this account or from this address
    """
    email = _any_address(email)
    attempt = rate_limits.take(
        site.database, rate_limits.PASSWORD_BY_ADDRESS, rate_limits.network(address), site.clock()
    )
    rate_limits.take(site.database, rate_limits.PASSWORD_BY_ACCOUNT, email, site.clock())
    with site.database.read() as session:
        user = session.scalar(select(User).where(User.email == email))
    checked = site.hasher.check(user.password_hash if user else None, password)
    if user is None or not checked.ok or not user.active:
        with site.database.write() as session:
            site.audit_log.append(session, "visitor", "sign-in.refused", email, {"address": address}, site.clock())
        raise DeniedError("the e-mail address or the password is wrong", None, "try again, or ask for a new password")
    rate_limits.forgive(site.database, [attempt])
    rate_limits.clear(site.database, rate_limits.PASSWORD_BY_ACCOUNT, email)
    with site.database.write() as session:
        user = _unchanged(session, user)
        if checked.rehash:
            user.password_hash = checked.rehash
        if user.totp_secret:
            ticket = credentials.new_token()
            sha256, at = credentials.digest(ticket), site.clock()
            one_time_codes.issue(
                session, "sign-in", sha256, at, one_time_codes.SECOND_STEP, user_id=user.id, replaces=False
            )
            return CodeNeeded(ticket)
        return _open(session, site, user, address, previous)


def second_step(site: Site, ticket: str, code: str, address: str, previous: str = "") -> SignedIn:
    """Finish a sign-in with a code of the authenticator; each code counts once.

    Raises
    ------
    DeniedError : the code is wrong or was used, or the ticket is too old or had its attempts
    TooManyRequestsError : too many codes were wrong
    """
    at = site.clock()
    attempt = rate_limits.take(site.database, rate_limits.CODE_BY_ADDRESS, rate_limits.network(address), at)
    with site.database.read() as session:
        found = session.scalar(
            select(Code).where(
                Code.purpose == "sign-in", Code.sha256 == credentials.digest(ticket), Code.used_at.is_(None)
            )
        )
        user = session.get(User, found.user_id) if found and found.user_id else None
    if found is None or user is None:
        raise _again()
    rate_limits.take(site.database, rate_limits.CODE_BY_ACCOUNT, user.email, at)
    if not one_time_codes.count_attempt(site.database, found.id, at):
        raise _again()
    step = credentials.totp_step(user.totp_secret, code, at) if user.totp_secret else None
    signed = None
    with site.database.write() as session:
        if step is not None and take_step(session, user.id, step):
            one_time_codes.use(session, found, at)
            signed = _open(session, site, _unchanged(session, user), address, previous)
        else:
            site.audit_log.append(session, "visitor", "sign-in.code refused", user.email, {"address": address}, at)
    if signed is None:
        raise DeniedError("the code is wrong or was used", None, "wait for the authenticator's next code")
    rate_limits.forgive(site.database, [attempt])
    rate_limits.clear(site.database, rate_limits.CODE_BY_ACCOUNT, user.email)
    return signed


def take_step(session: Session, user_id: str, step: int) -> bool:
    """Accept a step of a user's authenticator; False when it, or a later one, was accepted before."""
    taken = change(
        session,
        update(User)
        .where(User.id == user_id, User.totp_step.is_(None) | (User.totp_step < step))
        .values(totp_step=step)
        .execution_options(synchronize_session=False),
    )
    return taken == 1


def load(site: Site, token: str) -> SignedIn | None:
    """Who holds a cookie's token; None when it is unknown or too old, or the user was disabled."""
    if not token:
        return None
    at = site.clock()
    with site.database.read() as session:
        row = session.execute(
            select(UserSession, User)
            .join(User, User.id == UserSession.user_id)
            .where(UserSession.id == credentials.digest(token), UserSession.expires_at > at, User.active.is_(True))
        ).one_or_none()
    if row is None:
        return None
    session_row, user = row
    if at - session_row.seen_at > _SEEN:
        with contextlib.suppress(StorageError), site.database.write() as session:  # a busy database loses no page
            session.execute(update(UserSession).where(UserSession.id == session_row.id).values(seen_at=at))
    return SignedIn(user, token, session_row.csrf)


def sign_out(site: Site, token: str) -> None:
    """End a session; nothing happens where there is none."""
    with site.database.write() as session:
        row = session.get(UserSession, credentials.digest(token))
        if row is not None:
            user = session.get(User, row.user_id)
            session.delete(row)
            site.audit_log.append(session, user.email if user else "", "sign-in.ended", at=site.clock())


def of_user(site: Site, session: Session, user_id: str) -> Sequence[UserSession]:
    """A user's sessions that are open, newest first; `is_this` compares one with a token."""
    return session.scalars(
        select(UserSession)
        .where(UserSession.user_id == user_id, UserSession.expires_at > site.clock())
        .order_by(UserSession.created_at.desc())
    ).all()


def is_this(session_row: UserSession, token: str) -> bool:
    """Whether a session is the one of a token."""
    return session_row.id == credentials.digest(token)


def end_others(site: Site, user_id: str, token: str) -> None:
    """End all of a user's sessions but the one of a token."""
    with site.database.write() as session:
        user = users.hold(session, user_id)
        users.end_all(session, user_id, but=credentials.digest(token))
        site.audit_log.append(session, user.email, "sign-in.others ended", user.email, at=site.clock())


def confirm_password(site: Site, user_id: str, password: str, address: str) -> None:
    """Ask again for the password of someone who is signed in, before a signature or a change of how to sign in.

    Raises
    ------
    DeniedError : it is wrong
    TooManyRequestsError : too many were wrong
    """
    with site.database.read() as session:
        user = session.get(User, user_id)
    email = user.email if user else ""
    attempt = rate_limits.take(
        site.database, rate_limits.PASSWORD_BY_ADDRESS, rate_limits.network(address), site.clock()
    )
    rate_limits.take(site.database, rate_limits.PASSWORD_BY_ACCOUNT, email, site.clock())
    if not site.hasher.check(user.password_hash if user else None, password).ok:
        with site.database.write() as session:
            site.audit_log.append(session, email, "password.refused", email, {"address": address}, site.clock())
        raise DeniedError("the password is wrong", None, "type your present password")
    rate_limits.forgive(site.database, [attempt])
    rate_limits.clear(site.database, rate_limits.PASSWORD_BY_ACCOUNT, email)


def change_password(site: Site, user_id: str, current: str, new: str, address: str) -> SignedIn:
    """Set another password; every session ends and a new one is opened for the browser that did it.

    Raises
    ------
    DeniedError : the current password is wrong
    TooManyRequestsError : too many were wrong
    UsageError : the new password cannot be used, or is the current one
    """
    confirm_password(site, user_id, current, address)
    with site.database.read() as session:
        before = users.find(session, user_id)
    credentials.check_password(new, before.email)
    if site.hasher.check(before.password_hash, new).ok:
        raise UsageError("the new password is the present one", None, "choose another")
    password_hash = site.hasher.hash(new)
    with site.database.write() as session:
        user = _unchanged(session, before)
        users.set_password(session, user, password_hash)
        site.audit_log.append(session, user.email, "password.changed", user.email, at=site.clock())
        signed = _open(session, site, user, address, "")
    if site.mailer.available:
        site.mailer.post(mail.password_changed(user.email, site.link("reset")))
    return signed


def open_for(site: Site, user: User, address: str, previous: str = "") -> SignedIn:
    """Sign in someone who just registered or set the site up, and so proved who it is."""
    with site.database.write() as session:
        return _open(session, site, _unchanged(session, user), address, previous)


def prune(site: Site) -> int:
    """Remove sessions that ended, and codes that ended a month ago; how many rows that were."""
    at = site.clock()
    with site.database.write() as session:
        gone = remove_ended(session, UserSession.id, UserSession.expires_at <= at)
        return gone + remove_ended(session, Code.id, Code.expires_at < at - _KEPT)


def _open(session: Session, site: Site, user: User, address: str, previous: str) -> SignedIn:
    at, token, csrf = site.clock(), credentials.new_token(), credentials.new_token()
    session.execute(delete(UserSession).where(UserSession.user_id == user.id, UserSession.expires_at <= at))
    if previous:
        session.execute(delete(UserSession).where(UserSession.id == credentials.digest(previous)))
    session.add(
        UserSession(
            id=credentials.digest(token),
            user_id=user.id,
            csrf=csrf,
            created_at=at,
            seen_at=at,
            expires_at=at + timedelta(hours=site.session_hours),
        )
    )
    user.last_sign_in_at = at
    site.audit_log.append(session, user.email, "sign-in", user.email, {"address": address}, at)
    return SignedIn(user, token, csrf)


def _unchanged(session: Session, seen: User) -> User:
    """The user as the database has it now; denied where the password changed or the user was disabled meanwhile."""
    user = users.hold(session, seen.id)
    if not user.active or user.password_hash != seen.password_hash:
        raise DeniedError("the account changed meanwhile", None, "sign in again")
    return user


def _again() -> DeniedError:
    return DeniedError("the sign-in took too long or had its attempts", None, "sign in again")


def _any_address(text: str) -> str:
    """The address as it is stored; what is no address is looked for all the same, so that it takes as long."""
    try:
        return normal_address(text)
    except UsageError:
        return text.strip().lower().replace("\x00", "").encode("utf-8", "replace").decode()[:254]
