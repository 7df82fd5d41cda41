"""Where bars, lines and ticks of a chart lie; templates draw them as SVG, so that no script is needed to see them.

All places are percentages of the plot's width and height, from its upper left corner. SVG takes them as they are:
a chart fits any width and its text keeps its size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: Most labels under a chart: more would touch each other on a telephone.
_LABELS = 4

#: Empty share of a bar's slot.
_GAP = 0.28

#: A bar that is not zero is at least this high, in percent, so that one case beside a hundred is still seen.
_LEAST = 0.8


@dataclass(frozen=True)
class Tick:
    """A label at a place on an axis, its middle at that place."""

    at: float
    text: str


@dataclass(frozen=True)
class Bar:
    """A bar's corner and size, the number of its series, and words for it."""

    x: float
    y: float
    width: float
    height: float
    series: int
    words: str


@dataclass(frozen=True)
class Point:
    """A point of a line, the number of its series, and words for it."""

    x: float
    y: float
    series: int
    words: str


@dataclass(frozen=True)
class Segment:
    """A piece of a line between two neighbours that both have a value."""

    x1: float
    y1: float
    x2: float
    y2: float
    series: int


@dataclass(frozen=True)
class Chart:
    """All that a template draws.

    Attributes
    ----------
    names : of the series, for the legend and the head of the table
    rows : the same numbers as text, (label, one text for each series), for those who read rather than see
    """

    names: tuple[str, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    bars: tuple[Bar, ...]
    segments: tuple[Segment, ...]
    points: tuple[Point, ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def empty(self) -> bool:
        """There is nothing to see: no value, or none but zero."""
        return not self.points and not any(bar.height for bar in self.bars)


def bar_chart(
    labels: Sequence[object], series: Sequence[tuple[str, Sequence[float]]], *, percent: bool = False
) -> Chart:
    """Bars from zero, those of several series side by side.

    Parameters
    ----------
    labels : what is under each slot, n of them
    series : (name, n values of 0 or more)
    percent : values are shares of 1, shown as percentages

    >>> [bar.height for bar in bar_chart(["a", "b"], [("cases", [1, 2])]).bars]
    [50.0, 100.0]
    """
    texts = [str(label) for label in labels]
    values = [list(numbers) for _, numbers in series]
    ticks = _ticks(max((v for row in values for v in row), default=0.0), whole=not percent)
    top, slot = ticks[-1], 100 / max(len(texts), 1)
    width = slot * (1 - _GAP) / max(len(series), 1)
    bars = []
    for s, (name, numbers) in enumerate(series):
        for i, value in enumerate(numbers):
            height = max(100 * value / top, _LEAST) if value > 0 else 0.0
            x = slot * (i + _GAP / 2) + width * s
            words = f"{texts[i]}: {_text(value, percent)} {name}"
            bars.append(Bar(round(x, 3), round(100 - height, 3), round(width, 3), round(height, 3), s, words))
    return Chart(
        tuple(name for name, _ in series),
        _under(texts, [slot * (i + 0.5) for i in range(len(texts))]),
        tuple(Tick(round(100 - 100 * t / top, 3), _text(t, percent)) for t in ticks),
        tuple(bars),
        (),
        (),
        tuple((t, tuple(_text(row[i], percent) for row in values)) for i, t in enumerate(texts)),
    )


def line_chart(
    labels: Sequence[object],
    series: Sequence[tuple[str, Sequence[float | None]]],
    *,
    low: float = 0.0,
    high: float = 1.0,
    percent: bool = True,
) -> Chart:
    """Lines between ``low`` and ``high``; where a value is None the line is broken, not drawn through.

    >>> chart = line_chart(["a", "b", "c"], [("agreement", [0.5, None, 1.0])])
    >>> len(chart.points), len(chart.segments)
    (2, 0)
    """
    texts = [str(label) for label in labels]
    places = [100 * (i + 0.5) / max(len(texts), 1) for i in range(len(texts))]
    points, segments = [], []
    for s, (name, numbers) in enumerate(series):
        before: Point | None = None
        for i, value in enumerate(numbers):
            if value is None:
                before = None
                continue
            y = 100 - 100 * (min(max(value, low), high) - low) / (high - low)
            point = Point(round(places[i], 3), round(y, 3), s, f"{texts[i]}: {name} {_text(value, percent)}")
            if before is not None:
                segments.append(Segment(before.x, before.y, point.x, point.y, s))
            points.append(point)
            before = point
    steps = [low + (high - low) * k / 4 for k in range(5)]
    return Chart(
        tuple(name for name, _ in series),
        _under(texts, places),
        tuple(Tick(round(100 - 25 * k, 3), _text(step, percent)) for k, step in enumerate(steps)),
        (),
        tuple(segments),
        tuple(points),
        tuple(
            (t, tuple("–" if (v := numbers[i]) is None else _text(v, percent) for _, numbers in series))
            for i, t in enumerate(texts)
        ),
    )


def _ticks(most: float, whole: bool) -> list[float]:
    """Round numbers from 0 to at least ``most``, three to six of them."""
    if most <= 0:
        return [0.0, 1.0]
    rough = most / 4
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(m * unit for m in (1, 2, 2.5, 5, 10) if m * unit >= rough * 0.999)
    if whole:
        step = max(1.0, float(math.ceil(step)))
    return [step * k for k in range(math.ceil(most / step - 1e-9) + 1)]


def _under(texts: Sequence[str], places: Sequence[float]) -> tuple[Tick, ...]:
    """Labels of the horizontal axis, evenly thinned."""
    every = max(1, math.ceil(len(texts) / _LABELS))
    return tuple(Tick(round(places[i], 3), texts[i]) for i in range(0, len(texts), every))


def _text(value: float, percent: bool) -> str:
    if percent:
        return f"{100 * value:.0f} %"
    return f"{value:,.0f}".replace(",", "\N{NO-BREAK SPACE}") if float(value).is_integer() else f"{value:.3g}"
