"""What every template may use: filters, functions and how a value becomes text."""

from __future__ import annotations

from typing import Any

from jinja2 import Environment

from cervicyte.web.formatting import day, iso, many, moment, number, percent, short_day, size, thousands, visible, words
from cervicyte.web.pages.charts import bar_chart, line_chart
from cervicyte.web.reading.categories import CATEGORIES, find_category, severity


def prepare(environment: Environment) -> None:
    """Give a Jinja environment (Flask's ``app.jinja_env``) all that the templates use; before the first is loaded."""
    environment.finalize = _shown
    environment.trim_blocks = environment.lstrip_blocks = True
    environment.filters |= {
        "visible": visible,
        "words": words,
        "percent": percent,
        "number": number,
        "thousands": thousands,
        "many": many,
        "size": size,
        "day": day,
        "short_day": short_day,
        "moment": moment,
        "iso": iso,
    }
    environment.globals |= {
        "bar_chart": bar_chart,
        "categories": CATEGORIES,
        "find_category": find_category,
        "line_chart": line_chart,
        "severity": severity,
    }


def _shown(value: Any) -> Any:
    """Text without characters that act unseen, nothing for None; markup that a macro made is whole already."""
    if value is None:
        return ""
    return visible(value) if type(value) is str else value
