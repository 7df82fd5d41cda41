"""Outlines of QuPath and of other tools: the box about each outline, and nothing taken wrongly or in silence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st
from PIL import Image

from cervicyte.data import readers
from cervicyte.data.labels import BETHESDA
from cervicyte.data.readers import geojson
from cervicyte.errors import DataError

#: A diamond about (100, 80): its box is (70, 60, 130, 101), rounded outwards.
DIAMOND = [[100, 60], [130, 80.5], [100, 100.2], [70, 80.5], [100, 60]]


def write_image(path: Path, width: int = 300, height: int = 200) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height), (200, 180, 200)).save(path)
    return path


def feature(coordinates, label="HSIL", kind="Polygon", object_type="annotation"):
    properties = {"objectType": object_type, "classification": {"name": label, "color": [200, 0, 0]}}
    return {
        "type": "Feature",
        "id": "0a1b",
        "geometry": {"type": kind, "coordinates": coordinates},
        "properties": properties if label else {"objectType": object_type},
    }


def collection(rows):
    return {"type": "FeatureCollection", "features": rows}


def field(folder: Path, *features, name: str = "field", whole=collection):
    write_image(folder / f"{name}.png")
    (folder / f"{name}.geojson").write_text(json.dumps(whole(list(features))), encoding="utf-8")
    return folder


def note(cells, word):
    lines = [n for n in cells.notes if word in n]
    assert len(lines) == 1, cells.notes
    return lines[0]


@pytest.mark.parametrize("whole", [collection, list, lambda rows: rows[0]])
def test_the_box_about_an_outline_of_qupath(tmp_path, whole):
    cells = readers.load(field(tmp_path, feature([DIAMOND]), whole=whole))
    assert "reader: geojson" in cells.notes[0]
    assert cells.system is BETHESDA
    assert [(c.label, c.group, c.box) for c in cells.cells] == [("HSIL", "field", (70, 60, 130, 101))]
    assert "1 Polygon" in note(cells, "box about its outline")
    assert [c.box for c in readers.load(tmp_path / "field.geojson").cells] == [(70, 60, 130, 101)]


def test_polygons_of_several_parts_and_points(tmp_path):
    other = [[[10, 10], [20, 10], [20, 30]]]
    cells = readers.load(
        field(
            tmp_path,
            feature([[DIAMOND], other], kind="MultiPolygon"),
            feature([[150, 100], [200, 100]], "LSIL", "MultiPoint"),
            feature([40, 50], "NILM", "Point"),
        )
    )
    assert {(c.label, c.box) for c in cells.cells} == {
        ("HSIL", (10, 10, 130, 101)),
        ("LSIL", (105, 55, 195, 145)),
        ("LSIL", (155, 55, 245, 145)),
        ("NILM", (-5, 5, 85, 95)),
    }
    assert "3 points" in note(cells, "px about each")


@pytest.mark.parametrize(
    ("properties", "label"),
    [
        ({"classification": {"name": "HSIL"}}, "HSIL"),
        ({"classification": {"names": ["Tumor", "Positive"]}}, "Tumor: Positive"),
        ({"classification": "LSIL", "name": "cell 7"}, "LSIL"),
        ({"label": "SCC"}, "SCC"),
        ({"class": 3}, "3"),
        ({"classification": None}, ""),
        ({}, ""),
        (None, ""),
    ],
)
def test_where_the_class_stands(properties, label):
    row = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [DIAMOND]}, "properties": properties}
    assert [o.label for o in geojson.parse(json.dumps([row]))] == [label]


def test_what_is_no_cell_is_kept_out_and_counted(tmp_path):
    line = [[1, 1], [9, 9]]
    cells = readers.load(
        field(
            tmp_path,
            feature([DIAMOND]),
            feature([DIAMOND]),
            feature([DIAMOND], ""),
            feature(line, kind="LineString"),
            feature([], kind="Polygon"),
            feature([[[5, 5], [5, 9]]]),
            feature([[[250, 150], [290, 150], [290, 260]]]),
            feature([DIAMOND], object_type="tile"),
        )
    )
    assert len(cells) == 1
    assert "1 outline without a class" in note(cells, "without a class")
    assert "3 outlines" in note(cells, "no polygon or point")
    assert "1 outline" in note(cells, "that repeat")
    assert "(250, 150, 290, 260)" in note(cells, "beyond the image")
    assert "'tile'" in note(cells, "QuPath's kind")


def test_annotations_beside_detections_are_regions(tmp_path):
    region = [[[0, 0], [300, 0], [300, 200], [0, 200]]]
    cells = readers.load(field(tmp_path, feature(region, "LSIL"), feature([DIAMOND], object_type="detection")))
    assert [c.label for c in cells.cells] == ["HSIL"]
    assert "1 outline" in note(cells, "regions")


def test_outlines_of_images_of_another_size_are_refused(tmp_path):
    beyond = [feature([[[x, 150], [x + 40, 150], [x + 40, 260]]]) for x in (100, 200)]
    with pytest.raises(DataError, match="images of another size") as raised:
        readers.load(field(tmp_path, feature([DIAMOND]), *beyond))
    assert "2 outlines of 3" in raised.value.received


def test_an_outline_on_the_edge_is_inside(tmp_path):
    ring = [[[-0.5, 0], [300.4, 0], [300.4, 200.9], [-0.5, 200.9]]]
    assert len(readers.load(field(tmp_path, feature(ring)))) == 1


@pytest.mark.parametrize("place", ["export/field.geojson", "field.png.geojson", "annotations/field.png.geojson"])
def test_the_file_of_an_image_by_name(tmp_path, place):
    write_image(tmp_path / "images" / "field.png")
    file = tmp_path / place
    file.parent.mkdir(exist_ok=True)
    file.write_text(json.dumps([feature([DIAMOND])]), encoding="utf-8")
    assert [c.group for c in readers.load(tmp_path).cells] == ["images/field"]


def test_boxes_of_another_size_with_labels_are_not_taken_for_cric(tmp_path):
    ring = [[[10, 10], [150, 10], [150, 100], [10, 100], [10, 10]]]
    row = {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": ring}, "properties": {"label": "LSIL"}}
    cells = readers.load(field(tmp_path, row))
    assert "reader: geojson" in cells.notes[0]
    assert [c.box for c in cells.cells] == [(10, 10, 150, 100)]


def test_files_that_cannot_be_read_are_named_and_stop_nothing(tmp_path):
    field(tmp_path, feature([DIAMOND]))
    field(tmp_path, name="broken")
    (tmp_path / "broken.geojson").write_text("{", encoding="utf-8")
    write_image(tmp_path / "bare.png")
    cells = readers.load(tmp_path, normal=["HSIL"])
    assert cells.system.abnormal == frozenset()
    assert "not JSON" in note(cells, "annotations of broken")
    assert "bare.png" in note(cells, "without outlines")
    (tmp_path / "field.geojson").unlink()
    with pytest.raises(DataError, match="no cell with an outline"):
        readers.load(tmp_path)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["Polygon", "Point", "MultiPoint"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["features", "properties", "geometry", "coordinates", "type", "classification", "name"]),
            inner,
            max_size=5,
        )
    ),
    max_leaves=15,
)


@settings(max_examples=150)
@given(values)
def test_any_json_gives_outlines_or_a_data_error(value):
    try:
        outlines = geojson.parse(json.dumps(value))
    except DataError:
        return
    for outline in outlines:
        if outline.bounds is not None:
            left, top, right, bottom = outline.box
            assert left < right
            assert top < bottom


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 200)), min_size=3, max_size=8))
def test_the_box_holds_every_point(points):
    row = feature([[list(p) for p in points]])
    (outline,) = geojson.parse(json.dumps(row))
    if outline.bounds is not None:
        left, top, right, bottom = outline.box
        assert all(left <= x <= right and top <= y <= bottom for x, y in points)
