"""What readers say of cells: rows that are only added, of which the newest of each reader and reading counts.

Who takes a verdict back adds an empty one. What reads verdicts says for whom: `cervicyte.web.cases.blinding` knows
which of
them a user may see. A blinded reading that is complete is closed, so that what is seen afterwards cannot change it, and
a reviewer settles what differs. Of a picture that comes later a verdict can be given, and no earlier one changed.
While it goes on, nobody but its readers decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cache

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cervicyte.bundle.predictions import UNSATISFACTORY
from cervicyte.data.labels import BETHESDA, MAPS
from cervicyte.web.base.schema import Case, Image, PredictionRow, User, VerdictRow
from cervicyte.web.base.site import Site
from cervicyte.web.cases import blinding, latest, permissions
from cervicyte.web.cases.cases import clean_lines
from cervicyte.web.errors import DeniedError, InvalidFieldError
from cervicyte.web.reading.categories import CATEGORIES, find_category

#: What a page posts to agree with the model; stored is the class that was agreed with.
AGREE = "agree"
#: The verdict of a row that takes the reader's last one back.
WITHDRAWN = ""
#: Longest comment, in characters.
COMMENT_LENGTH = 2000

#: Labels that are no answer, so that nobody can agree or disagree with them.
_NO_ANSWER = ("", "uncertain")


@dataclass(frozen=True)
class Verdict:
    """A verdict that stands.

    Attributes
    ----------
    reader : name
    reading : "first", "second" or "settled"
    verdict : as it is shown and compared: a category's code where there is one, a class, or "unsatisfactory"
    stored : as it was given; a class of the model where the reader agreed with it or chose it
    agrees : with the model's answer of that time; None where it gave none that could be compared, and for a reader who
        must not know the model's answer
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

    first: Verdict | None = None
    second: Verdict | None = None
    settled: Verdict | None = None

    @property
    def differs(self) -> bool:
        """Two readers gave different verdicts."""
        return self.first is not None and self.second is not None and self.first.verdict != self.second.verdict

    @property
    def open(self) -> bool:
        """Two readers gave different verdicts, and nobody has settled it."""
        return self.differs and self.settled is None

    @property
    def final(self) -> Verdict | None:
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


def choices(prediction: PredictionRow | None) -> tuple[str, ...]:
    """The verdicts that `decide` takes for a cell: agreeing, the categories, unsatisfactory, the model's classes.

    To who must not know the model's answer it is as if there were none: the model's classes would tell whether it
    refused the picture.
    """
    verdicts = [*(row.code for row in CATEGORIES), UNSATISFACTORY]
    if prediction is not None:
        if prediction.label not in (*_NO_ANSWER, UNSATISFACTORY):
            verdicts.insert(0, AGREE)
        verdicts += [c for c in prediction.probabilities or {} if c not in verdicts]
    return tuple(verdicts)


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


def own(session: Session, user: User, image_id: str) -> Verdict | None:
    """A user's own verdict on a cell; None where there is none, or it was taken back."""
    case = session.scalar(select(Case).join(Image, Image.case_id == Case.id).where(Image.id == image_id))
    verdicts = _own(session, user, case, [image_id]) if case else []
    return verdicts[0] if verdicts else None


def others(session: Session, user: User, case: Case, image_id: str) -> list[Verdict]:
    """What this user may see of others' verdicts on a cell, oldest first; with them what the user settled."""
    verdicts = _newest(session, user, [image_id])
    return [d for d in verdicts if d.stored and (d.reader_id != user.id or d.reading == "settled")]


def standing(session: Session, user: User, image_ids: Sequence[str]) -> dict[str, Standing]:
    """What counts of each cell, of all that this user may see; of several first readers the newest verdict counts."""
    rows: dict[str, dict[str, Verdict]] = {}
    for verdict in _newest(session, user, image_ids):
        if verdict.stored:
            rows.setdefault(verdict.image_id, {})[verdict.reading] = verdict  # the newest comes last
    standings = {}
    for image_id, row in rows.items():
        first, second, settled = row.get("first"), row.get("second"), row.get("settled")
        read = max((d.id for d in (first, second) if d), default=0)
        standings[image_id] = Standing(first, second, settled if settled and settled.id > read else None)
    return standings


def can_undo(session: Session, user: User, case: Case) -> bool:
    """Whether `undo` would find something to take back."""
    if _action(user, case) not in permissions.rights(user, case) or blinding.is_for_others(session, user, case):
        return False
    last = _last(session, user, case)
    return last is not None and not is_closed(session, user, case, last)


def is_closed(session: Session, user: User, case: Case, own: Verdict | None) -> bool:
    """Whether a reader can give no verdict on a cell any more, or not change the own one, as others' were seen."""
    if blinding.is_closed(session, user, case):
        return True
    return own is not None and blinding.stands(session, user, case, own.id)


# ---- deciding


def decide(site: Site, user: User, image_id: str, verdict: str, comment: str = "") -> Verdict:
    """Add a reader's verdict on a cell; the same one again adds nothing.

    Parameters
    ----------
    verdict : one of `choices`

    Raises
    ------
    NotFoundError : there is no such picture for this user
    DeniedError : the user may not decide here, the case is signed, its blinded reading is complete, or others read it
        blinded and have not ended
    InvalidFieldError : no such verdict for this cell, or a comment that is too long
    """
    comment = _comment(comment)
    with site.database.write() as session:
        image, case = permissions.hold_image(session, user, image_id, "see")
        _check(session, user, case)
        before = own(session, user, image.id)
        if is_closed(session, user, case, before):
            raise _closed_error()
        prediction = latest.prediction(session, image.id)
        shown_prediction = None if blinding.is_model_hidden(session, user, case) else prediction
        _check_verdict(verdict, choices(shown_prediction))
        stored = shown_prediction.label if shown_prediction is not None and verdict == AGREE else verdict
        if before is not None and (before.stored, before.comment) == (stored, comment):
            return before
        made = _add(site, session, user, case, image, permissions.reading_of(user, case), stored, comment, prediction)
        if blinding.is_closed(session, user, case):
            blinding.note_completion(session, site, user.email, case)
        return _as_shown(made, blinding.is_model_hidden(session, user, case))


def undo(site: Site, user: User, number: str) -> str | None:
    """Take back this reader's newest verdict of a case that stands; the picture's id, or None where there is none.

    Raises
    ------
    NotFoundError, DeniedError : as `decide`
    """
    with site.database.write() as session:
        case = permissions.hold(session, user, number, "see")
        _check(session, user, case)
        last = _last(session, user, case)
        if last is None:
            return None
        if is_closed(session, user, case, last):
            raise _closed_error()
        image = session.get(Image, last.image_id)
        assert image is not None
        _add(site, session, user, case, image, permissions.reading_of(user, case), WITHDRAWN, "", None)
        return image.id


def settle(site: Site, user: User, image_id: str, verdict: str, comment: str = "") -> Verdict:
    """Say what counts where two readers differ; both readings are kept.

    Raises
    ------
    NotFoundError : there is no such picture for this user
    DeniedError : the user may not settle here, or must not see the readings yet
    InvalidFieldError : the readings do not differ, no such verdict, or a comment that is too long
    """
    comment = _comment(comment)
    with site.database.write() as session:
        image, case = permissions.hold_image(session, user, image_id, "settle")
        if blinding.is_blind(session, user, case):
            raise DeniedError("you read this case blinded", None, "settle it when both readers have decided every cell")
        current = standing(session, user, [image.id]).get(image.id, Standing())
        if not current.differs:
            raise InvalidFieldError("verdict", "there are no two readings that differ", None, "load the page again")
        prediction = latest.prediction(session, image.id)
        _check_verdict(verdict, [choice for choice in choices(prediction) if choice != AGREE])
        return _add(site, session, user, case, image, "settled", verdict, comment, prediction)


# ---- inside


def _action(user: User, case: Case) -> str:
    """What a user must be allowed to do for a verdict of the own reading."""
    return "second" if permissions.reading_of(user, case) == "second" else "decide"


def _check(session: Session, user: User, case: Case) -> None:
    permissions.check(case, user, _action(user, case))
    if blinding.is_for_others(session, user, case):
        todo = "a reviewer settles what differs once both have read"
        raise DeniedError("this case is read blinded by others", None, todo)


def _check_verdict(verdict: str, allowed: Sequence[str]) -> None:
    if verdict in allowed:
        return
    if verdict == AGREE:
        raise InvalidFieldError("verdict", "there is no answer of the model to agree with", None, "choose a category")
    raise InvalidFieldError("verdict", "no such verdict", repr(verdict[:100]), f"choose one of: {', '.join(allowed)}")


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
) -> Verdict:
    row = VerdictRow(
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
    site.audit_log.append(session, user.email, action, case.number, detail, site.clock())
    return _verdict(row, user.name)


def _newest(session: Session, user: User, image_ids: Sequence[str]) -> list[Verdict]:
    """The newest row of each reader and reading that a user may see, taken back or not, as they were added."""
    verdicts: list[Verdict] = []
    for part in _parts(image_ids):
        last = (
            select(func.max(VerdictRow.id))
            .where(VerdictRow.image_id.in_(part))
            .group_by(VerdictRow.image_id, VerdictRow.reader_id, VerdictRow.reading)
        )
        of = session.scalars(select(Image.case_id).where(Image.id.in_(part)).distinct()).all()
        rows = session.execute(
            select(VerdictRow, User.name, blinding.hides_model(user, of))
            .join(User, User.id == VerdictRow.reader_id)
            .join(Image, Image.id == VerdictRow.image_id)
            .join(Case, Case.id == Image.case_id)
            .where(VerdictRow.id.in_(last), blinding.may_see(user, of))
        )
        verdicts += [_as_shown(_verdict(row, name), hidden) for row, name, hidden in rows]
    return sorted(verdicts, key=lambda d: d.id)


def _last(session: Session, user: User, case: Case) -> Verdict | None:
    ids = session.scalars(select(Image.id).where(Image.case_id == case.id)).all()
    own = _own(session, user, case, ids)
    return own[-1] if own else None


def _own(session: Session, user: User, case: Case, image_ids: Sequence[str]) -> list[Verdict]:
    reading = permissions.reading_of(user, case)
    verdicts = _newest(session, user, image_ids)
    return [d for d in verdicts if d.reader_id == user.id and d.reading == reading and d.stored]


def _as_shown(verdict: Verdict, hidden: bool) -> Verdict:
    """Whether a verdict agrees with the model would tell a blinded reader what the model says."""
    return replace(verdict, agrees=None) if hidden else verdict


def _closed_error() -> DeniedError:
    what = "the blinded reading is closed: it was complete, and both readers may have seen it"
    return DeniedError(what, None, "a reviewer settles what differs")


def _verdict(row: VerdictRow, reader: str) -> Verdict:
    return Verdict(
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
    comment = clean_lines(text)
    if len(comment) > COMMENT_LENGTH:
        raise InvalidFieldError(
            "comment", "the comment is too long", f"{len(comment)} characters", f"at most {COMMENT_LENGTH} characters"
        )
    return comment
