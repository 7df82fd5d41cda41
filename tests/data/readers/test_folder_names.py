"""Folders of a division and of masks are told by their names, in the many spellings that are about."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from cervicyte.data import readers
from cervicyte.data.readers import folder_names
from cervicyte.data.readers.folder_names import split_name
from cervicyte.errors import DataError


def touch(root: Path, *places: str) -> None:
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).write_bytes(b"not decoded by a reader")


def note(cells, word):
    lines = [n for n in cells.notes if word in n]
    assert len(lines) == 1, cells.notes
    return lines[0]


@pytest.mark.parametrize(
    ("name", "split"),
    [
        *((n, "train") for n in ("train", "Training", "TRAIN_SET", "trainset", "TrainingData", "images_train")),
        *((n, "test") for n in ("test", "Testing", "test-set", "testset", "TestData", "hold-out", "eval", "test 1")),
        *((n, "val") for n in ("val", "valid", "Validation_set", "dev", "val2017", "ValidationData")),
        *((n, "fold3") for n in ("fold3", "Fold_03", "fold-3", "cv fold 3")),
        *((n, "") for n in ("tested", "contest", "invalid", "NILM", "set1", "1", "data", "trainee", "folded", "")),
        ("train_val", "train"), ("train test", ""), ("normal test", ""),
    ],
)  # fmt: skip
def test_names_of_splits(name, split):
    assert split_name(name) == split


@given(st.text(max_size=20))
def test_any_name_is_a_split_or_none(name):
    assert split_name(name) in {"train", "test", "val", ""} or split_name(name).startswith("fold")


@pytest.mark.parametrize("tops", [("training_set", "test_set"), ("train_data", "validation_data"), ("fold1", "fold2")])
def test_a_division_above_the_classes_is_told_and_kept(tmp_path, tops):
    touch(tmp_path, *(f"{top}/{c}/{k}.png" for top in tops for c in ("reactive", "atypical") for k in range(2)))
    cells = readers.load(tmp_path)
    assert cells.present == ("atypical", "reactive")
    assert Counter(c.split for c in cells.cells) == dict.fromkeys(map(split_name, tops), 4)
    assert tops[0] in note(cells, "are no classes")
    assert "`train` test" in note(cells, "came divided")


def test_a_division_below_the_classes_is_told_and_kept(tmp_path):
    touch(tmp_path, *(f"{c}/{s}/1.png" for c in ("reactive", "atypical") for s in ("Train", "Test")))
    cells = readers.load(tmp_path)
    assert cells.present == ("atypical", "reactive")
    assert Counter(c.split for c in cells.cells) == {"train": 2, "test": 2}


@pytest.mark.parametrize(
    "tops",
    [
        ("seg_train/seg_train", "seg_test/seg_test"), ("cervix_train", "cervix_test"), ("train_augmented", "test"),
        ("train", "external_test"), ("train/images", "test/images"), ("train/data/crops", "test/data/crops"),
        ("images/my_train", "images/my_test"),
    ],
)  # fmt: skip
def test_a_division_with_other_words_or_folders_between_is_told(tmp_path, tops):
    touch(tmp_path, *(f"{top}/{c}/1.png" for top in tops for c in ("reactive", "atypical")))
    touch(tmp_path, *(["images/loose.png"] if tops[0].startswith("images") else []))
    cells = readers.load(tmp_path)
    assert cells.present == ("atypical", "reactive")
    assert Counter(c.split for c in cells.cells) == {"train": 2, "test": 2}
    assert "are no classes" in note(cells, "split: by the folders")


def test_classes_with_words_of_a_division_and_other_folders_inside_are_classes(tmp_path):
    touch(tmp_path, "pretest/a/1.png", "pretest/b/1.png", "posttest/a/1.png", "posttest/b/1.png")
    assert readers.load(tmp_path).present == ("posttest", "pretest")
    touch(tmp_path / "2", "eye test/P1/1.png", "eye training/P2/1.png")
    assert readers.load(tmp_path / "2").present == ("eye test", "eye training")


def test_a_division_beside_a_folder_of_something_else(tmp_path):
    touch(tmp_path, *(f"{s}/{c}/1.png" for s in ("training_set", "test_set") for c in ("cats", "dogs")))
    touch(tmp_path, "single_prediction/1.jpg")
    cells = readers.load(tmp_path)
    assert cells.present == ("cats", "dogs")
    assert "single_prediction" in note(cells, "in no class folder")


def test_valid_beside_invalid_are_classes(tmp_path):
    touch(tmp_path, "valid/1.png", "invalid/1.png")
    assert readers.load(tmp_path).present == ("invalid", "valid")


def test_classes_inside_one_folder_of_images(tmp_path):
    touch(tmp_path, "images/train/a/1.png", "images/train/b/1.png", "images/test/a/2.png", "images/test/b/2.png")
    cells = readers.load(tmp_path)
    assert cells.present == ("a", "b")
    assert {c.split for c in cells.cells} == {"train", "test"}
    assert "'images'" in note(cells, "no class by its name")


def test_lists_that_may_divide_the_set_are_told(tmp_path):
    touch(tmp_path, "a/1.png", "b/1.png", "train.txt", "test_set.csv", "readme.txt")
    line = note(readers.load(tmp_path), "not read")
    assert "train.txt" in line
    assert "test_set.csv" in line
    assert "readme" not in line


@pytest.mark.parametrize(
    "masks",
    ["masks", "Mask", "labels", "annotations", "GT", "groundtruth", "ground_truth", "train_masks", "Segmentations"],
)
@pytest.mark.parametrize("ending", [".png", ".jpg"])
def test_images_beside_masks_are_a_segmentation_set_and_no_classes(tmp_path, masks, ending):
    touch(tmp_path, *(f"images/{k}.jpg" for k in range(3)), *(f"{masks}/{k}{ending}" for k in range(3)))
    with pytest.raises(DataError, match="segmentation set") as raised:
        readers.load(tmp_path)
    assert "3 images and 3 masks" in raised.value.received


@pytest.mark.parametrize("place", ["{c}/masks/{k}.png", "{c}/{k}_mask.png", "{c}/{k}_mask_1.png", "{c}/mask_{k}.png"])
def test_masks_inside_classes_are_passed_over_and_counted(tmp_path, place):
    touch(tmp_path, *(f"{c}/{k}.png" for c in "ab" for k in range(3)))
    touch(tmp_path, *(place.format(c=c, k=k) for c in "ab" for k in range(3)))
    cells = readers.load(tmp_path)
    assert cells.counts() == {"a": (3, 3), "b": (3, 3)}
    assert "6 segmentation masks" in note(cells, "told by the names")


def test_masks_of_classes_in_a_tree_of_their_own(tmp_path):
    touch(tmp_path, *(f"{top}/{c}/1.png" for top in ("original", "GT") for c in ("a", "b")))
    cells = readers.load(tmp_path)
    assert cells.present == ("a", "b")
    assert len(cells) == 2


def test_a_class_whose_name_is_a_masks_word_is_a_class(tmp_path):
    touch(tmp_path, "target/1.png", "background/2.png", "a_mask.png")
    assert readers.load(tmp_path).present == ("background", "target")


@given(st.lists(st.tuples(st.sampled_from(["a", "masks", "images", "GT", "b"]), st.sampled_from(["1", "1_mask", "2"]))))
def test_masks_are_some_of_the_images_and_never_all(places):
    images = [Path("/root", folder, f"{name}.png") for folder, name in dict.fromkeys(places)]
    masks = folder_names.segmentation_masks(images, Path("/root"))
    assert masks <= set(images)
    assert not images or masks != set(images)


def test_folders_of_systems_are_no_classes_and_are_counted(tmp_path):
    places = ("a/1.png", "b/1.png", "@eaDir/a/1.png", "a/.ipynb_checkpoints/1.png", "__MACOSX/a/._1.png", "a/._1.png")
    touch(tmp_path, *places)
    cells = readers.load(tmp_path)
    assert cells.counts() == {"a": (1, 1), "b": (1, 1)}
    assert "2 images in hidden folders or folders that systems make (.ipynb_checkpoints 1, @eaDir 1)" in note(
        cells, "systems make"
    )
    assert "hidden .png 1" in note(cells, "not named as an image")


def test_a_folder_without_images_says_what_was_looked_for(tmp_path):
    touch(tmp_path, "a/1.gif", "a/2.svs", "@eaDir/3.png")
    with pytest.raises(DataError, match="no images in the folder") as raised:
        readers.load(tmp_path)
    assert ".gif 1, .svs 1" in raised.value.received
    assert "@eaDir 1" in raised.value.received
    assert ".jfif" in raised.value.todo


HERLEV_NAMES = tuple(f"{149143378 + k // 2}-{149143400 + k}-{k:03d}" for k in range(4))


@pytest.mark.parametrize(
    "folders",
    [
        ("nomal intermediate", "carcinoma", "light dysplastic"),
        ("Normal_Superficial", "Mild dysplasia", "CIS"),
        ("normal squamous", "Severe-Dysplasia", "Columnar"),
    ],
)
def test_herlev_under_other_folder_names_keeps_its_groups(tmp_path, folders):
    touch(tmp_path, *(f"{folder}/{name}.BMP" for folder in folders for name in HERLEV_NAMES))
    cells = readers.load(tmp_path)
    assert "reader: herlev" in cells.notes[0]
    assert cells.grouped
    assert {c.group for c in cells.cells} == {"149143378", "149143379"}
    assert folders[0] in note(cells, "under other names")


@pytest.mark.parametrize("folders", [("normal", "abnormal"), ("class 1", "class 2")])
def test_herlevs_file_names_in_any_folders_tell_the_groups(tmp_path, folders):
    touch(tmp_path, *(f"{folder}/{name}.png" for folder in folders for name in HERLEV_NAMES))
    touch(tmp_path, *(f"{folders[0]}/{name}-d.png" for name in HERLEV_NAMES))
    cells = readers.load(tmp_path)
    assert "reader: folder" in cells.notes[0]
    assert cells.grouped
    assert len(cells) == 8
    assert "2 acquisitions are the groups" in note(cells, "Herlev's <")
    assert "4 images" in note(cells, "Herlev's segmentations")
    touch(tmp_path, f"{folders[0]}/other.png")
    assert not readers.load(tmp_path).grouped
    (tmp_path / "cells.csv").write_text(f"path,label\n{folders[0]}/{HERLEV_NAMES[0]}.png,a\n", encoding="utf-8")
    assert readers.load(tmp_path / "cells.csv").cells[0].group == "149143378"


def test_one_folder_about_a_division_with_classes_is_no_class(tmp_path):
    touch(tmp_path, *(f"archive/{s}/{c}/1.png" for s in ("train", "test") for c in "ab"))
    cells = readers.load(tmp_path)
    assert cells.present == ("a", "b")
    assert {c.split for c in cells.cells} == {"train", "test"}


def test_a_division_inside_some_classes_only_is_kept(tmp_path):
    touch(tmp_path, *(f"{c}/{s}/1.png" for c in "ab" for s in ("train", "val")), "c/1.png")
    cells = readers.load(tmp_path)
    assert Counter((c.label, c.split) for c in cells.cells)["c", ""] == 1
    assert "unmarked 1" in note(cells, "came divided")


@pytest.mark.parametrize("folders", [("imagesTr", "imagesTs", "labelsTr"), ("images", "labels"), ("Images", "data")])
def test_folders_named_for_images_are_no_classes(tmp_path, folders):
    touch(tmp_path, *(f"{folder}/{k}.png" for folder in folders for k in range(2)), "instances.json")
    with pytest.raises(DataError, match=r"no class") as raised:
        readers.load(tmp_path)
    assert "json" in raised.value.received or "mask" in raised.value.received
