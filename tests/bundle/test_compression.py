"""A bundle in 8-bit integers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from cervicyte.bundle import folder as bundle
from cervicyte.bundle.compression import compress
from cervicyte.bundle.graph import network_graph
from cervicyte.data.labels import BINARY
from cervicyte.decision.calibration import DecisionLimits
from cervicyte.decision.linear import LinearHead
from cervicyte.decision.quality import fit_quality
from cervicyte.errors import DataError, UsageError
from cervicyte.images.descriptors import NAMES
from support.small_networks import SIDE, WIDTH


@pytest.fixture(scope="module")
def model(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> bundle.Bundle:
    random = np.random.default_rng(3)
    head = LinearHead(random.normal(size=(WIDTH, 2)), np.zeros(2), 1.0)
    learned, _ = fit_quality(random.normal(size=(40, len(NAMES))), np.arange(40))
    assert learned is not None
    manifest = bundle.Manifest(
        "tiny",
        BINARY,
        BINARY.classes,
        bundle.InputSpec("image", SIDE),
        DecisionLimits(
            threshold=0.5, sensitivity=0.95, normal_below=0.4, abnormal_from=0.6, confidence_from=0.0, max_risk=0.05
        ),
        "float32",
        quality=replace(learned, contrast_from=0.0, focus_from=-1e9, distance_to=1e9, far_from=1e9),
    )
    kept = {"digests": np.array(["a"]), "boxes": np.array(["None"]), "groups": np.array(["g"])}
    kept["signatures"] = np.zeros((1, 4), dtype=np.uint8)
    return bundle.save_bundle(tmp_path_factory.mktemp("b") / "tiny", manifest, network_graph(backbone, head, 1.0), kept)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(4)
    for i in range(90):
        ground = np.full((SIDE, SIDE, 3), random.integers(0, 256, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"{i}.png"), cv2.circle(ground, (SIDE // 2, SIDE // 2), i % 5, (90, 20, 80), -1))
    (folder / "broken.png").write_bytes(b"not an image")
    return folder


def test_the_small_bundle_says_nearly_the_same_and_what_it_changed(model, pictures, tmp_path) -> None:
    small, change = compress(model, [pictures], tmp_path / "small")
    again = bundle.Bundle.load(tmp_path / "small")
    assert again.manifest.precision == "int8"
    assert again.manifest.quality is not None
    assert again.manifest.quality == model.manifest.quality
    assert again.manifest.training["compressed"]["from"] == model.graph_sha256
    assert change.images == 90 - 64
    assert 0 < change.largest < 0.1
    assert change.same_class > 0.8
    assert again.extractor().precision == "int8"
    before, after = (b.predict(pictures, cache=False)["p_abnormal"] for b in (model, small))
    assert np.nanmax(np.abs(before - after)) < 0.1
    assert small.graph_sha256 != model.graph_sha256
    card = (small.folder / bundle.CARD).read_text(encoding="utf-8")
    assert "8-bit version, which was not judged itself" in card
    assert f"On {change.images} training images" in card
    assert f"{change.same_class:.1%} keep" in card
    assert "What 8 bits cost" not in card
    assert "| Precision | int8 |" in card


def test_what_cannot_be_compressed_is_refused(model, pictures, tmp_path) -> None:
    with pytest.raises(DataError, match="too few"):
        compress(model, [pictures / "1.png", pictures / "broken.png"], tmp_path / "x")
    small, _ = compress(model, [pictures], tmp_path / "small")
    with pytest.raises(UsageError, match="full precision"):
        compress(small, [pictures], tmp_path / "smaller")
