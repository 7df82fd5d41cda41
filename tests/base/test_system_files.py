"""What systems leave in folders is told from what people put there."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from cervicyte.base.system_files import is_system_file, is_system_folder, own_entries


@pytest.mark.parametrize(
    "name",
    [
        *("__MACOSX", ".AppleDouble", ".Trashes", ".Trash-1000", ".Spotlight-V100", "Temporary Items"),
        *("$RECYCLE.BIN", "System Volume Information", "RECYCLER", "found.000", "lost+found", ".thumbnails"),
        *("@eaDir", "#recycle", "#snapshot", "@Recycle", ".@__thumb", "~snapshot", ".ipynb_checkpoints", "__pycache__"),
        *(".cache", ".SynologyWorkingDirectory"),
    ],
)
def test_folders_that_systems_make(name):
    assert is_system_folder(name)
    assert is_system_folder(name.upper())
    assert not is_system_file("cell.png")


@pytest.mark.parametrize(
    "name", ["reactive", "ASC-US", "trash", "recycle", "snapshot", "thumbnails", "found", "hidden"]
)
def test_folders_that_people_make(name):
    assert not is_system_folder(name)


@pytest.mark.parametrize(
    "name",
    [
        *(".DS_Store", "Thumbs.db", "desktop.ini", "ehthumbs.db", "Icon\r", "._cell.png", "~$report.docx"),
        *(
            ".~lock.a.csv#",
            "manifest.json:Zone.Identifier",
            "model.onnx\uf03aZone.Identifier",
            ".gitattributes",
            ".dropbox",
        ),
    ],
)
def test_files_that_systems_make(name):
    assert is_system_file(name)


@pytest.mark.parametrize("name", ["cell.png", "_cell.png", ".hidden", "thumbs.png", "manifest.json", "._", "~cell.png"])
def test_files_that_people_make(name):
    assert not is_system_file(name)


@given(st.text(max_size=30))
def test_any_name_is_judged_alike_in_any_case(name):
    # Case is that of ASCII letters: no system uses others in these names.
    swapped = "".join(ch.swapcase() if ch.isascii() else ch for ch in name)
    assert is_system_file(name) == is_system_file(swapped)
    assert is_system_folder(name) == is_system_folder(swapped)


def test_a_file_with_the_name_of_a_systems_folder_is_somebodys(tmp_path):
    (tmp_path / "@eaDir").mkdir()
    (tmp_path / "#recycle").write_bytes(b"")
    (tmp_path / ".DS_Store").write_bytes(b"")
    (tmp_path / "Thumbs.db").mkdir()
    assert own_entries(tmp_path) == {"#recycle", "Thumbs.db"}
