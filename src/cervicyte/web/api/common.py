"""What all addresses of the API do alike: what comes in is checked by the published table before a view is called."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import msgspec
from flask import Blueprint, Response, request
from msgspec import Struct
from werkzeug.exceptions import RequestEntityTooLarge

from cervicyte.web.api.endpoints import ENDPOINTS, JSON, ROOT, Endpoint, Parameter
from cervicyte.web.api.models import Page, Receipt, Record
from cervicyte.web.cases.intake import Receipt as StoredReceipt
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
#: A whole number in an address; more digits than any limit has.
_NUMBER = re.compile(r"-?[0-9]{1,12}")
#: Most characters of what was sent that an error shows.
_SHOWN = 200
_HELP = f"see {ROOT}/openapi.json"


def at(view: View) -> View:
    """Make a function the view of the endpoint of its name.

    It is called with the path's arguments, the query's parameters that are given or have a default, and ``body``
    where JSON is sent; headers and files it reads by `key` and `files`. It returns what is sent as JSON, alone or
    with headers, or a whole response.
    """
    row = next(row for row in ENDPOINTS if row.name == view.__name__)

    def answer(**arguments: Any) -> Response:
        values = arguments | _query(row)
        _headers(row)
        if row.record is not None:
            values["body"] = _json(row.record)
        elif row.files and request.mimetype not in row.body:
            first = next(iter(row.body))
            raise BadRequestError(415, "this media type is not taken here", request.mimetype, f"send {first}")
        sent = view(**values)
        if isinstance(sent, Response):
            return sent
        record, headers = sent if isinstance(sent, tuple) else (sent, None)
        return Response(msgspec.json.encode(record), row.answer.status, headers, mimetype=JSON)

    rule = row.path.replace("{", "<").replace("}", ">")
    # A path with an empty argument is no other path: it is not there.
    blueprint.add_url_rule(rule, row.name, answer, methods=[row.method], merge_slashes=False)
    return view


def page_of(listing: Listing[Any], size: int) -> Page:
    """Say where in a list one is."""
    return Page(number=listing.number, size=size, pages=listing.pages, total=listing.total)


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
    uploads = [(file.filename, file.stream) for file in request.files.getlist(name) if file.filename]
    if name in request.form or not uploads:
        raise BadRequestError(422, f"the form has no file in its field {name}", None, "send the image with a file name")
    return uploads


def texts(record: type[Record]) -> Record:
    """Fields of a form that are text, as far as they are sent."""
    return check({name: request.form[name] for name in record.__struct_fields__ if name in request.form}, record)


def limits() -> UploadLimits:
    """How much one upload may hold."""
    return UploadLimits(upload_bytes=current.running().max_upload_mb << 20)


def incoming() -> Path:
    """Where an upload lies while it is read."""
    return current.site().data_dir / "incoming"


def receipt_of(receipt: StoredReceipt) -> Receipt:
    """Wake the work on an upload and describe the upload; where no file could be used, that is an error."""
    if not receipt.accepted:
        reasons = [f"{name}: {reason}" for name, reason in receipt.refused[:_NAMED]]
        if len(receipt.refused) > _NAMED:
            reasons.append(f"and {len(receipt.refused) - _NAMED} more")
        raise BadRequestError(
            422, "none of the files could be used", "; ".join(reasons) or None, "send images of cells"
        )
    if (workers := current.running().workers) is not None:
        workers.wake()
    return Receipt.of(receipt)


def check(value: object, record: type[Record]) -> Record:
    """Make a record of what was sent.

    Raises
    ------
    BadRequestError : it has another shape
    """
    try:
        return msgspec.convert(value, record)
    except msgspec.ValidationError as error:
        raise BadRequestError(422, f"the body cannot be used: {str(error)[:_SHOWN]}", None, _HELP) from None


def from_text(text: str, parameter: Parameter) -> Any:
    """Read a parameter from the text of an address or a header; a number is written in ASCII digits, at most twelve.

    Raises
    ------
    BadRequestError : it is no such value
    """
    number = parameter.schema.get("type") == "integer" and _NUMBER.fullmatch(text)
    try:
        return msgspec.convert(int(text) if number else text, parameter.type)
    except msgspec.ValidationError as error:
        what = f"{parameter.name} cannot be used: {str(error)[:_SHOWN]}"
        raise BadRequestError(400, what, text[:_SHOWN], _HELP) from None


def _query(row: Endpoint) -> dict[str, Any]:
    parameters = {p.name: p for p in row.parameters if p.place == "query"}
    values = {p.name: p.default for p in parameters.values() if p.default is not None}
    for name, texts in request.args.lists():
        if name not in parameters:
            known = ", ".join(parameters) or "none"
            raise BadRequestError(400, "there is no such parameter", name[:40], f"known here: {known}")
        if len(texts) > 1:
            raise BadRequestError(400, f"{name} is given more than once", f"{len(texts)} times", "give it once")
        values[name] = from_text(texts[0], parameters[name])
    return values


def _headers(row: Endpoint) -> None:
    for parameter in row.parameters:
        if parameter.place == "header" and parameter.name in request.headers:
            from_text(request.headers[parameter.name], parameter)


def _json(record: type[Struct]) -> Struct:
    if request.mimetype != JSON:
        raise BadRequestError(415, "this media type is not taken here", request.mimetype, f"send {JSON}")
    if (request.content_length or 0) > _JSON_BYTES:
        raise RequestEntityTooLarge
    try:
        body = msgspec.json.decode(request.get_data())
    except (ValueError, RecursionError) as error:
        what = str(error) if isinstance(error, msgspec.DecodeError) else None
        raise BadRequestError(400, "the body is not JSON", what, "send JSON in UTF-8") from None
    return check(body, record)
