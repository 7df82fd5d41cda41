"""Who reads a case second."""

from __future__ import annotations

from sqlalchemy import select

from cervicyte.web.base.schema import User
from cervicyte.web.base.site import Site
from cervicyte.web.cases import blinding
from cervicyte.web.cases.permissions import find, hold
from cervicyte.web.errors import InvalidFieldError


def candidates(site: Site, user: User, number: str) -> list[tuple[str, str]]:
    """Who can be the second reader of a case: (id, name) of everyone active but the owner. Raises as `access.find`."""
    with site.database.read() as session:
        case = find(session, user, number, "assign")
        people = select(User.id, User.name).where(User.active.is_(True), User.id != case.owner_id)
        return [(user_id, name) for user_id, name in session.execute(people.order_by(User.name, User.id))]


def assign(site: Site, user: User, number: str, second_reader_id: str, blinded: bool) -> None:
    """Give a case a second reader, or none where the id is empty.

    Raises
    ------
    NotFoundError, DeniedError : as `cervicyte.web.cases.permissions.find`
    InvalidFieldError : the second reader is nobody, disabled, the owner, or has read first; or a reading that
        began without
        blinding, or whose blinding was lifted, is to count as blinded
    """
    with site.database.write() as session:
        case = hold(session, user, number, "assign")
        reader = session.get(User, second_reader_id[:32].replace("\x00", "")) if second_reader_id else None
        if second_reader_id and (reader is None or not reader.active):
            raise InvalidFieldError("second_reader", "there is no such reader", None, "choose one from the list")
        if reader is not None and reader.id == case.owner_id:
            raise InvalidFieldError(
                "second_reader", "the second reader must be another than the first", None, "choose another"
            )
        is_new = reader is not None and reader.id != case.second_reader_id
        if is_new and blinding.has_read(session, case, "first", reader):
            raise InvalidFieldError(
                "second_reader", "this person has read the case as the first reader", None, "choose another"
            )
        if blinded and not case.blinded and blinding.has_read(session, case, "second"):
            raise InvalidFieldError(
                "second_reader", "cells were read a second time without blinding", None, "leave it so"
            )
        before = (case.second_reader_id, case.blinded)
        case.second_reader_id, case.blinded = reader.id if reader else None, blinded
        if before != (case.second_reader_id, case.blinded):
            detail = {"second_reader": reader.email if reader else "", "blinded": blinded}
            site.audit_log.append(session, user.email, "case.assigned", case.number, detail, site.clock())
            blinding.note_completion(session, site, user.email, case)  # who comes back may have decided all
