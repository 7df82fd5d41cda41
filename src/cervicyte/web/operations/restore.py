"""Putting a backup into an empty data folder: all of it is checked first, and it appears whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO

from sqlalchemy import delete, select
from sqlalchemy.engine import URL

from cervicyte.base.files import sha256_file, storage_errors
from cervicyte.errors import StorageError
from cervicyte.web.base import folder_lock
from cervicyte.web.base.audit_log import HEADS, AuditLog
from cervicyte.web.base.database import FILE, Database
from cervicyte.web.base.schema import Code, Image, UserSession, now
from cervicyte.web.operations import backup


@dataclass(frozen=True)
class Restored:
    """What was put in place: pictures, rows of the audit log, when it was saved, and whether the database was in it."""

    images: int
    audit_rows: int
    at: datetime
    database: bool


def restore(path: Path, data_dir: Path, actor: str = "command line") -> Restored:
    """Restore a backup into a folder that is empty or not there; everybody has to sign in again.

    Checked first: every checksum, the database's own integrity, that it has a picture for every row, and that the
    audit log is as it was written. Links that were mailed before no longer work.

    Raises
    ------
    MissingError : there is no such file
    StorageError : the backup is not whole, the folder is not empty, or the disk is full
    UsageError : a server works on the folder, or the database was written by a newer cervicyte
    """
    data_dir = data_dir.absolute()
    folder_lock.refuse_where_held(data_dir)
    with storage_errors(data_dir):
        if os.path.lexists(data_dir) and (not data_dir.is_dir() or any(data_dir.iterdir())):
            raise StorageError(
                "the data folder is not empty",
                data_dir,
                "stop the server and move the folder away; nothing was changed",
            )
        manifest = backup.check(path)
        data_dir.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        staged = Path(tempfile.mkdtemp(prefix=f".{data_dir.name[:40]}.", suffix=".tmp", dir=data_dir.parent))
        try:
            _unpack(path, staged, manifest["files"])
            has_database = manifest["database"] == "sqlite"
            rows = _open(staged, path, actor) if has_database else 0
            os.replace(staged, data_dir)
        finally:
            shutil.rmtree(staged, ignore_errors=True)
    return Restored(manifest["images"], rows, datetime.fromisoformat(manifest["at"]), has_database)


def _unpack(path: Path, folder: Path, files: dict[str, dict[str, object]]) -> None:
    """Write the members where they belong; they were checked, and are checked again as they are on disk."""
    for name, _, stream in backup.members(path):
        if name == backup.MANIFEST:
            continue
        place = folder / (FILE if name == backup.DATABASE else name)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with os.fdopen(os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as written:
            while part := _part(stream, path):
                written.write(part)
            written.flush()
            os.fsync(written.fileno())
        if name not in files or sha256_file(place) != files[name]["sha256"]:
            raise StorageError("the backup changed while it was read", name, "try again; nothing was changed")


def _part(stream: IO[bytes], path: Path) -> bytes:
    with backup.readable(path):
        return stream.read(1 << 20)


def _open(folder: Path, path: Path, actor: str) -> int:
    """Check the database as it is now on disk, bring it up to date, end all sign-ins; the audit log's rows."""
    file = folder / FILE
    try:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            integrity = connection.execute("PRAGMA integrity_check").fetchone()[0]
            broken = connection.execute("PRAGMA foreign_key_check").fetchone()
    except sqlite3.Error as error:
        raise _refused("its database cannot be read", error) from error
    if integrity != "ok" or broken:
        raise _refused("its database is damaged", integrity if integrity != "ok" else broken)
    database, audit_log = Database(URL.create("sqlite", database=str(file))), AuditLog(folder / HEADS)
    try:
        database.upgrade()
        with database.read() as session:
            digests = session.scalars(select(Image.sha256).distinct()).all()
        missing = [d for d in digests if not (folder / backup.image_name(d)).is_file()]
        if missing:
            raise _refused(f"{len(missing)} pictures of its database are not in it", missing[0])
        verified = audit_log.verify(database)
        if not verified.ok:
            raise _refused("its audit log is not as it was written", verified.problem)
        with database.write() as session:
            session.execute(delete(UserSession))
            session.execute(delete(Code).where(Code.used_at.is_(None)))
            detail = {"file": path.name, "rows": verified.rows}
            audit_log.append(session, actor, "backup.restored", path.name, detail, now())
        return verified.rows + 1
    finally:
        database.close()


def _refused(what: str, received: object) -> StorageError:
    return StorageError(f"the backup was not restored: {what}", received, "use another backup; nothing was changed")
