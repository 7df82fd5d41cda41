"""The one place where image files are opened: safe decoding, cropping, resizing, and the search for files.

Every image becomes an upright RGB array, uint8 (height, width, 3). An image that cannot become
one without guessing raises an ImageError that says why.
"""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from cervicyte import settings
from cervicyte.base.system_files import is_system_folder
from cervicyte.errors import CervicyteError, ImageError, MissingError
from cervicyte.images import png, tiff, unread
from cervicyte.images.colour import Raster, to_rgb

#: Endings of file names that count as images when a folder is searched.
SUFFIXES = frozenset(
    {
        ".bmp",
        ".dib",
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".jif",
        ".jfi",
        ".mpo",
        ".tif",
        ".tiff",
        ".webp",
    }
)

#: Formats that are decoded. Only the content of a file counts, not its name. (MPO is opened as JPEG.)
FORMATS = ("BMP", "PNG", "JPEG", "TIFF", "WEBP")

Box = tuple[int, int, int, int]

#: Errors that Pillow raises on damaged files, collected by fuzzing (UnidentifiedImageError is an OSError).
_DAMAGE = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    EOFError,
    MemoryError,
    RuntimeError,
    struct.error,
)

#: Most bytes of a file for each allowed pixel (uncompressed 16-bit RGBA); a larger file is not read.
_BYTES_PER_PIXEL = 8

#: Ways in which a crop of any shape becomes a square: stretched, or padded with its border pixels.
FITS = ("stretch", "pad")


@dataclass(frozen=True)
class CellImage:
    """Where the pixels of one cell are: a file, perhaps a box in it, perhaps an augmented copy (variant >= 1)."""

    path: str
    box: Box | None = None
    variant: int = 0


@dataclass(frozen=True, kw_only=True)
class Header:
    """The facts that a file states before any pixel is decoded (width and height of the upright image)."""

    width: int
    height: int
    format: str
    mode: str


def read_bytes(path: Path | str) -> bytes:
    """Return the content of a file; raises ImageError if it is missing, unreadable, empty, too large or no file."""
    try:
        status = os.stat(path)
        if not stat.S_ISREG(status.st_mode):
            # Reading a pipe or a device might never end.
            raise ImageError("not a file", path, "name an image file")
        if status.st_size > _BYTES_PER_PIXEL * settings.get_int("max_pixels"):
            raise ImageError(
                f"the file has {status.st_size:,} bytes, more than the largest image that is allowed",
                path,
                "raise CERVICYTE_MAX_PIXELS if it is real",
            )
        data = Path(path).read_bytes()
    except OSError as error:
        raise ImageError(f"cannot read the file: {error.strerror}", path, "check its name and permissions") from error
    except ValueError as error:
        raise ImageError(f"not a file name ({error})", repr(str(path)), "mend the table") from error
    if not data:
        raise ImageError("the file is empty (0 bytes)", path, "copy it again from its source")
    return data


def read_header(data: bytes, name: object = "image", max_pixels: int | None = None) -> Header:
    """Read the header of an encoded image and refuse images that must not be decoded.

    Raises
    ------
    ImageError : not an image of a known format, more than ``max_pixels`` pixels (default:
        the setting), or more than one frame
    """
    image = _open(data, name, max_pixels)
    try:
        width, height = image.width, image.height
        if _orientation(image, data) in (5, 6, 7, 8):
            width, height = height, width
    except _DAMAGE as error:
        raise ImageError(f"the image is damaged ({error})", name, "copy it again") from error
    format = "TIFF" if isinstance(image, tiff.Directory) else image.format or ""
    return Header(width=width, height=height, format=format, mode=image.mode)


def decode(data: bytes, name: object = "image", max_pixels: int | None = None) -> np.ndarray:
    """Decode an encoded image to uint8 (height, width, 3) sRGB, upright, on white.

    Depths of up to 16 bits are scaled to 8, grey becomes three equal channels, what is transparent is laid on white,
    inks are converted, ICC profiles are followed, and the EXIF orientation is applied: docs/compatibility.md.

    Raises
    ------
    ImageError : as `read_header`; for a layout that is not read, an image that is nearly black because it is a
        camera's 12 or 14 bits, one of which nothing could be seen, and truncated or damaged data
    """
    image = _open(data, name, max_pixels)
    try:
        return to_rgb(_raster(image, data, name), name)
    except ImageError:
        raise
    except _DAMAGE as error:
        raise ImageError(f"the image is damaged or truncated ({error})", name, "copy it again") from error


def shown_alike(data: bytes, name: object = "image") -> bool:
    """Whether browsers show an encoded image with the pixels that `decode` gives, whatever lies behind it.

    They do with PNG, JPEG and WebP without transparency, inks, 16 bits or a gamma of its own.

    Raises
    ------
    ImageError : as `read_header`
    """
    image = _open(data, name, None)
    if isinstance(image, tiff.Directory) or image.format == "BMP" or image.mode not in ("1", "L", "P", "RGB"):
        return False
    if image.format == "PNG" and (data[24] == 16 or png.chunk(data, b"cICP")):
        return False
    return not {"transparency", "gamma"} & set(image.info)


def load(path: Path | str, box: Box | None = None) -> np.ndarray:
    """Read, decode and crop one image file: uint8 (height, width, 3) RGB.

    Raises
    ------
    ImageError : as `read_bytes`, `decode` and `crop`
    """
    image = decode(read_bytes(path), path)
    return image if box is None else crop(image, box)


def crop(image: np.ndarray, box: Box) -> np.ndarray:
    """Cut out the box (left, top, right, bottom; pixels); where it reaches outside the image, the border repeats.

    Raises
    ------
    ImageError : an empty box, one wholly outside the image, or one with more pixels than an image may have
    """
    left, top, right, bottom = box
    height, width = image.shape[:2]
    if right <= left or bottom <= top or right <= 0 or bottom <= 0 or left >= width or top >= height:
        raise ImageError("the box lies outside the image or is empty", f"{box} in {width} x {height}", "mend the table")
    limit = settings.get_int("max_pixels")
    if (right - left) * (bottom - top) > limit:
        raise ImageError(f"the box has more than {limit:,} pixels", f"{box} in {width} x {height}", "mend the table")
    before_y, after_y = max(0, -top), max(0, bottom - height)
    before_x, after_x = max(0, -left), max(0, right - width)
    inner = image[max(0, top) : min(height, bottom), max(0, left) : min(width, right)]
    if before_y or after_y or before_x or after_x:
        return np.pad(inner, ((before_y, after_y), (before_x, after_x), (0, 0)), mode="edge")
    return np.ascontiguousarray(inner)


def resize(image: np.ndarray, size: int, fit: str = "stretch") -> np.ndarray:
    """Resize to uint8 (size, size, 3): area averaging when shrinking, bilinear when growing.

    ``fit`` is ``stretch`` (the aspect ratio changes) or ``pad`` (the border repeats to a square).
    """
    import cv2

    if fit == "pad" and image.shape[0] != image.shape[1]:
        height, width = image.shape[:2]
        side = max(height, width)
        top, left = (side - height) // 2, (side - width) // 2
        image = crop(image, (-left, -top, side - left, side - top))
    if image.shape[:2] == (size, size):
        return image
    shrinking = min(image.shape[:2]) > size
    return cv2.resize(image, (size, size), interpolation=cv2.INTER_AREA if shrinking else cv2.INTER_LINEAR)


@dataclass(frozen=True)
class SearchResult:
    """One result of a search.

    Attributes
    ----------
    path : the file, or the folder that cannot be searched
    problem : why it cannot be used
    system_folder : the name of the folder above it that a system made, or ""; what lies there is nobody's image
    """

    path: Path
    problem: CervicyteError | None = None
    system_folder: str = ""


def find_images(inputs: Iterable[Path | str]) -> Iterator[SearchResult]:
    """Yield the image files that the inputs (files, folders, glob patterns) name, in a stable order.

    Folders are searched with all their subfolders but hidden ones and those that systems make, each
    folder once: a link that leads back to its own folder, or to one that was searched already, is
    reported and not followed. A file that is an input itself is yielded whatever its ending. An
    input that does not exist, cannot be listed or matches nothing is yielded with its problem.
    """
    for place in expand(inputs):
        yield from _walk(place.path) if place.problem is None and os.path.isdir(place.path) else [place]


def expand(inputs: Iterable[Path | str]) -> Iterator[SearchResult]:
    """Yield the files and folders that the inputs name, glob patterns filled in; what names nothing has a problem."""
    import glob

    for item in inputs:
        path = Path(item)
        if os.path.lexists(path):
            yield SearchResult(path)
        elif _forbidden(path):
            yield SearchResult(
                path, ImageError("cannot look into its folder: not permitted", path, "check permissions")
            )
        else:
            matches = sorted(glob.glob(str(item), recursive=True)) if glob.has_magic(str(item)) else []
            if not matches:
                yield SearchResult(
                    path, MissingError("no such file, folder or match", repr(str(item)), "check the name")
                )
            yield from (SearchResult(Path(match)) for match in matches)


def walk(top: Path) -> Iterator[SearchResult]:
    """Yield every file under a folder, whatever its name, in a stable order.

    Each folder is searched once: a link that leads back to its own folder or to one that was
    searched already, and a folder that cannot be listed, are yielded with their problem. Files in
    hidden folders below the top, and in those that systems make, say so.
    """
    searched = {os.path.realpath(top)}
    stack: list[tuple[Path, frozenset[str], str]] = [(top, frozenset({os.path.realpath(top)}), "")]
    while stack:
        folder, above, system = stack.pop()
        try:
            entries = sorted(os.scandir(folder), key=lambda e: e.name)
        except OSError as error:
            problem = ImageError(f"cannot list the folder: {error.strerror}", folder, "check permissions")
            yield SearchResult(folder, problem, system)
            continue
        deeper = []
        for entry in entries:
            path = Path(entry.path)
            if os.path.isdir(path):
                real = os.path.realpath(path)
                if real in searched:
                    target = "back to its own folder" if real in above else "to a folder that was searched already"
                    problem = ImageError(f"a link that leads {target}", path, "remove the link")
                    yield SearchResult(path, problem, system)
                else:
                    searched.add(real)
                    made = entry.name if entry.name.startswith(".") or is_system_folder(entry.name) else ""
                    deeper.append((path, above | {real}, system or made))
            else:
                yield SearchResult(path, system_folder=system)
        stack.extend(reversed(deeper))


def _forbidden(path: Path) -> bool:
    """Return whether a path may exist but this user has no permission to look."""
    try:
        os.lstat(path)
    except PermissionError:
        return True
    except (OSError, ValueError):
        pass
    return False


def named_as_image(path: Path) -> bool:
    """Return whether a file name has the ending of an image and is not hidden."""
    return path.suffix.lower() in SUFFIXES and not path.name.startswith(".")


def _walk(top: Path) -> Iterator[SearchResult]:
    any_image = False
    for match in walk(top):
        if not match.system_folder and (match.problem or named_as_image(match.path)):
            any_image = True
            yield match
    if not any_image:
        endings = ", ".join(sorted(SUFFIXES))
        yield SearchResult(top, MissingError("no images in the folder", top, f"files must end in one of {endings}"))


def _open(data: bytes, name: object, max_pixels: int | None) -> Image.Image | tiff.Directory:
    """Open what is not too large: the image as Pillow sees it, or the directory of a TIFF."""
    limit = settings.get_int("max_pixels") if max_pixels is None else max_pixels
    too_large = ImageError(
        f"the image has more than {limit:,} pixels and was not decoded",
        name,
        "raise CERVICYTE_MAX_PIXELS if it is real",
    )
    image: Image.Image | tiff.Directory
    try:
        if data[:4] in tiff.BEGINNINGS:
            image = tiff.directory(data, name)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                image = Image.open(io.BytesIO(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        if limit > 2 * (Image.MAX_IMAGE_PIXELS or limit):
            raise ImageError(f"Pillow refuses the image ({error})", name, "cut it into smaller fields") from error
        raise too_large from error
    except ImageError:
        raise
    except _DAMAGE as error:
        variant = unread.variant(data)
        if variant:
            raise ImageError(f"an image that is not read: {variant}", name, "save it as an 8-bit image") from error
        raise ImageError(unread.sentence(data), name, f"known formats: {', '.join(FORMATS)}") from error
    if image.width * image.height > limit:
        raise too_large
    if isinstance(image, tiff.Directory):
        return image
    try:
        frames = int(getattr(image, "n_frames", 1))
    except _DAMAGE as error:
        raise ImageError(f"the image is damaged ({error})", name, "copy it again") from error
    if frames > 1 and image.format != "MPO":
        raise ImageError(f"the file holds {frames} frames, not one picture", name, "save the frame you mean by itself")
    return image


def _lossy_webp(data: bytes) -> bool:
    """Return whether bytes are a WebP file that keeps alpha beside lossy colours, in a chunk ALPH (RFC 9649)."""
    at = 12
    while data[8:12] == b"WEBP" and at + 8 <= len(data):
        if data[at : at + 4] == b"ALPH":
            return True
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        at += 8 + length + length % 2
    return False


def _orientation(image: Image.Image | tiff.Directory, data: bytes) -> int:
    """How an image must be turned to stand upright, as EXIF counts: 1 to 8."""
    if isinstance(image, tiff.Directory):
        return image.orientation
    if image.format == "PNG":
        image.info.setdefault("exif", png.chunk(data, b"eXIf"))
    # Pillow's own for PNG would decode the pixels to look behind them.
    return int(Image.Image.getexif(image).get(0x0112, 1))


def _raster(image: Image.Image | tiff.Directory, data: bytes, name: object) -> Raster:
    if isinstance(image, tiff.Directory):
        return tiff.read(image, name)
    orientation, profile = _orientation(image, data), image.info.get("icc_profile") or b""
    image.load()
    if image.format == "PNG" and data[24] == 16:
        return png.deep(data, orientation, profile)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image, alpha = image.convert("RGBA"), "straight"
        if _lossy_webp(data) and image.getchannel("A").getextrema() == (0, 0):
            raise ImageError(
                "every pixel is transparent, and lossy WebP keeps no colour there", name, "save it without transparency"
            )
    else:
        alpha = ""
        if image.mode not in ("L", "RGB", "CMYK"):
            image = image.convert("L" if image.mode == "1" else "RGB")
    values = np.atleast_3d(np.asarray(image))
    return Raster(values=values, alpha=alpha, profile=profile, orientation=orientation)
