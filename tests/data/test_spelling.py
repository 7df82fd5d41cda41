"""Spellings of one name are told from names that differ, and nothing is merged."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, strategies as st

from cervicyte.data import labels, spelling
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import BETHESDA
from cervicyte.errors import DataError

names = st.text(st.characters(categories=("L", "N", "P", "Zs")), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("P001", "p001"), ("1", "1.0"), ("12", "012"), ("12", " 12"), ("12", "12,00"),
        ("P 7", "P_7"), ("P 7", "P7"), ("7_a", "07A"), ("P-1", "P\u20131"), ("a\u200b1", "a1"),
        ("Mu\u0308ller", "M\u00fcller"), ("P12", "\u0420012"), ("\uff11\uff12", "12"), ("A\u00a01", "A 1"),
        ("S01-2", "S1-02"),
    ],
)  # fmt: skip
def test_spellings_of_one_name(one, other):
    assert spelling.twins([one, other, "another"]) == [tuple(sorted((one, other)))]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1.1", "1.10"),
        ("10", "1"),
        ("P1", "P11"),
        ("A-1", "A1"),
        ("12", "12?"),
        ("0", ""),
        ("100", "1"),
        ("P1", "P-1"),
        ("1 12", "11 2"),
    ],
)
def test_names_that_are_not_one(one, other):
    assert spelling.twins([one, other]) == []


@given(names)
def test_a_name_is_a_twin_of_its_other_forms(name):
    key = spelling.spelling_key(name)
    assert spelling.spelling_key(f"  {name} ") == key
    assert spelling.spelling_key(unicodedata.normalize("NFD", name)) == key


@given(st.integers(0, 10**9), st.integers(0, 3), st.integers(1, 3))
def test_a_whole_number_is_one_name_however_it_is_padded(number, zeros, decimals):
    assert {
        spelling.spelling_key(text)
        for text in (str(number), "0" * zeros + str(number), f"{number}.{'0' * decimals}", f"{number},{'0' * decimals}")
    } == {str(number)}


@pytest.mark.parametrize(
    "mark", ["ASC-US+", "<HSIL", "HSIL?", "HSIL-", "HSIL (?)", "~LSIL", "ASC-H/HSIL", "HSIL\u207a"]
)
def test_a_mark_that_may_change_the_meaning_makes_another_class(mark):
    with pytest.raises(DataError, match="unknown"):
        BETHESDA.canonical(mark)
    assert labels.custom_system([mark, "NILM", "HSIL"]).name == "custom"
    assert [label for label, _ in spelling.marked([mark, "NILM"], BETHESDA.classes)] == [mark]


@pytest.mark.parametrize("text", ["asc us", "ASC\u2011US", "ASC_US", "asc-us ", "ASCUS", "Asc.Us."])
def test_spaces_dashes_and_case_do_not(text):
    assert BETHESDA.canonical(text) == "ASC-US"
    assert spelling.marked([text], BETHESDA.classes) == []


@given(names, names)
def test_labels_that_are_marked_are_no_twins_of_the_bare_one(label, other):
    pairs = spelling.marked([label, other], [])
    assert all(spelling.label_key(a) != spelling.label_key(b) for a, b in pairs)


def test_normal_named_in_one_of_two_spellings_is_refused():
    with pytest.raises(DataError, match="spelling only") as raised:
        labels.custom_system(["reactive", "Reactive", "atypical"], ["reactive"])
    assert "'Reactive' and 'reactive'" in raised.value.received
    both = labels.custom_system(["reactive", "Reactive", "atypical"], ["reactive", "Reactive"])
    assert both.abnormal == {"atypical"}


def test_groups_of_a_table_in_two_spellings_share_a_key_and_paths_do_not():
    cells = tuple(Cell(path=f"{g}.png", label="NILM", group=g, source="folder") for g in ("012", "12.0", "x"))
    table = CellTable(cells=cells, system=BETHESDA)
    assert len(set(table.groups)) == 3
    assert len(set(table.group_keys)) == 2
    assert len(set(CellTable(cells=cells, system=BETHESDA, grouped=False).group_keys)) == 3
