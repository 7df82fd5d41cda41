"""Exports: reviewed cells as a labelled data set, and all cells as a table."""

from __future__ import annotations

from flask import Blueprint, Response, request

from cervicyte.web import exports, visit
from cervicyte.web.pages.common import at
from cervicyte.web.responses import download

blueprint = Blueprint("exports", __name__)


@at(blueprint)
def cells() -> Response:
    """The reviewed cells with a table of their verdicts, as `cervicyte train` reads them."""
    labels = request.args.get("labels", "")
    chosen = labels if labels in [name for name, _ in exports.LABELS] else exports.LABELS[0][0]
    return download(exports.reviewed_cells(visit.site(), visit.user(), chosen))


@at(blueprint)
def table() -> Response:
    """Every cell with what the model and the readers say."""
    return download(exports.all_table(visit.site(), visit.user()))
