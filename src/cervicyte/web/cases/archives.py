"""ZIP archives from strangers: what is in one, what of it is not even opened, and nothing believed unmeasured."""

from __future__ import annotations

import contextlib
import re
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any, Literal

from cervicyte.base.system_files import is_system_file, is_system_folder
from cervicyte.errors import DataError

#: Bytes of an archive's directory for each entry that is allowed; 100 to 300 are usual.
_PER_ENTRY = 1024

#: Bits of an entry's flags: encrypted in one of three ways; named in UTF-8.
_ENCRYPTED, _UTF8 = 0x2041, 0x800

#: What zipfile raises over damaged archives.
_DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    OSError,
    EOFError,
    ValueError,
    RuntimeError,
    LookupError,
    OverflowError,
)


@dataclass(frozen=True, kw_only=True)
class Entry:
    """What an archive says of one entry.

    Attributes
    ----------
    folders, name : the parts of its path, of any content
    kind : a file, a folder, or what systems leave behind ("litter")
    packed : bytes it takes in the archive, never more than all of it
    refusal : why it must not be opened; empty where it may be
    """

    folders: tuple[str, ...]
    name: str
    kind: Literal["file", "folder", "litter"]
    packed: int
    refusal: str
    info: zipfile.ZipInfo


class Archive:
    """A ZIP archive in a stream that can be rewound. Its entries are read one after the other.

    Parameters
    ----------
    stream : stays open
    size : its bytes
    most : entries that are allowed

    Raises
    ------
    DataError : its directory is damaged, or has more entries
    """

    def __init__(self, stream: IO[bytes], size: int, most: int) -> None:
        self._size = size
        bounded: Any = _Bounded(stream, most * _PER_ENTRY)
        with _damage("the archive is damaged"):
            self._zip = zipfile.ZipFile(bounded)
        if (count := len(self._zip.infolist())) > most:
            raise DataError(
                f"the archive has {count:,} entries, more than the {most:,} that are allowed",
                todo="send it in smaller parts",
            )

    def entries(self) -> Iterator[Entry]:
        """All entries in their order; of two with the same path the second is refused."""
        seen: set[str] = set()
        for info in self._zip.infolist():
            path = _path(info)
            *folders, name = re.split(r"[/\\]", path)
            kind: Literal["file", "folder", "litter"] = "file"
            if not name:
                kind = "folder"
            elif any(map(is_system_folder, folders)) or is_system_file(name):
                kind = "litter"
            refusal = _forbidden(info, path)
            if not refusal and path in seen:
                refusal = "another entry of the archive has the same path; give each file its own name"
            seen.add(path)
            yield Entry(
                folders=tuple(folders),
                name=name,
                kind=kind,
                packed=min(info.compress_size, self._size),
                refusal=refusal,
                info=info,
            )

    @contextlib.contextmanager
    def open(self, entry: Entry) -> Iterator[IO[bytes]]:
        """The unpacked content of an entry that is not refused, as a stream; its checksum is verified at its end.

        Raises
        ------
        DataError : when it is opened or read, that the entry is damaged
        """
        with _damage("the archive's entry is damaged"), self._zip.open(entry.info) as stream:
            yield stream


@contextlib.contextmanager
def _damage(what: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise DataError(f"{what} ({str(error) or type(error).__name__})", todo="pack it again") from error


def _path(info: zipfile.ZipInfo) -> str:
    """The path of an entry; many programs write UTF-8 without saying so, which zipfile then reads as code page 437."""
    if not info.flag_bits & _UTF8:
        with contextlib.suppress(UnicodeError):
            return info.filename.encode("cp437").decode("utf-8")
    return info.filename


def _forbidden(info: zipfile.ZipInfo, path: str) -> str:
    """Why an entry is not even opened; empty where it may be."""
    mode = info.external_attr >> 16  # of Unix; 0 from other systems
    if path.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", path) or ".." in re.split(r"[/\\]", path):
        return "its path leads out of the archive; pack the files with plain names"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return f"it is {'a link' if stat.S_ISLNK(mode) else 'no ordinary file'}; pack the file itself"
    if info.flag_bits & _ENCRYPTED:
        return "it is encrypted; pack it without a password"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        return "it is packed in an unusual way; make an ordinary ZIP (deflate)"
    return ""


class _Bounded:
    """An archive's stream that gives no more than ``limit`` bytes in one read.

    zipfile reads an archive's whole directory at once and makes an object of each entry, whatever their number is
    said to be; millions of them would fit into an upload.
    """

    def __init__(self, stream: IO[bytes], limit: int) -> None:
        self._stream = stream
        self._limit = max(limit, 1 << 17)  # zipfile itself looks at the last 64 KiB
        self.seek = stream.seek
        self.tell = stream.tell

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._stream.read(size if 0 <= size <= self._limit else self._limit + 1)
        if len(data) > self._limit:
            raise DataError("the archive's directory is too large", todo="send it in smaller parts")
        return data
