"""Versions are found under the names by which packages are installed."""

from __future__ import annotations

import pytest

from cervicyte.base import versions


@pytest.mark.parametrize(
    ("installed", "named"),
    [
        ({"opencv-python-headless": "5.0.0.93"}, "5.0.0.93"),
        ({"opencv-python": "4.14.0.88"}, "opencv-python 4.14.0.88"),
        (
            {"opencv-python-headless": "5.0.0.93", "opencv-python": "4.14.0.88"},
            "opencv-python-headless 5.0.0.93, opencv-python 4.14.0.88",
        ),
        ({}, None),
    ],
)
def test_opencv_is_named_under_any_of_its_names(monkeypatch, installed, named) -> None:
    monkeypatch.setattr(versions, "version_of", installed.get)
    assert versions.opencv_version() == named
