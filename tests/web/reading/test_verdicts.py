"""Decisions, second reading, disagreements, agreement and history."""

from __future__ import annotations

import numpy as np
import pytest

from cervicyte.web.base.schema import AuditRow, User, VerdictRow
from cervicyte.web.base.site import Site
from cervicyte.web.cases import blinding, intake, permissions, second_readers
from cervicyte.web.errors import DeniedError, InvalidFieldError, NotFoundError
from cervicyte.web.reading import agreement, disagreements, verdicts, worklist
from cervicyte.web.reports import history, reports
from cervicyte.web.reports.history import Filters
from support.web.databases import on_both
from support.web.records import give_second, make_case, png, predict
from support.web.site import Clock, make_user


def _rows(site: Site) -> list[VerdictRow]:
    with site.database.read() as session:
        return list(session.query(VerdictRow).order_by(VerdictRow.id))


def test_agreeing_stores_the_class_and_shows_its_category(site: Site, owner: User) -> None:
    _, (image,) = make_case(site, owner, [0.9])
    done = verdicts.decide(site, owner, image, "agree", "  dark\r\nnucleus ")
    assert (done.stored, done.verdict, done.agrees, done.comment) == (
        "severe_dysplastic",
        "HSIL",
        True,
        "dark\nnucleus",
    )
    with site.database.read() as session:
        assert verdicts.own(session, owner, image) == done
        row = session.query(AuditRow).filter_by(action="review.decided").one()
        assert (row.actor, row.detail["verdict"]) == ("owner@lab.example", "severe_dysplastic")
    assert _rows(site)[0].prediction_id == 1


@pytest.mark.parametrize(
    ("verdict", "agrees"),
    [("HSIL", True), ("LSIL", False), ("AGC", False), ("unsatisfactory", False), ("light_dysplastic", False)],
)
def test_other_verdicts_are_compared_with_the_answer(site: Site, owner: User, verdict: str, agrees: bool) -> None:
    _, (image,) = make_case(site, owner, [0.9])
    assert verdicts.decide(site, owner, image, verdict).agrees is agrees


def test_no_answer_can_neither_be_agreed_with_nor_differed_from(site: Site, owner: User) -> None:
    _, (waiting, other) = make_case(site, owner, [None, 0.5])
    assert verdicts.decide(site, owner, waiting, "NILM").agrees is None
    predict(site, other, 0.5, label="uncertain")
    assert verdicts.decide(site, owner, other, "NILM").agrees is None
    with pytest.raises(InvalidFieldError, match="no answer"):
        verdicts.decide(site, owner, other, "agree")


def test_classes_without_categories_are_compared_by_their_side(site: Site, owner: User) -> None:
    _, (image,) = make_case(site, owner, [0.9])
    predict(site, image, 0.8, label="Koilocytotic")
    assert verdicts.decide(site, owner, image, "LSIL").agrees is True
    assert verdicts.decide(site, owner, image, "NILM").agrees is False


@pytest.mark.parametrize("verdict", ["", "agree ", "hsil", "'; DROP TABLE reviews; --", "\x00"])
def test_what_is_no_verdict_is_refused(site: Site, owner: User, verdict: str) -> None:
    _, (image,) = make_case(site, owner, [0.9])
    with pytest.raises(InvalidFieldError) as caught:
        verdicts.decide(site, owner, image, verdict)
    assert caught.value.field == "verdict"
    with pytest.raises(InvalidFieldError) as caught:
        verdicts.decide(site, owner, image, "NILM", "x" * 2001)
    assert caught.value.field == "comment"
    assert not _rows(site)


def test_nothing_is_overwritten_and_the_newest_counts(site: Site, owner: User) -> None:
    _, (image,) = make_case(site, owner, [0.9])
    verdicts.decide(site, owner, image, "LSIL")
    verdicts.decide(site, owner, image, "HSIL")
    verdicts.decide(site, owner, image, "HSIL")  # sent twice
    assert [row.verdict for row in _rows(site)] == ["LSIL", "HSIL"]
    with site.database.read() as session:
        found = verdicts.own(session, owner, image)
    assert found
    assert found.verdict == "HSIL"


@on_both
def test_undo_takes_back_the_newest_that_stands_and_deletes_nothing(site: Site, owner: User) -> None:
    case, (first, other) = make_case(site, owner, [0.9, 0.8])
    verdicts.decide(site, owner, first, "LSIL")
    verdicts.decide(site, owner, other, "HSIL")
    assert verdicts.undo(site, owner, case.number) == other
    assert verdicts.undo(site, owner, case.number) == first
    assert verdicts.undo(site, owner, case.number) is None
    assert [row.verdict for row in _rows(site)] == ["LSIL", "HSIL", "", ""]
    with site.database.read() as session:
        assert verdicts.own(session, owner, first) is None
        assert not verdicts.can_undo(session, owner, permissions.find(session, owner, case.number))


def test_others_cases_do_not_exist_and_signed_ones_stand(site: Site, owner: User, second: User) -> None:
    case, (image,) = make_case(site, owner, [0.9])
    for act in (lambda: verdicts.decide(site, second, image, "NILM"), lambda: verdicts.undo(site, second, case.number)):
        with pytest.raises(NotFoundError):
            act()
    with pytest.raises(NotFoundError):
        verdicts.decide(site, owner, "f" * 32, "NILM")
    with pytest.raises(DeniedError):
        verdicts.settle(site, owner, image, "NILM")
    with site.database.write() as session:
        permissions.find(session, owner, case.number).state = "signed"
    with pytest.raises(DeniedError, match="signed"):
        verdicts.decide(site, owner, image, "NILM")


@on_both
def test_blinded_readers_see_nothing_of_each_other_until_both_have_decided_all(
    site: Site, owner: User, second: User, reviewer: User
) -> None:
    case, (one, two) = make_case(site, owner, [0.9, 0.1])
    verdicts.decide(site, owner, one, "HSIL")
    give_second(site, owner, case, second)
    with pytest.raises(InvalidFieldError):
        verdicts.decide(site, second, one, "agree")
    verdicts.decide(site, second, one, "LSIL")
    with site.database.read() as session:
        row = permissions.find(session, second, case.number)
        assert blinding.is_blind(session, second, row)
        assert verdicts.others(session, second, row, one) == []
        seen = history.listing(session, second, Filters()).rows
        assert {(e.kind, e.reader, e.model, e.agrees) for e in seen if e.kind == "verdict"} == {
            ("verdict", "second", "", None)
        }
        for asked in ("yes", "no"):  # which of the own verdicts fit would tell what the model says
            assert history.listing(session, second, Filters(agreement=asked)).total == 0
        assert verdicts.others(session, owner, row, one) == []
    verdicts.decide(site, second, two, "NILM")
    with site.database.read() as session:
        row = permissions.find(session, second, case.number)
        assert blinding.is_blind(session, second, row)
        assert blinding.is_blind(session, owner, row)
        assert [verdicts.others(session, user, row, one) for user in (owner, second)] == [[], []]
        assert verdicts.can_undo(session, second, row)
    assert verdicts.decide(site, owner, two, "NILM").agrees is True
    with site.database.read() as session:
        row = permissions.find(session, second, case.number)
        assert not blinding.is_blind(session, second, row)
        assert [d.verdict for d in verdicts.others(session, second, row, one)] == ["HSIL"]
        assert [d.verdict for d in verdicts.others(session, owner, row, one)] == ["LSIL"]
        assert not verdicts.can_undo(session, second, row)
        seen = history.listing(session, second, Filters()).rows
        assert {(e.reader, e.agrees) for e in seen if e.kind == "verdict"} == {
            ("owner", True),
            ("second", True),
            ("second", False),
        }
        assert [d.reading for d in verdicts.others(session, reviewer, row, one)] == ["first", "second"]
    for act in (lambda: verdicts.decide(site, second, two, "SCC"), lambda: verdicts.undo(site, second, case.number)):
        with pytest.raises(DeniedError, match="complete"):
            act()


def test_a_blinded_reader_is_not_told_whether_a_verdict_agrees(site: Site, owner: User, second: User) -> None:
    case, (one, two) = make_case(site, owner, [0.9, 0.1])
    give_second(site, owner, case, second)
    assert [verdicts.decide(site, second, image, "HSIL").agrees for image in (one, two)] == [None, None]
    with site.database.read() as session:
        assert [verdicts.own(session, second, image).agrees for image in (one, two)] == [None, None]  # type: ignore[union-attr]
    assert {cell.agrees for cell in worklist.cells(site, second, case.number).rows} == {None}
    assert [row.agrees for row in _rows(site)] == [True, False]  # the dashboard counts them all the same


def test_who_reads_second_cannot_lift_the_blinding_and_nobody_puts_it_back(
    site: Site, owner: User, second: User, reviewer: User
) -> None:
    case, (one, _) = make_case(site, owner, [0.9, 0.1])
    give_second(site, owner, case, reviewer)
    for reader, blinded in (("", True), (reviewer.id, False)):
        with pytest.raises(DeniedError):
            second_readers.assign(site, reviewer, case.number, reader, blinded)
    give_second(site, owner, case, reviewer, blinded=False)
    give_second(site, owner, case, reviewer)  # nothing has been read yet
    verdicts.decide(site, reviewer, one, "NILM")
    give_second(site, owner, case, reviewer, blinded=False)
    for reader_ in (reviewer, second):
        with pytest.raises(InvalidFieldError, match="without blinding"):
            give_second(site, owner, case, reader_)


def test_what_was_seen_changes_no_blinded_reading_when_a_picture_comes_later(
    site: Site, owner: User, second: User
) -> None:
    case, (one,) = make_case(site, owner, [0.9])
    verdicts.decide(site, owner, one, "HSIL", "first reader's words")
    give_second(site, owner, case, second)
    verdicts.decide(site, second, one, "NILM")
    with site.database.read() as session:
        assert not blinding.is_blind(session, second, permissions.find(session, second, case.number))
    intake.upload(site, owner, case.number, [("later.png", png(9))])
    late = worklist.order(site, second, case.number)[1].image_id
    with site.database.read() as session:
        row = permissions.find(session, second, case.number)
        assert blinding.is_blind(session, second, row)
        assert not verdicts.can_undo(session, second, row)
    for act in (lambda: verdicts.decide(site, second, one, "HSIL"), lambda: verdicts.undo(site, second, case.number)):
        with pytest.raises(DeniedError, match="closed"):
            act()
    verdicts.decide(site, second, late, "LSIL")
    assert verdicts.undo(site, second, case.number) == late
    for user in (second, owner):
        verdicts.decide(site, user, late, "LSIL")
    with site.database.read() as session:
        assert not blinding.is_blind(session, second, permissions.find(session, second, case.number))
    assert site.audit_log.verify(site.database).ok


def test_a_signature_waits_for_a_blinded_reading_and_opening_again_changes_no_verdict_of_it(
    site: Site, owner: User, second: User, reviewer: User
) -> None:
    case, (one, two) = make_case(site, owner, [0.9, 0.1])
    give_second(site, owner, case, second)
    for user, image in ((owner, one), (second, one), (owner, two)):
        verdicts.decide(site, user, image, "HSIL")
        with pytest.raises(InvalidFieldError, match="not complete"):
            reports.sign(site, reviewer, case.number, "High grade.")
    verdicts.decide(site, second, two, "HSIL")
    reports.sign(site, reviewer, case.number, "High grade.")
    reports.reopen(site, reviewer, case.number, "to be read again")
    for user in (owner, second):
        with pytest.raises(DeniedError, match="closed"):
            verdicts.decide(site, user, two, "NILM")
    verdicts.decide(site, reviewer, two, "NILM")  # differs now from the second reading
    verdicts.settle(site, reviewer, two, "NILM")
    assert reports.sign(site, reviewer, case.number, "High grade.", "settled").version == 2


@on_both
def test_disagreements_are_settled_and_opened_again_by_a_new_reading(
    site: Site, owner: User, second: User, reviewer: User
) -> None:
    case, (one, two, three) = make_case(site, owner, [0.9, 0.1, 0.9])
    give_second(site, owner, case, second, blinded=False)
    for image, a, b in ((one, "agree", "LSIL"), (two, "NILM", "NILM"), (three, "agree", "HSIL")):
        verdicts.decide(site, owner, image, a)
        verdicts.decide(site, second, image, b)
    with site.database.read() as session:
        found = disagreements.listing(session, reviewer)
        assert [(r.image_id, r.first, r.second, r.model) for r in found.rows] == [
            (one, "HSIL", "LSIL", "severe_dysplastic")
        ]
        with pytest.raises(DeniedError):
            disagreements.listing(session, owner)
    verdicts.settle(site, reviewer, one, "ASC-H", "between the two")
    with pytest.raises(InvalidFieldError, match="differ"):
        verdicts.settle(site, reviewer, two, "SCC")
    with site.database.read() as session:
        assert disagreements.listing(session, reviewer).total == 0
        (row,) = disagreements.listing(session, reviewer, "all").rows
        assert (row.settled, row.settled_by) == ("ASC-H", "reviewer")
        counts = verdicts.standing(session, reviewer, [one, two])
        assert [counts[k].final.verdict for k in (one, two)] == ["ASC-H", "NILM"]  # type: ignore[union-attr]
    verdicts.decide(site, owner, one, "SCC")
    with site.database.read() as session:
        assert disagreements.listing(session, reviewer).total == 1
        assert verdicts.standing(session, reviewer, [one])[one].final is None


@on_both
def test_kappa_counts_blinded_readings_only(site: Site, owner: User, second: User, reviewer: User) -> None:
    for blinded in (True, False):
        case, ids = make_case(site, owner, [0.9, 0.1])
        give_second(site, owner, case, second, blinded)
        for image in ids:
            verdicts.decide(site, owner, image, "agree")
            verdicts.decide(site, second, image, "LSIL" if blinded and image == ids[0] else "NILM")
    with site.database.read() as session:
        found = disagreements.kappa(session, reviewer)
    assert found
    assert (found.n, found.cases, found.agreement) == (2, 1, 0.5)


@on_both
def test_kappa_counts_what_the_two_readers_said_and_nobody_else(
    site: Site, owner: User, second: User, reviewer: User
) -> None:
    case, (one, two) = make_case(site, owner, [0.9, 0.1])
    give_second(site, owner, case, second)
    verdicts.decide(site, second, one, "LSIL")
    other = make_user(site, "other@lab.example")
    give_second(site, owner, case, other)
    for image in (one, two):
        verdicts.decide(site, other, image, "HSIL")  # later than the second reader's, who comes back
        verdicts.decide(site, owner, image, "HSIL")
    give_second(site, owner, case, second)
    verdicts.decide(site, second, two, "LSIL")
    verdicts.decide(site, reviewer, two, "LSIL")  # having seen both
    with site.database.read() as session:
        assert verdicts.standing(session, reviewer, [two])[two].first.reader == "reviewer"  # type: ignore[union-attr]
        found = disagreements.kappa(session, reviewer)
        with pytest.raises(DeniedError):
            disagreements.kappa(session, owner)
    assert found
    assert (found.n, found.agreement) == (2, 0.0)


@on_both
def test_history_is_searched_filtered_and_paged(site: Site, owner: User, second: User, reviewer: User) -> None:
    clock = site.clock
    assert isinstance(clock, Clock)
    case, (one, two) = make_case(site, owner, [0.9, 0.1], name="Nordic")
    verdicts.decide(site, owner, one, "agree", "100 % certain")
    clock.forward(days=1)
    verdicts.decide(site, owner, two, "LSIL")
    with site.database.read() as session:

        def kinds(user: User = owner, **filters: str) -> list[str]:
            return [f"{e.kind} {e.verdict}".strip() for e in history.listing(session, user, Filters.read(filters)).rows]

        assert kinds() == ["verdict LSIL", "verdict HSIL", "upload"]
        assert kinds(reviewer) == kinds()
        assert kinds(second) == []
        assert kinds(q="nordic-2") == ["verdict LSIL"]
        assert kinds(q="100 %") == ["verdict HSIL"]
        assert kinds(q=case.number.lower()) == kinds()
        assert kinds(verdict="HSIL") == ["verdict HSIL"]
        assert kinds(agreement="no") == ["verdict LSIL"]
        assert kinds(since="2026-03-02") == ["verdict LSIL"]
        assert kinds(until="2026-03-01") == ["verdict HSIL", "upload"]
        assert kinds(until="9999-12-31", since="never") == kinds()
        assert kinds(reviewer, reader=reviewer.id) == []
        assert history.readers(session, reviewer) == [(owner.id, "owner")]
        page = history.listing(session, owner, Filters(), page=9, size=2)
        assert (page.number, page.pages, page.total, len(page.rows)) == (2, 2, 3, 1)


def _verdicts(seed: int, n: int) -> tuple[list[str], list[str]]:
    names = np.array(["NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC", "AGC", "unsatisfactory"])
    generator = np.random.default_rng(seed)
    first = generator.integers(0, len(names), n)
    second = np.where(generator.random(n) < 0.6, first, generator.integers(0, len(names), n))
    return names[first].tolist(), names[second].tolist()


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_kappa_is_that_of_scikit_learn(seed: int) -> None:
    from sklearn.metrics import cohen_kappa_score

    first, second = _verdicts(seed, 120)
    found = agreement.kappa(first, second, [str(k) for k in range(120)])
    assert found
    assert found.value == pytest.approx(cohen_kappa_score(first, second))
    order = ["NILM", "ASC-US", "LSIL", "ASC-H", "HSIL", "SCC"]
    graded = [(a, b) for a, b in zip(first, second, strict=True) if a in order and b in order]
    a, b = zip(*graded, strict=True)
    assert found.weighted == pytest.approx(cohen_kappa_score(a, b, labels=order, weights="quadratic"))
    assert found.weighted_n == len(graded) < 120


def test_the_interval_of_kappa_is_the_published_one_for_cells_of_different_cases() -> None:
    first, second = _verdicts(3, 200)
    found = agreement.kappa(first, second, [str(k) for k in range(200)])
    assert found
    assert found.value is not None
    assert found.low is not None
    assert found.high is not None
    # Fleiss, Cohen and Everitt 1969, equation 13, as it is printed.
    names = sorted({*first, *second})
    p = np.zeros((len(names), len(names)))
    for a, b in zip(first, second, strict=True):
        p[names.index(a), names.index(b)] += 1 / 200
    rows, columns, k = p.sum(1), p.sum(0), found.value
    chance = rows @ columns
    both = sum(p[i, i] * (1 - (rows[i] + columns[i]) * (1 - k)) ** 2 for i in range(len(names)))
    apart = (1 - k) ** 2 * sum(
        p[i, j] * (columns[i] + rows[j]) ** 2 for i in range(len(names)) for j in range(len(names)) if i != j
    )
    error = np.sqrt((both + apart - (k - chance * (1 - k)) ** 2) / 200) / (1 - chance)
    assert (found.high - found.low) / 2 == pytest.approx(1.959964 * error * np.sqrt(200 / 199), rel=1e-4)
    few = agreement.kappa(first, second, [str(k % 10) for k in range(200)])
    assert few
    assert (few.value, few.cases) == (found.value, 10)
    twins = agreement.kappa(first * 4, second * 4, [str(k) for k in range(200)] * 4)
    assert twins
    assert twins.low == pytest.approx(found.low)  # four alike cells a case tell no more than one


def test_what_cannot_be_said_is_none() -> None:
    assert agreement.kappa([], [], []) is None
    assert agreement.share([], []) is None
    same = agreement.kappa(["NILM"] * 9, ["NILM"] * 9, list("abcdefghi"))
    assert same
    assert (same.value, same.weighted, same.low, same.agreement) == (None, None, None, 1.0)
    outside = agreement.kappa(["AGC", "AGC"], ["AGC", "unsatisfactory"], ["a", "b"])
    assert outside
    assert (outside.weighted, outside.weighted_n, outside.low) == (None, 0, None)
    alike = agreement.share([True] * 300, ["one case"] * 300)
    assert alike
    assert alike.low < 0.3  # 300 cells of one case are little more than one
