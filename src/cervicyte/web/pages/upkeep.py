"""For administrators: backups, retention, what waits, the disk; a part of `cervicyte.web.pages.admin`."""

from __future__ import annotations

import platform
from typing import Any

from flask import request
from werkzeug.wrappers import Response

from cervicyte.base.versions import own_version
from cervicyte.errors import CervicyteError
from cervicyte.web.cases import intake
from cervicyte.web.engine.workers import backlog
from cervicyte.web.middleware import current
from cervicyte.web.operations import backup as backups, retention as domain
from cervicyte.web.pages.admin import blueprint
from cervicyte.web.pages.common import at, go, page, tell, values, wrong

__all__ = ["blueprint"]


@at(blueprint)
def upkeep() -> Any:
    """The page."""
    return _page()


@at(blueprint)
def retention() -> Any:
    """Set how long signed cases are kept, and delete what is then due if that is confirmed."""
    site, user, form = current.site(), current.user(), request.form
    days = form.get("days", "")
    if not days.isascii() or not days.isdigit() or len(days) > 6:
        return _page(422, errors={"days": "Write a whole number of days; 0 keeps all."}, values=values())
    with site.database.read() as session:
        due = domain.due(session, site.clock(), int(days))
    if due and form.get("confirm") != "1":
        cases = "1 case would be deleted" if len(due) == 1 else f"{len(due)} cases would be deleted"
        return _page(422, errors={"confirm": f"{cases} now. Tick the box if that is meant."}, values=values())
    try:
        domain.set_retention(site, user, int(days))
        gone = domain.apply_retention(site, user.email)
    except CervicyteError as error:
        errors, status = wrong(error)
        return _page(status, errors=errors, values=values())
    tell("done", f"Saved. {gone} cases were deleted." if gone else "Saved.")
    return go("admin.upkeep")


@at(blueprint)
def backup() -> Response:
    """Make a backup."""
    made = backups.make(current.site(), current.user().email)
    tell("done", f"{made.name} was made.")
    return go("admin.upkeep")


@at(blueprint)
def retry() -> Response:
    """Let every picture wait again that could not be read."""
    count = intake.retry_all(current.site(), current.user())
    if (workers := current.running().workers) is not None:
        workers.wake()
    tell("told", f"{count} {'picture waits' if count == 1 else 'pictures wait'} for another attempt.")
    return go("admin.upkeep")


def _page(status: int = 200, **more: Any) -> Any:
    running = current.running()
    health = running.workers.health() if running.workers is not None else None
    waiting = backlog(running.site, health.working if health else 0)
    model = {"name": running.no_predictor.what if running.no_predictor else "none", "sha256": "", "classes": ()}
    if running.predictor is not None:
        bundle = running.predictor.bundle
        model = {"name": bundle.manifest.name, "sha256": bundle.graph_sha256, "classes": bundle.classes}
    return page(
        "admin_upkeep.html",
        status,
        **domain.overview(running.site),
        queue={
            "waiting": waiting.waiting,
            "failed": waiting.failed,
            "oldest_at": waiting.oldest_at,
            "working": bool(health and health.ok),
        },
        model=model,
        versions=[("cervicyte", own_version()), ("Python", platform.python_version())],
        **more,
    )
