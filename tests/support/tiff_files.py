"""TIFF files of any layout, written out from the tags of TIFF 6.0, so that no library's idea of them is tested."""

from __future__ import annotations

import lzma
import struct
import zlib
from collections.abc import Mapping, Sequence

import numpy as np

#: How rows of bytes become what a file holds, by the number of the compression.
COMPRESSIONS = {
    1: lambda rows: rows,
    5: lambda rows: _lzw(rows),
    8: zlib.compress,
    32946: zlib.compress,
    32773: lambda rows: _pack_bits(rows),
    34925: lzma.compress,
    50000: lambda rows: _zstandard(rows),
}


def tiff(
    values: np.ndarray,
    photometric: int,
    *,
    bits: int | None = None,
    compression: int = 1,
    planar: bool = False,
    order: str = "<",
    predictor: int = 1,
    fill_order: int = 1,
    tile: tuple[int, int] | None = None,
    rows: int | None = None,
    big: bool = False,
    tags: Mapping[int, int | Sequence[int] | bytes] | None = None,
    pages: Sequence[Mapping[int, int | Sequence[int] | bytes]] = ({},),
) -> bytes:
    """Write unsigned values, (height, width) or (height, width, n); each of ``pages`` has tags of its own."""
    values = values[..., None] if values.ndim == 2 else values
    height, width, samples = values.shape
    bits = bits or 8 * values.itemsize
    wide, high = tile or (width, rows or height)
    planes = [values[..., k : k + 1] for k in range(samples)] if planar else [values]
    segments = []
    for plane in planes:
        full = np.pad(plane, ((0, -height % high if tile else 0), (0, -width % wide), (0, 0)), mode="edge")
        for y in range(0, full.shape[0], high):
            for x in range(0, full.shape[1], wide):
                part = full[y : y + high, x : x + wide]
                if predictor == 2:
                    part = np.concatenate([part[:, :1], np.diff(part, axis=1)], axis=1)
                segment = COMPRESSIONS[compression](_packed(part, bits, order))
                segments.append(segment if fill_order == 1 else _mirrored(segment))
    entries: dict[int, int | Sequence[int] | bytes] = {
        256: width, 257: height, 258: [bits] * samples, 259: compression, 262: photometric, 266: fill_order,
        277: samples, 284: 2 if planar else 1, 317: predictor,
    }  # fmt: skip
    data = bytearray(16)
    places = []
    for segment in segments:
        places.append(len(data))
        data += segment
    sizes = [len(segment) for segment in segments]
    entries |= {322: wide, 323: high, 324: places, 325: sizes} if tile else {278: high, 273: places, 279: sizes}
    link = 8 if big else 4
    data[: 8 if big else 4] = (b"II" if order == "<" else b"MM") + struct.pack(
        order + ("HHH" if big else "H"), *((43, 8, 0) if big else (42,))
    )
    for page in pages:
        data += bytes(-len(data) % 2)
        struct.pack_into(order + ("Q" if big else "I"), data, link, len(data))
        link = _directory(data, {**entries, **(tags or {}), **page}, order, big)
    return bytes(data)


def _directory(data: bytearray, entries: Mapping[int, int | Sequence[int] | bytes], order: str, big: bool) -> int:
    """Append a directory; give the place where the address of the next one belongs."""
    head, word, size, inline = ("Q", "Q", 20, 8) if big else ("H", "I", 12, 4)
    start = len(data)
    at = start + struct.calcsize(order + head)
    data += struct.pack(order + head, len(entries)) + bytes(size * len(entries) + inline)
    for tag, value in sorted(entries.items()):
        if isinstance(value, bytes):
            kind, number, packed = 7, len(value), value
        else:
            numbers = [value] if isinstance(value, int) else list(value)
            kind, number = 4, len(numbers)
            packed = struct.pack(f"{order}{number}I", *numbers)
        struct.pack_into(f"{order}HH{word}", data, at, tag, kind, number)
        if len(packed) <= inline:
            data[at + size - inline : at + size - inline + len(packed)] = packed
        else:
            struct.pack_into(order + word, data, at + size - inline, len(data))
            data += packed
        at += size
    return at


def _packed(part: np.ndarray, bits: int, order: str) -> bytes:
    flat = part.reshape(len(part), -1)
    if bits in (8, 16):
        rows = flat.astype(f"{order}u{bits // 8}").view(np.uint8)
    else:
        single = flat[..., None] >> np.arange(bits - 1, -1, -1) & 1
        rows = np.packbits(single.reshape(len(flat), -1).astype(np.uint8), axis=1)
    return rows.tobytes()


def _mirrored(segment: bytes) -> bytes:
    """The bits of each byte from the last to the first (FillOrder 2)."""
    return np.packbits(np.unpackbits(np.frombuffer(segment, np.uint8)), bitorder="little").tobytes()


def _pack_bits(rows: bytes) -> bytes:
    """Runs of up to 128 bytes as they are."""
    return b"".join(bytes([len(rows[k : k + 128]) - 1]) + rows[k : k + 128] for k in range(0, len(rows), 128))


def _lzw(rows: bytes) -> bytes:
    """Codes of nine bits only: the table is cleared before it would need ten."""
    codes = []
    for k in range(0, len(rows), 250):
        codes += [256, *rows[k : k + 250]]
    text = "".join(f"{code:09b}" for code in [*codes, 257])
    text += "0" * (-len(text) % 8)
    return int(text, 2).to_bytes(len(text) // 8)


def _zstandard(rows: bytes) -> bytes:
    """One frame of one raw block."""
    return b"\x28\xb5\x2f\xfd\xa0" + struct.pack("<I", len(rows)) + (len(rows) << 3 | 1).to_bytes(3, "little") + rows
