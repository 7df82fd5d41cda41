"""The ways to an account and back to it: the set-up link, accounts made by an administrator, invitations,
registration by an e-mailed code, and a new password for one that was forgotten.

What a stranger is told, and how long it takes, is the same whether or not an address has an account.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from sqlalchemy import delete, func, select, update
from sqlalchemy.orm import Session

from cervicyte.errors import UsageError
from cervicyte.web.accounts import one_time_codes, users
from cervicyte.web.base import credentials, mail, rate_limits
from cervicyte.web.base.database import lock
from cervicyte.web.base.mail import normal_address
from cervicyte.web.base.schema import Code, Token, User
from cervicyte.web.base.site import Site
from cervicyte.web.errors import DeniedError, MailError


@dataclass(frozen=True)
class Handed:
    """A link for somebody: mailed, or to be handed over by the administrator who sees it.

    ``problem`` says why it was not mailed, and is empty where it was.
    """

    email: str
    link: str
    mailed: bool
    problem: str = ""


def setup_link(site: Site) -> str | None:
    """On the first start, a new link that makes the first administrator; None once there is any user."""
    token = credentials.new_token()
    with site.database.write() as session:
        if session.scalar(select(func.count()).select_from(User)):
            return None
        # Of two servers that start at once both links work; the first that is used ends the other.
        one_time_codes.issue(
            session, "setup", credentials.digest(token), site.clock(), one_time_codes.SETUP, replaces=False
        )
    return site.link("set-up", token)


def set_up(site: Site, token: str, email: str, name: str, password: str) -> User:
    """Make the first administrator.

    Raises
    ------
    DeniedError : the link was used or is too old, or there is a user already
    UsageError : the address or the password cannot be used
    """
    check_link(site, "setup", token)
    email = normal_address(email)
    password_hash = _new_hash(site, password, email)
    with site.database.write() as session:
        lock(session, "administrators")
        code = one_time_codes.look_up(session, "setup", token, site.clock())
        if session.scalar(select(func.count()).select_from(User)):
            raise DeniedError(
                "cervicyte has been set up already", None, "sign in, or ask an administrator for an account"
            )
        one_time_codes.use(session, code, site.clock())
        session.execute(delete(Code).where(Code.purpose == "setup", Code.used_at.is_(None)))
        user = users.create(session, site, email, name, "administrator", password_hash)
        site.audit_log.append(session, user.email, "user.set-up", user.email, {"role": user.role}, site.clock())
    return user


def add_user(site: Site, actor: str, email: str, name: str, role: str) -> Handed:
    """Make an account, however registration is set; its owner chooses the password by the link.

    Raises
    ------
    UsageError : the address or role is none, or the address has an account
    """
    token = credentials.new_token()
    with site.database.write() as session:
        user = users.create(session, site, email, name, role, "")
        _issue_reset(session, site, user, token, actor)
        site.audit_log.append(session, actor, "user.added", user.email, {"role": role}, site.clock())
    return _hand_over(site, user.email, site.link("reset", token))


def reset_for(site: Site, actor: str, email_or_id: str) -> Handed:
    """Let a user in again who lost password or authenticator: signed out, both removed, a link for a new password.

    Raises
    ------
    UsageError : there is no such user, or it is disabled
    """
    token = credentials.new_token()
    with site.database.write() as session:
        user = users.hold(session, email_or_id)
        if not user.active:
            raise UsageError("the user is disabled", user.email, "enable it first")
        # The old password stays until the new one is set: else a lost mail would leave no administrator.
        users.end_all(session, user.id)
        user.totp_secret = user.totp_pending = ""
        _issue_reset(session, site, user, token, actor)
        site.audit_log.append(session, actor, "user.reset", user.email, at=site.clock())
    return _hand_over(site, user.email, site.link("reset", token))


def invite(site: Site, actor: str, email: str, role: str) -> Handed:
    """Invite someone to register; earlier invitations to the address are withdrawn.

    Raises
    ------
    DeniedError : registration is closed
    UsageError : the address or role is none, or the address has an account
    """
    if site.registration == "closed":
        raise DeniedError("registration is closed", None, "make the account yourself, or set CERVICYTE_REGISTRATION")
    email, role, token = normal_address(email), users.check_role(role), credentials.new_token()
    with site.database.write() as session:
        if session.scalar(select(User.id).where(User.email == email)) is not None:
            raise UsageError("this address has an account already", email, "reset its password instead")
        sha256 = credentials.digest(token)
        one_time_codes.issue(
            session,
            "invitation",
            sha256,
            site.clock(),
            one_time_codes.INVITATION,
            email=email,
            role=role,
            issued_by=actor,
        )
        site.audit_log.append(session, actor, "user.invited", email, {"role": role}, site.clock())
    return _hand_over(site, email, site.link("invitation", token))


def invitations(site: Site, session: Session) -> Sequence[Code]:
    """Those that can still be accepted, oldest first."""
    return session.scalars(
        select(Code)
        .where(Code.purpose == "invitation", Code.used_at.is_(None), Code.expires_at > site.clock())
        .order_by(Code.created_at)
    ).all()


def withdraw(site: Site, actor: str, invitation_id: str) -> None:
    """Withdraw an invitation; its link works no more.

    Raises
    ------
    UsageError : it was accepted or withdrawn, or never made
    """
    with site.database.write() as session:
        code = session.get(Code, invitation_id[:32].replace("\x00", ""))
        if code is None or code.purpose != "invitation" or code.used_at is not None:
            raise UsageError("no such invitation", repr(invitation_id[:40]), "it may have been accepted")
        email = code.email
        session.delete(code)
        site.audit_log.append(session, actor, "user.invitation withdrawn", email, at=site.clock())


def check_link(site: Site, purpose: str, token: str) -> Code:
    """The open code of a link (purpose setup, invitation or reset), to show its page; the link stays unused.

    Raises
    ------
    DeniedError : there is none, it was used, withdrawn or is too old; or registration is closed
    """
    if purpose == "invitation" and site.registration == "closed":
        raise DeniedError("registration is closed", None, "ask an administrator for an account")
    with site.database.read() as session:
        return one_time_codes.look_up(session, purpose, token, site.clock())


def accept_invitation(site: Site, token: str, name: str, password: str) -> User:
    """Register by an invitation, with its address and role.

    Raises
    ------
    DeniedError : the link was used, withdrawn or is too old; or registration is closed
    UsageError : the password cannot be used
    """
    password_hash = _new_hash(site, password, check_link(site, "invitation", token).email)
    with site.database.write() as session:
        code = one_time_codes.look_up(session, "invitation", token, site.clock())
        one_time_codes.use(session, code, site.clock())
        user = users.create(session, site, code.email, name, code.role, password_hash)
        detail = {"by": "invitation", "role": user.role, "invited by": code.issued_by}
        site.audit_log.append(session, user.email, "user.registered", user.email, detail, site.clock())
    return user


def start_registration(site: Site, email: str, address: str) -> None:
    """Mail a code to someone who wants to register; an address with an account is told so by mail, and only there.

    Parameters
    ----------
    address : network address that asks

    Raises
    ------
    DeniedError : registration is not open
    MailError : no mail is set up
    TooManyRequestsError : too many mails were asked for
    UsageError : it is no e-mail address
    """
    if site.registration != "open":
        raise DeniedError("registration is closed", None, "ask an administrator for an account")
    email = _may_ask_for_mail(site, email, address)
    code = credentials.new_code()
    with site.database.write() as session:
        known = session.scalar(select(User.id).where(User.email == email))
        sha256 = credentials.code_digest("registration", email, code)
        one_time_codes.issue(
            session, "registration", sha256, site.clock(), one_time_codes.TYPED, email=email, user_id=known
        )
    if known is None:
        site.mailer.post(mail.registration_code(email, code, _minutes(one_time_codes.TYPED)))
    else:
        site.mailer.post(mail.registered_already(email, site.link("reset")))


def finish_registration(site: Site, email: str, code: str, name: str, password: str, address: str) -> User:
    """Register as a reader with the code that was mailed.

    Raises
    ------
    DeniedError : the code is wrong, too old, used or had its attempts; or registration is not open
    TooManyRequestsError : too many codes were wrong
    UsageError : the password cannot be used
    """
    if site.registration != "open":
        raise DeniedError("registration is closed", None, "ask an administrator for an account")
    email = normal_address(email)
    credentials.check_password(password, email)
    mailed = _check_typed(site, "registration", email, code, address)
    password_hash = site.hasher.hash(password)
    with site.database.write() as session:
        one_time_codes.use(session, mailed, site.clock())
        if session.scalar(select(User.id).where(User.email == email)) is not None:
            raise one_time_codes.bad_code()
        user = users.create(session, site, email, name, "reader", password_hash)
        detail = {"by": "mailed code", "role": user.role}
        site.audit_log.append(session, user.email, "user.registered", user.email, detail, site.clock())
    return user


def ask_reset(site: Site, email: str, address: str) -> None:
    """Mail a code for a new password, if the address has an account; the answer is the same if it has none.

    Raises
    ------
    MailError : no mail is set up
    TooManyRequestsError : too many mails were asked for
    UsageError : it is no e-mail address
    """
    email = _may_ask_for_mail(site, email, address)
    code = credentials.new_code()
    with site.database.write() as session:
        user = session.scalar(select(User).where(User.email == email, User.active.is_(True)))
        # A row also for nobody, whom no mail tells its code: both take as long, and are answered alike later.
        sha256 = credentials.code_digest("reset", email, code)
        one_time_codes.issue(
            session, "reset", sha256, site.clock(), one_time_codes.TYPED, email=email, user_id=user.id if user else None
        )
        site.audit_log.append(session, "visitor", "password.reset asked for", email, {"address": address}, site.clock())
    if user is not None:
        site.mailer.post(mail.reset_code(email, code, _minutes(one_time_codes.TYPED)))


def reset_by_code(site: Site, email: str, code: str, password: str, address: str) -> User:
    """Set a new password with the code that was mailed; every sign-in ends and API tokens are revoked.

    An authenticator stays: whoever reads the mail does not have it.

    Raises
    ------
    DeniedError : the code is wrong, too old, used or had its attempts
    TooManyRequestsError : too many codes were wrong
    UsageError : the password cannot be used
    """
    email = normal_address(email)
    credentials.check_password(password, email)
    mailed = _check_typed(site, "reset", email, code, address)
    return _reset(site, mailed, site.hasher.hash(password))


def reset_by_link(site: Site, token: str, password: str) -> User:
    """Set a password by the link of a new account, or of `reset_for`; as `reset_by_code` otherwise.

    Raises
    ------
    DeniedError : the link was used, withdrawn or is too old
    UsageError : the password cannot be used
    """
    code = check_link(site, "reset", token)
    with site.database.read() as session:
        user = session.get(User, code.user_id)
    return _reset(site, code, _new_hash(site, password, user.email if user else ""))


def _reset(site: Site, code: Code, password_hash: str) -> User:
    with site.database.write() as session:
        user = users.hold(session, code.user_id) if code.user_id else None
        one_time_codes.use(session, code, site.clock())
        if user is None or not user.active:
            raise one_time_codes.bad_code()
        users.set_password(session, user, password_hash)
        revoked = update(Token).where(Token.user_id == user.id, Token.revoked_at.is_(None))
        session.execute(revoked.values(revoked_at=site.clock()))
        site.audit_log.append(session, user.email, "password.reset", user.email, at=site.clock())
    rate_limits.clear(site.database, rate_limits.PASSWORD_BY_ACCOUNT, user.email)
    if site.mailer.available:
        site.mailer.post(mail.password_changed(user.email, site.link("reset")))
    return user


def _issue_reset(session: Session, site: Site, user: User, token: str, actor: str) -> None:
    # Not found by the address, as typed codes are: this one is a link.
    one_time_codes.issue(
        session,
        "reset",
        credentials.digest(token),
        site.clock(),
        one_time_codes.NEW_PASSWORD,
        email="",
        user_id=user.id,
        issued_by=actor,
        replaces=False,
    )


def _hand_over(site: Site, email: str, link: str) -> Handed:
    if not site.mailer.available:
        return Handed(email, link, False, "no mail is set up")
    try:
        site.mailer.send(mail.invitation(email, link, one_time_codes.INVITATION.days))
    except MailError as error:
        return Handed(email, link, False, error.one_line)
    return Handed(email, link, True)


def _new_hash(site: Site, password: str, email: str) -> str:
    credentials.check_password(password, email)
    return site.hasher.hash(password)


def _may_ask_for_mail(site: Site, email: str, address: str) -> str:
    email = normal_address(email)
    if not site.mailer.available:
        raise MailError("no mail is set up, so no code can be sent", None, "ask an administrator")
    rate_limits.take(site.database, rate_limits.MAIL_BY_ADDRESS, rate_limits.network(address), site.clock())
    rate_limits.take(site.database, rate_limits.MAIL_BY_ACCOUNT, email, site.clock())
    return email


def _check_typed(site: Site, purpose: str, email: str, code: str, address: str) -> Code:
    rate_limits.take(site.database, rate_limits.CODE_BY_ADDRESS, rate_limits.network(address), site.clock())
    return one_time_codes.check_typed(site.database, purpose, email, code, site.clock())


def _minutes(lasts: timedelta) -> int:
    return int(lasts.total_seconds() // 60)
