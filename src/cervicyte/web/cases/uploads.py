"""What may come in: pictures by what they are, never by what they are called, alone or in a ZIP archive.

Nothing is believed that a file says of itself. Its kind is read from its content, archives are measured while they
are unpacked, names are cleaned before anyone sees them and are never used as paths. One bad entry never loses the
others: each is either accepted or refused with the reason.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import re
import tempfile
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import IO, Any, Protocol

from cervicyte.base import files
from cervicyte.errors import CervicyteError, DataError, ImageError
from cervicyte.images import decoding, unread
from cervicyte.web.cases.archives import Archive

#: Longest name that is shown, in characters.
NAME_LENGTH = 200

#: What the formats of `cervicyte.images.decoding.FORMATS` are called on the web, and which endings of names fit them.
MEDIA_TYPES = {
    "BMP": ("image/bmp", (".bmp", ".dib")),
    "PNG": ("image/png", (".png", ".apng")),
    "JPEG": ("image/jpeg", (".jpg", ".jpeg", ".jpe", ".jfif")),
    "MPO": ("image/jpeg", (".jpg", ".jpeg", ".jpe", ".jfif", ".mpo")),
    "TIFF": ("image/tiff", (".tif", ".tiff")),
    "WEBP": ("image/webp", (".webp",)),
}

#: How these formats begin; anything else is refused before more of it is read.
_PICTURE = re.compile(rb"BM|\x89PNG\r\n\x1a\n|\xff\xd8\xff|II[*+]\x00|MM\x00[*+]|RIFF....WEBP", re.DOTALL)

#: How an archive begins: with an entry, or with the end of an empty directory.
_ARCHIVE = re.compile(rb"PK(\x03\x04|\x05\x06)")

#: Bytes that are looked at to tell what a file is, and that are read or unpacked at a time.
_BEGINNING, _CHUNK = 256, 1 << 16

#: Unpacked bytes of an entry from which its ratio is asked: small flat pictures pack well and harm nobody.
_FREE = 1 << 20

#: A request that cannot be rewound is kept in memory up to this size, then in a file.
_SPOOL = 1 << 20


@dataclass(frozen=True, kw_only=True)
class UploadLimits:
    """How much may come in at once.

    Attributes
    ----------
    upload_bytes : of one uploaded file, an archive among them
    image_bytes : of one picture, unpacked
    entries : of one archive, folders among them
    unpacked_bytes : of all entries of one archive together
    ratio : how many times larger than its packed form an entry may become
    max_pixels : of one picture; None takes the setting
    total_pixels : of all pictures of one upload together; decoding is work, however well they pack
    """

    upload_bytes: int = 256 << 20
    image_bytes: int = 64 << 20
    entries: int = 5000
    unpacked_bytes: int = 1 << 30
    ratio: int = 200
    max_pixels: int | None = None
    total_pixels: int = 2_000_000_000


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """A picture that can be used: it was decoded once, whole.

    Attributes
    ----------
    name : safe to show; two pictures of one archive may share it
    place : the archive and the folders in it, safe to show; empty for a file by itself
    data : the file's bytes as they came
    sha256 : of the bytes, 64 hexadecimal digits
    media_type : by content
    width, height : pixels, upright
    note : where the name says otherwise than the content; else empty
    """

    name: str
    place: str
    data: bytes = field(repr=False)
    sha256: str
    media_type: str
    width: int
    height: int
    note: str = ""


@dataclass(frozen=True)
class Refused:
    """A file that cannot be used, and one line that says why and what to do; ``place`` as in `Accepted`."""

    name: str
    place: str
    reason: str


@dataclass(frozen=True)
class PassedOver:
    """How many folders, and how many files that systems leave behind, an archive held; they are no pictures."""

    name: str
    folders: int
    litter: int


class Readable(Protocol):
    """A stream of bytes: an open file, an upload of a web framework, the body of a request."""

    def read(self, size: int = ..., /) -> bytes:
        """At most ``size`` bytes, fewer at the end."""
        ...


def accept(
    name: str, source: bytes | Readable, limits: UploadLimits | None = None, folder: Path | None = None
) -> Iterator[Accepted | Refused | PassedOver]:
    """Look at one uploaded file and yield what is in it: one picture, or each entry of a ZIP archive in turn.

    One picture is in memory at a time, so store it before asking for the next. Archives within archives are refused.
    A file of several frames (multi-page TIFF, whole-slide image, animated PNG or WebP) is refused by
    `cervicyte.images.decoding`, since nobody can know which frame is meant; a JPEG that carries further pictures
    (MPO) counts as its first.

    Parameters
    ----------
    name : as the sender calls it, of any content
    source : its bytes, or a stream of them. A stream that can be rewound is read from its start where it is; the
        others are copied to a temporary file, which is gone when the iteration ends
    limits : how much is taken; None takes the defaults
    folder : where the temporary file is made; None for the system's own

    Raises
    ------
    StorageError : the temporary file cannot be written
    """
    limits = limits or UploadLimits()
    shown = safe_name(name)
    with contextlib.ExitStack() as stack:
        try:
            stream, size = _rewindable(source, limits.upload_bytes, folder, stack)
            beginning = stream.read(_BEGINNING)
        except DataError as error:
            yield Refused(shown, "", _reason(error))
            return
        stream.seek(0)
        meter = _Meter(limits, size)
        if _ARCHIVE.match(beginning):
            yield from _archive(stream, shown, meter)
        else:
            yield _picture(stream, shown, "", meter, None)


def safe_name(name: str) -> str:
    r"""A file's name as it may be shown: printable, without folders, at most `NAME_LENGTH` characters, never empty.

    Characters that control, hide or turn the direction of text are left out. It is for showing; nothing is ever
    stored under it.

    >>> safe_name("C:\\fakepath\\cell\u202egpj.exe"), safe_name("../.."), safe_name("a/b  c.png")
    ('cellgpj.exe', 'unnamed', 'b c.png')
    """
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    shown = _clean(last)
    if not shown.strip(". "):
        return "unnamed"
    if len(shown) <= NAME_LENGTH:
        return shown
    match = re.search(r"\.\w{1,8}$", shown)
    ending = match.group() if match else ""
    return shown[: NAME_LENGTH - 1 - len(ending)] + "…" + ending


def spool(folder: Path | None = None) -> IO[bytes]:
    """A temporary file, in memory while it is small, of which nothing is left once it is closed or the process ends.

    For web frameworks that ask where to put an upload. The folder is made if it is not there.

    Raises
    ------
    StorageError : the folder cannot be made
    """
    if folder is not None:
        with files.storage_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
    return tempfile.SpooledTemporaryFile(_SPOOL, dir=None if folder is None else str(folder))


class _Meter:
    """What one upload has used of its limits, measured and never read from a header."""

    def __init__(self, limits: UploadLimits, size: int) -> None:
        self.limits = limits
        self.size = size
        self.unpacked = 0
        self.pixels = 0

    def unpack(self, count: int) -> None:
        self.unpacked += count
        if self.unpacked > self.limits.unpacked_bytes:
            raise DataError(
                f"the archive unpacks to more than {self.limits.unpacked_bytes:,} bytes",
                todo="send the rest in another archive",
            )

    def decode(self, count: int) -> None:
        if self.pixels + count > self.limits.total_pixels:
            raise DataError(
                f"the pictures of this upload have more than {self.limits.total_pixels:,} pixels together",
                todo="send the rest by itself",
            )
        self.pixels += count


def _rewindable(
    source: bytes | Readable, limit: int, folder: Path | None, stack: contextlib.ExitStack
) -> tuple[IO[bytes], int]:
    """The source as a stream at its start, and its size; raises DataError where it is larger than the limit."""
    too_large = DataError(f"the file has more than {limit:,} bytes", todo="send it in smaller parts")
    if isinstance(source, bytes):
        source = io.BytesIO(source)
    if getattr(source, "seekable", lambda: False)():
        stream: Any = source
        size = stream.seek(0, io.SEEK_END)
        size = stream.tell() if size is None else size
    else:
        stream = stack.enter_context(spool(folder))
        size = 0
        while chunk := source.read(_CHUNK):
            size += len(chunk)
            if size > limit:
                break
            with files.storage_errors(folder or Path(tempfile.gettempdir())):
                stream.write(chunk)
    if size > limit:
        raise too_large
    stream.seek(0)
    return stream, size


def _archive(stream: IO[bytes], shown: str, meter: _Meter) -> Iterator[Accepted | Refused | PassedOver]:
    """What is in a ZIP archive."""
    try:
        archive = Archive(stream, meter.size, meter.limits.entries)
    except DataError as error:
        yield Refused(shown, "", _reason(error))
        return
    passed_over = {"folder": 0, "litter": 0}
    files_in_it = 0
    for entry in archive.entries():
        if entry.kind != "file":
            passed_over[entry.kind] += 1
            continue
        files_in_it += 1
        name = safe_name(entry.name)
        if entry.refusal:
            yield Refused(name, shown, entry.refusal)
            continue
        place = "/".join([shown, *(safe_name(part) for part in entry.folders if part not in ("", "."))])
        place = place if len(place) <= NAME_LENGTH else place[: NAME_LENGTH - 1] + "…"
        try:
            with archive.open(entry) as opened:
                outcome = _picture(opened, name, place, meter, entry.packed)
        except DataError as error:
            outcome = Refused(name, place, _reason(error))
        yield outcome
    if any(passed_over.values()):
        yield PassedOver(shown, passed_over["folder"], passed_over["litter"])
    if not files_in_it:
        yield Refused(shown, "", "there is no file in the archive; send one that holds pictures")


def _picture(stream: IO[bytes], name: str, place: str, meter: _Meter, packed: int | None) -> Accepted | Refused:
    """One picture from a stream, of an archive where its packed size is given; raises what unpacking raises."""
    try:
        data = _content(stream, meter, packed)
        header = decoding.read_header(data, name, meter.limits.max_pixels)
        meter.decode(header.width * header.height)
        height, width = decoding.decode(data, name, meter.limits.max_pixels).shape[:2]
    except CervicyteError as error:
        return Refused(name, place, _reason(error))
    media_type, endings = MEDIA_TYPES[header.format]
    ending = PurePosixPath(name).suffix
    note = f"named {ending}, but its content is {header.format}" if ending and ending.lower() not in endings else ""
    return Accepted(
        name=name,
        place=place,
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
        media_type=media_type,
        width=width,
        height=height,
        note=note,
    )


def _content(stream: IO[bytes], meter: _Meter, packed: int | None) -> bytes:
    """All bytes of what begins like a picture and keeps to the limits while it is read."""
    limits = meter.limits
    if packed is not None and meter.unpacked >= limits.unpacked_bytes:
        meter.unpack(1)  # nothing more is unpacked, not even beginnings
    data = bytearray(stream.read(_BEGINNING))
    if not data:
        raise ImageError("the file is empty (0 bytes)", todo="copy it again from its source")
    if not _PICTURE.match(data):
        raise ImageError(_what_else(bytes(data)), todo=f"known formats: {', '.join(decoding.FORMATS)}")
    counted = 0
    while True:
        if packed is not None:
            meter.unpack(len(data) - counted)
            counted = len(data)
            if counted > _FREE and counted > limits.ratio * packed:
                raise DataError(
                    f"it unpacks to more than {limits.ratio} times its packed size", todo="send the file by itself"
                )
        if len(data) > limits.image_bytes:
            raise DataError(
                f"the picture has more than {limits.image_bytes:,} bytes",
                todo="save it smaller, or cut cells out of it",
            )
        chunk = stream.read(_CHUNK)
        if not chunk:
            return bytes(data)
        data += chunk


def _what_else(beginning: bytes) -> str:
    if _ARCHIVE.match(beginning):
        return "an archive inside an archive: unpack it first"
    return unread.sentence(beginning)


def _reason(error: CervicyteError) -> str:
    """One line, printable: what was wrong and what to do. The name is shown beside it anyway."""
    return _clean("; ".join(part for part in (error.what, error.todo) if part))


def _clean(text: str) -> str:
    """Text without characters that cannot be seen, its spaces plain and single."""
    spaced = "".join(c if c.isprintable() else " " if c.isspace() else "" for c in text)
    return " ".join(unicodedata.normalize("NFC", spaced).split())
