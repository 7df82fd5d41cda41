"""Readers: original layouts, our copies, users' folders and tables; what is passed over is always said."""

from __future__ import annotations

import csv
import json
import os
import time
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from cervicyte.data import readers
from cervicyte.data.labels import BETHESDA, BINARY, HERLEV, SIPAKMED
from cervicyte.data.readers import cric, grouping, rows, sipakmed
from cervicyte.data.readers.base import UNGROUPED
from cervicyte.errors import DataError, MissingError, UsageError
from cervicyte.images import decoding

ODD_NAMES = ("with space (1)", "line\nbreak", "细胞", "клетка", "quote'\"", "semi;colon,comma")


def touch(*paths, content=b"not decoded by a reader"):
    """Files that are images by name only: a reader must not open them."""
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def write_image(path, width=300, height=200):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (width, height), (200, 180, 200))
    image.putpixel((0, 0), (90, 60, 130))
    image.save(path)


def note(cells, word):
    """The one note that holds a word."""
    lines = [n for n in cells.notes if word in n]
    assert len(lines) == 1, cells.notes
    return lines[0]


def write_csv(path, header, *lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(header)
        table.writerows(lines)
    return path


# --- the registry


def test_public_sets_declare_what_they_are():
    public = [row for row in readers.DATASETS if row.counts]
    assert {row.name: sum(row.counts.values()) for row in public} == {
        "herlev": 917,
        "sipakmed": 4049,
        "cric": 11534,
        "lbc": 963,
    }
    for row in public:
        assert set(row.counts) <= set(row.system.classes)
        assert row.citation
        assert row.licence
        assert row.homepage.startswith("https://")
        assert row.groups


def test_describe_says_counts_citation_licence_and_source():
    text = {row.name: str(row) for row in readers.describe()}
    assert "normal_superficiel 74" in text["herlev"]
    assert "917" in text["herlev"]
    assert "CC BY 4.0" in text["cric"]
    assert "10.1109/ICIP.2018.8451588" in text["sipakmed"]
    assert set(text) == {"herlev", "sipakmed", "cric", "lbc", "folder", "table", "geojson"}


def test_an_unknown_reader_is_answered_with_the_nearest(tmp_path):
    with pytest.raises(UsageError) as caught:
        readers.load(tmp_path, "herlew")
    assert "did you mean 'herlev'" in str(caught.value)


def test_nothing_there_and_nothing_that_fits(tmp_path):
    with pytest.raises(MissingError):
        readers.load(tmp_path / "absent")
    with pytest.raises(DataError, match="no images"):
        readers.load(tmp_path)
    touch(tmp_path / "a.png", tmp_path / "b.png")
    with pytest.raises(DataError, match="in no class folder"):
        readers.load(tmp_path)
    with pytest.raises(DataError, match="single image"):
        readers.load(tmp_path / "a.png")
    touch(tmp_path / "c.xyz")
    with pytest.raises(DataError, match="not a folder and not a table"):
        readers.load(tmp_path / "c.xyz")


@pytest.mark.parametrize("name", ["herlev", "sipakmed", "cric", "lbc", "folder"])
def test_a_named_reader_that_finds_nothing_says_what_it_needs(tmp_path, name):
    touch(tmp_path / "stray.png")
    with pytest.raises(DataError) as caught:
        readers.load(tmp_path, name)
    assert caught.value.todo


# --- Herlev


def herlev_original(root, per_class=3, ending=".BMP"):
    folder = root / "smear2005" / "New database pictures"
    for k, label in enumerate(HERLEV.classes):
        for n in range(per_class):
            stem = f"1491433{k}{n // 2}-149143378-{n:03d}"
            touch(folder / label / f"{stem}{ending}", folder / label / f"{stem}-d.bmp")
    return folder


@pytest.mark.parametrize("level", ["", "smear2005", "smear2005/New database pictures"])
def test_herlev_original_from_any_level_masks_are_not_images(tmp_path, level):
    herlev_original(tmp_path)
    touch(tmp_path / "smear2005" / "Thumbs.db", tmp_path / "smear2005" / "readme.bmp")
    cells = readers.load(tmp_path / level)
    assert len(cells) == 21
    assert cells.system is HERLEV
    assert cells.grouped
    assert {c.group for c in cells.cells if c.label == "normal_superficiel"} == {"149143300", "149143301"}
    assert len(set(cells.groups)) == 14
    assert "herlev" in cells.notes[0]
    assert "21 segmentation masks" in note(cells, "masks")
    assert "normal_superficiel 3 of 74" in note(cells, "counts:")
    if level != "smear2005/New database pictures":
        assert ".db 1" in note(cells, "not named as an image")
        assert "readme.bmp" in note(cells, "outside the seven class folders")
    assert not [n for n in cells.notes if n.startswith("copy:")]


def test_herlev_files_of_other_names_are_counted(tmp_path):
    folder = herlev_original(tmp_path)
    touch(folder / "carcinoma_in_situ" / "cell (3).bmp")
    assert "cell (3).bmp" in note(readers.load(tmp_path), "group is unknown")


def test_class_folders_of_herlev_with_own_names_are_read_as_a_folder(tmp_path):
    touch(tmp_path / "normal_columnar" / "S1-1.png", tmp_path / "carcinoma_in_situ" / "S2-1.png")
    cells = readers.load(tmp_path, group_from=r"/(\w+)-")
    assert "reader: folder" in cells.notes[0]
    assert cells.system is HERLEV
    assert [c.group for c in cells.cells] == ["S2", "S1"]


def test_our_herlev_copy(shared):
    cells = readers.load(shared / "data" / "herlev")
    assert len(cells) == 733
    assert len(set(cells.groups)) == 256
    assert "733 cells where the original has 917" in note(cells, "counts:")
    assert "carcinoma_in_situ 120 of 150" in note(cells, "counts:")
    assert note(cells, "copy:")


# --- SIPaKMeD


def sipakmed_original(root, doubled=True, crops=True):
    for label in SIPAKMED.classes:
        folder = root / f"im_{label}" / (f"im_{label}" if doubled else "")
        for number in ("001", "002"):
            touch(folder / f"{number}.bmp")
            for cell in ("01", "02"):
                touch(folder / f"{number}_cyt{cell}.dat", content=b"10.2,20.0\n50.9,20.5\r\n30,80.7\n")
                touch(folder / f"{number}_nuc{cell}.dat", content=b"20,30\n30,30\n25,40\n")
                if crops:
                    touch(folder / "CROPPED" / f"{number}_{cell}.bmp", folder / "CROPPED" / f"{number}_{cell}_cyt.dat")


@pytest.mark.parametrize("doubled", [True, False])
def test_sipakmed_crops(tmp_path, doubled):
    sipakmed_original(tmp_path, doubled)
    cells = readers.load(tmp_path)
    assert "sipakmed" in cells.notes[0]
    assert cells.system is SIPAKMED
    assert cells.counts() == dict.fromkeys(SIPAKMED.classes, (4, 2))
    assert {c.group for c in cells.cells if c.label == "Parabasal"} == {"Parabasal-001", "Parabasal-002"}
    assert all(c.box is None for c in cells.cells)
    assert "10 whole fields" in note(cells, "whole field")
    assert ".dat 60" in note(cells, "not named as an image")
    assert "Parabasal 4 of 787" in note(cells, "counts:")


def test_sipakmed_fields_with_contours(tmp_path):
    sipakmed_original(tmp_path, crops=False)
    folder = tmp_path / "im_Parabasal" / "im_Parabasal"
    touch(folder / "001_cyt01.dat", content=b"10,20\nnot a number\n")
    touch(folder / "002_cyt02.dat", content=b"")
    touch(folder / "009_cyt01.dat", content=b"1,2\n3,4\n")
    touch(folder / "010.bmp")
    cells = readers.load(tmp_path)
    assert len(cells) == 18
    assert cells.cells[0].box == (10, 20, 51, 81)
    assert cells.counts()["Parabasal"] == (2, 2)
    bad = note(cells, "unreadable contour")
    assert "2 cells" in bad
    assert "line 2" in bad
    assert "0 bytes" in bad
    assert "1 contour without its field" in note(cells, "without its field")
    assert "1 field without a readable contour" in note(cells, "without a readable contour")


@given(st.lists(st.tuples(*[st.floats(-999, 9999, allow_nan=False).map(lambda v: round(v, 4))] * 2), min_size=1))
def test_contours_round_trip_and_lie_in_their_box(points):
    text = "".join(f"{x},{y}\r\n" for x, y in points)
    contour = sipakmed.read_contour(text)
    assert contour.tolist() == [list(p) for p in points]
    left, top, right, bottom = sipakmed.contour_box(contour)
    assert all(left <= x < right and top <= y < bottom for x, y in points)


@given(st.text(alphabet="0123456789.,;eE+- \nnaif", max_size=60) | st.text(max_size=60))
def test_a_contour_is_finite_numbers_or_a_data_error(text):
    try:
        contour = sipakmed.read_contour(text)
    except DataError:
        return
    assert contour.ndim == 2
    assert contour.shape[1] == 2
    assert np.isfinite(contour).all()


# --- CRIC

CRIC_ROWS = (
    (1, "aaa.png", 10, "Negative for intraepithelial lesion", 100, 120),
    (1, "aaa.png", 11, "ASC-US", 5, 195),
    (2, "bbb.png", 12, "SCC", 299, 0),
)
CRIC_COLUMNS = ("image_id", "image_filename", "cell_id", "bethesda_system", "nucleus_x", "nucleus_y")


def cric_fields(root):
    write_image(root / "images" / "aaa.png")
    write_image(root / "images" / "bbb.png")


def nested(cric_rows):
    by_image = {}
    for image_id, name, cell, label, x, y in cric_rows:
        by_image.setdefault((image_id, name), []).append(
            {"cell_id": cell, "bethesda_system": label, "nucleus_x": x, "nucleus_y": y}
        )
    return [{"image_id": i, "image_name": name, "classifications": c} for (i, name), c in by_image.items()]


@pytest.mark.parametrize("shape", ["csv", "flat json", "nested json"])
def test_cric_original(tmp_path, shape):
    cric_fields(tmp_path)
    if shape == "csv":
        file = write_csv(tmp_path / "classifications.csv", CRIC_COLUMNS, *CRIC_ROWS)
    else:
        value = (
            nested(CRIC_ROWS)
            if shape == "nested json"
            else [dict(zip(CRIC_COLUMNS, r, strict=True)) for r in CRIC_ROWS]
        )
        file = tmp_path / "classifications.json"
        file.write_text(json.dumps(value), encoding="utf-8")
    for path in (tmp_path, file):
        cells = readers.load(path)
        assert "cric" in cells.notes[0]
        assert cells.system is BETHESDA
        assert [(c.label, c.group, c.box) for c in cells.cells] == [
            ("NILM", "images/aaa", (55, 75, 145, 165)),
            ("ASC-US", "images/aaa", (-40, 150, 50, 240)),
            ("SCC", "images/bbb", (254, -45, 344, 45)),
        ]
        assert all(decoding.load(c.path, c.box).shape == (90, 90, 3) for c in cells.cells)
    assert cric.read(tmp_path, crop=100).cells[0].box == (50, 70, 150, 170)


def test_cric_rows_that_cannot_be_used_are_counted(tmp_path):
    cric_fields(tmp_path)
    write_image(tmp_path / "images" / "bare.png")
    write_csv(
        tmp_path / "classifications.csv",
        CRIC_COLUMNS,
        *CRIC_ROWS,
        (3, "gone.png", 1, "LSIL", 5, 5),
        (1, "aaa.png", 2, "marvellous", 5, 5),
        (1, "aaa.png", 3, "LSIL", "left", 5),
        (1, "aaa.png", 4, "LSIL", 900, 5),
    )
    cells = readers.load(tmp_path)
    assert len(cells) == 3
    assert "gone.png" in note(cells, "absent")
    assert "marvellous" in note(cells, "Bethesda does not know")
    assert "1 cell " in note(cells, "not two numbers")
    assert "(900, 5)" in note(cells, "outside its image")
    assert "bare.png" in note(cells, "without annotations")
    assert not [n for n in cells.notes if "SWAPPED" in n]


def test_cric_with_x_and_y_exchanged_is_told(tmp_path):
    cric_fields(tmp_path)
    write_csv(
        tmp_path / "classifications.csv",
        CRIC_COLUMNS,
        *[(1, "aaa.png", k, "LSIL", k, 210 + 2 * k) for k in range(40)],
        (1, "aaa.png", 99, "LSIL", 150, 50),
    )
    cells = readers.load(tmp_path)
    assert len(cells) == 1
    assert "40 of these 40" in note(cells, "SWAPPED")


@pytest.mark.parametrize("text", ["", "{", '{"a": 1}', "[1, 2]", "[" * 100_000, '[{"classifications": 3}]'])
def test_cric_json_that_is_none_is_a_data_error(tmp_path, text):
    cric_fields(tmp_path)
    (tmp_path / "classifications.json").write_text(text, encoding="utf-8")
    with pytest.raises(DataError):
        readers.load(tmp_path)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["features", "properties", "geometry", "coordinates", "label", "classifications", "nucleus_x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=150)
@given(json_values)
def test_any_json_gives_nuclei_or_a_data_error(value):
    for parse in (lambda t: cric.parse_json(t), lambda t: cric.parse_geojson(t, "field")):
        try:
            nuclei = parse(json.dumps(value))
        except DataError:
            continue
        assert all(isinstance(n.label, str) and isinstance(n.x, float) for n in nuclei)


def test_cric_geojson_boxes_cut_by_the_edge_still_give_the_nucleus():
    def feature(left, top, right, bottom):
        ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
        return {"properties": {"label": "LSIL"}, "geometry": {"type": "Polygon", "coordinates": [ring]}}

    text = json.dumps({"features": [feature(100, 50, 164, 114), feature(0, 0, 40, 64), feature(1340, 970, 1376, 1020)]})
    assert [(n.x, n.y) for n in cric.parse_geojson(text, "f")] == [(132, 82), (8, 32), (1372, 1002)]


@pytest.mark.parametrize("ending", [".webp", ".tif", ".jpg"])
def test_cric_geojson_beside_fields(tmp_path, ending):
    write_image(tmp_path / f"field{ending}")
    touch(tmp_path / f"broken{ending}", tmp_path / "lonely.geojson")
    ring = [[100, 50], [164, 50], [164, 114], [100, 114]]
    geometry = {"type": "Polygon", "coordinates": [ring]}
    good = {"features": [{"properties": {"label": "ASC-US"}, "geometry": geometry}]}
    (tmp_path / "field.geojson").write_text(json.dumps(good), encoding="utf-8")
    (tmp_path / "broken.geojson").write_text("{", encoding="utf-8")
    cells = readers.load(tmp_path)
    assert [(c.label, c.group, c.box) for c in cells.cells] == [("ASC-US", "field", (87, 37, 177, 127))]
    assert decoding.load(cells.paths[0], cells.cells[0].box).shape == (90, 90, 3)
    assert "not JSON" in note(cells, "the annotations of broken")
    assert ".geojson 1" in note(cells, "not named as an image")


def test_our_cric_copy(shared):
    folder = shared / "data" / "cric_fields"
    cells = readers.load(folder)
    annotated = sum(len(json.loads(p.read_text(encoding="utf-8"))["features"]) for p in folder.glob("*.geojson"))
    assert len(cells) == annotated == 209
    assert len(set(cells.groups)) == 9
    assert {label: n for label, (n, _) in cells.counts().items() if n} == {"NILM": 169, "ASC-US": 9, "LSIL": 31}
    # A nucleus is darker than its surroundings: in the middle of its box, not where x and y are exchanged.
    darker = 0
    for cell in cells.cells[:20]:
        crop = decoding.load(cell.path, cell.box).mean(axis=2)
        darker += crop[35:55, 35:55].mean() < np.median(crop)
    assert darker >= 17


# --- Mendeley LBC


def test_lbc_original(tmp_path):
    names = {
        "Negative for Intraepithelial malignancy": ("NL_39_ (7).jpg", "NL_39_ (8).jpg", "NL_1_ (1).jpg"),
        "High squamous intra-epithelial lesion": ("HSIL_1 (1).jpg", "HSIL_1 (12).jpg"),
        "Low squamous intra-epithelial lesion": ("LSIL_1 (1).jpg",),
        "Squamous cell carcinoma": ("scc_1 (1).jpg", "SCC_3 (2).jpg"),
    }
    for folder, files in names.items():
        touch(*(tmp_path / "set" / folder / f for f in files))
    cells = readers.load(tmp_path)
    assert "lbc" in cells.notes[0]
    assert Counter(c.group for c in cells.cells) == {
        "NILM-39": 2, "NILM-1": 1, "HSIL-1": 2, "LSIL-1": 1, "SCC-1": 1, "SCC-3": 1,
    }  # fmt: skip
    assert not any(c.original for c in cells.cells)
    assert "NILM 3 of 613" in note(cells, "counts:")
    assert not [n for n in cells.notes if "must not be trained" in n]


def test_lbc_variants_share_original_and_group(tmp_path):
    touch(*(tmp_path / "HSIL" / f"HSIL_{n}_0_{seed}.jpg" for n in (11, 115, 1010, 101) for seed in (4446, 8415)))
    touch(tmp_path / "NL" / "NL_39_7.jpg")
    touch(tmp_path / "NL" / "unnamed.jpg")
    cells = readers.load(tmp_path)
    hsil = [c for c in cells.cells if c.label == "HSIL"]
    assert Counter(c.original for c in hsil) == {str(tmp_path / "HSIL" / f"HSIL_{n}"): 2 for n in (11, 115, 1010, 101)}
    assert Counter(c.group for c in hsil) == {"HSIL-1": 4, "HSIL-10": 4}
    assert "unnamed.jpg" in note(cells, "do not tell a slide")
    assert "8 of 9 files are variants of 4 fields" in note(cells, "must not be trained")


def test_our_lbc_copy(shared):
    cells = readers.load(shared / "data" / "lbc_fields")
    assert len(cells) == 2246
    assert len({c.original or c.path for c in cells.cells}) == 950
    assert len(set(cells.groups)) == 61
    groups = {}
    for c in cells.cells:
        groups.setdefault(c.original or c.path, set()).add(c.group)
    assert all(len(g) == 1 for g in groups.values())
    assert "1646 of 2246 files" in note(cells, "must not be trained")
    assert "NILM 600 of 613" in note(cells, "counts:")


# --- folders of one's own


def test_class_folders_with_odd_names(tmp_path):
    for label in ("normal cells", "krank"):
        touch(*(tmp_path / label / f"{name}.png" for name in ODD_NAMES))
    cells = readers.load(tmp_path, normal=["normal cells"])
    assert len(cells) == 12
    assert cells.system.classes == ("normal cells", "krank")
    assert cells.system.abnormal == {"krank"}
    assert not cells.grouped
    assert UNGROUPED in cells.notes
    assert len(set(cells.groups)) == 12
    assert all(os.path.isfile(path) for path in cells.paths)
    assert len(cells.fingerprint) == 64


def test_names_that_are_not_utf8(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    try:
        (folder / os.fsdecode(b"caf\xe9.png")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    touch(tmp_path / "b" / "x.png")
    cells = readers.load(tmp_path, normal=["a"])
    assert {c.group for c in cells.cells} == {r"a/caf\xe9.png", "b/x.png"}
    assert len(cells.fingerprint) == 64


def test_split_folders(tmp_path):
    for split in ("Train", "test", "valid"):
        touch(tmp_path / split / "normal" / "deep" / "1.png", tmp_path / split / "abnormal" / "2.png")
    touch(tmp_path / "stray.png", tmp_path / "Thumbs.db", tmp_path / ".DS_Store", tmp_path / "normal.csv")
    cells = readers.load(tmp_path)
    assert cells.system is BINARY
    assert Counter(c.split for c in cells.cells) == {"train": 2, "test": 2, "val": 2}
    assert "stray.png" in note(cells, "in no class folder")
    assert "3 files" in note(cells, "not named as an image")


def test_a_class_named_test_beside_others_is_a_class(tmp_path):
    touch(tmp_path / "test" / "1.png", tmp_path / "other" / "2.png")
    cells = readers.load(tmp_path)
    assert cells.present == ("other", "test")
    assert {c.split for c in cells.cells} == {""}
    assert "taken for classes" in note(cells, "beside other folders")


def test_folders_under_known_names_are_said(tmp_path):
    touch(tmp_path / "NL" / "1.png", tmp_path / "ASC_US" / "2.png", tmp_path / "HSIL" / "3.png")
    cells = readers.load(tmp_path)
    assert cells.system is BETHESDA
    assert cells.present == ("NILM", "ASC-US", "HSIL")
    assert "'NL' as NILM" in note(cells, "classes:")


def test_one_class_is_read_with_a_note(tmp_path):
    touch(tmp_path / "set" / "a" / "1.png", tmp_path / "set" / "b" / "1.png")
    assert "one level deeper" in note(readers.load(tmp_path), "one only")


def test_a_link_that_loops_and_a_folder_that_cannot_be_listed(tmp_path):
    touch(tmp_path / "a" / "1.png", tmp_path / "b" / "2.png")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    assert "leads back" in note(readers.load(tmp_path), "loop")


def test_groups_from_a_regular_expression(tmp_path):
    touch(*(tmp_path / k / f"S{s} ({n}).png" for k in "ab" for s in (1, 2) for n in (1, 2)))
    for pattern in (r"/(S\d+) ", r"(a|b)/(?P<group>S\d+)"):
        cells = readers.load(tmp_path, group_from=pattern)
        assert cells.grouped
        assert UNGROUPED not in cells.notes
        assert Counter(c.group for c in cells.cells) == {"S1": 4, "S2": 4}
    with pytest.raises(DataError) as caught:
        readers.load(tmp_path, group_from=r"a/(S\d)")
    assert "4 files of 8" in str(caught.value)
    assert "b/S1 (1).png" in str(caught.value)
    with pytest.raises(UsageError, match="not a regular expression"):
        readers.load(tmp_path, group_from="(")
    with pytest.raises(UsageError, match="no group"):
        readers.load(tmp_path, group_from="S1")
    with pytest.raises(UsageError, match="one place only"):
        readers.load(tmp_path, group_from="(S1)", groups_csv=tmp_path / "groups.csv")


def test_at_most_five_examples_are_named(tmp_path):
    touch(*(tmp_path / "a" / f"{n}.png" for n in range(9)))
    with pytest.raises(DataError) as caught:
        readers.load(tmp_path, group_from="(zz)")
    assert caught.value.received.count(".png") == 5
    assert "and 4 more" in caught.value.received


@given(st.text(max_size=20))
def test_any_pattern_groups_every_cell_or_is_refused(pattern):
    from pathlib import Path

    from cervicyte.data.cells import Cell

    cells = [Cell(path=f"/top/a/{n}.png", label="a", group="") for n in (1, 2)]
    try:
        grouped = grouping.by_pattern(cells, Path("/top"), pattern)
    except (UsageError, DataError):
        return
    assert all(c.group for c in grouped)


def test_groups_csv_in_the_folder_or_named(tmp_path):
    data = tmp_path / "data"
    touch(data / "a" / "x, y.png", data / "b" / "line\nbreak.png")
    lines = [("a/x, y.png", "P1"), ("./b/line\nbreak.png", "P2"), ("b/gone.png", "P9")]
    write_csv(data / "groups.csv", ("Path", "Group "), *lines)
    cells = readers.load(data)
    assert [c.group for c in cells.cells] == ["P1", "P2"]
    assert "b/gone.png" in note(cells, "name no cell")
    named = write_csv(
        tmp_path / "other.csv", ("path", "group"), (data / "a" / "x, y.png", "Q1"), ("b/line\nbreak.png", "Q2")
    )
    assert [c.group for c in readers.load(data, groups_csv=named).cells] == ["Q1", "Q2"]
    assert [c.group for c in readers.load(data, group_from="^(.)").cells] == ["a", "b"]


def test_groups_csv_that_does_not_fit(tmp_path):
    touch(tmp_path / "a" / "1.png", tmp_path / "b" / "2.png")
    write_csv(tmp_path / "groups.csv", ("path", "group"), ("a/1.png", "P1"))
    with pytest.raises(DataError, match="no group for 1 file of 2"):
        readers.load(tmp_path)
    write_csv(tmp_path / "groups.csv", ("path", "group"), ("a/1.png", "P1"), ("a/1.png", "P2"), ("b/2.png", "P1"))
    with pytest.raises(DataError, match="two groups"):
        readers.load(tmp_path)
    write_csv(tmp_path / "groups.csv", ("file", "group"), ("a/1.png", "P1"))
    with pytest.raises(DataError, match="no column 'path'"):
        readers.load(tmp_path)
    with pytest.raises(DataError, match="cannot read the table"):
        readers.load(tmp_path, groups_csv=tmp_path / "absent.csv")


def test_own_groups_for_a_public_set_and_normal_refused(tmp_path):
    herlev_original(tmp_path)
    cells = readers.load(tmp_path, group_from=r"/(\d+)-\d+-\d+\.")
    assert "reader: herlev" in cells.notes[0]
    assert {c.group for c in cells.cells} == {f"1491433{k}{j}" for k in range(7) for j in range(2)}
    with pytest.raises(UsageError, match="says itself"):
        readers.load(tmp_path, normal=["normal_columnar"])


def test_ten_thousand_files_are_listed_fast_because_none_is_opened(tmp_path):
    for label in ("a", "b"):
        (tmp_path / label).mkdir()
        for n in range(5000):
            os.close(os.open(tmp_path / label / f"{n}.png", os.O_CREAT))
    start = time.process_time()
    cells = readers.load(tmp_path, group_from=r"/(\d)")
    assert len(cells) == 10_000
    assert time.process_time() - start < 5


# --- tables


def table_files(root):
    touch(root / "img" / "1.png", root / "img" / "2 (x).png", root / "img" / "3.png")


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".parquet", ";csv"])
def test_a_table_of_cells(tmp_path, ending):
    import pandas as pd

    table_files(tmp_path)
    frame = pd.DataFrame(
        {
            "path": ["img/1.png", "img/2 (x).png", "img/1.png", str(tmp_path / "img" / "3.png")],
            "label": ["good", "bad", "bad", "bad"],
            "group": [1, 2, 1, 3],
            "split": ["train", "Test", "train", ""],
            "left": [0, 5, 64.0, None],
            "top": [0, 5, 0.4, None],
            "right": [64, 9, 128, None],
            "bottom": [64, 9, 64, None],
        }
    )
    file = tmp_path / f"cells{ending.replace(';', '.')}"
    if ending == ".parquet":
        frame.to_parquet(file)
    else:
        frame.to_csv(file, index=False, sep={".csv": ",", ".tsv": "\t", ";csv": ";"}[ending])
    cells = readers.load(file, normal=["good"])
    assert "table" in cells.notes[0]
    assert cells.system.classes == ("good", "bad")
    assert cells.grouped
    assert [c.group for c in cells.cells] == ["1", "2", "1", "3"]
    assert [c.split for c in cells.cells] == ["train", "test", "train", ""]
    assert [c.box for c in cells.cells] == [(0, 0, 64, 64), (5, 5, 9, 9), (64, 0, 128, 64), None]


def test_a_folder_with_images_at_its_root_is_read_by_its_table(tmp_path):
    touch(tmp_path / "1.png", tmp_path / "2.png")
    write_csv(tmp_path / "labels.csv", ("path", "label"), ("1.png", "normal"), ("2.png", "abnormal"))
    cells = readers.load(tmp_path)
    assert "labels.csv" in cells.notes[0]
    assert cells.system is BINARY
    assert not cells.grouped
    assert [c.path for c in readers.load(tmp_path / "labels.csv", "folder").cells] == cells.paths


def test_rows_that_cannot_be_used_are_counted_and_the_rest_goes_on(tmp_path):
    table_files(tmp_path)
    header = ("path", "label", "left", "top", "right", "bottom")
    file = write_csv(
        tmp_path / "cells.csv",
        header,
        ("img/1.png", "a", 0, 0, 9, 9),
        ("img/1.png", "a", 0, 0, 9, 9),
        ("img/3.png", "b", "", "", "", ""),
        ("img/3.png", "", 1, 1, 2, 2),
        ("", "a", 1, 1, 2, 2),
        ("img/1.png", "a", 5, 5, 5, 9),
        ("img/1.png", "a", "nan", 5, 9, 9),
        ("img/1.png", "a", "", 5, 9, 9),
        ("gone.png", "a", 0, 0, 9, 9),
        ("img\\2 (x).png", "b", 0, 0, 9, 9),
    )
    cells = readers.load(file)
    assert [(c.label, c.box) for c in cells.cells] == [("a", (0, 0, 9, 9)), ("b", None), ("b", (0, 0, 9, 9))]
    assert "1 row that repeat a cell (row 3)" in note(cells, "repeat")
    assert "(row 5)" in note(cells, "without a label")
    assert "(row 6)" in note(cells, "without a path")
    assert "(row 7, 8, 9)" in note(cells, "box is not")
    assert "gone.png" in note(cells, "is not there")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("path,class\nimg/1.png,a\n", "no column 'label'"),
        ("path,label,left\nimg/1.png,a,1\n", "no column 'top'"),
        ("path,label,label\nimg/1.png,a,b\n", "twice"),
        ("path,label\nimg/1.png,a,b\n", "more values"),
        ('path,label\n"img/1.png,a\n', "cannot be read"),
        ("path,label\n", "no row"),
        ("path,label\ngone.png,a\nlost.png,b\n", "no row"),
        ("path,label\nimg/1.png,a\nimg/1.png,b\n", "two labels"),
        ("path,label,group\nimg/1.png,a,1\nimg/3.png,b,\n", "no group"),
        ("path,label,split\nimg/1.png,a,maybe\n", "a split that is none"),
    ],
)
def test_tables_that_cannot_be_used(tmp_path, text, message):
    table_files(tmp_path)
    file = tmp_path / "t.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        readers.load(file)


def test_bytes_that_are_no_table(tmp_path):
    for name, content in (("t.csv", b"\xff\xfe\x00p"), ("t.parquet", b"PAR1 but no more"), ("e.parquet", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError):
            readers.load(tmp_path / name)


cell_text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\x00"), max_size=12)


@given(st.lists(st.tuples(cell_text, cell_text), max_size=8))
def test_csv_rows_round_trip(pairs):
    import io

    stream = io.StringIO(newline="")
    table = csv.writer(stream)
    table.writerow(("path", "label"))
    table.writerows(pairs)
    table = rows.parse_csv(stream.getvalue())
    filled = [pair for pair in pairs if pair[0].strip() or pair[1].strip()]
    assert [(row["path"], row["label"]) for _, row in table.rows] == filled


@given(st.text(max_size=80))
def test_any_text_is_rows_or_a_data_error(text):
    try:
        table = rows.parse_csv(text)
    except DataError:
        return
    assert all(tuple(row) == table.columns for _, row in table.rows)
