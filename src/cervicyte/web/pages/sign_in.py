"""In and out: password and second step, the set-up link, invitation, registration, and a new password."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, redirect, request, url_for
from werkzeug.wrappers import Response

from cervicyte.errors import CervicyteError
from cervicyte.web.accounts import registration, sessions, users
from cervicyte.web.accounts.sessions import CodeNeeded, SignedIn
from cervicyte.web.base.schema import Code, User
from cervicyte.web.errors import AddressNotFoundError, DeniedError
from cervicyte.web.middleware import current, security
from cervicyte.web.middleware.problems import sentence
from cervicyte.web.pages.common import at, go, page, same_twice, tell, values, wrong

blueprint = Blueprint("sign_in", __name__)
_FIRST = "/cases"


@at(blueprint)
def sign_in() -> Any:
    """Ask for address and password."""
    site = current.site()
    following = security.local_path(request.values.get("next"), _FIRST)
    if request.method == "GET":
        if current.signed_in() is not None:
            return redirect(following, 303)
        return _ask(following, nobody=not _anybody())
    email, password = request.form.get("email", ""), request.form.get("password", "")
    try:
        outcome = sessions.sign_in(site, email, password, current.address(), security.session_token())
    except DeniedError as error:
        return _ask(following, 422, errors={"": sentence(error)}, values=values())
    if isinstance(outcome, CodeNeeded):
        return security.hand_ticket(go("sign_in.code", next=following), outcome.ticket)
    return _in(outcome, following)


@at(blueprint)
def code() -> Any:
    """Ask for the authenticator's code."""
    following = security.local_path(request.values.get("next"), _FIRST)
    ticket = security.ticket()
    if not ticket:
        return go("sign_in.sign_in", next=following)
    errors: dict[str, str] = {}
    if request.method == "POST":
        typed = request.form.get("code", "")
        try:
            signed = sessions.second_step(current.site(), ticket, typed, current.address(), security.session_token())
        except DeniedError as error:
            errors = {"code": sentence(error)}
        else:
            return _in(signed, following)
    return page("sign_in_code.html", 422 if errors else 200, next=following, errors=errors)


@at(blueprint)
def sign_out() -> Response:
    """End the session of this browser."""
    sessions.sign_out(current.site(), security.session_token())
    return security.let_out(go("sign_in.sign_in"))


@at(blueprint)
def set_up(token: str) -> Any:
    """Make the first administrator."""
    site = current.site()
    _opens("setup", token)
    errors, status = same_twice() if request.method == "POST" else {}, 422
    if request.method == "POST" and not errors:
        form = request.form
        try:
            user = registration.set_up(
                site, token, form.get("email", ""), form.get("name", ""), form.get("password", "")
            )
        except CervicyteError as error:
            errors, status = wrong(error, "email", "name", "password")
        else:
            return _welcome(user)
    return page("set_up.html", status if errors else 200, token=token, errors=errors, values=values())


@at(blueprint)
def register() -> Any:
    """Ask for an address, mail a code to it, and make a reader of who can type it."""
    site, form = current.site(), request.form
    step = "ask" if site.registration == "open" else "closed"
    errors: dict[str, str] = {}
    status = 422
    if request.method == "POST" and step == "ask":
        email = form.get("email", "").strip()
        try:
            if "code" not in form:
                registration.start_registration(site, email, current.address())
                return _register("finish", email=email)
            step, errors = "finish", same_twice()
            if not errors:
                words = (form.get("code", ""), form.get("name", ""), form.get("password", ""))
                return _welcome(registration.finish_registration(site, email, *words, current.address()))
        except CervicyteError as error:
            errors, status = wrong(error, *(("email",) if step == "ask" else ("name", "password", "code")))
    return _register(step, status if errors else 200, email=form.get("email", ""), errors=errors, values=values())


@at(blueprint)
def invitation(token: str) -> Any:
    """Register by an invitation."""
    site = current.site()
    link = _opens("invitation", token)
    errors, status = same_twice() if request.method == "POST" else {}, 422
    if request.method == "POST" and not errors:
        try:
            user = registration.accept_invitation(
                site, token, request.form.get("name", ""), request.form.get("password", "")
            )
        except CervicyteError as error:
            errors, status = wrong(error, "name", "password")
        else:
            return _welcome(user)
    return page(
        "register.html",
        status if errors else 200,
        step="finish",
        email=link.email,
        role=link.role,
        by_code=False,
        action=url_for("sign_in.invitation", token=token),
        errors=errors,
        values=values(),
    )


@at(blueprint)
def reset() -> Any:
    """Mail a code for a new password, and set it for who can type the code."""
    site, form = current.site(), request.form
    step, status = "ask", 422
    errors: dict[str, str] = {}
    if request.method == "POST":
        email = form.get("email", "").strip()
        try:
            if "code" not in form:
                registration.ask_reset(site, email, current.address())
                return _reset("finish", email=email)
            step, errors = "finish", same_twice()
            if not errors:
                registration.reset_by_code(
                    site, email, form.get("code", ""), form.get("password", ""), current.address()
                )
                return _set()
        except CervicyteError as error:
            errors, status = wrong(error, *(("email",) if step == "ask" else ("password", "code")))
    return _reset(step, status if errors else 200, email=form.get("email", ""), errors=errors, values=values())


@at(blueprint)
def new_password(token: str) -> Any:
    """Set a password by the link that an administrator handed over."""
    site = current.site()
    _opens("reset", token)
    errors, status = same_twice() if request.method == "POST" else {}, 422
    if request.method == "POST" and not errors:
        try:
            registration.reset_by_link(site, token, request.form.get("password", ""))
        except CervicyteError as error:
            errors, status = wrong(error, "password")
        else:
            return _set()
    action = url_for("sign_in.new_password", token=token)
    return page("reset.html", status if errors else 200, step="link", email="", mail=True, action=action, errors=errors)


def _ask(following: str, status: int = 200, nobody: bool = False, **more: Any) -> Any:
    if nobody:
        tell("told", "Nobody has an account here yet. Open the link that the server wrote when it was started.")
    site = current.site()
    shown = "" if following == _FIRST else following
    context = {"next": shown, "registration": site.registration, "mail": site.mailer.available}
    return page("sign_in.html", status, **context, **more)


def _register(step: str, status: int = 200, **more: Any) -> Any:
    action = url_for("sign_in.register")
    return page("register.html", status, step=step, role="", by_code=step == "finish", action=action, **more)


def _reset(step: str, status: int = 200, **more: Any) -> Any:
    mail, action = current.site().mailer.available, url_for("sign_in.reset")
    return page("reset.html", status, step=step, mail=mail, action=action, **more)


def _opens(purpose: str, token: str) -> Code:
    """The code of a link; one that opens nothing is a page that is not there."""
    try:
        return registration.check_link(current.site(), purpose, token)
    except DeniedError as error:
        raise AddressNotFoundError(error.what, error.todo) from error


def _in(signed: SignedIn, following: str) -> Response:
    return security.let_in(redirect(following, 303), signed)


def _welcome(user: User) -> Response:
    signed = sessions.open_for(current.site(), user, current.address(), security.session_token())
    tell("done", f"Welcome, {user.name}.")
    return _in(signed, _FIRST)


def _set() -> Response:
    tell("done", "The password is set. Sign in with it.")
    return security.let_out(go("sign_in.sign_in"))


def _anybody() -> bool:
    with current.site().database.read() as session:
        return users.anybody(session)
