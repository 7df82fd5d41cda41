"""Generated cells: reproducible, marked as synthetic, and harder under a grouped split than at random."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from cervicyte.data import readers, synthetic
from cervicyte.data.labels import BINARY, HERLEV
from cervicyte.data.splits import make_folds
from cervicyte.errors import DataError, UsageError
from cervicyte.images import decoding


def test_the_folder_reads_back_with_its_groups_and_says_that_it_is_synthetic(demo_cells):
    assert demo_cells.system is HERLEV
    assert {label: n for label, (n, _) in demo_cells.counts().items()} == dict.fromkeys(HERLEV.classes, 12)
    assert demo_cells.grouped
    assert len(set(demo_cells.groups)) >= 8
    folder = Path(demo_cells.cells[0].path).parents[1]
    assert "SYNTHETIC" in (folder / "SYNTHETIC.txt").read_text(encoding="utf-8")
    again = readers.load(folder)
    assert again.cells == demo_cells.cells
    assert again.notes[0].startswith("reader: folder")
    with (folder / "groups.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["path"]: row["group"] for row in rows} == {
        f"{c.label}/{c.path.rsplit('/', 1)[1]}": c.group for c in demo_cells.cells
    }


def test_every_class_has_several_slides_and_slides_hold_several_classes(demo_cells):
    assert all(groups >= 5 for _, groups in demo_cells.counts().values())
    classes = [len({c.label for c in demo_cells.cells if c.group == g}) for g in {c.group for c in demo_cells.cells}]
    assert np.median(classes) >= 3
    folds = make_folds(demo_cells, "grouped", 5, seed=0)
    assert sorted(np.concatenate(folds.test)) == list(range(len(demo_cells)))


def test_the_same_seed_draws_the_same_cells_and_another_seed_others(tmp_path):
    first = synthetic.generate(tmp_path / "a", 2, seed=3, size=48)
    assert synthetic.generate(tmp_path / "b", 2, seed=3, size=48).fingerprint == first.fingerprint
    assert synthetic.generate(tmp_path / "a", 2, seed=3, size=48).fingerprint == first.fingerprint  # over itself
    other = synthetic.generate(tmp_path / "c", 2, seed=4, size=48)
    assert other.fingerprint != first.fingerprint
    assert not set(other.groups) & set(first.groups)


@pytest.mark.parametrize("size", [32, 75])
def test_images_are_square_rgb_of_the_size_asked_for_and_not_blank(tmp_path, size):
    cells = synthetic.generate(tmp_path, 1, size=size)
    for path in cells.paths:
        image = decoding.load(path)
        assert image.shape == (size, size, 3)
        assert image.std() > 10


def test_nuclei_grow_with_severity_and_glass_is_bright(demo_cells):
    """The centre is nucleus: its dark share of the crop orders the dysplasias as they are ordered in the clinic."""
    share = {}
    for label in HERLEV.classes:
        grey = [decoding.load(p).mean(axis=2) for p in demo_cells.subset(demo_cells.labels == label).paths]
        share[label] = np.mean([(g[24:72, 24:72] < 0.55 * np.percentile(g, 98)).mean() for g in grey])
        assert np.median([np.percentile(g, 98) for g in grey]) > 190
    graded = ("normal_superficiel", "light_dysplastic", "moderate_dysplastic", "severe_dysplastic", "carcinoma_in_situ")
    assert [share[name] for name in graded] == sorted(share[name] for name in graded)


def test_cells_of_one_slide_share_its_stain(demo_cells):
    """Why a random split is easier: the tint of the corners differs less within slides than between them."""
    corners = np.array([np.median(decoding.load(p)[:6].reshape(-1, 3), axis=0) for p in demo_cells.paths])
    groups = demo_cells.groups
    means = {g: corners[groups == g].mean(axis=0) for g in set(groups)}
    within = np.mean([np.linalg.norm(c - means[g]) for c, g in zip(corners, groups, strict=True)])
    between = np.mean([np.linalg.norm(c - corners.mean(axis=0)) for c in corners])
    assert within < 0.85 * between


def test_other_label_systems(tmp_path):
    cells = synthetic.generate(tmp_path / "b", 6, size=32, system="binary")
    assert cells.system is BINARY
    assert {label: n for label, (n, _) in cells.counts().items()} == {"normal": 6, "abnormal": 6}
    assert synthetic.generate(tmp_path / "t", 3, size=32, system="bethesda").present == ("NILM", "LSIL", "HSIL")
    with pytest.raises(UsageError, match="label system"):
        synthetic.generate(tmp_path / "x", 3, size=32, system="sipakmed")


@pytest.mark.parametrize("bad", [{"n_per_class": 0}, {"size": 8}, {"seed": -1}])
def test_numbers_out_of_range_are_refused(tmp_path, bad):
    with pytest.raises(UsageError):
        synthetic.generate(tmp_path, **bad)
    assert not any(tmp_path.iterdir())


def test_a_folder_with_something_else_is_refused_and_left_alone(tmp_path):
    (tmp_path / "mine.png").write_bytes(b"precious")
    with pytest.raises(DataError, match="something else"):
        synthetic.generate(tmp_path, 1, size=32)
    assert [p.name for p in tmp_path.iterdir()] == ["mine.png"]
    synthetic.generate(tmp_path / "d", 1, size=32)
    with pytest.raises(DataError, match="something else"):
        synthetic.generate(tmp_path / "d", 2, size=32)
