"""One's own account: password, second factor, tokens for programs, where one is signed in, and the colours."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from flask import Blueprint, redirect, request
from werkzeug.wrappers import Response

from cervicyte.errors import CervicyteError
from cervicyte.web.accounts import api_tokens, authenticator, sessions, users
from cervicyte.web.errors import AddressNotFoundError
from cervicyte.web.middleware import current, security
from cervicyte.web.pages.common import at, go, page, same_twice, tell, values, wrong

blueprint = Blueprint("account", __name__)
_YEAR_S = 365 * 24 * 3600


@at(blueprint)
def show() -> Any:
    """The page."""
    return _page()


@at(blueprint)
def theme() -> Response:
    """Keep the colours that were chosen, for browsers without JavaScript."""
    chosen = request.form.get("theme", "")
    came = urlsplit(request.referrer or "")
    answer = redirect(security.local_path(came.path if came.netloc == request.host else None, "/"), 303)
    if chosen in ("light", "dark"):
        answer.set_cookie("theme", chosen, _YEAR_S, path="/", secure=security.is_https(), samesite="Lax")
    else:
        answer.delete_cookie("theme", path="/", secure=security.is_https())
    return answer


@at(blueprint)
def rename() -> Any:
    """Change the name that reports show."""
    try:
        users.rename(current.site(), current.user().id, request.form.get("own-name", ""))
    except CervicyteError as error:
        return _refused(error, "own-name")
    tell("done", "Saved.")
    return go("account.show")


@at(blueprint)
def password() -> Any:
    """Change the password; the other sessions end."""
    form = request.form
    if errors := same_twice():
        return _page(422, errors=errors)
    old, new = form.get("current", ""), form.get("password", "")
    try:
        signed = sessions.change_password(current.site(), current.user().id, old, new, current.address())
    except CervicyteError as error:
        return _refused(error, "current" if error.what == "the password is wrong" else "password")
    tell("done", "The password is changed; your other sessions have ended.")
    return security.let_in(go("account.show"), signed)


@at(blueprint)
def totp_start() -> Any:
    """Show a new secret for an authenticator."""
    try:
        authenticator.start(current.site(), current.user().id)
    except CervicyteError as error:
        return _refused(error)
    return go("account.show")


@at(blueprint)
def totp_on() -> Any:
    """Turn the second factor on once the authenticator shows the right code."""
    typed = request.form.get("code", "")
    try:
        authenticator.confirm(current.site(), current.user().id, typed, current.session().token)
    except CervicyteError as error:
        return _refused(error, "code")
    tell("done", "The second factor is on.")
    return go("account.show")


@at(blueprint)
def totp_off() -> Any:
    """Turn the second factor off for who knows the password."""
    typed = request.form.get("off-password", "")
    try:
        authenticator.remove(current.site(), current.user().id, typed, current.address(), current.session().token)
    except CervicyteError as error:
        return _refused(error, "off-password")
    tell("done", "The second factor is off.")
    return go("account.show")


@at(blueprint)
def new_token() -> Any:
    """Make a token and show it, this once."""
    site, form, user = current.site(), request.form, current.user()
    days = form.get("days", "")
    try:
        sessions.confirm_password(site, user.id, form.get("token-password", ""), current.address())
    except CervicyteError as error:
        return _refused(error, "token-password")
    try:
        made = api_tokens.make(
            site, user.id, form.get("name", ""), int(days) if days.isascii() and days.isdigit() else 0
        )
    except CervicyteError as error:
        return _refused(error, "name")
    return _page(new_token=made.text)


@at(blueprint)
def revoke_token(token_id: str) -> Any:
    """Revoke one of the own tokens."""
    try:
        api_tokens.revoke(current.site(), current.user().id, token_id)
    except CervicyteError as error:
        raise AddressNotFoundError(error.what) from error
    tell("done", "The token works no more.")
    return go("account.show")


@at(blueprint)
def end_sessions() -> Response:
    """Sign out everywhere but here."""
    sessions.end_others(current.site(), current.user().id, current.session().token)
    tell("done", "You are signed in here only.")
    return go("account.show")


def _refused(error: CervicyteError, field: str = "") -> Any:
    errors, status = wrong(error)
    return _page(status, errors={field: errors[""]}, values=values())


def _page(status: int = 200, **more: Any) -> Any:
    site, signed = current.site(), current.session()
    with site.database.read() as session:
        tokens = api_tokens.of_user(session, signed.user.id)
        open_sessions = [
            {"created_at": s.created_at, "seen_at": s.seen_at, "is_this": sessions.is_this(s, signed.token)}
            for s in sessions.of_user(site, session, signed.user.id)
        ]
    second_factor = bool(signed.user.totp_secret)
    pending = None if second_factor else authenticator.pending(site, signed.user.id)
    context = {
        "second_factor": second_factor,
        "secret": pending and pending.secret,
        "otpauth": pending and pending.link,
        "tokens": tokens,
        "new_token": None,
        "sessions": open_sessions,
    }
    return page("account.html", status, **context | more)
