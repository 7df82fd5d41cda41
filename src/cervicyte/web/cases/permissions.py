"""A case by its number or a picture of it, and what a user may do with it: who reads or changes one comes by here.

A case that a user may not see looks like one that does not exist, here and so everywhere.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import ColumnElement, or_, select, true
from sqlalchemy.orm import Session

from cervicyte.web.accounts.users import ACTIONS, CaseLike, may
from cervicyte.web.base.schema import Case, Image, User
from cervicyte.web.errors import DeniedError, NotFoundError

#: No number has these letters: they are taken for digits.
_READ_AS = str.maketrans("OIL", "011")
#: Actions that concern no single case.
_ANYWHERE = ("new", "dashboard", "see_all", "administer")


def find(session: Session, user: User | None, number: str, action: str = "see") -> Case:
    """A case by its number, for a user who may do the action with it.

    Raises
    ------
    NotFoundError : there is none, or the user may not see it
    DeniedError : the user sees it, and may not do this
    """
    return check(session.scalar(select(Case).where(Case.number == _normal(number))), user, action)


def hold(session: Session, user: User | None, number: str, action: str) -> Case:
    """The same for a change: the case stays as it is found until the transaction's end. Raises what `find` raises."""
    case = session.scalar(select(Case).where(Case.number == _normal(number)).with_for_update())
    return check(case, user, action)


def find_image(session: Session, user: User, image_id: str) -> tuple[Image, Case]:
    """A picture and its case, for a user who may see them.

    Raises
    ------
    NotFoundError : there is none, or the user may not see its case
    """
    return _check_image(session.execute(_picture(image_id)).one_or_none(), user, "see")


def hold_image(session: Session, user: User, image_id: str, action: str) -> tuple[Image, Case]:
    """The same for a change: the case stays as it is found until the transaction's end.

    Raises
    ------
    NotFoundError : as `find_image`
    DeniedError : the user sees it, and may not do this
    """
    return _check_image(session.execute(_picture(image_id).with_for_update(of=Case)).one_or_none(), user, action)


def check(case: Case | None, user: User | None, action: str) -> Case:
    """The same for a case that was read otherwise. Raises what `find` raises."""
    if case is None or not may(user, "see", case):
        raise NotFoundError("there is no such case", None, "look it up in the list of cases")
    if not may(user, action, case):
        if case.state == "signed":
            raise DeniedError("the case is signed and no longer changes", None, "amend its report")
        raise DeniedError("you may not do this with this case", None, "ask its reader or a reviewer")
    return case


def rights(user: User | None, case: CaseLike | None = None) -> frozenset[str]:
    """All that a user may do, and with a case, if one is given."""
    return frozenset(
        action
        for action in ACTIONS
        if (action in _ANYWHERE and may(user, action))
        or (action not in _ANYWHERE and case is not None and may(user, action, case))
    )


def reading_of(user: User, case: CaseLike) -> str:
    """Which reading this user's verdicts are: "second" for the assigned second reader, else "first"."""
    return "second" if case.second_reader_id == user.id else "first"


def visible_to(user: User) -> ColumnElement[bool]:
    """The condition that `Case` may be seen by a user, for lists; the same as ``may(user, "see", case)``."""
    if may(user, "see_all"):
        return true()
    return or_(Case.owner_id == user.id, Case.second_reader_id == user.id)


def _picture(image_id: str) -> Any:
    pair = select(Image, Case).join(Case, Case.id == Image.case_id)
    return pair.where(Image.id == image_id[:32].replace("\x00", ""))


def _check_image(row: Any, user: User, action: str) -> tuple[Image, Case]:
    try:
        case = check(row and row[1], user, action)
    except NotFoundError:  # one that may not be seen looks like one that is not there
        raise NotFoundError("there is no such picture", None, "look it up in its case") from None
    return row[0], case


def _normal(number: str) -> str:
    """A number as people type it."""
    return number[:40].replace("\x00", "").strip().upper().translate(_READ_AS)
