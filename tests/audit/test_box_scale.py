"""Boxes that do not lie on the nuclei are told, with the change under which they do."""

from __future__ import annotations

import csv
from dataclasses import replace

import numpy as np
import pytest

from cervicyte.audit.box_scale import better_fit
from cervicyte.audit.checks import audit
from cervicyte.data import readers
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import BINARY
from support.generated_cells import make_cell, save

WIDTH, HEIGHT, SIDE = 640, 480, 40


@pytest.fixture(scope="module")
def fields(tmp_path_factory) -> CellTable:
    """Eight fields of small cells on glass, each cell with a box about its nucleus."""
    folder = tmp_path_factory.mktemp("fields")
    cells = []
    for n in range(8):
        random = np.random.default_rng(n)
        image = np.clip(random.normal(215, 3, (HEIGHT, WIDTH, 3)), 0, 255).astype(np.uint8)
        path = str(folder / f"{n}.png")
        for k in range(12):
            left, top = int(random.integers(0, WIDTH - SIDE)), int(random.integers(0, HEIGHT - SIDE))
            image[top : top + SIDE, left : left + SIDE] = make_cell(100 * n + k, SIDE)
            box = (left, top, left + SIDE, top + SIDE)
            cells.append(Cell(path=path, label=BINARY.classes[k % 2], group=f"field{n}", box=box, source="made"))
        save(image, folder / f"{n}.png")
    return CellTable(cells=tuple(cells), system=BINARY, name="fields")


def changed(cells: CellTable, change) -> CellTable:
    def box(cell: Cell) -> tuple[int, int, int, int]:
        left, top, right, bottom = cell.box
        x, y = change((left + right) / 2, (top + bottom) / 2)
        return round(x - SIDE / 2), round(y - SIDE / 2), round(x + SIDE / 2), round(y + SIDE / 2)

    return cells.with_cells(replace(cell, box=box(cell)) for cell in cells.cells)


def test_boxes_on_their_nuclei_fit(fields):
    assert better_fit(fields) is None
    assert better_fit(changed(fields, lambda x, y: (x + 1, y - 1))) is None


@pytest.mark.parametrize("scale", [1.075, 0.93, 0.5, 2.0])
def test_boxes_of_images_of_another_size_are_an_error_with_the_right_scale(fields, scale):
    fit = better_fit(changed(fields, lambda x, y: (scale * x, scale * y)))
    assert fit.scale == pytest.approx((1 / scale, 1 / scale), rel=0.01)
    assert "they are those of images of about" in fit.change
    assert fit.after > 2 * fit.before


def test_images_that_were_stretched_to_another_shape(fields):
    fit = better_fit(changed(fields, lambda x, y: (1.2 * x, 1.2 * y * 0.75)))  # those of square images
    assert fit.scale == pytest.approx((1 / 1.2, 1 / 0.9), rel=0.015)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x, y: (y, x), "exchange x and y"),
        (lambda x, y: (x, HEIGHT - y), "height - y"),
        (lambda x, y: (WIDTH - x, y), "width - x"),
    ],
)
def test_exchanged_and_mirrored_coordinates(fields, change, words):
    assert words in better_fit(changed(fields, change)).change


def test_the_audit_says_so(fields):
    wrong = changed(fields, lambda x, y: (x / 0.92, y / 0.92)).subset(range(24))
    finding = audit(wrong).find("scale of the boxes")
    assert finding.severity == "error"
    assert "multiply x and y by 0.92" in finding.message


def test_few_boxes_and_tables_without_say_nothing(fields):
    assert better_fit(changed(fields, lambda x, y: (2 * x, y)).subset(range(12))) is None
    assert better_fit(fields.with_cells(replace(c, box=None) for c in fields.cells)) is None


@pytest.mark.parametrize("wrong", [1376 / 1280, 1388 / 1280, 1388 / 1376])
def test_published_annotations_beside_copies_of_another_size(shared, tmp_path, wrong):
    source = shared / "data" / "cric_1280"
    with (source / "classifications.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    names = sorted({row["image_filename"] for row in rows})[::5]
    for name in names:
        (tmp_path / name).symlink_to(source / name)
    chosen = [row for row in rows if row["image_filename"] in names]
    for row in chosen:
        row["nucleus_x"], row["nucleus_y"] = (round(float(row[key]) * wrong) for key in ("nucleus_x", "nucleus_y"))
    with (tmp_path / "classifications.csv").open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, list(chosen[0]))
        table.writeheader()
        table.writerows(chosen)
    cells = readers.load(tmp_path)
    assert any("1280 x 9" in note and note.startswith("copy:") for note in cells.notes)
    assert not any("SWAPPED" in note for note in cells.notes)
    assert any(note.startswith("SCALE?") for note in cells.notes) == (wrong > 1.05)
    fit = better_fit(cells)
    assert fit.scale[0] == fit.scale[1] == pytest.approx(1 / wrong, abs=0.003)


def test_the_copies_as_they_are_fit(shared):
    for name in ("cric_1280", "cric_fields"):
        assert better_fit(readers.load(shared / "data" / name)) is None
