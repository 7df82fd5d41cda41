"""For administrators: users, invitations and the audit log; `cervicyte.web.pages.upkeep` has the rest.

To anyone else these pages do not exist.
"""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request
from werkzeug.wrappers import Response

from cervicyte.errors import CervicyteError, UsageError
from cervicyte.web.accounts import registration, users as accounts
from cervicyte.web.accounts.registration import Handed
from cervicyte.web.base import audit_log_search
from cervicyte.web.cases import blinding
from cervicyte.web.errors import AddressNotFoundError
from cervicyte.web.middleware import current
from cervicyte.web.pages.common import at, day_range, filters, go, page, paged, tell, values, wrong

blueprint = Blueprint("admin", __name__)


@blueprint.before_request
def _only_administrators() -> None:
    if not accounts.may(current.visitor(), "administer"):
        raise AddressNotFoundError


@at(blueprint)
def users() -> Any:
    """Everyone, and who is invited."""
    return _users()


@at(blueprint)
def change(user_id: str) -> Any:
    """Change a user's role, or let the user in or not."""
    form = request.form
    active = {"1": True, "0": False}.get(form.get("active", ""))
    try:
        user = accounts.change(current.site(), current.user().email, user_id, role=form.get("role"), active=active)
    except UsageError as error:
        errors, status = wrong(error)
        return _users(status, errors=errors)
    tell("done", f"{user.name} is now {user.role}, {'active' if user.active else 'disabled'}.")
    return go("admin.users")


@at(blueprint)
def reset(user_id: str) -> Any:
    """Let a user in again who lost the password or the authenticator."""
    try:
        handed = registration.reset_for(current.site(), current.user().email, user_id)
    except UsageError as error:
        errors, status = wrong(error)
        return _users(status, errors=errors)
    return _invite(handed=handed)


@at(blueprint)
def invite() -> Any:
    """Invite someone; where registration is closed, make the account at once."""
    if request.method == "GET":
        return _invite()
    site, form, actor = current.site(), request.form, current.user().email
    email, role = form.get("email", ""), form.get("role", "")
    try:
        if site.registration == "closed":
            handed = registration.add_user(site, actor, email, "", role)
        else:
            handed = registration.invite(site, actor, email, role)
    except CervicyteError as error:
        errors, status = wrong(error, "email")
        return _invite(status, errors=errors, values=values())
    return _invite(handed=handed)


@at(blueprint)
def revoke(invitation_id: str) -> Response:
    """Withdraw an invitation."""
    try:
        registration.withdraw(current.site(), current.user().email, invitation_id)
    except UsageError as error:
        raise AddressNotFoundError(error.what, error.todo) from error
    tell("done", "The invitation is withdrawn.")
    return go("admin.users")


@at(blueprint)
def audit() -> Any:
    """The audit log, newest first."""
    return _audit()


@at(blueprint)
def verify() -> Any:
    """Check every row of the audit log."""
    site = current.site()
    check = site.audit_log.verify(site.database)
    return _audit(check={"ok": check.ok, "rows": check.rows, "at": site.clock(), "problem": check.problem})


def _users(status: int = 200, **more: Any) -> Any:
    site, q = current.site(), filters("q")["q"]
    with site.database.read() as session:
        users = accounts.everyone(session, q)
        where = paged(len(users))
        rows = [
            {
                "id": user.id,
                "name": user.name,
                "email": user.email,
                "role": user.role,
                "active": user.active,
                "second_factor": bool(user.totp_secret),
                "created_at": user.created_at,
                "last_sign_in_at": user.last_sign_in_at,
                "is_me": user.id == current.user().id,
                "is_last_administrator": accounts.is_last_administrator(session, user),
            }
            for user in users[where.start : where.start + 50]
        ]
        invited = [
            {"id": code.id, "email": code.email, "role": code.role, "expires_at": code.expires_at, "by": code.issued_by}
            for code in registration.invitations(site, session)
        ]
    return page("admin_users.html", status, users=rows, invitations=invited, q=q, page=where, **more)


def _invite(status: int = 200, handed: Handed | None = None, **more: Any) -> Any:
    roles = [(role, role) for role in accounts.ROLES]
    link = None
    if handed is not None:
        if handed.mailed:
            tell("done", f"The link was mailed to {handed.email}.")
        else:
            link = handed.link
    context = {"roles": roles, "link": link, "email": handed.email if handed else ""}
    return page("admin_invite.html", status, mail=current.site().mailer.available, **context, **more)


def _audit(check: dict[str, Any] | None = None) -> Any:
    chosen = filters("q", "actor", "action", "since", "until")
    since, until = day_range(chosen["since"], chosen["until"])
    with current.site().database.read() as session:
        untold = tuple(blinding.numbers(session, current.user()))
        wanted = audit_log_search.Wanted(
            q=chosen["q"], actor=chosen["actor"], action=chosen["action"], since=since, until=until, untold=untold
        )
        where = paged(audit_log_search.count(session, wanted))
        rows = [
            {
                "id": row.id,
                "at": row.at,
                "actor": row.actor,
                "action": row.action,
                "subject": row.subject,
                "detail": audit_log_search.detail(row, wanted),
                "hash": row.hash,
            }
            for row in audit_log_search.rows(session, wanted, where.start, 50)
        ]
        actors = [(name, name) for name in audit_log_search.actors(session)]
        actions = [(name, name) for name in audit_log_search.actions(session)]
    context: dict[str, Any] = {
        "rows": rows,
        "page": where,
        "filters": chosen,
        "actors": actors,
        "actions": actions,
        "check": check,
    }
    return page("admin_audit.html", **context)
