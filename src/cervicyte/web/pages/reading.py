"""Reading: one cell, what the model says and why, and the reader's verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from flask import Blueprint, Response, request, url_for

from cervicyte.web.base.schema import PredictionRow
from cervicyte.web.cases import blinding, cases, permissions
from cervicyte.web.cases.cases import CaseSummary
from cervicyte.web.errors import AddressNotFoundError, InvalidFieldError
from cervicyte.web.middleware import current
from cervicyte.web.middleware.responses import picture
from cervicyte.web.pages.common import at, go, page, tell, values, wrong
from cervicyte.web.reading import heat_maps, measurements, verdicts, worklist
from cervicyte.web.reading.worklist import Step

blueprint = Blueprint("reading", __name__)
#: Cells before and after this one in the strip.
_BESIDE = 12
#: Keys of the model's classes, in their order; reading.js and the other buttons have the other letters.
_KEYS = "qwertyiopdfg"


@at(blueprint)
def show(number: str, image_id: str) -> Any:
    """One cell."""
    return _show(number, image_id)


@at(blueprint)
def decide(number: str, image_id: str) -> Any:
    """Keep a verdict and go on to the next cell that has none."""
    site, user, form = current.site(), current.user(), request.form
    worklist.one(site, user, number, image_id)  # of this case
    try:
        verdicts.decide(site, user, image_id, form.get("verdict", ""), form.get("comment", ""))
    except InvalidFieldError as error:
        errors, status = wrong(error)
        return _show(number, image_id, status, errors=errors, values=values())
    following = worklist.next_undecided(worklist.order(site, user, number), image_id)
    if following is None:
        return go("cases.show", number=number)
    return go("reading.show", number=number, image_id=following)


@at(blueprint)
def undo(number: str) -> Any:
    """Take back the newest verdict."""
    image_id = verdicts.undo(current.site(), current.user(), number)
    if image_id is None:
        tell("told", "There is nothing to take back.")
        return go("cases.show", number=number)
    return go("reading.show", number=number, image_id=image_id)


@at(blueprint)
def map(image_id: str) -> Response:
    """Where the model sees what speaks for its answer and against it."""
    site, user = current.site(), current.user()
    drawn = heat_maps.overlay(site, user, current.running().predictor, image_id)
    if drawn is None:
        raise AddressNotFoundError("there is no map of this picture")
    return picture(drawn)


def _show(number: str, image_id: str, status: int = 200, **more: Any) -> Any:
    site, user = current.site(), current.user()
    case = cases.get(site, user, number)
    cell = worklist.one(site, user, number, image_id)
    steps = worklist.order(site, user, number)
    ids = [step.image_id for step in steps]
    place = ids.index(cell.id)
    readable = [step for step in steps if step.state != "failed"]
    with site.database.read() as session:
        row = permissions.find(session, user, number)
        own = verdicts.own(session, user, cell.id)
        others = verdicts.others(session, user, row, cell.id)
        can_undo = verdicts.can_undo(session, user, row)
        closed = verdicts.is_closed(session, user, row, own)
        for_others = blinding.is_for_others(session, user, row)
    prediction = worklist.prediction(site, user, cell.id)
    following = worklist.next_undecided(steps, cell.id)
    return page(
        "reading.html",
        status,
        case=case,
        cell=replace(cell, position=place + 1),  # in the order of reading, as the strip has it
        total=len(steps),
        decided=sum(step.verdict is not None for step in readable),
        readable=len(readable),
        previous_url=_address(case, ids[place - 1]) if place else None,
        next_url=_address(case, ids[place + 1]) if place + 1 < len(ids) else None,
        open_url=_address(case, following) if following else None,
        strip=_strip(case, steps, place),
        image_url=url_for("cases.image", image_id=cell.id),
        map_url=_map_url(prediction) if prediction else None,
        map_target=heat_maps.target(prediction) if prediction else "",
        next_image=_next_image(steps, place),
        prediction=_prediction(prediction) if prediction else None,
        classes=_classes(prediction),
        morphology=measurements.groups(prediction.morphology if prediction else None),
        review=own,
        can_undo=can_undo,
        others=others,
        reading=permissions.reading_of(user, case),
        hide_model=case.hides_model,
        closed=closed,
        for_others=for_others,
        may=_rights(case) - ({"decide"} if for_others else frozenset()),
        **more,
    )


def _rights(case: CaseSummary) -> frozenset[str]:
    """The second reader decides too; which reading that is, the domain knows."""
    rights = permissions.rights(current.user(), case)
    return (
        rights | {"decide"}
        if "second" in rights and permissions.reading_of(current.user(), case) == "second"
        else rights
    )


def _address(case: CaseSummary, image_id: str) -> str:
    return url_for("reading.show", number=case.number, image_id=image_id)


def _strip(case: CaseSummary, steps: Sequence[Step], place: int) -> list[tuple[dict[str, Any], str, bool]]:
    start = max(0, place - _BESIDE)
    strip = []
    for i, step in enumerate(steps[start : place + _BESIDE + 1], start):
        if step.state != "failed" or i == place:
            cell = {"id": step.image_id, "name": "", "position": i + 1, "verdict": step.verdict}
            strip.append((cell, _address(case, step.image_id), i == place))
    return strip


def _next_image(steps: Sequence[Step], place: int) -> str | None:
    following = steps[place + 1] if place + 1 < len(steps) else None
    if following is None or following.state == "failed":
        return None
    return url_for("cases.image", image_id=following.image_id)


def _map_url(row: PredictionRow) -> str | None:
    predictor = current.running().predictor
    if predictor is None or not heat_maps.explains(predictor, row):
        return None
    return url_for("reading.map", image_id=row.image_id, model=row.model_sha256[:12])


def _classes(row: PredictionRow | None) -> list[tuple[str, str]]:
    """The model's own classes as verdicts, each with its key; one without where there are more than letters."""
    others = (*verdicts.choices(None), verdicts.AGREE)
    return [(name, _KEYS[i : i + 1]) for i, name in enumerate(c for c in verdicts.choices(row) if c not in others)]


def _prediction(row: PredictionRow) -> dict[str, Any]:
    limits, p = row.limits or {}, row.p_abnormal
    below = limits.get("normal_below")
    odds = sorted((row.probabilities or {}).items(), key=lambda pair: -pair[1])
    return {
        "model_name": row.model_name,
        "model_sha256": row.model_sha256,
        "label": row.label,
        "bethesda": row.bethesda or None,
        "p_abnormal": p,
        "flagged": None if p is None or row.operating_point is None else p >= row.operating_point,
        "operating_point": row.operating_point,
        "sensitivity": limits.get("sensitivity"),
        # Without a band, normal ends where abnormal begins.
        "normal_below": 0.0 if below is None else below,
        "abnormal_from": 0.0 if below is None else limits.get("abnormal_from"),
        "uncertain": row.uncertain,
        "quality": row.quality,
        "probabilities": odds,
        "votes": row.votes or [],
        "disagreement": row.disagreement,
    }
