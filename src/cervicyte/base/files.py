"""Writing files so that a kill, a crash or a full disk never leaves half of one."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from cervicyte.errors import StorageError

_FULL_OR_FORBIDDEN = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EFBIG}
#: A path that no file can have: a folder of that name is there, or a file where a folder should be.
_NO_PLACE = {errno.EISDIR, errno.ENOTDIR, errno.EEXIST, errno.ENAMETOOLONG, errno.ELOOP}


@contextmanager
def storage_errors(path: Path) -> Iterator[None]:
    """Turn "disk full", "read-only" and "not permitted" into a StorageError that says so."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL_OR_FORBIDDEN | _NO_PLACE:
            raise StorageError(
                f"cannot write: {error.strerror}",
                printable(path),
                "free some space or choose another place; what was there before is untouched",
            ) from error
        raise


@contextmanager
def atomic_write(path: Path | str, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a temporary file beside ``path``; rename it into place only if all went well.

    Text is written as UTF-8 with its newlines as they are.

    Raises
    ------
    StorageError : the disk is full, read-only or not permitted
    """
    path = Path(path)
    text = "b" not in mode
    with storage_errors(path):
        if path.is_dir():  # told now, not when an hour's work is to be moved into place
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", suffix=".tmp", dir=path.parent)
        temporary = Path(name)
        try:
            with os.fdopen(handle, mode, encoding="utf-8" if text else None, newline="" if text else None) as stream:
                yield stream
                stream.flush()
                os.fsync(stream.fileno())
            umask = os.umask(0)
            os.umask(umask)
            temporary.chmod(0o666 & ~umask)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


def check_folder(folder: Path | str) -> None:
    """Tell before long work, not after it, that nothing can be written into a folder; makes nothing.

    Raises
    ------
    StorageError : a file is in the way, or the folder (or where it would be made) is not writable
    """
    folder = Path(folder)
    with storage_errors(folder):
        place = folder
        while not os.path.lexists(place) and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))


def reserve(path: Path, size: int) -> None:
    """Make a file of ``size`` bytes whose room on disk is taken now; a memory map of it cannot run out of disk later.

    Raises
    ------
    StorageError : the disk is full, read-only or not permitted
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with path.open("wb") as stream:
                if size and hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(stream.fileno(), 0, size)
                else:
                    for start in range(0, size, 1 << 24):
                        stream.write(bytes(min(1 << 24, size - start)))
        except OSError:
            path.unlink(missing_ok=True)
            raise


class _LineFeeds:
    """A stream whose rows end in a line feed, for a writer that believes to write carriage returns too."""

    def __init__(self, stream: IO[str]) -> None:
        self.stream = stream

    def write(self, row: str) -> None:
        self.stream.write(row.removesuffix("\r\n") + "\n")


def csv_writer(stream: IO[str]) -> Any:
    """A csv.writer for names of files: it quotes carriage returns, which Python 3.11 otherwise leaves bare."""
    return csv.writer(_LineFeeds(stream), lineterminator="\r\n")


def write_json(path: Path | str, value: Any) -> None:
    """Write a value as indented JSON, atomically; NaN and infinity are refused."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    with atomic_write(path) as stream:
        stream.write(text + "\n")


def sha256_file(path: Path | str) -> str:
    """The SHA-256 of a file's bytes, as 64 hexadecimal digits."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def printable(text: object) -> str:
    r"""A path or name as valid UTF-8: bytes of a file name that are not UTF-8 become ``\xNN`` in words.

    >>> printable("caf\udce9.png")
    'caf\\xe9.png'
    """
    try:
        return str(text).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # a lone surrogate that no file name holds
        return str(text).encode("utf-8", "backslashreplace").decode("utf-8")
