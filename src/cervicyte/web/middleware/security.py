"""What stands between the network and the pages: hosts, sessions, forgery, headers, cookies, one shape of errors.

Nothing is open unless it is named here: an address that is not in `OPEN` needs someone who is signed in, one under
``/api/`` a token (but for the API's own description), and every request that changes something, outside the API, the
session's own CSRF token. Headers follow OWASP's Secure Headers Project; the policy allows no inline script or style.
"""

from __future__ import annotations

import contextlib
import hmac
import logging
import secrets as random_source
import time
import traceback
from http import HTTPStatus
from urllib.parse import urlsplit

from flask import Flask, Response, flash, g, jsonify, redirect, render_template, request, url_for
from werkzeug.exceptions import HTTPException, MethodNotAllowed, RequestEntityTooLarge
from werkzeug.wrappers import Response as BaseResponse

from cervicyte.errors import CervicyteError, StorageError
from cervicyte.web.accounts import api_tokens, sessions
from cervicyte.web.accounts.sessions import SignedIn
from cervicyte.web.base import credentials
from cervicyte.web.errors import ForgedRequestError, SignInRequiredError, WrongHostError
from cervicyte.web.middleware import current
from cervicyte.web.middleware.problems import Problem, describe

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
#: Features of a browser that no page here uses.
_FEATURES = ("accelerometer", "camera", "display-capture", "geolocation", "gyroscope", "microphone", "payment", "usb")
HEADERS = {
    "Content-Security-Policy": POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not no-referrer: a browser would then send no Origin with a form, and a forged one could not be told apart.
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": ", ".join(f"{name}=()" for name in _FEATURES),
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Permitted-Cross-Domain-Policies": "none",
}
_YEAR_S = 365 * 24 * 3600

#: Asked by machines that know no name of this site; they tell nothing and change nothing.
PROBES = frozenset(("healthz", "readyz", "metrics"))
#: What a visitor may ask for.
OPEN = PROBES | {
    "static",
    "home",
    "account.theme",
    "sign_in.sign_in",
    "sign_in.code",
    "sign_in.sign_out",
    "sign_in.set_up",
    "sign_in.register",
    "sign_in.invitation",
    "sign_in.reset",
    "sign_in.new_password",
}
_PICTURES = frozenset(("cases.image", "cases.thumbnail"))
_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))
_LOOPBACK = frozenset(("localhost", "127.0.0.1", "::1"))
#: Fields of forms whose values must never be written down.
_SECRET_FIELDS = ("password", "again", "current", "off-password", "token-password", "code", "csrf", "token")
_log = logging.getLogger("cervicyte.web")


def protect(app: Flask) -> None:
    """Put everything of this module around an application's views."""
    app.before_request(_enter)
    app.after_request(_leave)
    app.register_error_handler(Exception, _answer_error)


def csrf() -> str:
    """What forms of this page carry: the session's token, or a visitor's, which belongs to a cookie of its own."""
    signed = current.signed_in()
    if signed is not None:
        return signed.csrf
    token = g.get("visitor_token") or request.cookies.get(_cookie("visitor"), "")
    if not token:
        token = g.visitor_token = g.new_visitor_token = credentials.new_token()
    return credentials.digest(f"csrf {token}")


def let_in(answer: BaseResponse, signed: SignedIn) -> BaseResponse:
    """Give the browser a new session's secret; the visitor's, and a half-done second step, end with it."""
    _set_cookie(answer, "session", signed.token)
    for name in ("visitor", "ticket"):
        answer.delete_cookie(_cookie(name), path="/", secure=is_https())
    g.new_visitor_token = None
    return answer


def let_out(answer: BaseResponse) -> BaseResponse:
    """Take the session's secret from the browser, and what it kept of the pages."""
    for name in ("session", "ticket"):
        answer.delete_cookie(_cookie(name), path="/", secure=is_https())
    answer.headers["Clear-Site-Data"] = '"cache"'
    return answer


def session_token() -> str:
    """The secret that the browser came with, of a session or not."""
    return request.cookies.get(_cookie("session"), "")


def ticket() -> str:
    """The ticket of a second step, as the browser holds it."""
    return request.cookies.get(_cookie("ticket"), "")


def hand_ticket(answer: BaseResponse, text: str) -> BaseResponse:
    """Let the browser keep a ticket until the second step is done."""
    _set_cookie(answer, "ticket", text, 600)
    return answer


def local_path(text: str | None, otherwise: str = "/") -> str:
    r"""Where to go next, if it is a path of this site; what leads elsewhere is replaced.

    >>> [local_path(text) for text in ("/cases?q=1", "//evil.example", "/\\evil.example", "https://evil.example")]
    ['/cases?q=1', '/', '/', '/']
    """
    text = text or ""
    if not text.startswith("/") or len(text) > 2000 or not text.isprintable() or "\\" in text or text[1:2] == "/":
        return otherwise
    try:
        parts = urlsplit(text)
    except ValueError:
        return otherwise
    return otherwise if parts.scheme or parts.netloc else text


def is_https() -> bool:
    """Whether users reach this site by HTTPS."""
    return bool(request.is_secure or current.site().public_url.startswith("https://"))


def _enter() -> BaseResponse | None:
    g.request_id = random_source.token_hex(8)
    g.start = time.perf_counter()
    endpoint = request.endpoint
    if endpoint == "static" or (endpoint in PROBES and endpoint != "metrics"):
        return None
    if endpoint != "metrics":
        _check_host()
    if request.path.startswith("/api/") or endpoint == "metrics":
        kind, _, text = request.headers.get("Authorization", "").partition(" ")
        g.user = api_tokens.load(current.site(), text.strip()) if kind.lower() == "bearer" else None
        if g.user is None and endpoint != "api.document":
            raise SignInRequiredError
        return None
    g.signed_in = sessions.load(current.site(), session_token())
    g.user = g.signed_in.user if g.signed_in else None
    if endpoint is None:
        return None  # there is no such page, whoever asks
    if g.user is None and endpoint not in OPEN:
        return _to_sign_in()
    if request.method not in _SAFE:
        _check_forged()
    return None


def _to_sign_in() -> BaseResponse:
    if current.wants_json():
        raise SignInRequiredError
    came = "/cases"
    if request.method in _SAFE:
        came = request.full_path.rstrip("?")
    else:
        flash("Your session has ended, and nothing was saved. Sign in, and do it again.", "warned")
    return redirect(url_for("sign_in.sign_in", next=came if came != "/cases" else None), 303)


def _check_host() -> None:
    known = urlsplit(current.site().public_url).hostname
    try:
        name = urlsplit(f"//{request.host}").hostname
    except ValueError:
        name = None
    if name is None or (name != known and name not in _LOOPBACK):
        raise WrongHostError


def _check_forged() -> None:
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        raise ForgedRequestError
    origin = request.headers.get("Origin")
    if origin is not None:
        own = {request.host, urlsplit(current.site().public_url).netloc}
        try:
            if urlsplit(origin).netloc not in own:
                raise ForgedRequestError
        except ValueError:
            raise ForgedRequestError from None
    sent = request.headers.get("X-CSRF-Token") or request.form.get("csrf", "")
    if current.signed_in() is None and not request.cookies.get(_cookie("visitor")):
        raise ForgedRequestError
    if not hmac.compare_digest(sent.encode(), csrf().encode()):
        raise ForgedRequestError


def _leave(answer: Response) -> Response:
    for name, value in HEADERS.items():
        answer.headers.setdefault(name, value)
    if is_https():
        answer.headers["Strict-Transport-Security"] = f"max-age={_YEAR_S}"
    answer.headers["X-Request-Id"] = g.get("request_id", "")
    answer.headers.setdefault("Cache-Control", "no-store")
    if token := g.get("new_visitor_token"):
        _set_cookie(answer, "visitor", token)
    _note(answer.status_code)
    return answer


def _note(status: int) -> None:
    """One line for each request: the rule of the address, never the address, which may hold the token of a link."""
    if request.endpoint == "static" or request.endpoint in PROBES:
        return
    rule = request.url_rule.rule if request.url_rule else "(no such address)"
    seconds = time.perf_counter() - g.get("start", time.perf_counter())
    # A page asks for a hundred small pictures; each line of them says nothing, unless one fails.
    level = logging.DEBUG if request.endpoint in _PICTURES and status < 400 else logging.INFO
    _log.log(level, "%s %s %s %d %.0f ms", g.get("request_id", "-"), request.method, rule, status, 1000 * seconds)


def _answer_error(error: Exception) -> BaseResponse:
    if isinstance(error, HTTPException) and (error.response is not None or (error.code or 500) < 400):
        return error.get_response()  # a redirect of the router, or an answer that a view made
    problem = describe(error)
    if problem.bug:
        _log.error("%s failed\n%s", g.get("request_id", "-"), without_secrets(_traceback(error)))
    elif isinstance(error, StorageError | OSError):
        text = error.one_line if isinstance(error, StorageError) else str(error)
        _log.error("%s %s", g.get("request_id", "-"), without_secrets(text))
    answer = _as_json(problem) if current.wants_json() else _as_page(problem)
    answer.status_code = problem.status
    if problem.retry_after is not None:
        answer.headers["Retry-After"] = str(problem.retry_after)
    if problem.status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="cervicyte"'
    if isinstance(error, MethodNotAllowed):
        answer.headers["Allow"] = ", ".join(sorted(error.valid_methods or ()))
    return answer


def _as_json(problem: Problem) -> Response:
    error = {
        "what": problem.what or HTTPStatus(problem.status).phrase.lower(),
        "received": problem.received or None,
        "todo": problem.todo,
        "request_id": g.get("request_id", ""),
    }
    return jsonify({"error": error})


def _as_page(problem: Problem) -> Response:
    text = render_template(
        "error.html",
        status=problem.status,
        what=problem.what,
        todo=problem.todo,
        retry_after=problem.retry_after,
        request_id=g.get("request_id", ""),
    )
    return Response(text, mimetype="text/html")


def _traceback(error: Exception) -> str:
    text = "".join(traceback.format_exception(error))
    return f"{text}{error}" if isinstance(error, CervicyteError) else text


def without_secrets(text: str) -> str:
    """Text for the log in which nothing stands that the browser sent as a secret."""
    secrets = [*request.cookies.values(), request.headers.get("Authorization", "").partition(" ")[2]]
    secrets += [str(value) for value in (request.view_args or {}).values()]
    with contextlib.suppress(RequestEntityTooLarge):
        secrets += [value for name in _SECRET_FIELDS for value in request.form.getlist(name)]
    for secret in sorted(filter(lambda value: len(value) > 3, secrets), key=len, reverse=True):
        text = text.replace(secret, "***")
    return text


def _cookie(name: str) -> str:
    """A cookie's name; with the prefix no other host of the domain can set it."""
    return f"__Host-cervicyte-{name}" if is_https() else f"cervicyte-{name}"


def _set_cookie(answer: BaseResponse, name: str, value: str, max_age: int | None = None) -> None:
    answer.set_cookie(_cookie(name), value, max_age, path="/", secure=is_https(), httponly=True, samesite="Lax")
