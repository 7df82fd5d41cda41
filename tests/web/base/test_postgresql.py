"""The web application on PostgreSQL, where that differs from SQLite: writers at once, a server that goes away.

What is the same on both is tested beside the rest, by tests that `web_databases.on_both` runs twice.
"""

from __future__ import annotations

import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'web' is not installed")
pytest.importorskip("psycopg", reason="the extra 'postgresql' is not installed")

from sqlalchemy import Engine, event, func, inspect, select, text

from cervicyte.errors import CervicyteError, StorageError, UsageError
from cervicyte.web.accounts import registration as entry, sessions, users
from cervicyte.web.base import rate_limits
from cervicyte.web.base.database import Database
from cervicyte.web.base.schema import (
    AuditRow,
    Base,
    Case,
    Code,
    CompletedReading,
    Image,
    PredictionRow,
    User,
    UserSession,
)
from cervicyte.web.cases import deletion, intake
from cervicyte.web.engine import workers
from cervicyte.web.engine.predictor import Predictor
from cervicyte.web.engine.workers import ImageWorkers
from cervicyte.web.errors import TooManyRequestsError
from cervicyte.web.operations import backup, restore as restoring, retention
from cervicyte.web.reading import verdicts
from support.web.cases import answer, case_with, rows, says, small_bundle, until
from support.web.databases import KINDS
from support.web.records import give_second, make_case
from support.web.site import HERE, OTHER, PASSWORD, make_site, make_user


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("postgresql") / "bundle")


@pytest.fixture
def address(postgresql):
    """The address of an empty database."""
    with postgresql.database(empty=True) as url:
        yield url


@pytest.fixture
def site(postgresql, tmp_path):
    with postgresql.database() as url:
        site = make_site(tmp_path / "data", url=url, registration="open")
        yield site
        assert site.audit_log.verify(site.database).ok
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


def _tables(engine: Engine) -> dict[str, object]:
    """All that a database says of its tables: columns, keys, conditions, indexes."""
    found = inspect(engine)
    asked = {
        "columns": found.get_multi_columns(),
        "primary keys": found.get_multi_pk_constraint(),
        "foreign keys": found.get_multi_foreign_keys(),
        "unique": found.get_multi_unique_constraints(),
        "conditions": found.get_multi_check_constraints(),
        "indexes": found.get_multi_indexes(),
    }
    return {
        f"{what} of {name}": sorted(map(repr, said)) if isinstance(said, list) else said
        for what, tables in asked.items()
        for (_, name), said in tables.items()
        if name != "alembic_version"
    }


@pytest.mark.parametrize("kind", KINDS)
def test_the_versions_lead_one_by_one_from_the_first_to_the_tables_of_the_schema(kind, request, tmp_path):
    from alembic import command
    from alembic.autogenerate import compare_metadata
    from alembic.config import Config
    from alembic.migration import MigrationContext
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", "cervicyte.web.base:migrations")
    with ExitStack() as stack:
        if kind == "sqlite":
            urls = [f"sqlite:///{tmp_path / name}" for name in ("by-versions", "by-schema")]
        else:
            server = request.getfixturevalue("postgresql")
            urls = [stack.enter_context(server.database(empty=True)) for _ in range(2)]
        by_versions, by_schema = (Database(url) for url in urls)
        for version in reversed([v.revision for v in ScriptDirectory.from_config(config).walk_revisions()]):
            with by_versions.engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, version)
        by_versions.check_ready()
        Base.metadata.create_all(by_schema.engine)
        assert _tables(by_versions.engine) == _tables(by_schema.engine)
        with by_versions.engine.connect() as connection:
            assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
        for database in (by_versions, by_schema):
            database.close()


def test_several_servers_may_start_at_once(address):
    databases = iter([Database(address) for _ in range(2)])
    assert _at_once(lambda: next(databases).upgrade(), 2) == [None, None]
    database = Database(address)
    database.upgrade()
    database.check_ready()
    database.close()


def test_accounts_from_registration_to_reset(site):
    entry.start_registration(site, "First@lab.example", HERE)
    code = site.mailer.code()
    found = _at_once(lambda: entry.finish_registration(site, "first@lab.example", code, "First", PASSWORD, HERE), 4)
    assert _kinds(found) == ["DeniedError"] * 3 + ["User"]
    signed = sessions.sign_in(site, "first@lab.example", PASSWORD, HERE)
    assert sessions.load(site, signed.token).user.last_sign_in_at == site.clock()
    entry.ask_reset(site, "first@lab.example", HERE)
    code = site.mailer.code()
    found = _at_once(lambda: entry.reset_by_code(site, "first@lab.example", code, OTHER, HERE), 4)
    assert _kinds(found) == ["DeniedError"] * 3 + ["User"]
    assert sessions.load(site, signed.token) is None


def test_one_becomes_the_first_administrator_and_the_last_stays_one(site):
    link = entry.setup_link(site)
    names = iter("abcdefgh")
    token = link.rsplit("/", 1)[1]
    found = _at_once(lambda: entry.set_up(site, token, f"{next(names)}@x.example", "", PASSWORD))
    assert _kinds(found) == ["DeniedError"] * 7 + ["User"]
    make_user(site, "second@x.example", "administrator")
    with site.database.read() as session:
        ids = iter([u.id for u in users.everyone(session)] * 4)
    assert any(isinstance(f, UsageError) for f in _at_once(lambda: users.change(site, "x", next(ids), active=False)))
    with site.database.read() as session:
        left = session.scalar(select(func.count()).where(User.role == "administrator", User.active.is_(True)))
    assert left == 1


def test_an_account_is_made_once_and_a_limit_holds_at_the_same_moment(site):
    found = _at_once(lambda: entry.add_user(site, "admin", "first@lab.example", "", "reader"))
    assert _kinds(found) == ["Handed"] + ["UsageError"] * 7
    limit = replace(rate_limits.PASSWORD_BY_ACCOUNT, most=3)
    found = _at_once(lambda: rate_limits.take(site.database, limit, "first", site.clock()))
    assert sum(isinstance(f, TooManyRequestsError) for f in found) == 5


def test_appends_at_the_same_moment_make_one_chain_and_changes_show(site):
    def append():
        with site.database.write() as session:
            site.audit_log.append(session, "first", "case.opened", "naïve \x00 \ud800", {"x": ["é\x00", 1.5, None]})

    _at_once(lambda: [append() for _ in range(5)])
    assert site.audit_log.verify(site.database).rows == 40
    with site.database.write() as session:
        session.execute(text("UPDATE audit SET subject = 'x' WHERE id = 7"))
    assert site.audit_log.verify(site.database).broken == 7
    with site.database.write() as session:
        session.execute(text("UPDATE audit SET subject = (SELECT subject FROM audit WHERE id = 6) WHERE id = 7"))


def test_a_lock_that_is_held_ends_in_words(site):
    make_user(site)
    impatient = Database(site.database.url, wait_s=0.2)
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


# ---- no two wait in a ring: of two that do, PostgreSQL ends one, which is told that the database is busy

_WAITING = text("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")


def _queued(site, held, *acts):
    """Hold a row until all of these wait, for it or for one another, in their order; then let them go on."""

    def waiting():
        with site.database.read() as session:
            return session.scalar(_WAITING)

    with ThreadPoolExecutor(len(acts)) as pool:
        futures = []
        with site.database.write() as session:
            assert session.execute(held.with_for_update()).one()
            for act in acts:
                futures.append(pool.submit(act))
                until(lambda: waiting() == len(futures))
        return [future.exception() or future.result() for future in futures]


def _case_of_two(site, reader):
    """A case, and of its two pictures the one that was stored first, whose id comes last."""
    while True:
        number = case_with(site, reader, 2).number
        first, second = rows(site, number)
        if first.id > second.id:
            return number, select(Image.id).where(Image.id == first.id)


def test_a_case_is_deleted_while_its_pictures_are_answered(site, bundle):
    reader = make_user(site)
    number, held = _case_of_two(site, reader)
    found = _queued(
        site,
        held,
        lambda: deletion.delete(site, reader, number, number),
        lambda: answer(site, bundle, number, [says("normal_columnar", 0.1)] * 2),
    )
    assert found == [None, None]


def test_a_case_is_deleted_while_its_pictures_are_asked_again(site, bundle):
    reader, administrator = make_user(site), make_user(site, "admin@lab.example", "administrator")
    number, held = _case_of_two(site, reader)
    for said in (["damaged"], [None, "damaged"]):  # the first is stored first again
        answer(site, bundle, number, said)
    found = _queued(
        site,
        held,
        lambda: intake.retry_all(site, administrator),
        lambda: deletion.delete(site, reader, number, number),
    )
    assert found == [2, None]


def test_a_verdict_is_changed_while_a_failure_completes_the_blinded_reading(site, bundle):
    first, second = make_user(site), make_user(site, "second@lab.example")
    case, (image_id, _) = make_case(site, first, [0.9, None])
    give_second(site, first, case, second)
    for reader in (first, second):
        verdicts.decide(site, reader, image_id, "HSIL")
    changed, answered = _queued(
        site,
        select(Case.id).where(Case.number == case.number),
        lambda: verdicts.decide(site, first, image_id, "LSIL"),
        lambda: answer(site, bundle, case.number, [None, "damaged"]),
    )
    assert (changed.stored, answered) == ("LSIL", None)
    with site.database.read() as session:
        assert session.scalars(select(CompletedReading.last_verdict_id)).all() == [changed.id]


def test_two_administrators_set_the_policy_at_the_same_moment(site):
    administrator = make_user(site, "admin@lab.example", "administrator")
    days = iter(range(1, 9))
    assert _at_once(lambda: retention.set_retention(site, administrator, next(days))) == [None] * 8
    with site.database.read() as session:
        details = session.scalars(select(AuditRow.detail).where(AuditRow.action == "retention.set")).all()
        assert retention.retention_days(session) == details[-1]["days"]
    assert [row["before"] for row in details[1:]] == [row["days"] for row in details[:-1]]


def test_a_user_is_disabled_while_a_new_password_is_set(site):
    user = make_user(site)
    link = entry.reset_for(site, "admin", user.id).link
    reset, disabled = _queued(
        site,
        select(Code.id).where(Code.user_id == user.id),
        lambda: entry.reset_by_link(site, link.rsplit("/", 1)[1], OTHER),
        lambda: users.change(site, "admin", user.id, active=False),
    )
    assert (reset.id, disabled.active) == (user.id, False)


def test_a_user_is_disabled_while_another_lets_the_user_in_again(site):
    user = make_user(site)
    signed = sessions.sign_in(site, user.email, PASSWORD, HERE)
    with site.database.write() as session:
        session.get(User, user.id).totp_secret = "JBSWY3DPEHPK3PXP"
    handed, disabled = _queued(
        site,
        select(UserSession.id).where(UserSession.user_id == user.id),
        lambda: entry.reset_for(site, "admin", user.id),
        lambda: users.change(site, "admin", user.id, active=False),
    )
    assert (handed.email, disabled.active) == (user.email, False)
    assert sessions.load(site, signed.token) is None


def test_a_user_is_disabled_while_another_code_is_asked_for(site):
    user = make_user(site)
    entry.ask_reset(site, user.email, HERE)
    asked, disabled = _queued(
        site,
        select(Code.id).where(Code.user_id == user.id),
        lambda: entry.ask_reset(site, user.email, HERE),
        lambda: users.change(site, "admin", user.id, active=False),
    )
    assert (asked, disabled.active) == (None, False)


def test_who_tidies_passes_over_what_others_have_in_hand(site):
    for name in ("first", "second"):
        rate_limits.take(site.database, rate_limits.CODE_BY_ACCOUNT, name, site.clock())
    site.clock.forward(days=1)
    with site.database.write() as session:
        session.execute(text("UPDATE attempts SET at = at WHERE subject = 'first'"))
        assert rate_limits.prune(site.database, site.clock()) == 1
    assert rate_limits.prune(site.database, site.clock()) == 1


# ---- a server that goes away


def test_what_is_cut_off_in_the_middle_waits_and_is_answered_once(site, bundle, postgresql, monkeypatch):
    monkeypatch.setattr(workers, "_LOOK_S", 0.05)
    monkeypatch.setattr(workers, "_AGAIN_S", (0.02, 0.05))
    number = case_with(site, make_user(site), 12).number
    down = [True]

    @event.listens_for(site.database.engine, "before_cursor_execute")
    def cut_off(connection, cursor, statement, *_):
        if down and statement.startswith("INSERT INTO predictions"):  # after its picture was marked as done
            postgresql.cut_off(site.database.url.database)

    with Predictor(bundle, workers=2) as predictor:
        work = ImageWorkers(site, predictor)
        work.start()
        until(lambda: "cannot be reached" in work.health().problem)
        work.stop(timeout_s=0)
        assert workers.backlog(site).waiting == 12
        down.clear()
        with ImageWorkers(site, predictor):
            until(lambda: not workers.backlog(site).waiting)
    with site.database.read() as session:
        answered = session.scalars(select(PredictionRow.image_id)).all()
    assert sorted(answered) == sorted(image.id for image in rows(site, number))


# ---- backups


def test_a_dump_and_a_backup_together_bring_all_back(site, postgresql, bundle, tmp_path):
    case = case_with(site, make_user(site), 2)
    answer(site, bundle, case.number, [says("normal_columnar", 0.1)])

    def run(program, url, *words):
        subprocess.run([postgresql.programs / program, f"--dbname={url}", *words], check=True, timeout=60)

    dump = tmp_path / "database.dump"
    run("pg_dump", postgresql.url(site.database.url.database), "--format=custom", f"--file={dump}")
    made = backup.make(site, "admin")
    assert (made.images, made.database, made.verified) == (2, False, True)
    done = restoring.restore(made.path, tmp_path / "other")
    assert (done.images, done.database) == (2, False)
    with postgresql.database(empty=True) as url:
        run("pg_restore", url, dump)
        again = make_site(tmp_path / "other", url=url)
        assert again.audit_log.verify(again.database).ok
        found = rows(again, case.number)
        assert [(i.state, again.image_store.has(i.sha256)) for i in found] == [("done", True), ("waiting", True)]
        case_with(again, make_user(again, "other@lab.example"), 1)  # numbers go on where they were
        again.database.close()
