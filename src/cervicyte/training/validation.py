"""Tables from files read into records by msgspec, with errors that name the key and say what to do."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar, get_args, get_type_hints

import msgspec

from cervicyte.errors import UsageError, did_you_mean

Record = TypeVar("Record", bound=msgspec.Struct)


def read_record(kind: type[Record], table: Mapping[str, Any], place: str = "") -> Record:
    """Read a table into a record.

    Parameters
    ----------
    place : where the table stands, for errors: empty, or a path such as "members[1]"

    Raises
    ------
    UsageError : an unknown key, the wrong kind of value, or a value that cannot be used
    """
    check_keys(table, kind.__struct_fields__, place)
    try:
        return msgspec.convert(table, kind)
    except UsageError as error:  # of the record itself
        if not place:
            raise
        raise UsageError(error.what, f"{error.received}, at {place}", error.todo) from error
    except msgspec.ValidationError as error:
        reason, _, path = str(error).removesuffix("`").partition(" - at `$.")
        key = re.split(r"[.\[]", path)[0]
        value = table.get(key)
        problem = _out_of_bounds(kind, key, value, place)
        if problem is None:
            what = f"recipe: {joined(place, path)} has the wrong kind of value"
            problem = UsageError(what, repr(value)[:100], reason[:1].lower() + reason[1:])
        raise problem from error


def check_keys(table: Mapping[str, Any], keys: tuple[str, ...], place: str = "") -> None:
    """Refuse keys that there are not.

    Raises
    ------
    UsageError : such a key, with the key that was probably meant
    """
    for key in table:
        if key not in keys:
            hint = did_you_mean(key, keys)
            received = repr(key) + (f", at {place}" if place else "")
            raise UsageError("unknown key in the recipe", received, f"{hint}keys: {', '.join(keys)}")


def check_bounds(record: msgspec.Struct) -> None:
    """Refuse numbers outside the bounds of their fields, also where a record was made without a file.

    Raises
    ------
    UsageError : such a number
    """
    for key in _bounds(type(record)):
        problem = _out_of_bounds(type(record), key, getattr(record, key))
        if problem is not None:
            raise problem


def joined(place: str, key: str) -> str:
    """Give the path of a key at a place: "members[1].size"."""
    return f"{place}.{key}" if place else key


def _out_of_bounds(kind: type[msgspec.Struct], key: str, value: object, place: str = "") -> UsageError | None:
    """The error for a number outside the bounds of its field; None for any other value."""
    if key not in _bounds(kind) or isinstance(value, bool) or not isinstance(value, int | float):
        return None
    low, high = _bounds(kind)[key]
    if low <= value <= high:
        return None
    return UsageError(f"recipe: {joined(place, key)} must lie between {low} and {high}", value)


@cache
def _bounds(kind: type[msgspec.Struct]) -> Mapping[str, tuple[float, float]]:
    """Least and largest value of each field that has both."""
    bounds = {}
    for key, hint in get_type_hints(kind, include_extras=True).items():
        for meta in get_args(hint)[1:]:
            if isinstance(meta, msgspec.Meta) and meta.ge is not None and meta.le is not None:
                bounds[key] = (meta.ge, meta.le)
    return bounds
