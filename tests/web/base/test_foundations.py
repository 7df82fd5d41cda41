"""Database, image store, audit log, secrets, mail and limits of the web application."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

pytest.importorskip("sqlalchemy", reason="the extra 'web' is not installed")

from sqlalchemy import delete, func, select, text

from cervicyte.errors import CervicyteError, MissingError, StorageError, UsageError
from cervicyte.web.base import credentials, rate_limits
from cervicyte.web.base.audit_log import HEADS, AuditLog
from cervicyte.web.base.database import FILE, Database, after_commit
from cervicyte.web.base.image_store import ImageStore
from cervicyte.web.base.mail import Mailer, Message, normal_address
from cervicyte.web.base.schema import Attempt, AuditRow, Base, User
from cervicyte.web.errors import MailError, TooManyRequestsError
from support.web.databases import on_both
from support.web.site import HERE, PASSWORD, Clock, cheap, make_site, make_user

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def site(tmp_path, database_url):
    site = make_site(tmp_path / "data", url=database_url)
    yield site
    site.database.close()


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


# --- database ---------------------------------------------------------------------------------------------------------


def test_migrations_make_exactly_the_tables_of_the_schema(site):
    from alembic.autogenerate import compare_metadata
    from alembic.migration import MigrationContext

    with site.database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
    site.database.check_ready()


@on_both
def test_a_reader_sees_one_state_and_changes_nothing(site):
    with site.database.read() as session:
        before = session.scalar(select(func.count()).select_from(User))
        make_user(site)
        assert session.scalar(select(func.count()).select_from(User)) == before
    with contextlib.suppress(StorageError), site.database.read() as session:
        session.execute(delete(User))
    with site.database.read() as session:
        assert session.scalar(select(func.count()).select_from(User)) == before + 1


def test_sqlite_is_in_wal_mode_private_and_checks_foreign_keys(site):
    with site.database.read() as session:
        assert session.scalar(text("PRAGMA journal_mode")) == "wal"
        assert session.scalar(text("PRAGMA foreign_keys")) == 1
        assert session.scalar(text("PRAGMA synchronous")) == 2
    assert (site.data_dir.stat().st_mode & 0o077, (site.data_dir / FILE).stat().st_mode & 0o077) == (0, 0)


def test_two_processes_may_start_at_once(tmp_path):
    code = (
        "import sys; from cervicyte.web.base.database import Database\n"
        "d = Database('sqlite:///' + sys.argv[1]); d.upgrade(); d.check_ready()"
    )
    run = [sys.executable, "-c", code, str(tmp_path / "d" / FILE)]
    both = [subprocess.Popen(run, stderr=subprocess.PIPE, text=True) for _ in range(2)]
    assert [(p.communicate()[1], p.returncode) for p in both] == [("", 0)] * 2


def test_threads_may_upgrade_at_once_and_upgrading_again_changes_nothing(tmp_path):
    databases = [Database(f"sqlite:///{tmp_path / FILE}") for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda d: d.upgrade(), databases))
    databases[0].upgrade()
    databases[0].check_ready()
    for database in databases:
        database.close()


def test_a_database_of_a_newer_version_is_left_alone(site):
    with site.database.write() as session:
        session.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(UsageError, match="newer"):
        site.database.upgrade()
    with pytest.raises(StorageError, match="not up to date"):
        site.database.check_ready()


@on_both
def test_an_error_leaves_nothing_behind_and_calls_nothing_after(site):
    done = []
    with pytest.raises(RuntimeError), site.database.write() as session:  # noqa: PT012
        session.add(Attempt(kind="x", subject="y", at=NOON))
        session.flush()
        after_commit(session, lambda: done.append(1))
        raise RuntimeError
    with site.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Attempt)) == 0
    assert done == []


def test_writers_take_turns_and_none_loses_a_count(site):
    with site.database.write() as session:
        session.execute(text("CREATE TABLE n (x INTEGER)"))
        session.execute(text("INSERT INTO n VALUES (0)"))

    def add_one(_):
        with site.database.write() as session:
            x = session.scalar(text("SELECT x FROM n"))
            session.execute(text("UPDATE n SET x = :x"), {"x": x + 1})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add_one, range(40)))
    with site.database.read() as session:
        assert session.scalar(text("SELECT x FROM n")) == 40


def test_a_locked_database_is_said_to_be_busy_while_readers_go_on(tmp_path):
    make_site(tmp_path).database.close()
    database = Database(f"sqlite:///{tmp_path / FILE}", wait_s=0.1)
    with closing(sqlite3.connect(tmp_path / FILE, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="busy") as told, database.write():
            pass
        assert "try again" in told.value.todo
        with database.read() as session:
            assert session.scalar(select(func.count()).select_from(User)) == 0
    database.close()


def test_a_full_disk_is_said_to_be_full(site):
    with pytest.raises(StorageError, match="full") as told, site.database.write() as session:  # noqa: PT012
        pages = session.scalar(text("PRAGMA page_count"))
        session.execute(text(f"PRAGMA max_page_count = {pages}"))
        for _ in range(200):
            site.audit_log.append(session, "a", "b", "c" * 400, {"x": "y" * 4000})
    assert "free some space" in told.value.todo
    site.database.close()
    assert site.audit_log.verify(site.database).rows == 0


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda p: p.write_bytes(b"not a database at all" * 100), "not a database"),
        (lambda p: p.unlink(), "not been set up|cannot be opened"),
    ],
)
def test_a_damaged_or_missing_database_is_told_apart(tmp_path, harm, says):
    make_site(tmp_path).database.close()
    harm(tmp_path / FILE)
    database = Database(f"sqlite:///{tmp_path / FILE}")
    with pytest.raises(StorageError, match=says), database.read() as session:
        session.scalar(select(User))
    database.close()


@pytest.mark.parametrize("url", ["mysql://root:hunter2@x/y", "sqlite://", "no address: hunter2", "sqlite:///:memory:"])
def test_other_databases_are_refused_without_showing_a_password(url):
    with pytest.raises(UsageError) as told:
        Database(url)
    assert "hunter2" not in str(told.value)


def test_a_server_that_is_not_there_is_said_so_without_the_password():
    pytest.importorskip("psycopg")
    database = Database("postgresql://me:hunter2@127.0.0.1:9/nowhere")
    with pytest.raises(StorageError, match="cannot be reached") as told, database.read() as session:
        session.scalar(select(User))
    assert "hunter2" not in str(told.value)


@on_both
def test_times_come_back_aware_and_a_time_without_zone_is_refused(site):
    east = NOON.astimezone(timezone(timedelta(hours=9)))
    with site.database.write() as session:
        session.add(Attempt(kind="x", subject="y", at=east))
    with site.database.read() as session:
        found = session.scalar(select(Attempt.at))
    assert (found, found.utcoffset()) == (NOON, timedelta(0))
    with pytest.raises(Exception, match="time zone"), site.database.write() as session:
        session.add(Attempt(kind="x", subject="y", at=datetime(2026, 1, 1)))


# --- image store ---------------------------------------------------------------------------------------------------


@given(data=st.binary(max_size=300))
@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_what_is_put_in_comes_out_and_is_stored_once(tmp_path, data):
    image_store = ImageStore(tmp_path / "v")
    digest = image_store.put(data)
    before = _files(image_store.folder)
    assert (image_store.put(data), image_store.get(digest), image_store.has(digest)) == (digest, data, True)
    assert _files(image_store.folder) == before


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "", "A" * 64, "a" * 63, "a" * 64 + "\n", "/" + "a" * 63, "٣" * 64]
)
def test_no_name_that_a_user_makes_becomes_a_path(tmp_path, name):
    image_store = ImageStore(tmp_path)
    for act in (image_store.get, image_store.has, image_store.delete):
        with pytest.raises(MissingError):
            act(name)


def test_a_damaged_image_is_never_given_out_and_storing_it_again_mends_it(tmp_path):
    image_store = ImageStore(tmp_path)
    digest = image_store.put(b"cell")
    (path,) = _files(tmp_path)
    path.write_bytes(b"cull")
    with pytest.raises(StorageError, match="damaged"):
        image_store.get(digest)
    image_store.put(b"cell")
    assert image_store.get(digest) == b"cell"
    assert image_store.delete(digest)
    assert not image_store.delete(digest)
    with pytest.raises(MissingError):
        image_store.get(digest)


def test_a_write_that_fails_leaves_nothing_and_says_what_to_do(tmp_path, monkeypatch):
    image_store = ImageStore(tmp_path)
    first = image_store.put(b"first")

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        image_store.put(b"second")
    assert list(image_store.digests()) == [first]
    assert len(_files(tmp_path)) == 1


def test_many_threads_may_store_the_same_image_and_a_kill_s_leavings_are_swept(tmp_path):
    image_store = ImageStore(tmp_path)
    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(lambda _: image_store.put(b"x" * 100_000), range(16)))
    (digest,) = digests
    left = tmp_path / digest[:2] / ".abc.tmp"
    left.write_bytes(b"half")
    assert (image_store.sweep(), image_store.sweep(older_s=-1)) == (0, 1)
    assert list(image_store.digests()) == [digest]
    assert (tmp_path / digest[:2] / digest).stat().st_mode & 0o077 == 0


# --- audit log --------------------------------------------------------------------------------------------------------


def _fill(site, n: int) -> None:
    with site.database.write() as session:
        for i in range(n):
            site.audit_log.append(session, "first@lab.example", "case.opened", f"case {i}", {"i": i}, site.clock())


def _sql(site, *statements: str) -> None:
    with site.database.write() as session:
        for statement in statements:
            session.execute(text(statement))


def test_an_untouched_log_is_good(site):
    empty = site.audit_log.verify(site.database)
    _fill(site, 5)
    found = site.audit_log.verify(site.database)
    assert (empty.ok, empty.rows, found.ok, found.rows) == (True, 0, True, 5)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("actor", "'eve@x.example'"), ("action", "'case.closed'"), ("subject", "'case 99'"), ("detail", "'{\"i\": 7}'"),
        ("at", "'2026-03-01 12:00:00.000001'"), ("previous", "hash"), ("hash", "previous"),
    ],
)  # fmt: skip
def test_a_changed_field_shows_at_its_row(site, column, value):
    _fill(site, 5)
    _sql(site, f"UPDATE audit SET {column} = {value} WHERE id = 3")
    found = site.audit_log.verify(site.database)
    assert (found.ok, found.broken) == (False, 3)
    assert "row 3" in found.problem


@on_both
def test_a_row_taken_out_put_in_or_moved_shows(site):
    _fill(site, 5)
    _sql(site, "DELETE FROM audit WHERE id = 2")
    assert site.audit_log.verify(site.database).broken == 2
    _sql(site, "UPDATE audit SET id = id - 1 WHERE id > 2")
    assert site.audit_log.verify(site.database).broken == 2


def test_a_tail_that_was_cut_off_shows_even_when_its_head_was_put_back(site):
    _fill(site, 5)
    _sql(site, "DELETE FROM audit WHERE id > 3")
    assert site.audit_log.verify(site.database).broken == 4
    _sql(site, "UPDATE audit_head SET rows = 3, hash = (SELECT hash FROM audit WHERE id = 3)")
    found = site.audit_log.verify(site.database)
    assert (found.broken, found.problem) == (4, "rows 4 to 5 were cut off")
    _sql(site, "DELETE FROM audit", "DELETE FROM audit_head")
    assert site.audit_log.verify(site.database).broken == 1


def test_the_table_of_one_row_shows_a_cut_tail_where_the_file_is_lost(site):
    _fill(site, 5)
    (site.data_dir / HEADS).unlink()
    assert site.audit_log.verify(site.database).ok
    _sql(site, "DELETE FROM audit WHERE id = 5")
    assert site.audit_log.verify(site.database).broken == 5


def test_a_chain_that_was_computed_anew_shows_against_the_file(site, tmp_path):
    _fill(site, 3)
    forged = make_site(tmp_path / "forged")
    with forged.database.write() as session:
        for i in range(3):
            forged.audit_log.append(session, "eve", "case.opened", f"case {i}", {"i": i}, site.clock())
    for database in (site.database, forged.database):
        database.close()
    with closing(sqlite3.connect(forged.data_dir / FILE)) as other:
        other.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    shutil.copy(forged.data_dir / FILE, site.data_dir / FILE)
    found = site.audit_log.verify(site.database)
    assert (found.broken, "noted" in found.problem) == (1, True)


def test_half_a_line_in_the_file_after_a_power_cut_is_no_alarm(site):
    _fill(site, 2)
    with (site.data_dir / HEADS).open("a") as stream:
        stream.write("\n3 abc")
    _fill(site, 2)
    assert site.audit_log.verify(site.database).ok


def test_a_log_that_was_not_stored_leaves_no_head(site):
    with pytest.raises(RuntimeError), site.database.write() as session:  # noqa: PT012
        site.audit_log.append(session, "a", "b")
        raise RuntimeError
    _fill(site, 1)
    assert site.audit_log.verify(site.database).rows == 1


def test_threads_that_append_at_once_make_one_chain(site):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: _fill(site, 2), range(20)))
    found = site.audit_log.verify(site.database)
    assert (found.ok, found.rows) == (True, 40)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@given(
    words=st.lists(st.text(max_size=20), min_size=3, max_size=3), detail=st.dictionaries(st.text(), JSON, max_size=3)
)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_whatever_is_logged_verifies_when_read_back(site, words, detail):
    with site.database.write() as session:
        site.audit_log.append(session, *words, detail)
    assert site.audit_log.verify(site.database).ok


def test_a_detail_that_is_no_json_is_refused(site):
    with pytest.raises(UsageError, match="JSON"), site.database.write() as session:
        site.audit_log.append(session, "a", "b", "c", {"x": float("nan")})


def test_a_file_of_heads_that_cannot_be_written_is_logged_and_loses_no_work(site, caplog):
    audit_log = AuditLog(site.data_dir)  # a folder: it cannot be opened for writing
    with site.database.write() as session:
        audit_log.append(session, "a", "b")
    assert "could not be noted" in caplog.text
    with site.database.read() as session:
        assert session.scalar(select(func.count()).select_from(AuditRow)) == 1


# --- secrets ----------------------------------------------------------------------------------------------------------


def test_passwords_are_argon2id_with_the_parameters_of_rfc_9106():
    stored = credentials.Hasher().hash(PASSWORD)
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert PASSWORD not in stored


def test_a_weaker_hash_is_renewed_and_a_wrong_password_renews_nothing():
    old, new = cheap(), credentials.Hasher(time_cost=2, memory_kib=16, parallelism=1)
    stored = old.hash(PASSWORD)
    found = new.check(stored, PASSWORD)
    assert found.ok
    assert found.rehash
    assert new.check(found.rehash, PASSWORD) == credentials.Checked(True)
    assert new.check(stored, PASSWORD + "x") == credentials.Checked(False)


def test_nobody_and_damaged_hashes_match_nothing_and_are_computed_all_the_same(monkeypatch):
    hasher, calls = cheap(), []
    verify = hasher._argon.verify
    monkeypatch.setattr(hasher, "_argon", type("A", (), {"verify": lambda s, *a: calls.append(1) or verify(*a)})())
    for stored in (None, "", "not a hash"):
        assert hasher.check(stored, PASSWORD) == credentials.Checked(False)
    assert len(calls) >= 3


def test_the_same_password_typed_as_other_code_points_is_the_same():
    hasher = cheap()
    assert hasher.check(hasher.hash("schöne lange Nacht"), "scho\u0308ne lange Nacht").ok
    assert not hasher.check(hasher.hash("a" * 256), "a" * 257).ok
    assert not hasher.check(hasher.hash(PASSWORD), "\ud800").ok


@pytest.mark.parametrize(
    "bad",
    ["tiny!", "a" * 12, "abababababab", "123456789012", "abcdefghijklm", "qwerty123456", "x" * 300, "first.reader-2026",
     "abcd1abcd1abcd1"],
)  # fmt: skip
def test_passwords_that_are_guessed_first_are_refused_and_never_repeated(bad):
    with pytest.raises(UsageError) as told:
        credentials.check_password(bad, "first.reader@lab.example")
    assert bad not in str(told.value)


@pytest.mark.parametrize("good", [PASSWORD, "correct horse battery staple", "tr0ub4dor&3xyz", "пароль из пяти слов"])
def test_other_passwords_are_taken(good):
    assert credentials.check_password(good, "first@lab.example") is None


def test_tokens_and_codes_do_not_repeat_and_codes_forgive_typing():
    assert len({credentials.new_token() for _ in range(200)} | {credentials.new_code() for _ in range(200)}) == 400
    assert len(credentials.new_token()) >= 43
    code = credentials.new_code()
    stored = credentials.code_digest("reset", "a@b.example", code)
    assert stored == credentials.code_digest("reset", "a@b.example", f" {code.lower().replace('-', ' ')} ")
    assert stored != credentials.code_digest("reset", "c@b.example", code)
    assert stored != credentials.code_digest("registration", "a@b.example", code)


def test_authenticator_codes_count_one_step_to_either_side():
    import pyotp

    secret = credentials.new_totp_secret()
    totp, step = pyotp.TOTP(secret), int(NOON.timestamp()) // 30
    for off, found in ((-2, None), (-1, step - 1), (0, step), (1, step + 1), (2, None)):
        assert credentials.totp_step(secret, totp.generate_otp(step + off), NOON) == found
    for odd in ("", "12345", "1234567", "١٢٣٤٥٦", "abcdef"):
        assert credentials.totp_step(secret, odd, NOON) is None
    assert "issuer=cervicyte" in credentials.totp_link(secret, "a@b.example")


# --- mail -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("  First@Lab.EXAMPLE\n", "first@lab.example"),
        ("a+b@x.example", "a+b@x.example"),
        ("a@bücher.example", "a@xn--bcher-kva.example"),
    ],
)
def test_addresses_are_stored_in_one_form(typed, stored):
    assert normal_address(typed) == stored
    assert normal_address(stored) == stored


@pytest.mark.parametrize(
    "bad",
    ["", "first", "@x.example", "a@", "a@localhost", "a b@x.example", "a@x.example\nBcc: all@x.example", "a@x..example",
     "a\r\nSubject: x@y.example", "a@b@c.example", '"a b"@x.example', "a@[192.0.2.1]", "ä@x.example", "a,b@x.example",
     "a@x.example,c@x.example", "<a@x.example>", "a" * 65 + "@x.example", "a@" + "x" * 250 + ".example",
     "a@-x.example"],
)  # fmt: skip
def test_what_is_no_plain_address_is_refused(bad):
    with pytest.raises(UsageError, match="e-mail"):
        normal_address(bad)


@given(st.text(max_size=60))
@settings(max_examples=150, deadline=None)
def test_an_address_that_is_taken_is_ascii_in_one_word_and_stays_as_it_is(typed):
    try:
        found = normal_address(typed)
    except UsageError:
        return
    assert found.isascii()
    assert len(found.split()) == 1
    assert normal_address(found) == found == found.lower()


class _Smtp(threading.Thread):
    """A mail server that takes one mail and keeps it."""

    def __init__(self) -> None:
        import socket

        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"smtp://127.0.0.1:{self.listener.getsockname()[1]}"
        self.commands: list[str] = []
        self.mail = ""
        self.start()

    def run(self) -> None:
        connection, _ = self.listener.accept()
        with connection, connection.makefile("rw", encoding="utf-8", newline="") as stream:

            def say(line: str) -> None:
                stream.write(line + "\r\n")
                stream.flush()

            say("220 ready")
            for line in stream:
                command = line.split()[0].upper()
                self.commands.append(line.strip())
                if command == "DATA":
                    say("354 go on")
                    lines = []
                    while (line := stream.readline()).strip() != ".":
                        lines.append(line)
                    self.mail = "".join(lines)
                if command == "QUIT":
                    say("221 bye")
                    return
                say("250 ok")


def test_a_mail_goes_out_as_it_was_written():
    server = _Smtp()
    mailer = Mailer(server.url, "lab@lab.example")
    mailer.post(Message("first@lab.example", "Your code", "Your code is ABCDE-FGHJK\n"))
    mailer.wait()
    server.join(5)
    assert "To: first@lab.example" in server.mail
    assert "Auto-Submitted: auto-generated" in server.mail
    assert "ABCDE-FGHJK" in server.mail
    assert any(c.upper().startswith("RCPT TO:<FIRST@LAB.EXAMPLE>") for c in server.commands)


def test_a_password_is_not_sent_in_the_clear():
    server = _Smtp()
    mailer = Mailer(server.url.replace("://", "://me:hunter2@"), "lab@lab.example")
    with pytest.raises(MailError, match="not sent") as told:
        mailer.send(Message("first@lab.example", "x", "y"))
    assert "STARTTLS" in str(told.value)
    assert not any("AUTH" in command for command in server.commands)


@pytest.mark.parametrize(
    "message",
    [
        Message("first@lab.example\r\nBcc: all@x.example", "x", "y"),
        Message("first@lab.example", "x\r\nBcc: all@x.example", "y"),
        Message("first@lab.example", "x\u2028Bcc: all@x.example", "y"),
        Message("first@lab.example,eve@x.example", "x", "y"),
    ],
)
def test_no_header_can_be_put_in(message):
    with pytest.raises(UsageError):
        Mailer("smtp://127.0.0.1:9", "lab@lab.example").send(message)


def test_without_mail_it_is_said_how_to_set_it_up():
    mailer = Mailer()
    assert not mailer.available
    for act in (mailer.send, mailer.post):
        with pytest.raises(MailError, match="no mail is set up") as told:
            act(Message("a@b.example", "x", "y"))
        assert "CERVICYTE_SMTP_URL" in told.value.todo


def test_a_server_that_is_not_there_is_logged_and_stops_nothing(caplog):
    mailer = Mailer("smtp://127.0.0.1:9", "lab@lab.example", timeout_s=1)
    mailer.post(Message("a@b.example", "x", "y"))
    mailer.wait()
    assert "not sent" in caplog.text


@pytest.mark.parametrize("url", ["http://x", "smtp://", "smtp://me:hunter2@h:port", "hunter2"])
def test_an_address_of_a_server_that_cannot_be_used_is_not_repeated(url):
    with pytest.raises(UsageError) as told:
        Mailer(url, "lab@lab.example")
    assert "hunter2" not in str(told.value)
    with pytest.raises(UsageError, match="sender"):
        Mailer("smtp://mail.example", "")


# --- limits -----------------------------------------------------------------------------------------------------------


def test_the_attempt_too_many_is_told_when_to_come_again(site):
    limit, at = rate_limits.Limit("x", 3, timedelta(minutes=10), "too many"), NOON
    for i in range(3):
        rate_limits.take(site.database, limit, "first", at + timedelta(minutes=i))
    with pytest.raises(TooManyRequestsError) as told:
        rate_limits.take(site.database, limit, "first", at + timedelta(minutes=3))
    assert told.value.retry_after_s == 7 * 60 + 1
    assert isinstance(told.value, CervicyteError)
    rate_limits.take(site.database, limit, "eve", at)
    rate_limits.take(site.database, limit, "first", at + timedelta(minutes=10, seconds=1))
    rate_limits.clear(site.database, limit, "first")
    rate_limits.forgive(site.database, [rate_limits.take(site.database, limit, "first", at) for _ in range(3)])
    rate_limits.take(site.database, limit, "first", at)


def test_at_the_same_moment_no_more_pass_than_may(site):
    limit = rate_limits.Limit("x", 5, timedelta(minutes=10), "too many")

    def attempt(_):
        try:
            return bool(rate_limits.take(site.database, limit, "first", NOON))
        except TooManyRequestsError:
            return False

    with ThreadPoolExecutor(8) as pool:
        assert sum(pool.map(attempt, range(20))) == 5


@on_both
def test_what_no_limit_counts_any_more_is_removed(site):
    clock = Clock()
    rate_limits.take(site.database, rate_limits.PASSWORD_BY_ADDRESS, HERE, clock())
    clock.forward(hours=2)
    assert (rate_limits.prune(site.database, clock()), rate_limits.prune(site.database, clock())) == (1, 0)


@pytest.mark.parametrize(
    ("address", "counted"),
    [("192.0.2.1", "192.0.2.1"), ("2001:db8::1%eth0", "2001:db8::/64"), ("x\x00'--", "unknown"), ("", "unknown")],
)
def test_network_addresses_are_counted_as_subscribers(address, counted):
    assert rate_limits.network(address) == counted


def test_limits_have_names_of_their_own():
    kinds = sorted(limit.kind for limit in rate_limits.LIMITS)
    assert all(a != b for a, b in pairwise(kinds))


def test_the_core_needs_none_of_it():
    web = ("flask", "sqlalchemy", "alembic", "argon2")
    code = f"import sys, cervicyte, cervicyte.cli.main; print([m for m in {web!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_users_are_found_by_nothing_but_address_or_id(site):
    from cervicyte.web.accounts import users

    user = make_user(site)
    with site.database.read() as session:
        assert users.find(session, user.id).email == users.find(session, " FIRST@lab.example").email == user.email
        for odd in ("", "first", "first@", user.id[:-1]):
            with pytest.raises(UsageError):
                users.find(session, odd)
