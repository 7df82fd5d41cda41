"""cervicyte: classify cervical cell images, with numbers that hold on the next slide."""

from __future__ import annotations

__version__ = "0.1.0"
