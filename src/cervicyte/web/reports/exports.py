"""What leaves the application: reviewed cells as a data set that `cervicyte train` reads, and tables of what is said.

A data set is a ZIP: the pictures as they came, ``cells.csv`` with path, label and group (the case's number, so that
cells of one specimen are never on both sides of a split), and ``notes.txt`` on what was left out. Unpacked, it is read
by ``cervicyte train FOLDER``; pictures lie beside the table, since a folder of them would be taken for a class.

The label of a cell is the verdict that its report would give: the settled one where two readers differed; what both
say where they agree; else that of the one who read it. What two readers differ on is left out until it is settled, as
are unsatisfactory pictures. Nothing is left out in silence: ``notes.txt`` counts it, by reason.

Whoever reads a case blinded gets of its verdicts the own ones alone until that reading is complete, and is told so; a
second reader, who must not see the model's answers, gets nothing of the case.
"""

from __future__ import annotations

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from sqlalchemy import ColumnElement, exists, not_, select
from sqlalchemy.orm import Session

from cervicyte.bundle.predictions import UNSATISFACTORY
from cervicyte.errors import CervicyteError, UsageError
from cervicyte.web.accounts.users import may
from cervicyte.web.base.schema import Case, Image, PredictionRow, User, VerdictRow
from cervicyte.web.base.site import Site
from cervicyte.web.cases import blinding, latest
from cervicyte.web.cases.permissions import find
from cervicyte.web.errors import DeniedError
from cervicyte.web.reading.categories import find_category
from cervicyte.web.reading.verdicts import Standing, Verdict, standing
from cervicyte.web.reports.spreadsheet import CSV_TYPE, Download, csv_bytes

#: What a data set's labels may be: (value, words).
LABELS = (("bethesda", "Bethesda categories"), ("classes", "classes of the model"))

#: Pictures whose rows are read at a time.
_AT_ONCE = 500

_ENDINGS = {
    "image/bmp": ".bmp",
    "image/png": ".png",
    "image/jpeg": ".jpg",
    "image/tiff": ".tif",
    "image/webp": ".webp",
}
#: Media types whose bytes are packed already.
_PACKED = ("image/png", "image/jpeg", "image/webp")

_DATA_SET = ("path", "label", "group", "name", "sha256", "settled", "reader", "decided_at", "model_label", "p_abnormal")
_TABLE = (
    *("case", "accession", "cell", "name", "place", "sha256", "uploaded_at", "state", "reason"),
    *("model", "model_sha256", "label", "bethesda", "p_abnormal", "operating_point", "uncertain", "quality"),
    *(
        f"{reading}_{what}"
        for reading in ("first", "second", "settled")
        for what in ("verdict", "reader", "at", "comment")
    ),
    *("agrees", "final_verdict", "blinded"),
)
#: What a table says of a cell whose other reading is not to be seen yet.
_BLINDED = "the other reading is blinded until it is complete"


@dataclass(frozen=True, kw_only=True)
class _Labelled:
    """A row of the data set: its picture, its label and who gave it."""

    image: Image
    number: str
    label: str
    verdict: Verdict
    prediction: PredictionRow | None
    blind: bool

    @property
    def path(self) -> str:
        ending = _ENDINGS.get(self.image.media_type, "")
        return f"{self.number}-{self.image.position:05d}{ending}"


@dataclass
class _Chosen:
    """What goes into a data set, and how many were left out for each reason."""

    rows: list[_Labelled] = field(default_factory=list)
    left_out: Counter[str] = field(default_factory=Counter)


def reviewed_cells(site: Site, user: User, labels: str = "bethesda", number: str = "") -> Download:
    """The reviewed cells of all cases that a user may export, or of one, as a ZIP; one picture is in memory at a time.

    The same picture in several cases is exported once, and not at all where its verdicts differ: a training set must
    not contradict itself, nor have a picture on both sides of a split.

    Parameters
    ----------
    labels : one of `LABELS`. With classes of the model, a cell that was corrected to a category is left out, since
        nobody has said which class it is
    number : of a case; empty for all

    Raises
    ------
    NotFoundError, DeniedError : as `cervicyte.web.cases.permissions.find`
    UsageError : no such kind of labels, or there is no cell to export
    """
    if labels not in dict(LABELS):
        raise UsageError("no such kind of labels", repr(labels[:40]), f"use one of: {', '.join(dict(LABELS))}")
    with site.database.read() as session:
        chosen = _choose(session, user, _scope(session, user, number), labels)
    if not chosen.rows:
        raise UsageError("there is no reviewed cell to export", _counted(chosen.left_out) or None, "review some first")
    detail = {"labels": labels, "cells": len(chosen.rows), "left_out": dict(chosen.left_out)}
    _log(site, user, "export.cells", number, detail)
    name = f"cervicyte-cells-{site.clock():%Y%m%d-%H%M%S}.zip"
    return Download(name, "application/zip", _zip(site, chosen, labels))


def case_table(site: Site, user: User, number: str) -> Download:
    """All that is said of the cells of a case, as CSV.

    Raises
    ------
    NotFoundError, DeniedError : as `cervicyte.web.cases.permissions.find`; also to a blinded second reader
    """
    with site.database.read() as session:
        image_ids = _image_ids(session, _scope(session, user, number))
        number = find(session, user, number).number
    _log(site, user, "export.table", number, {"cells": len(image_ids)})
    return Download(f"cervicyte-{number}.csv", CSV_TYPE, _table(site, user, image_ids))


def all_table(site: Site, user: User) -> Download:
    """The same of all cases that a user may export."""
    with site.database.read() as session:
        image_ids = _image_ids(session, _scope(session, user, ""))
    _log(site, user, "export.table", "", {"cells": len(image_ids)})
    return Download(f"cervicyte-cells-{site.clock():%Y%m%d-%H%M%S}.csv", CSV_TYPE, _table(site, user, image_ids))


# ---- which


def _scope(session: Session, user: User, number: str) -> list[ColumnElement[bool]]:
    """Conditions on `Case`: what the user may export, and whose answers of the model are not hidden."""
    if number:
        case = find(session, user, number, "export")
        if blinding.is_model_hidden(session, user, case):
            raise DeniedError("you read this case blinded", None, "export it when both readers have decided every cell")
        return [Case.id == case.id]
    owned = [] if may(user, "see_all") else [Case.owner_id == user.id]
    return [not_(blinding.hides_model(user)), *owned]


def _image_ids(session: Session, scope: Sequence[ColumnElement[bool]]) -> list[str]:
    ids = select(Image.id).join(Case, Case.id == Image.case_id).where(*scope)
    return list(session.scalars(ids.order_by(Case.created_at, Case.id, Image.position)))


@dataclass(frozen=True, kw_only=True)
class _Read:
    """A picture with all that is said of it and that a user may see; ``blind``: the other reading is not among it."""

    image: Image
    case: Case
    prediction: PredictionRow | None
    blind: bool
    verdicts: Standing


def _read(session: Session, user: User, ids: Sequence[str]) -> list[_Read]:
    """Pictures with their cases, newest predictions and all verdicts that count, in the order of the ids."""
    of = session.scalars(select(Image.case_id).where(Image.id.in_(ids)).distinct()).all()
    query: Any = select(Image, Case, PredictionRow, blinding.blinds(user, of)).join(Case, Case.id == Image.case_id)
    rows = session.execute(query.outerjoin(PredictionRow, latest.newest_prediction()).where(Image.id.in_(ids)))
    verdicts = standing(session, user, ids)
    cells = {
        image.id: _Read(
            image=image, case=case, prediction=prediction, blind=blind, verdicts=verdicts.get(image.id, Standing())
        )
        for image, case, prediction, blind in rows
    }
    return [cells[i] for i in ids if i in cells]


def _choose(session: Session, user: User, scope: Sequence[ColumnElement[bool]], labels: str) -> _Chosen:
    chosen = _Chosen()
    read = exists().where(VerdictRow.image_id == Image.id, blinding.may_see(user))
    ids = iter(_image_ids(session, [*scope, read]))
    by_picture: dict[str, list[_Labelled]] = {}
    while some := list(islice(ids, _AT_ONCE)):
        for cell in _read(session, user, some):
            label, why = _label(cell.prediction, cell.verdicts, labels)
            if why:
                chosen.left_out[why] += 1
                continue
            assert cell.verdicts.final is not None
            row = _Labelled(
                image=cell.image,
                number=cell.case.number,
                label=label,
                verdict=cell.verdicts.final,
                prediction=cell.prediction,
                blind=cell.blind,
            )
            by_picture.setdefault(cell.image.sha256, []).append(row)
    for rows in by_picture.values():
        if len({row.label for row in rows}) > 1:
            chosen.left_out["the same picture has different verdicts in several places"] += len(rows)
        else:
            chosen.rows.append(rows[0])
            if len(rows) > 1:
                chosen.left_out["the same picture is there already"] += len(rows) - 1
    return chosen


def _label(prediction: PredictionRow | None, verdicts: Standing, labels: str) -> tuple[str, str]:
    """A cell's label, or why it has none."""
    final = verdicts.final
    if final is None:
        return "", "two readers differ, and it is not settled" if verdicts.open else "there is no verdict any more"
    if final.verdict == UNSATISFACTORY:
        return "", "the reader calls it unsatisfactory"
    if labels == "bethesda":
        category = find_category(final.verdict)
        return (category.code, "") if category else ("", "the verdict is a class without a Bethesda category")
    classes = (prediction.probabilities if prediction else None) or {}
    if final.stored in classes:
        return final.stored, ""
    return "", "the verdict is a category, or a class that the newest model does not have"


# ---- written


class _Sink:
    """A stream that only takes, for `zipfile`; what it took since last asked is given by `taken`."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def write(self, data: bytes) -> int:
        self._parts.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing waits."""

    def taken(self) -> bytes:
        data, self._parts = b"".join(self._parts), []
        return data


def _zip(site: Site, chosen: _Chosen, labels: str) -> Iterator[bytes]:
    sink = _Sink()
    written: list[_Labelled] = []
    left_out = Counter(chosen.left_out)
    at = site.clock().timetuple()[:6]

    def entry(name: str, data: bytes, packed: bool = False) -> bytes:
        info = zipfile.ZipInfo(name, at)
        info.external_attr = 0o644 << 16
        archive.writestr(info, data, zipfile.ZIP_STORED if packed else zipfile.ZIP_DEFLATED)
        return sink.taken()

    with zipfile.ZipFile(sink, "w") as archive:  # type: ignore[call-overload]
        for row in chosen.rows:
            try:
                data = site.image_store.get(row.image.sha256)
            except CervicyteError as error:  # it was deleted meanwhile, or is damaged; the others are whole
                left_out[error.what] += 1
                continue
            written.append(row)
            yield entry(row.path, data, row.image.media_type in _PACKED)
        yield entry("cells.csv", csv_bytes([_DATA_SET, *map(_data_row, written)]))
        yield entry("notes.txt", _notes(written, left_out, labels).encode())
    yield sink.taken()


def _data_row(row: _Labelled) -> tuple[object, ...]:
    prediction, verdict = row.prediction, row.verdict
    return (
        *(row.path, row.label, row.number, row.image.name, row.image.sha256, verdict.reading == "settled"),
        *(verdict.reader, verdict.created_at),
        *((prediction.label, prediction.p_abnormal) if prediction else ("", None)),
    )


def _notes(written: Sequence[_Labelled], left_out: Counter[str], labels: str) -> str:
    classes = Counter(row.label for row in written)
    alone = sum(row.blind for row in written)
    lines = [
        "Reviewed cells, exported by cervicyte.",
        f"Labels: {dict(LABELS)[labels]}. Groups: cases ({len({row.number for row in written})}).",
        *(f"{count:7,}  {label}" for label, count in sorted(classes.items())),
        f"Left out: {_counted(left_out) or 'nothing'}.",
        *([f"Of {alone:,} {_BLINDED}: their labels are your verdicts alone."] if alone else []),
        "To train: cervicyte train FOLDER --recipe NAME --out RUN"
        + (" --normal NILM" if labels == "bethesda" and "AGC" in classes else ""),
    ]
    return "\n".join(lines) + "\n"


def _counted(left_out: Counter[str]) -> str:
    return "; ".join(f"{count:,} because {why}" for why, count in left_out.most_common())


def _table(site: Site, user: User, ids: Sequence[str]) -> Iterator[bytes]:
    yield csv_bytes([_TABLE])
    rest = iter(ids)
    while some := list(islice(rest, _AT_ONCE)):
        with site.database.read() as session:
            rows = _read(session, user, some)
        yield csv_bytes(map(_table_row, rows))


def _table_row(cell: _Read) -> list[object]:
    image, case, prediction, verdicts = cell.image, cell.case, cell.prediction, cell.verdicts
    row: list[object] = [case.number, case.accession, image.position, image.name, image.place, image.sha256]
    row += [image.created_at, image.state, image.reason]
    names = ("model_name", "model_sha256", "label", "bethesda", "p_abnormal", "operating_point", "uncertain", "quality")
    row += [getattr(prediction, name) if prediction else None for name in names]
    for verdict in (verdicts.first, verdicts.second, verdicts.settled):
        row += [verdict.verdict, verdict.reader, verdict.created_at, verdict.comment] if verdict else [None] * 4
    final = verdicts.final
    row += [final.agrees, final.verdict] if final else [None] * 2
    return [*row, _BLINDED if cell.blind else None]


def _log(site: Site, user: User, action: str, subject: str, detail: dict[str, Any]) -> None:
    with site.database.write() as session:
        site.audit_log.append(session, user.email, action, subject, detail, site.clock())
