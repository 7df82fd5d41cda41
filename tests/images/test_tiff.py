"""TIFF files of every layout that microscopes and annotation tools write: read right, or refused by name."""

from __future__ import annotations

import io
import itertools
import struct

import numpy as np
import pytest
from PIL import Image

from cervicyte.errors import ImageError
from cervicyte.images import decoding
from support.tiff_files import COMPRESSIONS, tiff

RGB = np.random.default_rng(0).integers(0, 256, (21, 37, 3), dtype=np.uint8)
GREY = RGB[..., 0]
THREE = np.repeat(GREY[..., None], 3, axis=2)
TILE = (16, 16)


def deep(values: np.ndarray, bits: int = 16) -> np.ndarray:
    """8-bit values in more bits."""
    return (values.astype(np.uint32) * (2**bits - 1) // 255).astype(np.uint16)


def same(data: bytes, expected: np.ndarray) -> None:
    decoded = decoding.decode(data, "cell.tif")
    assert decoded.shape == expected.shape
    assert np.abs(decoded.astype(int) - expected).max() <= 1
    header = decoding.read_header(data, "cell.tif")
    assert (header.height, header.width, header.format) == (*expected.shape[:2], "TIFF")


def refused(data: bytes, *words: str) -> None:
    with pytest.raises(ImageError) as caught:
        decoding.decode(data, "cell.tif")
    assert "damaged" not in str(caught.value)
    assert caught.value.todo
    for word in ("cell.tif", *words):
        assert word in str(caught.value)


@pytest.mark.parametrize("compression", COMPRESSIONS)
@pytest.mark.parametrize("order", "<>")
def test_every_accepted_compression_gives_the_known_pixels(compression: int, order: str) -> None:
    for values, planar, shape, predictor in itertools.product(
        (RGB, deep(RGB)), (False, True), ({}, {"rows": 5}, {"tile": TILE}), (1, 2)
    ):
        same(tiff(values, 2, compression=compression, order=order, planar=planar, predictor=predictor, **shape), RGB)


@pytest.mark.parametrize("kind", ["tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "lzma", "zstd"])
def test_what_another_program_compressed(kind: str) -> None:
    stream = io.BytesIO()
    Image.fromarray(RGB).save(stream, "TIFF", compression=kind)
    same(stream.getvalue(), RGB)


def test_jpeg_and_ccitt() -> None:
    smooth = np.stack(np.broadcast_arrays(np.arange(0, 200, 10)[:, None], np.arange(0, 240, 8), 90), axis=2)
    stream = io.BytesIO()
    Image.fromarray(smooth.astype(np.uint8)).save(stream, "TIFF", compression="jpeg", quality=98, tiffinfo={274: 6})
    upright = np.rot90(smooth, -1)
    assert np.abs(decoding.decode(stream.getvalue()).astype(int) - upright).mean() < 4
    assert decoding.read_header(stream.getvalue()).width == 20
    for kind in ("group3", "group4", "tiff_ccitt"):
        stream = io.BytesIO()
        Image.fromarray(GREY > 99).save(stream, "TIFF", compression=kind)
        same(stream.getvalue(), np.where(THREE > 99, 255, 0))


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 10, 12, 14, 16])
@pytest.mark.parametrize("order", "<>")
def test_grey_of_any_depth_where_0_is_black_or_white(bits: int, order: str) -> None:
    values = deep(GREY, bits) if bits > 8 else GREY >> (8 - bits)
    expected = np.repeat((values * 255.0 / (2**bits - 1)).round()[..., None], 3, axis=2)
    for fill_order, compression, shape in itertools.product((1, 2), (1, 5), ({}, {"tile": TILE})):
        more = {"bits": bits, "order": order, "fill_order": fill_order, "compression": compression, **shape}
        same(tiff(values, 1, **more), expected)
        same(tiff(2**bits - 1 - values, 0, **more), expected)


def test_a_camera_of_12_bits_in_16_is_scaled_where_the_file_says_so() -> None:
    shallow = deep(RGB, 12)
    refused(tiff(shallow, 2), "lowest quarter", "nearly black", "12 or 14 bits")
    refused(tiff(deep(GREY, 14), 1), "nearly black")
    refused(tiff(deep(GREY, 12), 0), "nearly white")
    same(tiff(shallow, 2, tags={281: [4095] * 3}), RGB)
    same(tiff(4095 - deep(GREY, 12), 0, tags={281: 4095}), THREE)
    same(tiff(shallow, 2, tags={270: b'<OME><Pixels SignificantBits="12"/></OME>\0'}), RGB)
    twice = tiff(shallow, 2, tags={270: b'<OME><Pixels SignificantBits="12"/></OME>\0', 271: b'{"shape": [6, 7, 3]}\0'})
    assert twice.count(b"\x0f\x01\x02\x00") + twice.count(b"\x0f\x01\x07\x00") == 1
    same(twice.replace(b"\x0f\x01", b"\x0e\x01"), RGB)  # as tifffile adds a description of its own to the user's
    refused(tiff(shallow, 2, tags={281: [4001] * 3}), "nearly black")  # the largest value that is there is no depth
    same(tiff(deep(RGB), 2, tags={281: [4095] * 3}), RGB)  # a statement that is not true
    hot = shallow.copy()
    hot[0, 0] = 65535
    refused(tiff(hot, 2), "nearly black")


@pytest.mark.parametrize("scale", [1, 257])
def test_palettes_of_8_and_of_16_bits(scale: int) -> None:
    palette = Image.fromarray(RGB).quantize(16)
    table = np.zeros((256, 3), int)
    colours = np.array(palette.getpalette()).reshape(-1, 3)
    table[: len(colours)] = colours
    expected = np.asarray(palette.convert("RGB"))
    same(tiff(np.asarray(palette), 3, tags={320: (table.T * scale).ravel().tolist()}), expected)
    small = (table[:16].T * scale).ravel().tolist()
    same(tiff(np.asarray(palette), 3, bits=4, compression=8, tags={320: small}), expected)


def test_extra_samples() -> None:
    opaque, nothing = np.full_like(GREY, 255), np.zeros_like(GREY)
    half = opaque.copy()
    half[:10] = 0
    white_above = np.where(np.arange(21)[:, None, None] < 10, 255, RGB)
    for planar, kind in itertools.product((False, True), (0, 1, 2)):
        same(tiff(np.dstack([RGB, opaque]), 2, planar=planar, tags={338: kind}), RGB)
        same(tiff(np.dstack([RGB, nothing]), 2, planar=planar, tags={338: kind}), RGB)
        expected = white_above if kind else RGB
        colours = np.where(half[..., None] > 0, RGB, 0) if kind == 1 else RGB
        same(tiff(np.dstack([colours, half]), 2, planar=planar, tags={338: kind}), expected)
        same(tiff(deep(np.dstack([colours, half])), 2, planar=planar, tags={338: kind}), expected)
    same(tiff(np.dstack([RGB, half]), 2), white_above)
    same(tiff(np.dstack([RGB, opaque, nothing]), 2, tags={338: [2, 0]}), RGB)
    for values, photometric in ((GREY, 1), (255 - GREY, 0)):
        same(tiff(np.dstack([values, half]), photometric, tags={338: 2}), np.repeat(white_above[..., :1], 3, axis=2))


def test_partly_transparent_pixels_are_the_same_whether_premultiplied_or_not() -> None:
    alpha = np.full_like(GREY, 128)
    straight = decoding.decode(tiff(np.dstack([RGB, alpha]), 2, tags={338: 2}))
    colours = (RGB * (128 / 255)).round().astype(np.uint8)
    premultiplied = decoding.decode(tiff(np.dstack([colours, alpha]), 2, tags={338: 1}))
    assert np.abs(straight.astype(int) - premultiplied).max() <= 2
    assert np.abs(straight - (RGB * (128 / 255) + 127)).max() <= 1


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_images_stand_upright(orientation: int) -> None:
    upright = {
        1: RGB, 2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.swapaxes(0, 1), 6: np.rot90(RGB, -1),
        7: np.rot90(RGB, 2).swapaxes(0, 1), 8: np.rot90(RGB),
    }[orientation]  # fmt: skip
    same(tiff(RGB, 2, tags={274: orientation}), upright)
    same(tiff(deep(RGB), 2, planar=True, big=True, tags={274: orientation}), upright)


def test_cmyk_and_big_tiff() -> None:
    inks = np.asarray(Image.fromarray(RGB).convert("CMYK"))
    same(tiff(inks, 5), RGB)
    same(tiff(inks, 5, planar=True, compression=5), RGB)
    same(tiff(RGB, 2, big=True, order=">", tile=TILE, compression=8), RGB)
    ycbcr = np.asarray(Image.fromarray(RGB).convert("YCbCr"))
    back = np.asarray(Image.fromarray(ycbcr, "YCbCr").convert("RGB"))
    same(tiff(ycbcr, 6, tags={530: [1, 1]}), back)


def test_a_smaller_copy_or_a_mask_is_no_second_image() -> None:
    for second in ({254: 1}, {254: 4}, {254: 5}, {255: 2}):
        same(tiff(RGB, 2, pages=({}, second)), RGB)
        same(tiff(RGB, 2, pages=(second, {}), big=True), RGB)
    same(tiff(RGB, 2, pages=({254: 1},)), RGB)
    refused(tiff(RGB, 2, pages=({}, {}, {254: 1})), "2 frames")
    refused(tiff(RGB, 2, pages=({}, {}, {}), tile=TILE), "3 frames", "a whole slide or a pyramid")
    refused(tiff(RGB, 2, tags={270: b"ImageJ=1.54f\nimages=12\nslices=12\n\0"}), "12 frames")


@pytest.mark.parametrize(
    ("photometric", "tags", "words"),
    [
        (2, {339: [2, 2, 2]}, "signed whole numbers of 8 bits"),
        (2, {339: [3, 3, 3]}, "floating point"),
        (2, {339: [6, 6, 6]}, "complex"),
        (2, {258: [8, 8, 16]}, "different depths"),
        (2, {258: [32] * 3}, "32 bits"),
        (2, {259: 34712}, "JPEG 2000"),
        (2, {259: 50002}, "JPEG XL"),
        (2, {259: 50001}, "WebP"),
        (2, {259: 34887}, "LERC"),
        (6, {259: 6}, "old-style JPEG"),
        (2, {259: 4711}, "4711"),
        (2, {259: 7, 258: [12] * 3}, "JPEG of 3 samples of 12 bits"),
        (8, {}, "CIE Lab"),
        (1, {}, "3 channels"),
        (6, {}, "YCbCr"),
        (32803, {}, "raw data of a camera"),
        (2, {50706: b"\1\4\0\0"}, "raw data of a camera"),
        (2, {254: 1, 330: 8}, "raw data of a camera"),
        (2, {317: 3}, "predictor 3"),
        (2, {32997: 4}, "volume"),
        (3, {}, "3 channels|palette"),
    ],
)
def test_layouts_that_are_not_read_are_named(photometric: int, tags: dict[int, int], words: str) -> None:
    data = tiff(RGB, photometric, tags=tags)
    with pytest.raises(ImageError, match=words) as caught:
        decoding.decode(data, "cell.tif")
    assert "damaged" not in str(caught.value)
    assert caught.value.todo


def test_one_value_everywhere_is_refused() -> None:
    """Some libraries give zeros, and no error, for a compression that they do not know."""
    refused(tiff(np.zeros_like(RGB), 2), "every pixel has the same value")
    refused(tiff(np.full_like(RGB, 77), 2, compression=8), "every pixel has the same value")


def test_damaged_directories_are_refused() -> None:
    whole = tiff(RGB, 2, rows=5)
    for data in (whole[:-1], whole[:900], whole[:20]):
        with pytest.raises(ImageError):
            decoding.decode(data)
    at = struct.unpack_from("<I", whole, 4)[0]
    entries = struct.unpack_from("<H", whole, at)[0]
    round_ = bytearray(whole)
    struct.pack_into("<I", round_, at + 2 + 12 * entries, at)
    with pytest.raises(ImageError, match="back to itself"):
        decoding.decode(bytes(round_))
    for tag, value in ((273, [16]), (256, 0), (278, 0), (322, 0), (273, [10**9] * 5)):
        with pytest.raises(ImageError):
            decoding.decode(tiff(RGB, 2, rows=5, tags={tag: value}))
