"""The application as a browser meets it: who gets which page, headers on all of them, and what attackers try."""

from __future__ import annotations

import io
import logging
import re
import time
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("flask", reason="the extra 'web' is not installed")

import numpy as np
import pyotp
from flask import request
from sqlalchemy import func, select

from cervicyte.errors import MissingError, StorageError
from cervicyte.web.accounts import registration as entry, users as accounts
from cervicyte.web.app import create_app
from cervicyte.web.base import audit_log_search, rate_limits
from cervicyte.web.base.schema import Base, Image
from cervicyte.web.cases import cases, second_readers
from cervicyte.web.engine.predictor import Predictor
from cervicyte.web.engine.workers import ImageWorkers
from cervicyte.web.errors import BusyError, TooManyRequestsError
from cervicyte.web.middleware import security
from cervicyte.web.middleware.current import Running
from cervicyte.web.pages import ROUTES
from cervicyte.web.reading import map_image, verdicts
from support.web.client import ROOT, Person, cell, small_bundle
from support.web.records import make_case
from support.web.site import OTHER, PASSWORD, make_site, make_user

READER, STRANGER, SECOND = "first@lab.example", "other@lab.example", "second@lab.example"
REVIEWER, ADMIN = "reviewer@lab.example", "admin@lab.example"
ROLES = {READER: "reader", STRANGER: "reader", SECOND: "reader", REVIEWER: "reviewer", ADMIN: "administrator"}
HOSTILE = '"><script>alert(1)</script><img src=x onerror=alert(2)>\u202egnp.exe'


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """A laboratory at work: a model, five people, and a case with two pictures and one verdict; read it, mostly."""
    site = make_site(tmp_path_factory.mktemp("app") / "data")
    users = {email: make_user(site, email, role) for email, role in ROLES.items()}
    with (
        Predictor(small_bundle(tmp_path_factory.mktemp("model") / "bundle"), workers=2) as predictor,
        ImageWorkers(site, predictor) as workers,
    ):
        app = create_app(Running(site=site, predictor=predictor, workers=workers, max_upload_mb=2))
        app.testing = False  # errors are answered, as they are for users
        people = {email: Person(app) for email in ROLES}
        for email, person in people.items():
            assert person.sign_in(email).status_code == 303
        made = cases.create(site, users[READER], HOSTILE[:70], HOSTILE)
        people[READER].upload(made.number, ("'><b onclick=x><script>\u202egnp.png", cell(1)), ("two.png", cell(2)))
        _wait(lambda: cases.get(site, users[READER], made.number).done == 2)
        second_readers.assign(site, users[READER], made.number, users[SECOND].id, False)
        image = re.findall(r"/images/([0-9a-f]{32})/thumbnail", people[READER].get(f"/cases/{made.number}").text)[0]
        verdicts.decide(site, users[READER], image, "HSIL", HOSTILE)
        yield SimpleNamespace(
            site=site,
            app=app,
            people=people,
            users=users,
            number=made.number,
            image=image,
            predictor=predictor,
            workers=workers,
        )
    assert site.audit_log.verify(site.database).ok
    site.database.close()


@pytest.fixture
def site(tmp_path):
    found = make_site(tmp_path / "data", registration="open")
    yield found
    assert found.audit_log.verify(found.database).ok
    found.database.close()


@pytest.fixture
def app(site):
    return create_app(Running(site=site))


def _wait(done: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "never done"
        time.sleep(0.02)


def _is_guarded(route: Any) -> bool:
    """Whether it concerns a case, or what administrators look after, and not the user's own things."""
    about = route.endpoint.split(".")[0]
    return about in ("cases", "reading", "second", "reports", "admin") and route.endpoint != "cases.new"


def _path(route: Any, world: Any) -> str:
    values = {
        "path:filename": "style.css",
        "number": world.number,
        "image_id": world.image,
        "user_id": world.users[STRANGER].id,
        "token": "Zq3xT1",
        "token_id": "0" * 32,
        "invitation_id": "0" * 32,
    }
    return re.sub(r"<([^>]*)>", lambda m: values[m[1]], route.rule)


#: Whom each GET is answered 200; everyone else who is signed in gets 404, a visitor is sent to sign in.
EVERYONE = frozenset(ROLES)
OF_THE_CASE = EVERYONE - {STRANGER}
PAGES = {
    "cases.index": EVERYONE,
    "cases.show": OF_THE_CASE,
    "cases.table": OF_THE_CASE - {SECOND},
    "cases.image": OF_THE_CASE,
    "cases.thumbnail": OF_THE_CASE,
    "reading.show": OF_THE_CASE,
    "reading.map": frozenset(),  # a bundle on measurements has none
    "second.index": EVERYONE,
    "second.disagreements": {REVIEWER, ADMIN},
    "reports.show": OF_THE_CASE,
    "reports.pdf": OF_THE_CASE,
    "history.index": EVERYONE,
    "exports.cells": {READER, REVIEWER, ADMIN},
    "exports.table": EVERYONE,
    "dashboard.index": {REVIEWER, ADMIN},
    "admin.users": {ADMIN},
    "admin.invite": {ADMIN},
    "admin.audit": {ADMIN},
    "admin.upkeep": {ADMIN},
    "account.show": EVERYONE,
}
#: Those who see what it is about are told more.
REFUSED = {("cases.table", SECOND): 403, ("exports.cells", SECOND): 422, ("exports.cells", STRANGER): 422}
#: What a visitor gets, and someone who is signed in.
DOORS = {
    "static": (200, 200),
    "sign_in.sign_in": (200, 303),
    "sign_in.code": (303, 303),
    "sign_in.set_up": (404, 404),
    "sign_in.register": (200, 200),
    "sign_in.invitation": (404, 404),
    "sign_in.reset": (200, 200),
    "sign_in.new_password": (404, 404),
}


def test_every_address_has_a_view_and_every_view_an_address(world) -> None:
    rules = {(rule.endpoint, rule.rule) for rule in world.app.url_map.iter_rules()}
    assert {(route.endpoint, route.rule) for route in ROUTES} <= rules
    of_pages = {endpoint for endpoint, _ in rules if not endpoint.startswith("api.")}
    more = of_pages - {route.endpoint for route in ROUTES}
    assert more == {"home", "healthz", "readyz", "metrics"}
    assert {route.endpoint for route in ROUTES if "GET" in route.methods} == {*PAGES, *DOORS}


@pytest.mark.parametrize("route", [r for r in ROUTES if "GET" in r.methods], ids=lambda r: r.endpoint)
def test_each_page_answers_those_who_may_see_it_and_exists_for_no_one_else(world, route) -> None:
    path = _path(route, world)
    answer = Person(world.app).get(path)
    if route.endpoint in DOORS:
        assert answer.status_code == DOORS[route.endpoint][0]
        assert world.people[READER].get(path).status_code == DOORS[route.endpoint][1]
        return
    assert (answer.status_code, urlsplit(answer.location).path) == (303, "/sign-in")
    for email, person in world.people.items():
        answer = person.get(path)
        allowed = email in PAGES[route.endpoint]
        refused = REFUSED.get((route.endpoint, email), 404)
        assert answer.status_code == (200 if allowed else refused), email
        _has_headers(answer)
        if answer.mimetype == "text/html":
            _is_inert(answer.text)


@pytest.mark.parametrize("route", [r for r in ROUTES if "POST" in r.methods], ids=lambda r: r.endpoint)
def test_nothing_is_changed_by_a_request_that_a_page_of_this_site_did_not_make(world, route) -> None:
    path, before = _path(route, world), _rows(world.site)
    visitor = Person(world.app)
    expected = 403 if route.endpoint in security.OPEN else 303
    assert visitor.post(path, {"csrf": None}).status_code == expected
    for email in (READER, ADMIN):
        person = world.people[email]
        right = {"csrf": person.token()}
        for form, headers in (
            ({"csrf": None}, {}),
            ({"csrf": ""}, {}),
            ({"csrf": world.people[STRANGER].token()}, {}),
            (right, {"Origin": "https://evil.example"}),
            (right, {"Origin": "null"}),
            (right, {"Sec-Fetch-Site": "cross-site"}),
        ):
            answer = person.post(path, form, headers)
            assert answer.status_code == 403, (email, form, headers)
            _has_headers(answer)
    assert _rows(world.site) == before


@pytest.mark.parametrize(
    "route", [r for r in ROUTES if "POST" in r.methods and _is_guarded(r)], ids=lambda r: r.endpoint
)
def test_no_stranger_changes_a_case_and_no_reader_what_administrators_look_after(world, route) -> None:
    before = _rows(world.site)
    person = world.people[STRANGER]
    form = {"verdict": "NILM", "password": PASSWORD, "confirm": world.number, "days": "1", "conclusion": "x"}
    answer = person.post(_path(route, world), form | ({"images": _file()} if route.endpoint == "cases.upload" else {}))
    assert answer.status_code == 404
    assert world.number not in answer.text
    assert _rows(world.site) == before


def _file() -> Any:
    return (io.BytesIO(cell(3)), "x.png")


def _rows(site: Any) -> tuple[Any, ...]:
    """How many rows the tables have that a page could change, and the log's last."""
    names = ("users", "cases", "images", "reviews", "reports", "tokens", "codes", "audit")
    with site.database.read() as session:
        return tuple(session.scalar(select(func.count()).select_from(Base.metadata.tables[n])) for n in names)


def _has_headers(answer: Any) -> None:
    for name in security.HEADERS:
        assert answer.headers.get(name), name
    policy = answer.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "max-age=31536000" in answer.headers["Strict-Transport-Security"]
    assert answer.headers["X-Request-Id"]
    if answer.mimetype == "text/html":
        assert answer.headers["Cache-Control"] == "no-store"
    for cookie in answer.headers.getlist("Set-Cookie"):
        assert "Secure" in cookie
        assert "SameSite=Lax" in cookie
        assert "HttpOnly" in cookie or cookie.startswith("theme=")
        assert "Domain=" not in cookie


def _is_inert(text: str) -> None:
    assert "<script>" not in text
    assert not re.search(r"<img[^>]*onerror|\sstyle=|\son\w+=\"|javascript:|\u202e", text)


# ---- hosts, errors, files


def test_another_host_is_refused_and_probes_are_answered_under_any(world) -> None:
    person = Person(world.app, root="https://evil.example")
    assert person.get("/sign-in").status_code == 400
    assert person.get("/healthz").json == {"status": "ok"}
    assert Person(world.app, root="http://127.0.0.1:8000").get("/sign-in").status_code == 200


@pytest.mark.parametrize("path", ["/nothing", "/admin", "/cases/AAAAAA", "/cases/' OR 1=1 --", "/images/../etc/passwd"])
def test_an_address_that_is_not_there_is_one_page(world, path: str) -> None:
    answer = world.people[READER].get(path)
    assert answer.status_code == 404
    assert "There is nothing here" in answer.text
    _has_headers(answer)


def test_errors_have_one_shape_for_programs(world) -> None:
    answer = world.people[READER].get("/cases/AAAAAA", Accept="application/json")
    assert answer.status_code == 404
    assert set(answer.json["error"]) == {"what", "received", "todo", "request_id"}
    assert answer.json["error"]["request_id"] == answer.headers["X-Request-Id"]
    wrong = world.people[READER].client.put("/cases", base_url=ROOT, headers={"Accept": "application/json"})
    assert wrong.status_code in (403, 405)
    nobody = Person(world.app).get("/api/v1/cases")
    assert (nobody.status_code, nobody.headers["WWW-Authenticate"][:6]) == (401, "Bearer")


@pytest.mark.parametrize(
    ("error", "status", "wait"),
    [
        (StorageError("the database is busy", "sqlite:////srv/secret/x", "try again"), 503, "5"),
        (BusyError("the queue is full", 9, 7), 503, "7"),
        (TooManyRequestsError("too many sign-ins that failed", 90), 429, "90"),
        (StorageError("the disk of the database is full", "/srv/secret", "free some space"), 507, None),
        (OSError(28, "No space left on device", "/srv/secret"), 507, None),
        (MissingError("the image is not in the store", "/srv/secret", "restore it"), 500, None),
        (KeyError("/srv/secret"), 500, None),
    ],
)
def test_each_error_has_its_status_and_tells_nothing_of_the_machine(site, error, status, wait, caplog) -> None:
    app = create_app(Running(site=site))
    app.testing = False

    @app.route("/fails")
    def fails() -> str:
        raise error

    make_user(site)
    person = Person(app)
    person.sign_in("first@lab.example")
    for accept in ("text/html", "application/json"):
        answer = person.get("/fails", Accept=accept)
        assert answer.status_code == status
        assert answer.headers.get("Retry-After") == wait
        assert "secret" not in answer.text
        assert "Traceback" not in answer.text
        _has_headers(answer)
    assert ("Traceback" in caplog.text) == (status == 500)


def test_a_busy_database_is_a_page_and_not_a_crash(world, monkeypatch) -> None:
    def busy(*_: object) -> None:
        raise StorageError("the database is busy", "x", "try again")

    monkeypatch.setattr(security.sessions, "load", busy)
    answer = world.people[READER].get("/cases")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "Database is busy" in answer.text or "database is busy" in answer.text


def test_static_files_are_kept_for_long_under_an_address_that_changes_with_them(world) -> None:
    page = Person(world.app).get("/sign-in").text
    found = re.findall(r"/static/[^\"#]+", page)
    assert found
    assert all(re.match(r"/static/[0-9a-f]{12}/", address) for address in found)
    answer = Person(world.app).get(found[0])
    assert "immutable" in answer.headers["Cache-Control"]
    assert Person(world.app).get("/static/../app.py").status_code == 404
    assert Person(world.app).get("/static/%2e%2e/app.py").status_code == 404


def test_an_upload_that_is_too_large_is_refused_before_it_is_read(world) -> None:
    answer = world.people[READER].upload(
        world.number, ("x.png", bytes(4 << 20)), headers={"Accept": "application/json"}
    )
    assert answer.status_code in (403, 413)  # the token is in the body that is not read
    with_header = {"Accept": "application/json", "X-CSRF-Token": world.people[READER].token()}
    assert world.people[READER].upload(world.number, ("x.png", bytes(4 << 20)), headers=with_header).status_code == 413


# ---- in and out


def test_the_first_start_makes_one_administrator_by_one_link(app, site) -> None:
    path = urlsplit(entry.setup_link(site)).path
    person = Person(app)
    form = {"name": "Administrator", "email": ADMIN, "password": PASSWORD, "again": PASSWORD}
    short = person.post(path, form | {"password": "short", "again": "short"})
    assert short.status_code == 422
    assert "too short" in short.text
    assert 'short"' not in short.text.replace("too short", "")
    assert "not the same" in person.post(path, form | {"again": OTHER}).text
    assert person.post(path, form).status_code == 303
    assert person.get("/admin/users").status_code == 200
    assert Person(app).get(path).status_code == 404


def test_a_sign_in_takes_a_new_session_and_ends_the_one_that_was_planted(app, site) -> None:
    make_user(site)
    name = "__Host-cervicyte-session"
    attacker, victim = Person(app), Person(app)
    attacker.sign_in(READER)
    planted = attacker.client.get_cookie(name, domain="lab.example").value
    victim.client.set_cookie(name, planted, domain="lab.example")
    victim.get("/cases")
    answer = victim.client.post(
        "/sign-in",
        base_url=ROOT,
        data={"csrf": victim.token(), "email": READER, "password": PASSWORD},
    )
    assert answer.status_code == 303
    assert victim.client.get_cookie(name, domain="lab.example").value != planted
    assert attacker.get("/cases").status_code == 303  # the planted one is over
    invented = Person(app)
    invented.client.set_cookie(name, "x" * 43, domain="lab.example")
    invented.sign_in(READER)
    assert invented.client.get_cookie(name, domain="lab.example").value != "x" * 43


def test_signing_out_ends_the_session_for_good(app, site) -> None:
    make_user(site)
    person = Person(app)
    person.sign_in(READER)
    token = person.client.get_cookie("__Host-cervicyte-session", domain="lab.example").value
    assert person.post("/sign-out").status_code == 303
    person.client.set_cookie("__Host-cervicyte-session", token, domain="lab.example")
    assert person.get("/cases").status_code == 303


@pytest.mark.parametrize(
    "target", ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)", "\t//evil.example"]
)
def test_nobody_is_sent_to_another_site(app, site, target: str) -> None:
    make_user(site)
    answer = Person(app).sign_in(READER, next=target)
    assert answer.location == "/cases"
    person = Person(app)
    person.sign_in(READER)
    assert person.client.get("/sign-in", query_string={"next": target}, base_url=ROOT).location == "/cases"
    assert Person(app).sign_in(READER, next="/history?q=a").location == "/history?q=a"


def test_passwords_cannot_be_tried_out(app, site) -> None:
    make_user(site)
    person = Person(app)
    for _ in range(rate_limits.PASSWORD_BY_ACCOUNT.most):
        answer = person.sign_in(READER, OTHER)
        assert answer.status_code == 422
        assert OTHER not in answer.text
    blocked = person.sign_in(READER)
    assert blocked.status_code == 429
    assert int(blocked.headers["Retry-After"]) > 60
    assert Person(app, "198.51.100.7").sign_in(READER).status_code == 429  # from everywhere
    site.clock.forward(minutes=16)
    assert person.sign_in(READER).status_code == 303


def test_the_second_step_takes_a_code_once_and_cannot_be_tried_out(app, site) -> None:
    make_user(site)
    person = Person(app)
    person.sign_in(READER)
    person.post("/account/second-factor")
    secret = re.search(r'id="secret"[^>]*value="([A-Z2-7]+)"', person.get("/account").text)[1]
    code = lambda: pyotp.TOTP(secret).at(site.clock.at)  # noqa: E731
    assert person.post("/account/second-factor/on", {"code": "000000"}).status_code == 422
    assert person.post("/account/second-factor/on", {"code": code()}).status_code == 303
    site.clock.forward(minutes=2)
    again = Person(app)
    answer = again.sign_in(READER, next="/history")
    assert urlsplit(answer.location).path == "/sign-in/code"
    assert again.get("/cases").status_code == 303  # half in is not in
    used = code()
    assert again.post("/sign-in/code", {"code": used, "next": "/history"}).location == "/history"
    third = Person(app)
    third.sign_in(READER)
    assert third.post("/sign-in/code", {"code": used}).status_code == 422
    answers = [third.post("/sign-in/code", {"code": "123456"}).status_code for _ in range(12)]
    assert answers[-1] in (422, 429)
    site.clock.forward(minutes=2)
    assert third.post("/sign-in/code", {"code": code()}).status_code in (422, 429)  # the ticket had its attempts


def test_registration_invitation_and_reset_by_mail(app, site) -> None:
    person = Person(app)
    asked = person.post("/register", {"email": "new@lab.example"})
    assert asked.status_code == 200
    code = site.mailer.code()
    form = {"email": "new@lab.example", "code": code, "name": "New", "password": PASSWORD, "again": PASSWORD}
    assert person.post("/register", form | {"code": "AAAAA-AAAAA"}).status_code == 422
    assert person.post("/register", form).status_code == 303
    assert person.get("/cases").status_code == 200
    assert person.get("/admin/users").status_code == 404
    handed = entry.invite(site, ADMIN, "asked@lab.example", "reviewer")
    guest = Person(app)
    path = urlsplit(handed.link).path
    assert "asked@lab.example" in guest.get(path).text
    assert guest.post(path, {"name": "G", "password": PASSWORD, "again": PASSWORD}).status_code == 303
    assert guest.get("/disagreements").status_code == 200
    assert Person(app).get(path).status_code == 404
    lost = Person(app)
    known, unknown = (lost.post("/reset", {"email": e}) for e in ("new@lab.example", "nobody@lab.example"))
    assert known.text.replace("new@", "x@").count("x@") == unknown.text.replace("nobody@", "x@").count("x@")
    assert known.status_code == unknown.status_code == 200
    form = {"email": "new@lab.example", "code": site.mailer.code(), "password": OTHER, "again": OTHER}
    assert lost.post("/reset", form).status_code == 303
    assert person.get("/cases").status_code == 303  # every session is over
    assert lost.sign_in("new@lab.example", OTHER).status_code == 303
    link = urlsplit(entry.reset_for(site, ADMIN, "new@lab.example").link).path
    assert Person(app).post(link, {"password": PASSWORD, "again": PASSWORD}).status_code == 303
    assert Person(app).sign_in("new@lab.example", PASSWORD).status_code == 303


def test_an_account_page_changes_what_is_ones_own(app, site) -> None:
    make_user(site)
    person, elsewhere = Person(app), Person(app)
    for browser in (person, elsewhere):
        browser.sign_in(READER)
    assert "wrong" in person.post("/account/password", {"current": OTHER, "password": OTHER, "again": OTHER}).text
    made = person.post("/account/tokens", {"name": "night", "days": "30", "token-password": PASSWORD})
    token = re.search(r"cervicyte_[\w-]{43}", made.text)[0]
    assert token not in person.get("/account").text
    row = re.search(r"/account/tokens/([0-9a-f]{32})/revoke", person.get("/account").text)[0]
    assert person.get("/metrics", Authorization=f"Bearer {token}").status_code == 404  # not an administrator's
    assert person.post(row).status_code == 303
    assert person.get("/metrics", Authorization=f"Bearer {token}").status_code == 401
    assert person.post("/account/name", {"own-name": " "}).status_code == 422
    assert person.post("/account/name", {"own-name": "A. Reader"}).status_code == 303
    assert "A. Reader" in person.get("/account").text
    assert person.post("/account/sessions/end").status_code == 303
    assert elsewhere.get("/cases").status_code == 303
    changed = {"current": PASSWORD, "password": OTHER, "again": OTHER}
    assert person.post("/account/password", changed).status_code == 303
    assert person.get("/cases").status_code == 200
    assert person.post("/theme", {"theme": "dark"}).status_code == 303
    assert 'data-theme="dark"' in person.get("/cases").text


def test_administrators_look_after_users_and_the_log(world) -> None:
    admin = world.people[ADMIN]
    invited = admin.post("/admin/invite", {"email": "made@lab.example", "role": "reader"})
    assert invited.status_code == 200  # registration is closed: the account is made, its link mailed
    with world.site.database.read() as session:
        made = accounts.find(session, "made@lab.example")
    assert admin.post(f"/admin/users/{made.id}", {"role": "reviewer", "active": "1"}).status_code == 303
    assert admin.post(f"/admin/users/{made.id}/reset").status_code == 200
    me = world.users[ADMIN].id
    last = admin.post(f"/admin/users/{me}", {"role": "reader", "active": "1"})
    assert last.status_code == 422
    assert "last administrator" in last.text
    assert admin.post("/admin/invite", {"email": "not an address", "role": "reader"}).status_code == 422
    found = admin.get("/admin/audit?q=made%40lab.example&action=user.role").text
    assert "from: reader" in found
    assert "rows are whole" in admin.post("/admin/audit/check").text
    assert admin.get("/admin/audit?since=%00&until=9999-12-31&page=99999999999").status_code == 200


# ---- what people type


def test_what_people_type_stays_text_on_every_page(world) -> None:
    reader = world.people[READER]
    for path in (f"/cases/{world.number}", f"/cases/{world.number}/cells/{world.image}", "/history", "/cases"):
        text = reader.get(path).text
        assert "&lt;script&gt;" in text, path
        _is_inert(text)
    _is_inert(world.people[REVIEWER].get(f"/cases/{world.number}/report").text)


@pytest.mark.parametrize(
    "text", ["' OR '1'='1", "'; DROP TABLE users; --", "%", "_", "\x00", "\\", "\ud800", "🔬" * 300]
)
def test_searches_take_any_text_and_find_nothing_by_it(world, text: str) -> None:
    admin = world.people[ADMIN]
    for path in ("/cases", "/history", "/admin/users", "/admin/audit"):
        answer = admin.client.get(
            path,
            base_url=ROOT,
            query_string={"q": text.encode("utf-8", "surrogatepass")},
            environ_overrides={"REMOTE_ADDR": admin.address},
        )
        assert answer.status_code == 200
    assert admin.get("/admin/users").text.count("<tr>") >= len(ROLES)


def test_files_are_taken_one_by_one_and_a_repeated_upload_is_taken_once(world) -> None:
    reader, site = world.people[READER], world.site
    number = cases.create(site, world.users[READER]).number
    headers = {"Accept": "application/json", "Idempotency-Key": "a" * 32}
    files = (("../../etc/passwd.png", cell(4)), ("page.png", b"<svg onload=alert(1)>"), ("c.bmp", cell(5, "BMP")))
    first = reader.upload(number, *files, headers=headers)
    assert first.status_code == 200
    assert (first.json["accepted"], [row["name"] for row in first.json["refused"]]) == (2, ["page.png"])
    assert reader.upload(number, *files, headers=headers).json == first.json
    many = [(f"ü{'日' * 50}{i}.html", b"<script>") for i in range(90)]
    assert reader.upload(number, *many).status_code == 303
    assert re.search(r"and \d\d more</bdi>: not taken", reader.get(f"/cases/{number}").text)
    plain = reader.upload(number, ("page.html", b"<script>alert(1)</script>"))
    assert plain.status_code == 303
    shown = reader.get(f"/cases/{number}").text
    assert "page.html" in shown
    assert "markup" in shown
    _wait(lambda: cases.get(site, world.users[READER], number).waiting == 0)
    for path in set(re.findall(r"/images/[0-9a-f]{32}", reader.get(f"/cases/{number}").text)):
        answer = reader.get(path)
        assert answer.mimetype == "image/png"
        assert "sandbox" in answer.headers["Content-Security-Policy"]
        assert reader.get(path, **{"If-None-Match": answer.headers["ETag"]}).status_code == 304
    assert reader.post(f"/cases/{number}/delete", {"confirm": "no"}).status_code == 422
    assert reader.post(f"/cases/{number}/delete", {"confirm": number}).status_code == 303
    assert reader.get(f"/cases/{number}").status_code == 404


def test_a_case_is_read_signed_and_amended(world) -> None:
    reader, reviewer, site = world.people[READER], world.people[REVIEWER], world.site
    number = reader.post("/cases", {"accession": "C26-1"}).location.rsplit("/", 1)[1]
    reader.upload(number, ("a.png", cell(6)), ("b.png", cell(7)))
    _wait(lambda: cases.get(site, world.users[READER], number).done == 2)
    start = re.search(rf"/cases/{number}/cells/[0-9a-f]+", reader.get(f"/cases/{number}").text)[0]
    assert reader.post(f"{start}/decision", {"verdict": "nonsense"}).status_code == 422
    named = re.findall(r'value="([^"]+)" data-key="([qw])"', reader.get(start).text)
    assert named == list(zip(world.predictor.bundle.classes, "qw", strict=True))
    following = reader.post(f"{start}/decision", {"verdict": "HSIL", "comment": "halo"})
    assert following.status_code == 303
    assert following.location != start
    assert reader.post(f"/cases/{number}/undo").location == start
    for path in (start, following.location):
        answer = reader.post(f"{path}/decision", {"verdict": "NILM"})
    assert answer.location == f"/cases/{number}"
    assert "Every cell of this case has your verdict" in reader.get(answer.location).text
    text = reviewer.get(f"/cases/{number}/report").text
    seen = re.search(r'name="seen" value="([^"]*)"', text)[1]
    form = {"conclusion": "Nothing suspicious.", "seen": seen, "password": PASSWORD}
    assert reader.post(f"/cases/{number}/report/signature", form).status_code == 403
    assert reviewer.post(f"/cases/{number}/report/signature", form | {"password": OTHER}).status_code == 422
    assert reviewer.post(f"/cases/{number}/report/signature", form).status_code == 303
    assert reader.post(f"{start}/decision", {"verdict": "HSIL"}).status_code == 403
    pdf = reader.get(f"/cases/{number}/report.pdf")
    assert pdf.data.startswith(b"%PDF-")
    with site.database.read() as session:
        (noted,) = audit_log_search.rows(session, audit_log_search.Wanted(q=number, action="export.report"), 0, 9)
    assert (noted.actor, noted.detail["version"], noted.detail["signed"]) == (READER, 1, True)
    assert reviewer.post(f"/cases/{number}/report/reopen", {"reopen-reason": ""}).status_code == 422
    assert reviewer.post(f"/cases/{number}/report/reopen", {"reopen-reason": "One more."}).status_code == 303
    assert reader.post(f"{start}/decision", {"verdict": "HSIL"}).status_code == 303
    assert "The case has changed" in reader.get(f"/cases/{number}/report").text
    form = {"accession": "C26-2", "notes": "the other slide"}
    assert reader.post(f"/cases/{number}/edit", form).status_code == 303
    sheet = re.search("<article.*</article>", reader.get(f"/cases/{number}/report?version=1").text, re.DOTALL)[0]
    assert "C26-1" in sheet
    assert "C26-2" not in sheet
    assert "the other slide" not in sheet
    table = reader.get(f"/cases/{number}/cells.csv")
    assert table.mimetype == "text/csv"
    assert "attachment" in table.headers["Content-Disposition"]


def test_a_report_says_what_waits_and_is_not_signed_before_it_is_answered(app, site) -> None:
    reviewer = make_user(site, REVIEWER, "reviewer")
    made, ids = make_case(site, reviewer, [0.9, None, None])
    with site.database.write() as session:
        session.get_one(Image, ids[2]).state = "failed"
    person = Person(app)
    person.sign_in(REVIEWER)
    text = person.get(f"/cases/{made.number}/report").text
    assert "1\xa0picture waits for the model" in text
    assert "1\xa0picture has no answer of the model" in text
    assert "3, of which 1 not answered" in text
    answer = person.post(f"/cases/{made.number}/report/signature", {"conclusion": "None.", "password": PASSWORD})
    assert answer.status_code == 422
    assert "A picture waits for the model. Sign when it has answered." in answer.text
    assert cases.get(site, reviewer, made.number).state == "open"


def test_a_blinded_second_reader_sees_no_answer_on_any_page(world) -> None:
    reader, second, site = world.people[READER], world.people[SECOND], world.site
    number = cases.create(site, world.users[READER]).number
    reader.upload(number, ("a.png", cell(8)))
    _wait(lambda: cases.get(site, world.users[READER], number).done == 1)
    second_readers.assign(site, world.users[READER], number, world.users[SECOND].id, True)
    start = re.search(rf"/cases/{number}/cells/[0-9a-f]+", second.get(f"/cases/{number}").text)[0]
    reader.post(f"{start}/decision", {"verdict": "SCC", "comment": "first reader's words"})
    image = start.rsplit("/", 1)[1]
    for path in (start, f"/cases/{number}", "/history"):
        text = second.get(path).text
        assert "first reader's words" not in text
        assert (
            "abnormal" not in re.sub(r"(?s)<head>.*?</head>|title=\"[^\"]*\"", "", text).lower() or path == "/history"
        )
    assert second.get(f"/images/{image}/map").status_code == 404
    assert second.get(f"/cases/{number}/report").status_code in (403, 404)
    assert second.post(f"{start}/decision", {"verdict": "NILM"}).status_code == 303
    disagreements = world.people[REVIEWER].get("/disagreements").text
    assert f"/disagreements/{image}" in disagreements
    settled = world.people[REVIEWER].post(f"/disagreements/{image}", {"verdict": "HSIL", "comment": "both looked"})
    assert settled.status_code == 303


# ---- what is written down


def test_no_secret_is_written_to_the_log(site, caplog) -> None:
    caplog.set_level(logging.DEBUG)
    app = create_app(Running(site=site))
    app.testing = False
    make_user(site)

    @app.route("/fails/<token>", methods=["POST"])
    def fails(token: str) -> str:
        raise ValueError(f"{token} {dict(request.form)} {dict(request.cookies)} {request.headers['Authorization']}")

    person = Person(app)
    person.sign_in(READER, OTHER)
    person.sign_in(READER)
    session = person.client.get_cookie("__Host-cervicyte-session", domain="lab.example").value
    person.post(
        "/fails/LINK-TOKEN-123", {"password": PASSWORD, "code": "ABCDE-23456"}, {"Authorization": "Bearer KEY-456789"}
    )
    person.get("/set-up/SETUP-TOKEN-123")
    assert "ValueError" in caplog.text
    assert "/set-up/<token>" in caplog.text
    for secret in (PASSWORD, OTHER, session, "LINK-TOKEN-123", "SETUP-TOKEN-123", "ABCDE-23456", "KEY-456789"):
        assert secret not in caplog.text


def test_probes_tell_whether_uploads_would_be_answered(world, site) -> None:
    assert Person(world.app).get("/readyz").json["status"] == "ready"
    empty = create_app(Running(site=site, no_predictor=MissingError("no model was named", "/srv/secret", "name one")))
    answer = Person(empty).get("/readyz")
    assert answer.status_code == 503
    assert answer.json["model"] == "no model was named"
    assert answer.json["database"] == "ok"
    assert "secret" not in answer.text


def test_numbers_are_for_administrators_tokens(world) -> None:
    admin = world.people[ADMIN]
    made = admin.post("/account/tokens", {"name": "prometheus", "days": "30", "token-password": PASSWORD})
    token = re.search(r"cervicyte_[\w-]{43}", made.text)[0]
    assert admin.get("/metrics").status_code == 401  # a session is not enough
    for k in range(3):  # what a stranger makes up is no series of its own
        admin.client.open("/cases", method=f"BREW{k}")
    text = admin.get("/metrics", Authorization=f"Bearer {token}").text
    assert 'method="other"' in text
    assert "BREW" not in text
    assert "cervicyte_model_up 1.0" in text
    assert re.search(r'cervicyte_requests_total\{endpoint="cases.show",method="GET",status="200"\}', text)
    assert world.number not in text


def test_pictures_wait_where_no_model_answers(site) -> None:
    make_user(site)
    running = Running(site=site, no_predictor=MissingError("no model was named", None, "name one"))
    app = create_app(running)
    person = Person(app)
    person.sign_in(READER)
    number = person.post("/cases").location.rsplit("/", 1)[1]
    assert person.upload(number, ("a.png", cell(9)), headers={"Accept": "application/json"}).json["accepted"] == 1
    text = person.get(f"/cases/{number}").text
    assert "No model answers" in text
    assert "no model was named" in text


def test_proxies_are_believed_only_where_the_settings_name_them(site) -> None:
    make_user(site)
    for proxies, expected in ((0, "192.0.2.1"), (1, "203.0.113.9")):
        person = Person(create_app(Running(site=site, proxies=proxies)))
        person.client.environ_base["HTTP_X_FORWARDED_FOR"] = "198.51.100.1, 203.0.113.9"
        person.sign_in(READER)
        with site.database.read() as session:
            row = audit_log_search.rows(session, audit_log_search.Wanted(action="sign-in"), 0, 1)[0]
        assert row.detail["address"] == expected


def test_a_map_is_transparent_where_there_is_no_evidence(tmp_path) -> None:
    values = np.zeros((20, 30), np.float32)
    values[:5], values[15:] = 2.0, -1.0
    found = map_image.rgba(SimpleNamespace(map=values))
    assert found.shape == (20, 30, 4)
    assert (found[7, 0, 3], found[0, 0, 3], found[19, 0, 3]) == (0, 255, 128)
    assert (found[0, 0, 0] > 150, found[19, 0, 2] > 150) == (True, True)
    assert map_image.png(SimpleNamespace(map=values)).startswith(b"\x89PNG")
