"""Augmentation: the same copies for the same seed, and written sets that no split can mistake for other cells."""

from __future__ import annotations

import csv
import hashlib
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cervicyte.data import splits
from cervicyte.data.augmented_set import write_set
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import BINARY
from cervicyte.data.readers import load
from cervicyte.errors import DataError, LeakageError, StorageError, UsageError
from cervicyte.features import extraction
from cervicyte.images import decoding, filters
from cervicyte.images.augmentation import (
    GEOMETRIC,
    PRESETS,
    Augmentation,
    augmented_copy,
    get_augmentation,
)
from cervicyte.images.decoding import CellImage
from support.commands import cervicyte, inside, three_parts
from support.generated_cells import make_cell, save

NAMES = [row.name for row in PRESETS]


@pytest.fixture(scope="module")
def cell() -> np.ndarray:
    return make_cell(11, 64)


# --- copies ----------------------------------------------------------------------------------------------


def published_copy(image: np.ndarray, variant: int, key: str, seed: int) -> np.ndarray:
    """The copies behind the numbers in docs/results.md, written down anew."""
    draws = np.random.default_rng(
        np.frombuffer(hashlib.sha256(f"{key}|{variant}|{seed}".encode()).digest(), dtype=np.uint32)
    )
    height, width = image.shape[:2]
    angle, scale = draws.uniform(-45, 45), 1 + draws.uniform(-0.1, 0.1)
    matrix = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, scale)
    matrix[:, 2] += draws.uniform(-0.1, 0.1, size=2) * (width, height)
    moved = cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    moved = moved[:, ::-1] if draws.random() < 0.5 else moved
    return moved[::-1] if draws.random() < 0.5 else moved


def test_geometric_copies_are_those_of_the_published_numbers(cell) -> None:
    for image in (cell, cell[:40, :51], cell[:1, :1]):
        for variant in range(1, 30):
            expected = published_copy(image, variant, "key", 7)
            np.testing.assert_array_equal(augmented_copy(image, variant, "key", 7), expected)


@pytest.mark.parametrize("name", NAMES)
def test_copies_depend_on_key_variant_and_seed_and_on_nothing_else(name: str, cell) -> None:
    chosen = get_augmentation(name)
    before = cell.copy()
    assert augmented_copy(cell, 0, "a", 0, chosen) is cell
    copy = augmented_copy(cell, 1, "a", 0, chosen)
    np.random.default_rng(5).random()
    np.testing.assert_array_equal(augmented_copy(cell, 1, "a", 0, chosen), copy)
    for other in ((2, "a", 0), (1, "b", 0), (1, "a", 1)):
        assert (augmented_copy(cell, *other, chosen) != copy).any()
    np.testing.assert_array_equal(cell, before)
    assert (copy.dtype, copy.flags.c_contiguous) == (np.uint8, True)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 30), (2, 2), (31, 64)])
def test_images_of_any_size_have_copies(name: str, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    for variant in range(1, 8):
        copy = augmented_copy(image, variant, "key", 0, get_augmentation(name))
        assert copy.shape in (image.shape, (shape[1], shape[0], 3))
        assert copy.shape == image.shape or get_augmentation(name).transpose


def test_nothing_to_draw_changes_nothing(cell) -> None:
    np.testing.assert_array_equal(augmented_copy(cell, 3, "key", 0, Augmentation()), cell)


def test_flips_and_transposition_give_all_eight_orientations_in_equal_shares(cell) -> None:
    orientations = [np.rot90(x, k).tobytes() for x in (cell, cell[:, ::-1]) for k in range(4)]
    flips = Augmentation(flips=True, transpose=True)
    drawn = [orientations.index(augmented_copy(cell, v, "key", 0, flips).tobytes()) for v in range(1, 401)]
    assert np.bincount(drawn, minlength=8).min() > 25


def corner(image: np.ndarray) -> np.ndarray:
    """Where a bright spot lies, (x, y)."""
    y, x = np.unravel_index(cv2.GaussianBlur(image[..., 0], (5, 5), 0).argmax(), image.shape[:2])
    return np.array([x, y], float)


def test_each_range_is_kept_to_and_used() -> None:
    image = np.zeros((201, 201, 3), np.uint8)
    image[98:103, 148:153] = 255  # 50 px to the right of the middle
    middle = np.array([100.0, 100.0])

    def places(**ranges: float) -> np.ndarray:
        chosen = Augmentation(**ranges)
        return np.array([corner(augmented_copy(image, v, "k", 0, chosen)) - middle for v in range(1, 150)])

    turned = np.degrees(np.arctan2(*places(rotation=45).T[::-1]))
    assert 40 < np.abs(turned).max() < 47
    assert turned.min() < -30
    shifted = places(shift=0.2) - (50, 0)
    assert (np.abs(shifted).max(axis=0) > 36).all()
    assert np.abs(shifted).max() <= 42
    zoomed = places(zoom=0.2)
    assert 38 <= zoomed[:, 0].min() < 43
    assert 57 < zoomed[:, 0].max() <= 62
    assert np.abs(zoomed[:, 1]).max() <= 2
    assert np.abs(places(shear=0.2)[:, 0] - 50).max() <= 2, "what lies beside the middle stays where it is"
    image = image.transpose(1, 0, 2)  # below the middle
    sheared = places(shear=0.2)
    assert 8 < np.abs(sheared[:, 0]).max() <= 12
    assert np.abs(sheared[:, 1] - 50).max() <= 2


def test_milder_ranges_give_the_same_copies_only_nearer(cell) -> None:
    wide, mild = Augmentation(rotation=40, flips=True), Augmentation(rotation=0.001, flips=True)
    for variant in range(1, 9):
        wide_copy = augmented_copy(cell, variant, "k", 0, wide)
        mild_copy = augmented_copy(cell, variant, "k", 0, mild)
        flips = [cell, cell[:, ::-1], cell[::-1], cell[::-1, ::-1]]
        nearest = [np.abs(f.astype(int) - mild_copy).mean() for f in flips]
        assert min(nearest) < 1
        assert wide_copy.shape == mild_copy.shape


def test_stain_jitter_moves_colours_moderately_and_keeps_the_cell(cell) -> None:
    only = Augmentation(stain=0.3)
    copies = [augmented_copy(cell, v, "k", 0, only) for v in range(1, 60)]
    means = np.array([cv2.cvtColor(c.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).mean(axis=(0, 1)) for c in copies])
    original = cv2.cvtColor(cell.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).mean(axis=(0, 1))
    assert (means.std(axis=0) > 1.5).all()
    assert np.abs(means - original).max() < 12
    grey = [cv2.cvtColor(c, cv2.COLOR_RGB2GRAY).ravel() for c in (cell, *copies)]
    assert np.corrcoef(grey)[0].min() > 0.95


def test_nlm_is_for_the_share_that_it_says_and_before_the_geometry(cell) -> None:
    clean = filters.apply_chain(cell, filters.parse_chain("nlm"))
    still = Augmentation(nlm=0.5)
    copies = [augmented_copy(cell, v, "k", 0, still) for v in range(1, 101)]
    filtered = [bool((c == clean).all()) for c in copies]
    assert all(f or (c == cell).all() for f, c in zip(filtered, copies, strict=True))
    assert 30 < sum(filtered) < 70
    turned = Augmentation(rotation=45, nlm=1)
    np.testing.assert_array_equal(
        augmented_copy(cell, 4, "k", 0, turned), augmented_copy(clean, 4, "k", 0, replace(turned, nlm=0))
    )


def test_one_image_is_filtered_once_for_all_its_copies(cell, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(tmp_path))
    calls = []
    denoise = cv2.fastNlMeansDenoisingColored
    monkeypatch.setattr(cv2, "fastNlMeansDenoisingColored", lambda *a: calls.append(1) or denoise(*a))
    for variant in range(1, 8):
        augmented_copy(cell, variant, "k", 0, get_augmentation("system-a"))
    assert len(calls) == 1


@pytest.mark.parametrize(
    "ranges",
    [{"rotation": -1}, {"rotation": 181}, {"shift": 0.6}, {"zoom": 1}, {"shear": float("nan")}, {"nlm": 1.1}],
)
def test_ranges_that_cannot_be_used_are_refused(ranges) -> None:
    with pytest.raises(UsageError, match=next(iter(ranges))):
        Augmentation(**ranges)


def test_a_wrong_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        get_augmentation("systema")
    assert "did you mean 'system-a'" in str(caught.value)
    assert get_augmentation("geometric") == GEOMETRIC


# --- while features are extracted ------------------------------------------------------------------------


def test_extraction_makes_the_copies_of_its_augmentation(tmp_path, cell) -> None:
    path = save(cell, tmp_path / "a.png")
    digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()

    class Pixels:
        key, dimension, batch_size, parallel, seed = "p" * 64, cell.size, 2, 1, 3
        augmentation = get_augmentation("strong")

        def prepare(self, image: np.ndarray) -> np.ndarray:
            return image.ravel()

        def run(self, batch: np.ndarray) -> np.ndarray:
            return batch.astype(np.float32)

    rows = dict(extraction.stream((CellImage(path, variant=v) for v in range(5)), Pixels()))
    for variant, row in rows.items():
        copy = augmented_copy(cell, variant, digest, 3, get_augmentation("strong"))
        np.testing.assert_array_equal(row, copy.ravel())


def test_the_key_names_the_augmentation_and_keeps_the_default_as_it_was() -> None:
    plain = extraction.make_extractor("morphology")
    assert "augmentation" not in plain.description
    assert plain.key == extraction.make_extractor("morphology", augmentation=get_augmentation("geometric")).key
    keys = {extraction.make_extractor("morphology", augmentation=row.augmentation).key for row in PRESETS}
    assert len(keys) == len(PRESETS)
    assert extraction.make_extractor("morphology", augmentation=PRESETS[2].augmentation, seed=1).key not in keys


# --- written sets ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Six cells of two classes in three slides, and a file that is no image."""
    folder = tmp_path_factory.mktemp("data") / "cells"
    for i in range(6):
        label = ("normal", "abnormal")[i % 2]
        save(make_cell(40 + i, 48), folder / label / f"slide{i // 2}_{i}.png")
    (folder / "normal" / "slide0_9.png").write_text("no image")
    return folder


def rows(out: Path) -> list[dict[str, str]]:
    with open(out / "cells.csv", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def contents(out: Path) -> dict[str, bytes]:
    return {str(p.relative_to(out)): p.read_bytes() for p in sorted(out.rglob("*.png"))}


def grouped(data: Path) -> CellTable:
    return load(data, group_from="(slide[0-9])")


def test_the_command_writes_copies_that_name_their_originals(data, tmp_path) -> None:
    out = tmp_path / "set"
    result = cervicyte("data", "augment", data, "--out", out, "--copies", 3, "--group-from", "(slide[0-9])")
    assert result.returncode == 3, result.stderr
    assert "24 images written, 0 kept" in result.stdout
    assert "slide0_9.png: not an image" in result.stderr
    assert list(json.loads((out / "failed.json").read_text())) == [str(data / "normal" / "slide0_9.png")]
    table = rows(out)
    assert len(table) == 24
    for row in table:
        assert row["path"].split("/")[0] == row["label"]
        assert row["group"] == row["path"].split("/")[1][:6]
        if row["variant"] == "0":
            assert (row["original"], row["augmentation"]) == ("", "")
        else:
            assert row["original"] == row["path"].replace(f"-{int(row['variant']):03d}.png", "-000.png")
            assert (row["augmentation"], row["seed"]) == ("geometric", "0")
            image = decoding.load(out / row["original"])
            source = next(data.glob(f"*/{Path(row['path']).name.split('-')[0]}.png"))
            key = hashlib.sha256(source.read_bytes()).hexdigest()
            np.testing.assert_array_equal(image, decoding.load(source))
            np.testing.assert_array_equal(
                decoding.load(out / row["path"]), augmented_copy(image, int(row["variant"]), key, 0)
            )


def test_the_table_reads_back_and_groups_hold_the_copies_together(data, tmp_path) -> None:
    write_set(grouped(data), tmp_path / "set", 2, data=data)
    for path in (tmp_path / "set", tmp_path / "set" / "cells.csv"):
        cells = load(path)
        assert any("12 rows of 18 are copies of 6 images" in note for note in cells.notes)
        assert (len(cells), cells.grouped, cells.system) == (18, True, BINARY)
        assert set(cells.groups) == {f"folder:slide{k}" for k in range(3)}
        original_paths = set(cells.paths)
        assert all(c.original in original_paths for c in cells.cells if c.original)
    folds = splits.make_folds(cells, "grouped", 3, 0)
    families = np.array([c.original or c.path for c in cells.cells])
    for train, test in zip(folds.train, folds.test, strict=True):
        assert not set(families[train]) & set(families[test])


def test_audit_and_gate_know_copies_by_what_the_table_says(data, tmp_path, monkeypatch, capsys) -> None:
    from cervicyte.audit import duplicates, leakage
    from cervicyte.audit.checks import audit

    write_set(grouped(data), tmp_path / "set", 2, "strong", data=data)
    code, output, _ = inside(monkeypatch, capsys, "data", "audit", tmp_path / "set" / "cells.csv")
    assert code == 0
    assert "12 of 18 cells are copies of another, as the data set itself says" in output
    cells = load(tmp_path / "set")
    pairs = duplicates.find_duplicates(cells)
    assert len(set(duplicates.components(len(cells), pairs))) <= 6
    # Someone gives a copy a group of its own: the audit is alarmed, the gate shuts, and joining mends it.
    at = next(i for i, c in enumerate(cells.cells) if c.original)
    torn = cells.with_cells(replace(c, group="other") if i == at else c for i, c in enumerate(cells.cells))
    report = audit(torn)
    assert report.worst == "error"
    across = report.find("duplicates across groups")
    assert across is not None
    assert across.count >= 1
    folds = splits.Folds("grouped", 0, (np.delete(np.arange(18), at),), (np.array([at]),))
    with pytest.raises(LeakageError):
        leakage.check(torn, folds, report.pairs)
    assert len(set(leakage.joined(torn, report.pairs).groups)) == 3
    (sentence, *_) = [line for line in leakage.check(cells, replace(folds, protocol="random"), []) if "copy" in line]
    assert sentence.startswith("100%")


def test_without_originals_the_copies_name_the_files_they_were_made_from(data, tmp_path) -> None:
    write_set(grouped(data), tmp_path / "set", 2, originals=False, data=data)
    cells = load(tmp_path / "set")
    assert len(cells) == 12
    assert {str(Path(c.original).resolve()) for c in cells.cells} == {
        str(p.resolve()) for p in data.glob("*/*.png") if p.name != "slide0_9.png"
    }


def test_where_nothing_tells_the_groups_copies_stay_with_their_original(data, tmp_path) -> None:
    write_set(load(data), tmp_path / "set", 2, data=data)
    cells = load(tmp_path / "set")
    assert not cells.grouped
    assert len(set(cells.groups)) == 6
    for c in cells.cells:
        assert len({o.group for o in cells.cells if (o.original or o.path) == (c.original or c.path)}) == 1


def test_boxes_of_one_field_are_cells_of_their_own(tmp_path) -> None:
    field = np.hstack([make_cell(70, 50), make_cell(71, 50)])
    path = save(field, tmp_path / "data" / "field.png")
    boxes = [(0, 0, 50, 50), (50, 0, 100, 50), (90, 0, 140, 50), (300, 0, 350, 50)]
    cells = CellTable(
        cells=tuple(Cell(path=path, label="normal", group="g", box=box, source="cric") for box in boxes),
        system=BINARY,
    )
    written = write_set(cells, tmp_path / "set", 1, originals=False)
    assert list(written.failed) == [f"{path} (300, 0, 350, 50)"]
    read = load(tmp_path / "set")
    assert len({c.original for c in read.cells}) == len(read) == 3
    assert set(read.groups) == {"cric:g"}
    assert [decoding.load(p).shape for p in read.paths] == [(50, 50, 3)] * 3


def test_a_copy_of_a_copy_names_the_first_original(data, tmp_path) -> None:
    write_set(grouped(data), tmp_path / "one", 1, data=data)
    write_set(load(tmp_path / "one"), tmp_path / "two", 1, data=tmp_path / "one")
    cells = load(tmp_path / "two")
    assert len(cells) == 24
    families = {c.original or c.path for c in cells.cells}
    assert len({f for f in families if "one" in f}) == 6


def test_the_same_seed_gives_the_same_bytes_wherever_the_data_lie(data, tmp_path, monkeypatch) -> None:
    import shutil

    moved = Path(shutil.copytree(data, tmp_path / "elsewhere" / "cells"))
    write_set(grouped(data), tmp_path / "a", 2, "system-a", data=data)
    monkeypatch.chdir(moved.parent)
    write_set(grouped(Path("cells")), tmp_path / "b", 2, "system-a", data=Path("cells"))
    write_set(grouped(data), tmp_path / "c", 2, "system-a", seed=1, data=data)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert (tmp_path / "a" / "cells.csv").read_bytes() == (tmp_path / "b" / "cells.csv").read_bytes()
    set_a, set_c = contents(tmp_path / "a"), contents(tmp_path / "c")
    assert set(set_a) == set(set_c)
    assert all((set_a[name] == set_c[name]) == name.endswith("-000.png") for name in set_a)


def test_a_second_run_goes_on_and_other_options_are_refused(data, tmp_path) -> None:
    out = tmp_path / "set"
    cells = grouped(data)
    write_set(cells, out, 2, data=data)
    whole = contents(out)
    lost = sorted(whole)[3]
    (out / lost).unlink()
    (out / "cells.csv").unlink()
    (out / Path(lost).parent / ".half.tmp").write_bytes(b"half")
    with pytest.raises(DataError, match="not finished"):
        load(out)
    again = write_set(cells, out, 2, data=data)
    assert (again.written, again.reused) == (1, 17)
    assert contents(out) == whole
    assert not list(out.rglob(".*"))
    for other in ({"copies": 3}, {"seed": 1}, {"augmentation": "strong"}, {"originals": False}):
        options = {"copies": 2, "data": data} | other
        with pytest.raises(UsageError, match="other options"):
            write_set(cells, out, **options)  # type: ignore[arg-type]
    (out / "normal" / "mine.png").write_bytes(b"")
    assert write_set(cells, out, 2, data=data).strangers == ("normal/mine.png",)


def test_a_killed_run_is_finished_by_the_next(tmp_path) -> None:
    folder = tmp_path / "data"
    for i in range(40):
        save(make_cell(200 + i, 160), folder / ("normal", "abnormal")[i % 2] / f"{i}.png")
    out = tmp_path / "set"
    words = ["data", "augment", str(folder), "--out", str(out), "--copies", "6", "--augmentation", "strong"]
    run = subprocess.Popen([sys.executable, "-m", "cervicyte", *words], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while len(list(out.glob("*/*.png"))) < 20 and time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.01)
    run.send_signal(signal.SIGKILL)
    run.wait()
    assert not (out / "cells.csv").exists(), "it was too quick to be killed"
    result = cervicyte(*words)
    assert result.returncode == 0, result.stderr
    assert " 0 kept" not in result.stdout
    write_set(load(folder), tmp_path / "calm", 6, "strong", data=folder)
    assert contents(out) == contents(tmp_path / "calm")
    assert not list(out.rglob(".*"))


def test_folders_that_must_not_be_written_to_are_refused(data, tmp_path, monkeypatch, capsys) -> None:
    times = {p: p.stat().st_mtime_ns for p in data.rglob("*")}
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.doc").write_text("mine")
    (tmp_path / "link").symlink_to(data)
    for out in (data, data / "normal", data / "new", tmp_path / "link" / "new", data.parent, tmp_path / "full"):
        code, _, message = inside(monkeypatch, capsys, "data", "augment", data, "--out", out)
        assert code == 2, message
        assert three_parts(message)
    assert {p: p.stat().st_mtime_ns for p in data.rglob("*")} == times
    with pytest.raises(StorageError):
        write_set(grouped(data), tmp_path / "full" / "thesis.doc", 1)
    assert (tmp_path / "full" / "thesis.doc").read_text() == "mine"


@pytest.mark.parametrize("copies", [0, -1, 1001])
def test_numbers_outside_their_range_are_refused_before_anything_is_written(data, tmp_path, copies) -> None:
    with pytest.raises(UsageError, match="copies"):
        write_set(grouped(data), tmp_path / "set", copies)
    with pytest.raises(UsageError, match="seed"):
        write_set(grouped(data), tmp_path / "set", 1, seed=-1)
    with pytest.raises(UsageError, match="augmentation"):
        write_set(grouped(data), tmp_path / "set", 1, "gometric")
    assert not (tmp_path / "set").exists()


def test_data_of_which_nothing_can_be_used_is_an_error(tmp_path) -> None:
    (tmp_path / "a.png").write_text("no image")
    table = CellTable(cells=(Cell(path=str(tmp_path / "a.png"), label="normal", group="g"),), system=BINARY)
    with pytest.raises(DataError, match="no cell could be used"):
        write_set(table, tmp_path / "set", 1)
    with pytest.raises(DataError, match="no cell could be used"):
        write_set(CellTable(cells=(), system=BINARY), tmp_path / "other", 1)


def test_odd_names_become_files_that_every_system_takes(tmp_path) -> None:
    path = save(make_cell(1, 20), tmp_path / "data" / "клетка, № 1 (copy)#.png")
    cells = CellTable(cells=(Cell(path=path, label="normal", group='a, "group"'),), system=BINARY)
    write_set(cells, tmp_path / "set", 1)
    read = load(tmp_path / "set")
    assert [c.group for c in read.cells] == ['a, "group"'] * 2
    assert all(len(Path(p).name.encode()) < 255 and "#" not in p for p in read.paths)


def test_a_column_that_means_something_else_makes_no_copies(tmp_path) -> None:
    for k in range(3):
        save(make_cell(k, 20), tmp_path / f"{k}.png")
    (tmp_path / "t.csv").write_text("path,label,original\n0.png,normal,yes\n1.png,abnormal,yes\n2.png,normal,2.png\n")
    cells = load(tmp_path / "t.csv")
    assert [c.original for c in cells.cells] == ["", "", ""]
    assert len(set(cells.groups)) == 3


def test_the_help_names_every_augmentation() -> None:
    text = " ".join(cervicyte("data", "augment", "--help").stdout.split())
    assert all(name in text for name in NAMES)


def test_herlev_copies_are_known_by_the_audit(shared, tmp_path) -> None:
    """Real cells, filtered and moved as system A did: by sight many are missed, by the table none."""
    from cervicyte.audit import duplicates

    files = sorted((shared / "data" / "herlev").glob("*/*.jpg"))[::90]
    for file in files:
        (tmp_path / "data" / file.parent.name).mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / file.parent.name / file.name).write_bytes(file.read_bytes())
    cells = load(tmp_path / "data", "herlev")
    write_set(cells, tmp_path / "set", 3, "system-a", data=tmp_path / "data")
    read = load(tmp_path / "set")
    assert read.system == cells.system
    assert set(read.groups) == set(cells.groups)
    pairs = duplicates.find_duplicates(read)
    assert len(set(duplicates.components(len(read), pairs))) <= len(files)
    blind = read.with_cells(replace(c, original="") for c in read.cells)
    assert len(set(duplicates.components(len(read), duplicates.find_duplicates(blind)))) > len(files)
