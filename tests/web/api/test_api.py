"""The API as programs meet it: tokens, rights, errors of one shape, uploads sent twice, all a case goes through."""

from __future__ import annotations

import io
import json
import time
import zipfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Annotated, Any

import msgspec
import pytest

pytest.importorskip("flask", reason="the extra 'web' is not installed")

from hypothesis import given, strategies as st
from msgspec import Meta
from sqlalchemy import func, select

from cervicyte.errors import StorageError
from cervicyte.web import api
from cervicyte.web.accounts import api_tokens
from cervicyte.web.api import models
from cervicyte.web.api.common import check, from_text
from cervicyte.web.api.endpoints import ENDPOINTS, ROOT, Parameter
from cervicyte.web.app import create_app
from cervicyte.web.base import rate_limits
from cervicyte.web.base.audit_log import AuditLog
from cervicyte.web.base.schema import AuditRow, Base
from cervicyte.web.cases import listing, second_readers
from cervicyte.web.cases.pictures import Picture
from cervicyte.web.engine.predictor import Predictor
from cervicyte.web.engine.workers import ImageWorkers
from cervicyte.web.errors import BadRequestError, BusyError, TooManyRequestsError
from cervicyte.web.middleware.current import Running
from cervicyte.web.reading import heat_maps, verdicts
from cervicyte.web.reports import reports
from support.web.cases import case_with, rows
from support.web.client import ROOT as SITE, Person, cell, small_bundle
from support.web.databases import KINDS, fresh
from support.web.site import make_site, make_user

READER, STRANGER, REVIEWER, ADMIN = "first@lab.example", "other@lab.example", "r@lab.example", "a@lab.example"
ROLES = {READER: "reader", STRANGER: "reader", REVIEWER: "reviewer", ADMIN: "administrator"}


class Program:
    """A program with a token, or without one."""

    def __init__(self, app: Any, token: str = "") -> None:
        self.client, self.token = app.test_client(), token

    def __call__(self, method: str, path: str, headers: dict[str, str] | None = None, **more: Any) -> Any:
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        return self.client.open(ROOT + path, method=method, base_url=SITE, headers=sent | (headers or {}), **more)

    def get(self, path: str, **query: Any) -> Any:
        return self("GET", path, query_string=query)

    def send(self, path: str, *files: tuple[str, bytes], field: str = "images", key: str = "", **texts: str) -> Any:
        form = {field: [(io.BytesIO(data), name) for name, data in files]} | texts
        return self("POST", path, {"Idempotency-Key": key} if key else None, data=form)


@pytest.fixture(scope="module")
def world(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[SimpleNamespace]:
    """A laboratory at work with four programs; each test makes its own cases."""
    with fresh(request) as url:
        site = make_site(tmp_path_factory.mktemp("api") / "data", url=url)
        users = {email: make_user(site, email, role) for email, role in ROLES.items()}
        bundle = small_bundle(tmp_path_factory.mktemp("model") / "bundle")
        with Predictor(bundle, workers=2) as predictor, ImageWorkers(site, predictor) as workers:
            app = create_app(Running(site=site, predictor=predictor, workers=workers, max_upload_mb=2))
            app.testing = False  # errors are answered, as they are for users
            programs = {
                email: Program(app, api_tokens.make(site, user.id, "test").text) for email, user in users.items()
            }
            yield SimpleNamespace(
                site=site, app=app, predictor=predictor, users=users, programs=programs, me=programs[READER]
            )
        assert site.audit_log.verify(site.database).ok
        site.database.close()


on_both = pytest.mark.parametrize("world", KINDS, indirect=True)


def _finished(world: Any, number: str) -> dict[str, Any]:
    end = time.monotonic() + 20
    while (found := world.me.get(f"/jobs/{number}").json)["state"] != "done":
        assert time.monotonic() < end, "never done"
        time.sleep(0.02)
    return found


def _error(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert set(answer.json) == {"error"}
    assert set(answer.json["error"]) == {"what", "received", "todo", "request_id"}
    assert answer.json["error"]["what"]
    assert answer.json["error"]["request_id"] == answer.headers["X-Request-Id"]
    return answer.json["error"]


def _counts(site: Any) -> list[int]:
    names = ("cases", "images", "reviews", "reports", "audit")
    with site.database.read() as session:
        return [session.scalar(select(func.count()).select_from(Base.metadata.tables[n])) for n in names]


# ---- who


@pytest.mark.parametrize("row", [row for row in ENDPOINTS if not row.open], ids=lambda row: row.name)
def test_nothing_but_the_document_is_answered_without_a_token_and_a_cookie_is_none(world, row) -> None:
    path = row.path.format(number="AAAAAA", id="0" * 32) if "{" in row.path else row.path
    before = _counts(world.site)
    browser = Person(world.app)
    browser.sign_in(READER)
    before[-1] += 1  # the sign-in
    for client in (world.app.test_client(), browser.client):
        answer = client.open(ROOT + path, method=row.method, base_url=SITE, headers={"Origin": SITE})
        _error(answer, 401)
        assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    assert _counts(world.site) == before
    assert Program(world.app).get("/openapi.json").status_code == 200


def test_a_token_that_is_revoked_too_old_or_of_a_disabled_user_opens_nothing(tmp_path) -> None:
    site = make_site(tmp_path / "data")
    app, user = create_app(Running(site=site)), make_user(site)
    revoked, old = (api_tokens.make(site, user.id, name, 1) for name in ("revoked", "old"))
    programs = [Program(app, made.text) for made in (revoked, old)]
    assert [program.get("/cases").status_code for program in programs] == [200, 200]
    api_tokens.revoke(site, user.id, revoked.id)
    assert [program.get("/cases").status_code for program in programs] == [401, 200]
    site.clock.forward(days=2)
    for program in (*programs, Program(app, "cervicyte_invented"), Program(app, "x")):
        _error(program.get("/cases"), 401)
    site.database.close()


def test_a_foreign_case_looks_like_one_that_does_not_exist(world) -> None:
    made = case_with(world.site, world.users[READER], 1)
    _finished(world, made.number)
    image = rows(world.site, made.number)[0].id
    stranger, before = world.programs[STRANGER], _counts(world.site)
    for row in ENDPOINTS:
        if "{" not in row.path:
            continue
        more: dict[str, Any] = {}
        if row.name in ("change_case", "review"):
            more["json"] = {"notes": "mine"} if row.name == "change_case" else {"verdict": "NILM"}
        elif row.body:
            more["data"] = {"images": (io.BytesIO(cell(3)), "x.png")}
        here = stranger(row.method, row.path.format(number=made.number, id=image), **more)
        if "data" in more:
            more["data"] = {"images": (io.BytesIO(cell(3)), "x.png")}
        nowhere = stranger(row.method, row.path.format(number="AAAAAA", id="0" * 32), **more)
        first, second = _error(here, 404), _error(nowhere, 404)
        assert first | {"request_id": ""} == second | {"request_id": ""}, row.name
    assert _counts(world.site) == before
    assert made.number not in stranger.get("/cases").text
    assert stranger.get("/exports/cells.csv").text.count("\n") == 1


def test_roles_hold_as_they_do_on_the_pages(world) -> None:
    made = case_with(world.site, world.users[READER], 1)
    reviewer, admin = world.programs[REVIEWER], world.programs[ADMIN]
    assert reviewer.get(f"/cases/{made.number}").json["owner"] == "first"
    _error(reviewer.send(f"/cases/{made.number}/images", ("x.png", cell(1))), 403)
    _error(reviewer("DELETE", f"/cases/{made.number}"), 403)
    _error(admin("PATCH", f"/cases/{made.number}", json={"notes": "x"}), 403)
    assert reviewer("PATCH", f"/cases/{made.number}", json={"notes": "seen"}).json["notes"] == "seen"
    assert admin("DELETE", f"/cases/{made.number}").status_code == 204


def test_a_blinded_reader_is_told_nothing_of_the_model_by_any_address(world) -> None:
    made = case_with(world.site, world.users[READER], 2)
    _finished(world, made.number)
    image = rows(world.site, made.number)[0].id
    verdicts.decide(world.site, world.users[READER], image, "HSIL", "look here")
    second_readers.assign(world.site, world.users[READER], made.number, world.users[STRANGER].id, True)
    second = world.programs[STRANGER]
    assert second.get(f"/cases/{made.number}").json["abnormal"] is None
    for found in (second.get(f"/cells/{image}").json, second.get(f"/cases/{made.number}/cells").json["cells"][0]):
        assert [found[name] for name in ("label", "p_abnormal", "bethesda", "flagged", "quality")] == [None] * 5
    assert second.get(f"/cells/{image}").json["answer"] is None
    assert second.get(f"/cells/{image}/reviews").json == {"reviews": []}
    _error(second.get(f"/cells/{image}/map"), 404)
    _error(second.get(f"/cases/{made.number}/report"), 403)
    _error(second.get(f"/cases/{made.number}/cells.csv"), 403)
    given_ = second("POST", f"/cells/{image}/reviews", json={"verdict": "NILM"}).json
    assert (given_["reading"], given_["agrees"]) == ("second", None)
    assert second.get(f"/cells/{image}").json["agrees"] is None


# ---- one picture


@on_both
def test_one_picture_is_answered_as_itself_or_in_a_form_and_only_the_log_keeps_it(world) -> None:
    before = _counts(world.site)
    found = world.me.send("/predict", ("a.png", cell(1)), field="image").json
    by_itself = world.me("POST", "/predict", {"Content-Type": "image/png"}, data=cell(1)).json
    assert by_itself == found
    said = world.predictor.predict([cell(1)])[0]
    assert (found["label"], found["p_abnormal"]) == (said.label, said.p_abnormal)
    assert found["probabilities"] == dict(zip(world.predictor.bundle.classes, said.probabilities, strict=True))
    assert _counts(world.site) == [*before[:-1], before[-1] + 2]
    with world.site.database.read() as session:
        row = session.scalars(select(AuditRow).order_by(AuditRow.id.desc()).limit(1)).one()
    assert (row.actor, row.action, row.detail["sha256"]) == (READER, "picture.predicted", found["sha256"])
    model = world.me.get("/model").json
    assert (model["sha256"], set(model["classes"])) == (found["model_sha256"], set(found["probabilities"]))


@pytest.mark.parametrize("data", [b"", b"rubbish", cell(1)[:200], cell(1)[:8]], ids=["empty", "text", "cut", "head"])
def test_what_is_no_picture_is_refused_with_its_reason(world, data: bytes) -> None:
    _error(world.me("POST", "/predict", {"Content-Type": "application/octet-stream"}, data=data), 422)
    error = _error(world.me.send("/jobs", ("x.png", data)), 422)
    assert "x.png" in error["received"]


def test_a_full_queue_and_a_model_that_is_missing_ask_to_come_again(world, monkeypatch) -> None:
    def busy(*_: object) -> Any:
        raise BusyError("the queue is full", 9, 7)

    monkeypatch.setattr(world.predictor, "submit", busy)
    answer = world.me("POST", "/predict", {"Content-Type": "image/png"}, data=cell(1))
    assert "full" in _error(answer, 503)["what"]
    assert answer.headers["Retry-After"] == "7"
    app = create_app(Running(site=world.site))
    for method, path in (("GET", "/model"), ("POST", "/predict")):
        more = {"data": cell(1), "content_type": "image/png"} if method == "POST" else {}
        answer = Program(app, world.me.token)(method, path, **more)
        _error(answer, 503)
        assert int(answer.headers["Retry-After"]) > 0


def test_of_an_answer_that_cannot_be_logged_nothing_is_told(world, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise StorageError("the disk of the database is full", "here", "free some space")

    before = _counts(world.site)
    monkeypatch.setattr(AuditLog, "extend", full)
    programs = [Program(world.app, world.me.token) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        send = [pool.submit(p, "POST", "/predict", {"Content-Type": "image/png"}, data=cell(1)) for p in programs]
        for answer in send:
            assert "full" in _error(answer.result(), 507)["what"]
    assert _counts(world.site) == before


# ---- many pictures


@on_both
def test_a_job_makes_a_case_whose_cells_are_its_answers(world) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as opened:
        opened.writestr("slide/one.png", cell(1))
        opened.writestr("slide/two.png", cell(2))
    answer = world.me.send("/jobs", ("s.zip", archive.getvalue()), ("x.txt", b"no"), accession="A 7", notes="left")
    assert answer.status_code == 202
    made = answer.json
    assert answer.headers["Location"] == f"{ROOT}/jobs/{made['id']}"
    assert made["receipt"] | {"refused": [row["name"] for row in made["receipt"]["refused"]]} == {
        "accepted": 2,
        "passed_over": 0,
        "refused": ["x.txt"],
    }
    done = _finished(world, made["id"])
    assert (done["done"], done["failed"], done["problem"]) == (2, 0, None)
    found = world.me.get(done["cells"].removeprefix(ROOT)).json
    assert {row["name"] for row in found["cells"]} == {"one.png", "two.png"}
    assert all(row["label"] for row in found["cells"])
    assert world.me.get(f"/cases/{made['case']}").json["accession"] == "A 7"


@on_both
def test_the_same_upload_sent_again_is_taken_once(world) -> None:
    before = world.me.get("/cases").json["page"]["total"]
    first = world.me.send("/jobs", ("a.png", cell(1)), key="k-1")
    again = world.me.send("/jobs", ("a.png", cell(1)), key="k-1")
    assert (first.status_code, again.status_code) == (202, 202)
    assert (again.json["id"], again.json["receipt"]) == (first.json["id"], first.json["receipt"])
    assert world.me.get("/cases").json["page"]["total"] == before + 1
    path = f"/cases/{first.json['case']}/images"
    receipts = [world.me.send(path, ("b.png", cell(2)), key="k-1").json for _ in range(2)]
    assert receipts[0] == receipts[1]
    assert world.me.get(f"/jobs/{first.json['id']}").json["images"] == 2
    other = world.programs[STRANGER].send("/jobs", ("a.png", cell(1)), key="k-1").json
    assert other["id"] != first.json["id"]


def test_an_upload_of_nothing_usable_leaves_no_case(world) -> None:
    before = _counts(world.site)[:2]
    _error(world.me.send("/jobs", ("x.png", b"no"), key="k-2"), 422)
    _error(world.me.send("/jobs", ("x.png", cell(1)), accession="x" * 81), 422)
    _error(world.me.send("/jobs", accession="A 1"), 415)  # no file, so no form with files
    _error(world.me.send("/jobs", ("x.png", cell(1)), field="pictures"), 422)
    _error(world.me("POST", "/jobs", data={"images": "text"}, content_type="multipart/form-data"), 422)
    assert _counts(world.site)[:2] == before


def test_too_many_uploads_are_asked_to_wait_and_leave_no_case(world, monkeypatch) -> None:
    def many(*_: object) -> None:
        raise TooManyRequestsError("too many uploads", 90)

    before = _counts(world.site)[:2]
    monkeypatch.setattr(rate_limits, "take", many)
    answer = world.me.send("/jobs", ("x.png", cell(1)))
    _error(answer, 429)
    assert answer.headers["Retry-After"] == "90"
    assert _counts(world.site)[:2] == before


# ---- cases to reports


@on_both
def test_a_case_goes_from_opening_to_its_export(world) -> None:
    me = world.me
    answer = me("POST", "/cases", json={"accession": "B 1"})
    number = answer.json["number"]
    assert (answer.status_code, answer.headers["Location"]) == (201, f"{ROOT}/cases/{number}")
    changed = me("PATCH", f"/cases/{number}", json={"notes": "second smear"}).json
    assert (changed["accession"], changed["notes"]) == ("B 1", "second smear")
    assert me.send(f"/cases/{number}/images", ("a.bmp", cell(4, "BMP")), ("b.png", cell(5))).status_code == 202
    _finished(world, number)
    found = me.get(f"/cases/{number}/cells", size=1).json
    assert found["page"] == {"number": 1, "size": 1, "pages": 2, "total": 2}
    ids = [me.get(f"/cases/{number}/cells", size=1, page=k).json["cells"][0]["id"] for k in (1, 2)]
    assert me.get(f"/cells/{ids[0]}").json["answer"]["morphology"]
    assert {me.get(f"/cells/{i}/image").mimetype for i in ids} == {"image/png"}
    for i, verdict in zip(ids, ("HSIL", "NILM"), strict=True):
        given_ = me("POST", f"/cells/{i}/reviews", json={"verdict": verdict, "comment": "sure"})
        assert (given_.status_code, given_.json["verdict"], given_.json["mine"]) == (201, verdict, True)
        again = me("POST", f"/cells/{i}/reviews", json={"verdict": verdict, "comment": "sure"})
        assert again.json["id"] == given_.json["id"]
    assert [row["verdict"] for row in me.get(f"/cells/{ids[0]}/reviews").json["reviews"]] == ["HSIL"]
    assert "HSIL" in _error(me("POST", f"/cells/{ids[0]}/reviews", json={"verdict": "bad"}), 422)["todo"]
    draft = me.get(f"/cases/{number}/report").json
    assert (draft["signed_at"], draft["versions"]) == (None, [])
    reports.sign(world.site, world.users[REVIEWER], number, "One cell is high grade.")
    signed = me.get(f"/cases/{number}/report", version=1).json
    assert (signed["signed_by"], signed["problem"], signed["body"]["conclusion"]) == (
        "r",
        "",
        "One cell is high grade.",
    )
    _error(me.get(f"/cases/{number}/report", version=2), 404)
    assert me.get(f"/cases/{number}/report.pdf").data.startswith(b"%PDF")
    assert "signed" in _error(me("PATCH", f"/cases/{number}", json={"notes": "x"}), 403)["what"]
    exported = me.get("/exports/cells.zip", case=number)
    assert exported.mimetype == "application/zip"
    assert "cells.csv" in zipfile.ZipFile(io.BytesIO(exported.data)).namelist()
    assert me.get(f"/cases/{number}/cells.csv").text.count("\n") == 3
    assert me.get("/cases", q="B 1", state="signed").json["page"]["total"] == 1


def test_a_map_is_sent_where_the_model_has_one(world, monkeypatch) -> None:
    made = case_with(world.site, world.users[READER], 1)
    _finished(world, made.number)
    image = rows(world.site, made.number)[0].id
    _error(world.me.get(f"/cells/{image}/map"), 404)  # a bundle on measurements has none
    monkeypatch.setattr(heat_maps, "overlay", lambda *_: Picture(b"png", "image/png", "e"))
    assert world.me.get(f"/cells/{image}/map").mimetype == "image/png"


def test_a_deleted_case_is_gone(world) -> None:
    made = case_with(world.site, world.users[READER], 1)
    assert world.me("DELETE", f"/cases/{made.number.lower()}").status_code == 204
    _error(world.me.get(f"/cases/{made.number}"), 404)


# ---- what is wrong with a request


@pytest.mark.parametrize(
    ("method", "path", "more", "status"),
    [
        ("GET", "/nothing", {}, 404),
        ("GET", "/cases//cells", {}, 404),
        ("PUT", "/cases", {}, 405),
        ("GET", "/predict", {}, 405),
        ("GET", "/cases?page=x", {}, 400),
        ("GET", "/cases?page=0", {}, 400),
        ("GET", "/cases?page=1&page=2", {}, 400),
        ("GET", "/cases?sort=new", {}, 400),
        ("GET", "/cases?state=closed", {}, 400),
        ("POST", "/cases", {"data": "{", "content_type": "application/json"}, 400),
        ("POST", "/cases", {"data": "[" * 100_000, "content_type": "application/json"}, 400),
        ("POST", "/cases", {"data": '{"notes": NaN}', "content_type": "application/json"}, 400),
        ("POST", "/cases", {"data": b'{"notes": "\xff"}', "content_type": "application/json"}, 400),
        ("POST", "/cases", {"data": r'{"notes": "\ud800"}', "content_type": "application/json"}, 400),
        ("POST", "/cases", {"json": []}, 422),
        ("POST", "/cases", {"json": {"notes": 3}}, 422),
        ("POST", "/cases", {"json": {"patient": "x"}}, 422),
        ("POST", "/cases", {"json": {"accession": "x" * 81}}, 422),
        ("POST", "/cases", {"data": "a=b", "content_type": "application/x-www-form-urlencoded"}, 415),
        ("POST", "/cases", {"data": " " * (1 << 21), "content_type": "application/json"}, 413),
        ("POST", "/predict", {"data": bytes(4 << 20), "content_type": "image/png"}, 413),
        ("POST", "/predict", {"data": "x", "content_type": "text/plain"}, 415),
        ("POST", "/jobs", {"data": cell(1), "content_type": "image/png"}, 415),
    ],
)
def test_every_error_has_one_shape_and_its_status(world, method, path, more, status) -> None:
    answer = world.me(method, path, **more)
    _error(answer, status)
    assert answer.mimetype == "application/json"
    assert ("Allow" in answer.headers) == (status == 405)


def test_a_key_that_cannot_be_used_is_refused(world) -> None:
    _error(world.me.send("/jobs", ("x.png", cell(1)), key="with space"), 400)


def test_a_bug_tells_nothing_and_is_in_the_log(world, monkeypatch, caplog) -> None:
    def fails(*_: object, **__: object) -> None:
        raise KeyError("/srv/secret")

    monkeypatch.setattr(listing, "listing", fails)
    answer = world.me.get("/cases")
    assert "secret" not in json.dumps(_error(answer, 500))
    assert answer.headers["X-Request-Id"] in caplog.text
    assert world.me.token not in caplog.text


def test_every_endpoint_of_the_table_has_a_view_and_every_view_its_endpoint(world) -> None:
    rules = {
        (rule.endpoint, rule.rule.replace("<", "{").replace(">", "}"), method)
        for rule in world.app.url_map.iter_rules()
        if rule.endpoint.startswith(f"{api.blueprint.name}.")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert rules == {(f"api.{row.name}", ROOT + row.path, row.method) for row in ENDPOINTS}


# ---- shapes


class _Shape(msgspec.Struct, forbid_unknown_fields=True):
    a: Annotated[str, Meta(min_length=1, max_length=3)]
    n: Annotated[int, Meta(ge=0)] = 0


@given(
    st.sampled_from([_Shape, models.NewCase, models.CaseChange, models.NewReview]),
    st.dictionaries(
        st.sampled_from(["a", "n", "z", "accession", "notes", "verdict", "comment"]),
        st.none()
        | st.booleans()
        | st.integers(-2, 2)
        | st.text(max_size=4)
        | st.sampled_from([80, 81]).map("é".__mul__),
        max_size=2,
    ),
)
def test_a_value_has_a_shape_just_when_json_schema_says_so(record: Any, value: Any) -> None:
    schema = models.components().get(record.__name__) or msgspec.json.schema(record)
    validator = pytest.importorskip("jsonschema_rs").Draft202012Validator(schema)
    if validator.is_valid(value):
        check(value, record)
        return
    with pytest.raises(BadRequestError, match="the body cannot be used") as caught:
        check(value, record)
    assert caught.value.status == 422


@pytest.mark.parametrize("sent", [{"notes": 3}, {"notes": None}, {}, {"patient": "x"}], ids=str)
def test_what_is_wrong_with_a_body_is_named_by_its_key(world, sent) -> None:
    number = world.me("POST", "/cases", json={}).json["number"]
    error = _error(world.me("PATCH", f"/cases/{number}", json=sent), 422)
    assert (next(iter(sent)) if sent else "notes") in error["what"]


@pytest.mark.parametrize(
    ("text", "value"),
    [("12", 12), ("-1", -1), ("1.0", None), ("1e3", None), ("１", None), ("", None), (" 1", None), ("9" * 13, None)],
)
def test_whole_numbers_of_an_address_are_ascii_digits(text: str, value: int | None) -> None:
    assert from_text(text, Parameter("n", str, "a text")) == text
    if value is not None:
        assert from_text(text, Parameter("n", int, "a number")) == value
        return
    with pytest.raises(BadRequestError, match="n cannot be used") as caught:
        from_text(text, Parameter("n", int, "a number"))
    assert caught.value.status == 400
