"""What is kept of the model's answer to a picture, written so that a picture either waits or has its whole answer."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import select, update

from cervicyte.bundle.folder import Bundle
from cervicyte.bundle.predictions import Prediction
from cervicyte.errors import CervicyteError
from cervicyte.features.extraction import odd_cells
from cervicyte.images import decoding
from cervicyte.web.base.database import change
from cervicyte.web.base.schema import Case, Image, PredictionRow
from cervicyte.web.base.site import Site
from cervicyte.web.cases import blinding

#: Who the audit log says predicted.
ACTOR = "system"

#: Longest reason that is kept, in characters.
_REASON = 500


@dataclass(frozen=True)
class Answer:
    """What becomes of a waiting picture.

    Attributes
    ----------
    image : its row, as it was read
    prediction : what the model says; None where it failed
    reason : why it failed, for people
    morphology : {measurement: value}; None where it could not be measured
    """

    image: Image
    prediction: Prediction | None = None
    reason: str = ""
    morphology: dict[str, float] | None = None


def measured(data: bytes) -> dict[str, float] | None:
    """The measurements of an encoded picture (`images.morphology`), None where it is none or nothing to measure."""
    from cervicyte.images import morphology

    try:
        with odd_cells("the picture"):
            values = morphology.measure(decoding.decode(data, "the picture"))
    except CervicyteError:
        return None
    return {name: round(float(value), 6) for name, value in zip(morphology.NAMES, values, strict=True)}


def store(site: Site, bundle: Bundle, answers: Sequence[Answer]) -> int:
    """Write answers and change their pictures' states in one transaction; how many pictures still waited for theirs.

    A picture whose case was deleted meanwhile, or that another process has answered, is left as it is.

    Raises
    ------
    StorageError : the database is busy or full; nothing was written
    """
    limits = bundle.manifest.limits
    at = site.clock()
    with site.database.write() as session:
        # A failure may complete a blinded reading, which is stored for the case: held first, as everywhere.
        failures = {answer.image.case_id for answer in answers if answer.prediction is None}
        held = select(Case.id).where(Case.id.in_(failures)).order_by(Case.id)
        session.execute(held.with_for_update(read=True, key_share=True))
        counted: dict[str, list[int]] = defaultdict(lambda: [0, 0])
        for answer in sorted(answers, key=lambda a: a.image.id):  # always in one order, so that no two wait in a ring
            failed = answer.prediction is None
            waits = update(Image).where(Image.id == answer.image.id, Image.state == "waiting")
            values = {"state": "failed" if failed else "done", "reason": answer.reason[:_REASON]}
            if not change(session, waits.values(values)):
                continue
            counted[answer.image.case_id][failed] += 1
            if answer.prediction is not None:
                session.add(
                    PredictionRow(
                        image_id=answer.image.id,
                        model_sha256=bundle.graph_sha256,
                        model_name=bundle.manifest.name[:100],
                        operating_point=limits.threshold,
                        limits=limits.to_json(),
                        created_at=at,
                        **_columns(answer.prediction, bundle.classes),
                        morphology=None if answer.prediction.refused else answer.morphology,
                    )
                )
        cases = session.scalars(select(Case).where(Case.id.in_(list(counted))).order_by(Case.id)).all()
        for case in cases:
            done, failed_ = counted[case.id]
            detail = {"answered": done, "failed": failed_, "model": bundle.graph_sha256}
            site.audit_log.append(session, ACTOR, "images.predicted", case.number, detail, at)
            if failed_:  # it may have been the last that a blinded reading waited for
                blinding.note_completion(session, site, ACTOR, case)
        return sum(map(sum, counted.values()))


def votes_of(prediction: Prediction, classes: Sequence[str]) -> list[dict[str, Any]]:
    """What each member says, as JSON keeps it."""
    return [
        {
            "member": vote.member,
            "label": vote.label,
            "p_abnormal": vote.p_abnormal,
            "probabilities": dict(zip(classes, vote.probabilities, strict=True)),
        }
        for vote in prediction.votes
    ]


def _columns(prediction: Prediction, classes: Sequence[str]) -> dict[str, Any]:
    votes = votes_of(prediction, classes)
    return {
        "label": prediction.label[:100],
        "bethesda": prediction.bethesda[:20],
        "p_abnormal": prediction.p_abnormal,
        "uncertain": bool(prediction.uncertain),
        "quality": prediction.quality[:100],
        "probabilities": dict(zip(classes, prediction.probabilities, strict=True))
        if prediction.probabilities
        else None,
        "votes": votes or None,
        "disagreement": prediction.disagreement,
    }
