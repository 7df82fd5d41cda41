"""Tables as Excel, laboratory systems, Macs and Windows write them are read right, or their peculiarity is told."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from cervicyte.data import readers
from cervicyte.data.readers import rows
from cervicyte.data.readers.places import Places
from cervicyte.errors import DataError

PLACES = ("img/1.png", "img/2.png", "img/3.png")


def touch(root: Path, *places: str) -> None:
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(b"not decoded by a reader")


def note(cells, word):
    lines = [n for n in cells.notes if word in n]
    assert len(lines) == 1, cells.notes
    return lines[0]


def table(folder: Path, text: str, encoding: str = "utf-8", name: str = "cells.csv") -> Path:
    touch(folder, *PLACES)
    file = folder / name
    file.write_bytes(text.encode(encoding))
    return file


PLAIN = "path,label,group\nimg/1.png,a,P1\nimg/2.png,b,P2\n"


@pytest.mark.parametrize(
    ("text", "encoding", "name"),
    [
        ("sep=;\r\npath;label;group\r\nimg/1.png;a;P1\r\nimg/2.png;b;P2\r\n", "utf-8", "cells.csv"),
        ("sep=,\n" + PLAIN, "utf-8-sig", "cells.csv"),
        ('"sep=;"\rpath;label;group\rimg/1.png;a;P1\rimg/2.png;b;P2\r', "utf-8", "cells.csv"),
        ("sep=\t\n" + PLAIN.replace(",", "\t"), "utf-8", "cells.csv"),
        (PLAIN.replace(",", "\t"), "utf-16", "cells.csv"),
        (PLAIN.replace(",", "\t"), "utf-16", "unicode text.txt"),
        (PLAIN.replace(",", "\t"), "utf-16-le", "cells.csv"),
        (PLAIN, "utf-16-be", "cells.csv"),
        (PLAIN.replace(",", "|"), "utf-8", "cells.csv"),
        ("path;label;group;;\nimg/1.png;a;P1;;\nimg/2.png;b;P2;;\n;;;;\n;;;;\n", "utf-8", "cells.csv"),
        ("path,label,group\nimg/1.png,a,P1,,\nimg/2.png,b,P2,\n,,\n", "utf-8", "cells.csv"),
        ('"path";"label";"group";"a, b, c, d"\n"img/1.png";a;P1;"x"\nimg/2.png;b;P2;\n', "utf-8", "c.csv"),
        ('Path , LABEL,\ufeffGroup,"two\nlines"\nimg\\1.png,a,P1,"x\ny"\nimg\\2.png,b,P2,\n', "utf-8", "cells.csv"),
        ('path,label,group\n"=""img/1.png""",a,="P1"\nimg/2.png,b,="P2"\n', "utf-8", "cells.csv"),
        ("\n\n,,\n" + PLAIN, "utf-8", "cells.csv"),
        ("path,label,group,n,n\nimg/1.png,a,P1,1,2\nimg/2.png,b,P2,3,4\n", "utf-8", "cells.csv"),
        (",path,label,group\n0,img/1.png,a,P1\n1,img/2.png,b,P2\n", "utf-8", "cells.csv"),
        ("path,label,group\nIMG/1.PNG,a,P1\nimg/2.png,b,P2\n", "utf-8", "cells.csv"),
    ],
)  # fmt: skip
def test_tables_of_spreadsheets_and_laboratory_systems(tmp_path, text, encoding, name):
    cells = readers.load(table(tmp_path, text, encoding, name))
    assert [(Path(c.path).relative_to(tmp_path).as_posix(), c.label, c.group) for c in cells.cells] == [
        ("img/1.png", "a", "P1"),
        ("img/2.png", "b", "P2"),
    ]


@pytest.mark.parametrize(
    ("text", "word", "words"),
    [
        (",path,label\n0,img/1.png,a\n1,img/2.png,b\n", "without a name", "1 column"),
        ("path,label,n,n\nimg/1.png,a,1,2\n", "stand twice", "'n'"),
        ("path,label\nIMG/1.PNG,a\n", "other capitals", "IMG/1.PNG"),
        ("path,label\nimg/1.png,HSIL?\nimg/2.png,HSIL\n", "marks may change", "'HSIL?' beside HSIL"),
        ("path,label\nimg/1.png,Reactive\nimg/2.png,reactive\n", "of their own; if", "'Reactive' and 'reactive'"),
        ("path,label,group\nimg/1.png,a,012\nimg/2.png,b,12.0\n", "different patients", "'012' and '12.0'"),
        ("path,label,group\nimg/1.png,a,1.23E+11\n", "shortened", "1.23E+11"),
        ("path,label,group\nimg/1.png,a,nan\n", "missing value", "nan"),
        ("path,label\nimg/1.png,NL\nimg/2.png,hsil\n", "read as the label system", "'NL' as NILM, 'hsil' as HSIL"),
        ("path,label\nimg/1.png,#N/A\nimg/2.png,b\n", "without a label", "1 row"),
        ("path,label,Subset\nimg/1.png,a,train\nimg/2.png,b,test\n", "from the column", "'subset'"),
        ("path,label,is_test\nimg/1.png,a,1\nimg/2.png,b,0\n", "may divide", "'is_test'"),
        ("path,label,fold\nimg/1.png,a,1\nimg/2.png,b,2\n", "came divided", "fold1 1, fold2 1"),
        ("path,label,split\nimg/1.png,a,test\nimg/2.png,b,\n", "came divided", "unmarked 1, test 1"),
        ("path,label,split\nimg/1.png,a,test\nimg/2.png,b,NaN\n", "came divided", "unmarked 1, test 1"),
        ("path,label,set\nimg/1.png,a,test\nimg/2.png,b,train\nimg/3.png,b,#N/A\n", "came divided", "test 1, train 1"),
        ("path,label,fold\nimg/1.png,a,1.0\nimg/2.png,b,2.0\n", "came divided", "fold1 1, fold2 1"),
        ("path,label,split\nimg/1.png,a,train\nimg/2.png,b,train\n", "is no division", "train 2"),
    ],
)  # fmt: skip
def test_what_was_made_of_a_peculiar_table_is_told(tmp_path, text, word, words):
    assert words in note(readers.load(table(tmp_path, text)), word)


@pytest.mark.parametrize(
    "sides", ["10,0;10,0;150,0;150,0", "10;10;150;150", "10.0;10.0;150.0;150.0", "10,000;10,000;150,000;150,000"]
)
def test_boxes_with_decimal_commas(tmp_path, sides):
    cells = readers.load(table(tmp_path, f"path;label;left;top;right;bottom\nimg/1.png;a;{sides}\n"))
    assert cells.cells[0].box == (10, 10, 150, 150)


def test_boxes_that_are_fractions_of_the_image_are_refused(tmp_path):
    rows = "path,label,left,top,right,bottom\nimg/1.png,a,0.1,0.2,0.5,0.95\nimg/1.png,a,0.5,0.5,1,1\n"
    with pytest.raises(DataError, match="fractions of the image"):
        readers.load(table(tmp_path, rows))
    cells = readers.load(table(tmp_path, rows + "img/2.png,b,0,0,2,1\n"))
    assert cells.cells[-1].box == (0, 0, 2, 1)


def test_boxes_with_marks_between_thousands_are_read_and_told(tmp_path):
    text = 'path,label,left,top,right,bottom\nimg/1.png,a,"1,286",900,"1,376",990\nimg/2.png,b,1,2,3,4\n'
    cells = readers.load(table(tmp_path, text))
    assert [c.box for c in cells.cells] == [(1286, 900, 1376, 990), (1, 2, 3, 4)]
    assert "'1,286' was read as 1286" in note(cells, "numbers:")


@pytest.mark.parametrize("column", ["label", "group", "split", "path", "left"])
def test_a_column_that_matters_twice_is_refused(tmp_path, column):
    text = f"path,label,group,split,left,top,right,bottom,{column}\nimg/1.png,a,P1,test,1,1,2,2,x\n"
    with pytest.raises(DataError, match="twice"):
        readers.load(table(tmp_path, text))


def test_composed_and_decomposed_letters_name_the_same_file(tmp_path):
    name = "caf\u00e9 \u00fc.png"
    for written, stored in ((name, unicodedata.normalize("NFD", name)), (unicodedata.normalize("NFD", name), name)):
        folder = tmp_path / stored[:4]
        touch(folder, f"Gl\u00e4s/{stored}", f"b/{stored}")
        label = unicodedata.normalize("NFD", "Gl\u00e4s")
        (folder / "cells.csv").write_text(f"path,label,group\nGl\u00e4s/{written},{label},G\u00fc\n", encoding="utf-8")
        cells = readers.load(folder / "cells.csv")
        assert len(cells) == 1
        assert cells.cells[0].label == "Gl\u00e4s"
        assert not [n for n in cells.notes if "capitals" in n]
        (folder / "cells.csv").unlink()
        groups = f"path,group\nGl\u00e4s\\{written},P1\nb/{written},P2\n"
        (folder / "groups.csv").write_text(groups, encoding="utf-8")
        assert [c.group for c in readers.load(folder).cells] == ["P1", "P2"]


def test_a_name_that_means_two_files_by_case_means_none(tmp_path):
    touch(tmp_path, "a.png", "A.png")
    places = Places(tmp_path)
    assert places.find("a.PNG") is None
    assert places.find("A.png") == str(tmp_path / "A.png")
    assert places.by_case == []


@given(st.text(max_size=20))
def test_any_name_is_a_file_or_none(name):
    place = Places(Path(__file__).parent).find(name)
    assert place is None or Path(place).is_file()


@given(st.text(alphabet='ab,;|\t\n"=sep\r ', max_size=60))
def test_any_text_of_separators_is_rows_or_a_data_error(text):
    try:
        table = rows.parse_csv(text)
    except DataError:
        return
    assert all(tuple(row) == table.columns for _, row in table.rows)
    assert len(set(table.columns)) == len(table.columns)


cell_text = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters='="'), min_size=1, max_size=8)


@given(st.lists(st.tuples(cell_text, cell_text), min_size=1, max_size=5), st.sampled_from(",;\t|"), st.booleans())
def test_rows_are_the_same_whatever_separates_them(pairs, delimiter, declared):
    import csv
    import io

    stream = io.StringIO(newline="")
    writer = csv.writer(stream, delimiter=delimiter, quoting=csv.QUOTE_ALL)
    writer.writerow(("path", "label", ""))
    writer.writerows((*pair, "") for pair in pairs)
    text = (f"sep={delimiter}\n" if declared else "") + stream.getvalue()
    filled = [pair for pair in pairs if pair[0].strip() or pair[1].strip()]
    assert [(row["path"], row["label"]) for _, row in rows.parse_csv(text).rows] == filled
