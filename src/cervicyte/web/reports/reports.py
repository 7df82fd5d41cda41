"""Case reports: drafts, signatures, amendments. A signed version is never changed; an amendment is another one.

What was signed is kept as JSON with its SHA-256, which stands in the audit log too. Whenever a version is read it is
checked against both, and what does not fit is said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from cervicyte.web.base.schema import AuditRow, Case, Report, User
from cervicyte.web.base.site import Site
from cervicyte.web.cases import blinding, permissions
from cervicyte.web.cases.cases import clean_lines
from cervicyte.web.errors import DeniedError, InvalidFieldError, NotFoundError
from cervicyte.web.reports import body as report_body

#: Longest conclusion and reason, in characters.
CONCLUSION_LENGTH, REASON_LENGTH = 4000, 500

_SIGNED = "report.signed"

#: What a draft says of a blinded reading that is not complete: to one of its two readers, and to anyone else.
_OWN_ALONE = "The other reading is blinded until both readers have decided every cell: these are your verdicts alone."
_NOT_COMPLETE = "This case is read blinded: it can be signed when both readers have decided every cell."


@dataclass(frozen=True, kw_only=True)
class ReportCase:
    """The case as the report names it; for a signed one, as it was then."""

    number: str
    accession: str
    notes: str
    owner: str
    second_reader: str | None
    blinded: bool
    created_at: datetime
    images: int
    failed: int
    waiting: int


@dataclass(frozen=True, kw_only=True)
class ReportCell:
    """One cell of a report: the model's answer, and the verdict with its reader and comment."""

    id: str
    sha256: str
    name: str
    position: int
    state: str
    reason: str
    width: int
    height: int
    label: str
    bethesda: str | None
    p_abnormal: float | None
    flagged: bool | None
    uncertain: bool
    quality: str
    verdict: str | None
    agrees: bool | None
    reader: str
    comment: str
    disputed: bool


@dataclass(frozen=True, kw_only=True)
class View:
    """A report as it is shown.

    Attributes
    ----------
    version : its number, or of a draft the number that a signature would give it
    versions : (number, address, when it was signed) of all signed ones and of a draft that is shown
    made_at, signed_at : aware; signed_at is None for a draft
    model_name, model_sha256, operating_point, sensitivity : of the model that answered for most cells; all of them
        stand in ``models``
    sha256 : what was signed; empty for a draft
    state : hash of what a draft says now; a form posts it back, so that nobody signs what was not shown
    summary : (verdict, cells)
    not_read, disputed : cells without a verdict, and with two that differ
    problem : why this is not what was signed, in words; empty where all is well
    blinded : what a draft says of a blinded reading that is not complete; empty where there is none
    changed : the case's words, pictures or verdicts changed after the signature
    body : all of it, as it was signed
    """

    case: ReportCase
    version: int
    versions: tuple[tuple[int, str, datetime | None], ...]
    made_at: datetime
    models: tuple[Mapping[str, Any], ...]
    model_name: str
    model_sha256: str
    operating_point: float | None
    sensitivity: float | None
    signed_by: str
    signed_at: datetime | None
    reason: str
    sha256: str
    state: str
    summary: tuple[tuple[str, int], ...]
    conclusion: str
    cells: tuple[ReportCell, ...]
    not_read: int
    disputed: int
    problem: str
    blinded: str
    changed: bool
    software: str
    body: Mapping[str, Any]


def _no_link(version: int) -> str:
    return ""


def draft(session: Session, user: User, number: str, at: datetime, link: Callable[[int], str] = _no_link) -> View:
    """What a report on a case would say now; of a blinded reading that is not complete a reader gets the own verdicts.

    Raises
    ------
    NotFoundError, DeniedError : as `cervicyte.web.cases.permissions.find`; also
        denied to one who must not see the model's answers
    """
    case = _find(session, user, number)
    return _draft(session, user, case, at, link)


def view(
    session: Session,
    user: User,
    number: str,
    at: datetime,
    version: int | None = None,
    link: Callable[[int], str] = _no_link,
) -> View:
    """A signed version, the newest where none is named; where none is signed, the draft.

    One of the two readers of a blinded reading that is not complete gets the draft, and no signed version.

    Parameters
    ----------
    at : the time, for a draft
    link : the address of a version

    Raises
    ------
    NotFoundError, DeniedError : as `draft`; NotFound also for a version that is not there
    """
    case = _find(session, user, number)
    signed = _signed(session, case)
    alone = blinding.is_blind(session, user, case)
    if version is None and (alone or not signed):
        return _draft(session, user, case, at, link)
    if alone:
        raise _blind_error()
    row = signed.get(version if version is not None else max(signed))
    if row is None:
        raise NotFoundError("there is no such version of the report", None, "choose one from the list of versions")
    now = report_body.build(session, user, case)
    problem = _problem(session, case, row, set(signed))
    return _view(row, dict(row.body), now, problem, _versions(signed, link))


def sign(site: Site, user: User, number: str, conclusion: str, reason: str = "", seen: str = "") -> View:
    """Sign what the report says now as a new version; ask for the password first (`sessions.confirm_password`).

    Parameters
    ----------
    conclusion : the reviewer's words
    reason : why it is amended; wanted where a version is signed already
    seen : ``state`` of the draft that was shown, or empty to sign whatever there is now

    Raises
    ------
    NotFoundError, DeniedError : as `draft`, and for who may not sign
    InvalidFieldError : no conclusion or reason, no picture, one that waits for the model, a blinded reading that is not
        complete,
        two verdicts that differ, or another state than the one seen
    """
    conclusion = _text("conclusion", conclusion, CONCLUSION_LENGTH, "write what the cells together say")
    with site.database.write() as session:
        case = permissions.hold(session, user, number, "sign")
        if blinding.is_blind(session, user, case):
            raise _blind_error()
        at, signed = site.clock(), _signed(session, case)
        if signed:
            reason = _text("reason", reason, REASON_LENGTH, "say why the signed report is amended")
        body = report_body.build(session, user, case)
        if seen and seen != report_body.digest(body):
            raise InvalidFieldError("", "the case changed while the page was open", None, "look at it again, then sign")
        if not body["cells"]:
            raise InvalidFieldError("", "the case has no picture", None, "add one, or delete the case")
        if n := body["case"]["waiting"]:
            words = "a picture waits" if n == 1 else f"{n} pictures wait"
            raise InvalidFieldError("", f"{words} for the model", None, "sign when it has answered")
        if blinding.goes_on(session, case):
            todo = "let both readers decide every cell, or take the blinding away"
            raise InvalidFieldError("", "the blinded reading is not complete", None, todo)
        if body["disputed"]:
            n = body["disputed"]
            words = "a cell has" if n == 1 else f"{n} cells have"
            raise InvalidFieldError("", f"{words} two verdicts that differ", None, "settle them first")
        version = max(signed, default=0) + 1
        body |= {
            "version": version,
            "made_at": at.isoformat(),
            "signed_at": at.isoformat(),
            "signed_by": {"name": user.name, "email": user.email, "role": user.role},
            "conclusion": conclusion,
            "reason": reason if signed else "",
        }
        first: Mapping[str, Any] = body["models"][0] if body["models"] else {}
        row = Report(
            case_id=case.id,
            version=version,
            model_sha256=first.get("sha256", ""),
            operating_point=first.get("operating_point"),
            body=body,
            sha256=report_body.digest(body),
            signed_by=user.id,
            signed_at=at,
            reason=body["reason"],
        )
        session.add(row)
        case.state = "signed"
        session.flush()
        detail = {"report": row.id, "version": version, "sha256": row.sha256, "model": row.model_sha256}
        site.audit_log.append(session, user.email, _SIGNED, case.number, detail, at)
        return _view(row, body, body, "", _versions(signed | {version: row}, _no_link))


def reopen(site: Site, user: User, number: str, reason: str) -> None:
    """Let the verdicts of a signed case be changed again; its signed report stays, and an amendment follows.

    Raises
    ------
    NotFoundError, DeniedError : as `draft`, and for who may not sign
    InvalidFieldError : no reason, or the case is open
    """
    reason = _text("reason", reason, REASON_LENGTH, "say why the case is opened again")
    with site.database.write() as session:
        case = permissions.hold(session, user, number, "sign")
        if case.state != "signed":
            raise InvalidFieldError("reason", "the case is open already", None, "load the page again")
        case.state = "open"
        site.audit_log.append(session, user.email, "case.reopened", case.number, {"reason": reason}, site.clock())


def note_export(site: Site, user: User, view: View) -> None:
    """Write into the audit log that a version, or the draft, left as a document."""
    detail = {"version": view.version, "signed": view.signed_at is not None, "sha256": view.sha256}
    with site.database.write() as session:
        site.audit_log.append(session, user.email, "export.report", view.case.number, detail, site.clock())


# ---- inside


def _find(session: Session, user: User, number: str) -> Case:
    case = permissions.find(session, user, number, "report")
    if blinding.is_model_hidden(session, user, case):
        raise _blind_error()
    return case


def _blind_error() -> DeniedError:
    return DeniedError("you read this case blinded", None, "look again when both readers have decided every cell")


def _signed(session: Session, case: Case) -> dict[int, Report]:
    rows = session.scalars(select(Report).where(Report.case_id == case.id).order_by(Report.version))
    return {row.version: row for row in rows}


def _problem(session: Session, case: Case, row: Report, versions: set[int]) -> str:
    """Why a stored report is not what was signed; empty where it is."""
    body: Mapping[str, Any] = row.body
    if report_body.digest(body) != row.sha256:
        return "the stored report is not what was signed: its checksum differs"
    columns = (row.version, row.signed_at, row.reason, case.number)
    signed = (body["version"], datetime.fromisoformat(body["signed_at"]), body["reason"], body["case"]["number"])
    if columns != signed:
        return "the stored report is not what was signed: it was moved to another place or time"
    query = select(AuditRow.detail).where(AuditRow.action == _SIGNED, AuditRow.subject == case.number)
    noted = {
        d["version"]: d["sha256"]
        for d in session.scalars(query)
        if d.get("report") == row.id or d.get("version") != row.version
    }
    if noted.get(row.version) != row.sha256:
        return "the stored report is not what was signed: the audit log does not know its checksum"
    missing = sorted(v for v in range(1, max([*noted, *versions]) + 1) if v not in versions)
    return f"version {missing[0]} of this report is missing" if missing else ""


def _draft(session: Session, user: User, case: Case, at: datetime, link: Callable[[int], str]) -> View:
    body = report_body.build(session, user, case)
    signed = _signed(session, case)
    state = report_body.digest(body)
    number = max(signed, default=0) + 1
    alone = blinding.is_blind(session, user, case)
    known = {} if alone else signed
    last = dict(known[number - 1].body) if known else {}
    body |= {
        "version": number,
        "made_at": at.astimezone(UTC).isoformat(),
        "conclusion": last.get("conclusion", ""),
        "reason": "",
        "blinded": _OWN_ALONE if alone else _NOT_COMPLETE if blinding.goes_on(session, case) else "",
    }
    return _view(None, body, body, "", (*_versions(known, link), (number, link(number), None)), state)


def _view(
    row: Report | None,
    body: dict[str, Any],
    now: Mapping[str, Any],
    problem: str,
    versions: tuple[tuple[int, str, datetime | None], ...],
    state: str = "",
) -> View:
    model: Mapping[str, Any] = body["models"][0] if body["models"] else {}
    case = body["case"]
    return View(
        case=ReportCase(**case | {"created_at": datetime.fromisoformat(case["created_at"])}),
        version=body["version"],
        versions=versions,
        made_at=datetime.fromisoformat(body["made_at"]),
        models=tuple(body["models"]),
        model_name=model.get("name", ""),
        model_sha256=model.get("sha256", ""),
        operating_point=model.get("operating_point"),
        sensitivity=model.get("sensitivity"),
        signed_by=body["signed_by"]["name"] if row else "",
        signed_at=row.signed_at if row else None,
        reason=body["reason"],
        sha256=row.sha256 if row else "",
        state=state or report_body.digest(_unsigned(now)),
        summary=tuple((code, n) for code, n in body["summary"]),
        conclusion=body["conclusion"],
        cells=tuple(_cell(c) for c in body["cells"]),
        not_read=body["not_read"],
        disputed=body["disputed"],
        problem=problem,
        blinded=body.get("blinded", ""),
        changed=row is not None and report_body.content(body) != report_body.content(now),
        software=body["software"],
        body=body,
    )


def _unsigned(body: Mapping[str, Any]) -> dict[str, Any]:
    """A body without what a signature adds to it."""
    added = ("version", "made_at", "signed_at", "signed_by", "conclusion", "reason")
    return {key: value for key, value in body.items() if key not in added}


def _cell(value: Mapping[str, Any]) -> ReportCell:
    names = [name for name in ReportCell.__dataclass_fields__ if name != "id"]
    return ReportCell(id=value["image"], **{name: value[name] for name in names})


def _versions(signed: Mapping[int, Report], link: Callable[[int], str]) -> tuple[tuple[int, str, datetime | None], ...]:
    return tuple((version, link(version), row.signed_at) for version, row in signed.items())


def _text(field: str, text: str, most: int, todo: str) -> str:
    clean = clean_lines(text)
    if not clean:
        raise InvalidFieldError(field, f"the {field} is empty", None, todo)
    if len(clean) > most:
        raise InvalidFieldError(
            field, f"the {field} is too long", f"{len(clean)} characters", f"at most {most} characters"
        )
    return clean
