"""Averaging over flips and turns inside the graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cervicyte.errors import UsageError
from cervicyte.networks.orientations import averaged, averaged_file
from cervicyte.networks.runtime import Engine
from support.small_networks import SIDE


def _turned(images: np.ndarray, count: int) -> list[np.ndarray]:
    flips = [images, images[:, :, ::-1], images[:, ::-1], images[:, ::-1, ::-1]]
    mirrored = images.transpose(0, 2, 1, 3)
    return flips if count == 4 else [*flips, mirrored, mirrored[:, :, ::-1], mirrored[:, ::-1], mirrored[:, ::-1, ::-1]]


def _back(maps: list[np.ndarray]) -> list[np.ndarray]:
    straight = []
    for i, one in enumerate(maps):
        flipped = [one, one[:, :, ::-1], one[:, ::-1], one[:, ::-1, ::-1]][i % 4]
        straight.append(flipped.transpose(0, 2, 1, 3) if i >= 4 else flipped)
    return straight


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("count", [4, 8])
def test_graph_equals_averaging_by_hand_and_maps_lie_where_the_image_has_them(
    backbone: Path, count: int, engine: str
) -> None:
    images = np.random.default_rng(1).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    outputs = ("features", "feature_map")
    plain = Engine(backbone, outputs, precision="float32", engine=engine)
    by_hand = [plain.run(np.ascontiguousarray(view)) for view in _turned(images, count)]
    model = Engine(averaged(backbone, count), outputs, precision="float32", engine=engine).run(images)
    np.testing.assert_allclose(model["features"], np.mean([r["features"] for r in by_hand], axis=0), atol=1e-5)
    maps = np.mean(_back([r["feature_map"] for r in by_hand]), axis=0)
    np.testing.assert_allclose(model["feature_map"], maps, atol=1e-5)
    np.testing.assert_allclose(model["feature_map"].mean(axis=(1, 2)), model["features"], atol=1e-5)


def test_features_of_eight_orientations_do_not_change_when_the_cell_is_turned(backbone: Path) -> None:
    images = np.random.default_rng(2).integers(0, 256, (2, SIDE, SIDE, 3), dtype=np.uint8)
    engine = Engine(averaged(backbone, 8), ("features",), precision="float32")
    once = Engine(backbone, ("features",), precision="float32")
    turned = np.ascontiguousarray(np.rot90(images, axes=(1, 2)))
    np.testing.assert_allclose(engine.run(images)["features"], engine.run(turned)["features"], atol=1e-5)
    assert np.abs(once.run(images)["features"] - once.run(turned)["features"]).max() > 1e-3


def test_file_is_made_once_and_other_counts_are_refused(backbone: Path) -> None:
    assert averaged_file(backbone, 1) == backbone
    made = averaged_file(backbone, 4)
    stamp = made.stat().st_mtime_ns
    assert averaged_file(backbone, 4).stat().st_mtime_ns == stamp
    with pytest.raises(UsageError, match="orientations"):
        averaged_file(backbone, 3)
