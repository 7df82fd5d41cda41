"""Case reports: drafts, signatures, amendments, what was changed behind them, and the PDF."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from sqlalchemy import text

from cervicyte.web.base.schema import AuditRow, Case, Image, Report, User
from cervicyte.web.base.site import Site
from cervicyte.web.cases import cases, permissions
from cervicyte.web.cases.cases import CaseSummary
from cervicyte.web.errors import DeniedError, InvalidFieldError, NotFoundError
from cervicyte.web.reading import verdicts
from cervicyte.web.reports import body as report_body, pdf as report_pdf, reports
from cervicyte.web.reports.reports import View
from support.web.databases import on_both
from support.web.pdf import words_of_pdf
from support.web.records import MODEL, give_second, make_case, predict
from support.web.site import Clock, make_user


@pytest.fixture
def case(site: Site, owner: User) -> CaseSummary:
    made, ids = make_case(site, owner, [0.1, 0.9, None])
    verdicts.decide(site, owner, ids[0], "agree")
    verdicts.decide(site, owner, ids[1], "SCC", "keratin")
    _fail(site, ids[2])
    return made


def _fail(site: Site, image_id: str) -> None:
    """The model has no answer for a picture."""
    with site.database.write() as session:
        image = session.get(Image, image_id)
        assert image is not None
        image.state, image.reason = "failed", "the stored image was damaged"


def _draft(site: Site, user: User, case: CaseSummary) -> View:
    with site.database.read() as session:
        return reports.draft(session, user, case.number, site.clock())


def _view(site: Site, user: User, case: CaseSummary, version: int | None = None) -> View:
    with site.database.read() as session:
        return reports.view(session, user, case.number, site.clock(), version, lambda n: f"/v{n}")


def test_a_draft_says_everything_that_a_report_will(site: Site, owner: User, case: CaseSummary) -> None:
    found = _draft(site, owner, case)
    assert (found.version, found.signed_at, found.sha256, found.problem, found.changed) == (1, None, "", "", False)
    assert (found.model_name, found.model_sha256, found.operating_point) == ("a network", MODEL, 0.3)
    assert found.summary == (("SCC", 1), ("NILM", 1))
    assert [(c.position, c.p_abnormal, c.verdict, c.agrees, c.reader, c.comment) for c in found.cells] == [
        (2, 0.9, "SCC", False, "owner", "keratin"),
        (1, 0.1, "NILM", True, "owner", ""),
        (3, None, None, None, "", ""),
    ]
    assert (found.case.images, found.case.failed, found.case.waiting) == (3, 1, 0)
    assert (found.not_read, found.case.owner, found.case.accession) == (0, "owner", "A 12")
    assert _view(site, owner, case) == replace(found, versions=((1, "/v1", None),))


def test_nothing_is_signed_while_pictures_wait_and_what_has_no_answer_is_named(
    site: Site, owner: User, reviewer: User
) -> None:
    case, ids = make_case(site, owner, [0.9, None, None])
    verdicts.decide(site, owner, ids[0], "HSIL")
    found = _draft(site, reviewer, case)
    assert (found.case.waiting, found.not_read) == (2, 2)
    assert "2 pictures wait for the model." in words_of_pdf(report_pdf.render(found, site.image_store.get))
    with pytest.raises(InvalidFieldError, match="2 pictures wait for the model"):
        reports.sign(site, reviewer, case.number, "High grade.")
    predict(site, ids[1], 0.8)
    with site.database.write() as session:
        session.get_one(Image, ids[1]).state = "done"
    with pytest.raises(InvalidFieldError, match="a picture waits for the model"):
        reports.sign(site, reviewer, case.number, "High grade.")
    _fail(site, ids[2])
    signed = reports.sign(site, reviewer, case.number, "High grade.")
    last = signed.cells[-1]
    assert (last.id, last.state, last.reason, last.label) == (ids[2], "failed", "the stored image was damaged", "")
    words = words_of_pdf(report_pdf.render(signed, site.image_store.get))
    assert "1 picture has no answer of the model." in words
    assert "3, of which 1 not answered" in words
    assert "the stored image" in words
    with site.database.write() as session:
        session.get_one(Image, ids[2]).state = "waiting"  # asked again by an administrator
    with pytest.raises(InvalidFieldError, match="a picture waits"):
        reports.sign(site, reviewer, case.number, "None.", "read again")


@on_both
def test_a_signature_is_bound_to_what_was_shown(site: Site, owner: User, reviewer: User, case: CaseSummary) -> None:
    with pytest.raises(DeniedError):
        reports.sign(site, owner, case.number, "Carcinoma.")
    seen = _draft(site, reviewer, case).state
    verdicts.undo(site, owner, case.number)
    with pytest.raises(InvalidFieldError, match="changed while"):
        reports.sign(site, reviewer, case.number, "Carcinoma.", seen=seen)
    with pytest.raises(InvalidFieldError) as caught:
        reports.sign(site, reviewer, case.number, "  ")
    assert caught.value.field == "conclusion"
    signed = reports.sign(site, reviewer, case.number, "Carcinoma.", seen=_draft(site, reviewer, case).state)
    assert (signed.version, signed.signed_by, signed.signed_at, signed.problem) == (1, "reviewer", site.clock(), "")
    assert signed.sha256 == report_body.digest(signed.body)
    with site.database.read() as session:
        row = session.query(AuditRow).filter_by(action="report.signed").one()
        assert row.detail["sha256"] == signed.sha256
        assert permissions.find(session, reviewer, case.number).state == "signed"
        assert site.audit_log.verify(site.database).ok
    assert _view(site, owner, case).conclusion == "Carcinoma."


@on_both
def test_an_amendment_is_a_new_version_and_keeps_the_old(
    site: Site, owner: User, reviewer: User, case: CaseSummary
) -> None:
    clock = site.clock
    assert isinstance(clock, Clock)
    first = reports.sign(site, reviewer, case.number, "Carcinoma.")
    clock.forward(hours=1)
    with pytest.raises(InvalidFieldError) as caught:
        reports.sign(site, reviewer, case.number, "None.")
    assert caught.value.field == "reason"
    with pytest.raises(DeniedError):
        reports.reopen(site, owner, case.number, "a mistake")
    reports.reopen(site, reviewer, case.number, "a mistake")
    assert not _view(site, owner, case).changed
    cases.edit(site, owner, case.number, "B 99", first.case.notes)
    assert (_view(site, owner, case).changed, _view(site, owner, case).case.accession) == (True, first.case.accession)
    cases.edit(site, owner, case.number, first.case.accession, first.case.notes)
    assert not _view(site, owner, case).changed
    predict(site, first.cells[0].id, 0.2)  # a later answer of the model changes no signed report
    assert _view(site, owner, case).cells == first.cells
    verdicts.decide(site, owner, first.cells[0].id, "HSIL")
    assert _view(site, owner, case).changed
    second = reports.sign(site, reviewer, case.number, "High grade.", "read again")
    old, new = _view(site, owner, case, 1), _view(site, owner, case)
    assert (old.conclusion, old.cells, old.sha256, old.changed) == ("Carcinoma.", first.cells, first.sha256, True)
    assert (new.version, new.reason, new.sha256, new.changed) == (2, "read again", second.sha256, False)
    assert [(v, link) for v, link, _ in new.versions] == [(1, "/v1"), (2, "/v2")]
    assert old.problem == new.problem == ""
    with pytest.raises(NotFoundError):
        _view(site, owner, case, 3)


@on_both
def test_what_cannot_be_signed_says_why(site: Site, owner: User, reviewer: User) -> None:
    empty = cases.create(site, owner)
    with pytest.raises(InvalidFieldError, match="no picture"):
        reports.sign(site, reviewer, empty.number, "Nothing.")
    second = make_user(site, "second@lab.example")
    case, (image, other) = make_case(site, owner, [0.9, 0.8])
    give_second(site, owner, case, second)
    verdicts.decide(site, owner, image, "HSIL")
    verdicts.decide(site, second, image, "NILM")
    with pytest.raises(DeniedError, match="blinded"):
        _draft(site, second, case)
    verdicts.decide(site, second, other, "NILM")
    with pytest.raises(InvalidFieldError, match="blinded reading is not complete"):
        reports.sign(site, reviewer, case.number, "High grade.")
    verdicts.decide(site, owner, other, "NILM")
    with pytest.raises(InvalidFieldError, match="differ"):
        reports.sign(site, reviewer, case.number, "High grade.")
    verdicts.settle(site, reviewer, image, "ASC-H")
    signed = reports.sign(site, reviewer, case.number, "High grade.")
    assert [(c.verdict, c.reader) for c in signed.cells] == [("ASC-H", "reviewer"), ("NILM", "owner")]
    assert signed.body["cells"][0]["first"]["verdict"] == "HSIL"
    assert _view(site, second, case).sha256 == signed.sha256
    with pytest.raises(NotFoundError):
        _draft(site, make_user(site, "stranger@lab.example"), case)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE reports SET body = replace(body, 'SCC', 'NILM')", "checksum"),
        ("UPDATE reports SET reason = 'because'", "moved"),
        ("UPDATE reports SET signed_at = '2020-01-01 00:00:00'", "moved"),
        ("DELETE FROM reports WHERE version = 1", "missing"),
    ],
)
def test_what_was_changed_behind_the_signature_is_said(
    site: Site, reviewer: User, case: CaseSummary, change: str, said: str
) -> None:
    reports.sign(site, reviewer, case.number, "Carcinoma.")
    if "DELETE" in change:
        reports.sign(site, reviewer, case.number, "Carcinoma!", "a sign")
    with site.database.write() as session:
        session.execute(text(change))
    found = _view(site, reviewer, case)
    assert said in found.problem
    assert "Do not rely" in words_of_pdf(report_pdf.render(found, site.image_store.get))


def test_a_checksum_that_was_computed_anew_is_not_in_the_audit_log(
    site: Site, reviewer: User, case: CaseSummary
) -> None:
    reports.sign(site, reviewer, case.number, "Carcinoma.")
    with site.database.write() as session:
        row = session.query(Report).one()
        row.body = json.loads(json.dumps(row.body).replace("Carcinoma", "Nothing"))
        row.sha256 = report_body.digest(row.body)
    assert "audit log" in _view(site, reviewer, case).problem


def test_the_pdf_shows_version_checksum_and_pages(site: Site, reviewer: User, case: CaseSummary) -> None:
    draft = report_pdf.render(_draft(site, reviewer, case), site.image_store.get)
    assert draft.startswith(b"%PDF-")
    assert "DRAFT" in words_of_pdf(draft)
    signed = reports.sign(site, reviewer, case.number, "Carcinoma.\nA colposcopy is advised.")
    made = report_pdf.render(signed, site.image_store.get)
    words = words_of_pdf(made)
    for part in (
        signed.sha256,
        MODEL,
        "version 1",
        "Signed by reviewer",
        "keratin",
        "colposcopy",
        "Squamous cell carcinoma",
    ):
        assert part in words
    assert "DRAFT" not in words
    assert made.count(b"/Subtype /Image") == 2
    assert report_pdf.render(signed, site.image_store.get) == made
    without = report_pdf.render(signed, lambda _: None)
    assert without.count(b"/Subtype /Image") == 0
    assert "picture not available" in words_of_pdf(without)
    assert report_pdf.render(signed, lambda _: b"no picture").startswith(b"%PDF-")


def test_letters_that_the_font_lacks_are_shown_by_number_and_noted(
    site: Site, reviewer: User, case: CaseSummary
) -> None:
    found = replace(_draft(site, reviewer, case), conclusion="Žluť, Ωμέγα, Ж, 宮")
    words = words_of_pdf(report_pdf.render(found, site.image_store.get))
    assert "Žluť, Ωμέγα, Ж, ⟨U+5BAE⟩" in words
    assert "font lacks" in words


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(min_size=1, max_size=60))
def test_no_text_breaks_the_pdf(site: Site, words: str) -> None:
    with site.database.read() as session:
        user = session.query(User).filter_by(email="any@lab.example").one_or_none()
    user = user or make_user(site, "any@lab.example", "reviewer")
    case, _ = make_case(site, user, [0.5])
    view = _draft(site, user, case)
    cell = replace(view.cells[0], name=words, comment=words * 20, reader=words)
    odd = replace(view, conclusion=words, cells=(cell,) * 3, case=replace(view.case, accession=words, notes=words))
    assert report_pdf.render(odd, site.image_store.get).startswith(b"%PDF-")


_LONG = {
    "English": ("The nucleus is enlarged, its chromatin coarse, its outline irregular. " * 30)[:2000],
    "one word": "x" * 2000,
    "Chinese": "\u7ec6\u80de\u6838\u589e\u5927" * 400,
    "Hindi": ("\u0915\u094b\u0936\u093f\u0915\u093e " * 300)[:2000],
    "many lines": "\n".join(f"line {i}" for i in range(210)),
}


@pytest.mark.parametrize("kind", _LONG)
@pytest.mark.parametrize("where", ["comment", "notes", "name"])
def test_texts_of_any_allowed_length_go_on_on_the_next_page(
    site: Site, owner: User, reviewer: User, where: str, kind: str
) -> None:
    long = _LONG[kind]
    made, (image_id,) = make_case(site, owner, [0.9])
    with site.database.write() as session:
        if where == "notes":
            session.get_one(Case, made.id).notes = long
        if where == "name":
            session.get_one(Image, image_id).name = long[:180].replace("\n", " ")
    verdicts.decide(site, owner, image_id, "SCC", long if where == "comment" else "")
    words = words_of_pdf(report_pdf.render(_draft(site, owner, made), site.image_store.get))
    shown = long[:180].split("\n")[0] if where == "name" else long.split()[-1]
    first = shown[:1] if shown.isascii() else f"U+{ord(shown[-1]):04X}"
    assert first in words
    if kind == "many lines" and where != "name":
        assert all(f"line {i}" in words for i in range(210))
    signed = reports.sign(site, reviewer, made.number, "Carcinoma.")
    assert report_pdf.render(signed, site.image_store.get).startswith(b"%PDF-")
