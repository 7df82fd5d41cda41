"""The API's endpoints as one table: `cervicyte.web.api.openapi` publishes it, `cervicyte.web.api` answers by it."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from cervicyte.web.api import models
from cervicyte.web.api.models import Json, ref
from cervicyte.web.cases import listing, uploads
from cervicyte.web.reading import worklist
from cervicyte.web.reports import exports

#: Where the API begins.
ROOT = "/api/v1"

JSON, ZIP, PDF, CSV, PNG = "application/json", "application/zip", "application/pdf", "text/csv", "image/png"
FILES = "multipart/form-data"
#: An image by itself as the body of a request.
IMAGES = (*dict.fromkeys(kind for kind, _ in uploads.MEDIA_TYPES.values()), "application/octet-stream")


@dataclass(frozen=True)
class Parameter:
    """A value in the query or a header.

    Attributes
    ----------
    type : what msgspec takes it for
    default : given to the view where nothing is sent; None to give nothing
    """

    name: str
    type: Any
    help: str
    _: KW_ONLY
    default: str | int | None = None
    place: str = "query"

    @property
    def schema(self) -> Json:
        """The schema of its type."""
        return msgspec.json.schema(self.type) | ({} if self.default is None else {"default": self.default})


@dataclass(frozen=True)
class Answer:
    """What is sent when all went well; ``record`` is that of JSON, ``headers`` are pairs of name and words."""

    status: int
    help: str
    _: KW_ONLY
    record: type[Struct] | type[dict[str, Any]] | None = None
    media_types: tuple[str, ...] = (JSON,)
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def schema(self) -> Json | None:
        """The schema of its record; None for what is no JSON."""
        if self.record is None or issubclass(self.record, Struct):
            return ref(self.record) if self.record else None
        return msgspec.json.schema(self.record)


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """One row.

    Attributes
    ----------
    name : of the view, and the document's operationId
    route : method, and path after `ROOT` with the arguments in braces
    record : of the JSON that is sent
    files : schemas of what else is sent, by media type
    errors : statuses, besides those that follow from the rest (`statuses`)
    """

    name: str
    route: str
    tag: str
    summary: str
    answer: Answer
    help: str = ""
    parameters: tuple[Parameter, ...] = ()
    record: type[Struct] | None = None
    files: tuple[tuple[str, Json], ...] = ()
    errors: tuple[int, ...] = ()
    open: bool = False

    @property
    def method(self) -> str:
        """GET, POST, PATCH or DELETE."""
        return self.route.partition(" ")[0]

    @property
    def path(self) -> str:
        """After `ROOT`, with the arguments in braces."""
        return self.route.partition(" ")[2]

    @property
    def body(self) -> dict[str, Json]:
        """Schemas of all that is taken, by media type."""
        return {JSON: ref(self.record)} if self.record else dict(self.files)

    @property
    def statuses(self) -> tuple[int, ...]:
        """All statuses of errors, in their order."""
        statuses = {400, 500, 503, 507, *self.errors}
        statuses |= set() if self.open else {401}
        statuses |= {403, 404} if "{" in self.path else set()
        statuses |= {413, 415, 422} if self.body else set()
        return tuple(sorted(statuses))


#: Arguments of paths.
ARGUMENTS: dict[str, Any] = {
    "number": Annotated[models.Number, Meta(min_length=1)],
    "id": Annotated[models.CellId, Meta(min_length=1)],
}


def _choice(rows: Any) -> Any:
    return Literal[tuple(name for name, _ in rows)]


def _paged(size: int) -> tuple[Parameter, ...]:
    return (
        Parameter("page", Annotated[int, Meta(ge=1, le=1_000_000)], "Page, from 1.", default=1),
        Parameter("size", Annotated[int, Meta(ge=1, le=200)], "Rows on a page.", default=size),
    )


def _image(description: str) -> Json:
    return {"type": "string", "format": "binary", "description": description}


def _form(field: str, schema: Json, texts: Json | None = None) -> tuple[str, Json]:
    properties = {field: schema} | (texts or {})
    return FILES, {"type": "object", "properties": properties, "required": [field], "additionalProperties": False}


_KEY = Parameter(
    "Idempotency-Key",
    Annotated[str, Meta(pattern="^[\\x21-\\x7e]{1,100}$")],
    "Chosen by the sender for each upload; the same request sent again with it is answered alike and taken once.",
    place="header",
)
_VERSION = Parameter("version", Annotated[int, Meta(ge=1, le=1_000_000)], "A signed version.")
_IMAGES: Json = {"type": "array", "minItems": 1, "items": _image("An image, or a ZIP archive of them.")}
_ONE_IMAGE = _image("An image of one cell.")


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint(
        name="document",
        route="GET /openapi.json",
        tag="model",
        summary="This document",
        answer=Answer(200, "The document.", record=dict),
        open=True,
    ),
    Endpoint(
        name="model",
        route="GET /model",
        tag="model",
        summary="The model that answers",
        answer=Answer(200, "The model.", record=models.Model),
    ),
    Endpoint(
        name="predict",
        route="POST /predict",
        tag="model",
        summary="Ask the model about one picture",
        answer=Answer(200, "What the model says.", record=models.Answer),
        help="Waits for the answer; the picture is not kept. Where too many wait, the answer is 503 with Retry-After.",
        files=(_form("image", _ONE_IMAGE), *((kind, _ONE_IMAGE) for kind in IMAGES)),
    ),
    Endpoint(
        name="new_job",
        route="POST /jobs",
        tag="jobs",
        summary="Send many pictures, or a ZIP of them",
        answer=Answer(
            202,
            "The pictures are stored and wait for the model.",
            record=models.NewJob,
            headers=(("Location", "Address of the job."),),
        ),
        help="Opens a case of their own. A file that cannot be used is refused by itself; 422 where none can be used.",
        parameters=(_KEY,),
        files=(_form("images", _IMAGES, models.components()["NewCase"]["properties"]),),
        errors=(403, 429),
    ),
    Endpoint(
        name="job",
        route="GET /jobs/{number}",
        tag="jobs",
        summary="How far a job is",
        answer=Answer(200, "The job.", record=models.Job),
    ),
    Endpoint(
        name="list_cases",
        route="GET /cases",
        tag="cases",
        summary="The cases that one may see",
        answer=Answer(200, "A page of them.", record=models.Cases),
        parameters=(
            Parameter("q", Annotated[str, Meta(max_length=200)], "Words of number, accession or notes.", default=""),
            Parameter("state", _choice(listing.STATES), "Only these."),
            Parameter("order", _choice(listing.ORDERS), "In which order.", default=listing.ORDERS[0][0]),
            *_paged(25),
        ),
    ),
    Endpoint(
        name="new_case",
        route="POST /cases",
        tag="cases",
        summary="Open a case",
        answer=Answer(201, "The case.", record=models.Case, headers=(("Location", "Address of the case."),)),
        record=models.NewCase,
        errors=(403,),
    ),
    Endpoint(
        name="case",
        route="GET /cases/{number}",
        tag="cases",
        summary="A case",
        answer=Answer(200, "The case.", record=models.Case),
    ),
    Endpoint(
        name="change_case",
        route="PATCH /cases/{number}",
        tag="cases",
        summary="Change accession number or notes",
        answer=Answer(200, "The case as it is now.", record=models.Case),
        record=models.CaseChange,
    ),
    Endpoint(
        name="delete_case",
        route="DELETE /cases/{number}",
        tag="cases",
        summary="Delete a case with its pictures, answers, verdicts and reports, for good",
        answer=Answer(204, "It is deleted.", media_types=()),
    ),
    Endpoint(
        name="upload",
        route="POST /cases/{number}/images",
        tag="cases",
        summary="Add pictures, or a ZIP of them, to a case",
        answer=Answer(202, "What was accepted is stored and waits for the model.", record=models.Receipt),
        help="A file that cannot be used is refused by itself; 422 where none can be used.",
        parameters=(_KEY,),
        files=(_form("images", _IMAGES),),
        errors=(429,),
    ),
    Endpoint(
        name="list_cells",
        route="GET /cases/{number}/cells",
        tag="cells",
        summary="The cells of a case, the most suspicious first",
        answer=Answer(200, "A page of them.", record=models.Cells),
        parameters=(
            Parameter("show", _choice(worklist.FILTERS), "Only these.", default=worklist.FILTERS[0][0]),
            *_paged(60),
        ),
    ),
    Endpoint(
        name="cell",
        route="GET /cells/{id}",
        tag="cells",
        summary="A cell",
        answer=Answer(200, "The cell and its answer.", record=models.CellWithAnswer),
    ),
    Endpoint(
        name="image",
        route="GET /cells/{id}/image",
        tag="cells",
        summary="The picture of a cell",
        answer=Answer(
            200,
            "As it came where browsers show it as the model saw it; else its pixels as PNG.",
            media_types=(PNG, "image/jpeg", "image/webp"),
        ),
    ),
    Endpoint(
        name="map",
        route="GET /cells/{id}/map",
        tag="cells",
        summary="The heat map of a cell's answer",
        answer=Answer(200, "RGBA, to be laid over the picture: red speaks for, blue against.", media_types=(PNG,)),
        help="404 where the model that answered is not the one that runs, or has no maps.",
        errors=(422,),
    ),
    Endpoint(
        name="list_reviews",
        route="GET /cells/{id}/reviews",
        tag="reviews",
        summary="The verdicts on a cell",
        answer=Answer(200, "Those that stand.", record=models.Reviews),
    ),
    Endpoint(
        name="review",
        route="POST /cells/{id}/reviews",
        tag="reviews",
        summary="Give a verdict on a cell",
        answer=Answer(201, "The verdict; the same one again adds nothing.", record=models.Review),
        help="It counts as first or second reading, as its reader's part in the case is.",
        record=models.NewReview,
    ),
    Endpoint(
        name="report",
        route="GET /cases/{number}/report",
        tag="reports",
        summary="The report of a case",
        answer=Answer(
            200, "The version that was asked for, else the newest signed one, else the draft.", record=models.Report
        ),
        parameters=(_VERSION,),
    ),
    Endpoint(
        name="report_pdf",
        route="GET /cases/{number}/report.pdf",
        tag="reports",
        summary="The same as PDF",
        answer=Answer(200, "The document.", media_types=(PDF,)),
        parameters=(_VERSION,),
    ),
    Endpoint(
        name="case_table",
        route="GET /cases/{number}/cells.csv",
        tag="exports",
        summary="All that is said of a case's cells, as a table",
        answer=Answer(200, "The table.", media_types=(CSV,)),
    ),
    Endpoint(
        name="export_cells",
        route="GET /exports/cells.zip",
        tag="exports",
        summary="Reviewed cells as a labelled data set that `cervicyte train` reads",
        answer=Answer(200, "Pictures, cells.csv and notes.txt.", media_types=(ZIP,)),
        help="422 where there is no reviewed cell.",
        parameters=(
            Parameter("labels", _choice(exports.LABELS), "What the labels are.", default=exports.LABELS[0][0]),
            Parameter("case", Annotated[str, Meta(max_length=40)], "Only of this case.", default=""),
        ),
        errors=(403, 404, 422),
    ),
    Endpoint(
        name="export_table",
        route="GET /exports/cells.csv",
        tag="exports",
        summary="All that is said of the cells of all cases, as a table",
        answer=Answer(200, "The table.", media_types=(CSV,)),
    ),
)
