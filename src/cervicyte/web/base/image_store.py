"""Images by the SHA-256 of their content, in a folder that no web address leads to.

The name of a file is its checksum and nothing else, so nothing that a user types becomes part of a path, the same
picture is stored once, and every read can tell whether it is what was stored.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from cervicyte.base.files import storage_errors
from cervicyte.errors import MissingError, StorageError

_DIGEST = re.compile(r"[0-9a-f]{64}", re.ASCII)


@dataclass(frozen=True)
class ImageStore:
    """A folder of images; files lie in 256 folders by the first two digits of their checksum."""

    folder: Path

    def put(self, data: bytes) -> str:
        """Store bytes, on disk for good when this returns, and return their SHA-256; the same bytes are stored once.

        Bytes that were there count as stored now, so that nobody takes them for forgotten before they have an owner.

        Raises
        ------
        StorageError : the disk is full, read-only or not permitted
        """
        digest = hashlib.sha256(data).hexdigest()
        path = self._path(digest)
        if _is(path, digest):
            with contextlib.suppress(OSError):
                os.utime(path)
            return digest
        with storage_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle, name = tempfile.mkstemp(prefix=".", suffix=".tmp", dir=path.parent)  # for its owner alone
            try:
                with os.fdopen(handle, "wb") as stream:
                    stream.write(data)
                    stream.flush()
                    os.fsync(stream.fileno())
                os.replace(name, path)
            except BaseException:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name)
                raise
            _sync(path.parent)
        return digest

    def get(self, digest: str) -> bytes:
        """The bytes of a checksum, proved to be what was stored.

        Raises
        ------
        MissingError : there are none
        StorageError : the file was changed or damaged, or cannot be read
        """
        path = self._path(digest)
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            raise MissingError("the image is not in the store", digest, "restore it from a backup") from None
        except OSError as error:
            raise StorageError(f"the image cannot be read: {error.strerror}", digest, "look at the disk") from error
        if hashlib.sha256(data).hexdigest() != digest:
            raise StorageError("the stored image was changed or damaged", digest, "restore it from a backup")
        return data

    def has(self, digest: str) -> bool:
        """True when a file of this checksum is there; only `get` proves that it is whole."""
        return self._path(digest).is_file()

    def stored_at(self, digest: str) -> float | None:
        """When the bytes of a checksum were last stored, in seconds since 1970; None where there are none."""
        try:
            return self._path(digest).stat().st_mtime
        except OSError:
            return None

    def delete(self, digest: str) -> bool:
        """Remove the bytes of a checksum; False where there were none. Ask first whether another case has them too.

        Raises
        ------
        StorageError : the folder is read-only or not permitted
        """
        path = self._path(digest)
        with storage_errors(path):
            try:
                path.unlink()
            except FileNotFoundError:
                return False
            _sync(path.parent)
        return True

    def digests(self) -> Iterator[str]:
        """The checksums of all that is stored, in order."""
        for path in sorted(self.folder.glob("[0-9a-f][0-9a-f]/*")):
            if _DIGEST.fullmatch(path.name):
                yield path.name

    def sweep(self, older_s: float = 3600.0) -> int:
        """Remove what a kill left half-written, when it is older than so many seconds; how many files that were."""
        gone = 0
        for path in self.folder.glob("[0-9a-f][0-9a-f]/.*.tmp"):
            with contextlib.suppress(OSError):
                if time.time() - path.stat().st_mtime > older_s:
                    path.unlink()
                    gone += 1
        return gone

    def _path(self, digest: str) -> Path:
        if not _DIGEST.fullmatch(digest):
            raise MissingError("not the checksum of an image", repr(digest), "name one of 64 hexadecimal digits")
        return self.folder / digest[:2] / digest


def _is(path: Path, digest: str) -> bool:
    """A damaged file counts as none, so that storing its bytes again mends it."""
    try:
        with path.open("rb") as stream:
            return hashlib.file_digest(stream, "sha256").hexdigest() == digest
    except OSError:
        return False


def _sync(folder: Path) -> None:
    """Put the folder's entries on disk, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
