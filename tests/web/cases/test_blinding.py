"""Blinded reading: through no door does one reader get the other's verdicts before both have decided every cell."""

from __future__ import annotations

import csv
import io
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("flask", reason="the extra 'web' is not installed")

from sqlalchemy import event

from cervicyte.web.accounts import api_tokens
from cervicyte.web.api.endpoints import ROOT as API
from cervicyte.web.app import create_app
from cervicyte.web.base import audit_log_search
from cervicyte.web.base.schema import AuditRow, Image, User
from cervicyte.web.base.site import Site
from cervicyte.web.cases import answers, blinding, cases, intake, permissions, second_readers
from cervicyte.web.cases.answers import Answer
from cervicyte.web.cases.cases import CaseSummary
from cervicyte.web.errors import DeniedError, InvalidFieldError
from cervicyte.web.middleware.current import Running
from cervicyte.web.reading import verdicts, worklist
from cervicyte.web.reports import dashboard, exports, history, reports
from cervicyte.web.reports.history import Filters
from support.web.cases import small_bundle
from support.web.client import Person
from support.web.databases import on_both
from support.web.pdf import words_of_pdf
from support.web.records import give_second, make_case, png, predict
from support.web.site import make_user

#: What each writes and says, and no one else: the first reader, the second, and a reviewer who settles.
MARKS = {"first": ("owl-7", "AGC"), "second": ("fox-8", "SCC"), "settled": ("elk-9", "ASC-H")}
#: What only the model says.
MODEL = ("a network", "severe_dysplastic", "evere dysplastic")
#: Other forms in which a door may be asked, by its endpoint.
ASKED = {
    "cases.show": ("?view=table", "?show=undecided"),
    "second.disagreements": ("?show=all",),
    "reports.show": ("?version=1",),
    "history.index": ("?verdict=AGC", "?verdict=SCC", "?verdict=ASC-H", "?agreement=no", "?q=owl-7", "?q=fox-8"),
    "exports.cells": ("?labels=classes",),
    "dashboard.index": ("?days=90",),
    "admin.audit": ("?q=AGC", "?q=SCC", "?q=ASC-H", "?action=review.decided"),
    "api.list_cells": ("?show=undecided",),
    "api.report": ("?version=1",),
    "api.export_cells": ("?labels=classes", "?case={number}"),
}


class World:
    """A case of two cells that two people read, in an application without a model at work; a reviewer stands by."""

    def __init__(self, site: Site, first: str, second: str) -> None:
        self.site = site
        self.first = make_user(self.site, "first@lab.example", first)
        self.second = make_user(self.site, "second@lab.example", second)
        self.third = make_user(self.site, "third@lab.example", "reviewer")
        self.case, self.images = make_case(self.site, self.first, [0.9, 0.8])
        give_second(self.site, self.first, self.case, self.second)
        self.app = create_app(Running(site=self.site))
        self.people = {}
        for user in (self.first, self.second):
            person, token = Person(self.app), api_tokens.make(self.site, user.id, "walk").text
            assert person.sign_in(user.email).status_code == 303
            self.people[user.id] = (person, {"Authorization": f"Bearer {token}"})

    def says(self, user: User, image: int) -> None:
        """A verdict with this person's marks."""
        comment, verdict = MARKS["first" if user is self.first else "second"]
        verdicts.decide(self.site, user, self.images[image], verdict, comment)

    def walk(self, user: User) -> dict[str, str]:
        """What this person is told through every door of the application that is opened by a GET."""
        person, key = self.people[user.id]
        told = {}
        for endpoint, path in self._doors():
            answer = person.get(path, **(key if path.startswith(API) else {}))
            assert answer.status_code < 500 or endpoint in ("readyz", "api.model"), (path, answer.text)
            told[path] = _text(answer)
        return told

    def _doors(self) -> Iterator[tuple[str, str]]:
        number = self.case.number
        known = {"number": [number], "image_id": self.images, "id": self.images, "token": ["x"], "filename": ["app.js"]}
        for rule in self.app.url_map.iter_rules():
            if "GET" not in (rule.methods or ()):
                continue
            paths = [rule.rule]
            for name in rule.arguments:  # a new door with a new argument is an error here until it is walked too
                parts = (f"<{name}>", f"<path:{name}>")
                paths = [p.replace(parts[0], v).replace(parts[1], v) for p in paths for v in known[name]]
            for path in paths:
                for asked in ("", *ASKED.get(rule.endpoint, ())):
                    yield rule.endpoint, path + asked.format(number=number)


def _text(answer: Any) -> str:
    """What is told, also in a document or an archive."""
    if answer.mimetype == "application/pdf":
        return words_of_pdf(answer.data)
    if answer.mimetype == "application/zip":
        with zipfile.ZipFile(io.BytesIO(answer.data)) as packed:
            return "\n".join(
                packed.read(name).decode() for name in packed.namelist() if name.endswith((".csv", ".txt"))
            )
    return "" if answer.mimetype.startswith("image/") else str(answer.text)


def _more(told: dict[str, str], before: dict[str, str], *marks: str) -> dict[str, list[str]]:
    """The marks that are told oftener than before, by door; a page names all categories to choose from, always."""
    found = {path: [m for m in marks if text.count(m) > before[path].count(m)] for path, text in told.items()}
    return {path: marks for path, marks in found.items() if marks}


@pytest.mark.parametrize(
    "roles", [("reader", "reader"), ("reviewer", "administrator"), ("administrator", "reviewer")], ids="-".join
)
def test_no_door_tells_a_reader_of_the_other_before_both_have_decided_every_cell(
    site: Site, roles: tuple[str, str]
) -> None:
    world = World(site, *roles)
    first, second = world.first, world.second
    untold = {first.id: (*MARKS["second"], *MARKS["settled"]), second.id: (*MARKS["first"], *MARKS["settled"])}
    before = {user.id: world.walk(user) for user in (first, second)}

    def hidden() -> None:
        for user in (first, second):
            told = world.walk(user)
            assert _more(told, before[user.id], *untold[user.id]) == {}
            if user is second:
                assert _more(told, dict.fromkeys(told, ""), *MODEL) == {}

    world.says(first, 0)
    world.says(second, 0)
    world.says(second, 1)
    verdicts.settle(site, world.third, world.images[0], MARKS["settled"][1], MARKS["settled"][0])
    hidden()
    second_readers.assign(site, first, world.case.number, "", True)  # nor by taking the second reader away for a while
    hidden()
    give_second(site, first, world.case, second)

    world.says(first, 1)
    case, cell = f"/cases/{world.case.number}", f"/cells/{world.images[0]}"
    for user in (first, second):
        told = world.walk(user)
        shown = _more(told, before[user.id], *untold[user.id])
        for path in (f"{case}/report", f"{case}/report.pdf", f"{API}{cell}/reviews", f"{API}{case}/report", "/history"):
            assert set(MARKS["settled"]) <= set(shown[path]), path
        assert {untold[user.id][0], MARKS["settled"][0]} <= set(shown[case + cell])
        modelled = _more(told, dict.fromkeys(told, ""), *MODEL)
        assert all(modelled.get(path) for path in (case + cell, f"{case}/report", "/history"))
        if user.role == "administrator":
            assert set(shown["/admin/audit"]) == {untold[user.id][1], MARKS["settled"][1]}

    verdicts.settle(site, world.third, world.images[1], "NILM")
    reports.sign(site, world.third, world.case.number, f"An ASC-H, {MARKS['settled'][0]}.")
    reports.reopen(site, world.third, world.case.number, "a picture was forgotten")
    intake.upload(site, first, world.case.number, [("later.png", png(9))])
    hidden()
    assert site.audit_log.verify(site.database).ok


@pytest.fixture
def first(site: Site) -> User:
    return make_user(site, "first@lab.example")


@pytest.fixture
def twice(site: Site, first: User, second: User) -> tuple[CaseSummary, list[str]]:
    """A case of three cells: both have read the first, and the second reader the others too."""
    case, images = make_case(site, first, [0.9, 0.8, 0.1])
    give_second(site, first, case, second)
    verdicts.decide(site, first, images[0], "HSIL", "first's words")
    for image in images:
        verdicts.decide(site, second, image, "LSIL", "second's words")
    return case, images


Twice = tuple[CaseSummary, list[str]]


@on_both
def test_a_draft_holds_the_own_verdicts_alone_says_so_and_is_not_signed(
    site: Site, first: User, second: User, reviewer: User, twice: Twice
) -> None:
    case, images = twice
    with site.database.read() as session:
        own = reports.draft(session, first, case.number, site.clock())
        every = reports.draft(session, reviewer, case.number, site.clock())
        with pytest.raises(DeniedError, match="blinded"):
            reports.draft(session, second, case.number, site.clock())
    assert [(c.verdict, c.reader) for c in own.cells] == [("HSIL", "first"), (None, ""), (None, "")]
    assert own.disputed == 0
    assert "your verdicts alone" in own.blinded
    assert own.body["blinded"] == own.blinded
    assert (every.cells[0].disputed, "can be signed when both" in every.blinded) == (True, True)
    with pytest.raises(InvalidFieldError, match="not complete"):
        reports.sign(site, reviewer, case.number, "High grade.", seen=every.state)
    for image in images[1:]:
        verdicts.decide(site, first, image, "LSIL")
    verdicts.settle(site, reviewer, images[0], "HSIL")
    signed = reports.sign(site, reviewer, case.number, "High grade.")
    assert (signed.blinded, signed.problem) == ("", "")
    assert "blinded" not in signed.body


def test_who_reads_blinded_signs_nothing_and_settles_nothing(site: Site, reviewer: User, second: User) -> None:
    case, (image, _) = make_case(site, reviewer, [0.9, 0.8])
    give_second(site, reviewer, case, second)
    verdicts.decide(site, reviewer, image, "HSIL")
    verdicts.decide(site, second, image, "NILM")
    acts: tuple[Callable[[], object], ...] = (
        lambda: reports.sign(site, reviewer, case.number, "High grade."),
        lambda: verdicts.settle(site, reviewer, image, "HSIL"),
    )
    for act in acts:
        with pytest.raises(DeniedError, match="blinded"):
            act()


@on_both
def test_tables_and_data_sets_hold_the_own_verdicts_alone_and_say_so(site: Site, first: User, twice: Twice) -> None:
    case, images = twice

    def read(download: Any) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(b"".join(download.chunks).decode())))

    for table in (read(exports.case_table(site, first, case.number)), read(exports.all_table(site, first))):
        assert [(row["first_verdict"], row["second_verdict"], row["final_verdict"]) for row in table] == [
            ("HSIL", "", "HSIL"),
            ("", "", ""),
            ("", "", ""),
        ]
        assert {row["blinded"] for row in table} == {"the other reading is blinded until it is complete"}
    with zipfile.ZipFile(io.BytesIO(b"".join(exports.reviewed_cells(site, first).chunks))) as packed:
        notes, cells = packed.read("notes.txt").decode(), packed.read("cells.csv").decode()
    assert "Left out: nothing." in notes  # how far the other reader is, is not told either
    assert "Of 1 the other reading is blinded until it is complete: their labels are your verdicts alone." in notes
    assert cells.count("\n") == 2
    for image in images[1:]:
        verdicts.decide(site, first, image, "LSIL")
    whole = read(exports.case_table(site, first, case.number))
    assert [row["second_verdict"] for row in whole] == ["LSIL"] * 3
    assert {row["blinded"] for row in whole} == {""}


@on_both
def test_the_owner_is_bound_by_a_complete_reading_as_the_second_reader_is(
    site: Site, first: User, second: User, twice: Twice
) -> None:
    case, images = twice
    verdicts.decide(site, first, images[0], "SCC")  # nothing has been seen yet
    for image in images[1:]:
        verdicts.decide(site, first, image, "LSIL")
    for user in (first, second):
        for act in (
            lambda u=user: verdicts.decide(site, u, images[0], "NILM"),
            lambda u=user: verdicts.undo(site, u, case.number),
        ):
            with pytest.raises(DeniedError, match="closed"):
                act()
    intake.upload(site, first, case.number, [("later.png", png(9))])
    with pytest.raises(DeniedError, match="closed"):
        verdicts.decide(site, first, images[0], "NILM")
    second_readers.assign(site, first, case.number, second.id, False)
    assert verdicts.decide(site, first, images[0], "NILM").verdict == "NILM"  # no longer a blinded reading


def test_a_reading_that_a_failure_completed_stands_when_a_picture_comes_later(
    site: Site, first: User, second: User, tmp_path: Path
) -> None:
    case, (image, waiting) = make_case(site, first, [0.9, None])
    give_second(site, first, case, second)
    for user in (first, second):
        verdicts.decide(site, user, image, "HSIL")
    with site.database.read() as session:
        assert blinding.is_blind(session, first, permissions.find(session, first, case.number))
        row = session.get_one(Image, waiting)
    answers.store(site, small_bundle(tmp_path / "bundle"), [Answer(row, reason="the file is damaged")])
    page = _signed_in(site, first).get(f"/cases/{case.number}/cells/{image}").text
    assert "1 of 1 decided" in page  # nobody can decide the other
    with site.database.read() as session:
        assert not blinding.is_blind(session, first, permissions.find(session, first, case.number))
        assert session.query(AuditRow).filter_by(action="review.completed").one().actor == "system"
    intake.upload(site, first, case.number, [("later.png", png(9))])
    with pytest.raises(DeniedError, match="closed"):
        verdicts.decide(site, first, image, "NILM")


@on_both
def test_a_reading_that_assigning_completed_stands_when_a_picture_comes_later(
    site: Site, first: User, second: User
) -> None:
    case, (image,) = make_case(site, first, [0.9])
    give_second(site, first, case, second)
    verdicts.decide(site, second, image, "LSIL")
    second_readers.assign(site, first, case.number, "", True)
    verdicts.decide(site, first, image, "HSIL")
    give_second(site, first, case, second)
    with site.database.read() as session:
        row = permissions.find(session, first, case.number)
        assert [d.verdict for d in verdicts.others(session, first, row, image)] == ["LSIL"]
    intake.upload(site, first, case.number, [("later.png", png(9))])
    for user in (first, second):
        with pytest.raises(DeniedError, match="closed"):
            verdicts.decide(site, user, image, "NILM")


@on_both
def test_who_was_a_second_reader_stays_one_and_no_third_person_decides(
    site: Site, first: User, second: User, reviewer: User
) -> None:
    case, (one, two) = make_case(site, first, [0.9, 0.8])
    verdicts.decide(site, reviewer, one, "SCC")  # nobody reads it second yet
    other = make_user(site, "other@lab.example", "reviewer")
    give_second(site, first, case, other)
    verdicts.decide(site, other, one, "NILM")
    give_second(site, first, case, second)
    verdicts.decide(site, first, one, "HSIL")
    with site.database.read() as session:
        row = permissions.find(session, other, case.number)
        assert verdicts.others(session, other, row, one) == []
        assert {d.verdict for d in verdicts.others(session, reviewer, row, one)} == {"HSIL", "NILM"}
        assert not verdicts.can_undo(session, reviewer, row)
    for user in (other, reviewer):
        for act in (
            lambda u=user: verdicts.decide(site, u, two, "HSIL"),
            lambda u=user: verdicts.undo(site, u, case.number),
        ):
            with pytest.raises(DeniedError, match="read blinded"):
                act()
        page = _signed_in(site, user).get(f"/cases/{case.number}/cells/{one}").text
        assert "settles what differs" in page
        assert "/decision" not in page
        assert "Take back" not in page
    for reader, image in ((first, two), (second, one), (second, two)):
        verdicts.decide(site, reader, image, "HSIL")
    with site.database.read() as session:
        row = permissions.find(session, other, case.number)
        assert {d.verdict for d in verdicts.others(session, other, row, one)} == {"SCC", "HSIL"}
    with pytest.raises(DeniedError, match="closed"):
        verdicts.decide(site, other, one, "HSIL")  # who has read second is bound as the two are
    verdicts.decide(site, reviewer, two, "SCC")
    assert verdicts.settle(site, reviewer, two, "HSIL").verdict == "HSIL"


def test_what_the_model_says_opens_no_verdict_to_who_must_not_know_it(site: Site, first: User, second: User) -> None:
    """Neither what is taken nor what is said of the rest tells a picture that the model refused from any other."""
    case, images = make_case(site, first, [0.9, 0.9, None])
    predict(site, images[2], 0.9, label="unsatisfactory")
    give_second(site, first, case, second)
    said = set()
    for image in images:
        with pytest.raises(InvalidFieldError) as caught:
            verdicts.decide(site, second, image, "severe_dysplastic")
        said.add(str(caught.value))
    assert len(said) == 1
    assert not any("dysplastic" in choice for choice in said.pop().partition("choose one of")[2].split(", "))
    assert verdicts.decide(site, first, images[0], "severe_dysplastic").verdict == "HSIL"


def test_pages_of_a_blinded_reading_offer_what_can_be_done(
    site: Site, first: User, second: User, reviewer: User, twice: Twice
) -> None:
    case, images = twice
    path = f"/cases/{case.number}"
    people = [_signed_in(site, user) for user in (first, second, reviewer)]
    own, other, third = ({place: p.get(path + place).text for place in ("", f"/cells/{images[0]}")} for p in people)
    assert "Read blinded" in own[""]
    assert f'{path}/report"' in own[""]
    assert "Read blinded: neither the model" in other[""]
    assert f"{path}/report" not in other[""] + other[f"/cells/{images[0]}"]
    assert f"{path}/cells.csv" not in other[""]
    assert "Read blinded" not in third[""]
    sign = f'action="{path}/report/signature"'
    assert sign not in people[2].get(f"{path}/report").text
    for image in images[1:]:
        verdicts.decide(site, first, image, "LSIL")
    for person in people[:2]:
        text = person.get(f"{path}/cells/{images[0]}").text
        assert "It stands" in text
        assert "/decision" not in text
        assert "Take back" not in text
        assert "Read blinded" not in person.get(path).text
    assert sign in people[2].get(f"{path}/report").text


def _signed_in(site: Site, user: User) -> Person:
    """Somebody who is signed in."""
    person = Person(create_app(Running(site=site)))
    assert person.sign_in(user.email).status_code == 303
    return person


@on_both
def test_another_second_reader_reads_the_whole_case_and_what_was_seen_stands(
    site: Site, first: User, second: User, twice: Twice
) -> None:
    case, images = twice
    for image in images[1:]:
        verdicts.decide(site, first, image, "LSIL")
    other = make_user(site, "other@lab.example")
    give_second(site, first, case, other)
    with pytest.raises(DeniedError, match="closed"):
        verdicts.decide(site, first, images[0], "NILM")
    for n, image in enumerate(images):
        with site.database.read() as session:
            row = permissions.find(session, other, case.number)
            assert blinding.is_blind(session, other, row), n
            assert [d.reader for d in verdicts.others(session, other, row, images[0])] == []
        verdicts.decide(site, other, image, "NILM")
    with site.database.read() as session:
        row = permissions.find(session, other, case.number)
        assert {d.reader for d in verdicts.others(session, other, row, images[0])} == {"first", "second"}


@on_both
def test_numbers_and_events_of_other_cases_stay(site: Site, reviewer: User, second: User) -> None:
    """What is hidden is one reading: the rest of the laboratory goes on being seen."""
    hidden, (image,) = make_case(site, reviewer, [0.9])
    give_second(site, reviewer, hidden, second)
    verdicts.decide(site, second, image, "SCC")
    _, (own,) = make_case(site, reviewer, [0.9])
    verdicts.decide(site, reviewer, own, "HSIL")
    _, (theirs,) = make_case(site, second, [0.9])
    verdicts.decide(site, second, theirs, "LSIL")
    with site.database.read() as session:
        found = dashboard.overview(session, reviewer, 7, site.clock())
        events = history.listing(session, reviewer, Filters()).rows
    assert sorted(found["verdicts"]) == [("HSIL", 1), ("LSIL", 1)]
    assert [e.verdict for e in events if e.kind == "verdict"] == ["LSIL", "HSIL"]


@on_both
def test_an_administrator_who_reads_blinded_finds_no_verdict_in_the_audit_log(site: Site, first: User) -> None:
    admin = make_user(site, "admin@lab.example", "administrator")
    case, (image,) = make_case(site, first, [0.9])
    give_second(site, first, case, admin)
    verdicts.decide(site, first, image, "SCC")
    with site.database.read() as session:
        untold = tuple(blinding.numbers(session, admin))
        assert untold == (case.number,)
        assert audit_log_search.count(session, audit_log_search.Wanted(q="SCC")) == 1
        assert audit_log_search.count(session, audit_log_search.Wanted(q="SCC", untold=untold)) == 0
        wanted = audit_log_search.Wanted(action="review.decided", untold=untold)
        assert [audit_log_search.detail(row, wanted) for row in audit_log_search.rows(session, wanted, 0, 9)] == [
            "blinded until the reading is complete"
        ]
        told = audit_log_search.Wanted(action="case.assigned", untold=untold)
        assert "admin@lab.example" in audit_log_search.detail(audit_log_search.rows(session, told, 0, 9)[0], told)
    verdicts.decide(site, admin, image, "NILM")
    with site.database.read() as session:
        assert blinding.numbers(session, admin) == []


def test_verdicts_are_looked_up_by_the_picture_and_not_among_all_that_a_reader_ever_gave(
    site: Site, first: User, twice: Twice
) -> None:
    """SQLite takes the reader's index where it may, and a list of cells then grows with the square of the readings."""
    case, images = twice
    sent: list[tuple[str, Any]] = []
    event.listen(site.database.engine, "before_cursor_execute", lambda *a: sent.append((a[2], a[3])))
    worklist.order(site, first, case.number)
    cases.get(site, first, case.number)
    with site.database.read() as session:
        verdicts.own(session, first, images[0])
        asked = [(statement, values) for statement, values in sent if "reviews" in statement]
        plans = [session.connection().exec_driver_sql(f"EXPLAIN QUERY PLAN {q}", v).all() for q, v in asked]
    assert len(plans) >= 3
    assert "ix_reviews_image_id" in str(plans)
    assert "ix_reviews_reader_id" not in str(plans)


def test_a_case_without_a_picture_is_read_blinded_and_one_with_none_to_decide_is_not(
    site: Site, first: User, second: User, reviewer: User, tmp_path: Path
) -> None:
    """A picture may come to the one; of the other nobody could decide a cell, and so it could never be signed."""
    empty, (case, (image,)) = cases.create(site, first), make_case(site, first, [None])
    for found in (empty, case):
        give_second(site, first, found, second)
    assert cases.get(site, second, empty.number).hides_model
    assert cases.get(site, second, case.number).hides_model
    with site.database.read() as session:
        row = session.get_one(Image, image)
    answers.store(site, small_bundle(tmp_path / "bundle"), [Answer(row, reason="the file is damaged")])
    assert not cases.get(site, second, case.number).hides_model
    reports.sign(site, reviewer, case.number, "Nothing can be said.")
    reports.reopen(site, reviewer, case.number, "a picture came")
    intake.upload(site, first, case.number, [("later.png", png(9))])
    assert cases.get(site, second, case.number).hides_model
    (late,) = [step.image_id for step in worklist.order(site, first, case.number) if step.state == "waiting"]
    for user, verdict in ((first, "NILM"), (first, "LSIL"), (second, "LSIL")):
        assert verdicts.decide(site, user, late, verdict).verdict == verdict
    assert not cases.get(site, second, case.number).hides_model
