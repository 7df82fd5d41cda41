"""The one decoder: what it makes of every kind of image, and how it refuses what is none."""

from __future__ import annotations

import functools
import io
import os
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from cervicyte.errors import CervicyteError, ImageError, MissingError
from cervicyte.images import decoding
from support.tiff_files import tiff

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
SMOOTH = np.stack(np.broadcast_arrays(np.arange(0, 200, 10)[:, None], np.arange(0, 240, 8), 90), axis=2).astype(
    np.uint8
)


def encode(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    stream = io.BytesIO()
    (Image.fromarray(PIXELS) if image is None else image).save(stream, kind, **options)
    return stream.getvalue()


def refused(data: bytes, *words: str) -> ImageError:
    """The error that decoding raises; its text has the words, and the name of the file."""
    with pytest.raises(ImageError) as caught:
        decoding.decode(data, "cell.png")
    assert "cell.png" in str(caught.value)
    assert caught.value.todo
    for word in words:
        assert word in str(caught.value)
    return caught.value


# --- formats and modes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["BMP", "PNG", "TIFF"])
def test_lossless_formats_come_back_as_they_were(kind: str) -> None:
    decoded = decoding.decode(encode(kind))
    np.testing.assert_array_equal(decoded, PIXELS)
    assert decoded.flags.c_contiguous


def test_webp_and_jpeg_come_back_nearly_as_they_were() -> None:
    np.testing.assert_array_equal(decoding.decode(encode("WEBP", lossless=True)), PIXELS)
    jpeg = decoding.decode(encode("JPEG", Image.fromarray(SMOOTH), quality=95))
    assert np.abs(jpeg.astype(int) - SMOOTH).mean() < 4


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind: str) -> None:
    deep = np.linspace(0, 65535, 600).astype(np.uint16).reshape(20, 30)
    decoded = decoding.decode(encode(kind, Image.fromarray(deep)))
    assert decoded.shape == (20, 30, 3)
    assert (decoded[0, 0, 0], decoded[-1, -1, 0]) == (0, 255)
    np.testing.assert_allclose(decoded[..., 1], deep / 257, atol=0.51)


def test_grey_bilevel_and_palette() -> None:
    grey = Image.fromarray(PIXELS[..., 0])
    np.testing.assert_array_equal(decoding.decode(encode("PNG", grey)), PIXELS[..., :1].repeat(3, axis=2))
    assert set(np.unique(decoding.decode(encode("PNG", grey.convert("1"))))) == {0, 255}
    palette = Image.fromarray(PIXELS).quantize(16)
    np.testing.assert_array_equal(decoding.decode(encode("PNG", palette)), np.asarray(palette.convert("RGB")))


def test_transparency_is_laid_over_white() -> None:
    rgba = np.dstack([PIXELS, np.zeros((20, 30), np.uint8)])
    rgba[:10, :, 3] = 255
    decoded = decoding.decode(encode("PNG", Image.fromarray(rgba)))
    np.testing.assert_array_equal(decoded[:10], PIXELS[:10])
    assert (decoded[10:] == 255).all()
    two = decoding.decode(encode("PNG", Image.fromarray(rgba).convert("LA")))
    assert (two[10:] == 255).all()
    assert (two[:10] != 255).any()
    palette = Image.fromarray(PIXELS).quantize(4)
    half = decoding.decode(encode("PNG", palette, transparency=bytes([0, 0, 255, 255])))
    expected = np.where(np.asarray(palette)[..., None] < 2, 255, np.asarray(palette.convert("RGB")))
    np.testing.assert_array_equal(half, expected)


def test_cmyk_jpeg_has_the_right_colours() -> None:
    red = Image.new("RGB", (16, 16), (220, 30, 30)).convert("CMYK")
    decoded = decoding.decode(encode("JPEG", red))
    assert np.abs(decoded.astype(int) - (220, 30, 30)).max() < 12


def test_exif_orientation_is_applied() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rotated by 90 degrees clockwise
    data = encode("JPEG", Image.fromarray(SMOOTH), exif=exif.tobytes(), quality=95)
    decoded = decoding.decode(data)
    assert decoded.shape == (30, 20, 3)
    assert np.abs(decoded.astype(int) - np.rot90(SMOOTH, -1)).mean() < 4
    header = decoding.read_header(data)
    assert (header.width, header.height, header.format, header.mode) == (20, 30, "JPEG", "RGB")


TURNS = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, -1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: np.rot90,
}  # fmt: skip


@pytest.mark.parametrize("orientation", TURNS)
@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_every_orientation_of_every_format(orientation: int, kind: str) -> None:
    """The header speaks of the upright image too, to which boxes and points belong."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(kind, Image.fromarray(SMOOTH), exif=exif.tobytes(), **options)
    expected = TURNS[orientation](SMOOTH)
    decoded = decoding.decode(data)
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).mean() < (4 if kind == "JPEG" else 0.1)
    header = decoding.read_header(data)
    assert (header.height, header.width) == expected.shape[:2]


def test_an_orientation_behind_the_pixels_of_a_png_counts_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    plain = encode("PNG")
    data = plain[:-12] + chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) + plain[-12:]
    np.testing.assert_array_equal(decoding.decode(data), np.rot90(PIXELS, -1))
    assert decoding.read_header(data).width == 20


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def deep_png(values: np.ndarray, *chunks: bytes) -> bytes:
    """A PNG of 16-bit values, (h, w, n): grey, grey and alpha, RGB or RGBA."""
    height, width, n = values.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    head = struct.pack(">IIBBBBB", width, height, 16, (0, 4, 2, 6)[n - 1], 0, 0, 0)
    parts = [chunk(b"IHDR", head), *chunks, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


DEEP = PIXELS.astype(np.uint16) * 257
HALF = np.repeat(np.arange(20) >= 10, 30).reshape(20, 30, 1)


@pytest.mark.parametrize("n", [1, 3])
def test_16_bit_png_with_alpha_and_with_a_transparent_colour(n: int) -> None:
    expected = np.where(HALF, PIXELS[..., :n], 255).repeat(4 - n if n == 1 else 1, axis=2)
    deep = DEEP[..., :n]
    np.testing.assert_array_equal(decoding.decode(deep_png(np.dstack([deep, HALF * 65535]))), expected)
    opaque = np.dstack([deep, np.zeros((20, 30), np.uint16)])
    np.testing.assert_array_equal(decoding.decode(deep_png(opaque)), PIXELS[..., :n].repeat(3 if n == 1 else 1, axis=2))
    keyed = np.where(HALF, deep, 4711)
    key = chunk(b"tRNS", struct.pack(f">{n}H", *[4711] * n))
    np.testing.assert_array_equal(decoding.decode(deep_png(keyed, key)), expected)


@pytest.mark.parametrize("bits", [10, 12, 14])
@pytest.mark.parametrize("n", [1, 3])
def test_a_camera_of_few_bits_in_a_16_bit_png(bits: int, n: int) -> None:
    shallow = (PIXELS[..., :n].astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)
    refused(deep_png(shallow), "lowest quarter", "nearly black")
    stated = chunk(b"sBIT", bytes([bits] * n))
    for values in (shallow, shallow << (16 - bits)):  # as some programs write them, and as the standard wants them
        decoded = decoding.decode(deep_png(values, stated))
        assert np.abs(decoded.astype(int) - PIXELS[..., :n]).max() <= 1


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_an_alpha_channel_of_zeros_is_none(kind: str) -> None:
    """Graphics cards, cameras and Windows programs leave it so; it made a white picture, trained on or called blank."""
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    empty = Image.fromarray(np.dstack([PIXELS, np.zeros((20, 30), np.uint8)]))
    np.testing.assert_array_equal(decoding.decode(encode(kind, empty, **options)), PIXELS)


def bitmap(pixels: bytes, bits: int, size: int, masks: tuple[int, ...]) -> bytes:
    head = struct.pack("<IiiHHIIiiII", size, 30, 20, 1, bits, 3 if masks else 0, 0, 2835, 2835, 0, 0)
    head += struct.pack(f"<{len(masks)}I", *masks) + (b"BGRs" + bytes(size - 60) if size > 40 else b"")
    return b"BM" + struct.pack("<IHHI", 14 + len(head) + len(pixels), 0, 0, 14 + len(head)) + head + pixels


def test_bmp_of_32_bits() -> None:
    four = np.dstack([PIXELS[..., ::-1], np.zeros((20, 30), np.uint8)])[::-1].tobytes()
    masks = (0xFF0000, 0xFF00, 0xFF)
    for size, more in ((40, ()), (40, masks), (108, (*masks, 0xFF000000)), (124, (*masks, 0xFF000000))):
        np.testing.assert_array_equal(decoding.decode(bitmap(four, 32, size, more)), PIXELS)
    refused(bitmap(four, 32, 40, (0x3FF00000, 0xFFC00, 0x3FF)), "32 bits a pixel", "colour masks")
    for length in range(2, 60):
        refused(bitmap(four, 32, 40, (0x3FF00000, 0xFFC00, 0x3FF))[:length])


def test_an_alpha_channel_by_which_nothing_could_be_seen_is_refused() -> None:
    ones = np.dstack([PIXELS, np.ones((20, 30), np.uint8)])
    refused(encode("PNG", Image.fromarray(ones)), "every pixel is transparent", "multiply")
    empty = Image.fromarray(np.dstack([SMOOTH, np.zeros((20, 30), np.uint8)]))
    refused(encode("WEBP", empty), "lossy WebP keeps no colour")  # its colours were another image
    refused(encode("WEBP", empty, lossless=True), "every pixel is transparent")
    nothing = np.zeros((20, 30, 4), np.uint8)
    refused(encode("PNG", Image.fromarray(nothing)), "every pixel is transparent")


def test_half_transparent_pixels_are_the_same_in_every_format() -> None:
    alpha = Image.fromarray(np.dstack([PIXELS, np.arange(600).reshape(20, 30) % 256]).astype(np.uint8))
    png, webp, tif = (
        decoding.decode(encode(kind, alpha, **more))
        for kind, more in (("PNG", {}), ("WEBP", {"lossless": True, "exact": True}), ("TIFF", {}))
    )
    np.testing.assert_array_equal(png, webp)
    np.testing.assert_array_equal(png, tif)


def test_jpegs_of_other_kinds_are_named() -> None:
    twelve = bytearray(encode("JPEG"))
    at = twelve.index(b"\xff\xc0")
    twelve[at + 4] = 12
    refused(bytes(twelve), "a JPEG of 12 bits a sample")
    refused(b"\xff\xd8\xff\xf7\x00\x0b\x08" + bytes(40), "a JPEG-LS file")


def test_what_browsers_show_as_it_is_decoded() -> None:
    grey = Image.fromarray(PIXELS[..., 0])
    alike = [encode("PNG"), encode("PNG", grey), encode("JPEG"), encode("WEBP")]
    empty = Image.fromarray(np.dstack([PIXELS, np.zeros((20, 30), np.uint8)]))
    others = [
        encode("BMP"), encode("TIFF"), encode("PNG", empty), encode("WEBP", empty), deep_png(DEEP),
        encode("PNG", grey, transparency=3), encode("JPEG", Image.new("CMYK", (8, 8))),
        encode("PNG")[:33] + chunk(b"gAMA", struct.pack(">I", 100_000)) + encode("PNG")[33:],
    ]  # fmt: skip
    assert all(decoding.shown_alike(data) for data in alike)
    assert not any(decoding.shown_alike(data) for data in others)


def test_float_and_32_bit_pixels_are_refused() -> None:
    refused(encode("TIFF", Image.fromarray(np.ones((4, 4), np.float32))), "8 or 16 bits")
    refused(encode("TIFF", Image.fromarray(np.ones((4, 4), np.int32))), "8 or 16 bits")


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_several_frames_are_refused(kind: str) -> None:
    frames = [Image.fromarray(np.roll(PIXELS, k, axis=0)) for k in range(3)]
    refused(encode(kind, frames[0], save_all=True, append_images=frames[1:]), "3 frames")


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (b"GIF89a" + bytes(40), "a GIF image"),
        (bytes(128) + b"DICM" + bytes(40), "a DICOM file"),
        (b"\0\0\0\x18ftypheic" + bytes(40), "HEIC"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 image"),
        (b"\xff\x0a" + bytes(40), "a JPEG XL image"),
        (b"ZISRAWFILE" + bytes(40), "a Zeiss CZI file"),
        (b"PK\x03\x04" + bytes(40), "a ZIP archive"),
    ],
)
def test_other_formats_are_named(data: bytes, name: str) -> None:
    refused(data, "not an image of a known format, but", name, "known formats: BMP")


# --- no image, half an image, a bomb -------------------------------------------------------------------------------


def test_text_named_png_is_refused(tmp_path: Path) -> None:
    refused(b"path,label\ncell.png,normal\n", "not an image of a known format")
    (tmp_path / "cell.png").write_text("hello")
    with pytest.raises(ImageError, match="known format"):
        decoding.load(tmp_path / "cell.png")


def test_zero_bytes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    with pytest.raises(ImageError, match=r"0 bytes"):
        decoding.load(tmp_path / "empty.png")


@pytest.mark.parametrize("kind", ["BMP", "PNG", "JPEG", "TIFF", "WEBP"])
def test_truncated_files_are_refused(kind: str) -> None:
    data = encode(kind)
    for share in (0.1, 0.5, 0.9):
        refused(data[: int(len(data) * share)])


def bomb(side: int = 60_000) -> bytes:
    """A whole 1-bit PNG of side x side pixels, all black; zlib shrinks a row to a few bytes."""

    packer, packed = zlib.compressobj(6), []
    rows = bytes(100 * (1 + (side + 7) // 8))
    for _ in range(side // 100):
        packed.append(packer.compress(rows))
    packed.append(packer.flush())
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", b"".join(packed)) + chunk(b"IEND", b"")


def test_the_bomb_is_an_honest_png() -> None:
    assert decoding.decode(bomb(800)).shape == (800, 800, 3)


def test_a_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(bomb())
    assert path.stat().st_size < 500_000
    code = """
import resource, sys, time
from cervicyte.images import decoding
from cervicyte.errors import ImageError
before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
for attempt in (lambda: decoding.load(sys.argv[1]), lambda: decoding.read_header(decoding.read_bytes(sys.argv[1]))):
    try:
        attempt()
    except ImageError as error:
        assert "50,000,000 pixels" in str(error), error
    else:
        raise SystemExit("it was decoded")
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    result = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    seconds, kilobytes = map(float, result.stdout.split())
    assert seconds < 1
    assert kilobytes < 50_000


def test_the_pixel_limit_is_a_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CERVICYTE_MAX_PIXELS", "599")
    refused(encode("PNG"), "599 pixels", "CERVICYTE_MAX_PIXELS")
    monkeypatch.setenv("CERVICYTE_MAX_PIXELS", "600")
    assert decoding.decode(encode("PNG")).shape == (20, 30, 3)
    assert decoding.read_header(encode("PNG"), max_pixels=600).width == 30
    with pytest.raises(ImageError):
        decoding.read_header(encode("PNG"), max_pixels=10)


def test_a_huge_file_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / "sparse.tif"
    with path.open("wb") as stream:
        stream.truncate(10**10)
    start = time.perf_counter()
    with pytest.raises(ImageError, match="bytes"):
        decoding.read_bytes(path)
    assert time.perf_counter() - start < 1


@functools.cache
def sample(kind: str) -> bytes:
    image = Image.fromarray(PIXELS)
    exif = Image.Exif()
    exif[0x0112] = 6
    return {
        "bmp": lambda: encode("BMP"),
        "png": lambda: encode("PNG", exif=exif.tobytes()),
        "palette": lambda: encode("PNG", image.quantize(8), transparency=bytes(8)),
        "grey16": lambda: encode("PNG", Image.fromarray(PIXELS[..., 0].astype(np.uint16) * 257)),
        "jpeg": lambda: encode("JPEG", exif=exif.tobytes()),
        "cmyk": lambda: encode("JPEG", image.convert("CMYK")),
        "tiff": lambda: encode("TIFF"),
        "lzw": lambda: encode("TIFF", compression="tiff_lzw"),
        "webp": lambda: encode("WEBP"),
        "deep": lambda: deep_png(DEEP, chunk(b"sBIT", bytes([12] * 3))),
        "planar": lambda: tiff(DEEP, 2, planar=True, tile=(16, 16), compression=8, tags={274: 6}),
        "twelve": lambda: tiff(PIXELS[..., 0], 0, bits=12, compression=5, rows=5, pages=({254: 1}, {})),
    }[kind]()


@settings(max_examples=250, deadline=None, derandomize=True)
@given(
    st.sampled_from(
        ["bmp", "png", "palette", "grey16", "deep", "jpeg", "cmyk", "tiff", "lzw", "planar", "twelve", "webp"]
    ),
    st.floats(0, 1),
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=6),
)
def test_damaged_files_give_an_image_or_an_image_error(
    kind: str, keep: float, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(sample(kind))
    for place, value in changes:
        data[int(place * len(data))] = value
    data = data[: max(1, int(keep * len(data)))] if keep < 0.5 else data
    try:
        image = decoding.decode(bytes(data))
    except ImageError:
        return
    assert image.dtype == np.uint8
    assert image.ndim == 3
    assert image.shape[2] == 3


def test_a_tiff_whose_second_page_has_no_size_is_refused() -> None:
    """Found by fuzzing: counting the pages of this file raised TypeError."""
    data = bytearray(encode("TIFF"))
    directory = struct.unpack_from("<I", data, 4)[0]
    entries = struct.unpack_from("<H", data, directory)[0]
    following = directory + 2 + 12 * entries
    struct.pack_into("<I", data, following, len(data))
    data += struct.pack("<H", 1) + struct.pack("<HHII", 0x0103, 3, 1, 1) + struct.pack("<I", 0)
    refused(bytes(data))


# --- crop and resize -----------------------------------------------------------------------------------------------


def test_crop_inside_and_over_the_border() -> None:
    np.testing.assert_array_equal(decoding.crop(PIXELS, (5, 2, 15, 12)), PIXELS[2:12, 5:15])
    over = decoding.crop(PIXELS, (-3, -2, 5, 5))
    assert over.shape == (7, 8, 3)
    assert (over[0, 0] == PIXELS[0, 0]).all()
    np.testing.assert_array_equal(over[2:, 3:], PIXELS[:5, :5])


@pytest.mark.parametrize("box", [(5, 5, 5, 9), (9, 9, 5, 5), (30, 0, 40, 10), (-9, 0, 0, 5), (0, 0, 10**6, 10**6)])
def test_boxes_that_make_no_sense_are_refused(box: decoding.Box) -> None:
    with pytest.raises(ImageError, match="box"):
        decoding.crop(PIXELS, box)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 64), st.sampled_from(decoding.FITS))
def test_resize_makes_a_square(height: int, width: int, size: int, fit: str) -> None:
    image = np.full((height, width, 3), 77, np.uint8)
    resized = decoding.resize(image, size, fit)
    assert resized.shape == (size, size, 3)
    assert (resized == 77).all()


# --- files, folders, names -----------------------------------------------------------------------------------------


def picture(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode("PNG"))
    return path


def search(*inputs: Path | str) -> tuple[list[Path], list[CervicyteError]]:
    rows = list(decoding.find_images(inputs))
    return [r.path for r in rows if r.problem is None], [r.problem for r in rows if r.problem is not None]


@pytest.mark.parametrize(
    "name", ["with space.png", "new\nline.png", "клетка.png", "細胞 [1]*.png", "e\u0301.png", "-x.png"]
)
def test_odd_names(tmp_path: Path, name: str) -> None:
    path = picture(tmp_path / name)
    assert decoding.load(path).shape == (20, 30, 3)
    assert search(tmp_path) == ([path], [])
    assert search(path) == ([path], [])


def test_a_name_that_is_no_text_works(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"caf\xe9.png")
    try:
        picture(path)
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert search(tmp_path) == ([path], [])
    assert decoding.load(path).shape == (20, 30, 3)


@pytest.mark.parametrize("folder", ["@eaDir", ".ipynb_checkpoints", "$RECYCLE.BIN", ".hidden", "a/#recycle/b"])
def test_folders_that_systems_make_are_not_searched(tmp_path: Path, folder: str) -> None:
    path = picture(tmp_path / "a" / "cell.png")
    picture(tmp_path / folder / "cell.png")
    assert search(tmp_path) == ([path], [])
    assert search(tmp_path / folder)[0] == [tmp_path / folder / "cell.png"], "a folder that is named is meant"


@pytest.mark.parametrize("ending", [".jfif", ".JPE", ".jif", ".jfi", ".mpo", ".dib", ".apng", ".TIF", ".WebP"])
def test_every_ending_of_the_kinds_that_are_decoded_is_searched(tmp_path: Path, ending: str) -> None:
    path = picture(tmp_path / f"cell{ending}")
    assert search(tmp_path) == ([path], [])


@pytest.mark.parametrize("name", ["nul\0byte.png", "x" * 5000 + ".png"])
def test_impossible_names_are_refused(name: str) -> None:
    with pytest.raises(ImageError):
        decoding.load(name)
    paths, problems = search(name)
    assert not paths
    assert len(problems) == 1


def test_folders_are_searched_in_order_and_other_files_passed_over(tmp_path: Path) -> None:
    expected = [picture(tmp_path / p) for p in ("a/2.png", "a/3.PNG", "b/deep/1.jpeg", "c.tif")]
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "a" / "._2.png").write_text("x")
    assert sorted(search(tmp_path)[0]) == sorted(expected)
    assert search(tmp_path)[0] == search(tmp_path)[0]
    assert search(tmp_path / "a", tmp_path / "c.tif")[0] == [expected[0], expected[1], expected[3]]


def test_globs(tmp_path: Path) -> None:
    a, b, c = (picture(tmp_path / p) for p in ("x/a.png", "x/b.png", "y/c.png"))
    assert search(str(tmp_path / "x" / "*.png"))[0] == [a, b]
    assert search(str(tmp_path / "**" / "*.png"))[0] == [a, b, c]
    assert search(str(tmp_path / "?"))[0] == [a, b, c]
    paths, problems = search(str(tmp_path / "z*.png"))
    assert not paths
    assert isinstance(problems[0], MissingError)


def test_missing_and_empty(tmp_path: Path) -> None:
    paths, problems = search(tmp_path, tmp_path / "nothing.png")
    assert not paths
    assert "no images in the folder" in str(problems[0])
    assert "no such file" in str(problems[1])
    with pytest.raises(ImageError, match="cannot read"):
        decoding.load(tmp_path / "nothing.png")
    with pytest.raises(ImageError, match="not a file"):
        decoding.load(tmp_path)


def test_links_that_lead_nowhere_or_round(tmp_path: Path) -> None:
    readable = picture(tmp_path / "good.png")
    (tmp_path / "dangling.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "round.png").symlink_to(tmp_path / "dnuor.png")
    (tmp_path / "dnuor.png").symlink_to(tmp_path / "round.png")
    paths, problems = search(tmp_path)
    assert not problems
    assert len(paths) == 4
    for path in paths:
        if path == readable:
            assert decoding.load(path).size
        else:
            with pytest.raises(ImageError, match="cannot read"):
                decoding.load(path)


def test_folders_linked_in_circles_are_searched_once(tmp_path: Path) -> None:
    """Eight folders that each link to all others have thousands of paths, and eight images."""
    folders = [tmp_path / f"d{k}" for k in range(8)]
    for folder in folders:
        picture(folder / "cell.png")
    for folder in folders:
        (folder / "self").symlink_to(folder)
        (folder / "up").symlink_to(tmp_path)
        for other in folders:
            if other != folder:
                (folder / f"to_{other.name}").symlink_to(other)
    paths, problems = search(tmp_path)
    assert len(paths) == len({os.path.realpath(p) for p in paths}) == 8
    assert problems
    assert all("a link that leads" in str(problem) for problem in problems)


def test_a_pipe_named_png_does_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(ImageError, match="not a file"):
        decoding.load(tmp_path / "pipe.png")


def test_unreadable_permission(tmp_path: Path) -> None:
    """Root may read anything, so a child process without its privileges looks."""
    picture(tmp_path / "open" / "good.png")
    picture(tmp_path / "open" / "secret.png").chmod(0)
    picture(tmp_path / "closed" / "cell.png")
    code = """
import glob, os, sys
from pathlib import Path
from PIL import Image
from cervicyte.images import decoding
from cervicyte.errors import ImageError
Image.init()  # all that is imported must be so before the privileges go
top = Path(sys.argv[1])
os.chdir("/")
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
for row in decoding.find_images([top / "open", top / "closed", top / "closed" / "cell.png"]):
    try:
        if row.problem:
            raise row.problem
        print("read", row.path.name, decoding.load(row.path).shape)
    except ImageError as error:
        print("refused", row.path.name, error.one_line)
"""
    # The folders that pytest made are closed to others: the child must be able to pass through them.
    for folder in (tmp_path, *tmp_path.parents):
        if folder == Path(tempfile.gettempdir()):
            break
        folder.chmod(folder.stat().st_mode | 0o711)
    (tmp_path / "open").chmod(0o755)
    (tmp_path / "closed").chmod(0)
    try:
        result = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True)
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("read good.png")
    assert lines[1].startswith("refused secret.png cannot read the file: Permission denied")
    assert lines[2].startswith("refused closed cannot list the folder: Permission denied")
    assert lines[3].startswith("refused cell.png cannot look into its folder")
