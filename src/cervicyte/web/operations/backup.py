"""Backups: one file with the database, the pictures and the heads of the audit log, each with its SHA-256.

The file is a tar archive. Its last member, the manifest, names all others; so a backup that was cut off has none. A
database of PostgreSQL is backed up by PostgreSQL's own pg_dump, before the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import sqlite3
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from sqlalchemy import select
from sqlalchemy.engine import URL
from sqlalchemy.orm import Session

from cervicyte.base.files import sha256_file, storage_errors
from cervicyte.base.versions import own_version
from cervicyte.errors import MissingError, StorageError
from cervicyte.web.base.audit_log import HEADS
from cervicyte.web.base.database import Database
from cervicyte.web.base.schema import AuditHead, AuditRow, Image
from cervicyte.web.base.site import Site
from cervicyte.web.errors import PictureDeletedError

#: Version of the archive's layout.
FORMAT = 1
MANIFEST, DATABASE, IMAGES = "manifest.json", "database.sqlite3", "images"
#: The folder beside the database where backups lie if no other place is named.
FOLDER = "backups"

_MADE = "backup.made"
#: How often a snapshot is taken anew because a case was deleted while its pictures were copied.
_ATTEMPTS = 3


@dataclass(frozen=True, kw_only=True)
class Backup:
    """A backup that was made, or lies there.

    Attributes
    ----------
    size : bytes
    images : pictures in it
    database : False where the database is PostgreSQL's and not in it
    verified : it was read again and found whole when it was made, and has its size still
    """

    path: Path
    name: str
    size: int
    at: datetime
    images: int
    database: bool
    verified: bool


def make(site: Site, actor: str, path: Path | None = None) -> Backup:
    """Make a backup while the site works, read it again, and note it in the audit log.

    Parameters
    ----------
    actor : who, for the audit log
    path : the file; None for one named after the time in the data folder's ``backups``

    Raises
    ------
    StorageError : the place is full or not writable, a file of that name is there, or a picture is damaged
    MissingError : a picture is missing
    """
    at = site.clock()
    path = (path or site.data_dir / FOLDER / f"cervicyte-{at:%Y-%m-%d-%H%M%S}.tar").absolute()
    if os.path.lexists(path):
        raise StorageError("a file of that name is there already", path, "name another; nothing is overwritten")
    for attempt in range(_ATTEMPTS):
        try:
            with _new_file(path) as stream:
                manifest = _write(site, stream, at)
                stream.flush()
                check(Path(stream.name))
            break
        except PictureDeletedError:
            if attempt + 1 == _ATTEMPTS:
                raise
    size, images = path.stat().st_size, manifest["images"]
    detail = {"size": size, "sha256": sha256_file(path), "images": images, "database": manifest["database"]}
    with site.database.write() as session:
        site.audit_log.append(session, actor, _MADE, path.name, detail, at)
    in_it = manifest["database"] == "sqlite"
    return Backup(path=path, name=path.name, size=size, at=at, images=images, database=in_it, verified=True)


def listing(site: Site) -> list[Backup]:
    """The backups in the data folder, newest first; one that was cut, copied over or not made here is not verified."""
    with site.database.read() as session:
        rows = session.scalars(select(AuditRow).where(AuditRow.action == _MADE).order_by(AuditRow.id))
        noted = {row.subject: row for row in rows}
    backups = []
    for path in sorted((site.data_dir / FOLDER).glob("*.tar")):
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            row = noted.get(path.name)
            at = row.at if row else datetime.fromtimestamp(status.st_mtime, site.clock().tzinfo)
            detail = row.detail if row else {}
            whole, kind = detail.get("size") == status.st_size, detail.get("database", "")
            backup = Backup(
                path=path,
                name=path.name,
                size=status.st_size,
                at=at,
                images=detail.get("images", 0),
                database=kind == "sqlite",
                verified=whole,
            )
            backups.append(backup)
    return sorted(backups, key=lambda b: b.at, reverse=True)


def check(path: Path) -> dict[str, Any]:
    """Read a backup through, compare every member with the manifest, and return the manifest.

    Raises
    ------
    MissingError : there is no such file
    StorageError : it is no backup, was cut off, or a member is damaged, missing or one too many
    """
    stored: dict[str, tuple[int, str]] = {}
    manifest: dict[str, Any] | None = None
    with readable(path):
        for name, size, stream in members(path):
            if manifest is not None:
                raise _damaged("something follows the manifest", name)
            if name == MANIFEST:
                manifest = _read_manifest(stream.read(64 << 20))
            elif name in stored:
                raise _damaged("a file is in it twice", name)
            else:
                stored[name] = (size, hashlib.file_digest(stream, "sha256").hexdigest())  # type: ignore[arg-type]
    if manifest is None:
        raise _damaged("it was cut off, or is no backup", path.name)
    listed = {name: (row["size"], row["sha256"]) for name, row in manifest["files"].items()}
    for name in sorted({*listed, *stored}):
        if name not in stored:
            raise _damaged("a file is missing", name)
        if listed.get(name) != stored[name]:
            raise _damaged("a file was changed or added", name)
        if name.startswith(f"{IMAGES}/") and name != image_name(stored[name][1]):
            raise _damaged("a picture is not what its name says", name)
    return manifest


def members(path: Path) -> Iterator[tuple[str, int, IO[bytes]]]:
    """The plain files of an archive with their sizes, in order; each stream is to be read before the next is asked for.

    Raises
    ------
    MissingError, StorageError : as `check`
    """
    with readable(path), tarfile.open(path, "r|") as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.isreg() else None
            if stream is None or not _is_expected(member.name):
                raise _damaged("there is something in it that no backup has", repr(member.name[:100]))
            yield member.name, member.size, stream


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn what goes wrong while an archive's members are read into words. Raises as `check`."""
    try:
        yield
    except FileNotFoundError:
        raise MissingError("there is no such backup", path, "name the file of a backup") from None
    except (tarfile.TarError, EOFError) as error:
        raise _damaged("it was cut off, or is no backup", error) from error
    except OSError as error:
        raise StorageError(f"the backup cannot be read: {error.strerror or error}", path, "look at the file") from error


def image_name(digest: str) -> str:
    """Where a picture lies, in the archive and in a data folder."""
    return f"{IMAGES}/{digest[:2]}/{digest}"


def _write(site: Site, stream: IO[bytes], at: datetime) -> dict[str, Any]:
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "software": f"cervicyte {own_version()}",
        "at": at.isoformat(),
        "database": "sqlite" if site.database.is_sqlite else "postgresql",
        "files": {},
    }
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:

        def add(name: str, data: bytes) -> None:
            info = tarfile.TarInfo(name)
            info.size, info.mode, info.mtime = len(data), 0o600, int(at.timestamp())
            archive.addfile(info, io.BytesIO(data))
            if name != MANIFEST:
                manifest["files"][name] = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest()}

        with _snapshot(site, Path(stream.name).parent) as (session, copy):
            digests = session.scalars(select(Image.sha256).distinct().order_by(Image.sha256)).all()
            head = session.get(AuditHead, 1)
            if copy is not None:
                info = tarfile.TarInfo(DATABASE)
                info.size, info.mode, info.mtime = copy.stat().st_size, 0o600, int(at.timestamp())
                with copy.open("rb") as opened:
                    archive.addfile(info, opened)
                manifest["files"][DATABASE] = {"size": info.size, "sha256": sha256_file(copy)}
        add(HEADS, _heads(site.audit_log.heads, head.rows if head and copy is not None else None))
        for digest in digests:
            add(image_name(digest), _image(site, digest))
        manifest["images"] = len(digests)
        add(MANIFEST, json.dumps(manifest, indent=1).encode())
    return manifest


@contextmanager
def _snapshot(site: Site, folder: Path) -> Iterator[tuple[Session, Path | None]]:
    """A session on one state of the database, and a copy of it in a file where that is SQLite's."""
    if not site.database.is_sqlite:
        with site.database.read() as session:
            yield session, None
        return
    handle, name = tempfile.mkstemp(prefix=".snapshot.", suffix=".tmp", dir=folder)
    os.close(handle)
    try:
        with site.database.read() as session:
            source: Any = session.connection().connection.driver_connection
            with contextlib.closing(sqlite3.connect(name)) as target:
                source.backup(target)
                target.execute("PRAGMA journal_mode = DELETE")  # one file, without companions
        copy = Database(URL.create("sqlite", database=name))
        try:
            with copy.read() as session:
                yield session, Path(name)
        finally:
            copy.close()
    except sqlite3.Error as error:
        raise StorageError("the database cannot be copied", error, "free some space, and look at the disk") from error
    finally:
        for ending in ("", "-wal", "-shm", "-journal"):
            Path(name + ending).unlink(missing_ok=True)


def _heads(path: Path, rows: int | None) -> bytes:
    """The file of heads up to the snapshot's last row: rows that came later are not in the backup."""
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return b""
    return b"\n".join(x for x in lines if rows is None or not (n := x.split(b" ")[0]).isdigit() or int(n) <= rows)


def _image(site: Site, digest: str) -> bytes:
    try:
        return site.image_store.get(digest)
    except MissingError as error:
        with site.database.read() as session:
            if session.scalar(select(Image.id).where(Image.sha256 == digest).limit(1)) is None:
                raise PictureDeletedError(
                    error.what, error.received, "make the backup again, while nobody deletes"
                ) from error
        raise


@contextmanager
def _new_file(path: Path) -> Iterator[IO[bytes]]:
    """A temporary file beside ``path`` for its owner alone, moved there if all went well: there are secrets in it."""
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent)
        try:
            with open(name, "wb") as stream:
                os.close(handle)
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            try:
                os.link(name, path)  # unlike a rename it overwrites nothing
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                os.rename(name, path)
        finally:
            Path(name).unlink(missing_ok=True)


def _is_expected(name: str) -> bool:
    parts: Sequence[str] = name.split("/")
    if len(parts) == 3:
        digest = parts[2]
        return len(digest) == 64 and not set(digest) - set("0123456789abcdef") and name == image_name(digest)
    return name in (MANIFEST, DATABASE, HEADS)


def _read_manifest(data: bytes) -> dict[str, Any]:
    try:
        manifest = json.loads(data)
        if manifest["format"] != FORMAT:
            raise StorageError("the backup is of another version", manifest["format"], "restore it with its cervicyte")
        for row in manifest["files"].values():
            int(row["size"]), str(row["sha256"])
        datetime.fromisoformat(manifest["at"])
        return {**manifest, "images": int(manifest["images"]), "database": str(manifest["database"])}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise _damaged("its manifest cannot be read", repr(error)) from None


def _damaged(what: str, received: object) -> StorageError:
    return StorageError(f"the backup is not whole: {what}", received, "use another backup; nothing was changed")
