"""The dashboard: how much, how well agreed, and whether the model still sees what it was made for."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, request, url_for

from cervicyte.web.accounts import users
from cervicyte.web.errors import AddressNotFoundError
from cervicyte.web.middleware import current
from cervicyte.web.pages.common import at, page
from cervicyte.web.reports import dashboard

blueprint = Blueprint("dashboard", __name__)


@at(blueprint)
def index() -> Any:
    """The page; to readers it does not exist."""
    site, user = current.site(), current.user()
    if not users.may(user, "dashboard"):
        raise AddressNotFoundError
    asked = request.args.get("days", "")
    days = next((n for n in dashboard.PERIODS if str(n) == asked), 30)
    with site.database.read() as session:
        overview = dashboard.overview(session, user, days, site.clock())
    periods = [(n, url_for("dashboard.index", days=n)) for n in dashboard.PERIODS]
    return page("dashboard.html", **overview | {"periods": periods, "days": days})
