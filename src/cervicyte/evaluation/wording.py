"""Numbers and their intervals as a reader of the report sees them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def percent(value: float) -> str:
    """A share as a person writes it: 95.1 %, but 5 %."""
    return f"{100 * value:.1f}".removesuffix(".0") + "\N{NO-BREAK SPACE}%"


def number(value: float, unit: str, sign: str = "") -> str:
    """A metric as text, a share in percent where the unit says so; ``sign`` is "+" for a difference."""
    digits = f"{100 * value:{sign}.1f}" if unit == "%" else f"{value:{sign}.3f}"
    if not float(digits):
        digits = digits.lstrip("+-")
    return digits.replace("-", "\N{MINUS SIGN}") + ("\N{NO-BREAK SPACE}%" if unit == "%" and not sign else "")


def interval(cell: Mapping[str, Any] | None, unit: str = "%", sign: str = "") -> str:
    """The interval of a metric as text, or nothing where there is none."""
    if not cell or cell["ci95"] is None:
        return ""
    low, high = (number(end, unit, sign).removesuffix("\N{NO-BREAK SPACE}%") for end in cell["ci95"])
    return f"{low} to {high}"


def text(cell: Mapping[str, Any] | None, unit: str = "%", sign: str = "") -> str:
    """A metric with its interval in brackets, for sentences and table cells."""
    if not cell or cell["value"] is None:
        return "not defined"
    between = interval(cell, unit, sign)
    return number(cell["value"], unit, sign) + (f" ({between})" if between else "")
