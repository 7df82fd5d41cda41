"""What a chain of filters does to images, drawn step by step, with histograms and the time of each step."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cervicyte.base.files import printable
from cervicyte.base.plots import GREY, INK, class_label, save_figure
from cervicyte.base.progress import track
from cervicyte.errors import CervicyteError, DataError, UsageError
from cervicyte.images import decoding
from cervicyte.images.filters import parse_step

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Images of one figure; more would be too small to judge.
MOST = 12
#: Longest side of an image as drawn, in pixels; filters and histograms see all of them.
_DRAWN = 480
#: Inches of one panel.
_WIDE, _HIGH = 2.2, 2.2
_LIGHT = "#aab2ba"
_COLOURS = (("red", "#c0392b"), ("green", "#2e8b57"), ("blue", "#2f6fb5"))
#: Of the histograms.
_EDGES = np.linspace(0, 256, 65)


@dataclass(frozen=True, kw_only=True)
class Filtered:
    """One image on its way through a chain.

    Attributes
    ----------
    name : of the file
    size : width and height in pixels
    images : as it is, then after each step; uint8 (h, w, 3) each, no larger than they are drawn
    before, after : histograms of lightness (CIE L, stretched to 0..255), red, green and blue, as shares of
        the pixels, float (4, 64)
    milliseconds : what each step took, computed anew whatever is kept
    remarks : which parameters of each step change nothing in this image, in words; empty texts where all matter
    """

    name: str
    size: tuple[int, int]
    images: tuple[np.ndarray, ...]
    before: np.ndarray
    after: np.ndarray
    milliseconds: tuple[float, ...]
    remarks: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Preview:
    """What `preview` drew.

    Attributes
    ----------
    path : the PNG file
    chain : the steps, as texts
    rows : a row of the figure each
    failed : input -> why it was not drawn
    left_out : images beyond the `MOST` that a figure holds
    """

    path: Path
    chain: tuple[str, ...]
    rows: tuple[Filtered, ...]
    failed: dict[str, str]
    left_out: int

    @property
    def costs(self) -> list[tuple[str, float]]:
        """Each step with its median time in milliseconds."""
        times = np.median([row.milliseconds for row in self.rows], axis=0)
        return [(text, float(ms)) for text, ms in zip(self.chain, times, strict=True)]

    @property
    def remarks(self) -> list[str]:
        """Which parameters change nothing, in words: each step's first image where that is so, and in how many."""
        lines = []
        for i, text in enumerate(self.chain):
            idle = [row for row in self.rows if row.remarks[i]]
            if idle:
                count = f"in {len(idle)} of {len(self.rows)} image(s), for example {idle[0].name}"
                lines.append(f"{text}, {count}: {idle[0].remarks[i]}")
        return lines


def preview(inputs: Iterable[Path | str], chain: tuple[str, ...], path: Path | str) -> Preview:
    """Draw images before and after each step of a chain of filters.

    Parameters
    ----------
    inputs : files, folders and glob patterns; the first `MOST` images that can be read are drawn
    chain : texts of filters, at least one
    path : the PNG file to write

    Raises
    ------
    UsageError : an empty chain, an unknown filter, or a file that is not named .png or is one of the inputs
    DataError : none of the inputs could be drawn
    StorageError : the file cannot be written
    """
    if not chain:
        raise UsageError("there is no filter to show", "--filters ''", "for example --filters normalise,clahe")
    steps = [parse_step(text) for text in chain]
    for step in steps:  # what is imported and set up once is no cost of an image
        step(np.zeros((8, 8, 3), np.uint8))
    if Path(path).suffix.lower() != ".png":
        raise UsageError("the figure is a PNG file", f"--out {printable(path)}", "give it a name that ends in .png")
    rows: list[Filtered] = []
    failed: dict[str, str] = {}
    left_out = 0
    for entry in track(decoding.find_images(inputs), "filtering"):
        if os.path.exists(path) and os.path.exists(entry.path) and os.path.samefile(path, entry.path):
            raise UsageError("the figure would replace an input", printable(path), "choose another --out")
        if len(rows) == MOST:
            left_out += entry.problem is None
            continue
        try:
            if entry.problem is not None:
                raise entry.problem
            rows.append(_row(entry.path.name, decoding.load(entry.path), steps))
        except CervicyteError as error:
            failed[printable(entry.path)] = error.one_line
    if not rows:
        first = next(iter(failed.items()), ("no input", "0 files"))
        raise DataError("no image could be drawn", ": ".join(first), "name images that can be read")
    save_figure(draw(rows, chain), path)
    return Preview(path=Path(path), chain=chain, rows=tuple(rows), failed=failed, left_out=left_out)


def _row(name: str, image: np.ndarray, steps: Sequence[Any]) -> Filtered:
    size, before = (image.shape[1], image.shape[0]), _histogram(image)
    images, times = [_small(image)], list[float]()
    for step in steps:
        start = time.perf_counter()
        image = step(image)
        times.append((time.perf_counter() - start) * 1000)
        images.append(_small(image))
    return Filtered(
        name=name,
        size=size,
        images=tuple(images),
        before=before,
        after=_histogram(image),
        milliseconds=tuple(times),
        remarks=tuple(step.remark(image.shape) for step in steps),
    )


def draw(rows: Sequence[Filtered], chain: Sequence[str]) -> Figure:
    """The figure: a row for each image, a column for each step, then the histograms before and after."""
    from matplotlib.figure import Figure

    columns = len(chain) + 3
    figure = Figure(figsize=(_WIDE * columns, _HIGH * len(rows) + 0.3), layout="constrained", facecolor="white")
    every = figure.subplots(len(rows), columns, squeeze=False)
    steps = (text.replace(":", "\n", 1).replace(":", ", ") for text in chain)
    titles = ("before", *(f"after {step}" for step in steps), "histogram before", "histogram after")
    for axes, title in zip(every[0], titles, strict=True):
        axes.set_title(title, fontsize=9, color=INK)
    for line, row in zip(every, rows, strict=True):
        for axes, image in zip(line, row.images, strict=False):
            axes.imshow(image, interpolation="nearest")
            axes.set_xticks([])
            axes.set_yticks([])
            axes.spines[:].set_visible(False)
        size = f"{row.size[0]} x {row.size[1]}"
        line[0].set_xlabel(f"{class_label(row.name)}\n{size}", fontsize=7.5, color=INK)
        for axes, ms in zip(line[1:], row.milliseconds, strict=False):
            axes.set_xlabel(f"{ms:.2f} ms" if ms < 1 else f"{ms:.1f} ms", fontsize=7.5, color=INK)
        before, after = line[-2:]
        top = 1.05 * np.sqrt(max(row.before.max(), row.after.max()))
        for axes, shares in ((before, row.before), (after, row.after)):
            _bars(axes, shares)
            axes.set_ylim(0, top)
        before.set_ylabel("root of the share of pixels", fontsize=7, color=INK)
    every[0, -1].legend(fontsize=6.5, frameon=False, labelcolor=INK, loc="upper left", handlelength=1.2)
    return figure


def _bars(axes: Axes, shares: np.ndarray) -> None:
    """One histogram; the roots of its shares are drawn, so that an even background does not hide the cell."""
    light, *colours = np.sqrt(shares)
    axes.stairs(light, _EDGES, fill=True, color=_LIGHT, alpha=0.6, label="lightness")
    for values, (name, colour) in zip(colours, _COLOURS, strict=True):
        axes.stairs(values, _EDGES, color=colour, linewidth=1.1, label=name)
    axes.set_xlim(0, 256)
    axes.set_xticks([0, 128, 255])
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    axes.tick_params(labelsize=7, colors=INK, color=GREY)


def _histogram(image: np.ndarray) -> np.ndarray:
    """Shares of the pixels, float (4, 64): lightness, red, green, blue."""
    import cv2

    light = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)[..., 0]
    return np.array([np.histogram(c, _EDGES)[0] / c.size for c in (light, *np.moveaxis(image, 2, 0))])


def _small(image: np.ndarray) -> np.ndarray:
    """The image no larger than it is drawn, its proportions kept."""
    import cv2

    scale = _DRAWN / max(image.shape[:2])
    if scale >= 1:
        return image
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA)
