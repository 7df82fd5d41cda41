"""From stored samples to 8-bit sRGB on white: depth, light and dark exchanged, transparency, colour profiles.

Every format passes here, so that an alpha channel or a profile means the same in each of them.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image, ImageCms

from cervicyte.errors import ImageError

#: A 16-bit image of which 99 % of the samples are below this is a camera's 14 or fewer bits, or nearly black.
_DARK = 2**14

#: A profile that moves no colour of the chart by more than this, of 255, is sRGB as others write it, and not followed.
_SAME = 3

#: Shades of each channel on the chart by which a profile is compared with sRGB.
_SHADES = np.linspace(0, 255, 18).astype(np.uint8)

#: Modes of Pillow by the colour space that a profile is about.
_SPACES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK"}


@dataclass(frozen=True, kw_only=True)
class Raster:
    """Samples as they are stored, with what the file says about them.

    Attributes
    ----------
    values : uint8 or uint16 (height, width, n); grey, red-green-blue or four inks (CMYK); alpha comes last
    most : the value of full light
    stated_bits : of the camera, where the file says it
    inverted : 0 is white
    alpha : "straight", "premultiplied" or "" where there is none
    profile : ICC profile; empty where there is none
    orientation : of EXIF, 1 to 8
    """

    values: np.ndarray
    most: int = 255
    stated_bits: int | None = None
    inverted: bool = False
    alpha: str = ""
    profile: bytes = b""
    orientation: int = 1


def to_rgb(raster: Raster, name: object) -> np.ndarray:
    """Convert to uint8 (height, width, 3) sRGB on white, upright.

    An alpha channel of nothing but zeros is taken for none: graphics cards, cameras and some programs leave it so.

    Raises
    ------
    ImageError : a nearly black 16-bit image whose true depth is not stated, or nothing that can be seen
    """
    end = raster.values.shape[2] - bool(raster.alpha)
    most = _most(raster.values[..., :end], raster, name)
    colours, alpha = _to_8_bits(raster.values[..., :end], most), _to_8_bits(raster.values[..., end:], raster.most)
    if raster.inverted:
        colours = 255 - colours
    if alpha.size and not _used(alpha, colours, name):
        alpha = alpha[..., :0]
    if alpha.size and raster.alpha == "premultiplied":
        straight = colours * np.float32(255) / np.maximum(alpha, 1)
        colours = np.minimum(straight + 0.5, 255).astype(np.uint8)
    image = _in_srgb(colours, raster)
    if alpha.size:
        seen = Image.fromarray(np.dstack([image, alpha]))
        image = np.asarray(Image.alpha_composite(Image.new("RGBA", seen.size, (255,) * 4), seen).convert("RGB"))
    return np.ascontiguousarray(upright(image, raster.orientation))


def upright(image: np.ndarray, orientation: int) -> np.ndarray:
    """Turn or mirror an array (height, width, ...) by an orientation of EXIF; unknown numbers leave it."""
    if orientation in (5, 6, 7, 8):
        image = image.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        image = image[:, ::-1]
    if orientation in (3, 4, 7, 8):
        image = image[::-1]
    return image


def one_value(image: np.ndarray) -> bool:
    """Return whether all pixels of an array (height, width, ...) are the same; the first row nearly always tells."""
    first = image[:1, :1]
    return bool((image[:1] == first).all() and (image == first).all())


def _most(colours: np.ndarray, raster: Raster, name: object) -> int:
    """The value of full light: what the depth of the file or of the camera says."""
    if raster.most != 65535:
        return raster.most
    if raster.stated_bits and raster.stated_bits < 16 and colours.max() < 2**raster.stated_bits:
        return (1 << raster.stated_bits) - 1
    highest = colours.max() if raster.inverted else np.percentile(colours, 99)
    if highest < _DARK:
        raise ImageError(
            "a 16-bit image that uses only the lowest quarter of its values: a camera's 12 or 14 bits, "
            f"or nearly {'white' if raster.inverted else 'black'}",
            f"{name}, values up to {colours.max()} of 65535",
            "scale it to the full range, or save it as an 8-bit image",
        )
    return raster.most


def _to_8_bits(values: np.ndarray, most: int) -> np.ndarray:
    if most == 255:
        return values
    table = (np.arange(most + 1) * 255 / most).round().astype(np.uint8)
    return np.asarray(table[values])


def _used(alpha: np.ndarray, colours: np.ndarray, name: object) -> bool:
    """Whether an alpha channel says anything; raises ImageError where nothing could be seen."""
    if alpha.any():
        if alpha.max() == 1:
            raise ImageError(
                "every pixel is transparent: the alpha channel holds only 0 and 1 of 255",
                name,
                "multiply the alpha channel by 255, or save the image without it",
            )
        return True
    if one_value(colours):
        raise ImageError("every pixel is transparent, and of the same colour", name, "save it without transparency")
    return False


def _in_srgb(colours: np.ndarray, raster: Raster) -> np.ndarray:
    """Grey, red-green-blue or inks as sRGB, by the profile where it can be followed: uint8 (h, w, 3)."""
    mode = {1: "L", 3: "RGB", 4: "CMYK"}[colours.shape[2]]
    transform = _transform(raster.profile, mode) if raster.profile else None
    if transform is None and mode != "CMYK":
        return colours if mode == "RGB" else colours.repeat(3, axis=2)
    image = Image.frombytes(mode, colours.shape[1::-1], np.ascontiguousarray(colours).tobytes())
    if transform is None:
        return np.asarray(image.convert("RGB"))
    return np.asarray(ImageCms.applyTransform(image.convert(transform.input_mode), transform))


@lru_cache(maxsize=8)
def _transform(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The way from a profile to sRGB; None where it changes nothing, is broken, or is of another kind of colour."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = _SPACES.get(source.profile.xcolor_space.strip(), "")
        if space != mode and (space, mode) != ("RGB", "L"):
            return None
        transform = ImageCms.buildTransform(
            source,
            ImageCms.createProfile("sRGB"),
            space,
            "RGB",
            ImageCms.Intent.RELATIVE_COLORIMETRIC,
            ImageCms.Flags.BLACKPOINTCOMPENSATION,
        )
        if space == "CMYK":
            return transform
        chart = np.stack(np.meshgrid(_SHADES, _SHADES, _SHADES), axis=-1).reshape(len(_SHADES), -1, 3)
        before = Image.fromarray(chart if space == "RGB" else np.ascontiguousarray(chart[..., 0]))
        after = ImageCms.applyTransform(before, transform)
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None
    moved = np.abs(np.asarray(after, int) - np.asarray(before.convert("RGB"), int)).max()
    return transform if moved > _SAME else None
