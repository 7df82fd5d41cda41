"""What the API sends and takes: each record is at once its JSON Schema, the check of what comes in, and the JSON sent.

What is sent has all of its fields, always; what is taken has no others than those that are named.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Literal, Self, TypeVar

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from cervicyte.bundle.folder import Bundle
from cervicyte.web.base.schema import PredictionRow, User
from cervicyte.web.cases.answers import votes_of
from cervicyte.web.cases.cases import ACCESSION_LENGTH, NOTES_LENGTH, CaseSummary
from cervicyte.web.cases.intake import Receipt as StoredReceipt
from cervicyte.web.engine.one_picture import Answered
from cervicyte.web.reading import map_image, verdicts, worklist
from cervicyte.web.reports.reports import View

Json = dict[str, Any]
Record = TypeVar("Record", bound=Struct)


def _says(description: str) -> Meta:
    return Meta(description=description)


Number = Annotated[str, Meta(description="Number of a case.", examples=["7K2M9Q"])]
CellId = Annotated[str, Meta(description="Id of a cell, 32 hexadecimal digits.", examples=["0" * 32])]
Sha256 = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
Count = Annotated[int, Meta(ge=0)]
Ordinal = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
#: RFC 3339 in UTC, as Python writes it; msgspec would write Z for +00:00.
Time = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
Accession = Annotated[str, Meta(max_length=ACCESSION_LENGTH, description="Accession number; no names.")]
Notes = Annotated[str, Meta(max_length=NOTES_LENGTH, description="Notes; no names of patients.")]

# ---- what is taken


class NewCase(Struct, kw_only=True, forbid_unknown_fields=True):
    """A case to open."""

    accession: Accession = ""
    notes: Notes = ""


class CaseChange(Struct, kw_only=True, forbid_unknown_fields=True):
    """What is left out stays as it is."""

    accession: Accession | UnsetType = UNSET
    notes: Notes | UnsetType = UNSET

    def __post_init__(self) -> None:
        if self.accession is UNSET and self.notes is UNSET:
            raise ValueError("it is empty; one of `accession`, `notes` is needed")


class NewReview(Struct, kw_only=True, forbid_unknown_fields=True):
    """A verdict."""

    verdict: Annotated[
        str,
        Meta(
            min_length=1,
            max_length=100,
            description="A Bethesda category (NILM, ASC-US, ASC-H, LSIL, HSIL, SCC, AGC) or unsatisfactory; "
            "also agree, or a class of the model, but not from a blinded second reader.",
        ),
    ]
    comment: Annotated[str, Meta(max_length=verdicts.COMMENT_LENGTH)] = ""


# ---- what is sent


class Problem(Struct, kw_only=True):
    """What is wrong with a request."""

    what: Annotated[str, _says("What was wrong.")]
    received: Annotated[str | None, _says("What was received, where the request itself was wrong.")]
    todo: Annotated[str, _says("What to do, or empty.")]
    request_id: Annotated[str, _says("By which the server's log knows the request.")]


class Error(Struct):
    """Every error, whatever its status."""

    error: Problem


class Page(Struct, kw_only=True):
    """Where in a list one is. A page that is not there is answered with the nearest that is."""

    number: Ordinal
    size: Count
    pages: Count
    total: Count


class Model(Struct, kw_only=True):
    """The model that answers."""

    name: str
    sha256: Sha256
    classes: list[str]
    bethesda: Annotated[dict[str, str], _says("Category by class, if any.")]
    members: Annotated[list[str], _says("Of an ensemble; empty for a single network.")]
    operating_point: Share | None
    sensitivity: Annotated[Share, _says("That the operating point was set for.")]
    normal_below: Annotated[Share | None, _says("From here to abnormal_from the model does not answer.")]
    abnormal_from: Annotated[Share | None, _says("Null for never.")]
    has_map: Annotated[bool, _says("Its answers have heat maps.")]

    @classmethod
    def of(cls, bundle: Bundle) -> Self:
        """Describe the model of a bundle."""
        manifest, limits = bundle.manifest, bundle.manifest.limits
        return cls(
            name=manifest.name,
            sha256=bundle.graph_sha256,
            classes=list(bundle.classes),
            bethesda=dict(manifest.bethesda),
            members=list(bundle.members),
            operating_point=limits.threshold,
            sensitivity=limits.sensitivity,
            normal_below=limits.to_json()["normal_below"],
            abnormal_from=limits.to_json()["abnormal_from"],
            has_map=map_image.has_map(bundle),
        )


class Vote(Struct, kw_only=True):
    """What one member of an ensemble says."""

    member: str
    label: str
    p_abnormal: Share | None
    probabilities: dict[str, Share]


class _Prediction(Struct, kw_only=True):
    model_name: str
    model_sha256: Sha256
    label: Annotated[str, _says("A class of the model, uncertain, or unsatisfactory for an image that is refused.")]
    bethesda: Annotated[str | None, _says("Bethesda category of the label, where it has one.")]
    p_abnormal: Annotated[
        Share | None, _says("Calibrated probability that the cell is abnormal, where that is defined.")
    ]
    operating_point: Share | None
    flagged: Annotated[bool | None, _says("p_abnormal is at or above the operating point.")]
    uncertain: Annotated[bool, _says("The model does not answer; such a cell is never called normal.")]
    quality: Annotated[str, _says("good, not checked, or why the image is refused.")]
    probabilities: Annotated[dict[str, Share] | None, _says("Calibrated, by class.")]
    votes: list[Vote]
    disagreement: Annotated[Share | None, _says("Of the votes: 0 where all share one opinion.")]


class Answer(_Prediction, kw_only=True):
    """What the model says of an image."""

    sha256: Annotated[Sha256, _says("Of the image.")]

    @classmethod
    def of(cls, answered: Answered, bundle: Bundle) -> Self:
        """Describe an answer that is not stored."""
        prediction, classes = answered.prediction, bundle.classes
        chances = prediction.probabilities
        return _copy(
            cls,
            prediction,
            sha256=answered.sha256,
            model_name=bundle.manifest.name,
            model_sha256=bundle.graph_sha256,
            bethesda=prediction.bethesda or None,
            operating_point=bundle.manifest.limits.threshold,
            flagged=prediction.above_operating_point,
            uncertain=bool(prediction.uncertain),
            probabilities=dict(zip(classes, chances, strict=True)) if chances else None,
            votes=votes_of(prediction, classes),
        )


class StoredAnswer(_Prediction, kw_only=True):
    """What the model said of a cell of a case."""

    created_at: Time
    morphology: Annotated[dict[str, float] | None, _says("Measurements.")]

    @classmethod
    def of(cls, row: PredictionRow) -> Self:
        """Describe the stored answer to a cell of a case."""
        p, point = row.p_abnormal, row.operating_point
        flagged = None if p is None or point is None else p >= point
        return _copy(cls, row, bethesda=row.bethesda or None, flagged=flagged, votes=row.votes or [])


class Case(Struct, kw_only=True):
    """A case with its counts."""

    number: Number
    accession: str
    notes: str
    owner: str
    created_at: Time
    state: Literal["open", "signed"]
    second_reader: str | None
    blinded: bool
    images: Count
    done: Count
    waiting: Count
    failed: Count
    decided: Annotated[Count, _says("With a verdict of the token's owner.")]
    abnormal: Annotated[Count | None, _says("Null, as the next two, for a blinded second reader.")]
    uncertain: Count | None
    unsatisfactory: Count | None

    @classmethod
    def of(cls, case: CaseSummary) -> Self:
        """Describe a case."""
        return _copy(cls, case)


class Cases(Struct):
    """A page of cases."""

    cases: list[Case]
    page: Page


class Refused(Struct):
    """A file that cannot be used."""

    name: str
    reason: str


class Receipt(Struct, kw_only=True):
    """What became of the files of an upload."""

    accepted: Annotated[Count, _says("Images that now belong to the case.")]
    passed_over: Annotated[Count, _says("Folders, and files that systems leave in archives.")]
    refused: list[Refused]

    @classmethod
    def of(cls, receipt: StoredReceipt) -> Self:
        """Describe what became of an upload."""
        return _copy(cls, receipt, refused=[Refused(*pair) for pair in receipt.refused])


class Job(Struct, kw_only=True):
    """A case as the work on its images."""

    id: Annotated[str, _says("The number of the job's case.")]
    case: Number
    cells: Annotated[str, _says("Address of the answers.")]
    state: Literal["waiting", "done"]
    images: Count
    done: Count
    waiting: Count
    failed: Count
    problem: Annotated[str | None, _says("Why nothing goes on, where it does not.")]

    @classmethod
    def of(cls, case: CaseSummary, cells: str, problem: str, **more: Any) -> Self:
        """Describe the work on a case; ``cells`` is the address of the answers, ``more`` fields of a subclass."""
        return _copy(
            cls,
            case,
            id=case.number,
            case=case.number,
            cells=cells,
            state="waiting" if case.waiting else "done",
            problem=problem if case.waiting and problem else None,
            **more,
        )


class NewJob(Job, kw_only=True):
    """A job that was just taken."""

    receipt: Receipt


class Cell(Struct, kw_only=True):
    """A cell of a case."""

    id: CellId
    case: Number
    name: Annotated[str, _says("As it was sent.")]
    place: Annotated[str, _says("Archive and folders that it came in, or empty.")]
    position: Annotated[Count, _says("From 1, in order of arrival.")]
    state: Literal["waiting", "done", "failed"]
    reason: Annotated[str, _says("Why it failed, or empty.")]
    width: Count
    height: Count
    size: Annotated[Count, _says("In bytes.")]
    sha256: Sha256
    media_type: str
    created_at: Time
    model_sha256: Sha256 | None
    label: Annotated[str | None, _says("Null without an answer, and for a blinded second reader.")]
    bethesda: str | None
    p_abnormal: Share | None
    flagged: bool | None
    uncertain: bool
    quality: str | None
    verdict: Annotated[str | None, _says("The verdict of the token's owner.")]
    agrees: bool | None

    @classmethod
    def of(cls, cell: worklist.Cell, number: str, **more: Any) -> Self:
        """Describe a cell of the case with this number; ``more`` are fields of a subclass."""
        unanswered = {name: getattr(cell, name) or None for name in ("label", "quality", "model_sha256")}
        return _copy(cls, cell, case=number, **unanswered, **more)


class Cells(Struct):
    """A page of cells."""

    cells: list[Cell]
    page: Page


class CellWithAnswer(Cell, kw_only=True):
    """A cell with all that the model said of it."""

    answer: StoredAnswer | None


class Review(Struct, kw_only=True):
    """A verdict that stands."""

    id: Count
    cell: CellId
    reader: str
    mine: Annotated[bool, _says("By the token's owner.")]
    reading: Literal["first", "second", "settled"]
    verdict: Annotated[str, _says("As it counts: the category of a class that has one.")]
    stored: Annotated[str, _says("As it was given.")]
    agrees: Annotated[bool | None, _says("With the model's answer of that time, where it gave one.")]
    comment: str
    created_at: Time

    @classmethod
    def of(cls, verdict: verdicts.Verdict, user: User) -> Self:
        """Describe a verdict to the token's owner."""
        return _copy(cls, verdict, cell=verdict.image_id, mine=verdict.reader_id == user.id)


class Reviews(Struct):
    """The verdicts that stand and that this reader may see."""

    reviews: list[Review]


class Report(Struct, kw_only=True):
    """A version of a case's report, or the draft where none is signed. Signing is done on the page, by a person."""

    case: Number
    version: Ordinal
    versions: Annotated[list[int], _says("Signed ones.")]
    made_at: Time
    signed_at: Annotated[Time | None, _says("Null for a draft.")]
    signed_by: Annotated[str, _says("Empty for a draft.")]
    reason: Annotated[str, _says("Of an amendment, or empty.")]
    sha256: Annotated[str, _says("Of what was signed; empty for a draft.")]
    problem: Annotated[str, _says("Why this is not what was signed; empty where all is well.")]
    changed: Annotated[bool, _says("The case changed after the signature: its words, images or verdicts.")]
    body: Annotated[dict[str, Any], _says("All that is reported, as it was signed.")]

    @classmethod
    def of(cls, view: View) -> Self:
        """Describe a version of a report, or its draft."""
        signed = [number for number, _, signed_at in view.versions if signed_at is not None]
        return _copy(cls, view, case=view.case.number, versions=signed, body=dict(view.body))


# ---- schema


def ref(record: type[Struct]) -> Json:
    """Refer to the schema of a record in the document."""
    return {"$ref": f"#/components/schemas/{record.__name__}"}


def components() -> dict[str, Json]:
    """Make the schemas of all records, by name."""
    records = (
        *(NewCase, CaseChange, NewReview, Error, Page, Model, Answer, Cases, Receipt),
        *(Job, NewJob, Cells, CellWithAnswer, Reviews, Report),
    )
    _, schemas = msgspec.json.schema_components(records, ref_template="#/components/schemas/{name}")
    schemas["CaseChange"]["minProperties"] = 1  # what its __post_init__ checks
    return schemas


def _copy(record: type[Record], source: object, **more: Any) -> Record:
    """Make a record of the attributes of its fields' names, and of ``more``."""
    names = [name for name in record.__struct_fields__ if name not in more]
    return record(**{name: _plain(getattr(source, name)) for name in names}, **more)


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
