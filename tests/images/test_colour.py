"""Colour profiles: followed where they can be, and without effect where they are sRGB or broken."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image, ImageCms

from cervicyte.images import decoding
from support.tiff_files import tiff

RGB = np.random.default_rng(1).integers(0, 256, (20, 30, 3), dtype=np.uint8)
D50 = (0.9642, 1.0, 0.8249)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def profile(gamma: float, space: bytes = b"RGB ") -> bytes:
    """A profile of sRGB's primaries, or of grey, with a gamma of its own (ICC.1:2001-04)."""

    def fixed(*values: float) -> bytes:
        return b"".join(struct.pack(">i", round(value * 65536)) for value in values)

    def xyz(*values: float) -> bytes:
        return b"XYZ \0\0\0\0" + fixed(*values)

    curve = b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256)) + b"\0\0"
    tags = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", 5) + b"test\0" + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz(*D50),
    }
    if space == b"RGB ":
        tags |= {b"rXYZ": xyz(0.43607, 0.22249, 0.01392), b"gXYZ": xyz(0.38515, 0.71687, 0.09708)}
        tags |= {b"bXYZ": xyz(0.14307, 0.06061, 0.7141), b"rTRC": curve, b"gTRC": curve, b"bTRC": curve}
    else:
        tags[b"kTRC"] = curve
    table, data, at = struct.pack(">I", len(tags)), b"", 132 + 12 * len(tags)
    for name, body in tags.items():
        padded = body + bytes(-len(body) % 4)
        table += name + struct.pack(">II", at + len(data), len(body))
        data += padded
    head = struct.pack(">I4sI4s4s4s", at + len(data), b"lcms", 0x02400000, b"mntr", space, b"XYZ ")
    head += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28) + fixed(*D50) + bytes(48)
    return head + table + data


def linear(values: np.ndarray) -> np.ndarray:
    """sRGB values as linear light, both 0 to 255 (IEC 61966-2-1)."""
    x = values / 255
    return (np.where(x <= 0.04045, x / 12.92, ((x + 0.055) / 1.055) ** 2.4) * 255).round().astype(np.uint8)


def encode(kind: str, image: np.ndarray, icc: bytes) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, icc_profile=icc, **({"lossless": True} if kind == "WEBP" else {}))
    return stream.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_linear_light_becomes_srgb(kind: str) -> None:
    bright = np.maximum(RGB, 90)  # where a step of the linear 8-bit values is no more than 3 of sRGB
    decoded = decoding.decode(encode(kind, linear(bright), profile(1.0)))
    assert np.abs(decoded.astype(int) - bright).max() <= 3
    assert np.abs(linear(bright).astype(int) - bright).mean() > 40


def test_deep_tiff_and_grey_profiles_are_followed() -> None:
    bright = np.maximum(RGB, 90)
    deep = linear(bright).astype(np.uint16) * 257
    decoded = decoding.decode(tiff(deep, 2, planar=True, tags={34675: profile(1.0)}))
    assert np.abs(decoded.astype(int) - bright).max() <= 3
    grey = linear(bright[..., 0])
    for icc in (profile(1.0, b"GRAY"), profile(1.0)):
        decoded = decoding.decode(encode("PNG", grey, icc))
        assert np.abs(decoded.astype(int) - bright[..., :1]).max() <= 3


@pytest.mark.parametrize(
    "icc",
    [
        SRGB,
        SRGB[:200],
        b"no profile",
        profile(1.0, b"GRAY"),
        profile(1.0)[:300],
        profile(1.0).replace(b"RGB ", b"XXXX"),
    ],
)
def test_srgb_and_broken_profiles_change_nothing(icc: bytes) -> None:
    np.testing.assert_array_equal(decoding.decode(encode("PNG", RGB, icc)), RGB)


def test_a_transparent_ground_stays_white_under_a_profile() -> None:
    half = np.dstack([RGB, np.where(np.arange(20) < 10, 0, 255)[:, None].repeat(30, axis=1)]).astype(np.uint8)
    decoded = decoding.decode(encode("PNG", half, profile(1.0)))
    assert (decoded[:10] == 255).all()
    assert (decoded[10:] != RGB[10:]).mean() > 0.9
