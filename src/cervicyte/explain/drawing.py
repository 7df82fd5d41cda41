"""Explanations as images: red speaks for the target, blue against it, grey is the cell itself."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cervicyte.base.files import printable
from cervicyte.base.plots import GREY, INK, class_label, save_figure
from cervicyte.errors import UsageError
from cervicyte.explain.evidence import Explanation
from cervicyte.images.morphology import MEASUREMENTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: The ends of the scale: equally light (CIE L* 43 and 41), so that neither looks stronger, and told apart by
#: the red-green blind, for whom the first is a dark yellow.
FOR, AGAINST = (200, 20, 45), (20, 95, 190)

#: Contours: of the nucleus and of the cell, light and unlike any stain.
NUCLEUS, CELL = (255, 222, 0), (0, 235, 215)

#: The scale reaches to the map's largest value, and at least to these log-odds: noise is not blown up to colours.
_LEAST_LIMIT = 1.0

#: Measurements that are drawn; the others are summed up.
_ROWS = 12

#: Members that are drawn by themselves.
_MEMBERS = 8


def limit(values: np.ndarray) -> float:
    """The end of a map's scale in log-odds, the same on both sides of 0."""
    return max(_LEAST_LIMIT, float(np.abs(values).max(initial=0.0)))


def overlay(explanation: Explanation, opacity: float = 0.5) -> np.ndarray:
    """The map laid over the image in grey: uint8 (h, w, 3) RGB, of the image's own size.

    The image is grey so that each colour is the map's and none the stain's. Where no member has a map, the
    contours of nucleus and cell are drawn on the image in its colours.

    Parameters
    ----------
    opacity : 0 shows the cell alone, 1 hides it where the evidence is strongest

    Raises
    ------
    UsageError : an opacity outside 0 to 1
    """
    opacity = _checked(opacity)
    if explanation.map is None:
        return outlined(explanation)
    return blend(explanation.image, explanation.map, limit(explanation.map), opacity)


def blend(image: np.ndarray, values: np.ndarray, end: float, opacity: float) -> np.ndarray:
    """An image in grey under the colours of a map: uint8 (h, w, 3), float (h, w) to uint8 (h, w, 3)."""
    import cv2

    grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)[..., None]
    strength = (opacity * np.clip(np.abs(values) / end, 0, 1)).astype(np.float32)[..., None]
    colour = np.where((values > 0)[..., None], np.array(FOR, np.float32), np.array(AGAINST, np.float32))
    return np.asarray((grey + strength * (colour - grey)).round().astype(np.uint8))


def outlined(explanation: Explanation) -> np.ndarray:
    """The image with the contours of nucleus and cell: uint8 (h, w, 3), of the image's own size."""
    import cv2

    image = explanation.image.copy()
    thickness = max(1, round(max(image.shape[:2]) / 250))
    nucleus, cell = explanation.segmentation.nucleus, explanation.segmentation.cytoplasm
    for mask, colour in ((nucleus | cell, CELL), (nucleus, NUCLEUS)):
        contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(image, contours, -1, colour, thickness)
    return image


def write_png(explanation: Explanation, path: Path | str, opacity: float = 0.5) -> None:
    """Write an explanation as a figure, atomically: the image, the evidence with its scale, label and probability.

    Raises
    ------
    UsageError : a file that is not named .png or is the explained image, or an opacity outside 0 to 1
    StorageError : the file cannot be written
    """
    if Path(path).suffix.lower() != ".png":
        raise UsageError("the figure is a PNG file", printable(path), "give it a name that ends in .png")
    image = explanation.prediction.path
    if image and os.path.exists(path) and os.path.exists(image) and os.path.samefile(path, image):
        raise UsageError("the figure would replace its image", printable(path), "choose another name")
    save_figure(draw(explanation, opacity), path)


def draw(explanation: Explanation, opacity: float = 0.5) -> Figure:
    """The figure: the image, and beside it the map with its scale, or the measurements with their contributions."""
    from matplotlib.figure import Figure

    opacity = _checked(opacity)
    maps = explanation.member_maps
    rows = 2 if len(maps) > 1 else 1
    figure = Figure(figsize=(7.4, 3.7 + 1.9 * (rows - 1)), layout="constrained", facecolor="white")
    upper, *lower = figure.subfigures(rows, 1, height_ratios=[3.7, 1.9][:rows], squeeze=False)[:, 0]
    odds = [f"P({class_label(name)}) {p:.3f}" for name, p in explanation.probabilities.items()]
    title = ",  ".join([class_label(explanation.prediction.label), *odds])
    upper.suptitle(title, fontsize=12, color=INK, weight="bold")
    if explanation.map is None:
        left, right = upper.subplots(1, 2, width_ratios=(1, 1.15))
        _draw_image(left, outlined(explanation), "nucleus (yellow) and cell (turquoise)")
        _bars(right, explanation)
    else:
        left, right, bar = upper.subplots(1, 3, width_ratios=(1, 1, 0.045))
        end, target = limit(explanation.map), class_label(explanation.target)
        _draw_image(left, explanation.image, _sizes(explanation.measurements))
        _draw_image(right, overlay(explanation, opacity), f"red speaks for {target}, blue against it")
        _scale(upper, bar, end, opacity, target)
    for part in lower:
        _members(part, explanation, maps, opacity)
    return figure


def _sizes(measurements: Mapping[str, float]) -> str:
    if not measurements["nucleus_found"]:
        return "no nucleus found"
    return f"nucleus {measurements['nucleus_area']:.0%} of the crop, N:C ratio {measurements['nc_ratio']:.2f}"


def _draw_image(axes: Axes, image: np.ndarray, below: str) -> None:
    axes.imshow(image, interpolation="lanczos" if min(image.shape[:2]) > 8 else "nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    axes.set_xlabel(below, fontsize=7.5, color=INK)


def _scale(figure: Any, axes: Axes, end: float, opacity: float, target: str) -> None:
    """The colours of the map over white, in log-odds."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import ListedColormap, Normalize

    values = np.linspace(-end, end, 256)[None]
    white = np.full((*values.shape, 3), 255, dtype=np.uint8)
    colours = blend(white, values, end, opacity)[0] / 255
    bar = figure.colorbar(ScalarMappable(Normalize(-end, end), ListedColormap(colours.tolist())), cax=axes)
    bar.outline.set_visible(False)
    bar.ax.tick_params(labelsize=8, colors=INK, color=GREY)
    bar.set_label(f"against  –  log-odds of {target}  –  for", fontsize=8.5, color=INK)


def _members(figure: Any, explanation: Explanation, maps: Mapping[str, np.ndarray], opacity: float) -> None:
    """A row of the members' own maps, all on one scale, with their weights."""
    shown = list(maps)[:_MEMBERS]
    every = figure.subplots(1, max(4, len(shown)), squeeze=False)[0]
    end = max(limit(maps[name]) for name in shown)
    by_name = {m.name: m for m in explanation.members}
    for axes in every[len(shown) :]:
        axes.set_visible(False)
    for axes, name in zip(every, shown, strict=False):
        member = by_name[name]
        _draw_image(axes, blend(explanation.image, maps[name], end, opacity), "")
        axes.set_title(class_label(name), fontsize=8, color=INK)
        axes.set_xlabel(f"weight {member.weight:.2f}, log-odds {member.log_odds:+.1f}", fontsize=7, color=INK)
    words = [f"members, colours to {end:.1f} log-odds"]
    words += [f"{len(maps) - len(shown)} more maps are not drawn"] * (len(maps) > len(shown))
    words += [
        f"no map: {class_label(m.name)} (weight {m.weight:.2f}, log-odds {m.log_odds:+.1f})"
        for m in explanation.members
        if m.grid is None
    ][:2]
    figure.supxlabel(";  ".join(words), fontsize=7.5, color=INK)


def _bars(axes: Axes, explanation: Explanation) -> None:
    """What each measurement adds to the log-odds, the largest first."""
    units = {row.name: row.unit for row in MEASUREMENTS}
    measured = next(m.values for m in explanation.members if m.values is not None)
    parts = list(explanation.contributions.items())
    first, rest = parts[:_ROWS], parts[_ROWS:]
    rows = [(f"{class_label(name)}  {measured[name]:.3g} {_short(units[name])}", value) for name, value in first]
    rows.append((f"the other {len(rest)} measurements", sum(value for _, value in rest)))
    rows.append(("the average cell", explanation.baseline))
    values = np.array([value for _, value in rows])
    colours = [_hex(FOR if value > 0 else AGAINST) for value in values]
    axes.barh(range(len(rows)), values, height=0.72, color=colours)
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.axhline(len(first) - 0.5, color=GREY, linewidth=0.6, linestyle=(0, (4, 3)))
    axes.set_yticks(range(len(rows)), [name for name, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.6)
    reach = 1.3 * max(0.1, float(np.abs(values).max()))
    axes.set_xlim(-reach, reach)
    for place, value in enumerate(values):
        beside, side = value + np.copysign(0.02 * reach, value), "left" if value >= 0 else "right"
        axes.text(beside, place, f"{value:+.2f}", va="center", ha=side, fontsize=7, color=INK)
    axes.tick_params(labelsize=7.5, colors=INK, color=GREY)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(GREY)
    total = float(values.sum())
    target = class_label(explanation.target)
    axes.set_xlabel("against  –  log-odds  –  for", fontsize=8.5, color=INK)
    axes.set_title(f"{target}: sum {total:+.2f}", fontsize=9, color=INK)


def _short(unit: str) -> str:
    """A unit that says more than where its number lies."""
    return "" if unit in ("", "0 or 1") else f"{unit.split(' 0..')[0]}" if " 0.." in unit else unit


def _hex(colour: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*colour)


def _checked(opacity: float) -> float:
    if not 0 <= opacity <= 1:  # nor NaN
        raise UsageError("the opacity must lie between 0 and 1", opacity, "for example 0.5")
    return float(opacity)
