"""What the API sends and takes, as JSON Schema (2020-12): the components of its document."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cervicyte.web.cases.cases import ACCESSION_LENGTH, NOTES_LENGTH
from cervicyte.web.reading.verdicts import COMMENT_LENGTH

Json = dict[str, Any]

#: How a case's number, a cell's id, a checksum look.
NUMBER: Json = {"type": "string", "description": "Number of a case.", "example": "7K2M9Q"}
CELL_ID: Json = {"type": "string", "description": "Id of a cell, 32 hexadecimal digits.", "example": "0" * 32}
_SHA256: Json = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_TEXT: Json = {"type": "string"}
_COUNT: Json = {"type": "integer", "minimum": 0}
_TRUTH: Json = {"type": "boolean"}
_TIME: Json = {"type": "string", "format": "date-time"}
_SHARE: Json = {"type": "number", "minimum": 0, "maximum": 1}
_SHARES: Json = {"type": "object", "additionalProperties": _SHARE}


def ref(name: str) -> Json:
    """A reference to a component."""
    return {"$ref": f"#/components/schemas/{name}"}


def _or_null(schema: Json, description: str = "") -> Json:
    found = {"type": [schema["type"], "null"]} | {k: v for k, v in schema.items() if k != "type"}
    return found | {"description": description} if description else found


def _said(schema: Json, description: str) -> Json:
    return schema | {"description": description}


def _list(schema: Json) -> Json:
    return {"type": "array", "items": schema}


def _object(properties: Json, description: str = "") -> Json:
    """An answer: all of its properties are always there."""
    found: Json = {"type": "object", "properties": properties, "required": list(properties)}
    return {"description": description} | found if description else found


def _taken(properties: Json, description: str, **more: Any) -> Json:
    """What is sent: nothing but what is named."""
    found = {"description": description, "type": "object", "properties": properties, "additionalProperties": False}
    return found | more


_CASE_FIELDS: Json = {
    "accession": {"type": "string", "maxLength": ACCESSION_LENGTH, "description": "Accession number; no names."},
    "notes": {"type": "string", "maxLength": NOTES_LENGTH, "description": "Notes; no names of patients."},
}
_ANSWER: Json = {
    "model_name": _TEXT,
    "model_sha256": _SHA256,
    "label": _said(_TEXT, "A class of the model, uncertain, or unsatisfactory for a picture that is refused."),
    "bethesda": _or_null(_TEXT, "Bethesda category of the label, where it has one."),
    "p_abnormal": _or_null(_SHARE, "Calibrated probability that the cell is abnormal, where that is defined."),
    "operating_point": _or_null(_SHARE),
    "flagged": _or_null(_TRUTH, "p_abnormal is at or above the operating point."),
    "uncertain": _said(_TRUTH, "The model does not answer; such a cell is never called normal."),
    "quality": _said(_TEXT, "good, not checked, or why the picture is refused."),
    "probabilities": _or_null(_SHARES, "Calibrated, by class."),
    "votes": _list(ref("Vote")),
    "disagreement": _or_null(_SHARE, "Of the votes: 0 where all share one opinion."),
}
_CELL: Json = {
    "id": CELL_ID,
    "case": NUMBER,
    "name": _said(_TEXT, "As it was sent."),
    "place": _said(_TEXT, "Archive and folders that it came in, or empty."),
    "position": _said(_COUNT, "From 1, in order of arrival."),
    "state": {"type": "string", "enum": ["waiting", "done", "failed"]},
    "reason": _said(_TEXT, "Why it failed, or empty."),
    "width": _COUNT,
    "height": _COUNT,
    "size": _said(_COUNT, "In bytes."),
    "sha256": _SHA256,
    "media_type": _TEXT,
    "created_at": _TIME,
    "model_sha256": _or_null(_SHA256),
    "label": _or_null(_TEXT, "Null without an answer, and for a blinded second reader."),
    "bethesda": _or_null(_TEXT),
    "p_abnormal": _or_null(_SHARE),
    "flagged": _or_null(_TRUTH),
    "uncertain": _TRUTH,
    "quality": _or_null(_TEXT),
    "verdict": _or_null(_TEXT, "The verdict of the token's owner."),
    "agrees": _or_null(_TRUTH),
}
_JOB: Json = {
    "id": _said(_TEXT, "The number of the job's case."),
    "case": NUMBER,
    "cells": _said(_TEXT, "Address of the answers."),
    "state": {"type": "string", "enum": ["waiting", "done"]},
    "images": _COUNT,
    "done": _COUNT,
    "waiting": _COUNT,
    "failed": _COUNT,
    "problem": _or_null(_TEXT, "Why nothing goes on, where it does not."),
}

SCHEMAS: Mapping[str, Json] = {
    "Error": _object(
        {
            "error": _object(
                {
                    "what": _said(_TEXT, "What was wrong."),
                    "received": _or_null(_TEXT, "What was received, where the request itself was wrong."),
                    "todo": _said(_TEXT, "What to do, or empty."),
                    "request_id": _said(_TEXT, "By which the server's log knows the request."),
                }
            )
        },
        "Every error, whatever its status.",
    ),
    "Page": _object(
        {"number": {"type": "integer", "minimum": 1}, "size": _COUNT, "pages": _COUNT, "total": _COUNT},
        "Where in a list one is. A page that is not there is answered with the nearest that is.",
    ),
    "Model": _object(
        {
            "name": _TEXT,
            "sha256": _SHA256,
            "classes": _list(_TEXT),
            "bethesda": _said({"type": "object", "additionalProperties": _TEXT}, "Category by class, if any."),
            "members": _said(_list(_TEXT), "Of an ensemble; empty for a single network."),
            "operating_point": _or_null(_SHARE),
            "sensitivity": _said(_SHARE, "That the operating point was set for."),
            "normal_below": _or_null(_SHARE, "From here to abnormal_from the model does not answer."),
            "abnormal_from": _or_null(_SHARE, "Null for never."),
            "has_map": _said(_TRUTH, "Its answers have heat maps."),
        }
    ),
    "Vote": _object(
        {"member": _TEXT, "label": _TEXT, "p_abnormal": _or_null(_SHARE), "probabilities": _SHARES},
        "What one member of an ensemble says.",
    ),
    "Answer": _object({"sha256": _said(_SHA256, "Of the picture.")} | _ANSWER, "What the model says of a picture."),
    "StoredAnswer": _object(
        _ANSWER
        | {
            "created_at": _TIME,
            "morphology": _or_null({"type": "object", "additionalProperties": {"type": "number"}}, "Measurements."),
        },
        "What the model said of a cell of a case.",
    ),
    "Case": _object(
        {"number": NUMBER}
        | {name: _TEXT for name in _CASE_FIELDS}
        | {
            "owner": _TEXT,
            "created_at": _TIME,
            "state": {"type": "string", "enum": ["open", "signed"]},
            "second_reader": _or_null(_TEXT),
            "blinded": _TRUTH,
            "images": _COUNT,
            "done": _COUNT,
            "waiting": _COUNT,
            "failed": _COUNT,
            "decided": _said(_COUNT, "With a verdict of the token's owner."),
            "abnormal": _or_null(_COUNT, "Null, as the next two, for a blinded second reader."),
            "uncertain": _or_null(_COUNT),
            "unsatisfactory": _or_null(_COUNT),
        }
    ),
    "Cases": _object({"cases": _list(ref("Case")), "page": ref("Page")}),
    "NewCase": _taken(_CASE_FIELDS, "A case to open."),
    "CaseChange": _taken(_CASE_FIELDS, "What is left out stays as it is.", minProperties=1),
    "Receipt": _object(
        {
            "accepted": _said(_COUNT, "Pictures that now belong to the case."),
            "passed_over": _said(_COUNT, "Folders, and files that systems leave in archives."),
            "refused": _list(_object({"name": _TEXT, "reason": _TEXT})),
        },
        "What became of the files of an upload.",
    ),
    "Job": _object(_JOB),
    "NewJob": _object(_JOB | {"receipt": ref("Receipt")}),
    "Cell": _object(_CELL),
    "Cells": _object({"cells": _list(ref("Cell")), "page": ref("Page")}),
    "CellWithAnswer": _object(_CELL | {"answer": {"oneOf": [ref("StoredAnswer"), {"type": "null"}]}}),
    "NewReview": _taken(
        {
            "verdict": {
                "type": "string",
                "minLength": 1,
                "maxLength": 100,
                "description": "A Bethesda category (NILM, ASC-US, ASC-H, LSIL, HSIL, SCC, AGC) or unsatisfactory; "
                "also agree, or a class of the model, but not from a blinded second reader.",
            },
            "comment": {"type": "string", "maxLength": COMMENT_LENGTH},
        },
        "A verdict.",
        required=["verdict"],
    ),
    "Review": _object(
        {
            "id": _COUNT,
            "cell": CELL_ID,
            "reader": _TEXT,
            "mine": _said(_TRUTH, "By the token's owner."),
            "reading": {"type": "string", "enum": ["first", "second", "settled"]},
            "verdict": _said(_TEXT, "As it counts: the category of a class that has one."),
            "stored": _said(_TEXT, "As it was given."),
            "agrees": _or_null(_TRUTH, "With the model's answer of that time, where it gave one."),
            "comment": _TEXT,
            "created_at": _TIME,
        }
    ),
    "Reviews": _object({"reviews": _list(ref("Review"))}, "The verdicts that stand and that this reader may see."),
    "Report": _object(
        {
            "case": NUMBER,
            "version": {"type": "integer", "minimum": 1},
            "versions": _said(_list({"type": "integer"}), "Signed ones."),
            "made_at": _TIME,
            "signed_at": _or_null(_TIME, "Null for a draft."),
            "signed_by": _said(_TEXT, "Empty for a draft."),
            "reason": _said(_TEXT, "Of an amendment, or empty."),
            "sha256": _said(_TEXT, "Of what was signed; empty for a draft."),
            "problem": _said(_TEXT, "Why this is not what was signed; empty where all is well."),
            "changed": _said(_TRUTH, "The case changed after the signature: its words, pictures or verdicts."),
            "body": {"type": "object", "description": "All that is reported, as it was signed."},
        },
        "A version of a case's report, or the draft where none is signed. Signing is done on the page, by a person.",
    ),
}
