"""What all addresses of the API do alike: what comes in is checked by the published table before a view is called."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from flask import Blueprint, request
from werkzeug.exceptions import RequestEntityTooLarge

from cervicyte.web.api.endpoints import ENDPOINTS, FILES, JSON, ROOT, Endpoint
from cervicyte.web.api.validation import fault, from_text
from cervicyte.web.cases.intake import Receipt
from cervicyte.web.cases.uploads import UploadLimits
from cervicyte.web.errors import BadRequestError
from cervicyte.web.middleware import current
from cervicyte.web.paging import Listing

View = Callable[..., Any]

blueprint = Blueprint("api", __name__, url_prefix=ROOT)
#: Most bytes of a body that is JSON.
_JSON_BYTES = 1 << 20
#: Refused files that an error names.
_NAMED = 20
_HELP = f"see {ROOT}/openapi.json"


def at(view: View) -> View:
    """Make a function the view of the endpoint of its name.

    It is called with the path's arguments, the query's parameters that are given or have a default, and ``body``
    where JSON is sent; headers and files it reads by `key` and `files`.
    """
    row = next(row for row in ENDPOINTS if row.name == view.__name__)

    def answer(**arguments: Any) -> Any:
        found = arguments | _query(row)
        _headers(row)
        if row.schema_of_body(JSON) is not None:
            found["body"] = _json(row)
        elif row.body and request.mimetype not in dict(row.body):
            raise BadRequestError(415, "this media type is not taken here", request.mimetype, f"send {row.body[0][0]}")
        return view(**found)

    rule = row.path.replace("{", "<").replace("}", ">")
    # A path with an empty argument is no other path: it is not there.
    blueprint.add_url_rule(rule, row.name, answer, methods=[row.method], merge_slashes=False)
    return view


def page_of(listing: Listing[Any], size: int) -> dict[str, int]:
    """Where in a list one is."""
    return {"number": listing.number, "size": size, "pages": listing.pages, "total": listing.total}


def key() -> str:
    """The request's Idempotency-Key, or empty."""
    return request.headers.get("Idempotency-Key", "")


def files(name: str, *texts: str) -> list[tuple[str, IO[bytes]]]:
    """The files of a form, of which there is at least one, with the names that the sender gave them.

    Parameters
    ----------
    name : of the form's field
    texts : other fields that the form may have
    """
    for field in (*request.files, *request.form):
        if field != name and field not in texts:
            raise BadRequestError(422, "the form has a field that is not known here", field[:40], _HELP)
    found = [(file.filename, file.stream) for file in request.files.getlist(name) if file.filename]
    if name in request.form or not found:
        raise BadRequestError(
            422, f"the form has no file in its field {name}", None, "send the picture with a file name"
        )
    return found


def texts(row_name: str, *names: str) -> dict[str, str]:
    """Fields of a form that are text, as far as they are sent."""
    row = next(row for row in ENDPOINTS if row.name == row_name)
    schema = row.schema_of_body(FILES) or {}
    found = {name: request.form[name] for name in names if name in request.form}
    for name, text in found.items():
        if wrong := fault(text, schema["properties"][name], name):
            raise BadRequestError(422, wrong, f"{len(text)} characters", _HELP)
    return found


def limits() -> UploadLimits:
    """How much one upload may hold."""
    return UploadLimits(upload_bytes=current.running().max_upload_mb << 20)


def incoming() -> Path:
    """Where an upload lies while it is read."""
    return current.site().data_dir / "incoming"


def taken(receipt: Receipt) -> dict[str, Any]:
    """What an upload is answered with, and the work on it woken; where no file could be used, that is an error."""
    if not receipt.accepted:
        reasons = [f"{name}: {reason}" for name, reason in receipt.refused[:_NAMED]]
        if len(receipt.refused) > _NAMED:
            reasons.append(f"and {len(receipt.refused) - _NAMED} more")
        raise BadRequestError(
            422, "none of the files could be used", "; ".join(reasons) or None, "send pictures of cells"
        )
    if (workers := current.running().workers) is not None:
        workers.wake()
    return receipt.to_json()


def _query(row: Endpoint) -> dict[str, Any]:
    rows = {p.name: p for p in row.parameters if p.place == "query"}
    found = {p.name: p.schema["default"] for p in rows.values() if "default" in p.schema}
    for name, values in request.args.lists():
        if name not in rows:
            raise BadRequestError(
                400, "there is no such parameter", name[:40], f"known here: {', '.join(rows) or 'none'}"
            )
        if len(values) > 1:
            raise BadRequestError(400, f"{name} is given more than once", f"{len(values)} times", "give it once")
        found[name] = from_text(values[0], rows[name].schema)
        if wrong := fault(found[name], rows[name].schema, name):
            raise BadRequestError(400, wrong, values[0][:100], _HELP)
    return found


def _headers(row: Endpoint) -> None:
    for parameter in row.parameters:
        if parameter.place == "header" and parameter.name in request.headers:
            text = request.headers[parameter.name]
            if wrong := fault(text, parameter.schema, parameter.name):
                raise BadRequestError(400, wrong, text[:100], _HELP)


def _json(row: Endpoint) -> Any:
    if request.mimetype != JSON:
        raise BadRequestError(415, "this media type is not taken here", request.mimetype, f"send {JSON}")
    if (request.content_length or 0) > _JSON_BYTES:
        raise RequestEntityTooLarge
    try:
        body = json.loads(request.get_data(), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, json.JSONDecodeError) else ""
        raise BadRequestError(400, "the body is not JSON", what or None, "send JSON in UTF-8") from None
    schema = row.schema_of_body(JSON)
    assert schema is not None
    if wrong := fault(body, schema):
        raise BadRequestError(422, wrong, None, _HELP)
    return body


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
