"""Fields photographed by a phone are stored turned; what is marked on them belongs to the upright image."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cervicyte.data import readers
from cervicyte.data.cells import Cell
from cervicyte.data.inspection import inspect
from cervicyte.images import decoding

#: How the upright image must be turned to be stored with each orientation of EXIF.
STORED = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}

#: Centre and colour of the nuclei in an upright field of 600 x 400 pixels.
SPOTS = {"NILM": (80, 60, (60, 60, 160)), "HSIL": (520, 340, (160, 40, 60))}


def photograph(path: Path, orientation: int) -> None:
    field = np.full((400, 600, 3), 230, np.uint8)
    for x, y, colour in SPOTS.values():
        field[y - 16 : y + 16, x - 16 : x + 16] = colour
    image = Image.fromarray(field)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = image.transpose(STORED[orientation]) if orientation in STORED else image
    image.save(path, exif=exif, **({"quality": 95} if path.suffix == ".jpg" else {}))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("ending", [".jpg", ".png", ".tif"])
def test_marks_belong_to_the_upright_field(tmp_path, orientation, ending) -> None:
    """Five cells of ten were kept out of such fields as lying outside, and the others were cut out elsewhere."""
    points, boxes = tmp_path / "points", tmp_path / "boxes"
    for folder in (points, boxes):
        folder.mkdir()
        photograph(folder / f"field{ending}", orientation)
    marks = [{"bethesda_system": k, "nucleus_x": x, "nucleus_y": y} for k, (x, y, _) in SPOTS.items()]
    fields = [{"image_name": f"field{ending}", "classifications": marks}]
    (points / "classifications.json").write_text(json.dumps(fields), encoding="utf-8")
    rows = [f"field{ending},{k},{x - 20},{y - 20},{x + 20},{y + 20}" for k, (x, y, _) in SPOTS.items()]
    (boxes / "cells.csv").write_text("\n".join(["path,label,left,top,right,bottom", *rows]) + "\n", encoding="utf-8")
    for cells in (readers.load(points), readers.load(boxes / "cells.csv")):
        assert sorted(cells.labels.tolist()) == ["HSIL", "NILM"]
        for cell in cells.cells:
            crop = decoding.load(cell.path, cell.box)
            middle = crop[crop.shape[0] // 2, crop.shape[1] // 2].astype(int)
            assert np.abs(middle - SPOTS[cell.label][2]).max() < 12
    whole = inspect(cells.with_cells([Cell(path=cells.paths[0], label="NILM", group="field")]))
    assert (whole.width, whole.height) == ((600,) * 3, (400,) * 3)
