"""The feature cache: what was computed once is never computed again, and never wrong.

One SQLite file (write-ahead log) per extractor. A row is (key of the cell, features, check
sum); rows are committed in batches, so a kill at any moment loses at most the last second
or two and never leaves half a row.
"""

from __future__ import annotations

import contextlib
import hashlib
import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte import settings
from cervicyte.base.progress import say
from cervicyte.errors import StorageError
from cervicyte.images.decoding import Box

_COMMIT_ROWS = 256
_COMMIT_SECONDS = 1.0
#: Seconds to wait for another process that writes.
_PATIENCE = 60.0
_TABLE = "CREATE TABLE IF NOT EXISTS features (key BLOB PRIMARY KEY, vector BLOB NOT NULL, digest BLOB NOT NULL)"
#: SQLite allows 999 parameters in its oldest builds.
_LOOKUP_ROWS = 500
_DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}


def cell_key(content: bytes, box: Box | None, variant: int) -> bytes:
    """The key of one cell: SHA-256 over its file's SHA-256, its box and its variant."""
    return hashlib.sha256(content + f"|{box}|{variant}".encode()).digest()


class FeatureCache:
    """Features of one extractor on disk; several threads and processes may share it.

    Parameters
    ----------
    extractor_key : names every input of the features besides the cell
    cache_dir : default: the setting

    Raises
    ------
    StorageError : (any method) the disk is full or the folder not writable; what was committed stays
    """

    def __init__(self, extractor_key: str, cache_dir: Path | None = None) -> None:
        self.path = (cache_dir or settings.get_path("cache_dir")) / "features" / f"{extractor_key[:40]}.sqlite"
        self._lock = threading.RLock()
        self._waiting: dict[bytes, np.ndarray] = {}
        self._last_commit = time.monotonic()
        self._connection: sqlite3.Connection | None = None

    def __enter__(self) -> FeatureCache:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """The float32 vectors (d,) of those keys that are here and whole."""
        vectors: dict[bytes, np.ndarray] = {}
        with self._lock:
            for start in range(0, len(keys), _LOOKUP_ROWS):
                some = keys[start : start + _LOOKUP_ROWS]
                marks = ",".join("?" * len(some))
                rows = self._execute(f"SELECT key, vector, digest FROM features WHERE key IN ({marks})", some)
                for key, vector, digest in rows:
                    if digest == _digest(key, vector):  # a flipped byte counts as not here
                        vectors[key] = np.frombuffer(vector, dtype="<f4")
            vectors.update((key, self._waiting[key]) for key in keys if key in self._waiting)
        return vectors

    def put(self, key: bytes, vector: np.ndarray) -> None:
        """Keep one float32 vector (d,); it is on disk after the next commit."""
        with self._lock:
            self._waiting[key] = np.array(vector, dtype="<f4")
            if len(self._waiting) >= _COMMIT_ROWS or time.monotonic() - self._last_commit > _COMMIT_SECONDS:
                self.commit()

    def commit(self) -> None:
        """Write what waits, in one transaction."""
        with self._lock:
            rows = [(key, v.tobytes()) for key, v in self._waiting.items()]
            if rows:
                self._execute(
                    "INSERT OR REPLACE INTO features VALUES (?, ?, ?)",
                    [(k, v, _digest(k, v)) for k, v in rows],
                    many=True,
                )
            self._waiting.clear()
            self._last_commit = time.monotonic()

    def close(self) -> None:
        """Commit and close the file."""
        with self._lock:
            try:
                self.commit()
            finally:
                self._disconnect()

    def __len__(self) -> int:
        """Rows on disk."""
        with self._lock:
            return int(self._execute("SELECT count(*) FROM features", ())[0][0])

    def _execute(self, statement: str, values: Sequence[Any], many: bool = False) -> list[tuple[Any, ...]]:
        try:
            return self._attempt(statement, values, many)
        except sqlite3.DatabaseError as error:
            if _code(error) not in _DAMAGED:
                raise self._storage_error(error) from error
        self._set_aside()
        try:
            return self._attempt(statement, values, many)
        except sqlite3.DatabaseError as error:
            raise self._storage_error(error) from error

    def _attempt(self, statement: str, values: Sequence[Any], many: bool) -> list[tuple[Any, ...]]:
        if self._connection is None:
            self._connection = self._connect()
        if not many:
            return self._connection.execute(statement, values).fetchall()
        with self._connection:  # commits, or rolls back
            self._connection.executemany(statement, values)
        return []

    def _connect(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StorageError(f"cannot make the cache folder: {error.strerror}", self.path.parent, _TODO) from error
        connection = sqlite3.connect(self.path, timeout=_PATIENCE, check_same_thread=False)
        try:
            _write_ahead(connection)
            connection.execute("PRAGMA synchronous=NORMAL")
            connection.execute(_TABLE)
            connection.commit()
        except sqlite3.DatabaseError:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            with contextlib.suppress(sqlite3.Error):
                self._connection.close()
            self._connection = None

    def _set_aside(self) -> None:
        """Move a damaged file out of the way; its features are computed again."""
        self._disconnect()
        aside = self.path.with_suffix(f".damaged-{time.time_ns()}")
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            self.path.rename(aside)
            say(f"the feature cache was damaged and is rebuilt; the old file is {aside}")
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)

    def _storage_error(self, error: sqlite3.Error) -> StorageError:
        return StorageError(f"the feature cache cannot be written or read ({error})", self.path, _TODO)


_TODO = "free some space, or set CERVICYTE_CACHE_DIR to another place; what was committed before is kept"


def _digest(key: bytes, vector: bytes) -> bytes:
    return hashlib.blake2b(vector, digest_size=8, key=key).digest()


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Log writes ahead, so that readers need not wait.

    Two connections that switch a new file at once cannot wait for each other: SQLite refuses one of them at once
    (https://www.sqlite.org/wal.html, "Sometimes Queries Return SQLITE_BUSY In WAL Mode"), and it tries again.
    """
    give_up = time.monotonic() + _PATIENCE
    while True:
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > give_up:
                raise
            time.sleep(0.01)


def _code(error: sqlite3.Error) -> int:
    """The primary result code; extended ones carry it in their low byte."""
    return (getattr(error, "sqlite_errorcode", 0) or 0) & 0xFF
