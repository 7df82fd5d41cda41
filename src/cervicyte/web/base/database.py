"""The database: SQLite in the data folder, or PostgreSQL; reading, writing, and bringing tables up to date.

On SQLite a writing transaction takes the one write lock at its beginning (BEGIN IMMEDIATE), so that it can neither
fail half-way nor read what another is about to change; https://www.sqlite.org/isolation.html. On PostgreSQL, what
must happen one after the other asks for a `lock` by name. Of two writers that wait for each other it ends one with an
error, so rows are locked in one order: a case, then its pictures by id; a user, then sessions, then codes.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Connection,
    CursorResult,
    Delete,
    Engine,
    Executable,
    Update,
    create_engine,
    delete,
    event,
    exc,
    func,
    select,
    text,
)
from sqlalchemy.engine import URL, make_url
from sqlalchemy.orm import Session

from cervicyte.base.files import storage_errors
from cervicyte.errors import MissingError, StorageError, UsageError

FILE = "cervicyte.sqlite3"

_MIGRATIONS = Path(__file__).parent / "migrations"
#: By itself PostgreSQL would show each statement of a transaction another state; SQLite does not.
_ONE_STATE = {"isolation_level": "REPEATABLE READ", "postgresql_readonly": True}
#: Alembic keeps its context in module globals.
_ALEMBIC = threading.Lock()
_TRY_AGAIN = "try again; if it stays so, look for a process that holds it (a backup, another server)"
_FREE = "free some space; nothing of this request was stored"
#: (part of the driver's message or PostgreSQL's SQLSTATE, what was wrong, what to do)
_TROUBLE = (
    ("database is locked", "the database is busy", _TRY_AGAIN),
    ("database table is locked", "the database is busy", _TRY_AGAIN),
    ("55P03", "the database is busy", _TRY_AGAIN),
    ("40P01", "the database is busy", _TRY_AGAIN),
    ("40001", "the database is busy", _TRY_AGAIN),
    ("QueuePool limit", "the database is busy", _TRY_AGAIN),
    ("disk is full", "the disk of the database is full", _FREE),
    ("53100", "the disk of the database is full", _FREE),
    ("disk I/O error", "the disk of the database cannot be read or written", "look at the disk, and at its free space"),
    ("readonly database", "the database is read-only", "give this process the right to write the file and its folder"),
    ("25006", "the database is read-only", "connect to the server that takes writes"),
    ("unable to open", "the database cannot be opened", "see that its folder is there and may be written"),
    ("malformed", "the database is damaged", "restore it from a backup"),
    ("not a database", "the file is not a database", "name another data folder, or restore it from a backup"),
    ("no such table", "the database has not been set up", "start `cervicyte serve`, which brings it up to date"),
    ("42P01", "the database has not been set up", "start `cervicyte serve`, which brings it up to date"),
)


class Database:
    """Where everything but images is kept.

    >>> database = Database("sqlite:////var/lib/cervicyte/cervicyte.sqlite3")    # doctest: +SKIP
    >>> with database.write() as session:                                        # doctest: +SKIP
    ...     session.add(row)
    """

    def __init__(self, url: str | URL, wait_s: float = 10.0) -> None:
        """Open nothing yet; ``wait_s`` is how many seconds to wait for another's lock.

        Raises
        ------
        UsageError : the address is not one of SQLite or PostgreSQL
        MissingError : the driver for PostgreSQL is not installed
        """
        self.url = _address(url)
        self.wait_s = wait_s
        self.engine = _engine(self.url, wait_s)
        self._writing = self.engine.execution_options(begin="BEGIN IMMEDIATE")
        self._asking = self.engine.execution_options(begin="")  # one statement sees one state by itself
        self._reading = self.engine if self.is_sqlite else self.engine.execution_options(**_ONE_STATE)

    @property
    def name(self) -> str:
        """The address without the password."""
        return self.url.render_as_string(hide_password=True)

    @property
    def is_sqlite(self) -> bool:
        """True for SQLite."""
        return self.url.get_backend_name() == "sqlite"

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session that sees one state of the database and changes nothing.

        Raises
        ------
        StorageError : the database is busy, damaged, not reachable or not set up
        """
        with self._trouble(), Session(self._reading, expire_on_commit=False) as session:
            yield session

    def row(self, statement: Executable, parameters: Mapping[str, Any]) -> Sequence[Any] | None:
        """The row that one statement finds, None where it finds none; for what every request asks: `read` costs twice.

        Raises
        ------
        StorageError : as for `read`
        """
        with self._trouble(), self._asking.connect() as connection:
            return connection.execute(statement, parameters).one_or_none()

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A session whose changes are stored together at its end, or not at all when an error leaves it.

        Raises
        ------
        StorageError : the database is busy, full, read-only, damaged, not reachable or not set up
        """
        with (
            self._trouble(),
            Session(self._writing, expire_on_commit=False, autoflush=True) as session,
            session.begin(),
        ):
            session.connection()  # takes SQLite's write lock now, before anything is read
            yield session
        for act in session.info.get("after_commit", ()):
            act()

    def upgrade(self) -> None:
        """Make the tables, or bring them up to date; several processes may do so at once.

        Raises
        ------
        StorageError : as for `write`
        UsageError : the database was written by a newer cervicyte
        """
        from alembic import command
        from alembic.runtime.migration import MigrationContext

        with _ALEMBIC, self._trouble():
            if self.is_sqlite:
                self._make_file()
            with self._writing.begin() as connection:
                if not self.is_sqlite:
                    connection.execute(text("SET LOCAL lock_timeout = '120s'"))
                lock(connection, "upgrade")
                config = _alembic(connection)
                current = MigrationContext.configure(connection).get_current_revision()
                _check_known(current, config, self.name)
                command.upgrade(config, "head")

    def check_ready(self) -> None:
        """Say whether the database answers and is up to date.

        Raises
        ------
        StorageError : it is not
        """
        from alembic.runtime.migration import MigrationContext
        from alembic.script import ScriptDirectory

        with self._trouble(), self.engine.connect() as connection:
            current = MigrationContext.configure(connection).get_current_revision()
        head = ScriptDirectory(str(_MIGRATIONS)).get_current_head()
        if current != head:
            raise StorageError(
                "the database is not up to date", f"{current or 'nothing'} instead of {head}", "start `cervicyte serve`"
            )

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()

    def _make_file(self) -> None:
        """The file, for its owner alone, in write-ahead mode: readers then never wait for a writer."""
        path = Path(self.url.database or "")
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with contextlib.suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL, 0o600))
        end = time.monotonic() + self.wait_s
        with self.engine.connect() as connection:
            while True:  # the change of mode does not wait for another process by itself
                try:
                    driver: Any = connection.connection.driver_connection
                    driver.execute("PRAGMA journal_mode = WAL").fetchone()
                    return
                except sqlite3.OperationalError as error:
                    if "locked" not in str(error) or time.monotonic() > end:
                        raise exc.OperationalError("PRAGMA journal_mode", None, error) from error
                    time.sleep(0.02)

    @contextmanager
    def _trouble(self) -> Iterator[None]:
        """Turn what the database complains of into a StorageError that says what to do."""
        try:
            yield
        except (exc.DBAPIError, exc.TimeoutError) as error:
            original = getattr(error, "orig", None) or error
            message = f"{original} {getattr(original, 'sqlstate', None) or ''}"
            for words, what, todo in _TROUBLE:
                if words in message:
                    raise StorageError(what, self.name, todo) from error
            if isinstance(error, exc.OperationalError):  # for PostgreSQL: no server, no such user, no such database
                raise StorageError(
                    "the database cannot be reached",
                    f"{self.name}: {str(original).strip()}",
                    "see that it runs, and that CERVICYTE_DATABASE_URL is right",
                ) from error
            raise


def lock(session: Session | Connection, name: str) -> None:
    """Wait until no other transaction holds this name, and hold it to the end of the transaction.

    For SQLite there is nothing to do: `Database.write` holds the one write lock already. On PostgreSQL it is an
    advisory lock. Who takes several takes them in this order: "administrators"; then rows are held; "pictures",
    "case numbers", "ledger" (the audit log).
    """
    connection = session.connection() if isinstance(session, Session) else session
    if connection.dialect.name == "postgresql":
        key = int.from_bytes(hashlib.sha256(f"cervicyte {name}".encode()).digest()[:8], "big", signed=True)
        connection.execute(select(func.pg_advisory_xact_lock(key)))


def remove_ended(session: Session, id_column: Any, *ended: Any) -> int:
    """Remove the rows that ended, known by their id; how many they were.

    One that another transaction has in hand stays for the next time: whoever tidies waits for nobody.
    """
    rows = select(id_column).where(*ended).with_for_update(skip_locked=True)
    return change(session, delete(id_column.class_).where(id_column.in_(rows)))


def change(session: Session, statement: Update | Delete) -> int:
    """Execute an UPDATE or DELETE, and return how many rows it met."""
    result = session.execute(statement)
    assert isinstance(result, CursorResult)
    return result.rowcount


def after_commit(session: Session, act: Callable[[], None]) -> None:
    """Do something once what this session of `Database.write` changed is stored; never if it is not."""
    session.info.setdefault("after_commit", []).append(act)


def _address(url: str | URL) -> URL:
    try:
        parsed = make_url(url)
    except exc.ArgumentError:
        # What cannot be read is not shown: there may be a password in it.
        raise UsageError(
            "the address of the database cannot be read", None, "write it as postgresql://USER:PASSWORD@HOST/NAME"
        ) from None
    kind = parsed.get_backend_name()
    if kind in ("postgres", "postgresql"):
        return parsed.set(drivername="postgresql+psycopg")
    if kind == "sqlite" and parsed.database not in (None, "", ":memory:"):
        return parsed.set(drivername="sqlite")
    raise UsageError(
        "the database must be SQLite in a file, or PostgreSQL",
        parsed.render_as_string(hide_password=True),
        "write postgresql://USER:PASSWORD@HOST/NAME, or leave CERVICYTE_DATABASE_URL empty",
    )


def _engine(url: URL, wait_s: float) -> Engine:
    if url.get_backend_name() != "sqlite":
        # Waiting for a lock ends in words, not in a page that never comes.
        options = f"-c timezone=UTC -c lock_timeout={int(wait_s * 1000)}"
        try:
            return create_engine(url, pool_pre_ping=True, connect_args={"options": options, "connect_timeout": 10})
        except ModuleNotFoundError as error:
            raise MissingError(
                "the driver for PostgreSQL is not installed", error.name, "pip install 'cervicyte[postgresql]'"
            ) from error
    engine = create_engine(url, connect_args={"timeout": wait_s}, pool_size=10, max_overflow=20)

    @event.listens_for(engine, "connect")
    def _settings(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None  # the driver begins nothing by itself
        connection.execute("PRAGMA foreign_keys = ON")
        # A record that was confirmed survives a power cut.
        connection.execute("PRAGMA synchronous = FULL")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        if begin := connection.get_execution_options().get("begin", "BEGIN"):
            connection.exec_driver_sql(begin)

    return engine


def _alembic(connection: Connection) -> Any:
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def _check_known(current: str | None, config: Any, name: str) -> None:
    from alembic.script import ScriptDirectory

    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if current is not None and current not in known:
        raise UsageError("the database was written by a newer cervicyte", f"{name}: {current}", "upgrade cervicyte")
