"""What all pages do alike: rendering with what `cervicyte.web.pages` promises, lists in pages, errors beside fields."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from werkzeug.wrappers import Response

from cervicyte.errors import CervicyteError
from cervicyte.web.middleware.problems import describe, sentence
from cervicyte.web.pages import ROUTES
from cervicyte.web.paging import Listing, place

#: Rows of a list on one page.
ROWS = 50
#: Fields of forms that are never sent back.
_SECRET = frozenset(("password", "again", "current", "off-password", "token-password", "code", "csrf"))
#: Which field an error is about, by a word in it.
_FIELDS = (
    ("password", "password"),
    ("code", "code"),
    ("e-mail", "email"),
    ("address", "email"),
    ("name", "name"),
    ("reason", "reason"),
)

View = Callable[..., Any]


@dataclass(frozen=True)
class Page:
    """Where one is in a list, as ``_macros.html`` shows it; ``start`` is the first row's offset."""

    number: int
    pages: int
    total: int
    previous: str | None
    next: str | None
    start: int


def at(blueprint: Blueprint, name: str = "") -> Callable[[View], View]:
    """Make a function the view of its endpoint, at the address and for the methods that `ROUTES` names.

    The endpoint has the function's name, unless another is given.
    """

    def register(view: View) -> View:
        last = name or view.__name__
        route = next(route for route in ROUTES if route.endpoint == f"{blueprint.name}.{last}")
        blueprint.add_url_rule(route.rule, last, view, methods=route.methods.split())
        return view

    return register


def page(template: str, status: int = 200, **context: Any) -> tuple[str, int]:
    """A page, with what was sent and nothing wrong unless the context says otherwise."""
    return render_template(template, **{"errors": {}, "values": {}} | context), status


def wrong(error: CervicyteError, *fields: str) -> tuple[dict[str, str], int]:
    """What to say beside which of a form's fields, and the answer's status."""
    text = error.what.lower()
    field = getattr(error, "field", None)
    if field is None:
        field = next((field for word, field in _FIELDS if word in text and field in fields), "")
    return {field: sentence(error)}, describe(error).status if describe(error).status in (429, 503) else 422


def values() -> dict[str, str]:
    """What was sent, to be shown again; passwords and codes are not."""
    return {name: value for name, value in request.form.items() if name not in _SECRET}


def same_twice(name: str = "password") -> dict[str, str]:
    """What is wrong where the password that was to be typed twice was not."""
    if request.form.get(name, "") == request.form.get("again", ""):
        return {}
    return {"again": "The two passwords are not the same."}


def go(endpoint: str, **arguments: Any) -> Response:
    """To another page, after something was done."""
    return redirect(url_for(endpoint, **arguments), 303)


def tell(kind: str, text: str) -> None:
    """Say something on the next page that is shown; kind is done, told, warned or wrong."""
    flash(text[:500], kind)


def asked_page() -> int:
    """The page of a list that the address asks for, from 1."""
    text = request.args.get("page", "1")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 1


def paged(total: int, rows: int = ROWS) -> Page:
    """The page that is asked for of a list with so many rows; its neighbours keep the address's filters."""
    number, pages = place(asked_page(), total, rows)
    return _page(number, pages, total, rows)


def page_of(listing: Listing[Any], rows: int = ROWS) -> Page:
    """The same for a list that is cut into pages already."""
    return _page(listing.number, listing.pages, listing.total, rows)


def _page(number: int, pages: int, total: int, rows: int) -> Page:
    previous = address(page=number - 1) if number > 1 else None
    following = address(page=number + 1) if number < pages else None
    return Page(number, pages, total, previous, following, (number - 1) * rows)


def address(**changes: Any) -> str:
    """This page's address with its filters, and these changes of them."""
    assert request.endpoint is not None
    arguments: Mapping[str, Any] = request.args.to_dict() | (request.view_args or {}) | changes
    return url_for(request.endpoint, **{k: v for k, v in arguments.items() if v not in ("", None)})


def filters(*names: str) -> dict[str, str]:
    """Filters of a list, as the address has them; each is there, be it empty."""
    return {name: request.args.get(name, "").replace("\x00", "").strip()[:200] for name in names}


def day_range(since: str, until: str) -> tuple[datetime | None, datetime | None]:
    """Two days of a filter as moments: from the beginning of one to the end of the other; what is no day is none."""
    return _midnight(since), _midnight(until, 1)


def day(text: str) -> date | None:
    """A day that was typed, or None."""
    with contextlib.suppress(ValueError):
        return date.fromisoformat(text)
    return None


def _midnight(text: str, later: int = 0) -> datetime | None:
    date = day(text)
    if date is None or not 1 < date.year < 9999:
        return None
    return datetime.combine(date + timedelta(days=later), time(), UTC)
