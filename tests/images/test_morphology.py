"""Morphology: right on cells whose shapes are known, finite on anything, blind to rotation and flips."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import arrays

from cervicyte.images import decoding
from cervicyte.images.morphology import MEASUREMENTS, NAMES, measure
from cervicyte.images.segmentation import content_box, segment
from support.paths import SHARED

HERLEV = SHARED / "data" / "herlev"

GLASS, CYTOPLASM, NUCLEUS = (235, 232, 236), (190, 205, 200), (90, 70, 120)


def disc(size: int, centre: tuple[float, float], radii: tuple[float, float], angle: float = 0.0) -> np.ndarray:
    """Mask of an ellipse: centre (x, y), half axes, angle in degrees."""
    y, x = np.mgrid[:size, :size].astype(float)
    x, y = x - centre[0], y - centre[1]
    turn = np.radians(angle)
    u, v = x * np.cos(turn) + y * np.sin(turn), -x * np.sin(turn) + y * np.cos(turn)
    return (u / radii[0]) ** 2 + (v / radii[1]) ** 2 <= 1


def cell(size: int = 160, nucleus: np.ndarray | None = None, body: np.ndarray | None = None) -> np.ndarray:
    """A drawn cell, blurred as by a lens, with noise that keeps its glass from being a flat margin."""
    import cv2

    body = disc(size, (size / 2, size / 2), (size * 0.42, size * 0.36)) if body is None else body
    nucleus = disc(size, (size / 2, size / 2), (size * 0.12, size * 0.12)) if nucleus is None else nucleus
    image = np.full((size, size, 3), GLASS, dtype=float)
    image[body] = CYTOPLASM
    image[nucleus] = NUCLEUS
    image = cv2.GaussianBlur(image, (0, 0), size / 160)
    noise = np.random.default_rng(0).normal(0, 1, size=(size, size, 1)) * np.where(body, 1, 4)[..., None]
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def values(image: np.ndarray) -> dict[str, float]:
    return dict(zip(NAMES, measure(image).tolist(), strict=True))


def overlap(found: np.ndarray, true: np.ndarray) -> float:
    """Intersection over union."""
    return float((found & true).sum() / (found | true).sum())


def test_the_table_is_sound() -> None:
    assert len(set(NAMES)) == len(NAMES) == len(MEASUREMENTS) >= 50
    assert all(row.name.isidentifier() and row.help for row in MEASUREMENTS)


def test_segments_a_drawn_cell() -> None:
    nucleus, body = disc(160, (70, 90), (22, 16), 30), disc(160, (80, 80), (68, 55))
    masks = segment(cell(nucleus=nucleus, body=body))
    assert masks.nucleus.shape == masks.cytoplasm.shape == (160, 160)
    assert masks.nucleus.dtype == masks.cytoplasm.dtype == bool
    assert overlap(masks.nucleus, nucleus) > 0.85
    assert overlap(masks.nucleus | masks.cytoplasm, body) > 0.9
    assert not (masks.nucleus & masks.cytoplasm).any()


def test_measures_a_drawn_cell() -> None:
    nucleus, body = disc(160, (100, 80), (24, 12), 20), disc(160, (80, 80), (60, 60))
    measured = values(cell(nucleus=nucleus, body=body))
    assert measured["nucleus_found"] == 1
    assert measured["nucleus_area"] == pytest.approx(nucleus.mean(), rel=0.15)
    assert measured["nc_ratio"] == pytest.approx(nucleus.sum() / body.sum(), rel=0.15)
    assert measured["background_area"] == pytest.approx(1 - body.mean(), abs=0.03)
    assert measured["nucleus_area"] + measured["cytoplasm_area"] + measured["background_area"] == pytest.approx(
        1, abs=1e-5
    )
    assert measured["nucleus_elongation"] == pytest.approx(0.5, abs=0.06)
    assert measured["nucleus_major_axis"] == pytest.approx(48 / 160, rel=0.1)
    assert measured["nucleus_offset"] == pytest.approx(20 / 120, abs=0.02)
    assert measured["cell_elongation"] > 0.95
    assert measured["cell_circularity"] > 0.85
    assert measured["nucleus_lightness"] < measured["cytoplasm_lightness"] < measured["glass_lightness"]
    assert measured["nucleus_density_green"] > measured["cytoplasm_density_green"] > 0


def test_a_dented_nucleus_is_less_solid_and_less_regular() -> None:
    smooth = disc(160, (80, 80), (30, 30))
    dented = smooth & ~disc(160, (110, 80), (16, 12))
    a, b = values(cell(nucleus=smooth)), values(cell(nucleus=dented))
    assert b["nucleus_solidity"] < a["nucleus_solidity"] - 0.03
    assert b["nucleus_irregularity"] > a["nucleus_irregularity"] + 0.02
    assert b["nucleus_circularity"] < a["nucleus_circularity"] - 0.05


def test_coarse_chromatin_has_spots_and_contrast() -> None:
    nucleus = disc(160, (80, 80), (36, 36))
    plain = cell(nucleus=nucleus)
    coarse = plain.copy()
    for x, y in ((65, 70), (90, 65), (80, 85), (68, 98), (97, 92)):
        coarse[disc(160, (x, y), (4, 4))] = (50, 35, 80)
    a, b = values(plain), values(coarse)
    assert a["dark_spots"] == 0
    assert b["dark_spots"] == 5
    assert b["dark_spot_area"] > 0.03
    assert b["chromatin_contrast"] > 2 * a["chromatin_contrast"]
    assert b["chromatin_entropy"] > a["chromatin_entropy"]


def test_flat_margins_do_not_matter() -> None:
    image = cell(160)
    padded = np.full((220, 220, 3), (130, 120, 160), dtype=np.uint8)
    padded[30:190, 30:190] = image
    left, top, right, bottom = content_box(padded)
    assert (left, top, right, bottom) == (31, 31, 189, 189)
    plain, framed = values(image), values(padded)
    for name in ("nucleus_area", "nc_ratio", "cell_major_axis", "nucleus_lightness", "background_area"):
        assert framed[name] == pytest.approx(plain[name], rel=0.06), name


def test_size_in_pixels_does_not_matter() -> None:
    small, large = values(cell(100)), values(cell(400))
    for name in ("nucleus_area", "nc_ratio", "nucleus_major_axis", "nucleus_offset", "nucleus_circularity"):
        assert small[name] == pytest.approx(large[name], rel=0.12, abs=0.01), name


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((1, 1, 3), np.uint8),
        np.full((3, 200, 3), 7, np.uint8),
        np.full((200, 3, 3), 255, np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.full((64, 64, 3), 255, np.uint8),
        np.repeat(np.arange(90, dtype=np.uint8)[:, None, None], 90, axis=1).repeat(3, axis=2),
        np.random.default_rng(1).integers(0, 256, (90, 70, 3), dtype=np.uint8),
        np.random.default_rng(2).integers(0, 256, (3, 200, 3), dtype=np.uint8),
        np.random.default_rng(3).integers(0, 256, (2, 2, 3), dtype=np.uint8),
    ],
    ids=["1x1", "3x200", "200x3", "black", "white", "ramp", "noise", "thin noise", "2x2"],
)
def test_odd_images_give_defined_values(image: np.ndarray) -> None:
    vector = measure(image)
    assert vector.shape == (len(NAMES),)
    assert vector.dtype == np.float32
    assert np.isfinite(vector).all()
    masks = segment(image)
    assert masks.nucleus.shape == image.shape[:2]


def test_without_a_nucleus_it_says_so() -> None:
    measured = values(np.full((80, 80, 3), 200, np.uint8))
    assert (
        measured["nucleus_found"]
        == measured["nucleus_area"]
        == measured["nc_ratio"]
        == measured["chromatin_contrast"]
        == 0
    )
    assert measured["nucleus_lightness"] == pytest.approx(measured["cytoplasm_lightness"])
    assert measured["contrast_cytoplasm"] == pytest.approx(0, abs=1e-4)


def test_grey_images_work() -> None:
    grey = cell().mean(axis=2).astype(np.uint8)[..., None].repeat(3, axis=2)
    measured = values(grey)
    assert measured["nucleus_found"] == 1
    assert measured["nucleus_saturation"] == pytest.approx(0, abs=1e-4)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(arrays(np.uint8, st.tuples(st.integers(1, 24), st.integers(1, 24), st.just(3))))
def test_any_array_gives_finite_values(image: np.ndarray) -> None:
    once, again = measure(image), measure(image)
    assert np.isfinite(once).all()
    np.testing.assert_array_equal(once, again)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(st.integers(0, 3), st.booleans(), st.integers(0, 2**16), st.floats(0.4, 1.0), st.floats(0, 180))
def test_rotation_and_flip_change_little(turns: int, flip: bool, seed: int, ratio: float, angle: float) -> None:
    random = np.random.default_rng(seed)
    x, y = random.uniform(65, 95, 2)
    nucleus = disc(160, (x, y), (24, 24 * ratio), angle)
    image = cell(nucleus=nucleus, body=disc(160, (80, 80), (66, 52), random.uniform(0, 180)))
    turned = np.rot90(image, turns)
    turned = np.ascontiguousarray(turned[:, ::-1] if flip else turned)
    np.testing.assert_allclose(measure(turned), measure(image), rtol=0.1, atol=0.05)


def test_real_cells_are_found_and_turn_little() -> None:
    if not HERLEV.is_dir():
        pytest.skip("shared/data/herlev is not here")
    paths = sorted(HERLEV.glob("*/*.jpg"))[::25]
    loaded = [decoding.load(path) for path in paths]
    straight = np.array([measure(image) for image in loaded])
    turned = np.array([measure(np.ascontiguousarray(np.rot90(image)[::-1])) for image in loaded])
    scale = straight.std(axis=0) + 1e-6
    assert straight[:, NAMES.index("nucleus_found")].mean() > 0.95
    assert np.mean(np.abs(turned - straight) / scale) < 0.05


def test_normal_and_abnormal_real_cells_differ_as_the_textbook_says() -> None:
    if not HERLEV.is_dir():
        pytest.skip("shared/data/herlev is not here")

    def median(label: str, name: str) -> float:
        measured = [values(decoding.load(path))[name] for path in sorted((HERLEV / label).glob("*.jpg"))[::6]]
        return float(np.median(measured))

    grades = ["normal_superficiel", "normal_intermediate", "light_dysplastic", "severe_dysplastic"]
    ratios = [median(label, "nc_ratio") for label in grades]
    assert ratios == sorted(ratios)


def test_it_is_fast_enough_for_thousands_of_cells() -> None:
    image = cell(200)
    measure(image)
    start = time.process_time()
    for _ in range(10):
        measure(image)
    # About 10 ms on one core of a laptop; the bound leaves room for slow, busy machines.
    assert (time.process_time() - start) / 10 < 0.1
