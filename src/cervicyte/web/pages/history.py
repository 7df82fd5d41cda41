"""History: what was decided, by whom and when; and what may be taken along of it."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from flask import Blueprint, url_for

from cervicyte.web.middleware import current
from cervicyte.web.pages.common import asked_page, at, filters, page, page_of
from cervicyte.web.reports import exports, history
from cervicyte.web.reports.history import Event

blueprint = Blueprint("history", __name__)


@at(blueprint)
def index() -> Any:
    """The list."""
    user = current.user()
    chosen = filters("q", "reader", "verdict", "agreement", "since", "until")
    wanted = history.Filters.read(chosen)
    with current.site().database.read() as session:
        events = history.listing(session, user, wanted, asked_page())
        readers = history.readers(session, user)
    rows = [asdict(event) | {"address": _address(event)} for event in events.rows]
    return page(
        "history.html",
        rows=rows,
        page=page_of(events),
        filters=chosen,
        readers=readers,
        verdicts=history.VERDICTS,
        labels=exports.LABELS,
    )


def _address(event: Event) -> str:
    if event.kind == "verdict":
        return url_for("reading.show", number=event.case, image_id=event.image_id)
    if event.kind == "report":
        return url_for("reports.show", number=event.case, version=event.version)
    return url_for("cases.show", number=event.case)
