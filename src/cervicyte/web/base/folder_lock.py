"""One server for each data folder: two would work on the same pictures, and keep its cases tidy twice.

The operating system drops the lock with the process that holds it, however that ends, so none is ever left behind.
Commands beside a running server need none: what each changes is one transaction.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cervicyte.base.files import storage_errors
from cervicyte.errors import StorageError, UsageError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

#: It stays where it is: who removed it could take it from under a server that has just opened it.
FILE = "server.lock"

_HELD = (errno.EAGAIN, errno.EACCES, errno.EDEADLK)


@contextmanager
def hold(folder: Path) -> Iterator[None]:
    """Be the one server of a data folder until the block ends; the folder is made if it is not there.

    Raises
    ------
    UsageError : another server works on it
    StorageError : it cannot be written, or its file system knows no locks
    """
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(folder / FILE, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        _take(handle, folder)
        yield
    finally:
        os.close(handle)


def refuse_where_held(folder: Path) -> None:
    """Raise UsageError where a server works on a folder; nothing is made in it."""
    if (folder / FILE).is_file():
        with hold(folder):
            pass


def _take(handle: int, folder: Path) -> None:
    try:
        if sys.platform == "win32":
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise UsageError(
                "another server works on this data folder",
                folder,
                "stop it first, or name another folder (CERVICYTE_DATA_DIR, --data-dir)",
            ) from error
        raise StorageError(
            f"the data folder cannot be locked: {error.strerror}", folder, "keep it on a disk of this machine"
        ) from error
