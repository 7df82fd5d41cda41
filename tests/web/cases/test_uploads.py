"""What comes in is what it is, not what it says; bombs stop while they are read; one bad entry loses no other."""

from __future__ import annotations

import io
import random
import re
import stat
import struct
import tracemalloc
import unicodedata
import warnings
import zipfile
from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from PIL import Image

from cervicyte.errors import StorageError
from cervicyte.web.cases.uploads import (
    NAME_LENGTH,
    Accepted,
    PassedOver,
    Refused,
    UploadLimits,
    accept,
    safe_name,
    spool,
)
from support.generated_cells import make_cell

FORMATS = {"BMP": "image/bmp", "PNG": "image/png", "JPEG": "image/jpeg", "TIFF": "image/tiff", "WEBP": "image/webp"}


def _encoded(seed: int = 0, kind: str = "PNG", side: int = 24, **options) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(make_cell(seed, side)).save(buffer, kind, **options)
    return buffer.getvalue()


CELL, OTHER = _encoded(1), _encoded(2, "JPEG")


def _zip(*entries: tuple[str | zipfile.ZipInfo, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # names that come twice are meant
        for name, data in entries:
            archive.writestr(name, data, method)
    return buffer.getvalue()


def _all(name: str, data: object, **options) -> list:
    return list(accept(name, data, **options))


def _one(name: str, data: object, **options) -> Accepted | Refused:
    (found,) = _all(name, data, **options)
    return found


def _refused(data: object, name: str = "cells.zip", **options) -> Refused:
    found = _one(name, data, **options)
    assert isinstance(found, Refused), found
    return found


class Pipe:
    """A stream that cannot be rewound, such as the body of a request; ``None`` never ends."""

    def __init__(self, data: bytes | None) -> None:
        self.data, self.at = data, 0

    def read(self, size: int = -1, /) -> bytes:
        chunk = bytes(size) if self.data is None else self.data[self.at : self.at + size]
        self.at += len(chunk)
        return chunk


# ---- single pictures


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("wrap", [bytes, io.BytesIO, Pipe])
def test_every_format_is_taken_by_its_content(kind, wrap) -> None:
    data = _encoded(3, kind)
    found = _one("no ending", wrap(data))
    assert isinstance(found, Accepted), found
    assert (found.data, found.sha256) == (data, sha256(data).hexdigest())
    assert (found.media_type, found.width, found.height) == (FORMATS[kind], 24, 24)
    assert (found.name, found.place, found.note) == ("no ending", "", "")


def test_a_name_that_lies_is_noted_and_the_content_counts() -> None:
    found = _one("cell.png", OTHER)
    assert found.media_type == "image/jpeg"
    assert found.note == "named .png, but its content is JPEG"
    assert _one("cell.JPG", OTHER).note == ""


def test_size_is_that_of_the_upright_picture() -> None:
    buffer = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(make_cell(0, 40)[:20]).save(buffer, "JPEG", exif=exif)
    found = _one("turned.jpg", buffer.getvalue())
    assert (found.width, found.height) == (20, 40)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "empty"),
        (b"%PDF-1.7 ...", "PDF"),
        (b"GIF89a....", "GIF"),
        (b" <svg onload='alert(1)'>", "markup"),
        (b"Rar!\x1a\x07", "not a ZIP"),
        (b"MZ\x90\x00 a program", "not an image"),
        (bytes(128) + b"DICM" + bytes(40), "DICOM"),
        (b"\xff\xd8\xff\xe0" + b"\x00<script>" * 9, "damaged|known format"),
        (CELL[: len(CELL) // 2], "damaged or truncated"),
        (OTHER[:-40], "damaged or truncated"),
        (b"BM" + bytes(200), "damaged|known format"),
    ],
)
def test_what_is_no_picture_is_refused_with_its_reason_and_what_to_do(data, says) -> None:
    found = _refused(data, "cell.png")
    assert re.search(says, found.reason), found.reason
    assert "; " in found.reason
    assert "\n" not in found.reason


@pytest.mark.parametrize("kind", ["TIFF", "WEBP", "PNG"])
def test_files_of_several_frames_are_refused_and_say_how_many(kind) -> None:
    frames = [Image.fromarray(make_cell(i, 24)) for i in range(3)]
    buffer = io.BytesIO()
    frames[0].save(buffer, kind, save_all=True, append_images=frames[1:])
    assert "3 frames, not one picture" in _refused(buffer.getvalue(), "pages").reason


def test_too_many_pixels_are_refused_before_they_are_decoded() -> None:
    buffer = io.BytesIO()
    Image.new("1", (9000, 9000)).save(buffer, "PNG")
    assert len(buffer.getvalue()) < 20_000
    assert "more than 1,000,000 pixels" in _refused(buffer.getvalue(), limits=UploadLimits(max_pixels=1_000_000)).reason
    assert "was not decoded" in _refused(buffer.getvalue()).reason


def test_files_that_are_too_large_are_not_read_to_their_end(tmp_path) -> None:
    endless = Pipe(None)
    assert (
        "more than 100,000 bytes"
        in _refused(endless, limits=UploadLimits(upload_bytes=100_000), folder=tmp_path).reason
    )
    assert endless.at < 300_000
    assert "more than 100 bytes" in _refused(io.BytesIO(CELL), limits=UploadLimits(upload_bytes=100)).reason
    assert "picture has more than 100 bytes" in _refused(CELL, limits=UploadLimits(image_bytes=100)).reason


def test_temporary_files_lie_in_the_folder_and_are_gone_afterwards(tmp_path) -> None:
    folder = tmp_path / "data" / "incoming"
    big = _zip(*((f"{i}.bmp", _encoded(i, "BMP", 200)) for i in range(20)), method=zipfile.ZIP_STORED)
    assert len(big) > 2 << 20
    found = _all("cells.zip", Pipe(big), folder=folder)
    assert [f.name for f in found] == [f"{i}.bmp" for i in range(20)]
    assert list(folder.iterdir()) == []
    begun = accept("cells.zip", Pipe(big), folder=folder)
    assert isinstance(next(begun), Accepted)
    begun.close()  # the client has gone
    assert list(folder.iterdir()) == []
    with spool(folder) as stream:
        stream.write(bytes(2 << 20))
    assert list(folder.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_told_apart_from_a_bad_upload(tmp_path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError):
        _all("cell.png", Pipe(CELL), folder=tmp_path / "file")


# ---- archives


def test_an_archive_gives_each_entry_in_order_and_one_bad_entry_loses_no_other() -> None:
    found = _all(
        "slide 7.zip",
        _zip(
            ("normal/one.png", CELL),
            ("normal/", b""),
            ("labels.csv", b"cell,label\n"),
            ("__MACOSX/normal/._one.png", b"x"),
            ("normal/.DS_Store", b"x"),
            ("bad.png", CELL[:90]),
            ("dysplastic/one.jpg", OTHER),
        ),
    )
    assert [(type(f).__name__, f.name) for f in found] == [
        ("Accepted", "one.png"),
        ("Refused", "labels.csv"),
        ("Refused", "bad.png"),
        ("Accepted", "one.jpg"),
        ("PassedOver", "slide 7.zip"),
    ]
    assert [found[0].place, found[3].place, found[2].place] == [
        "slide 7.zip/normal",
        "slide 7.zip/dysplastic",
        "slide 7.zip",
    ]
    assert [found[0].data, found[3].data] == [CELL, OTHER]
    assert found[4] == PassedOver("slide 7.zip", folders=1, litter=2)


@pytest.mark.parametrize(
    "path", ["../cell.png", "a/../../cell.png", "/etc/cell.png", "C:\\cell.png", "..\\cell.png", "\\\\host\\cell.png"]
)
def test_paths_that_lead_out_of_the_archive_are_refused(path) -> None:
    bad, good = _all("x.zip", _zip((path, CELL), ("cell.png", CELL)))
    assert isinstance(bad, Refused)
    assert "leads out" in bad.reason
    assert (bad.name, bad.place) == ("cell.png", "x.zip")
    assert isinstance(good, Accepted)


@pytest.mark.parametrize(("mode", "says"), [(stat.S_IFLNK | 0o777, "a link"), (stat.S_IFIFO, "no ordinary file")])
def test_links_and_pipes_are_refused(mode, says) -> None:
    info = zipfile.ZipInfo("cell.png")
    info.external_attr = mode << 16
    bad, good = _all("x.zip", _zip((info, b"/etc/passwd"), ("other.png", CELL)))
    assert says in bad.reason
    assert isinstance(good, Accepted)


def test_a_second_entry_of_the_same_path_is_refused() -> None:
    first, second, elsewhere = _all("x.zip", _zip(("a/c.png", CELL), ("a/c.png", OTHER), ("b/c.png", OTHER)))
    assert isinstance(first, Accepted)
    assert "the same path" in second.reason
    assert isinstance(elsewhere, Accepted)


def test_encrypted_and_oddly_packed_entries_are_refused() -> None:
    data = bytearray(_zip(("cell.png", CELL)))
    for at in (6, data.index(b"PK\x01\x02") + 8):
        data[at] |= 1
    assert "encrypted" in _refused(bytes(data)).reason
    assert "ordinary ZIP" in _refused(_zip(("cell.png", CELL), method=zipfile.ZIP_BZIP2)).reason
    assert "ordinary ZIP" in _refused(_zip(("cell.png", CELL), method=zipfile.ZIP_LZMA)).reason


def test_archives_within_archives_and_empty_ones_are_refused() -> None:
    assert "inside an archive" in _refused(_zip(("inner.png", _zip(("cell.png", CELL))))).reason
    assert "no file in the archive" in _refused(_zip()).reason
    counted, refused = _all("x.zip", _zip(("a/", b""), ("a/.DS_Store", b"")))
    assert counted == PassedOver("x.zip", 1, 1)
    assert "no file" in refused.reason


def test_a_picture_with_an_archive_behind_it_is_a_picture() -> None:
    found = _one("both.png", CELL + _zip(("evil.png", OTHER)))
    assert isinstance(found, Accepted)
    assert found.media_type == "image/png"


def test_names_in_utf8_are_read_whether_the_archive_says_so_or_not() -> None:
    info = zipfile.ZipInfo("Zelle ä.png")
    honest = _zip((info, CELL))
    silent = bytearray(honest)
    for at in (7, silent.index(b"PK\x01\x02") + 9):
        assert silent[at] & 0x08
        silent[at] &= ~0x08
    assert [_one("x.zip", bytes(d)).name for d in (honest, silent)] == ["Zelle ä.png"] * 2


# ---- bombs


def _peak(data: bytes, **options) -> tuple[list, int]:
    tracemalloc.start()
    try:
        return [replace_data(f) for f in accept("bomb.zip", data, **options)], tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def replace_data(found: object) -> object:
    """Accepted pictures without their bytes, so that only the working memory counts."""
    return (found.name, "accepted") if isinstance(found, Accepted) else found


BOMB = b"BM" + bytes(40 << 20)


def test_a_bomb_is_stopped_by_its_ratio_and_the_others_are_kept() -> None:
    data = _zip(("bomb.bmp", BOMB), ("zeros.bmp", BOMB[2:]), ("cell.png", CELL))
    assert len(data) < 200_000
    (bomb, zeros, cell), peak = _peak(data, limits=UploadLimits(ratio=50))
    assert "more than 50 times" in bomb.reason
    assert "not an image" in zeros.reason  # known by its beginning; the rest is not even unpacked
    assert cell == ("cell.png", "accepted")
    assert peak < 12 << 20


def _lie(data: bytes, size: int) -> bytes:
    """The first entry says in both headers that it unpacks to another size."""
    told = bytearray(data)
    told[22:26] = struct.pack("<I", size)
    at = data.index(b"PK\x01\x02") + 24
    told[at : at + 4] = struct.pack("<I", size)
    return bytes(told)


@pytest.mark.parametrize("said", [0, 10, 300, 1 << 31])
def test_sizes_in_headers_are_not_believed(said) -> None:
    bomb, cell = _all("x.zip", _lie(_zip(("bomb.bmp", BOMB), ("cell.png", CELL)), said), limits=UploadLimits(ratio=50))
    assert isinstance(bomb, Refused), bomb
    assert isinstance(cell, Accepted)


def test_all_entries_together_are_bounded_and_those_before_the_bound_are_kept() -> None:
    size = len(CELL)
    entries = _zip(*((f"{i}.png", CELL + bytes([i])) for i in range(30)))
    found = _all("x.zip", entries, limits=UploadLimits(unpacked_bytes=10 * size))
    kept = [f for f in found if isinstance(f, Accepted)]
    assert 8 <= len(kept) <= 10
    assert len(found) == 30
    assert all("unpacks to more than" in f.reason for f in found[len(kept) + 1 :])


def test_all_pixels_together_are_bounded() -> None:
    data = _zip(("a.png", _encoded(0, side=40)), ("b.png", _encoded(1, side=40)), ("c.png", _encoded(2, side=20)))
    a, b, c = _all("x.zip", data, limits=UploadLimits(total_pixels=2500))
    assert isinstance(a, Accepted)
    assert "2,500 pixels together" in b.reason
    assert isinstance(c, Accepted)


def test_too_many_entries_are_refused() -> None:
    data = _zip(*((f"{i}.png", b"") for i in range(12)))
    assert "12 entries, more than the 11" in _refused(data, limits=UploadLimits(entries=11)).reason


def test_a_directory_of_a_million_entries_is_not_built() -> None:
    data = _zip(("cell.png", CELL))
    at, end = data.index(b"PK\x01\x02"), data.index(b"PK\x05\x06")
    row = data[at:end]
    count = (8 << 20) // len(row)
    tail = bytearray(data[end:])  # it still says that there is one entry
    tail[12:16] = struct.pack("<I", count * len(row))
    bomb = data[:at] + row * count + bytes(tail)
    (found,), peak = _peak(bomb, limits=UploadLimits(entries=1000))
    assert "directory is too large" in found.reason
    assert peak < 8 << 20


# ---- anything at all


def _printable(text: str) -> bool:
    return text.isprintable() and not any(unicodedata.bidirectional(c) in ("RLO", "LRO", "RLI") for c in text)


@hypothesis_settings(max_examples=300, deadline=None)
@given(st.text(max_size=300) | st.text(alphabet="a./\\ :\u202e\u2066\x00\n\u200b\ud800é", max_size=300))
def test_a_shown_name_is_printable_short_without_folders_and_stays_as_it_is(text) -> None:
    shown = safe_name(text)
    assert 0 < len(shown) <= NAME_LENGTH
    assert _printable(shown)
    assert not set(shown) & set("/\\")
    assert shown.strip(". ")
    assert safe_name(shown) == shown
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("cell.png", "cell.png"),
        ("C:\\fakepath\\cell.png", "cell.png"),
        ("../../etc/passwd", "passwd"),
        ("gnp.\u202efdp.exe", "gnp.fdp.exe"),
        ("a\r\nSet-Cookie: x.png", "a Set-Cookie: x.png"),
        ("", "unnamed"),
        ("..", "unnamed"),
        ("x" * 400 + ".png", "x" * 195 + "….png"),
        ("<b>&'\".png", "<b>&'\".png"),  # pages escape; a name is not mangled for them
    ],
)
def test_names_as_they_are_shown(name, shown) -> None:
    assert safe_name(name) == shown


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    # zipfile itself ends a name at its first NUL, and cannot write what is then left of "\0".
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40), max_size=8
    )
)
def test_every_entry_of_an_archive_is_accounted_for(names) -> None:
    found = _all("x.zip", _zip(*((name, CELL) for name in names)))
    passed = sum(f.folders + f.litter for f in found if isinstance(f, PassedOver))
    entries = [f for f in found if not isinstance(f, PassedOver)]
    if passed == len(names):
        assert [type(f) for f in entries] == [Refused]  # nothing in it
    else:
        assert len(entries) + passed == len(names)
    assert all(_printable(f.name) and _printable(getattr(f, "place", "")) for f in found)
    assert all(len(getattr(f, "place", "")) <= NAME_LENGTH for f in found)


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 4), st.booleans())
def test_damaged_archives_give_only_whole_pictures_and_never_break(seed, changes, cut) -> None:
    source = random.Random(seed)
    data = bytearray(_zip(("a.png", CELL), ("b/c.jpg", OTHER), ("d.png", OTHER)))
    for _ in range(changes):
        data[source.randrange(len(data))] = source.randrange(256)
    if cut:
        del data[source.randrange(len(data)) :]
    for found in accept("x.zip", bytes(data)):
        assert isinstance(found, Refused | PassedOver) or found.data in (CELL, OTHER)


@hypothesis_settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.sampled_from([b"", b"PK\x03\x04", b"BM", b"II*\x00", CELL[:40], OTHER[:30]]))
def test_any_bytes_are_answered(tail, head) -> None:
    found = _all("x", head + tail)
    assert found
    assert all(isinstance(f, Refused | PassedOver) or np.prod((f.width, f.height)) > 0 for f in found)
