"""What inspect counts, and what the contact sheet shows."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.inspection import contact_sheet, inspect
from cervicyte.data.labels import BINARY, LabelSystem
from cervicyte.errors import DataError, StorageError

RED, GREEN, ALARM = (220, 40, 40), (40, 180, 60), (160, 44, 44)


@pytest.fixture
def table(tmp_path: Path) -> CellTable:
    """Six normal (red, PNG) and four abnormal (green, JPEG) cells in three groups; one file is broken, one is gone."""
    cells = []
    for k in range(10):
        label, colour = ("normal", RED) if k < 6 else ("abnormal", GREEN)
        path = tmp_path / label / (f"{k}.png" if k < 6 else f"{k}.jpg")
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (30 + k, 50), colour).save(path)
        cells.append(Cell(path=str(path), label=label, group=f"g{k % 3}", source="test"))
    Path(cells[2].path).write_bytes(b"no image")
    Path(cells[8].path).unlink()
    return CellTable(cells=tuple(cells), system=BINARY, name="ten cells", notes=("a note",))


def test_counts_sizes_formats_and_what_is_unreadable(table: CellTable, tmp_path: Path) -> None:
    Image.new("RGB", (5, 5)).save(tmp_path / "extra.png")
    inspection = inspect(table, tmp_path)
    assert (inspection.n, inspection.files, inspection.notes) == (10, 10, ("a note",))
    assert inspection.counts == {"normal": (6, 3), "abnormal": (4, 3)}
    assert (inspection.n_groups, inspection.groups) == (3, (3, 3, 4))
    assert inspection.width == (30, 34, 39)
    assert inspection.height == (50, 50, 50)
    assert inspection.formats == {"PNG RGB": 5, "JPEG RGB": 3}
    assert [(Path(row.path).name, row.problem[:12]) for row in inspection.unreadable] == [
        ("2.png", "not an image"),
        ("8.jpg", "cannot read "),
    ]
    assert inspection.unlisted == (str(tmp_path / "extra.png"),)
    assert json.loads(json.dumps(inspection.to_json()))["counts"]["abnormal"] == {"cells": 4, "groups": 3}


def test_boxes_give_the_sizes_of_crops(table: CellTable) -> None:
    boxed = table.with_cells(replace(c, box=(0, 0, 12, 8)) for c in table.cells)
    inspection = inspect(boxed)
    assert (inspection.width, inspection.height) == ((12, 12, 12), (8, 8, 8))
    assert inspection.unlisted == ()


def test_an_empty_table_is_inspected_too() -> None:
    inspection = inspect(CellTable(cells=(), system=BINARY, name="nothing"))
    assert (inspection.n, inspection.width, inspection.groups, inspection.formats) == (0, None, (0, 0, 0), {})
    json.dumps(inspection.to_json())


def count(sheet: np.ndarray, colour: tuple[int, int, int]) -> int:
    """Pixels of about a colour."""
    return int((np.abs(sheet.astype(int) - colour).max(axis=2) < 12).sum())


def test_the_sheet_shows_each_class_and_marks_what_is_unreadable(table: CellTable, tmp_path: Path) -> None:
    path = contact_sheet(table, tmp_path / "out" / "sheet.png", per_class=12)
    assert path == tmp_path / "out" / "sheet.png"
    assert Image.open(path).format == "PNG"
    sheet = np.asarray(Image.open(path))
    tile = 96 * 96
    # Five readable red images and three green ones, each about 0.6 to 0.8 of its tile wide.
    assert 5 * 0.5 < count(sheet, RED) / tile < 5 * 0.85
    assert 3 * 0.5 < count(sheet, GREEN) / tile < 3 * 0.85
    # Two frames of one pixel each, and the words in them.
    assert 2 * 4 * 90 < count(sheet, ALARM) < 2 * 4 * 150


def test_the_same_seed_gives_the_same_sheet_in_any_order(table: CellTable, tmp_path: Path) -> None:
    one = contact_sheet(table, tmp_path / "1.png", per_class=2, seed=3).read_bytes()
    assert contact_sheet(table, tmp_path / "2.png", per_class=2, seed=3).read_bytes() == one
    backwards = table.subset(range(9, -1, -1))
    assert contact_sheet(backwards, tmp_path / "3.png", per_class=2, seed=3).read_bytes() == one
    assert any(contact_sheet(table, tmp_path / "4.png", 2, seed=s).read_bytes() != one for s in range(4, 12))


def test_long_and_non_latin_names_are_drawn(table: CellTable, tmp_path: Path) -> None:
    long = "a very long name of a class " * 5 + "\n клетка"
    system = LabelSystem(name="odd", classes=(long, "正常"), abnormal=None)
    cells = tuple(replace(c, label=long if c.label == "normal" else "正常") for c in table.cells)
    sheet = contact_sheet(CellTable(cells=cells, system=system, name=long), tmp_path / "sheet.png", per_class=1)
    assert Image.open(sheet).width < 500


def test_nothing_to_show_is_an_error(table: CellTable, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no cell"):
        contact_sheet(CellTable(cells=(), system=BINARY), tmp_path / "sheet.png")
    with pytest.raises(DataError, match="no cell"):
        contact_sheet(table, tmp_path / "sheet.png", per_class=0)
    assert not (tmp_path / "sheet.png").exists()


def test_a_place_that_cannot_be_written_is_a_storage_error(
    table: CellTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("PIL.Image.Image.save", full)
    with pytest.raises(StorageError, match="No space left"):
        contact_sheet(table, tmp_path / "sheet.png")
    assert not list(tmp_path.glob("*.tmp"))
    assert not list(tmp_path.glob(".*.tmp"))
