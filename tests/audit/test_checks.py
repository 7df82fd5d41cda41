"""Each check finds what was planted for it and stays silent on clean data."""

from __future__ import annotations

import csv
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cervicyte.audit import artefacts
from cervicyte.audit.checks import SEVERITIES, Audit, audit, join_duplicates, leaks
from cervicyte.audit.duplicates import DuplicatePair
from cervicyte.audit.page import write_audit
from cervicyte.data import labels as taxonomy
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import BETHESDA, BINARY, HERLEV
from cervicyte.errors import DataError
from cervicyte.images.augmentation import augmented_copy
from support.generated_cells import jpeg, make_cell, save
from support.paths import SHARED

DATA = SHARED / "data"


def clean_cells(folder: Path, n: int = 24) -> list[Cell]:
    """n cells of two classes in n / 3 groups."""
    labels = ("normal", "abnormal")
    return [
        Cell(
            path=save(make_cell(s), folder / f"{s}.png"),
            label=labels[s // 3 % 2],
            group=f"slide{s // 3}",
            source="made",
        )
        for s in range(n)
    ]


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> CellTable:
    return CellTable(cells=tuple(clean_cells(tmp_path_factory.mktemp("clean"))), system=BINARY, name="clean")


@pytest.fixture(scope="module")
def dirty(tmp_path_factory: pytest.TempPathFactory) -> tuple[CellTable, Audit]:
    """A table with one of everything, and its audit."""
    folder = tmp_path_factory.mktemp("dirty")
    cells = clean_cells(folder)
    (folder / "broken.png").write_bytes(b"\x89PNG not really")
    mask = np.zeros((120, 120, 3), np.uint8)
    mask[30:90, 30:90] = (0, 0, 255)
    haze = make_cell(99)[:8, :8].mean((0, 1)) + np.random.default_rng(0).normal(0, 4, (120, 120, 1))
    extra = {
        "broken": str(folder / "broken.png"),
        "mask": save(mask, folder / "7-d.bmp"),
        "blank": save(np.full((120, 120, 3), 200, np.uint8), folder / "blank.png"),
        "haze": save(np.clip(haze, 0, 255).astype(np.uint8), folder / "haze.png"),
        "copy": save(jpeg(make_cell(0), 60), folder / "copy.png"),
        "turned": save(np.rot90(make_cell(1)), folder / "turned.png"),
    }
    cells += [
        Cell(path=path, label="abnormal", group=f"extra-{name}", source="made", split="test")
        for name, path in extra.items()
    ]
    cells[0] = replace(cells[0], split="train")
    table = CellTable(cells=tuple(cells), system=BINARY, name="dirty", grouped=False)
    return table, audit(table)


def test_clean_data_has_nothing_to_warn_of(clean: CellTable) -> None:
    result = audit(clean)
    assert result.worst == "info", [f for f in result.findings if f.severity != "info"]
    assert result.pairs == ()


@pytest.mark.parametrize(
    ("check", "severity", "names"),
    [
        ("unreadable", "warning", {"broken.png"}),
        ("masks counted as images", "error", {"7-d.bmp"}),
        ("blank", "warning", {"blank.png"}),
        ("background only", "error", {"haze.png"}),
        ("near copies", "warning", {"0.png", "copy.png"}),
        ("rotated copies", "warning", {"1.png", "turned.png"}),
        ("duplicates across groups", "error", {"0.png", "copy.png", "1.png", "turned.png"}),
        ("one image, two labels", "error", {"0.png", "copy.png", "1.png", "turned.png"}),
        ("duplicate pairs in train and test", "error", {"0.png", "copy.png"}),
    ],
)
def test_each_check_finds_what_was_planted(
    dirty: tuple[CellTable, Audit], check: str, severity: str, names: set[str]
) -> None:
    cells, result = dirty
    finding = result.find(check)
    assert finding is not None, [f.check for f in result.findings]
    assert {Path(cells.cells[r].path).name for rows in finding.examples for r in rows} == names
    assert finding.severity in ({severity} if "copies" not in check else {"info", "warning"})
    assert finding.count >= 1
    assert finding.message.endswith(".")


def test_missing_groups_are_a_finding(dirty: tuple[CellTable, Audit]) -> None:
    finding = dirty[1].find("no groups")
    assert finding is not None
    assert finding.severity == "warning"


def test_findings_come_the_gravest_first(dirty: tuple[CellTable, Audit]) -> None:
    order = [list(SEVERITIES).index(f.severity) for f in dirty[1].findings]
    assert order == sorted(order, reverse=True)
    assert dirty[1].worst == "error"


def test_groups_in_both_folders_are_found(clean: CellTable) -> None:
    cells = clean.with_cells(replace(c, split="train" if i % 3 else "test") for i, c in enumerate(clean.cells))
    finding = audit(cells).find("groups in train and test")
    assert finding is not None
    assert finding.count == 8


def test_an_empty_table_is_refused() -> None:
    with pytest.raises(DataError, match="nothing to audit"):
        audit(CellTable(cells=(), system=BINARY))


def test_smears_in_one_class_are_an_error(tmp_path: Path) -> None:
    cells = []
    for s in range(60):
        image = np.vstack([np.hstack([make_cell(500 + 4 * s + k, 100) for k in pair]) for pair in ((0, 1), (2, 3))])
        label = ("normal", "abnormal")[s % 2]
        noise = np.random.default_rng(s).normal(0, 8, (*image.shape[:2], 1))  # of a camera, which a smear stretches
        image = augmented_copy(np.clip(image + noise, 0, 255).astype(np.uint8), s % 2, str(s))
        cells.append(
            Cell(path=save(image, tmp_path / f"{s}.png"), label=label, group=f"g{s // 2}-{s % 2}", source="made")
        )
    finding = audit(CellTable(cells=tuple(cells), system=BINARY)).find("artefact: smeared border")
    assert finding is not None
    assert finding.severity == "error"
    assert "abnormal" in finding.message


def test_jpeg_quality_that_differs_by_class_is_an_error(tmp_path: Path) -> None:
    cells = [
        Cell(
            path=save(make_cell(s), tmp_path / f"{s}.jpg", quality=(95, 70)[s % 2]),
            label=("normal", "abnormal")[s % 2],
            group=f"g{s}",
        )
        for s in range(40)
    ]
    finding = audit(CellTable(cells=tuple(cells), system=BINARY)).find("artefact: file")
    assert finding is not None
    assert finding.severity == "error"
    assert "JPEG quantisation" in finding.message


def test_quantisation_of_jpeg_grows_as_quality_falls(tmp_path: Path) -> None:
    means = []
    for quality in (95, 75, 40):
        path = save(make_cell(1), tmp_path / "a.jpg", quality=quality)
        means.append(artefacts.jpeg_quantisation(Path(path).read_bytes()))
    assert 0 < means[0] < means[1] < means[2]
    assert artefacts.jpeg_quantisation(b"\x89PNG") == 0
    assert artefacts.jpeg_quantisation(b"\xff\xd8\xff\xdb") == 0


def test_auroc_agrees_with_its_definition() -> None:
    random = np.random.default_rng(0)
    truth, score = random.random(60) < 0.4, random.integers(0, 6, 60)
    yes, no = score[truth][:, None], score[~truth][None]
    assert artefacts.auroc(truth, score) == pytest.approx(((yes > no) + 0.5 * (yes == no)).mean())
    assert np.isnan(artefacts.auroc(np.ones(3, bool), np.arange(3.0)))


def test_random_measurements_are_not_flagged() -> None:
    random = np.random.default_rng(1)
    features = random.normal(size=(80, len(artefacts.FEATURES)))
    labels = np.array(["a", "b"])[np.arange(80) % 2]
    rows = artefacts.probe(features, labels, np.arange(80).astype(str), [("a", labels == "a")])
    assert len(rows) == len(artefacts.FAMILIES)
    assert all(r.low < 0.7 and r.low <= r.auroc <= r.high for r in rows)


def test_leaks_name_groups_and_copies(clean: CellTable) -> None:
    pairs = [DuplicatePair(0, 9, "near", 0.99), DuplicatePair(3, 4, "near", 0.99)]
    leaking = leaks(clean, np.arange(3, 24), np.arange(3), pairs)
    assert [(x.kind, x.train_row, x.test_row) for x in leaking] == [("near", 9, 0)]
    shared = leaks(clean, np.arange(2, 24), np.arange(2), [])
    assert [(x.kind, x.train_row, x.test_row) for x in shared] == [("group", 2, 0)]
    assert "0.png" in leaking[0].message
    assert "slide0" in shared[0].message


def test_joining_duplicates_joins_whole_groups(clean: CellTable) -> None:
    pairs = [DuplicatePair(0, 3, "near", 1.0), DuplicatePair(5, 23, "near", 1.0)]
    joined = join_duplicates(clean, pairs)
    first = joined.groups[0]
    assert set(np.flatnonzero(joined.groups == first)) == {0, 1, 2, 3, 4, 5, 21, 22, 23}
    assert len(set(joined.groups)) == len(set(clean.groups)) - 2
    assert not leaks(joined, np.flatnonzero(joined.groups == first), np.flatnonzero(joined.groups != first), pairs)


def test_written_audit_is_complete_and_self_contained(dirty: tuple[CellTable, Audit], tmp_path: Path) -> None:
    cells, result = dirty
    write_audit(result, cells, tmp_path / "out")
    value = json.loads((tmp_path / "out" / "audit.json").read_text(encoding="utf-8"))
    assert [f["check"] for f in value["findings"]] == [f.check for f in result.findings]
    assert "NaN" not in json.dumps(value)
    with open(tmp_path / "out" / "findings.csv", encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {r["check"] for r in rows} == {f.check for f in result.findings}
    assert any(r["path"].endswith("broken.png") for r in rows)
    html = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert "data:image/jpeg;base64," in html
    assert not re.search(r'(src|href)="(?!data:)', html)
    assert all(f.check in html for f in result.findings)


def test_names_in_the_page_are_escaped(tmp_path: Path) -> None:
    cells = clean_cells(tmp_path, 6)
    odd = save(jpeg(make_cell(0), 60), tmp_path / "<b>&.png")
    table = CellTable(
        cells=(*cells, Cell(path=odd, label="normal", group="<script>", source="made")),
        system=BINARY,
        name="<i>name</i>",
    )
    write_audit(audit(table), table, tmp_path / "out")
    html = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in html
    assert "<script>" not in html
    assert "<i>name" not in html


def test_swapped_boxes_are_an_error(tmp_path: Path) -> None:
    field = np.full((400, 800, 3), (210, 200, 205), np.uint8)
    cells = []
    for i in range(6):
        field[300:400, 120 * i : 120 * i + 100] = make_cell(i, 100)
        cells.append((120 * i, 300))
    path = save(field, tmp_path / "field.png")
    table = CellTable(
        cells=tuple(
            Cell(path=path, label="normal", group="f", box=(y, x % 300, y + 100, x % 300 + 100)) for x, y in cells
        ),
        system=BINARY,
        name="swapped",
    )
    result = audit(table)
    assert {f.check for f in result.findings} & {"blank", "background only"}
    right = table.with_cells(
        replace(c, box=(x, y, x + 100, y + 100)) for c, (x, y) in zip(table.cells, cells, strict=True)
    )
    assert not {f.check for f in audit(right).findings} & {"blank", "background only"}


def test_herlev_raises_no_alarm() -> None:
    files = sorted((DATA / "herlev").glob("*/*.jpg"))[::6]
    if not files:
        pytest.skip("the Herlev cells in ../shared are not here")
    cells = (Cell(path=str(f), label=f.parent.name, group=f.name.split("-")[0], source="herlev") for f in files)
    result = audit(CellTable(cells=tuple(cells), system=HERLEV, name="herlev"))
    assert result.worst == "info", [f.message for f in result.findings if f.severity != "info"]


def test_lbc_copy_is_flagged() -> None:
    files = sorted((DATA / "lbc_fields").glob("*/*.jpg"))
    if not files:
        pytest.skip("the LBC fields in ../shared are not here")
    chosen = [f for f in files if f.parent.name == "NL"][::12]
    variants = [f for f in files if "_0_" in f.name]
    stems = sorted({f.name.split("_0_")[0] for f in variants})[::20]
    chosen += [f for f in variants if f.name.split("_0_")[0] in stems]
    cells = tuple(
        Cell(
            path=str(f),
            label=taxonomy.BETHESDA.canonical(f.parent.name),
            group=re.sub(r"_0_.*|_\d+\.jpg$", "", f.name),
            source="lbc",
        )
        for f in chosen
    )
    result = audit(CellTable(cells=cells, system=BETHESDA, name="lbc"))
    names = ("augmented copies", "artefact: smeared border", "artefact: file")
    augmented, smear, file = (result.find(name) for name in names)
    assert augmented is not None
    assert augmented.severity == "warning"
    assert smear is not None
    assert smear.severity in ("warning", "error")
    assert file is not None
    assert file.severity == "error"
