"""Names of files that are not read, so that a refusal gives the true reason."""

from __future__ import annotations

import re
import struct

#: How files begin that people send by mistake, and what they are.
_BEGINNINGS = (
    (rb"%PDF", "a PDF document"),
    (rb"GIF8", "a GIF image"),
    (rb"PK(\x03\x04|\x05\x06)", "a ZIP archive"),
    (rb"7z\xbc\xaf|Rar!|\x1f\x8b|BZh|\xfd7zXZ", "an archive that is not a ZIP"),
    (rb".{128}DICM", "a DICOM file"),
    (rb"\x00\x00\x00\x0cjP|\xff\x4f\xff\x51", "a JPEG 2000 image"),
    (rb"\x00\x00\x00\x0cJXL |\xff\x0a", "a JPEG XL image"),
    (rb"....ftyp", "a video, or an image as phones keep it (HEIC, AVIF)"),
    (rb"8BPS", "a Photoshop document"),
    (rb"ZISRAWFILE", "a Zeiss CZI file"),
    (rb"\xda\xce\xbe\x0a", "a Nikon ND2 file"),
    (rb"\x89HDF", "an HDF5 file"),
    (rb"\s*<", "a page or drawing in markup (HTML, SVG, XML)"),
)


def sentence(data: bytes) -> str:
    """Say that a file is no image of a known format, and what it is where its beginning tells.

    >>> sentence(b"GIF89a")
    'not an image of a known format, but a GIF image'
    """
    for pattern, name in _BEGINNINGS:
        if re.match(pattern, data, re.DOTALL):
            return f"not an image of a known format, but {name}"
    return "not an image of a known format"


def variant(data: bytes) -> str:
    """Name the variant of BMP or JPEG that is not read; empty where it is none, or none of those."""
    return _bmp(data) or _jpeg(data)


def _bmp(data: bytes) -> str:
    if data[:2] != b"BM" or len(data) < 34 or data[14:18] not in (b"\x28\0\0\0", b"\x6c\0\0\0", b"\x7c\0\0\0"):
        return ""
    bits, compression = struct.unpack_from("<HI", data, 28)
    return f"a BMP of {bits} bits a pixel with unusual colour masks" if compression in (3, 6) else ""


def _jpeg(data: bytes) -> str:
    at = 2
    while data[:2] == b"\xff\xd8" and at + 5 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xF7:
            return "a JPEG-LS file"
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            return "" if data[at + 4] == 8 else f"a JPEG of {data[at + 4]} bits a sample"
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return ""
