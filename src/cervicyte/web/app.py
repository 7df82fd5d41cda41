"""The application: blueprints, templates, static files, and how one asks whether it works."""

from __future__ import annotations

import hashlib
import secrets
import time
from pathlib import Path
from typing import IO, Any

from flask import (
    Flask,
    Request,
    Response,
    current_app,
    g,
    get_flashed_messages,
    jsonify,
    redirect,
    request,
    send_from_directory,
    url_for as address_of,
)
from jinja2 import StrictUndefined
from werkzeug.exceptions import RequestEntityTooLarge
from werkzeug.middleware.proxy_fix import ProxyFix

from cervicyte.errors import CervicyteError
from cervicyte.web import api
from cervicyte.web.cases import permissions, uploads
from cervicyte.web.errors import AddressNotFoundError
from cervicyte.web.middleware import current, security
from cervicyte.web.middleware.current import Running
from cervicyte.web.operations.prometheus import MEDIA_TYPE, Metrics
from cervicyte.web.pages import (
    ROUTES,
    account,
    cases as case_pages,
    dashboard,
    exports,
    history,
    reading,
    reports,
    second,
    sign_in,
    upkeep,
)
from cervicyte.web.pages.environment import prepare

_STATIC = Path(__file__).parent / "static"
_BLUEPRINTS = (sign_in, case_pages, reading, second, reports, history, exports, dashboard, upkeep, account)
#: Section of the navigation by blueprint or endpoint.
_HERE = {
    "cases": "cases",
    "reading": "cases",
    "reports": "cases",
    "second": "second",
    "second.disagreements": "disagreements",
    "second.settle": "disagreements",
    "history": "history",
    "dashboard": "dashboard",
    "admin": "admin",
    "account": "account",
}
_KINDS = ("done", "told", "warned", "wrong")
#: Bytes around the files of an upload: boundaries, names, other fields.
_AROUND = 1 << 20
_YEAR_S = 365 * 24 * 3600


def create_app(running: Running) -> Flask:
    """Make the application of one server process; nothing is started and nothing is read that is not in ``running``."""
    app = Flask("cervicyte.web", static_folder=None)
    app.request_class = _request_class(running)
    app.config.update(
        DEBUG=False,
        # Signs what is said on the next page and nothing else; a restart forgets it, and no secret is kept anywhere.
        SECRET_KEY=secrets.token_bytes(32),
        SESSION_COOKIE_NAME="cervicyte-told",
        SESSION_COOKIE_HTTPONLY=True,
        SESSION_COOKIE_SAMESITE="Lax",
        SESSION_COOKIE_SECURE=running.site.public_url.startswith("https://"),
        MAX_CONTENT_LENGTH=(running.max_upload_mb << 20) + _AROUND,
        MAX_FORM_PARTS=5000,
    )
    if running.proxies:
        count = running.proxies
        app.wsgi_app = ProxyFix(app.wsgi_app, count, count, count)  # type: ignore[method-assign]
    prepare(app.jinja_env)
    app.jinja_env.undefined = StrictUndefined  # a page with a gap is a bug, not a page
    current.install(app, running)
    security.protect(app)
    app.before_request(_refuse_too_large)
    _count(app, Metrics(running))
    _static(app)
    _probes(app, running)
    app.context_processor(_context)
    app.add_url_rule("/", "home", lambda: redirect(address_of("cases.index"), 303))
    app.register_blueprint(api.blueprint)
    for module in _BLUEPRINTS:
        app.register_blueprint(module.blueprint)
    return app


def _refuse_too_large() -> None:
    """Also where nobody would read the body: the server may have left it on the line."""
    if (request.content_length or 0) > current_app.config["MAX_CONTENT_LENGTH"]:
        raise RequestEntityTooLarge


def _context() -> dict[str, Any]:
    theme = request.cookies.get("theme", "")
    endpoint = request.endpoint or ""
    return {
        "user": current.visitor(),
        "csrf": security.csrf(),
        "theme": theme if theme in ("light", "dark") else "",
        "messages": [pair for pair in get_flashed_messages(with_categories=True) if pair[0] in _KINDS],
        "here": _HERE.get(endpoint, _HERE.get(endpoint.partition(".")[0], "")),
        "may": permissions.rights(current.visitor()),
        "errors": {},
        "values": {},
    }


def _request_class(running: Running) -> type[Request]:
    folder = running.site.data_dir / "incoming"

    class Incoming(Request):
        """A request whose uploads are spooled inside the data folder, where the disk is watched."""

        def _get_file_stream(
            self, total_content_length: Any, content_type: Any, filename: Any = None, content_length: Any = None
        ) -> IO[bytes]:
            return uploads.spool(folder)

    return Incoming


def _static(app: Flask) -> None:
    """Files that never change under their address: it holds a checksum of all of them, also for their own imports."""
    digest = hashlib.sha256()
    for path in sorted(_STATIC.iterdir()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    version = digest.hexdigest()[:12]

    @app.url_defaults
    def add_version(endpoint: str, values: dict[str, Any]) -> None:
        if endpoint == "static":
            values["filename"] = f"{version}/{values['filename']}"

    def static(filename: str) -> Response:
        """A script, a style or a drawing."""
        first, _, rest = filename.partition("/")
        known = first == version
        answer = send_from_directory(_STATIC, rest if known else filename, max_age=_YEAR_S if known else 60)
        if known:
            answer.cache_control.immutable = True
        return answer

    route = next(route for route in ROUTES if route.endpoint == "static")
    app.add_url_rule(route.rule, "static", static)


def _count(app: Flask, metrics: Metrics) -> None:
    @app.after_request
    def count(answer: Response) -> Response:
        seconds = time.perf_counter() - g.get("start", time.perf_counter())
        metrics.count(request.method, request.endpoint or "none", answer.status_code, seconds)
        return answer

    def numbers() -> Response:
        """For Prometheus, with the token of an administrator."""
        asking = current.user()
        if asking.role != "administrator":
            raise AddressNotFoundError
        return Response(metrics.text(), content_type=MEDIA_TYPE)

    app.add_url_rule("/metrics", "metrics", numbers)


def _probes(app: Flask, running: Running) -> None:
    def healthz() -> Response:
        """The process answers."""
        return jsonify({"status": "ok"})

    def readyz() -> tuple[Response, int]:
        """Everything that an upload needs is there; says what is not, in words that tell nothing of the machine."""
        checks = dict(check(running))
        ready = not any(checks.values())
        body = {"status": "ready" if ready else "not ready"} | {k: v or "ok" for k, v in checks.items()}
        return jsonify(body), 200 if ready else 503

    app.add_url_rule("/healthz", "healthz", healthz)
    app.add_url_rule("/readyz", "readyz", readyz)


def check(running: Running) -> list[tuple[str, str]]:
    """What is needed, and what is wrong with each, or nothing."""
    parts = []
    try:
        running.site.database.check_ready()
        parts.append(("database", ""))
    except CervicyteError as error:
        parts.append(("database", error.what))
    folder = running.site.image_store.folder
    parts.append(("images", "" if not folder.exists() or folder.is_dir() else "the folder is a file"))
    if running.predictor is None:
        parts.append(("model", running.no_predictor.what if running.no_predictor else "there is none"))
    else:
        health = running.predictor.health()
        parts.append(("model", "" if health.ok else "the model does not answer"))
    if running.workers is not None:
        state = running.workers.health()
        parts.append(("worker", "" if state.ok or running.predictor is None else "it has stopped"))
    return parts
