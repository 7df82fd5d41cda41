"""The house style of figures: colours, an empty figure, and how one is written."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cervicyte.base.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe and Ito 2008: distinct under the common kinds of colour blindness.
BLUE, ORANGE, GREEN, INK, GREY = "#0072B2", "#D55E00", "#009E73", "#1c2733", "#8a949e"


def save_figure(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG (160 dots per inch), atomically; raises StorageError."""
    with atomic_write(path, "wb") as stream:
        stream.write(_render(figure, "png"))


def data_uri(figure: Figure) -> str:
    """A figure as an SVG data URI, its letters as outlines: sharp in print and the same everywhere."""
    return "data:image/svg+xml;base64," + base64.b64encode(_render(figure, "svg")).decode("ascii")


def class_label(name: object) -> str:
    """A class name as figures print it: no underscores, one short line, and never read as a formula."""
    text = "".join(ch if ch.isprintable() else "?" for ch in str(name)).replace("_", " ")
    return (text if len(text) <= 26 else text[:25] + "…").replace("$", r"\$")


def _render(figure: Figure, kind: str) -> bytes:
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    FigureCanvasAgg(figure)
    stream = io.BytesIO()
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "cervicyte"}):
        # Letters that the font lacks are drawn as boxes; the report's tables spell them.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        metadata = {"Date": None} if kind == "svg" else {}
        figure.savefig(stream, format=kind, dpi=160, facecolor="white", metadata=metadata)
    figure.set_layout_engine("none")  # laid out once; the next format keeps the places
    return stream.getvalue()


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Make a figure of the house style, its sides in inches, with one plot."""
    figure, (axes,) = stacked(width, height, (1,))
    return figure, axes


def stacked(width: float, height: float, rows: Sequence[float]) -> tuple[Figure, tuple[Axes, ...]]:
    """Make a figure of the house style, its sides in inches, with a plot for each of the rows' relative heights."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    every = figure.subplots(len(rows), 1, squeeze=False, gridspec_kw={"height_ratios": list(rows)})[:, 0]
    for axes in every:
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.grid(visible=True, color="#e3e7ea", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.tick_params(labelsize=8.5, colors=INK, color=GREY)
        axes.xaxis.label.set(size=9, color=INK)
        axes.yaxis.label.set(size=9, color=INK)
    return figure, tuple(every)
