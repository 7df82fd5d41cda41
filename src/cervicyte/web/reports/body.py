"""What a case report says: everything that is shown, as plain JSON, from which page and PDF are both made.

The SHA-256 of its canonical form is what a signature is of.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cervicyte.base.versions import own_version
from cervicyte.bundle.predictions import UNSATISFACTORY
from cervicyte.web.base.schema import Case, Image, PredictionRow, User
from cervicyte.web.cases import latest
from cervicyte.web.reading import verdicts
from cervicyte.web.reading.categories import CATEGORIES
from cervicyte.web.reading.verdicts import Standing, Verdict

#: Version of the body's layout.
FORMAT = 1


def build(session: Session, user: User, case: Case) -> dict[str, Any]:
    """The body of a report on a case as it is now; `cervicyte.web.reports.reports` adds who signed what when.

    Cells come with the highest P(abnormal) first. A cell's verdict is that of
    `cervicyte.web.reading.verdicts.Standing.final`, of the verdicts that this user may see.
    """
    query = select(Image, PredictionRow).outerjoin(PredictionRow, latest.newest_prediction())
    rows = session.execute(query.where(Image.case_id == case.id)).all()
    standing = verdicts.standing(session, user, [image.id for image, _ in rows])
    cells = [_cell(image, prediction, standing.get(image.id, Standing())) for image, prediction in rows]
    cells.sort(key=lambda c: (c["p_abnormal"] is None, -(c["p_abnormal"] or 0.0), c["position"]))
    names = select(User.id, User.name).where(User.id.in_([case.owner_id, case.second_reader_id or ""]))
    people = dict(session.execute(names).all())
    states = Counter(c["state"] for c in cells)
    return {
        "format": FORMAT,
        "software": f"cervicyte {own_version()}",
        "case": {
            "number": case.number,
            "accession": case.accession,
            "notes": case.notes,
            "owner": people[case.owner_id],
            "second_reader": people[case.second_reader_id] if case.second_reader_id else None,
            "blinded": case.blinded,
            "created_at": case.created_at.isoformat(),
            "images": len(cells),
            "failed": states["failed"],
            "waiting": states["waiting"],
        },
        "models": _models([prediction for _, prediction in rows if prediction is not None]),
        "summary": _summary([c["verdict"] for c in cells if c["verdict"]]),
        "not_read": sum(c["first"] is None and c["second"] is None and c["state"] != "failed" for c in cells),
        "disputed": sum(c["disputed"] for c in cells),
        "cells": cells,
    }


def digest(body: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical form: sorted keys, no spaces, ASCII; 64 hexadecimal digits.

    >>> digest({"b": 1, "a": "x"}) == digest({"a": "x", "b": 1})
    True
    """
    text = json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def content(body: Mapping[str, Any]) -> list[tuple[Any, ...]]:
    """What people can change: words, pictures and verdicts; two bodies with the same say the same of the case."""
    words = (body["case"]["accession"], body["case"]["notes"])
    return [
        words,
        *sorted((c["image"], c["verdict"], c["disputed"], c["reader"], c["comment"]) for c in body["cells"]),
    ]


def _cell(image: Image, prediction: PredictionRow | None, standing: Standing) -> dict[str, Any]:
    final, p = standing.final, prediction
    flagged = None
    if p is not None and p.p_abnormal is not None and p.operating_point is not None:
        flagged = p.p_abnormal >= p.operating_point
    return {
        "image": image.id,
        "sha256": image.sha256,
        "name": image.name,
        "position": image.position,
        "width": image.width,
        "height": image.height,
        "state": image.state,
        "reason": image.reason,
        "model_sha256": p.model_sha256 if p else "",
        "label": p.label if p else "",
        "bethesda": (p.bethesda if p else "") or None,
        "p_abnormal": p.p_abnormal if p else None,
        "operating_point": p.operating_point if p else None,
        "flagged": flagged,
        "uncertain": bool(p and p.uncertain),
        "quality": p.quality if p else "",
        "verdict": final.verdict if final else None,
        "stored": final.stored if final else None,
        "agrees": final.agrees if final else None,
        "reading": final.reading if final else "",
        "reader": final.reader if final else "",
        "comment": final.comment if final else "",
        "decided_at": final.created_at.isoformat() if final else None,
        "disputed": standing.open,
        "first": _reading(standing.first),
        "second": _reading(standing.second),
    }


def _reading(verdict: Verdict | None) -> dict[str, Any] | None:
    if verdict is None:
        return None
    at = verdict.created_at.isoformat()
    return {"reader": verdict.reader, "verdict": verdict.verdict, "comment": verdict.comment, "at": at}


def _models(predictions: list[PredictionRow]) -> list[dict[str, Any]]:
    """The models that answered, with how many cells each; the one of most cells first."""
    counts = Counter(
        (p.model_name, p.model_sha256, p.operating_point, (p.limits or {}).get("sensitivity")) for p in predictions
    )
    return [
        {"name": name, "sha256": sha256, "operating_point": point, "sensitivity": sensitivity, "cells": n}
        for (name, sha256, point, sensitivity), n in counts.most_common()
    ]


def _summary(verdicts: list[str]) -> list[list[Any]]:
    """(verdict, cells), the most severe category first, then what is no category."""
    counts = Counter(verdicts)
    order = [row.code for row in reversed(CATEGORIES) if row.code != "AGC"]
    order.insert(1, "AGC")
    order += sorted(v for v in counts if v not in order and v != UNSATISFACTORY)
    return [[code, counts[code]] for code in (*order, UNSATISFACTORY) if counts[code]]
