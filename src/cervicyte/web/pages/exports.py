"""Exports: reviewed cells as a labelled data set, and all cells as a table."""

from __future__ import annotations

from flask import Blueprint, Response, request

from cervicyte.web.middleware import current
from cervicyte.web.middleware.responses import download
from cervicyte.web.pages.common import at
from cervicyte.web.reports import exports

blueprint = Blueprint("exports", __name__)


@at(blueprint)
def cells() -> Response:
    """The reviewed cells with a table of their verdicts, as `cervicyte train` reads them."""
    labels = request.args.get("labels", "")
    chosen = labels if labels in [name for name, _ in exports.LABELS] else exports.LABELS[0][0]
    return download(exports.reviewed_cells(current.site(), current.user(), chosen))


@at(blueprint)
def table() -> Response:
    """Every cell with what the model and the readers say."""
    return download(exports.all_table(current.site(), current.user()))
