"""Label systems and maps: total, consistent, forgiving about spelling, strict about meaning."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings, strategies as st

from cervicyte.data.labels import (
    BETHESDA,
    BINARY,
    HERLEV,
    MAPS,
    SIPAKMED,
    SYSTEMS,
    LabelMap,
    LabelSystem,
    custom_system,
    find_map,
    get_map,
)
from cervicyte.errors import CervicyteError, DataError, UsageError

system_ids = [s.name for s in SYSTEMS]
map_ids = [m.name for m in MAPS]


def three_parts(error: CervicyteError) -> bool:
    """True where the message says what was wrong, what came in and what to do."""
    text = str(error)
    return bool(error.what) and "received:" in text and "to do:" in text


@pytest.mark.parametrize("system", SYSTEMS, ids=system_ids)
def test_systems_are_consistent(system: LabelSystem) -> None:
    assert len(set(system.classes)) == len(system.classes) >= 2
    assert system.abnormal is not None
    assert 0 < len(system.abnormal) < len(system.classes)
    assert set(system.aliases.values()) <= set(system.classes)
    assert system.source
    assert LabelSystem.from_json(json.loads(json.dumps(system.to_json()))).to_json() == system.to_json()
    # Spelling is forgiven, but never so far that two classes become one.
    spelled = {system.canonical(name.upper().replace("_", " ").replace("-", " ")) for name in system.classes}
    assert spelled == set(system.classes)
    for alias, name in system.aliases.items():
        assert system.canonical(alias) == name


@pytest.mark.parametrize("system", [s for s in SYSTEMS if s.graded], ids=lambda s: s.name)
def test_graded_systems_go_from_normal_to_abnormal(system: LabelSystem) -> None:
    flags = [name in system.abnormal for name in system.classes]
    assert flags == sorted(flags)


@pytest.mark.parametrize("row", MAPS, ids=map_ids)
def test_maps_are_total(row: LabelMap) -> None:
    mapped = row(row.origin.classes)
    assert len(mapped) == len(row.origin.classes)
    assert set(mapped) <= set(row.target.classes)
    assert get_map(row.name) is row


@pytest.mark.parametrize("row", MAPS, ids=map_ids)
def test_maps_keep_normal_and_abnormal(row: LabelMap) -> None:
    """The one exception is system B's reading of Metaplastic, and it carries a note."""
    changed = {
        name
        for name, target in zip(row.origin.classes, row(row.origin.classes), strict=True)
        if (name in row.origin.abnormal) != (target in row.target.abnormal)
    }
    assert changed == ({"Metaplastic"} if row.name == "sipakmed-to-binary-published" else set())
    assert row.note or not changed


def test_two_ways_to_binary_agree() -> None:
    direct = find_map(HERLEV, "binary")(HERLEV.classes)
    assert find_map(BETHESDA, "binary")(find_map(HERLEV, "bethesda")(HERLEV.classes)) == direct


def test_both_readings_of_metaplastic() -> None:
    assert get_map("sipakmed-to-binary-clinical")(["Metaplastic"]) == ["normal"]
    assert get_map("sipakmed-to-binary-published")(["Metaplastic"]) == ["abnormal"]
    assert find_map(SIPAKMED, "binary").name == "sipakmed-to-binary-clinical"


def test_unknown_labels_name_the_nearest() -> None:
    with pytest.raises(DataError) as caught:
        HERLEV.canonical("light_dysplasia")
    assert three_parts(caught.value)
    assert "did you mean 'light_dysplastic'?" in str(caught.value)
    with pytest.raises(DataError):
        get_map("herlev-to-binary")(["light_dysplastic", "benign"])


@given(st.text(max_size=12))
@settings(max_examples=100, deadline=None, derandomize=True)
def test_any_text_is_a_class_or_a_data_error(text: str) -> None:
    try:
        assert BETHESDA.canonical(text) in BETHESDA.classes
    except DataError as error:
        message = str(error)
        assert "received:" in message and "to do:" in message  # noqa: PT018


def test_signs_are_not_taken_for_one_another() -> None:
    """Labels without a letter or digit have no spelling to forgive."""
    system = LabelSystem(name="hpv", classes=("-", "+"), abnormal=frozenset({"+"}))
    assert [system.canonical(c) for c in "+-"] == ["+", "-"]
    with pytest.raises(DataError):
        system.canonical("?")


def test_unknown_names_are_usage_errors() -> None:
    with pytest.raises(UsageError) as caught:
        get_map("herlef")
    assert three_parts(caught.value)
    with pytest.raises(UsageError) as caught:
        find_map(BINARY, "bethesda")
    assert three_parts(caught.value)


def test_incomplete_maps_cannot_be_made() -> None:
    with pytest.raises(UsageError, match="does not cover"):
        LabelMap(name="half", origin=BINARY, target=BETHESDA, table={"normal": "NILM"})
    with pytest.raises(UsageError, match="does not cover"):
        LabelMap(name="wrong", origin=BINARY, target=BETHESDA, table={"normal": "NILM", "abnormal": "bad"})
    with pytest.raises(DataError):
        LabelSystem(name="odd", classes=("a",), abnormal=frozenset({"b"}))


@pytest.mark.parametrize("value", [{}, {"name": "x", "classes": 3, "abnormal": None, "graded": False}])
def test_what_is_no_label_system_is_refused(value: dict[str, object]) -> None:
    with pytest.raises(DataError) as caught:
        LabelSystem.from_json(value)
    assert three_parts(caught.value)


def test_custom_systems() -> None:
    assert custom_system(["carcinoma_in_situ", "Normal Columnar"]) is HERLEV
    plain = custom_system(["b", "a", "b"])
    assert (plain.classes, plain.abnormal) == (("a", "b"), None)
    named = custom_system(["x", "ok", "fine"], normal=["ok", "fine"])
    assert (named.classes, named.abnormal) == (("fine", "ok", "x"), frozenset({"x"}))
    with pytest.raises(DataError) as caught:
        custom_system(["a", "b"], normal=["c"])
    assert three_parts(caught.value)
