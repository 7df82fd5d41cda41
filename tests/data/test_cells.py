"""The cell table: its fingerprint names all that matters, and nothing else changes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings, strategies as st

from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import BINARY, HERLEV, get_map
from cervicyte.errors import DataError

N = 8


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> CellTable:
    """Eight files of different content, two classes, four groups."""
    folder = tmp_path_factory.mktemp("cells")
    cells = []
    for k in range(N):
        path = folder / f"{k}.png"
        path.write_bytes(bytes([k]) * 10)
        cells.append(
            Cell(path=str(path), label=BINARY.classes[k % 2], group=f"g{k // 2}", box=(0, 0, 5, 5), source="test")
        )
    return CellTable(cells=tuple(cells), system=BINARY, name="table")


@given(order=st.permutations(range(N)))
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_fingerprint_does_not_see_the_order(table: CellTable, order: list[int]) -> None:
    assert table.subset(order).fingerprint == table.fingerprint


@given(
    row=st.integers(0, N - 1), change=st.sampled_from(["label", "group", "source", "box", "variant", "drop", "twice"])
)
@settings(max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_fingerprint_sees_what_matters(table: CellTable, row: int, change: str) -> None:
    cells = list(table.cells)
    cell = cells[row]
    if change == "drop":
        del cells[row]
    elif change == "twice":
        cells.append(cell)
    else:
        other = "abnormal" if cell.label == "normal" else "normal"
        value = {"label": other, "group": "elsewhere", "source": "other", "box": (0, 0, 5, 6), "variant": 1}[change]
        cells[row] = replace(cell, **{change: value})
    assert table.with_cells(cells).fingerprint != table.fingerprint


def test_the_fingerprint_sees_content_and_not_names(table: CellTable, tmp_path: Path) -> None:
    def copy(name: str, last: bytes) -> str:
        cells = []
        for k, cell in enumerate(table.cells):
            path = tmp_path / f"{name}-{k}.bmp"
            path.write_bytes(last if k == N - 1 else Path(cell.path).read_bytes())
            cells.append(replace(cell, path=str(path)))
        return CellTable(cells=tuple(cells), system=BINARY, name="another name", notes=("a note",)).fingerprint

    assert copy("same", Path(table.cells[-1].path).read_bytes()) == table.fingerprint
    assert copy("changed", b"another byte") != table.fingerprint


def test_a_file_that_is_gone_has_no_digest_and_breaks_nothing(table: CellTable, tmp_path: Path) -> None:
    gone = table.with_cells([*table.cells, replace(table.cells[0], path=str(tmp_path / "gone.png"))])
    assert gone.digests()[-1] is None
    assert None not in gone.digests()[:-1]
    assert len(gone.fingerprint) == 64
    assert gone.fingerprint != table.fingerprint


def test_columns_and_counts(table: CellTable) -> None:
    assert len(table) == N
    assert table.present == ("normal", "abnormal")
    assert table.codes.tolist() == [k % 2 for k in range(N)]
    assert table.codes.dtype == np.int64
    assert table.counts() == {"normal": (4, 4), "abnormal": (4, 4)}
    assert table.groups[0] == "test:g0"
    empty = CellTable(cells=(), system=HERLEV)
    assert (len(empty), empty.present, empty.codes.shape) == (0, (), (0,))
    assert set(empty.counts().values()) == {(0, 0)}


@given(rows=st.lists(st.integers(0, N - 1), max_size=12))
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_subset_by_indices(table: CellTable, rows: list[int]) -> None:
    assert table.subset(rows).cells == tuple(table.cells[r] for r in rows)


@given(mask=st.lists(st.booleans(), min_size=N, max_size=N))
@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_subset_by_mask(table: CellTable, mask: list[bool]) -> None:
    part = table.subset(np.array(mask))
    assert part.cells == tuple(c for c, keep in zip(table.cells, mask, strict=True) if keep)


def test_labels_are_mapped_to_another_system() -> None:
    cells = tuple(Cell(path=f"{k}.png", label=label, group="g") for k, label in enumerate(HERLEV.classes))
    binary = CellTable(cells=cells, system=HERLEV).map_labels(get_map("herlev-to-binary"))
    assert binary.system is BINARY
    assert binary.labels.tolist() == ["normal"] * 3 + ["abnormal"] * 4
    assert binary.paths == [c.path for c in cells]


def test_unknown_labels_are_refused_in_three_parts() -> None:
    with pytest.raises(DataError) as caught:
        CellTable(cells=(Cell(path="a.png", label="benign", group="g"),), system=BINARY)
    text = str(caught.value)
    assert "'benign'" in text
    assert "received:" in text
    assert "to do:" in text
    assert "normal, abnormal" in caught.value.one_line
    assert "\n" not in caught.value.one_line
