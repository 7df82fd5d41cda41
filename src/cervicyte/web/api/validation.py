"""Whether a value has the shape that the API's document says: the part of JSON Schema that requests use.

What is sent is checked against the very schema that is published, so that the two cannot drift apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

Schema = Mapping[str, Any]

_KINDS: Mapping[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "null": lambda value: value is None,
}

#: A whole number in an address; more digits than any limit has.
_NUMBER = re.compile(r"-?[0-9]{1,12}")


def fault(value: Any, schema: Schema, name: str = "the body") -> str:
    """What is wrong with a value, in words; empty where nothing is.

    Parameters
    ----------
    schema : of JSON Schema (2020-12) the keywords type, enum, minimum, maximum, minLength, maxLength, pattern,
        properties, required, minProperties and additionalProperties; others say nothing
    name : what the value is called

    >>> fault({"page": 0}, {"type": "object", "properties": {"page": {"type": "integer", "minimum": 1}}})
    'page is less than 1'
    """
    kind = schema.get("type")
    if kind is not None and not _KINDS[kind](value):
        return f"{name} is no {kind}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{name} is none of: {', '.join(schema['enum'])}"
    if isinstance(value, str):
        return _text_fault(value, schema, name)
    if isinstance(value, dict):
        return _object_fault(value, schema, name)
    if "minimum" in schema and value < schema["minimum"]:
        return f"{name} is less than {schema['minimum']}"
    if "maximum" in schema and value > schema["maximum"]:
        return f"{name} is more than {schema['maximum']}"
    return ""


def from_text(text: str, schema: Schema) -> Any:
    """A value as it stands in an address or a header; what is not of the schema's type stays text."""
    if schema.get("type") == "integer" and _NUMBER.fullmatch(text):
        return int(text)
    return text


def _text_fault(value: str, schema: Schema, name: str) -> str:
    if len(value) < schema.get("minLength", 0):
        return f"{name} is empty" if not value else f"{name} has fewer than {schema['minLength']} characters"
    if len(value) > schema.get("maxLength", len(value)):
        return f"{name} has more than {schema['maxLength']} characters"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        return f"{name} does not match {schema['pattern']}"
    return ""


def _object_fault(value: dict[str, Any], schema: Schema, name: str) -> str:
    properties: Mapping[str, Schema] = schema.get("properties", {})
    for key in schema.get("required", ()):
        if key not in value:
            return f"{key} is missing"
    if len(value) < schema.get("minProperties", 0):
        return f"{name} is empty"
    for key, inner in value.items():
        if key not in properties:
            if schema.get("additionalProperties") is False:
                return f"{key[:40]!r} is not known here"
            continue
        if found := fault(inner, properties[key], key):
            return found
    return ""
