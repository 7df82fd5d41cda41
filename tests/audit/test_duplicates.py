"""Copies are found whatever was done to them, and different cells are not called copies."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from cervicyte.audit.duplicates import KINDS, components, find_duplicates, match, readable, signatures
from cervicyte.audit.signatures import LENGTH, signature
from cervicyte.data import labels
from cervicyte.data.cells import Cell, CellTable
from cervicyte.images.augmentation import augmented_copy
from support.generated_cells import jpeg, make_cell, save
from support.paths import SHARED

DATA = SHARED / "data"


def table(paths: list[str], boxes: list[tuple[int, int, int, int] | None] | None = None) -> CellTable:
    boxes = boxes or [None] * len(paths)
    cells = (
        Cell(path=p, label="normal", group=f"g{i}", box=b) for i, (p, b) in enumerate(zip(paths, boxes, strict=True))
    )
    return CellTable(cells=tuple(cells), system=labels.BINARY)


COPIES: list[tuple[str, str, Callable[[np.ndarray], np.ndarray]]] = [
    ("half the size", "near", lambda x: cv2.resize(x, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)),
    ("twice the size", "near", lambda x: cv2.resize(x, None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)),
    ("JPEG 30", "near", lambda x: jpeg(x, 30)),
    ("shifted crop", "near", lambda x: x[4:, 3:]),
    ("quarter turn", "rotated", lambda x: np.rot90(x)),
    ("half turn", "rotated", lambda x: np.rot90(x, 2)),
    ("mirror", "flipped", lambda x: x[:, ::-1]),
    ("mirror and turn, JPEG", "flipped", lambda x: jpeg(np.rot90(x)[:, ::-1], 60)),
]


@pytest.mark.parametrize(("name", "kind", "change"), COPIES, ids=[c[0] for c in COPIES])
def test_match_finds_every_copy_and_only_copies(name: str, kind: str, change: Callable) -> None:
    originals = [make_cell(seed) for seed in range(20)]
    a = np.stack([signature(x) for x in originals])
    b = np.stack([signature(np.ascontiguousarray(change(x))) for x in originals])
    matches = match(a, b)
    assert [(m.first, m.second) for m in matches] == [(i, i) for i in range(20)]
    assert {m.kind for m in matches} == {kind}
    assert all(0.9 < m.score <= 1.0 for m in matches)


def test_different_cells_are_not_duplicates() -> None:
    marks = np.stack([signature(make_cell(seed)) for seed in range(160)])
    assert match(marks[:80], marks[80:]) == []


def test_signatures_have_a_fixed_size_and_mark_unreadable_cells(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_text("not an image")
    black = save(np.zeros((30, 40, 3), np.uint8), tmp_path / "black.png")
    marks = signatures(table([save(make_cell(1), tmp_path / "a.png"), str(tmp_path / "bad.png"), black]))
    assert marks.shape == (3, LENGTH)
    assert marks.dtype == np.uint8
    assert readable(marks).tolist() == [True, False, True]


def test_blank_and_unreadable_images_match_nothing(tmp_path: Path) -> None:
    marks = np.stack(
        [signature(np.full((50, 50, 3), v, np.uint8)) for v in (200, 201, 202)] + [np.zeros(LENGTH, np.uint8)] * 2
    )
    assert match(marks, marks) == []


def test_match_of_nothing() -> None:
    assert match(np.zeros((0, LENGTH), np.uint8), np.stack([signature(make_cell(1))])) == []


def test_all_kinds_are_found_in_one_table(tmp_path: Path) -> None:
    paths = [save(make_cell(seed, 200), tmp_path / f"{seed}.png") for seed in range(30)]
    first = Path(paths[0])
    (tmp_path / "copy.png").write_bytes(first.read_bytes())
    planted = {
        "exact": str(tmp_path / "copy.png"),
        "near": save(cv2.resize(make_cell(1, 200), (130, 130)), tmp_path / "near.jpg", quality=70),
        "rotated": save(np.rot90(make_cell(2, 200)), tmp_path / "turned.png"),
        "flipped": save(make_cell(3, 200)[::-1], tmp_path / "mirror.png"),
    }
    matches = find_duplicates(table([*paths, *planted.values()]))
    expected = [(i, 30 + i, kind) for i, kind in enumerate(planted)]
    assert [(p.first, p.second, p.kind) for p in matches] == expected
    assert set(planted) <= set(KINDS)


def test_augmented_copies_are_found_by_their_geometry(tmp_path: Path) -> None:
    """Rotation by up to 45 degrees, shift and zoom with smeared borders, on images rich enough to tell."""
    fields = []
    for i in range(12):
        cells = [make_cell(1000 + 9 * i + k, 100) for k in range(9)]
        fields.append(np.vstack([np.hstack(cells[3 * r : 3 * r + 3]) for r in range(3)]))
    paths = [save(x, tmp_path / f"{i}.png") for i, x in enumerate(fields)]
    paths += [save(augmented_copy(x, 1, f"key{i}"), tmp_path / f"{i}_a.png") for i, x in enumerate(fields)]
    matches = find_duplicates(table(paths))
    pairs = {(p.first, p.second) for p in matches}
    assert pairs <= {(i, i + 12) for i in range(12)}
    assert len(pairs) >= 11
    assert all(0 < p.score <= 1 for p in matches)


def test_variants_made_on_the_fly_are_augmented_copies(tmp_path: Path) -> None:
    path = save(make_cell(1), tmp_path / "a.png")
    cells = table([path]).with_cells(Cell(path=path, label="normal", group="g", variant=k) for k in range(3))
    assert [(p.first, p.second, p.kind) for p in find_duplicates(cells)] == [(0, 1, "augmented"), (0, 2, "augmented")]


def test_boxes_of_one_field_are_duplicates_only_where_they_mostly_overlap(tmp_path: Path) -> None:
    field = np.hstack([make_cell(7, 100), make_cell(8, 100)])
    path = save(field, tmp_path / "field.png")
    boxes = [(0, 0, 90, 90), (5, 4, 95, 94), (45, 0, 135, 90), (105, 5, 195, 95)]
    matches = find_duplicates(table([path] * 4, boxes))
    assert [(p.first, p.second, p.kind) for p in matches] == [(0, 1, "near")]
    assert matches[0].score == pytest.approx(85 * 86 / (2 * 8100 - 85 * 86), abs=1e-3)


def test_components_join_chains() -> None:
    from cervicyte.audit.duplicates import DuplicatePair

    pairs = [DuplicatePair(1, 3, "near", 1.0), DuplicatePair(3, 4, "near", 1.0)]
    assert components(6, pairs).tolist() == [0, 1, 2, 1, 1, 5]


def test_herlev_has_no_duplicates_across_acquisitions() -> None:
    """Some of these real cells were photographed twice, each time within one acquisition."""
    files = sorted((DATA / "herlev").glob("*/*.jpg"))
    if not files:
        pytest.skip("the Herlev cells in ../shared are not here")
    chosen = [f for f in files if f.parent.name in ("carcinoma_in_situ", "moderate_dysplastic")][50:130]
    pairs = find_duplicates(table([str(f) for f in chosen]))
    assert pairs, "the cells that were photographed twice should be found"
    assert all(chosen[p.first].name[:9] == chosen[p.second].name[:9] for p in pairs)


@pytest.mark.slow
def test_variants_of_lbc_fields_are_linked() -> None:
    """Names of the files, which the search does not see, tell which files are variants of one field."""
    files = sorted((DATA / "lbc_fields").glob("*/*_0_*.jpg"))
    if not files:
        pytest.skip("the LBC fields in ../shared are not here")
    stems = sorted({re.sub(r"_0_\d+$", "", f.stem) for f in files})[::24]
    chosen = [f for f in files if re.sub(r"_0_\d+$", "", f.stem) in stems]
    chosen_stems = np.array([re.sub(r"_0_\d+$", "", f.stem) for f in chosen])
    pairs = find_duplicates(table([str(f) for f in chosen]))
    family = components(len(chosen), pairs)
    whole = [len(set(family[chosen_stems == s])) == 1 for s in stems]
    assert np.mean(whole) >= 0.9
    same = [chosen_stems[p.first] == chosen_stems[p.second] for p in pairs if p.kind != "overlap"]
    assert np.mean(same) >= 0.95
