"""Name something by all that it depends on: SHA-256 of a text, as 64 hexadecimal digits.

Caches find again by such names what was computed from the same inputs, so what is hashed for a value never changes:
another form would lose every cache, and give stored models other names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any


def of_json(value: Any) -> str:
    """Name a value by its JSON, in which the order of a mapping's keys does not matter.

    >>> of_json({"size": 64, "fit": "pad"}) == of_json({"fit": "pad", "size": 64})
    True
    """
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def of_repr(value: object, code: bytes = b"") -> str:
    """Name a value by its `repr`, with the source of the code that computes from it where that matters.

    Names of classes and fields of records count, so renaming one gives another fingerprint.
    """
    return hashlib.sha256(repr(value).encode() + code).hexdigest()


def of_lines(lines: Iterable[str]) -> str:
    """Name a sequence of texts without line feeds, whose order matters."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
