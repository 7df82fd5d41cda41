"""No honest number from test cells that the training set knows."""

from __future__ import annotations

import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cervicyte.audit import leakage
from cervicyte.bundle.folder import TRAINING_CELLS, Bundle
from cervicyte.data import readers, splits, synthetic
from cervicyte.data.cells import CellTable
from cervicyte.errors import BundleError, LeakageError
from cervicyte.runs.evaluate import evaluate
from support.commands import cervicyte, inside, read, three_parts


@pytest.fixture(scope="session")
def planted(tmp_path_factory) -> Path:
    """Two classes; one cell of slide A is here once more, recompressed, as a cell of slide B."""
    folder = tmp_path_factory.mktemp("planted") / "cells"
    cells = synthetic.generate(folder, n_per_class=14, seed=5, size=96, system="binary")
    source = cells.cells[0]
    with Image.open(source.path) as image:
        image.resize((90, 90)).convert("RGB").save(folder / source.label / "other-slide.jpg", quality=88)
    for other in sorted({c.group for c in cells.cells if c.label == source.label} - {source.group}):
        table = demo_groups(cells, f"{source.label}/other-slide.jpg,{other}")
        (folder / "groups.csv").write_text(table)
        again = readers.load(folder)
        rows = {Path(c.path).name: i for i, c in enumerate(again.cells)}
        twins = rows["other-slide.jpg"], rows[Path(source.path).name]
        folds = splits.make_folds(again, "grouped", 3, 0)
        if any((twins[0] in test) != (twins[1] in test) for test in folds.test):
            return folder
    raise AssertionError("no division has the twins on two sides")


def demo_groups(cells: CellTable, *more: str) -> str:
    lines = [f"{c.label}/{Path(c.path).name},{c.group}" for c in cells.cells]
    return "\n".join(["path,group", *lines, *more]) + "\n"


@pytest.fixture(scope="session")
def unknown_cells(tmp_path_factory) -> CellTable:
    """Cells of slides that the trained bundle does not know."""
    return synthetic.generate(tmp_path_factory.mktemp("unknown") / "cells", n_per_class=5, seed=77, size=96)


def _same_cells(cells: CellTable, folder: Path, change) -> CellTable:
    """Every third cell, written anew by ``change`` (a Pillow image to a Pillow image), under other names and groups."""
    rows = []
    for i, cell in enumerate(cells.cells[::3]):
        place = folder / cell.label / f"new{i}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(cell.path) as image:
            change(image.convert("RGB")).save(place)
        rows.append(replace(cell, path=str(place), group=f"other{i % 9}", source="elsewhere"))
    return CellTable(cells=tuple(rows), system=cells.system, name="again")


# Training


def test_a_duplicate_across_groups_stops_training_and_is_named(planted, tmp_path) -> None:
    done = cervicyte("train", planted, "--out", tmp_path / "run", "--folds", "3")
    assert done.returncode == 5
    assert three_parts(done.stderr)
    assert "other-slide.jpg" in done.stderr
    assert "--join-duplicates" in done.stderr
    assert not (tmp_path / "run" / "bundle").exists()
    assert not (tmp_path / "run" / "metrics.json").exists()


def test_joined_groups_let_it_pass_honestly(planted, tmp_path, monkeypatch, capsys) -> None:
    args = ("--out", tmp_path / "run", "--folds", "3", "--join-duplicates")
    code, out, err = inside(monkeypatch, capsys, "train", planted, *args)
    assert code == 0, err
    assert "LEAKING" not in out
    saved = read(tmp_path / "run" / "folds.json")
    twins = [i for i, path in enumerate(saved["cells"]) if "other-slide" in path]
    first = [i for i, path in enumerate(saved["cells"]) if path == readers.load(planted).cells[0].path]
    for fold in saved["protocols"]["grouped"]["folds"]:
        assert (twins[0] in fold["test"]) == (first[0] in fold["test"])


def test_the_random_protocol_passes_and_is_marked(planted, tmp_path, monkeypatch, capsys) -> None:
    args = ("--out", tmp_path / "run", "--folds", "3", "--protocol", "random")
    code, out, err = inside(monkeypatch, capsys, "train", planted, *args)
    assert code == 0, err
    for text in (out, (tmp_path / "run" / "report.html").read_text(encoding="utf-8")):
        assert "OPTIMISTIC" in text
        assert re.search(r"\d+% of the test cells have a sibling", text)
    assert any(w.startswith("OPTIMISTIC") for w in read(tmp_path / "run" / "metrics.json")["warnings"])
    assert any(w.startswith("OPTIMISTIC") for w in Bundle.load(tmp_path / "run").manifest.training["warnings"])


# Testing a bundle


def test_the_training_cells_themselves_are_refused(trained, tmp_path) -> None:
    done = cervicyte("evaluate", trained.bundle, trained.data, "--out", tmp_path / "test")
    assert done.returncode == 5
    assert three_parts(done.stderr)
    assert "84 of 84 test cells are known" in done.stderr
    assert "the very file was trained on" in done.stderr
    assert not (tmp_path / "test" / "metrics.json").exists()


CHANGES = {
    "re-encoded": lambda image: image.resize((100, 100), Image.Resampling.BICUBIC),
    "flipped": lambda image: image.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
}


@pytest.mark.parametrize("name", CHANGES)
def test_copies_under_other_names_and_groups_are_recognised(trained, demo_cells, tmp_path, name) -> None:
    cells = _same_cells(demo_cells, tmp_path, CHANGES[name])
    with pytest.raises(LeakageError) as raised:
        evaluate(trained.bundle, cells, tmp_path / "test")
    assert raised.value.exit_code == 5
    known = int(raised.value.what.split()[0])
    assert known >= 0.9 * len(cells), raised.value.what
    assert ".png" in raised.value.received


def test_one_known_cell_among_new_ones_is_enough(trained, demo_cells, unknown_cells, tmp_path) -> None:
    one = _same_cells(demo_cells, tmp_path, CHANGES["flipped"]).cells[0]
    mixed = unknown_cells.with_cells([*unknown_cells.cells, one])
    with pytest.raises(LeakageError, match=f"1 of {len(mixed)}") as raised:
        evaluate(trained.bundle, mixed, tmp_path / "test")
    assert one.path in raised.value.received


def test_new_images_of_a_known_slide_are_refused(trained, demo_cells, unknown_cells, tmp_path) -> None:
    known = demo_cells.cells[0]
    cells = tuple(replace(c, group=known.group, source=known.source) for c in unknown_cells.cells[:3])
    with pytest.raises(LeakageError) as raised:
        evaluate(trained.bundle, unknown_cells.with_cells([*cells, *unknown_cells.cells[3:]]), tmp_path / "test")
    assert f"group {known.group!r} was trained on" in raised.value.received


def test_generated_cells_of_other_slides_are_strangers(trained, unknown_cells) -> None:
    columns = leakage.load_training_cells(trained.bundle / TRAINING_CELLS)
    assert leakage.known_cells(unknown_cells, columns) == {}


def test_known_cells_can_be_tested_only_with_the_mark_of_leaking(trained, tmp_path, monkeypatch, capsys) -> None:
    args = ("--out", tmp_path / "test", "--protocol", "random")
    code, out, err = inside(monkeypatch, capsys, "evaluate", trained.bundle, trained.data, *args)
    assert code == 0, err
    warning = "LEAKING: 84 of 84 test cells are known to the model from its training"
    assert warning in out
    assert warning in (tmp_path / "test" / "report.html").read_text(encoding="utf-8")
    m = read(tmp_path / "test" / "metrics.json")
    assert m["protocol"] == "external-leaking"
    assert any(warning in w for w in m["warnings"])


# What a bundle keeps


@pytest.mark.parametrize("damage", ["missing", "text", "zip", "other names", "lengths", "pickle"])
def test_training_cells_that_cannot_be_read_are_an_error_and_run_nothing(trained, tmp_path, damage) -> None:
    path = tmp_path / TRAINING_CELLS
    shutil.copy(trained.bundle / TRAINING_CELLS, path)
    columns = leakage.load_training_cells(path)
    if damage == "missing":
        path.unlink()
    elif damage == "text":
        path.write_text("x")
    elif damage == "zip":
        path.write_bytes(b"PK\x03\x04" + path.read_bytes()[4:900])
    elif damage == "other names":
        np.savez(path, some=np.zeros(3))
    elif damage == "lengths":
        np.savez(path, **{**columns, "groups": columns["groups"][:-1]})
    else:
        np.savez(path, **{**columns, "groups": np.array([{"a": 1}] * len(columns["groups"]), dtype=object)})
    with pytest.raises(BundleError, match="does not say what it was trained on"):
        leakage.load_training_cells(path)
