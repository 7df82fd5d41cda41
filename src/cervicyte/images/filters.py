"""Image filters in a chain of names that is stored with a model and applied the same way at prediction."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from cervicyte.errors import UsageError, did_you_mean
from cervicyte.images.filter_cache import filtered


def normalise(image: np.ndarray, low: float, high: float) -> np.ndarray:
    """Stretch each channel so that two of its percentiles become 0 and 255."""
    bottom, top = np.percentile(image, (low, high), axis=(0, 1))
    span = np.maximum(top - bottom, 1.0)
    return np.asarray(np.clip((image - bottom) * (255.0 / span), 0, 255).astype(np.uint8))


def clahe(image: np.ndarray, clip: float, tiles: int, tile: int) -> np.ndarray:
    """Equalise the lightness from place to place with limited contrast (CLAHE).

    Source: Zuiderveld 1994, Contrast limited adaptive histogram equalization, Graphics Gems IV.
    """
    import cv2

    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    grid = _tile_grid(image.shape, tiles, tile)
    lab[..., 0] = cv2.createCLAHE(clip, grid).apply(np.ascontiguousarray(lab[..., 0]))
    return cv2.cvtColor(lab, cv2.COLOR_LAB2RGB)


def _tile_grid(shape: tuple[int, ...], tiles: int, tile: int) -> tuple[int, int]:
    """Tiles along width and height: as many as asked for, or as many of the least side as there is room for."""
    if not tile:
        return tiles, tiles
    return max(1, min(tiles, shape[1] // tile)), max(1, min(tiles, shape[0] // tile))


def clahe_remark(shape: tuple[int, ...], clip: float, tiles: int, tile: int) -> str:
    """Say which parameters of `clahe` change nothing in an image of that shape, or give an empty text.

    OpenCV limits a bin of a tile's histogram of 256 bins to clip * pixels / 256 entries, rounded down, at least 1.
    """
    columns, rows = _tile_grid(shape, tiles, tile)
    width, height = -(-shape[1] // columns), -(-shape[0] // rows)
    size = f"tiles of {width} x {height} px"
    if int(clip * width * height / 256) <= 1:
        least = "a larger tile or clip" if tile else f"tile={CLAHE_TILE}, or fewer tiles"
        return f"clip={_plain(clip)} has no effect on {size}: the limit is cut to 1 entry a bin; use {least}"
    if max(columns, rows) < tiles:
        return f"tiles={tiles} has no effect: there is room for {columns} x {rows}, {size}, with tile={tile}"
    return ""


def median(image: np.ndarray, size: int) -> np.ndarray:
    """Replace each pixel by the median of its square neighbourhood."""
    import cv2

    return cv2.medianBlur(image, size)


def nlm(image: np.ndarray, h: float, hcolor: float, template: int, search: int, bgr: int) -> np.ndarray:
    """Remove noise by non-local means; the defaults are the settings of system A.

    OpenCV takes blue, green, red, and goes through 8-bit CIE Lab of linear light, which moves colours even where next
    to nothing is removed. With ``bgr`` 0 it gets red, green, blue instead, as in models that were trained so.

    Source: Buades, Coll and Morel 2005, A non-local algorithm for image denoising, 10.1109/CVPR.2005.38.
    """
    import cv2

    if not bgr:
        return cv2.fastNlMeansDenoisingColored(image, None, h, hcolor, template, search)
    reversed_channels = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    denoised = cv2.fastNlMeansDenoisingColored(reversed_channels, None, h, hcolor, template, search)
    return cv2.cvtColor(denoised, cv2.COLOR_BGR2RGB)


#: Least spread in LAB that is scaled; a smaller one is noise or a blank image, which scaling would only amplify.
_LEAST_SPREAD = 1.0


def reinhard(
    image: np.ndarray, mean_l: float, mean_a: float, mean_b: float, sd_l: float, sd_a: float, sd_b: float
) -> np.ndarray:
    """Give the image a stated mean and standard deviation of lightness and of both colour axes (CIE LAB, D65).

    Every image is brought to the same fixed numbers. Nothing is fitted to a data set, so nothing can leak from a
    test set. The filter works on the whole image: if one crop is all nucleus and another nearly all background,
    it evens out that difference too. That is why it is a choice and not a default.

    Source: Reinhard, Ashikhmin, Gooch and Shirley 2001, Color transfer between images, 10.1109/38.946629. The
    default targets are the medians over crops of 90 px about the 209 annotated nuclei of nine fields of CRIC
    Cervix (conventional smears, Papanicolaou): means 60.6, 12.7, 2.8 and deviations 15.6, 7.1, 10.1, rounded.
    """
    import cv2

    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)
    mean, spread = lab.mean(axis=(0, 1), dtype=np.float64), lab.std(axis=(0, 1), dtype=np.float64)
    scale = np.array((sd_l, sd_a, sd_b)) / np.maximum(spread, _LEAST_SPREAD)
    moved = (lab - mean) * scale + (mean_l, mean_a, mean_b)
    return to_rgb(moved.astype(np.float32))


def to_rgb(lab: np.ndarray) -> np.ndarray:
    """Convert CIE LAB, float32 (h, w, 3) with L in 0..100, to uint8 RGB; colours out of range are clipped."""
    import cv2

    lab[..., 0] = lab[..., 0].clip(0, 100)
    return np.asarray(np.rint(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB).clip(0, 1) * 255).astype(np.uint8))


#: Least side of a tile of `clahe` in pixels, where a new chain states none: 4 pixels a bin of its histogram and more,
#: so that a limit of contrast of 0.5 still differs from one of 1.
CLAHE_TILE = 32


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One number of a filter.

    Attributes
    ----------
    default : what a chain that is written now has where it states none
    absent : what a stored chain means that states none, for parameters that earlier builds did not have; else None
    low, high : bounds, both allowed
    help : what it is, in words
    whole, odd : whether it is a whole, or an odd, number
    """

    name: str
    default: float
    low: float
    high: float
    help: str
    absent: float | None = None
    whole: bool = False
    odd: bool = False


@dataclass(frozen=True, kw_only=True)
class Filter:
    """One named filter.

    Attributes
    ----------
    name : its name in a chain
    apply : uint8 (h, w, 3) and the parameters by name, to the same shape and dtype
    help : what it does, in words
    parameters : in the order in which a chain is stored
    ascending : two parameters of which the first must be smaller than the second, or none
    slow : whether its results are worth keeping (`cervicyte.images.filter_cache`)
    remark : shape of an image and the parameters by name, to which of them change nothing in it, in words, or ""
    """

    name: str
    apply: Callable[..., np.ndarray]
    help: str
    parameters: tuple[Parameter, ...] = ()
    ascending: tuple[str, ...] = ()
    slow: bool = False
    remark: Callable[..., str] | None = None


FILTERS: tuple[Filter, ...] = (
    Filter(
        name="normalise",
        apply=normalise,
        help="stretches each colour channel between two of its percentiles",
        parameters=(
            Parameter(name="low", default=1, low=0, high=100, help="percentile that becomes 0"),
            Parameter(name="high", default=99, low=0, high=100, help="percentile that becomes 255"),
        ),
        ascending=("low", "high"),
    ),
    Filter(
        name="clahe",
        apply=clahe,
        help="evens out the contrast of the lightness from place to place (CLAHE)",
        parameters=(
            Parameter(name="clip", default=2, low=0.1, high=100, help="limit of the contrast, in mean bin heights"),
            Parameter(name="tiles", default=8, low=1, high=64, help="most tiles along each side", whole=True),
            Parameter(
                name="tile",
                default=CLAHE_TILE,
                absent=0,
                low=0,
                high=1024,
                help="least side of a tile in pixels, so that small images get fewer; 0: none",
                whole=True,
            ),
        ),
        remark=clahe_remark,
    ),
    Filter(
        name="median",
        apply=median,
        help="takes the median of each neighbourhood, against specks",
        parameters=(
            Parameter(name="size", default=3, low=3, high=31, help="side of the neighbourhood in pixels", odd=True),
        ),
    ),
    Filter(
        name="nlm",
        apply=nlm,
        help="averages what looks alike nearby (non-local means), against noise",
        parameters=(
            Parameter(name="h", default=10, low=0.1, high=100, help="strength on the lightness"),
            Parameter(name="hcolor", default=10, low=0.1, high=100, help="strength on the colours"),
            Parameter(name="template", default=7, low=1, high=31, help="side of what is compared, in pixels", odd=True),
            Parameter(
                name="search", default=21, low=3, high=51, help="side of where it is looked for, in pixels", odd=True
            ),
            Parameter(
                name="bgr",
                default=1,
                absent=0,
                low=0,
                high=1,
                help="1: colours in the order of OpenCV; 0: red and blue exchanged, as in earlier models",
                whole=True,
            ),
        ),
        ascending=("template", "search"),
        slow=True,
    ),
    Filter(
        name="reinhard",
        apply=reinhard,
        help="brings the stain to fixed means and standard deviations in CIE LAB",
        parameters=(
            Parameter(name="mean_l", default=61, low=0, high=100, help="mean of the lightness"),
            Parameter(name="mean_a", default=13, low=-100, high=100, help="mean from green to red"),
            Parameter(name="mean_b", default=3, low=-100, high=100, help="mean from blue to yellow"),
            Parameter(name="sd_l", default=16, low=0.1, high=50, help="standard deviation of the lightness"),
            Parameter(name="sd_a", default=7, low=0.1, high=50, help="standard deviation from green to red"),
            Parameter(name="sd_b", default=10, low=0.1, high=50, help="standard deviation from blue to yellow"),
        ),
    ),
)


T = TypeVar("T", Filter, Parameter)


@dataclass(frozen=True)
class Step:
    """A filter with its parameters' values, in the filter's order; None where a stored chain lacks a later one."""

    filter: Filter
    values: tuple[float | None, ...]

    @property
    def text(self) -> str:
        """Return the canonical text, such as ``nlm:h=7:bgr=1``: without defaults, but with what came later."""
        pairs = zip(self.filter.parameters, self.values, strict=True)
        stated = ((p, v) for p, v in pairs if v is not None and (v != p.default or p.absent is not None))
        return ":".join((self.filter.name, *(f"{p.name}={_plain(v)}" for p, v in stated)))

    @property
    def numbers(self) -> dict[str, float]:
        """The parameters by name, as the filter takes them."""
        pairs = zip(self.filter.parameters, self.values, strict=True)
        return {p.name: p.absent if v is None and p.absent is not None else v for p, v in pairs}  # type: ignore[misc]

    @property
    def current(self) -> Step:
        """The step as it is written now: parameters that a stored chain lacks have their defaults."""
        pairs = zip(self.filter.parameters, self.values, strict=True)
        return Step(self.filter, tuple(p.default if v is None else v for p, v in pairs))

    def remark(self, shape: tuple[int, ...]) -> str:
        """Say which parameters change nothing in an image of that shape, or give an empty text."""
        return self.filter.remark(shape, **self.numbers) if self.filter.remark else ""

    def __call__(self, image: np.ndarray) -> np.ndarray:
        """Filter one image, uint8 (h, w, 3), without looking into the cache."""
        return self.filter.apply(image, **self.numbers)


def parse_chain(text: str) -> tuple[str, ...]:
    """Parse a chain that somebody writes now into canonical texts, under which it is stored and names cached results.

    Parameters that earlier builds did not have are written out, so that a stored chain without them keeps its meaning:
    see `stored_chain`.

    Raises
    ------
    UsageError : an unknown filter or parameter (with the nearest right one), or a value that cannot be used

    >>> parse_chain("normalise, clahe:tiles=4:clip=2, NLM:hColor=7")
    ('normalise', 'clahe:tiles=4:tile=32', 'nlm:hcolor=7:bgr=1')
    """
    return tuple(parse_step(part).current.text for part in text.split(",") if part.strip())


def stored_chain(texts: Iterable[str]) -> tuple[str, ...]:
    """Return the canonical texts of a chain that is stored, which mean what they meant when they were written.

    Raises as `parse_chain`.

    >>> stored_chain(["clahe:clip=2.0", "nlm:bgr=1"])
    ('clahe', 'nlm:bgr=1')
    """
    return tuple(parse_step(part).text for text in texts for part in text.split(",") if part.strip())


@functools.lru_cache(maxsize=256)
def parse_step(text: str) -> Step:
    """Parse one filter of a stored chain, such as ``clahe:clip=3``; raises as `parse_chain`."""
    name, *parts = (part.strip().lower() for part in text.split(":"))
    if "=" in name:
        raise UsageError(
            "a filter's name comes before its parameters",
            repr(text),
            "write NAME:PARAMETER=NUMBER:PARAMETER=NUMBER, and a comma only before the next filter",
        )
    row = _row_named(name, FILTERS, "filter", text)
    numbers: dict[str, float] = {}
    for part in parts:
        key, equals, number = (piece.strip() for piece in part.partition("="))
        if not key or not equals or not number:
            raise UsageError(f"the filter {name!r} has a part that is no NAME=NUMBER", repr(text), _form(row))
        parameter = _row_named(key, row.parameters, f"parameter of {name!r}", text)
        if key in numbers:
            raise UsageError(f"the filter {name!r} has the parameter {key!r} twice", repr(text), "keep one of them")
        numbers[key] = _number(row, parameter, number)
    step = Step(row, tuple(numbers.get(p.name, p.default if p.absent is None else None) for p in row.parameters))
    if row.ascending:
        less, more = row.ascending
        values = step.numbers
        if values[less] >= values[more]:
            raise UsageError(
                f"the filter {name!r} needs {less} smaller than {more}",
                f"{less}={_plain(values[less])}, {more}={_plain(values[more])} in {text!r}",
                _form(row),
            )
    return step


def apply_chain(image: np.ndarray, chain: tuple[str, ...]) -> np.ndarray:
    """Apply filters, given by their texts, from left to right; results of slow filters are cached.

    Parameters
    ----------
    image : uint8 (h, w, 3)
    chain : from `parse_chain` or `stored_chain`
    """
    for text in chain:
        step = parse_step(text)
        image = filtered(image, step.text, step) if step.filter.slow else step(image)
    return image


def _number(row: Filter, parameter: Parameter, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise UsageError(f"{parameter.name} of the filter {row.name!r} is no number", repr(text), _form(row)) from None
    kind = "an odd whole number" if parameter.odd else "a whole number" if parameter.whole else "a number"
    wrong = not parameter.low <= value <= parameter.high  # true for nan too
    if not wrong and (parameter.whole or parameter.odd):
        wrong = not value.is_integer() or (parameter.odd and value % 2 == 0)
        value = value if wrong else int(value)
    if wrong:
        bounds = f"{_plain(parameter.low)} to {_plain(parameter.high)}"
        raise UsageError(
            f"{parameter.name} of the filter {row.name!r} must be {kind} from {bounds}",
            repr(text),
            f"{parameter.help}; the default is {_plain(parameter.default)}",
        )
    return value


def _row_named(name: str, rows: tuple[T, ...], kind: str, text: str) -> T:
    for row in rows:
        if row.name == name:
            return row
    names = [row.name for row in rows]
    where = "" if name == text.strip() else f" in {text!r}"
    raise UsageError(f"unknown {kind}", f"{name!r}{where}", f"{did_you_mean(name, names)}there are: {', '.join(names)}")


def _form(row: Filter) -> str:
    """Return how the filter is written with all its parameters."""
    return "write it as " + ":".join((row.name, *(f"{p.name}={_plain(p.default)}" for p in row.parameters)))


def _plain(value: float) -> str:
    """Format a number without a needless decimal point, such that parsing it gives the same number."""
    return str(int(value)) if float(value).is_integer() else repr(float(value))
