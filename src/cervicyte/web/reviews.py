"""What readers say of cells: rows that are only added, of which the newest of each reader and reading counts.

Who takes a verdict back adds an empty one. A second reader who reads blinded sees neither the model's answers nor
the first reader's verdicts until all cells of the case are decided; from then on that reading is closed, so that what
is seen afterwards cannot change it, and a reviewer settles what differs. Of a picture that comes later a verdict can be
given, and no earlier one changed. A signature shows all to everybody: a reading that it cut short is closed too.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cervicyte.predictions import UNSATISFACTORY
from cervicyte.taxonomy import BETHESDA, MAPS
from cervicyte.web import cases
from cervicyte.web.cases import Invalid, NotFound
from cervicyte.web.categories import CATEGORIES, find_category
from cervicyte.web.codes import Denied
from cervicyte.web.schema import AuditRow, Case, Image, PredictionRow, Report, Review, User
from cervicyte.web.site import Site

#: What a page posts to agree with the model; stored is the class that was agreed with.
AGREE = "agree"
#: The verdict of a row that takes the reader's last one back.
WITHDRAWN = ""
#: Longest comment, in characters.
COMMENT_LENGTH = 2000

#: Labels that are no answer, so that nobody can agree or disagree with them.
_NO_ANSWER = ("", "uncertain")

#: In the audit log: a blinded reader has decided all cells; nothing else remembers it once another picture came.
_COMPLETED = "review.completed"


@dataclass(frozen=True)
class Decision:
    """A verdict that stands.

    Attributes
    ----------
    reader : name
    reading : "first", "second" or "settled"
    verdict : as it is shown and compared: a category's code where there is one, a class, or "unsatisfactory"
    stored : as it was given; a class of the model where the reader agreed with it or chose it
    agrees : with the model's answer of that time; None where it gave none that could be compared, and where the reader
        is told the own verdict on a case that is read blinded
    """

    id: int
    image_id: str
    reader_id: str
    reader: str
    reading: str
    verdict: str
    stored: str
    agrees: bool | None
    comment: str
    created_at: datetime


@dataclass(frozen=True)
class Standing:
    """All that counts of one cell; a settlement counts as long as both readings are older than it."""

    first: Decision | None = None
    second: Decision | None = None
    settled: Decision | None = None

    @property
    def differs(self) -> bool:
        """Two readers gave different verdicts."""
        return self.first is not None and self.second is not None and self.first.verdict != self.second.verdict

    @property
    def open(self) -> bool:
        """Two readers gave different verdicts, and nobody has settled it."""
        return self.differs and self.settled is None

    @property
    def final(self) -> Decision | None:
        """The verdict of the report; None where there is none, or two that differ."""
        if self.settled is not None:
            return self.settled
        return None if self.differs else self.first or self.second


# ---- verdicts


@cache
def classes() -> dict[str, str]:
    """Every known class that is not a category itself, and its category."""
    return {label: code for row in MAPS if row.target.name == BETHESDA.name for label, code in row.table.items()}


def shown(verdict: str) -> str:
    """A verdict as it is shown, counted and compared: the category of a class, where there is one.

    >>> shown("severe_dysplastic"), shown("AGC"), shown("Koilocytotic")
    ('HSIL', 'AGC', 'Koilocytotic')
    """
    return verdict if find_category(verdict) else classes().get(verdict, verdict)


def choices(prediction: PredictionRow | None, blind: bool = False) -> tuple[str, ...]:
    """The verdicts that `decide` takes for a cell: agreeing, the categories, unsatisfactory, the model's classes."""
    found = [*(row.code for row in CATEGORIES), UNSATISFACTORY]
    if prediction is not None:
        if not blind and prediction.label not in (*_NO_ANSWER, UNSATISFACTORY):
            found.insert(0, AGREE)
        found += [c for c in prediction.probabilities or {} if c not in found]
    return tuple(found)


def compare(prediction: PredictionRow | None, verdict: str) -> bool | None:
    """Whether a verdict says what the model says; None where the model gave no answer that could be compared.

    A class is compared with the class, a category with the category; where the model's classes have no categories,
    only the side of normal or abnormal is compared.
    """
    if prediction is None or prediction.uncertain or prediction.label in _NO_ANSWER:
        return None
    label = prediction.label
    if verdict == label:
        return True
    if UNSATISFACTORY in (verdict, label) or find_category(verdict) is None:
        return False
    category = prediction.bethesda or shown(label)
    if find_category(category):
        return verdict == category
    if prediction.p_abnormal is None or prediction.operating_point is None:
        return None
    return (verdict != CATEGORIES[0].code) == (prediction.p_abnormal >= prediction.operating_point)


# ---- reading


def is_blind(session: Session, user: User, case: Case) -> bool:
    """Whether this user must see neither model nor first reader: reads second, blinded, and has cells to decide."""
    return cases.is_blinded(user, case) and not _closed(session, user, case)


def mine(session: Session, user: User, image_id: str) -> Decision | None:
    """A user's own verdict on a cell; None where there is none, or it was taken back."""
    case = session.scalar(select(Case).join(Image, Image.case_id == Case.id).where(Image.id == image_id))
    found = _own(session, user, case, [image_id]) if case else []
    return found[0] if found else None


def others(session: Session, user: User, case: Case, image_id: str) -> list[Decision]:
    """What this user may see of others' verdicts on a cell, oldest first.

    A blinded second reader sees none before all cells are decided; the owner of a case that is read blinded sees the
    second reader's only after deciding the cell, so that neither leans on the other.
    """
    if is_blind(session, user, case):
        return []
    found = [d for d in _newest(session, [image_id]) if d.stored and (d.reader_id != user.id or d.reading == "settled")]
    waits = case.blinded and case.state == "open" and case.owner_id == user.id
    if waits and mine(session, user, image_id) is None:
        found = [d for d in found if d.reading == "first"]
    return sorted(found, key=lambda d: d.id)


def standing(session: Session, image_ids: Sequence[str]) -> dict[str, Standing]:
    """What counts of each cell that anyone decided; of several first readers the newest verdict counts."""
    rows: dict[str, dict[str, Decision]] = {}
    for decision in _newest(session, image_ids):
        if decision.stored:
            rows.setdefault(decision.image_id, {})[decision.reading] = decision  # the newest comes last
    found = {}
    for image_id, row in rows.items():
        first, second, settled = row.get("first"), row.get("second"), row.get("settled")
        read = max((d.id for d in (first, second) if d), default=0)
        found[image_id] = Standing(first, second, settled if settled and settled.id > read else None)
    return found


def can_undo(session: Session, user: User, case: Case) -> bool:
    """Whether `undo` would find something to take back."""
    action = "second" if cases.reading_of(user, case) == "second" else "decide"
    if action not in cases.rights(user, case) or _closed(session, user, case):
        return False
    last = _last(session, user, case)
    return last is not None and not _stands(session, user, case, last)


# ---- deciding


def decide(site: Site, user: User, image_id: str, verdict: str, comment: str = "") -> Decision:
    """Add a reader's verdict on a cell; the same one again adds nothing.

    Parameters
    ----------
    verdict : one of `choices`

    Raises
    ------
    NotFound : there is no such picture for this user
    Denied : the user may not decide here, the case is signed, or the own blinded reading is complete
    Invalid : no such verdict for this cell, or a comment that is too long
    """
    comment = _comment(comment)
    with site.database.write() as session:
        image, case = _hold(session, user, image_id, "see")
        reading = cases.reading_of(user, case)
        cases.check(case, user, "second" if reading == "second" else "decide")
        before = mine(session, user, image.id)
        if _closed(session, user, case) or (before is not None and _stands(session, user, case, before)):
            raise _complete_error()
        prediction = _prediction(session, image.id)
        stored = _choose(verdict, prediction, cases.is_blinded(user, case))
        if before is not None and (before.stored, before.comment) == (stored, comment):
            return before
        made = _add(site, session, user, case, image, reading, stored, comment, prediction)
        if _closed(session, user, case):
            detail = {"reader": user.id, "review": made.id}
            site.ledger.append(session, user.email, _COMPLETED, case.number, detail, site.clock())
        return _as_told(user, case, made)


def undo(site: Site, user: User, number: str) -> str | None:
    """Take back this reader's newest verdict of a case that stands; the picture's id, or None where there is none.

    Raises
    ------
    NotFound, Denied : as `decide`
    """
    with site.database.write() as session:
        case = cases.hold(session, user, number, "see")
        reading = cases.reading_of(user, case)
        cases.check(case, user, "second" if reading == "second" else "decide")
        if _closed(session, user, case):
            raise _complete_error()
        last = _last(session, user, case)
        if last is None:
            return None
        if _stands(session, user, case, last):
            raise _complete_error()
        image = session.get(Image, last.image_id)
        assert image is not None
        _add(site, session, user, case, image, reading, WITHDRAWN, "", None)
        return image.id


def settle(site: Site, user: User, image_id: str, verdict: str, comment: str = "") -> Decision:
    """Say what counts where two readers differ; both readings are kept.

    Raises
    ------
    NotFound : there is no such picture for this user
    Denied : the user may not settle here, or must not see the readings yet
    Invalid : the readings do not differ, no such verdict, or a comment that is too long
    """
    comment = _comment(comment)
    with site.database.write() as session:
        image, case = _hold(session, user, image_id, "settle")
        if is_blind(session, user, case):
            raise Denied("you read this case blinded", None, "decide all of its cells first")
        found = standing(session, [image.id]).get(image.id, Standing())
        if not found.differs:
            raise Invalid("verdict", "there are no two readings that differ", None, "load the page again")
        prediction = _prediction(session, image.id)
        stored = _choose(verdict, prediction, blind=True)
        return _add(site, session, user, case, image, "settled", stored, comment, prediction)


# ---- inside


def _hold(session: Session, user: User, image_id: str, action: str) -> tuple[Image, Case]:
    nothing = NotFound("there is no such picture", None, "look it up in its case")
    image = session.get(Image, image_id[:32].replace("\x00", ""))
    if image is None:
        raise nothing
    case = session.scalar(select(Case).where(Case.id == image.case_id).with_for_update())
    try:
        return image, cases.check(case, user, action)
    except NotFound:  # one that may not be seen looks like one that is not there
        raise nothing from None


def _choose(verdict: str, prediction: PredictionRow | None, blind: bool) -> str:
    allowed = choices(prediction, blind)
    if verdict not in allowed:
        if verdict == AGREE:
            raise Invalid("verdict", "there is no answer of the model to agree with", None, "choose a category")
        raise Invalid("verdict", "no such verdict", repr(verdict[:100]), f"choose one of: {', '.join(allowed)}")
    return prediction.label if verdict == AGREE and prediction else verdict


def _add(
    site: Site,
    session: Session,
    user: User,
    case: Case,
    image: Image,
    reading: str,
    stored: str,
    comment: str,
    prediction: PredictionRow | None,
) -> Decision:
    row = Review(
        image_id=image.id,
        reader_id=user.id,
        reading=reading,
        verdict=stored,
        agrees=compare(prediction, stored) if stored else None,
        prediction_id=prediction.id if prediction else None,
        comment=comment,
        created_at=site.clock(),
    )
    session.add(row)
    session.flush()
    action = "review.taken back" if not stored else "review.settled" if reading == "settled" else "review.decided"
    detail = {"review": row.id, "image": image.id, "sha256": image.sha256, "reading": reading}
    if stored:
        detail |= {"verdict": stored, "agrees": row.agrees}
    site.ledger.append(session, user.email, action, case.number, detail, site.clock())
    return _decision(row, user.name)


def _newest(session: Session, image_ids: Sequence[str]) -> list[Decision]:
    """The newest row of each reader and reading, taken back or not, in the order in which they were added."""
    found: list[Decision] = []
    for part in _parts(image_ids):
        newest = (
            select(func.max(Review.id))
            .where(Review.image_id.in_(part))
            .group_by(Review.image_id, Review.reader_id, Review.reading)
        )
        rows = session.execute(
            select(Review, User.name).join(User, User.id == Review.reader_id).where(Review.id.in_(newest))
        )
        found += [_decision(row, name) for row, name in rows]
    return sorted(found, key=lambda d: d.id)


def _last(session: Session, user: User, case: Case) -> Decision | None:
    ids = session.scalars(select(Image.id).where(Image.case_id == case.id)).all()
    own = _own(session, user, case, ids)
    return own[-1] if own else None


def _own(session: Session, user: User, case: Case, image_ids: Sequence[str]) -> list[Decision]:
    reading = cases.reading_of(user, case)
    newest = _newest(session, image_ids)
    return [_as_told(user, case, d) for d in newest if d.reader_id == user.id and d.reading == reading and d.stored]


def _as_told(user: User, case: Case, decision: Decision) -> Decision:
    """Whether the own verdict agrees with the model would tell a blinded reader what the model says."""
    return replace(decision, agrees=None) if cases.is_blinded(user, case) else decision


def _closed(session: Session, user: User, case: Case) -> bool:
    """Whether a blinded reader has seen, or may see, what others say of the case."""
    if not cases.is_blinded(user, case):
        return False
    signed = session.scalar(select(Report.id).where(Report.case_id == case.id).limit(1)) is not None
    return signed or _complete(session, user, case)


def _stands(session: Session, user: User, case: Case, own: Decision) -> bool:
    """Whether a blinded reader's verdict was given before the reading was complete, and so before others' were seen."""
    if not cases.is_blinded(user, case):
        return False
    query = select(AuditRow.detail).where(AuditRow.action == _COMPLETED, AuditRow.subject == case.number)
    return any(d["reader"] == user.id and own.id <= d["review"] for d in session.scalars(query))


def _complete(session: Session, user: User, case: Case) -> bool:
    """Every picture of the case that can be read has a verdict of this user; False where there is no such picture."""
    ids = session.scalars(select(Image.id).where(Image.case_id == case.id, Image.state != "failed")).all()
    return bool(ids) and len(_own(session, user, case, ids)) == len(ids)


def _complete_error() -> Denied:
    what = "your blinded reading is closed: it was complete, or the case was signed"
    return Denied(what, None, "a reviewer settles what differs")


def _prediction(session: Session, image_id: str) -> PredictionRow | None:
    return session.scalar(
        select(PredictionRow).where(PredictionRow.image_id == image_id).order_by(PredictionRow.id.desc()).limit(1)
    )


def _decision(row: Review, reader: str) -> Decision:
    return Decision(
        row.id,
        row.image_id,
        row.reader_id,
        reader,
        row.reading,
        shown(row.verdict),
        row.verdict,
        row.agrees,
        row.comment,
        row.created_at,
    )


def _parts(ids: Sequence[str], size: int = 500) -> Iterable[Sequence[str]]:
    """Databases take a limited number of values in one query."""
    return (ids[i : i + size] for i in range(0, len(ids), size))


def _comment(text: str) -> str:
    lines = unicodedata.normalize("NFC", text).replace("\r\n", "\n").replace("\r", "\n")
    found = "".join(c if c.isprintable() or c in "\n\t\u200c\u200d" else " " for c in lines).strip()
    if len(found) > COMMENT_LENGTH:
        raise Invalid(
            "comment", "the comment is too long", f"{len(found)} characters", f"at most {COMMENT_LENGTH} characters"
        )
    return found
