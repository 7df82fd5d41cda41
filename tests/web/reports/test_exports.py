"""What leaves: a data set that train reads, with the verdicts that count; tables that are data and nothing else."""

from __future__ import annotations

import csv
import io
import zipfile

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'web' is not installed")

from hypothesis import given, strategies as st
from sqlalchemy import select

import cervicyte
from cervicyte.errors import UsageError
from cervicyte.web.base.schema import AuditRow, Image
from cervicyte.web.cases import cases, intake, second_readers
from cervicyte.web.errors import DeniedError, NotFoundError
from cervicyte.web.reports import exports
from cervicyte.web.reports.spreadsheet import csv_bytes, guarded
from support.commands import cervicyte as command
from support.web.cases import answer, case_with, picture, review, rows, says, small_bundle
from support.web.databases import on_both

SEVERE = says("severe_dysplastic", 0.97, bethesda="HSIL")
NORMAL = says("normal_columnar", 0.05, bethesda="NILM")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("exports") / "bundle")


def _unpacked(download, folder):
    assert download.media_type == "application/zip"
    with zipfile.ZipFile(io.BytesIO(b"".join(download.chunks))) as archive:
        assert archive.testzip() is None
        archive.extractall(folder)
    return folder


def _table(download) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(b"".join(download.chunks).decode())))


@on_both
def test_reviewed_cells_are_read_as_a_data_set(site, reader, bundle, tmp_path) -> None:
    one, two = case_with(site, reader, 3), case_with(site, reader, 2, first=10)
    intake.upload(site, reader, two.number, [("cell.bmp", picture(20, "BMP")), ("cell.tif", picture(21, "TIFF"))])
    for case in (one, two):
        answer(site, bundle, case.number, [SEVERE] * 4)
        for image in rows(site, case.number)[:4]:
            review(site, reader, image.id, "severe_dysplastic", agrees=True)
    review(site, reader, rows(site, one.number)[0].id, "NILM")
    review(site, reader, rows(site, one.number)[1].id, "unsatisfactory")
    folder = _unpacked(exports.reviewed_cells(site, reader), tmp_path / "data")
    for path in (folder / "cells.csv", folder):
        table = cervicyte.load(path)
        assert sorted((c.group, c.label) for c in table.cells) == sorted(
            [(one.number, "NILM"), (one.number, "HSIL")] + [(two.number, "HSIL")] * 4
        )
        assert table.grouped
        assert table.system.name == "bethesda"
    digests = {row["path"]: row["sha256"] for row in csv.DictReader((folder / "cells.csv").open())}
    assert {site.image_store.get(d) for d in digests.values()} == {(folder / p).read_bytes() for p in digests}
    notes = (folder / "notes.txt").read_text()
    assert "1 because the reader calls it unsatisfactory" in notes
    with site.database.read() as session:
        last = session.scalars(select(AuditRow).order_by(AuditRow.id.desc())).first()
    assert (last.action, last.actor, last.detail["cells"]) == ("export.cells", reader.email, 6)


def test_with_the_models_classes_a_corrected_category_has_no_label(site, reader, bundle, tmp_path) -> None:
    case = case_with(site, reader, 3)
    answer(site, bundle, case.number, [SEVERE] * 3)
    for image, verdict in zip(
        rows(site, case.number), ("severe_dysplastic", "HSIL", "moderate_dysplastic"), strict=True
    ):
        review(site, reader, image.id, verdict)
    folder = _unpacked(exports.reviewed_cells(site, reader, "classes", case.number), tmp_path / "data")
    table = cervicyte.load(folder / "cells.csv")
    assert sorted(c.label for c in table.cells) == ["moderate_dysplastic", "severe_dysplastic"]
    assert table.system.name == "herlev"
    assert "1 because the verdict is a category" in (folder / "notes.txt").read_text()


@on_both
def test_two_readers_must_agree_or_be_settled(site, reader, other, reviewer, bundle, tmp_path) -> None:
    case = case_with(site, reader, 5)
    answer(site, bundle, case.number, [SEVERE] * 5)
    second_readers.assign(site, reader, case.number, other.id, False)
    agreed, differ, settled, first_only, back = rows(site, case.number)
    for image in (agreed, differ, settled, first_only, back):
        review(site, reader, image.id, "HSIL")
    review(site, reader, back.id, "")
    review(site, other, agreed.id, "severe_dysplastic", "second")  # the same category
    for image in (differ, settled):
        review(site, other, image.id, "LSIL", "second")
    review(site, reviewer, settled.id, "ASC-H", "settled")
    folder = _unpacked(exports.reviewed_cells(site, reader), tmp_path / "data")
    found = {row["sha256"]: row["label"] for row in csv.DictReader((folder / "cells.csv").open())}
    assert found == {agreed.sha256: "HSIL", settled.sha256: "ASC-H", first_only.sha256: "HSIL"}
    notes = (folder / "notes.txt").read_text()
    assert "two readers differ" in notes
    assert "no verdict any more" in notes


def test_one_picture_in_two_cases_goes_once_or_not_at_all(site, reader, bundle, tmp_path) -> None:
    one, two = case_with(site, reader, 3), case_with(site, reader, 2)  # the second repeats two of the first
    for case in (one, two):
        answer(site, bundle, case.number, [NORMAL] * 3)
        for image in rows(site, case.number):
            review(site, reader, image.id, "NILM")
    review(site, reader, rows(site, two.number)[1].id, "LSIL")
    folder = _unpacked(exports.reviewed_cells(site, reader), tmp_path / "data")
    assert len(cervicyte.load(folder / "cells.csv").cells) == 2
    notes = (folder / "notes.txt").read_text()
    assert "2 because the same picture has different verdicts" in notes
    assert "1 because the same picture is there already" in notes


def test_a_picture_that_is_damaged_is_left_out_and_said(site, reader, bundle, tmp_path) -> None:
    case = case_with(site, reader, 2)
    answer(site, bundle, case.number, [NORMAL] * 2)
    bad, good = rows(site, case.number)
    for image in (bad, good):
        review(site, reader, image.id, "NILM")
    (site.image_store.folder / bad.sha256[:2] / bad.sha256).write_bytes(b"x")
    folder = _unpacked(exports.reviewed_cells(site, reader), tmp_path / "data")
    assert len(cervicyte.load(folder / "cells.csv").cells) == 1
    assert "1 because the stored image was changed or damaged" in (folder / "notes.txt").read_text()


@on_both
def test_only_what_one_may_export_goes(site, reader, other, reviewer, bundle) -> None:
    case = case_with(site, reader, 2)
    answer(site, bundle, case.number, [NORMAL] * 2)
    review(site, reader, rows(site, case.number)[0].id, "NILM")
    with pytest.raises(UsageError, match="no reviewed cell"):
        exports.reviewed_cells(site, other)
    with pytest.raises(NotFoundError):
        exports.case_table(site, other, case.number)
    second_readers.assign(site, reader, case.number, other.id, True)
    with pytest.raises(DeniedError):
        exports.case_table(site, other, case.number)
    assert _table(exports.all_table(site, other)) == []
    assert len(_table(exports.all_table(site, reviewer))) == 2
    second_readers.assign(site, reader, case.number, reviewer.id, True)  # who reads it blinded now
    assert _table(exports.all_table(site, reviewer)) == []
    with pytest.raises(DeniedError, match="blinded"):
        exports.case_table(site, reviewer, case.number)
    with pytest.raises(UsageError, match="labels"):
        exports.reviewed_cells(site, reader, "colours")


def test_the_table_says_all_and_runs_nothing(site, reader, bundle) -> None:
    case = cases.create(site, reader, "=1+1")
    intake.upload(site, reader, case.number, [("@SUM(A1).png", picture(1)), ("-cmd.png", picture(2))])
    answer(site, bundle, case.number, [SEVERE, "the file is damaged"])
    review(site, reader, rows(site, case.number)[0].id, "severe_dysplastic", agrees=True)
    first, second = _table(exports.case_table(site, reader, case.number))
    assert (first["accession"], first["name"], second["name"]) == ("'=1+1", "'@SUM(A1).png", "'-cmd.png")
    assert (first["label"], first["p_abnormal"], first["first_verdict"]) == ("severe_dysplastic", "0.970000", "HSIL")
    assert (first["final_verdict"], first["agrees"], first["second_verdict"]) == ("HSIL", "true", "")
    assert (second["state"], second["reason"], second["label"]) == ("failed", "the file is damaged", "")


@on_both
def test_a_table_of_many_cells_comes_in_parts(site, reader, bundle, monkeypatch) -> None:
    monkeypatch.setattr(exports, "_AT_ONCE", 2)
    case = case_with(site, reader, 5)
    chunks = list(exports.case_table(site, reader, case.number).chunks)
    assert len(chunks) == 4
    assert [row["cell"] for row in csv.DictReader(io.StringIO(b"".join(chunks).decode()))] == list("12345")


@given(st.text(max_size=30))
def test_no_cell_of_a_table_begins_like_a_formula(text) -> None:
    found = next(csv.reader(io.StringIO(csv_bytes([[text]]).decode(), newline=""), strict=True), [""])[0]
    assert not found.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert guarded(text).removeprefix("'") == text.removeprefix("'")


@pytest.mark.slow
def test_train_reads_an_export(site, reader, bundle, tmp_path) -> None:
    """The whole way round: the command itself trains on what was exported."""
    for i in range(4):
        case = case_with(site, reader, 8, first=100 + 8 * i, side=160)
        answer(site, bundle, case.number, [SEVERE] * 8)
        for j, image in enumerate(rows(site, case.number)):
            review(site, reader, image.id, "NILM" if j % 2 else "severe_dysplastic")
    with site.database.read() as session:
        assert len(session.scalars(select(Image.id)).all()) == 32
    folder = _unpacked(exports.reviewed_cells(site, reader), tmp_path / "data")
    done = command("train", folder, "--out", tmp_path / "run", "--recipe", "morphology-lr", "--folds", "2")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "bundle" / "manifest.json").is_file()
