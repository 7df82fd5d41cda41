"""The API's OpenAPI 3.1 document, made from the table of endpoints (https://spec.openapis.org/oas/v3.1.1)."""

from __future__ import annotations

import re
from typing import Any

import msgspec

from cervicyte.web.api.endpoints import ARGUMENTS, ENDPOINTS, JSON, ROOT, Answer, Endpoint, Parameter
from cervicyte.web.api.models import Error, Json, components, ref

#: Of the API, not of the package.
VERSION = "1.0"

_ABOUT = (
    "Everything that a program needs: predictions, cases, verdicts, reports, exports. A token is made on the account "
    "page and sent as `Authorization: Bearer TOKEN`; it may do what its owner may. What may not be seen is answered as "
    "if it did not exist. Every error has one shape. Reports are signed on their page, by a person with a password."
)
_ERRORS = {
    400: "The request cannot be read, or a parameter is wrong.",
    401: "There is no token, or it is unknown, revoked or too old.",
    403: "The token's owner sees this, and may not do that with it.",
    404: "There is no such thing, or the token's owner may not see it.",
    413: "More bytes than are taken at once.",
    415: "A media type that is not taken here.",
    422: "It can be read, and cannot be used.",
    429: "Too many in too short a time.",
    500: "A bug; the log has more under the request's id.",
    503: "Busy: nothing was taken.",
    507: "The server's disk is full: nothing was taken.",
}
_WAITS = (429, 503)


def document() -> Json:
    """The document, ready for JSON."""
    paths: dict[str, Json] = {}
    for row in ENDPOINTS:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "cervicyte",
            "version": VERSION,
            "description": _ABOUT,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": ROOT}],
        "security": [{"token": []}],
        "tags": [{"name": tag} for tag in dict.fromkeys(row.tag for row in ENDPOINTS)],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "responses": {_name(status): _error(status) for status in _ERRORS},
            "schemas": components(),
        },
    }


def _operation(row: Endpoint) -> Json:
    operation: Json = {"operationId": row.name, "tags": [row.tag], "summary": row.summary}
    if row.help:
        operation["description"] = row.help
    if row.open:
        operation["security"] = []
    arguments = [_argument(name) for name in re.findall(r"{(\w+)}", row.path)]
    if parameters := arguments + [_parameter(p) for p in row.parameters]:
        operation["parameters"] = parameters
    if row.body:
        operation["requestBody"] = {
            "required": True,
            "content": {kind: {"schema": schema} for kind, schema in row.body.items()},
        }
    errors = {str(status): {"$ref": f"#/components/responses/{_name(status)}"} for status in row.statuses}
    operation["responses"] = {str(row.answer.status): _answer(row.answer)} | errors
    return operation


def _argument(name: str) -> Json:
    schema = msgspec.json.schema(ARGUMENTS[name])
    words = {"description": schema.pop("description"), "example": schema.pop("examples")[0]}
    return {"name": name, "in": "path", "required": True, "schema": schema} | words


def _parameter(row: Parameter) -> Json:
    return {"name": row.name, "in": row.place, "required": False, "description": row.help, "schema": row.schema}


def _answer(row: Answer) -> Json:
    answer: Json = {"description": row.help}
    if row.headers:
        answer["headers"] = {name: {"description": words, "schema": {"type": "string"}} for name, words in row.headers}
    if row.media_types:
        answer["content"] = {kind: {"schema": row.schema} if row.schema else {} for kind in row.media_types}
    return answer


def _error(status: int) -> Json:
    error: Json = {"description": _ERRORS[status], "content": {JSON: {"schema": ref(Error)}}}
    if status in _WAITS:
        seconds: dict[str, Any] = {"type": "integer", "minimum": 0}
        error["headers"] = {"Retry-After": {"description": "Seconds after which to come again.", "schema": seconds}}
    return error


def _name(status: int) -> str:
    return f"Error{status}"
