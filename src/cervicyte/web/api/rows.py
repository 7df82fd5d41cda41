"""What the domain gives, as the JSON of the API's schemas (`cervicyte.web.api.schemas`)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from cervicyte.bundle.folder import Bundle
from cervicyte.bundle.predictions import Prediction
from cervicyte.web.api.schemas import SCHEMAS
from cervicyte.web.base.schema import PredictionRow, User
from cervicyte.web.cases.answers import votes_of
from cervicyte.web.cases.cases import CaseSummary
from cervicyte.web.engine.one_picture import Answered
from cervicyte.web.reading import map_image
from cervicyte.web.reading.verdicts import Verdict
from cervicyte.web.reading.worklist import Cell
from cervicyte.web.reports.reports import View

Row = dict[str, Any]


def model(bundle: Bundle) -> Row:
    """The model that runs."""
    manifest, limits = bundle.manifest, bundle.manifest.limits.to_json()
    return {
        "name": manifest.name,
        "sha256": bundle.graph_sha256,
        "classes": list(bundle.classes),
        "bethesda": dict(manifest.bethesda),
        "members": list(bundle.members),
        "operating_point": limits["threshold"],
        "sensitivity": limits["sensitivity"],
        "normal_below": limits["normal_below"],
        "abnormal_from": limits["abnormal_from"],
        "has_map": map_image.has_map(bundle),
    }


def answer(found: Answered, bundle: Bundle) -> Row:
    """An answer that is not kept."""
    said: Prediction = found.prediction
    classes = bundle.classes
    votes = votes_of(said, classes)
    return {
        "sha256": found.sha256,
        "model_name": bundle.manifest.name,
        "model_sha256": bundle.graph_sha256,
        "label": said.label,
        "bethesda": said.bethesda or None,
        "p_abnormal": said.p_abnormal,
        "operating_point": bundle.manifest.limits.threshold,
        "flagged": said.above_operating_point,
        "uncertain": bool(said.uncertain),
        "quality": said.quality,
        "probabilities": dict(zip(classes, said.probabilities, strict=True)) if said.probabilities else None,
        "votes": votes,
        "disagreement": said.disagreement,
    }


def stored(row: PredictionRow) -> Row:
    """The answer to a cell of a case."""
    p, point = row.p_abnormal, row.operating_point
    same = ("model_name", "model_sha256", "label", "p_abnormal", "operating_point", "uncertain", "quality")
    return {name: getattr(row, name) for name in same} | {
        "bethesda": row.bethesda or None,
        "flagged": None if p is None or point is None else p >= point,
        "probabilities": row.probabilities,
        "votes": row.votes or [],
        "disagreement": row.disagreement,
        "created_at": _time(row.created_at),
        "morphology": row.morphology,
    }


def case(found: CaseSummary) -> Row:
    """A case with its counts."""
    return {name: _plain(getattr(found, name)) for name in SCHEMAS["Case"]["properties"]}


def cell(found: Cell, number: str) -> Row:
    """A cell of a case."""
    names = [name for name in SCHEMAS["Cell"]["properties"] if name != "case"]
    row = {name: _plain(getattr(found, name)) for name in names} | {"case": number}
    return row | {name: row[name] or None for name in ("label", "quality", "model_sha256")}


def job(found: CaseSummary, cells: str, problem: str) -> Row:
    """A case as the work on its pictures; ``cells`` is the address of the answers."""
    return {
        "id": found.number,
        "case": found.number,
        "cells": cells,
        "state": "waiting" if found.waiting else "done",
        "images": found.images,
        "done": found.done,
        "waiting": found.waiting,
        "failed": found.failed,
        "problem": problem if found.waiting and problem else None,
    }


def review(found: Verdict, user: User) -> Row:
    """A verdict that stands."""
    return {
        "id": found.id,
        "cell": found.image_id,
        "reader": found.reader,
        "mine": found.reader_id == user.id,
        "reading": found.reading,
        "verdict": found.verdict,
        "stored": found.stored,
        "agrees": found.agrees,
        "comment": found.comment,
        "created_at": _time(found.created_at),
    }


def report(found: View) -> Row:
    """A version of a report, or its draft."""
    return {
        "case": found.case.number,
        "version": found.version,
        "versions": [number for number, _, signed_at in found.versions if signed_at is not None],
        "made_at": _time(found.made_at),
        "signed_at": _time(found.signed_at) if found.signed_at else None,
        "signed_by": found.signed_by,
        "reason": found.reason,
        "sha256": found.sha256,
        "problem": found.problem,
        "changed": found.changed,
        "body": dict(found.body),
    }


def _plain(value: Any) -> Any:
    return _time(value) if isinstance(value, datetime) else value


def _time(value: datetime) -> str:
    return value.astimezone(UTC).isoformat()
