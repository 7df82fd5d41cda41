"""The API's endpoints as one table: `cervicyte.web.api.openapi` publishes it, `cervicyte.web.api` answers by it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cervicyte.web.api.schemas import CELL_ID, NUMBER, SCHEMAS, Json, ref
from cervicyte.web.cases import listing, uploads
from cervicyte.web.reading import worklist
from cervicyte.web.reports import exports

#: Where the API begins.
ROOT = "/api/v1"

JSON, ZIP, PDF, CSV, PNG = "application/json", "application/zip", "application/pdf", "text/csv", "image/png"
FILES = "multipart/form-data"
#: A picture by itself as the body of a request.
PICTURES = (*dict.fromkeys(kind for kind, _ in uploads.MEDIA_TYPES.values()), "application/octet-stream")


@dataclass(frozen=True)
class Parameter:
    """A value in the query or a header; one with a default in its schema is always given to the view."""

    name: str
    schema: Json
    help: str
    place: str = "query"


@dataclass(frozen=True)
class Answer:
    """What is sent when all went well; ``schema`` is that of JSON, ``headers`` are pairs of name and words."""

    status: int
    help: str
    media_types: tuple[str, ...] = (JSON,)
    schema: Json | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Endpoint:
    """One row.

    Attributes
    ----------
    name : of the view, and the document's operationId
    path : after `ROOT`, with the arguments in braces
    body : schemas of what is sent, by media type
    errors : statuses, besides those that follow from the rest (`statuses`)
    """

    name: str
    method: str
    path: str
    tag: str
    summary: str
    answer: Answer
    help: str = ""
    parameters: tuple[Parameter, ...] = ()
    body: tuple[tuple[str, Json], ...] = ()
    errors: tuple[int, ...] = ()
    open: bool = field(default=False)

    @property
    def statuses(self) -> tuple[int, ...]:
        """All statuses of errors, in their order."""
        found = {400, 500, 503, 507, *self.errors}
        found |= set() if self.open else {401}
        found |= {403, 404} if "{" in self.path else set()
        found |= {413, 415, 422} if self.body else set()
        return tuple(sorted(found))

    def schema_of_body(self, media_type: str) -> Json | None:
        """The schema of what is sent as this media type, its reference followed; None where it is not taken."""
        found = dict(self.body).get(media_type)
        return SCHEMAS[found["$ref"].rpartition("/")[2]] if found and "$ref" in found else found


#: Arguments of paths.
ARGUMENTS: dict[str, Json] = {"number": NUMBER, "id": CELL_ID}


def _choice(rows: Any) -> Json:
    return {"type": "string", "enum": [name for name, _ in rows]}


def _paged(size: int) -> tuple[Parameter, ...]:
    return (
        Parameter("page", {"type": "integer", "minimum": 1, "maximum": 1_000_000, "default": 1}, "Page, from 1."),
        Parameter("size", {"type": "integer", "minimum": 1, "maximum": 200, "default": size}, "Rows on a page."),
    )


def _picture(description: str) -> Json:
    return {"type": "string", "format": "binary", "description": description}


def _files(**more: Any) -> tuple[tuple[str, Json], ...]:
    images = {"type": "array", "minItems": 1, "items": _picture("A picture, or a ZIP archive of them.")}
    properties = {"images": images} | more
    schema = {"type": "object", "properties": properties, "required": ["images"], "additionalProperties": False}
    return ((FILES, schema),)


_KEY = Parameter(
    "Idempotency-Key",
    {"type": "string", "pattern": "^[\\x21-\\x7e]{1,100}$"},
    "Chosen by the sender for each upload; the same request sent again with it is answered alike and taken once.",
    "header",
)
_VERSION = Parameter("version", {"type": "integer", "minimum": 1, "maximum": 1_000_000}, "A signed version.")
_CASE_TEXTS = {name: SCHEMAS["NewCase"]["properties"][name] for name in ("accession", "notes")}
_ONE_PICTURE: tuple[tuple[str, Json], ...] = (
    (
        FILES,
        {
            "type": "object",
            "properties": {"image": _picture("A picture of one cell.")},
            "required": ["image"],
            "additionalProperties": False,
        },
    ),
    *((kind, _picture("A picture of one cell.")) for kind in PICTURES),
)
_LABELS = _choice(exports.LABELS) | {"default": exports.LABELS[0][0]}


def _json(status: int, schema: str, help: str, *headers: tuple[str, str]) -> Answer:
    return Answer(status, help, (JSON,), ref(schema), headers)


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        "document",
        "GET",
        "/openapi.json",
        "model",
        "This document",
        Answer(200, "The document.", (JSON,), {"type": "object"}),
        open=True,
    ),
    Endpoint("model", "GET", "/model", "model", "The model that answers", _json(200, "Model", "The model.")),
    Endpoint(
        "predict",
        "POST",
        "/predict",
        "model",
        "Ask the model about one picture",
        _json(200, "Answer", "What the model says."),
        help="Waits for the answer; the picture is not kept. Where too many wait, the answer is 503 with Retry-After.",
        body=_ONE_PICTURE,
    ),
    Endpoint(
        "new_job",
        "POST",
        "/jobs",
        "jobs",
        "Send many pictures, or a ZIP of them",
        _json(202, "NewJob", "The pictures are stored and wait for the model.", ("Location", "Address of the job.")),
        help="Opens a case of their own. A file that cannot be used is refused by itself; 422 where none can be used.",
        parameters=(_KEY,),
        body=_files(**_CASE_TEXTS),
        errors=(403, 429),
    ),
    Endpoint("job", "GET", "/jobs/{number}", "jobs", "How far a job is", _json(200, "Job", "The job.")),
    Endpoint(
        "list_cases",
        "GET",
        "/cases",
        "cases",
        "The cases that one may see",
        _json(200, "Cases", "A page of them."),
        parameters=(
            Parameter("q", {"type": "string", "maxLength": 200, "default": ""}, "Words of number, accession or notes."),
            Parameter("state", _choice(listing.STATES), "Only these."),
            Parameter("order", _choice(listing.ORDERS) | {"default": listing.ORDERS[0][0]}, "In which order."),
            *_paged(25),
        ),
    ),
    Endpoint(
        "new_case",
        "POST",
        "/cases",
        "cases",
        "Open a case",
        _json(201, "Case", "The case.", ("Location", "Address of the case.")),
        body=((JSON, ref("NewCase")),),
        errors=(403,),
    ),
    Endpoint("case", "GET", "/cases/{number}", "cases", "A case", _json(200, "Case", "The case.")),
    Endpoint(
        "change_case",
        "PATCH",
        "/cases/{number}",
        "cases",
        "Change accession number or notes",
        _json(200, "Case", "The case as it is now."),
        body=((JSON, ref("CaseChange")),),
    ),
    Endpoint(
        "delete_case",
        "DELETE",
        "/cases/{number}",
        "cases",
        "Delete a case with its pictures, answers, verdicts and reports, for good",
        Answer(204, "It is deleted.", ()),
    ),
    Endpoint(
        "upload",
        "POST",
        "/cases/{number}/images",
        "cases",
        "Add pictures, or a ZIP of them, to a case",
        _json(202, "Receipt", "What was accepted is stored and waits for the model."),
        help="A file that cannot be used is refused by itself; 422 where none can be used.",
        parameters=(_KEY,),
        body=_files(),
        errors=(429,),
    ),
    Endpoint(
        "list_cells",
        "GET",
        "/cases/{number}/cells",
        "cells",
        "The cells of a case, the most suspicious first",
        _json(200, "Cells", "A page of them."),
        parameters=(
            Parameter("show", _choice(worklist.FILTERS) | {"default": worklist.FILTERS[0][0]}, "Only these."),
            *_paged(60),
        ),
    ),
    Endpoint("cell", "GET", "/cells/{id}", "cells", "A cell", _json(200, "CellWithAnswer", "The cell and its answer.")),
    Endpoint(
        "image",
        "GET",
        "/cells/{id}/image",
        "cells",
        "The picture of a cell",
        Answer(
            200,
            "As it came where browsers show it as the model saw it; else its pixels as PNG.",
            (PNG, "image/jpeg", "image/webp"),
        ),
    ),
    Endpoint(
        "map",
        "GET",
        "/cells/{id}/map",
        "cells",
        "The heat map of a cell's answer",
        Answer(200, "RGBA, to be laid over the picture: red speaks for, blue against.", (PNG,)),
        help="404 where the model that answered is not the one that runs, or has no maps.",
        errors=(422,),
    ),
    Endpoint(
        "list_reviews",
        "GET",
        "/cells/{id}/reviews",
        "reviews",
        "The verdicts on a cell",
        _json(200, "Reviews", "Those that stand."),
    ),
    Endpoint(
        "review",
        "POST",
        "/cells/{id}/reviews",
        "reviews",
        "Give a verdict on a cell",
        _json(201, "Review", "The verdict; the same one again adds nothing."),
        help="It counts as first or second reading, as its reader's part in the case is.",
        body=((JSON, ref("NewReview")),),
    ),
    Endpoint(
        "report",
        "GET",
        "/cases/{number}/report",
        "reports",
        "The report of a case",
        _json(200, "Report", "The version that was asked for, else the newest signed one, else the draft."),
        parameters=(_VERSION,),
    ),
    Endpoint(
        "report_pdf",
        "GET",
        "/cases/{number}/report.pdf",
        "reports",
        "The same as PDF",
        Answer(200, "The document.", (PDF,)),
        parameters=(_VERSION,),
    ),
    Endpoint(
        "case_table",
        "GET",
        "/cases/{number}/cells.csv",
        "exports",
        "All that is said of a case's cells, as a table",
        Answer(200, "The table.", (CSV,)),
    ),
    Endpoint(
        "export_cells",
        "GET",
        "/exports/cells.zip",
        "exports",
        "Reviewed cells as a labelled data set that `cervicyte train` reads",
        Answer(200, "Pictures, cells.csv and notes.txt.", (ZIP,)),
        help="422 where there is no reviewed cell.",
        parameters=(
            Parameter("labels", _LABELS, "What the labels are."),
            Parameter("case", {"type": "string", "maxLength": 40, "default": ""}, "Only of this case."),
        ),
        errors=(403, 404, 422),
    ),
    Endpoint(
        "export_table",
        "GET",
        "/exports/cells.csv",
        "exports",
        "All that is said of the cells of all cases, as a table",
        Answer(200, "The table.", (CSV,)),
    ),
)
