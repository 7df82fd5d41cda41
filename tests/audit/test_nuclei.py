"""Crops that show no cell in their middle are told: they do not belong to their labels."""

from __future__ import annotations

import numpy as np
import pytest

from cervicyte.audit.checks import audit
from cervicyte.audit.nuclei import nuclei_seen
from cervicyte.data import readers
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import BINARY
from support.generated_cells import make_cell, save


def crops(folder, shift: int) -> CellTable:
    """24 crops of 90 px out of fields of four cells, cut beside the cells by a shift in pixels."""
    cells = []
    for n in range(6):
        field = np.concatenate(
            [np.concatenate([make_cell(10 * n + 2 * i + j) for j in range(2)], axis=1) for i in range(2)]
        )
        field = np.roll(field, (shift, shift), axis=(0, 1))
        for i in range(2):
            for j in range(2):
                crop = field[120 * i + 15 : 120 * i + 105, 120 * j + 15 : 120 * j + 105]
                path = save(crop, folder / f"{n}{i}{j}.png")
                cells.append(Cell(path=path, label=BINARY.classes[j], group=f"field{n}", source="made"))
    return CellTable(cells=tuple(cells), system=BINARY, name="crops")


def test_crops_of_cells_are_told_from_crops_of_other_places(tmp_path):
    right, wrong = crops(tmp_path / "right", 0), crops(tmp_path / "wrong", 60)
    assert nuclei_seen(right).seen >= 0.8 * len(right)
    finding = audit(wrong).find("no nucleus in the middle")
    assert finding.severity == "error"
    assert "of other" not in finding.message
    assert "than those that were labelled" in finding.message


@pytest.mark.parametrize("name", ["herlev", "cric_1280", "cric_fields"])
def test_real_cells_have_a_nucleus_in_the_middle(shared, name):
    cells = readers.load(shared / "data" / name)
    sample = cells.subset(range(0, len(cells), max(1, len(cells) // 60)))
    nuclei = nuclei_seen(sample)
    assert nuclei.seen >= 0.8 * nuclei.looked_at


def test_crops_cut_at_the_places_of_other_fields_have_none(shared):
    from dataclasses import replace

    cells = readers.load(shared / "data" / "cric_1280")
    paths = sorted(set(cells.paths))
    other = dict(zip(paths, paths[7:] + paths[:7], strict=True))
    wrong = cells.with_cells(replace(c, path=other[c.path]) for c in cells.cells[::60])
    nuclei = nuclei_seen(wrong)
    assert nuclei.seen < 0.45 * nuclei.looked_at
