"""What the probe of artefacts takes for a smeared border, and what it does not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cervicyte.audit import artefacts
from cervicyte.data import readers
from cervicyte.images import decoding
from support.generated_cells import make_cell


def smears(images: list[np.ndarray], truth: list[bool]) -> tuple[float, bool]:
    """How well the probe tells the images that are meant by their stripes, and whether these are smears."""
    features = np.array([artefacts.measure(cv2.imencode(".png", image)[1].tobytes(), image) for image in images])
    meant = np.array(truth)
    labels = np.where(meant, "a", "b").astype(object)
    groups = np.array([str(k // 2) for k in range(len(images))], dtype=object)
    (probe,) = (p for p in artefacts.probe(features, labels, groups, [("a", meant)]) if p.family == artefacts.SMEARS)
    return probe.auroc, artefacts.smeared(features, meant)


def camera(seed: int, noise: float) -> np.ndarray:
    """A drawn cell as a camera sees it: the noise of neighbouring pixels is alike along rows."""
    grain = np.random.default_rng(seed).normal(0, noise, (256, 256, 1))
    image = cv2.resize(make_cell(seed), (256, 256)) + cv2.blur(grain, (9, 1))[..., None] * 3
    return np.clip(image, 0, 255).astype(np.uint8)


def smeared(image: np.ndarray, width: int = 12) -> np.ndarray:
    inner = image[width:-width, width:-width]
    return np.pad(inner, ((width, width), (width, width), (0, 0)), mode="edge")


TRUTH = [k % 4 < 2 for k in range(32)]


def test_stripes_that_are_everywhere_are_no_smeared_border():
    images = [camera(k, 12.0 if yes else 0.5) for k, yes in enumerate(TRUTH)]
    auroc, smeared_border = smears(images, TRUTH)
    assert auroc > 0.9, "the strength of the stripes tells the camera"
    assert not smeared_border


def test_smears_are_told_whatever_the_noise():
    images = [smeared(camera(k, 6.0)) if yes else camera(k, 6.0) for k, yes in enumerate(TRUTH)]
    auroc, smeared_border = smears(images, TRUTH)
    assert auroc > 0.9
    assert smeared_border


@pytest.mark.parametrize("name", ["cric_1280", "cric_fields"])
def test_real_fields_beside_generated_ones_have_no_smears(shared, name):
    def drawn(seed: int) -> np.ndarray:
        random = np.random.default_rng(seed)
        field = random.normal(215, 3, (600, 800, 3))
        for k in range(25):
            top, left = random.integers(0, 480), random.integers(0, 680)
            field[top : top + 120, left : left + 120] = make_cell(100 * seed + k)
        return np.clip(field, 0, 255).astype(np.uint8)

    paths = sorted(set(readers.load(shared / "data" / name).paths))[:9]
    images = [decoding.load(p) for p in paths] + [drawn(k) for k in range(9)]
    auroc, smeared_border = smears(images, [True] * len(paths) + [False] * 9)
    assert auroc > 0.9, "noise and texture tell them"
    assert not smeared_border


def test_the_augmented_lbc_classes_have_smears(shared):
    cells = readers.load(shared / "data" / "lbc_fields").cells
    plain = [c.path for c in cells if c.label == "NILM"][::25]
    others = [c.path for c in cells if c.original][::70]
    images = [decoding.load(p) for p in (*plain, *others)]
    auroc, smeared_border = smears(images, [False] * len(plain) + [True] * len(others))
    assert auroc > 0.8
    assert smeared_border
