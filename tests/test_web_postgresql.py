"""The web application on PostgreSQL: a server of its own, started for these tests where PostgreSQL is installed."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'web' is not installed")
pytest.importorskip("psycopg", reason="the extra 'postgresql' is not installed")

from sqlalchemy import create_engine, func, select, text

from cervicyte.errors import CervicyteError, StorageError, UsageError
from cervicyte.web import accounts, entry, limits, sessions
from cervicyte.web.database import Database
from cervicyte.web.limits import TooMany
from cervicyte.web.schema import Base, User
from web_site import HERE, OTHER, PASSWORD, make_site, make_user


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[4]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).parent if on_path else None


@pytest.fixture(scope="module")
def server():
    """The address of a fresh server, reached by a socket only; it will not run as root, so another user runs it."""
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: nothing here was tested on it")
    who: dict[str, object] = {}
    folder = Path(tempfile.mkdtemp(prefix="cervicyte-pg-", dir="/tmp"))
    if os.geteuid() == 0:
        name = next((n for n in ("postgres", "nobody") if n in {p.pw_name for p in pwd.getpwall()}), None)
        if name is None:
            pytest.skip("PostgreSQL does not run as root, and there is no other user to run it")
        person = pwd.getpwnam(name)
        os.chown(folder, person.pw_uid, person.pw_gid)
        who = {"user": person.pw_uid, "group": person.pw_gid, "extra_groups": []}
    data = folder / "data"

    def run(program: str, *words: str) -> None:
        subprocess.run(
            [programs / program, *words], check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60, **who
        )

    try:
        run("initdb", "-D", str(data), "-U", "cervicyte", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync")
        options = f"-k {folder} -c listen_addresses='' -c fsync=off -c max_connections=100"
        run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", options, "start")
        try:
            yield f"postgresql://cervicyte@/postgres?host={folder}"
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def address(server):
    """The address of an empty database on the server."""
    name = f"t{os.urandom(4).hex()}"
    admin = create_engine(server.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def site(address, tmp_path):
    site = make_site(tmp_path / "data", url=address, registration="open")
    yield site
    assert site.ledger.verify(site.database).ok
    site.database.close()


def _at_once(act, n=8):
    barrier = threading.Barrier(n)

    def run(_):
        barrier.wait()
        try:
            return act()
        except CervicyteError as error:
            return error

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(run, range(n)))


def _kinds(found):
    return sorted(type(f).__name__ for f in found)


def test_several_servers_may_start_at_once_and_make_the_tables_of_the_schema(address):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    databases = iter([Database(address) for _ in range(2)])
    assert _at_once(lambda: next(databases).upgrade(), 2) == [None, None]
    database = Database(address)
    database.upgrade()
    database.check_ready()
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    database.close()


def test_accounts_from_registration_to_reset(site):
    entry.start_registration(site, "First@lab.example", HERE)
    code = site.mailer.code()
    found = _at_once(lambda: entry.finish_registration(site, "first@lab.example", code, "First", PASSWORD, HERE), 4)
    assert _kinds(found) == ["Denied"] * 3 + ["User"]
    signed = sessions.sign_in(site, "first@lab.example", PASSWORD, HERE)
    assert sessions.load(site, signed.token).user.last_sign_in_at == site.clock()
    entry.ask_reset(site, "first@lab.example", HERE)
    code = site.mailer.code()
    found = _at_once(lambda: entry.reset_by_code(site, "first@lab.example", code, OTHER, HERE), 4)
    assert _kinds(found) == ["Denied"] * 3 + ["User"]
    assert sessions.load(site, signed.token) is None


def test_one_becomes_the_first_administrator_and_the_last_stays_one(site):
    link = entry.setup_link(site)
    names = iter("abcdefgh")
    token = link.rsplit("/", 1)[1]
    found = _at_once(lambda: entry.set_up(site, token, f"{next(names)}@x.example", "", PASSWORD))
    assert _kinds(found) == ["Denied"] * 7 + ["User"]
    make_user(site, "second@x.example", "administrator")
    with site.database.read() as session:
        ids = iter([u.id for u in accounts.everyone(session)] * 4)
    assert any(isinstance(f, UsageError) for f in _at_once(lambda: accounts.change(site, "x", next(ids), active=False)))
    with site.database.read() as session:
        left = session.scalar(select(func.count()).where(User.role == "administrator", User.active.is_(True)))
    assert left == 1


def test_an_account_is_made_once_and_a_limit_holds_at_the_same_moment(site):
    found = _at_once(lambda: entry.add_user(site, "admin", "first@lab.example", "", "reader"))
    assert _kinds(found) == ["Handed"] + ["UsageError"] * 7
    limit = replace(limits.PASSWORD_BY_ACCOUNT, most=3)
    found = _at_once(lambda: limits.take(site.database, limit, "first", site.clock()))
    assert sum(isinstance(f, TooMany) for f in found) == 5


def test_appends_at_the_same_moment_make_one_chain_and_changes_show(site):
    def append():
        with site.database.write() as session:
            site.ledger.append(session, "first", "case.opened", "naïve \x00 \ud800", {"x": ["é\x00", 1.5, None]})

    _at_once(lambda: [append() for _ in range(5)])
    assert site.ledger.verify(site.database).rows == 40
    with site.database.write() as session:
        session.execute(text("UPDATE audit SET subject = 'x' WHERE id = 7"))
    assert site.ledger.verify(site.database).broken == 7
    with site.database.write() as session:
        session.execute(text("UPDATE audit SET subject = (SELECT subject FROM audit WHERE id = 6) WHERE id = 7"))


def test_a_lock_that_is_held_ends_in_words(site, address):
    make_user(site)
    impatient = Database(address, wait_s=0.2)
    with site.database.write() as session:
        session.execute(text("LOCK TABLE users IN ACCESS EXCLUSIVE MODE"))
        with pytest.raises(StorageError, match="busy"), impatient.read() as other:
            other.scalar(select(User))
    impatient.close()


def test_tables_that_are_not_there_are_said_so(address):
    database = Database(address)
    with pytest.raises(StorageError, match="not been set up"), database.read() as session:
        session.scalar(select(User))
    with pytest.raises(StorageError, match="not up to date"):
        database.check_ready()
    database.close()
