"""The layouts of TIFF files: samples as their tags define them, and a refusal by name where a layout is not read.

Libraries open a TIFF of nearly any layout, and some of them give wrong pixels without an error (docs/compatibility.md).
So Pillow only decompresses here: rows come as bytes, and the tags say what these mean. Tags and their numbers are those
of TIFF 6.0 (Adobe 1992), its technical notes and the list of the TIFF library, libtiff.
"""

from __future__ import annotations

import io
import re
import struct
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, TiffImagePlugin

from cervicyte.errors import ImageError
from cervicyte.images.colour import Raster, one_value

#: How TIFF and BigTIFF files begin.
BEGINNINGS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")

#: Format of one value and its size in bytes, by the number of a tag's type; numbers with a fraction are not read.
_TYPES = {1: "B", 2: "B", 3: "H", 4: "I", 6: "b", 7: "B", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}

#: Compressions whose result is rows of bytes, by number: none, LZW, Deflate (two numbers), PackBits, LZMA, Zstandard.
_ROWS = frozenset({1, 5, 8, 32946, 32773, 34925, 50000})

#: Compressions that are left to Pillow as they are: CCITT of bilevel images, and JPEG.
_CCITT, _JPEG = frozenset({2, 3, 4}), 7

#: Most samples of a pixel; and how many times as large as the image its tiles may be, beyond a few megapixels.
_MOST_SAMPLES, _MOST_PADDING, _FREE_PADDING = 8, 4, 1 << 23

#: Tags from here on say nothing of how samples are laid out; one that is broken does not matter.
_FIRST_PRIVATE = 1000

#: What compressions that are not read are called.
_COMPRESSIONS = {
    6: "old-style JPEG",
    34661: "JBIG",
    34676: "SGI LogLuv",
    34677: "SGI LogLuv",
    34712: "JPEG 2000",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    34887: "LERC",
    34892: "lossy JPEG of raw data",
    22610: "JPEG XR",
    34934: "JPEG XR",
    34927: "WebP",
    50001: "WebP",
    34933: "PNG",
    50002: "JPEG XL",
    52546: "JPEG XL",
}

#: Samples that are colour, by PhotometricInterpretation; what is beyond these is extra.
_COLOURS = {0: 1, 1: 1, 2: 3, 3: 1, 5: 4, 6: 3}

#: What colours that are not read are called.
_PHOTOMETRICS = {
    4: "a transparency mask",
    8: "CIE Lab colours",
    9: "ICC Lab colours",
    10: "ITU Lab colours",
    32803: "raw data of a camera (a colour filter array)",
    32844: "LogL light",
    32845: "LogLuv light",
    34892: "raw data of a camera (LinearRaw)",
}

_FORMATS = {2: "signed whole numbers", 3: "floating point", 5: "complex whole numbers", 6: "complex floating point"}

_AS_8_BIT = "save it as an 8-bit RGB image"


@dataclass(frozen=True)
class Directory:
    """One image file directory: where the value of each tag lies in the file."""

    data: bytes
    order: str
    at: int
    entries: dict[int, tuple[int, int, int]]

    def values(self, tag: int) -> tuple[int, ...]:
        """Read the whole numbers of a tag; none where it is absent or holds fractions."""
        kind, count, at = self.entries.get(tag, (0, 0, 0))
        return struct.unpack_from(f"{self.order}{count}{_TYPES[kind]}", self.data, at) if kind in _TYPES else ()

    def value(self, tag: int, default: int) -> int:
        """Read the first number of a tag."""
        return (*self.values(tag), default)[0]

    def text(self, tag: int) -> bytes:
        """Read the bytes of a tag; none where it is absent."""
        kind, count, at = self.entries.get(tag, (0, 0, 0))
        return self.data[at : at + count] if kind in (1, 2, 7) else b""

    # The tags that say where and how the samples are.

    @property
    def width(self) -> int:
        return self.value(256, 0)

    @property
    def height(self) -> int:
        return self.value(257, 0)

    @property
    def compression(self) -> int:
        return self.value(259, 1)

    @property
    def photometric(self) -> int:
        return self.value(262, 1 if self.samples < 3 else 2)

    @property
    def samples(self) -> int:
        return self.value(277, 1)

    @property
    def bits(self) -> int:
        return self.value(258, 1)

    @property
    def planar(self) -> bool:
        return self.value(284, 1) == 2 and self.samples > 1

    @property
    def orientation(self) -> int:
        return self.value(274, 1)

    @property
    def tiled(self) -> bool:
        return 322 in self.entries

    @cached_property
    def segment(self) -> tuple[int, int]:
        """Width and height of a strip or tile, in pixels."""
        if self.tiled:
            return self.value(322, 0), self.value(323, 0)
        return self.width, min(self.value(278, self.height), self.height)

    @property
    def stated_bits(self) -> int | None:
        """Depth of the camera, where the file states it: as MaxSampleValue or as SignificantBits of OME-XML."""
        most = self.value(281, 0)
        ome = re.search(rb'SignificantBits="(\d{1,2})"', self.text(270))
        if ome:
            return int(ome[1])
        return most.bit_length() if most & (most + 1) == 0 and most > 255 else None

    @property
    def mode(self) -> str:
        """Pillow's name of the nearest mode."""
        names = {0: "L", 1: "L", 2: "RGB", 3: "P", 5: "CMYK", 6: "YCbCr"}
        name = names.get(self.photometric, "RGB")
        if name == "L" and self.samples == 1:
            return "1" if self.bits == 1 else "I;16" if self.bits > 8 else "L"
        return name + ("A" if _alpha(self) and name in ("L", "RGB", "P") else "")


def directory(data: bytes, name: object) -> Directory:
    """Find the one image of a TIFF file; smaller copies and masks beside it do not count.

    Raises
    ------
    ImageError : several images, raw data of a camera, or a chain of directories that leads back
    """
    directories = _directories(data, name)
    whole = [page for page in directories if page.value(254, 0) & 5 == 0 and page.value(255, 1) != 2]
    if any(50706 in page.entries for page in directories) or (not whole and 330 in directories[0].entries):
        raise ImageError("raw data of a camera (DNG or alike)", name, "develop it to an 8-bit RGB image")
    pages = whole or directories
    stack = re.search(rb"(?m)^images=(\d+)", pages[0].text(270))
    frames = max(len(pages), int(stack[1]) if stack and pages[0].text(270).startswith(b"ImageJ") else 1)
    if frames > 1:
        kind = " (a whole slide or a pyramid)" if pages[0].tiled else ""
        raise ImageError(
            f"the file holds {frames} frames, not one picture{kind}",
            name,
            "save the frame or region you mean by itself",
        )
    return pages[0]


def read(page: Directory, name: object) -> Raster:
    """Read the samples of an image.

    Raises
    ------
    ImageError : a layout that is not read, named; or a file that ends too early
    """
    problem = _problem(page)
    if problem:
        raise ImageError(f"a TIFF that is not read: {problem}", name, _AS_8_BIT)
    if page.compression in _ROWS:
        planes = [_plane(page, k, name) for k in range(page.samples if page.planar else 1)]
        values = np.concatenate(planes, axis=2) if page.planar else planes[0]
        raster = _meaning(page, values)
    else:
        with TiffImagePlugin.TiffImageFile(io.BytesIO(_starting_with(page))) as image:
            image.load()  # turned upright by Pillow
            colour = image.mode not in ("1", "L")
            values = np.asarray(image.convert("RGB" if colour else "L"))
        raster = Raster(values=values if colour else values[..., None], profile=page.text(34675))
    if one_value(raster.values):
        raise ImageError(
            "every pixel has the same value: a blank image, or a compression that its writer or reader does not know",
            name,
            "look at it in another program, and save it as PNG",
        )
    return raster


def _directories(data: bytes, name: object) -> list[Directory]:
    order = "<" if data[:2] == b"II" else ">"
    big = data[:4] in BEGINNINGS[2:]
    word, head, size, inline = ("Q", "Q", 20, 8) if big else ("I", "H", 12, 4)
    at = struct.unpack_from(order + word, data, 8 if big else 4)[0]
    directories: dict[int, Directory] = {}
    while at:
        if at in directories:
            raise ImageError("the image is damaged (its list of pages leads back to itself)", name, "copy it again")
        count = struct.unpack_from(order + head, data, at)[0]
        start = at + struct.calcsize(order + head)
        entries: dict[int, tuple[int, int, int]] = {}
        if start + count * size > len(data):
            raise ImageError("the image is damaged or truncated (its list of tags is cut off)", name, "copy it again")
        for entry in range(start, start + count * size, size):
            tag, kind, number = struct.unpack_from(f"{order}HH{word}", data, entry)
            length = number * struct.calcsize(_TYPES.get(kind, "Q"))
            place = entry + size - inline
            if kind in _TYPES and length > inline:
                place = struct.unpack_from(order + word, data, place)[0]
                if place + length > len(data):
                    if tag >= _FIRST_PRIVATE:
                        continue
                    raise ImageError(f"the image is damaged or truncated (tag {tag} is cut off)", name, "copy it again")
            entries.setdefault(tag, (kind, number, place))  # of a tag that stands twice, libtiff too takes the first
        directories[at] = Directory(data, order, at, entries)
        at = struct.unpack_from(order + word, data, start + count * size)[0]
    if not directories:
        raise ImageError("the image is damaged (a TIFF without a page)", name, "copy it again")
    return list(directories.values())


def _problem(page: Directory) -> str:
    """Say what about a layout is not read; empty where it is read."""
    bits, kind = page.values(258) or (1,), page.value(339, 1)
    compression, photometric, extra = (
        page.compression,
        page.photometric,
        page.samples - _COLOURS.get(page.photometric, 0),
    )
    if page.samples > _MOST_SAMPLES:
        return f"{page.samples} samples a pixel"
    if len(set(bits)) > 1:
        return f"samples of different depths, {bits} bits"
    if photometric in _PHOTOMETRICS:
        return _PHOTOMETRICS[photometric]
    if kind in _FORMATS or not 1 <= page.bits <= 16:
        form = _FORMATS.get(kind, "whole numbers")
        return f"pixel values that are not 8 or 16 bits deep and without sign, but {form} of {page.bits} bits"
    if photometric not in _COLOURS:
        return f"colours of an unknown kind, PhotometricInterpretation {photometric}"
    if compression not in _ROWS | _CCITT | {_JPEG}:
        return f"the compression {_COMPRESSIONS.get(compression, 'of an unknown kind')} (number {compression})"
    if extra < 0 or (extra and photometric in (0, 1) and (extra > 1 or not page.values(338))):
        return f"{page.samples} channels that are no colours"
    if photometric == 3 and (page.bits > 8 or len(page.values(320)) != 3 << page.bits):
        return f"a palette of {len(page.values(320))} values for {page.bits} bits"
    if photometric == 5 and page.value(332, 1) != 1:
        return "inks other than CMYK"
    if page.value(32997, 1) > 1:
        return f"a volume of {page.value(32997, 1)} layers"
    if compression in _ROWS:
        if photometric == 6 and (page.values(530) != (1, 1) or page.bits != 8):
            return "YCbCr colours of fewer samples than pixels, without JPEG"
        if page.value(317, 1) not in (1, 2) or (page.value(317, 1) == 2 and page.bits not in (8, 16)):
            return f"the predictor {page.value(317, 1)} with {page.bits} bits"
    elif compression == _JPEG and (page.bits != 8 or photometric not in (1, 2, 6) or extra):
        return f"JPEG of {page.samples} samples of {page.bits} bits, PhotometricInterpretation {photometric}"
    elif compression in _CCITT and (page.bits, page.samples) != (1, 1):
        return f"CCITT compression of {page.samples} samples of {page.bits} bits"
    return ""


def _alpha(page: Directory) -> str:
    """Say what the first extra sample is: straight or premultiplied alpha, or nothing that is used."""
    extra = page.samples - _COLOURS.get(page.photometric, page.samples)
    if extra < 1 or page.photometric in (5, 6):
        return ""
    # A fourth sample without ExtraSamples is alpha to Pillow, and to those who write so; 999 is Corel Draw's number.
    return {1: "premultiplied", 2: "straight", 999: "straight"}.get(page.value(338, 2), "")


def _meaning(page: Directory, values: np.ndarray) -> Raster:
    """Samples with what the tags say about them."""
    photometric, alpha = page.photometric, _alpha(page)
    wanted = _COLOURS[photometric] + bool(alpha)
    values, most = values[..., :wanted], 2**page.bits - 1
    if photometric == 3:
        table = np.array(page.values(320), np.uint16).reshape(3, -1).T
        # As libtiff decides: a map without any value above 255 was written with eight bits.
        colours = (table if table.max() < 256 else table >> 8).astype(np.uint8)[values[..., 0]]
        values, most = np.dstack([colours, (values[..., 1:] * (255 // most)).astype(np.uint8)]), 255
    if photometric == 6:
        ycbcr = Image.frombytes("YCbCr", values.shape[1::-1], np.ascontiguousarray(values).tobytes())
        values = np.asarray(ycbcr.convert("RGB"))
    return Raster(
        values=values,
        most=most,
        stated_bits=page.stated_bits,
        inverted=photometric == 0,
        alpha=alpha,
        profile=page.text(34675),
        orientation=page.orientation,
    )


def _plane(page: Directory, plane: int, name: object) -> np.ndarray:
    """Samples of one plane, or of all where they are not apart: uint8 or uint16 (height, width, n)."""
    samples = 1 if page.planar else page.samples
    wide, high = page.segment
    if min(page.width, page.height, wide, high) < 1:
        raise ImageError("the image is damaged (a size of 0)", name, "copy it again")
    across, down = -(-page.width // wide), -(-page.height // high)
    if across * wide * down * high > max(_FREE_PADDING, _MOST_PADDING * page.width * page.height):
        raise ImageError("the image is damaged (its tiles are far larger than it)", name, "copy it again")
    length = -(-wide * samples * page.bits // 8)
    part = slice(plane * across * down, (plane + 1) * across * down)
    offsets = page.values(324 if page.tiled else 273)[part]
    counts = page.values(325 if page.tiled else 279)[part]
    if page.compression == 1:
        counts = (length * high,) * len(offsets)
        last = (page.height - (down - 1) * high) * length if not page.tiled else length * high
        if offsets and offsets[-1] + last > len(page.data):
            raise ImageError("the image is damaged or truncated (its pixels are cut off)", name, "copy it again")
    if len(offsets) < across * down or len(counts) < len(offsets):
        raise ImageError("the image is damaged or truncated (strips or tiles are missing)", name, "copy it again")
    rows = down * high if page.tiled else page.height
    tags: dict[int, int | tuple[int, ...]] = {256: across * length, 257: rows, 258: 8, 259: page.compression}
    tags |= {262: 1, 266: page.value(266, 1), 277: 1}
    tags |= {322: length, 323: high, 324: offsets, 325: counts} if page.tiled else {}
    tags |= {} if page.tiled else {278: high, 273: offsets, 279: counts}
    with TiffImagePlugin.TiffImageFile(io.BytesIO(_relabelled(page, tags))) as image:
        packed = np.asarray(image).reshape(rows, across, length)
    values = _unpacked(packed, page, wide * samples).reshape(rows, across, wide, samples)
    if page.value(317, 1) == 2:  # each sample was written as what it is more than its left neighbour
        values = values.cumsum(axis=2, dtype=values.dtype)
    return values.reshape(rows, across * wide, samples)[: page.height, : page.width]


def _unpacked(packed: np.ndarray, page: Directory, number: int) -> np.ndarray:
    """Numbers of some bits out of rows of bytes, uint8 (..., n) to uint8 or uint16 (..., number)."""
    bits = page.bits
    if bits == 8:
        return packed
    if bits == 16:
        return np.ascontiguousarray(packed).view(f"{page.order}u2").astype(np.uint16)
    values = np.zeros((*packed.shape[:2], number), np.uint8 if bits < 8 else np.uint16)
    for row, line in enumerate(packed):
        single = np.unpackbits(line, axis=1)[:, : number * bits].reshape(len(line), number, bits)
        for k in range(bits):
            values[row] = values[row] << 1 | single[..., k]
    return values


def _relabelled(page: Directory, tags: dict[int, int | tuple[int, ...]]) -> bytes:
    """The same file with another directory, in which rows are pixels of one byte, for Pillow to decompress."""
    entries, more = b"", b""
    start = len(page.data) + len(page.data) % 2
    behind = start + 2 + 12 * len(tags) + 4
    for tag, value in sorted(tags.items()):
        numbers = value if isinstance(value, tuple) else (value,)
        packed = struct.pack(f"{page.order}{len(numbers)}I", *numbers)
        place = packed if len(packed) == 4 else struct.pack(page.order + "I", behind + len(more))
        more += packed if len(packed) > 4 else b""
        entries += struct.pack(page.order + "HHI", tag, 4, len(numbers)) + place
    head = (b"II*\x00" if page.order == "<" else b"MM\x00*") + struct.pack(page.order + "I", start)
    gap = bytes(start - len(page.data))
    directory = struct.pack(page.order + "H", len(tags)) + entries + bytes(4) + more
    return b"".join((head, memoryview(page.data)[8:], gap, directory))


def _starting_with(page: Directory) -> bytes:
    """The same file with the page's directory as its first."""
    if page.data[:4] in BEGINNINGS[2:]:
        return page.data[:8] + struct.pack(page.order + "Q", page.at) + page.data[16:]
    return page.data[:4] + struct.pack(page.order + "I", page.at) + page.data[8:]
