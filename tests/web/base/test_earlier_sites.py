"""Sites that an earlier build wrote: today's code opens them and reads all as it was recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, delete, select
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from cervicyte.web.accounts import sessions, users
from cervicyte.web.base.audit_log import HEADS, AuditLog
from cervicyte.web.base.database import FILE, Database
from cervicyte.web.base.schema import (
    AuditRow,
    Case,
    CompletedReading,
    Image,
    PredictionRow,
    Report,
    RetentionPolicy,
    User,
    VerdictRow,
)
from cervicyte.web.base.site import Site
from cervicyte.web.cases import blinding
from cervicyte.web.operations import backup, restore, retention
from cervicyte.web.reports import reports
from support.paths import TESTS
from support.web.databases import KINDS
from support.web.site import HERE, PASSWORD, make_site

SITES = TESTS / "artefacts" / "sites"
_READERS = {"owner": "owner@lab.example", "second": "second@lab.example"}


@pytest.fixture(params=KINDS)
def address(request: pytest.FixtureRequest, tmp_path) -> Iterator[str]:
    """The address of the database of an earlier build's site, which lies in `folder`, as that build left it."""
    kind = request.param
    folder = tmp_path / "site"
    shutil.copytree(SITES / kind, folder)
    if kind == "sqlite":
        yield ""
    else:
        with request.getfixturevalue("postgresql").database(empty=True) as url:
            engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
            with engine.begin() as connection:
                connection.exec_driver_sql((folder / "database.sql").read_text(encoding="utf-8"))
            engine.dispose()
            yield url


@pytest.fixture
def folder(address: str, tmp_path) -> Path:
    """The data folder of the earlier build's site."""
    return tmp_path / "site"


@pytest.fixture
def site(address: str, folder: Path) -> Iterator[Site]:
    """The site of an earlier build on this database, as today's code opens it."""
    opened = make_site(folder, url=address)
    yield opened
    opened.database.close()


@pytest.fixture
def recorded(site: Site) -> dict[str, Any]:
    """What the earlier build read from its site."""
    return json.loads((site.data_dir / "expected.json").read_text(encoding="utf-8"))


def _user(session: Session, email: str) -> User:
    return session.scalars(select(User).where(User.email == email)).one()


def _read(site: Site, session: Session, case: Case) -> dict[str, Any]:
    """A case in the words of the record."""
    emails = dict(session.execute(select(User.id, User.email)).all())
    images = session.scalars(select(Image).where(Image.case_id == case.id).order_by(Image.position)).all()
    answers = select(PredictionRow.label, PredictionRow.p_abnormal).join(Image, Image.id == PredictionRow.image_id)
    answers = answers.where(Image.case_id == case.id).order_by(PredictionRow.id)
    verdicts = select(VerdictRow, Image.name).join(Image, Image.id == VerdictRow.image_id)
    rows = session.execute(verdicts.where(Image.case_id == case.id).order_by(VerdictRow.id)).all()
    signed = session.scalars(select(Report).where(Report.case_id == case.id).order_by(Report.version)).all()
    reviewer = _user(session, "reviewer@lab.example")
    readers = {name: _user(session, email) for name, email in _READERS.items()}
    return {
        "number": case.number,
        "state": case.state,
        "goes_on": blinding.goes_on(session, case),
        "images": [[image.name, image.sha256, image.state] for image in images],
        "predictions": [list(row) for row in session.execute(answers)],
        "verdicts": [[n, emails[v.reader_id], v.reading, v.verdict, v.agrees, v.comment] for v, n in rows],
        "stands": {
            name: [blinding.stands(session, user, case, v.id) for v, _ in rows if v.reader_id == user.id]
            for name, user in readers.items()
        },
        "reports": [[row.version, row.sha256, row.body["conclusion"], row.reason] for row in signed],
        "problem": reports.view(session, reviewer, case.number, site.clock()).problem if signed else None,
    }


def _assert_as_recorded(site: Site, recorded: dict[str, Any]) -> None:
    with site.database.read() as session:
        assert retention.retention_days(session) == recorded["retention_days"]
        people = session.execute(select(User.email, User.role).order_by(User.email))
        assert [list(row) for row in people] == recorded["users"]
        cases = {case.number: case for case in session.scalars(select(Case))}
        assert sorted(cases) == sorted(row["number"] for row in recorded["cases"].values())
        for row in recorded["cases"].values():
            assert _read(site, session, cases[row["number"]]) == row
            for _, digest, _ in row["images"]:
                assert site.image_store.get(digest)  # which compares the bytes with their name


def test_a_site_of_an_earlier_build_reads_as_it_was_recorded(site: Site, recorded: dict[str, Any]) -> None:
    site.database.check_ready()
    verified = site.audit_log.verify(site.database)
    assert (verified.ok, verified.rows, verified.head) == (True, recorded["audit"]["rows"], recorded["audit"]["head"])
    _assert_as_recorded(site, recorded)


def test_people_of_an_earlier_build_sign_in(site: Site, recorded: dict[str, Any]) -> None:
    for email, role in recorded["users"]:
        signed_in = sessions.sign_in(site, email, PASSWORD, HERE)
        assert isinstance(signed_in, sessions.SignedIn)
        with site.database.read() as session:
            assert _user(session, email).role == role
    assert users.may(_in(site, "administrator@lab.example"), "administer")


def _in(site: Site, email: str) -> User:
    with site.database.read() as session:
        return _user(session, email)


def test_what_the_audit_log_alone_knew_has_tables_of_its_own(site: Site, recorded: dict[str, Any]) -> None:
    with site.database.read() as session:
        assert session.scalars(select(RetentionPolicy.days)).all() == [200]
        number = recorded["cases"]["twice"]["number"]
        case = session.scalars(select(Case).where(Case.number == number)).one()
        # Neither the reading that goes on, nor the case that was not read blinded, nor the one that was deleted.
        rows = session.execute(select(CompletedReading.case_id, CompletedReading.last_verdict_id)).all()
        assert sorted(row.last_verdict_id for row in rows) == [8, 10]
        assert {row.case_id for row in rows} == {case.id}
        actions = session.scalars(select(AuditRow.action)).all()
        assert (actions.count("retention.set"), actions.count("review.completed")) == (2, 3)


@pytest.mark.parametrize(("entries", "expected"), [(None, 30), ([0], 0), ([0, 90], 90)])
def test_the_policy_of_an_earlier_site_is_what_was_set_last(
    address: str, folder: Path, entries: list[int] | None, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CERVICYTE_RETENTION_DAYS", "30")
    database = Database(address or f"sqlite:///{folder / FILE}")
    with database.write() as session:  # as the earlier build left it: its tables are the audit log's of today
        if entries is None:  # no administrator ever set it
            session.execute(delete(AuditRow).where(AuditRow.action == "retention.set"))
        for days in entries or ():
            AuditLog(folder / HEADS).append(session, "administrator@lab.example", "retention.set", "", {"days": days})
    database.close()
    opened = make_site(folder, url=address)
    with opened.database.read() as session:
        assert retention.retention_days(session) == expected
    with opened.database.read() as session:
        administrator = _user(session, "administrator@lab.example")
    retention.set_retention(opened, administrator, 0)  # which goes on from there
    with opened.database.read() as session:
        assert retention.retention_days(session) == 0
    opened.database.close()


@pytest.mark.parametrize("address", ["sqlite"], indirect=True)
def test_a_backup_of_an_earlier_site_is_restored_as_recorded(site: Site, recorded: dict[str, Any], tmp_path) -> None:
    made = backup.make(site, "system")
    restore.restore(made.path, tmp_path / "again")
    again = make_site(tmp_path / "again")
    try:
        _assert_as_recorded(again, recorded)
    finally:
        again.database.close()
