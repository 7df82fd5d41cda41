"""Cases: who sees which, what is counted, which cell comes first, what is taken in, and what is left when one goes."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'web' is not installed")

from PIL import Image as Pillow
from sqlalchemy import event, func, select

from cervicyte.errors import StorageError, UsageError
from cervicyte.images import decoding
from cervicyte.web.accounts import api_tokens, registration, users
from cervicyte.web.base import rate_limits
from cervicyte.web.base.schema import AuditRow, Case, Image, PredictionRow, Upload, VerdictRow
from cervicyte.web.cases import cases, deletion, intake, listing as case_list, permissions, pictures, second_readers
from cervicyte.web.cases.cases import CaseSummary
from cervicyte.web.errors import BusyError, DeniedError, InvalidFieldError, NotFoundError, TooManyRequestsError
from cervicyte.web.reading import worklist
from support.web.cases import answer, case_with, picture, review, rows, says, small_bundle
from support.web.databases import on_both
from support.web.site import make_user


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("cases") / "bundle")


@pytest.fixture
def administrator(site):
    return make_user(site, "admin@lab.example", "administrator")


def _actions(site) -> list[str]:
    with site.database.read() as session:
        return list(session.scalars(select(AuditRow.action).order_by(AuditRow.id)))


def _archive(**entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name.replace("__", "/"), data)
    return buffer.getvalue()


# ---- cases


def test_a_case_is_found_by_its_number_however_it_is_typed(site, reader) -> None:
    case = cases.create(site, reader, "  A-17\u202e\n B ", "pale\r\nstain")
    assert (case.accession, case.notes, case.state, case.owner) == ("A-17 B", "pale\nstain", "open", "first")
    assert len(case.number) == 6
    typed = f" {case.number.lower().replace('0', 'o').replace('1', 'l')} "
    assert cases.get(site, reader, typed).id == case.id
    assert (case.images, case.decided, case.abnormal) == (0, 0, 0)


def test_a_case_that_is_not_ones_own_looks_like_none(site, reader, other, reviewer) -> None:
    case = case_with(site, reader, 1)
    image = rows(site, case.number)[0]
    for act in (
        lambda: cases.get(site, other, case.number),
        lambda: cases.get(site, other, "ZZZZZZ"),
        lambda: cases.edit(site, other, case.number, "", ""),
        lambda: second_readers.assign(site, other, case.number, other.id, False),
        lambda: intake.upload(site, other, case.number, [("a.png", picture(1))]),
        lambda: deletion.delete(site, other, case.number, case.number),
        lambda: worklist.cells(site, other, case.number),
    ):
        with pytest.raises(NotFoundError, match="no such case"):
            act()
    for act in (pictures.original, pictures.stored, pictures.thumbnail, worklist.prediction):
        with pytest.raises(NotFoundError, match="no such picture"):
            act(site, other, image.id)
        with pytest.raises(NotFoundError, match="no such picture"):
            act(site, reader, "0" * 32)
    assert case_list.listing(site, other).total == 0
    assert cases.get(site, reviewer, case.number).number == case.number
    with pytest.raises(DeniedError, match="may not"):
        intake.upload(site, reviewer, case.number, [("a.png", picture(1))])


def test_another_cases_cell_is_not_shown_under_a_case(site, reader) -> None:
    one, two = case_with(site, reader, 1), case_with(site, reader, 1, first=5)
    with pytest.raises(NotFoundError):
        worklist.one(site, reader, one.number, rows(site, two.number)[0].id)


def test_a_signed_case_does_not_change(site, reader, administrator) -> None:
    case = case_with(site, reader, 1)
    with site.database.write() as session:
        session.get(Case, case.id).state = "signed"
    for act in (
        lambda: cases.edit(site, reader, case.number, "x", ""),
        lambda: intake.upload(site, reader, case.number, [("a.png", picture(1))]),
        lambda: intake.retry(site, reader, case.number),
        lambda: deletion.delete(site, reader, case.number, case.number),
    ):
        with pytest.raises(DeniedError, match="signed"):
            act()
    deletion.delete(site, administrator, case.number, case.number)
    assert case_list.listing(site, administrator).total == 0


@pytest.mark.parametrize(("accession", "notes", "field"), [("x" * 81, "", "accession"), ("", "x" * 2001, "notes")])
def test_what_is_too_long_is_refused_beside_its_field(site, reader, accession, notes, field) -> None:
    with pytest.raises(InvalidFieldError, match="too long") as caught:
        cases.create(site, reader, accession, notes)
    assert caught.value.field == field
    case = cases.create(site, reader)
    with pytest.raises(InvalidFieldError):
        cases.edit(site, reader, case.number, accession, notes)


def test_the_second_reader_is_another_person_who_has_not_read_the_case(site, reader, other, reviewer) -> None:
    case = case_with(site, reader, 1)
    assert {i for i, _ in second_readers.candidates(site, reader, case.number)} == {other.id, reviewer.id}
    for who in (reader.id, "0" * 32):
        with pytest.raises(InvalidFieldError) as caught:
            second_readers.assign(site, reader, case.number, who, True)
        assert caught.value.field == "second_reader"
    review(site, reviewer, rows(site, case.number)[0].id, "HSIL")
    with pytest.raises(InvalidFieldError, match="as the first reader"):
        second_readers.assign(site, reader, case.number, reviewer.id, True)
    second_readers.assign(site, reader, case.number, other.id, True)
    assert [c.number for c in case_list.as_second_reader(site, other)] == [case.number]
    assert cases.get(site, other, case.number).second_reader == "other"
    second_readers.assign(site, reader, case.number, "", True)
    assert case_list.listing(site, other).total == 0
    assert _actions(site).count("case.assigned") == 2


@on_both
def test_cases_are_searched_narrowed_ordered_and_paged_in_few_queries(site, reader, bundle) -> None:
    for i in range(7):
        site.clock.forward(hours=1)
        cases.create(site, reader, f"B-{7 - i}", "50% faint" if i == 3 else "")
    case = case_with(site, reader, 2, accession="Z_1")
    assert case_list.listing(site, reader, q="FAINT 50%").total == 1
    assert case_list.listing(site, reader, q="_").total == 1  # a letter like others, not a wildcard
    assert case_list.listing(site, reader, q="%' OR 1=1 --\x00").total == 0
    assert case_list.listing(site, reader, q=case.number.lower()).rows[0].images == 2
    assert case_list.listing(site, reader, state="signed").total == 0
    by_name = case_list.listing(site, reader, order="accession", size=3, page=2)
    assert [c.accession for c in by_name.rows] == ["B-4", "B-5", "B-6"]
    assert (by_name.number, by_name.pages, by_name.total) == (2, 3, 8)
    assert case_list.listing(site, reader, size=3, page=99).number == 3
    sent = []
    event.listen(site.database.engine, "before_cursor_execute", lambda *a: sent.append(a[2]))
    case_list.listing(site, reader)
    assert len([s for s in sent if s.startswith("SELECT")]) <= 4


def test_rights_are_what_may_says(site, reader, other, administrator) -> None:
    case = cases.create(site, reader)
    assert "new" in permissions.rights(reader)
    assert "see" not in permissions.rights(reader)
    assert {"upload", "edit", "delete", "decide"} <= permissions.rights(reader, case)
    assert not permissions.rights(other, case) & {"see", "upload"}
    assert "upload" not in permissions.rights(administrator, case)


# ---- cells in order


ANSWERS = [
    says("normal_columnar", 0.05),
    says("severe_dysplastic", 0.97, bethesda="HSIL"),
    says("unsatisfactory", None, uncertain=True, quality="blurred"),
    says("uncertain", 0.25, uncertain=True),
    says("uncertain", 0.41, uncertain=True),
    None,
    "the file ends in the middle of the picture",
    says("light_dysplastic", 0.9, bethesda="LSIL"),
    says("normal_columnar", 0.2),
]


def test_the_most_suspicious_cell_comes_first(site, reader, bundle) -> None:
    case = case_with(site, reader, len(ANSWERS))
    answer(site, bundle, case.number, ANSWERS)
    found = worklist.cells(site, reader, case.number).rows
    assert [c.position for c in found] == [2, 8, 5, 4, 3, 9, 1, 6, 7]
    assert (found[0].bethesda, found[0].flagged, found[-1].reason) == ("HSIL", True, ANSWERS[6])
    assert found[3].flagged is False
    assert found[3].uncertain
    assert found[4].flagged is None
    assert found[4].quality == "blurred"
    assert [s.image_id for s in worklist.order(site, reader, case.number)] == [c.id for c in found]
    summary = cases.get(site, reader, case.number)
    assert (summary.images, summary.done, summary.waiting, summary.failed) == (9, 7, 1, 1)
    assert (summary.abnormal, summary.uncertain, summary.unsatisfactory, summary.decided) == (3, 2, 1, 0)


@on_both
def test_filters_count_what_they_leave(site, reader, bundle) -> None:
    case = case_with(site, reader, len(ANSWERS))
    answer(site, bundle, case.number, ANSWERS)
    first, second = worklist.cells(site, reader, case.number).rows[:2]
    review(site, reader, first.id, "severe_dysplastic", agrees=True)
    review(site, reader, second.id, "NILM")
    review(site, reader, second.id, "")  # taken back
    numbers = {name: n for name, _, n in worklist.counts(site, reader, case.number)}
    assert numbers == {
        "all": 9, "undecided": 6, "abnormal": 3, "uncertain": 2, "unsatisfactory": 1, "waiting": 1, "failed": 1,
    }  # fmt: skip
    for name, n in numbers.items():
        listed = worklist.cells(site, reader, case.number, show=name, size=2)
        assert (listed.total, listed.pages) == (n, -(-n // 2))
    again = worklist.one(site, reader, case.number, first.id)
    assert (again.verdict, again.agrees) == ("HSIL", True)
    assert worklist.one(site, reader, case.number, second.id).verdict is None
    steps = worklist.order(site, reader, case.number)
    assert worklist.next_undecided(steps, after=first.id) == second.id
    assert cases.get(site, reader, case.number).decided == 1


def test_a_blinded_reader_learns_nothing_of_the_model(site, reader, other, bundle) -> None:
    case = case_with(site, reader, len(ANSWERS))
    answer(site, bundle, case.number, ANSWERS)
    second_readers.assign(site, reader, case.number, other.id, True)
    found = worklist.cells(site, other, case.number, show="abnormal").rows
    assert [c.position for c in found] == list(range(1, 10))
    assert {(c.label, c.bethesda, c.p_abnormal, c.flagged, c.uncertain, c.quality) for c in found} == {
        ("", None, None, None, False, "")
    }
    assert [name for name, _, _ in worklist.counts(site, other, case.number)] == [
        "all", "undecided", "waiting", "failed",
    ]  # fmt: skip
    assert worklist.prediction(site, other, found[1].id) is None
    summary = cases.get(site, other, case.number)
    assert (summary.abnormal, summary.uncertain, summary.unsatisfactory, summary.done) == (None, None, None, 7)
    review(site, reader, found[0].id, "HSIL")
    assert worklist.one(site, other, case.number, found[0].id).verdict is None
    review(site, other, found[0].id, "NILM", "second")
    assert worklist.one(site, other, case.number, found[0].id).verdict == "NILM"
    assert worklist.one(site, reader, case.number, found[0].id).verdict == "HSIL"
    second_readers.assign(site, reader, case.number, other.id, False)
    assert worklist.cells(site, other, case.number).rows[0].p_abnormal == 0.97


def test_a_newer_prediction_takes_the_place_of_an_older(site, reader, bundle) -> None:
    case = case_with(site, reader, 1)
    answer(site, bundle, case.number, [says("normal_columnar", 0.01)])
    with site.database.write() as session:
        session.scalar(select(Image)).state = "waiting"
    answer(site, bundle, case.number, [says("severe_dysplastic", 0.8)])
    cell = worklist.cells(site, reader, case.number).rows[0]
    assert (cell.label, cases.get(site, reader, case.number).images) == ("severe_dysplastic", 1)
    said = worklist.prediction(site, reader, cell.id)
    assert (said.p_abnormal, said.operating_point, said.limits["normal_below"]) == (0.8, 0.3, 0.1)


# ---- taking in


def test_an_upload_keeps_what_is_good_and_says_why_not_of_the_rest(site, reader) -> None:
    case = cases.create(site, reader)
    archive = _archive(slide__a=picture(1), slide__b=picture(2), junk=b"%PDF-1.7", slide__empty=b"")
    receipt = intake.upload(
        site, reader, case.number, [("c.bmp", picture(3, "BMP")), ("all.zip", archive), ("x.png", b"MZ")]
    )
    assert (receipt.accepted, [name for name, _ in receipt.refused]) == (
        3, ["all.zip/junk", "all.zip/slide/empty", "x.png"],
    )  # fmt: skip
    assert intake.Receipt.from_json(receipt.to_json()) == receipt
    found = rows(site, case.number)
    assert [(r.position, r.name, r.place, r.state) for r in found] == [
        (1, "c.bmp", "", "waiting"), (2, "a", "all.zip/slide", "waiting"), (3, "b", "all.zip/slide", "waiting"),
    ]  # fmt: skip
    assert all(site.image_store.get(r.sha256) for r in found)
    assert _actions(site)[-1] == "images.uploaded"


def test_an_upload_with_the_same_key_is_taken_once(site, reader, other) -> None:
    case = cases.create(site, reader)

    def send(key: str = "k-1", seed: int = 1, to: str = case.number) -> intake.Receipt:
        return intake.upload(site, reader, to, [("a.png", picture(seed)), ("b.png", b"no")], key)

    first = send()
    assert send() == first
    assert len(rows(site, case.number)) == 1
    assert send("k-2").accepted == 1
    assert len(rows(site, case.number)) == 2
    assert send(to=cases.create(site, reader).number).accepted == 1
    for key in ("a b", "x" * 101, "é"):
        with pytest.raises(UsageError, match="Idempotency-Key"):
            send(key)


def test_an_upload_that_was_taken_is_answered_again_when_its_case_was_signed(site, reader) -> None:
    one, two, three = (cases.create(site, reader) for _ in range(3))
    file = ("a.png", picture(1))

    def take_and_sign(case: CaseSummary) -> intake.Receipt:
        receipt = intake.upload(site, reader, case.number, [file], "k-1")
        with site.database.write() as session:
            session.get(Case, case.id).state = "signed"
        return receipt

    def meanwhile(case: CaseSummary):
        """The file; while it is read, the same one is taken from another request, and the case is signed."""
        take_and_sign(case)
        yield file

    def unread():
        pytest.fail("it was read")
        yield file

    first = take_and_sign(one)
    assert intake.upload(site, reader, one.number, unread(), "k-1") == first
    assert intake.upload(site, reader, two.number, meanwhile(two), "k-1") == first
    for case, key, files in ((one, "k-2", unread()), (two, "", unread()), (three, "k-2", meanwhile(three))):
        with pytest.raises(DeniedError, match="signed"):
            intake.upload(site, reader, case.number, files, key)
        assert len(rows(site, case.number)) == 1


@on_both
def test_the_same_key_at_the_same_time_is_taken_once(site, reader) -> None:
    case = cases.create(site, reader)
    files = [(f"{i}.png", picture(i)) for i in range(4)]
    receipts = []
    threads = [
        threading.Thread(target=lambda: receipts.append(intake.upload(site, reader, case.number, files, "same")))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.accepted for r in receipts] == [4] * 4
    assert [r.position for r in rows(site, case.number)] == [1, 2, 3, 4]


def test_an_upload_that_breaks_off_takes_nothing_and_can_be_sent_again(site, reader, monkeypatch) -> None:
    case = cases.create(site, reader)
    archive = _archive(a=picture(1), b=picture(2), c=picture(3))
    put = type(site.image_store).put
    stored = []

    def full(image_store, data):
        if len(stored) == 2:
            raise StorageError("cannot write: no space left on device", "disk", "free some space")
        stored.append(put(image_store, data))
        return stored[-1]

    monkeypatch.setattr(type(site.image_store), "put", full)
    with pytest.raises(StorageError):
        intake.upload(site, reader, case.number, [("all.zip", archive)], "key")
    assert rows(site, case.number) == []
    monkeypatch.setattr(type(site.image_store), "put", put)
    assert deletion.drop_orphans(site) == 0  # too young to be forgotten
    assert intake.upload(site, reader, case.number, [("all.zip", archive)], "key").accepted == 3
    assert deletion.drop_orphans(site, older_s=-10) == 0


_SENDER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cervicyte.web.accounts import users as accounts
from cervicyte.web.cases import intake
from cervicyte.web.reading import verdicts
from cervicyte.web.reading import worklist
from support.web.cases import picture
from support.web.site import make_site
site, number, k = make_site(Path(sys.argv[2])), sys.argv[3], int(sys.argv[4])
with site.database.read() as session:
    user = accounts.find(session, sys.argv[5])
while True:
    k += 1
    intake.upload(site, user, number, [(f"{k}a.png", picture(2 * k)), (f"{k}b.png", picture(2 * k + 1))], str(k))
    print("upload", k, flush=True)
    image = worklist.order(site, user, number)[-1].image_id
    verdicts.decide(site, user, image, "NILM")
    print("review", image, flush=True)
"""


def test_a_kill_loses_nothing_that_was_accepted_and_leaves_nothing_half_written(site, reader) -> None:
    case = cases.create(site, reader)
    said: list[list[str]] = []
    for turn in range(3):
        arguments = [Path(__file__).parent, site.data_dir, case.number, 1000 * turn, reader.id]
        command = [sys.executable, "-c", _SENDER, *map(str, arguments)]
        sender = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            said += [sender.stdout.readline().split() for _ in range(6 + turn)]
            time.sleep(0.007 * turn)
        finally:
            sender.kill()
            said += [line.split() for line in sender.communicate()[0].splitlines() if line.count(" ")]
    found = rows(site, case.number)
    names = {image.name for image in found}
    assert {f"{what}{half}.png" for kind, what in said if kind == "upload" for half in "ab"} <= names
    assert {f"{name[:-5]}{half}.png" for name in names for half in "ab"} == names  # a request is taken whole or not
    assert [hashlib.sha256(site.image_store.get(image.sha256)).hexdigest() for image in found] == [
        i.sha256 for i in found
    ]
    with site.database.read() as session:
        decided = set(session.scalars(select(VerdictRow.image_id)))
        assert session.connection().exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    assert {what for kind, what in said if kind == "review"} <= decided
    assert site.audit_log.verify(site.database).ok
    site.image_store.sweep(older_s=-1)
    assert {path.name for path in site.image_store.folder.glob("*/*")} >= {image.sha256 for image in found}
    assert not list(site.image_store.folder.glob("*/.*.tmp"))


def test_too_many_uploads_are_asked_to_wait(site, reader, monkeypatch) -> None:
    case = cases.create(site, reader)
    monkeypatch.setattr(rate_limits, "UPLOAD_BY_USER", replace(rate_limits.UPLOAD_BY_USER, most=1))
    intake.upload(site, reader, case.number, [("a.png", picture(1))], "once")
    with pytest.raises(TooManyRequestsError):
        intake.upload(site, reader, case.number, [("b.png", picture(2))])
    assert intake.upload(site, reader, case.number, [], "once").accepted == 1  # answered before


@on_both
def test_failed_pictures_wait_again_when_asked(site, reader, administrator, bundle) -> None:
    case = case_with(site, reader, 2)
    answer(site, bundle, case.number, ["damaged", says("normal_columnar", 0.1)])
    assert intake.retry(site, reader, case.number) == 1
    assert [(r.state, r.reason) for r in rows(site, case.number)] == [("waiting", ""), ("done", "")]
    with pytest.raises(DeniedError):
        intake.retry_all(site, reader)
    assert intake.retry_all(site, administrator) == 0


# ---- pictures


@pytest.mark.parametrize(("kind", "sent"), [("PNG", "image/png"), ("BMP", "image/png"), ("TIFF", "image/png"),
                                            ("JPEG", "image/jpeg"), ("WEBP", "image/webp")])  # fmt: skip
def test_browsers_are_sent_what_they_can_show(site, reader, kind, sent) -> None:
    case = cases.create(site, reader)
    data = picture(4, kind)
    intake.upload(site, reader, case.number, [("cell", data)])
    image = rows(site, case.number)[0]
    assert pictures.stored(site, reader, image.id) == data
    shown = pictures.original(site, reader, image.id)
    assert shown.media_type == sent
    assert Pillow.open(io.BytesIO(shown.data)).size == (72, 72)
    assert (shown.data == data) == (kind not in ("BMP", "TIFF"))
    small = pictures.thumbnail(site, reader, image.id, 40)
    assert small.media_type == "image/jpeg"
    assert Pillow.open(io.BytesIO(small.data)).size == (40, 40)
    assert Pillow.open(io.BytesIO(pictures.thumbnail(site, reader, image.id, 9999).data)).size == (72, 72)
    assert small.etag != shown.etag


def test_the_page_shows_the_ground_that_the_model_saw(site, reader) -> None:
    """A browser laid what is transparent on the colour of its page, which is dark in the dark theme."""
    pixels = np.dstack([np.asarray(Pillow.open(io.BytesIO(picture(4)))), np.zeros((72, 72), np.uint8)])
    empty = Pillow.fromarray(pixels)
    pixels[20:50, 20:50, 3] = 255
    half = Pillow.fromarray(pixels)
    keyed = half.convert("RGB").quantize(8)
    files = []
    for name, image, kind, more in (
        ("half.png", half, "PNG", {}),
        ("half.webp", half, "WEBP", {"lossless": True}),
        ("keyed.png", keyed, "PNG", {"transparency": 0}),
        ("empty.png", empty, "PNG", {}),
    ):
        stream = io.BytesIO()
        image.save(stream, kind, **more)
        files.append((name, stream.getvalue()))
    case = cases.create(site, reader)
    intake.upload(site, reader, case.number, files)
    for (name, data), row in zip(files, rows(site, case.number), strict=True):
        assert row.name == name
        shown = Pillow.open(io.BytesIO(pictures.original(site, reader, row.id).data))
        assert shown.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(shown), decoding.decode(data))


# ---- removal


@on_both
def test_a_deleted_case_leaves_nothing_but_what_others_have(site, reader, bundle) -> None:
    gone, kept = case_with(site, reader, 3), case_with(site, reader, 1)  # one picture in both
    answer(site, bundle, gone.number, [says("normal_columnar", 0.1)])
    digests = [r.sha256 for r in rows(site, gone.number)]
    with pytest.raises(InvalidFieldError) as caught:
        deletion.delete(site, reader, gone.number, "yes")
    assert caught.value.field == "confirm"
    deletion.delete(site, reader, gone.number, f" {gone.number.lower()} ")
    with pytest.raises(NotFoundError):
        cases.get(site, reader, gone.number)
    assert [site.image_store.has(d) for d in digests] == [True, False, False]
    with site.database.read() as session:
        assert session.scalar(select(func.count()).select_from(PredictionRow)) == 0
    assert cases.get(site, reader, kept.number).images == 1
    assert _actions(site)[-1] == "case.deleted"
    assert site.audit_log.verify(site.database).ok


def test_a_case_that_is_signed_at_this_moment_is_no_longer_its_owners_to_delete(site, reader, monkeypatch) -> None:
    case = case_with(site, reader, 1)
    erase = deletion.erase

    def meanwhile(*arguments):
        with site.database.write() as session:
            session.get(Case, case.id).state = "signed"
        return erase(*arguments)

    monkeypatch.setattr(deletion, "erase", meanwhile)
    with pytest.raises(DeniedError, match="signed"):
        deletion.delete(site, reader, case.number, case.number)
    assert cases.get(site, reader, case.number).images == 1
    assert "case.deleted" not in _actions(site)


def test_files_without_a_row_are_removed_when_they_are_old(site, reader) -> None:
    case = case_with(site, reader, 1)
    orphan = site.image_store.put(picture(50))
    assert deletion.drop_orphans(site) == 0
    assert deletion.drop_orphans(site, older_s=-10) == 1
    assert not site.image_store.has(orphan)
    assert site.image_store.has(rows(site, case.number)[0].sha256)


def test_a_picture_that_goes_while_it_comes_is_asked_for_again(site, reader, monkeypatch) -> None:
    case = cases.create(site, reader)
    hold = intake.hold

    def meanwhile(*args):
        site.image_store.delete(next(site.image_store.digests()))
        return hold(*args)

    monkeypatch.setattr(intake, "hold", meanwhile)
    with pytest.raises(BusyError):
        intake.upload(site, reader, case.number, [("a.png", picture(1))])
    assert rows(site, case.number) == []


# ---- all of it


@on_both
def test_a_case_from_its_upload_to_its_end(site, reader, other, bundle) -> None:
    case = case_with(site, reader, len(ANSWERS), accession="P-1")
    answer(site, bundle, case.number, ANSWERS)
    assert [c.position for c in worklist.cells(site, reader, case.number).rows] == [2, 8, 5, 4, 3, 9, 1, 6, 7]
    assert dict((n, c) for n, _, c in worklist.counts(site, reader, case.number))["undecided"] == 7
    second_readers.assign(site, reader, case.number, other.id, True)
    assert case_list.listing(site, other, q="p-1\x00").rows[0].abnormal is None
    with pytest.raises(NotFoundError):
        worklist.one(site, reader, case.number, "\x00")
    with pytest.raises(InvalidFieldError):
        second_readers.assign(site, reader, case.number, "\x00", True)
    for act in (
        lambda: users.change(site, "admin", "\x00"),
        lambda: registration.withdraw(site, "admin", "\x00"),
        lambda: api_tokens.revoke(site, reader.id, "\x00"),
    ):
        with pytest.raises(UsageError, match="no such"):
            act()
    threads = [
        threading.Thread(
            target=intake.upload, args=(site, reader, case.number, [("a.png", picture(i % 2))], f"k{i % 2}")
        )
        for i in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert cases.get(site, reader, case.number).images == 11
    with site.database.read() as session:
        assert session.scalar(select(func.count()).select_from(Upload)) == 2
    deletion.delete(site, reader, case.number, case.number)
    assert list(site.image_store.digests()) == []
    assert site.audit_log.verify(site.database).ok
