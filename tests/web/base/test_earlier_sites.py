"""Sites that an earlier build wrote: today's code opens them and reads all as it was recorded."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from typing import Any

import pytest
from sqlalchemy import create_engine, select
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session

from cervicyte.web.accounts import sessions, users
from cervicyte.web.base.schema import Case, Image, PredictionRow, Report, User, VerdictRow
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
def site(request: pytest.FixtureRequest, tmp_path) -> Iterator[Site]:
    """The site of an earlier build on this database, as today's code opens it."""
    kind = request.param
    folder = tmp_path / "site"
    shutil.copytree(SITES / kind, folder)
    if kind == "sqlite":
        opened = make_site(folder)
        yield opened
        opened.database.close()
    else:
        with request.getfixturevalue("postgresql").database(empty=True) as url:
            engine = create_engine(make_url(url).set(drivername="postgresql+psycopg"))
            with engine.begin() as connection:
                connection.exec_driver_sql((folder / "database.sql").read_text(encoding="utf-8"))
            engine.dispose()
            opened = make_site(folder, url=url)
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


@pytest.mark.parametrize("site", ["sqlite"], indirect=True)
def test_a_backup_of_an_earlier_site_is_restored_as_recorded(site: Site, recorded: dict[str, Any], tmp_path) -> None:
    made = backup.make(site, "system")
    restore.restore(made.path, tmp_path / "again")
    again = make_site(tmp_path / "again")
    try:
        _assert_as_recorded(again, recorded)
    finally:
        again.database.close()
