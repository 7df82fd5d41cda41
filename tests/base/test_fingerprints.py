"""Fingerprints stay what they were: the names below were computed by the builds whose caches and bundles are in use."""

from __future__ import annotations

from pathlib import Path

import pytest

from cervicyte.base import fingerprints
from cervicyte.bundle.folder import Bundle
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import BINARY
from support.paths import TESTS


def test_json_is_named_as_before_whatever_the_order_of_its_keys() -> None:
    value = {"b": [1, 2.5, None], "a": "é", "c": {"z": True, "y": ()}}
    name = "2b7ccfcd3143cf3eec9171ef94e7c27136003d6ed6bbbced3e3d4ea9777f34ff"
    assert fingerprints.of_json(value) == fingerprints.of_json(dict(reversed(value.items()))) == name
    listed = fingerprints.of_json([3, "2.0", "student", "abc", {"b": 1, "a": 0.5}, True])
    assert listed == "d11ba2d678439188635e7e17ea0bba43225807b07991904a1775502e3ffa8cba"


def test_a_value_and_the_code_behind_it_are_named_as_before() -> None:
    value = ("a", 0.5, None, [("b", 1)])
    name = "577f0f5ae265047f0fbb385d201dd8101d9d76bc3d2e55bfa5b918bdb1db54d4"
    assert fingerprints.of_repr(value, b"code") == name
    assert fingerprints.of_repr(value) != name


def test_lines_are_named_as_before_and_their_order_matters() -> None:
    name = "fb50db7ee039074e0690d0a7ec756bc6bb75b45e422291bdd64c34cf7cff47d7"
    assert fingerprints.of_lines(["a|None|0", "é"]) == name
    assert fingerprints.of_lines(["é", "a|None|0"]) != name


@pytest.mark.parametrize(
    ("artefact", "sha256"),
    [
        ("format-1-network", "925d80422e41695efa57523a8ef5e12f8ee0cfcc64810baff3a8d8a1870dc273"),
        ("format-2-ensemble", "3a7c9194e50cafcd6b71d247e6ac4a46e81c88f7a586991d38fc9ba72d3dbca5"),
        ("format-2-without-quality", "5a081dd4b83e9058a52f66558de0ca4e981657012441e750ee48ca271d57e9f4"),
    ],
)
def test_a_bundle_of_an_earlier_build_has_the_name_that_records_know_it_by(artefact: str, sha256: str) -> None:
    assert Bundle.load(TESTS / "artefacts" / artefact).graph_sha256 == sha256


def test_a_table_of_cells_has_the_fingerprint_that_manifests_hold(tmp_path: Path) -> None:
    name = "361bfa369320729bb4646520a8dfb69abcca53983625162013b12b0ee39f0cb5"
    cells = []
    for k in range(2):
        path = tmp_path / f"{k}.png"
        path.write_bytes(bytes([k]) * 10)
        cells.append(Cell(path=str(path), label=BINARY.classes[k], group=f"g{k}", box=(0, 0, 5, 5), source="test"))
    assert CellTable(cells=tuple(cells), system=BINARY, name="table").fingerprint == name
