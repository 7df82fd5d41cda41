"""Pictures of crops: on a square, as sharp as single cells, written once and mended where a file is gone."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings as profile, strategies as st

from cervicyte.base import working_folder
from cervicyte.data.cells import Cell, CellTable
from cervicyte.errors import DataError
from cervicyte.fields import sharpening
from cervicyte.fields.crops import UNLABELLED
from cervicyte.fields.sharpening import SHARPNESS, SIDE, level, sharpness, write
from cervicyte.images import decoding
from support.generated_cells import make_cell, save


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def crops(tmp_path) -> CellTable:
    """Six crops of two fields."""
    cells = []
    for k in range(2):
        path = save(make_cell(k, 160), tmp_path / f"field {k}.png")
        cells += [
            Cell(path=str(path), label="unlabelled", group=str(k), box=(10 * i, 5, 10 * i + 40, 70)) for i in range(3)
        ]
    return CellTable(cells=tuple(cells), system=UNLABELLED)


def smooth(seed: int, height: int = 30, width: int = 30) -> np.ndarray:
    """What a field shows of a cell: few pixels, and those blurred."""
    image = cv2.resize(make_cell(seed, 96), (width, height), interpolation=cv2.INTER_AREA)
    return cv2.GaussianBlur(image, (0, 0), 1.0)


@pytest.mark.parametrize("wanted", [4.0, 7.0, 10.0])
@pytest.mark.parametrize("seed", range(3))
def test_a_smooth_crop_becomes_as_sharp_as_wanted(seed, wanted) -> None:
    image = smooth(seed)
    before = sharpness(decoding.resize(image, SIDE))
    assert before < 4
    found = sharpening.crisp(image, wanted)
    assert (found.shape, found.dtype) == ((SIDE, SIDE, 3), np.uint8)
    # It is enhanced, not invented: what is too smooth for it stays smoother.
    assert before < sharpness(found) < wanted * 1.15
    assert sharpness(found) > min(0.9 * wanted, 2.5 * before)
    assert np.abs(found.astype(float).mean((0, 1)) - decoding.resize(image, SIDE).mean((0, 1))).max() < 4


def test_a_sharp_crop_stays_as_it_is() -> None:
    image = np.random.default_rng(0).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    assert np.array_equal(sharpening.crisp(image, 7.0), image)


def test_what_is_not_square_lies_on_its_border_s_colour() -> None:
    image = np.full((20, 40, 3), (200, 180, 210), np.uint8)
    image[5:15, 10:30] = (60, 40, 90)
    found = sharpening.crisp(image, 0.0)
    assert np.abs(found[: SIDE // 4 - 4].astype(int) - (200, 180, 210)).max() <= 1
    assert found[SIDE // 2, SIDE // 2, 0] < 80


@profile(deadline=None, max_examples=30)
@given(st.integers(1, 80), st.integers(1, 80), st.floats(0, 30), st.integers(0, 2**32 - 1))
def test_any_shape_becomes_a_picture(height, width, wanted, seed) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = sharpening.crisp(image, wanted)
    assert (found.shape, found.dtype) == ((SIDE, SIDE, 3), np.uint8)


def test_levels_are_spread_as_single_cells_are() -> None:
    levels = [level(str(k)) for k in range(2000)]
    assert level("7") == levels[7]
    assert min(levels) >= SHARPNESS[0][1]
    assert max(levels) <= SHARPNESS[-1][1]
    assert np.median(levels) == pytest.approx(dict(SHARPNESS)[0.5], rel=0.08)


def test_crops_become_files_in_their_order_and_keep_group_and_label(crops) -> None:
    made = write(crops)
    assert len(made) == 6
    assert list(made.groups) == list(crops.groups)
    assert set(made.labels) == {"unlabelled"}
    assert [c.box for c in made.cells] == [None] * 6
    digest = dict(zip(crops.paths, crops.digests(), strict=True))
    for cell, crop in zip(made.cells, crops.cells, strict=True):
        expected = sharpening.crisp(decoding.load(crop.path, crop.box), level(f"{digest[crop.path]}|{crop.box}"))
        np.testing.assert_array_equal(decoding.load(cell.path), expected)


def test_what_was_written_is_kept_and_what_is_gone_is_written_again(crops, monkeypatch) -> None:
    made = write(crops)
    content = [Path(p).read_bytes() for p in made.paths]
    Path(made.paths[4]).unlink()
    written = []
    real = sharpening._write
    monkeypatch.setattr(sharpening, "_write", lambda path, image: (written.append(path), real(path, image)))
    assert write(crops) == made
    assert written == [Path(made.paths[4])]
    assert [Path(p).read_bytes() for p in made.paths] == content


def test_a_field_that_can_no_longer_be_read_is_left_out_and_said(crops, monkeypatch, capsys) -> None:
    monkeypatch.setenv("CERVICYTE_PROGRESS", "auto")
    Path(crops.paths[0]).write_bytes(b"no picture")
    made = write(crops)
    assert list(made.groups) == list(crops.groups[3:])
    assert "3 crops cannot be made, the first of" in capsys.readouterr().err
    with pytest.raises(DataError, match="no crop can be made"):
        write(crops.subset(np.arange(3)))


def test_a_field_that_is_gone_costs_only_the_crops_that_are_not_written_yet(crops) -> None:
    made = write(crops)
    Path(made.paths[1]).unlink()
    again = CellTable(cells=crops.cells, system=UNLABELLED, _digests=dict(crops._digests))
    Path(crops.paths[0]).unlink()
    assert write(again).paths == [*made.paths[:1], *made.paths[2:]]


def test_working_files_do_not_push_them_out(crops, monkeypatch) -> None:
    monkeypatch.setenv("CERVICYTE_CACHE_GB", "1")
    made = write(crops)
    working_folder.make_room(10**9)
    assert all(Path(p).exists() for p in made.paths)
