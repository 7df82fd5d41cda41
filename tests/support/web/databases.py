"""Databases for tests of the web application: SQLite, and a PostgreSQL that is started where it is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

#: What a fixture that takes `fresh` can be asked for.
KINDS = ("sqlite", "postgresql")
#: Runs a test whose fixture is the shared `site` on both.
on_both = pytest.mark.parametrize("database_url", KINDS, indirect=True)


@contextmanager
def fresh(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of a database with its tables, of the kind that a fixture is asked for.

    SQLite is the default, and its address is empty, as that of the setting is.
    """
    if getattr(request, "param", "sqlite") == "sqlite":
        yield ""
    else:
        with request.getfixturevalue("postgresql").database() as url:
            yield url


class Server:
    """A PostgreSQL that makes databases for tests; each is removed after its test, whoever is still connected.

    ``programs`` is the folder of pg_dump and its like, which work on `url`.
    """

    def __init__(self, folder: Path, programs: Path) -> None:
        from sqlalchemy import create_engine

        from cervicyte.web.base.database import Database

        self._folder, self.programs = folder, programs
        self._admin = create_engine(self.url("postgres", "postgresql+psycopg"), isolation_level="AUTOCOMMIT")
        self._do("CREATE DATABASE ready")
        ready = Database(self.url("ready"))
        ready.upgrade()
        ready.close()

    @contextmanager
    def database(self, empty: bool = False) -> Iterator[str]:
        """The address of a new database: with its tables, which are copied and so there at once, or empty."""
        name = f"t{os.urandom(4).hex()}"
        self._do(f"CREATE DATABASE {name} TEMPLATE {'template1' if empty else 'ready'}")
        try:
            yield self.url(name)
        finally:
            self._do(f"DROP DATABASE {name} WITH (FORCE)")

    def url(self, name: str, scheme: str = "postgresql") -> str:
        """The address of a database of this server."""
        return f"{scheme}://cervicyte@/{name}?host={self._folder}"

    def cut_off(self, name: str) -> None:
        """End all connections to a database at once, as a server does that goes down or restarts."""
        self._do(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")

    def close(self) -> None:
        self._admin.dispose()

    def _do(self, statement: str) -> None:
        from sqlalchemy import text

        with self._admin.connect() as connection:
            connection.execute(text(statement))


@contextmanager
def running() -> Iterator[Server]:
    """A fresh server, reached by a socket only; it will not run as root, so another user runs it."""
    pytest.importorskip("psycopg", reason="the extra 'postgresql' is not installed")
    programs = _programs()
    if programs is None:
        pytest.skip("PostgreSQL is not installed: nothing here was tested on it")
    who: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="cervicyte-pg-", dir="/tmp"))
    if os.geteuid() == 0:
        import pwd

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
        settings = {"fsync": "off", "max_connections": "100", "deadlock_timeout": "100ms"}
        words = [f"-k {folder} -c listen_addresses=''", *(f"-c {name}={value}" for name, value in settings.items())]
        run("pg_ctl", "-D", str(data), "-w", "-l", str(folder / "log"), "-o", " ".join(words), "start")
        try:
            server = Server(folder, programs)
            yield server
            server.close()
        finally:
            run("pg_ctl", "-D", str(data), "-m", "immediate", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path | None:
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda p: float(p.parts[4]))
    on_path = shutil.which("initdb")
    return found[-1].parent if found else Path(on_path).resolve().parent if on_path else None
