"""Which pixels cervicyte and the libraries beneath it read from many layouts: the table of docs/compatibility.md.

    python experiments/formats.py

Each file is made from known pixels with tifffile, Pillow or byte by byte. A reader is right where no pixel differs by
more than 1 of 255 (JPEG: 4 on average), for 16 bits after scaling. Needs tifffile, which comes with scikit-image.
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from importlib.metadata import version

import cv2
import numpy as np
import tifffile
from PIL import Image

from cervicyte.errors import ImageError
from cervicyte.images import decoding

Y, X = np.mgrid[:48, :64]
RGB = np.stack([X * 3 + 40, Y * 4 + 30, X + Y * 2], axis=-1).astype(np.uint8)
GREY = RGB[..., 0]
DEEP, DEEP_GREY = RGB.astype(np.uint16) * 257, GREY.astype(np.uint16) * 257
ALPHA = np.full_like(GREY, 255)
PLANES = np.ascontiguousarray(np.moveaxis(DEEP, 2, 0))


def tif(values: np.ndarray, **options: object) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, values, **{"metadata": None, **options})
    return stream.getvalue()


def encoded(kind: str, image: Image.Image, **options: object) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def deep_png(values: np.ndarray, colour_type: int, bits: int = 0) -> bytes:
    """A PNG of 16-bit values; with ``bits``, its chunk sBIT."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    height, width = values.shape[:2]
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0))
    significant = chunk(b"sBIT", bytes([bits] * values.shape[2])) if bits else b""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    return b"\x89PNG\r\n\x1a\n" + head + significant + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def relabelled(data: bytes, compression: int) -> bytes:
    """The same TIFF, whose first directory names another compression: what a reader without its codec meets."""
    at = struct.unpack_from("<I", data, 4)[0]
    changed = bytearray(data)
    for entry in range(at + 2, at + 2 + 12 * struct.unpack_from("<H", data, at)[0], 12):
        if struct.unpack_from("<H", data, entry)[0] == 259:
            struct.pack_into("<H", changed, entry + 8, compression)
    return bytes(changed)


def files() -> Iterator[tuple[str, bytes, np.ndarray]]:
    """What it is, its bytes and the right pixels, uint8 (h, w) or (h, w, 3)."""
    for planar, values in (("chunky", DEEP), ("planar", PLANES)):
        more = {"planarconfig": "contig" if planar == "chunky" else "separate", "photometric": "rgb"}
        yield f"TIFF, 16-bit RGB, {planar}", tif(values, **more), RGB
        yield f"TIFF, 16-bit RGB, {planar}, big-endian", tif(values, byteorder=">", **more), RGB
        yield f"TIFF, 16-bit RGB, {planar}, tiles, Deflate", tif(values, tile=(16, 16), compression="zlib", **more), RGB
    for bits, values in ((8, GREY), (16, DEEP_GREY)):
        white = (2**bits - 1 - values).astype(values.dtype)
        for order, end in (("<", "little"), (">", "big")):
            yield (
                f"TIFF, {bits}-bit grey, 0 is white, {end}-endian",
                tif(white, photometric="miniswhite", byteorder=order),
                GREY,
            )
    packed = (GREY.astype(np.uint32) * 4095 // 255).astype(np.uint16)
    yield "TIFF, grey, 12 bits in 16, stated", tif(packed, extratags=[(281, "H", 1, 4095, True)]), GREY
    yield "TIFF, grey, 12 bits in 16, not stated", tif(packed), GREY
    colours = (RGB.astype(np.uint32) * 4095 // 255).astype(np.uint16)
    yield "PNG, RGB, 12 bits in 16, sBIT", deep_png(colours, 2, 12), RGB
    yield "PNG, RGB, 12 bits in 16, not stated", deep_png(colours, 2), RGB
    yield "PNG, 16-bit grey and alpha", deep_png(np.dstack([DEEP_GREY, np.full_like(DEEP_GREY, 65535)]), 4), GREY
    palette = Image.fromarray(RGB).quantize(64)
    table = np.zeros((3, 256), np.uint16)
    table[:, :64] = np.array(palette.getpalette(), np.uint16).reshape(-1, 3).T[:, :64]
    for top, scale in ((255, 1), (65535, 257)):
        data = tif(np.asarray(palette), photometric="palette", colormap=table * scale)
        yield f"TIFF, palette of 0 to {top}", data, np.asarray(palette.convert("RGB"))
    for name, values in (
        ("signed 8-bit", (GREY.astype(int) - 128).astype(np.int8)),
        ("32-bit float", np.float32(GREY)),
    ):
        yield f"TIFF, {name} grey", tif(values, photometric="minisblack"), GREY
    for kind in ("unspecified", "assocalpha", "unassalpha"):
        for name, alpha in (("opaque", ALPHA), ("all zero", ALPHA * 0)):
            data = tif(np.dstack([RGB, alpha]), photometric="rgb", extrasamples=[kind])
            yield f"TIFF, RGB and {kind}, {name}", data, RGB
    empty = Image.fromarray(np.dstack([RGB, ALPHA * 0]))
    yield "PNG, RGB and alpha, all zero", encoded("PNG", empty), RGB
    yield "WebP, RGB and alpha, all zero", encoded("WEBP", empty, lossless=True, exact=True), RGB
    for kind in ("tiff_lzw", "packbits", "lzma", "zstd"):
        yield f"TIFF, RGB, {kind.removeprefix('tiff_')}", encoded("TIFF", Image.fromarray(RGB), compression=kind), RGB
    yield "TIFF, RGB, JPEG", encoded("TIFF", Image.fromarray(RGB), compression="jpeg", quality=98), RGB
    yield "TIFF, RGB, JPEG 2000 (34712)", relabelled(tif(RGB, photometric="rgb", compression="zlib"), 34712), RGB
    yield "TIFF, RGB, JPEG XL (50002)", relabelled(tif(RGB, photometric="rgb", compression="zlib"), 50002), RGB
    yield "TIFF, CMYK", tif(np.asarray(Image.fromarray(RGB).convert("CMYK")), photometric="separated"), RGB
    yield "TIFF, CIE Lab", tif(RGB, photometric="cielab"), RGB
    yield "BigTIFF, RGB, tiles", tif(RGB, photometric="rgb", bigtiff=True, tile=(16, 16)), RGB
    stack = io.BytesIO()
    with tifffile.TiffWriter(stack) as writer:
        writer.write(RGB, photometric="rgb", metadata=None)
        writer.write(RGB[::2, ::2], photometric="rgb", subfiletype=1, metadata=None)
    yield "TIFF, RGB and a smaller copy", stack.getvalue(), RGB
    yield "TIFF, two pages", tif(np.stack([RGB, RGB]), photometric="rgb"), RGB
    exif = Image.Exif()
    exif[0x0112] = 6
    for kind, stored in (("JPEG", 98), ("PNG", 98), ("TIFF", 98)):
        turned = Image.fromarray(np.ascontiguousarray(np.rot90(RGB)))
        yield f"{kind}, turned (EXIF orientation 6)", encoded(kind, turned, exif=exif.tobytes(), quality=stored), RGB
    yield "JPEG, CMYK", encoded("JPEG", Image.fromarray(RGB).convert("CMYK"), quality=98), RGB


def by_cervicyte(data: bytes) -> np.ndarray:
    return decoding.decode(data)


def by_pillow(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        if image.mode.startswith("I;16"):
            return np.asarray(image) / 257
        return np.asarray(image.convert("RGB")) if image.mode != "F" else np.asarray(image)


def by_opencv(data: bytes) -> np.ndarray:
    # Not IMREAD_COLOR_RGB: OpenCV 5.0.0.93 gives other values for 16-bit TIFF files with it.
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_ANYDEPTH | cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("not read")
    image = np.ascontiguousarray(image[..., ::-1])
    return image / 257 if image.dtype == np.uint16 else image


def by_tifffile(data: bytes) -> np.ndarray:
    """As `skimage.io.imread` does it; the axes of planes are put where the others have them."""
    if data[:4] not in (b"II*\0", b"MM\0*", b"II+\0"):
        raise KeyError("no TIFF")
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        image = file.asarray()
    image = np.moveaxis(image, 0, 2) if image.ndim == 3 and image.shape[0] in (3, 4) else image
    return image / 257 if image.dtype == np.uint16 else image


def verdict(read: Callable[[bytes], np.ndarray], data: bytes, right: np.ndarray, jpeg: bool) -> str:
    """What a reader makes of a file, in a few words."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = read(data)
    except KeyError:
        return "-"
    except ImageError as error:
        return f"refused: {error.what.removeprefix('a TIFF that is not read: ')}"
    except (OSError, ValueError, TypeError, RuntimeError, SyntaxError, ImportError, cv2.error):
        return "refused"
    image, expected = (v if v.ndim == 3 else v[..., None].repeat(3, axis=2) for v in (image, right))
    image = image[..., :3].astype(float)
    if image.shape != expected.shape:
        return "turned" if image.shape[:2] == expected.shape[1::-1] else f"other: {image.shape}"
    difference = np.abs(image - expected)
    if (difference.mean() < 4) if jpeg else (difference.max() <= 1):
        return "right"
    return "**wrong**, all zero" if not image.any() else "**wrong**"


def main() -> None:
    """Print the table."""
    logging.disable(logging.CRITICAL)
    readers = {"cervicyte": by_cervicyte, "Pillow": by_pillow, "OpenCV": by_opencv, "tifffile": by_tifffile}
    packages = {"Pillow": "pillow", "OpenCV": "opencv-python-headless", "tifffile": "tifffile"}
    print("| file | " + " | ".join(n if n not in packages else f"{n} {version(packages[n])}" for n in readers) + " |")
    print("| --- " * (len(readers) + 1) + "|")
    for name, data, right in files():
        words = (verdict(read, data, right, "JPEG" in name) for read in readers.values())
        print(f"| {name} | {' | '.join(words)} |")


if __name__ == "__main__":
    main()
