"""The second step of a sign-in: codes of an authenticator (TOTP, RFC 6238)."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import update

from cervicyte.errors import UsageError
from cervicyte.web.accounts import sessions, users
from cervicyte.web.base import credentials, rate_limits
from cervicyte.web.base.database import change
from cervicyte.web.base.schema import User
from cervicyte.web.base.site import Site
from cervicyte.web.errors import DeniedError


@dataclass(frozen=True)
class Enrolment:
    """What an authenticator takes in: the secret as text, or the link as a code to scan."""

    secret: str
    link: str


def start(site: Site, user_id: str) -> Enrolment:
    """A new secret, which counts once `confirm` has seen a code of it.

    Raises
    ------
    UsageError : there is an authenticator already
    """
    secret = credentials.new_totp_secret()
    with site.database.write() as session:
        user = users.hold(session, user_id)
        if user.totp_secret:
            raise UsageError("there is an authenticator already", user.email, "remove it first")
        user.totp_pending = secret
    return Enrolment(secret, credentials.totp_link(secret, user.email))


def pending(site: Site, user_id: str) -> Enrolment | None:
    """The secret that waits to be confirmed, to show its page again."""
    with site.database.read() as session:
        user = users.find(session, user_id)
    return (
        Enrolment(user.totp_pending, credentials.totp_link(user.totp_pending, user.email))
        if user.totp_pending
        else None
    )


def confirm(site: Site, user_id: str, code: str, token: str) -> None:
    """Turn the second step on; every session ends but the one of ``token``.

    Raises
    ------
    DeniedError : the code is wrong
    TooManyRequestsError : too many were wrong
    """
    with site.database.read() as session:
        user = users.find(session, user_id)
    rate_limits.take(site.database, rate_limits.CODE_BY_ACCOUNT, user.email, site.clock())
    secret = user.totp_pending
    step = credentials.totp_step(secret, code, site.clock()) if secret else None
    if step is None:
        raise DeniedError("the code is wrong", None, "type the six digits that the authenticator shows now")
    with site.database.write() as session:
        taken = change(
            session,
            update(User)
            .where(User.id == user_id, User.totp_pending == secret)
            .values(totp_secret=secret, totp_pending="", totp_step=step)
            .execution_options(synchronize_session=False),
        )
        if taken != 1:
            raise DeniedError("the secret was replaced meanwhile", None, "start again")
        users.end_all(session, user_id, but=credentials.digest(token))
        site.audit_log.append(session, user.email, "authenticator.on", user.email, at=site.clock())
    rate_limits.clear(site.database, rate_limits.CODE_BY_ACCOUNT, user.email)


def remove(site: Site, user_id: str, password: str, address: str, token: str) -> None:
    """Turn the second step off, for someone who knows the password; every session ends but the one of ``token``.

    Raises
    ------
    DeniedError : the password is wrong
    TooManyRequestsError : too many were wrong
    """
    sessions.confirm_password(site, user_id, password, address)
    with site.database.write() as session:
        user = users.hold(session, user_id)
        user.totp_secret = user.totp_pending = ""
        users.end_all(session, user_id, but=credentials.digest(token))
        site.audit_log.append(session, user.email, "authenticator.off", user.email, at=site.clock())
