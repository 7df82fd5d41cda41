"""The unlabelled pool: nuclei of whole fields, boxes about them, and the file they are kept in."""

from __future__ import annotations

from collections import Counter

import cv2
import numpy as np
import pytest
from hypothesis import given, settings as profile, strategies as st

from cervicyte.data.cells import CellTable
from cervicyte.errors import DataError
from cervicyte.fields import crops as pool
from cervicyte.fields.crops import FRAMING, LEAST_SIDE, WIDE, WIDE_SIDES, cut, frame
from cervicyte.fields.nuclei import Nucleus, find_nuclei, smeared
from cervicyte.images import decoding
from support.generated_cells import save


def make_field(seed: int, side: int = 320, cells: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """A field of cells x cells wide cells on glass, and the nuclei: float (n, 3) of x, y, diameter."""
    random = np.random.default_rng(seed)
    grain = cv2.GaussianBlur(random.normal(size=(side, side)), (0, 0), 2)[..., None] * 12
    field = np.zeros((side, side, 3)) + np.array([222, 214, 226]) + grain
    step = side // cells
    nuclei = []
    for row in range(cells):
        for column in range(cells):
            x, y = (int((k + 0.5) * step + random.uniform(-6, 6)) for k in (column, row))
            size = float(random.uniform(4.5, 12))
            angle = random.uniform(0, 180)
            stain = random.choice([[20, 75, 40], [80, 40, 15]])  # absorbed: eosin, light green
            for axes, depth in (((step * 0.42, step * 0.33), stain), ((size * 1.15, size / 1.15), [110, 110, 40])):
                mask = np.zeros((side, side), np.float32)
                cv2.ellipse(mask, (x, y), tuple(round(a) for a in axes), angle, 0, 360, 1, -1)
                field -= cv2.GaussianBlur(mask, (0, 0), 1)[..., None] * np.array(depth)
            nuclei.append((x, y, 2 * size))
    return np.clip(field, 0, 255).astype(np.uint8), np.array(nuclei)


def smear(field: np.ndarray, wide: int, angle: float) -> np.ndarray:
    """A field shifted and turned, with what is empty filled by its last pixels."""
    side = len(field)
    turn = cv2.getRotationMatrix2D((side / 2, side / 2), angle, 1)
    turn[0, 2] += wide
    return cv2.warpAffine(field, turn, (side, side), borderMode=cv2.BORDER_REPLICATE)


@pytest.fixture
def fields(tmp_path):
    """A folder of four fields, two of them copies of one, a blank one and a file that is no image."""
    folder = tmp_path / "fields"
    for k in range(2):
        save(make_field(k)[0], folder / "a" / f"plain {k}.png")
    original = make_field(5)[0]
    save(smear(original, 70, 0), folder / "b" / "X_7_0_1111.png")
    save(smear(original, 8, 0), folder / "b" / "X_7_0_2222.png")
    save(np.full((200, 200, 3), 220, np.uint8), folder / "blank.png")
    (folder / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    return folder


def per_field(crops: CellTable) -> list[int]:
    """Crops of each field."""
    return list(Counter(crops.groups).values())


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("seed", range(4))
def test_nuclei_are_found_in_cells_of_both_stains(seed) -> None:
    field, wanted = make_field(seed)
    found = np.array([(n.x, n.y, n.diameter) for n in find_nuclei(field)])
    distance = np.hypot(*(wanted[:, None, :2] - found[None, :, :2]).transpose(2, 0, 1))
    assert (distance.min(axis=1) < 3).mean() >= 8 / 9, "a nucleus was missed"
    assert (distance.min(axis=0) < 3).mean() >= 0.8, "what is found is no nucleus"
    near = distance.argmin(axis=1)[distance.min(axis=1) < 3]
    sizes = found[near, 2] / wanted[distance.min(axis=1) < 3, 2]
    assert 0.75 < np.median(sizes) < 1.35


@pytest.mark.parametrize(
    "field",
    [
        np.full((64, 64, 3), 255, np.uint8),
        np.zeros((64, 64, 3), np.uint8),
        np.full((1, 1, 3), 90, np.uint8),
        np.full((3, 200, 3), 90, np.uint8),
        np.tile(np.arange(256, dtype=np.uint8)[None, :, None], (256, 1, 3)),
    ],
    ids=["white", "black", "one pixel", "strip", "ramp"],
)
def test_fields_without_nuclei_give_none(field) -> None:
    assert find_nuclei(field) == []
    assert smeared(field).shape == field.shape[:2]


@profile(deadline=None, max_examples=25)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(0, 2**32 - 1))
def test_noise_of_any_size_gives_nuclei_inside_and_no_error(height, width, seed) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    for nucleus in find_nuclei(noise):
        assert 0 < nucleus.x < width
        assert 0 < nucleus.y < height
    assert smeared(noise).dtype == bool


@pytest.mark.parametrize(("wide", "angle"), [(50, 0), (45, 12)])
def test_smeared_borders_are_seen_and_whole_fields_are_not(wide, angle) -> None:
    field = make_field(3)[0]
    # The smear starts inside cells, where there is something to repeat.
    turned = smear(field[30:, 40:][:280, :280], wide, angle)
    assert smeared(turned)[:, :30].mean() > 0.3
    assert smeared(field).mean() < 0.1


@given(st.floats(0, 1000), st.floats(0, 1000), st.floats(8, 60), st.integers(0, 2**32 - 1))
def test_a_frame_lies_about_its_nucleus(x, y, diameter, seed) -> None:
    left, top, right, bottom = frame(Nucleus(x, y, diameter), np.random.default_rng(seed))
    assert max(right - left, bottom - top) >= min(max(LEAST_SIDE, FRAMING[0][1] * diameter - 1), WIDE_SIDES[0])
    assert left < x + 0.5 < right
    assert top < y + 0.5 < bottom
    assert abs((left + right) / 2 - x - 0.5) <= 1
    assert abs((top + bottom) / 2 - y - 0.5) <= 1


def test_frames_are_as_wide_as_cells_or_wider_and_not_all_square() -> None:
    random = np.random.default_rng(0)
    boxes = np.array([frame(Nucleus(300, 300, 16.0), random) for _ in range(2000)])
    sides = boxes[:, 2:] - boxes[:, :2]
    longer = sides.max(axis=1)
    assert 0.9 * WIDE < (longer >= WIDE_SIDES[0]).mean() < 1.1 * WIDE + 0.1  # a few of the tight ones are as wide
    assert np.median(longer[longer < WIDE_SIDES[0]]) < 2.6 * 16
    assert 0.35 < (sides[:, 0] == sides[:, 1]).mean() < 0.5
    assert np.abs(np.log(sides[:, 0] / sides[:, 1])).max() > 0.8


def test_a_pool_has_each_field_once_and_tells_what_it_left_out(fields) -> None:
    made = cut([fields])
    assert len(per_field(made)) == 3, "three distinct fields have cells"
    assert len(made) >= 12
    for cell in made.cells:
        left, top, right, bottom = cell.box
        assert 0 <= left < right <= 320
        assert 0 <= top < bottom <= 320
    assert set(made.labels) == {"unlabelled"}
    said = "\n".join(made.notes)
    assert "broken.jpg" in said
    assert "1 of them gave no crop" in said or "2 of them gave no crop" in said


def test_of_copies_the_least_smeared_is_used(fields) -> None:
    paths = set(cut([fields]).paths)
    assert str(fields / "b" / "X_7_0_2222.png") in paths
    assert str(fields / "b" / "X_7_0_1111.png") not in paths


def test_the_same_fields_give_the_same_pool_wherever_they_lie(fields, tmp_path, monkeypatch) -> None:
    first = cut([fields])
    content = first.fingerprint  # while the files are there
    fields.rename(tmp_path / "moved")
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(tmp_path / "another cache"))
    again = cut([tmp_path / "moved"])
    assert again.fingerprint == content
    assert [c.box for c in again.cells] == [c.box for c in first.cells]
    assert [c.box for c in cut([tmp_path / "moved"], seed=1).cells] != [c.box for c in first.cells]


def test_a_second_call_reads_the_file_and_a_damaged_one_is_made_again(fields, tmp_path, monkeypatch) -> None:
    first = cut([fields])
    monkeypatch.setattr(pool.nuclei, "find_nuclei", lambda _: pytest.fail("searched again"))
    assert cut([fields]) == first
    monkeypatch.undo()
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(tmp_path / "cache"))
    (kept,) = (tmp_path / "cache").rglob("pool/*.json")
    kept.write_bytes(kept.read_bytes()[:100])
    assert cut([fields]) == first


def test_fewer_crops_are_spread_over_the_fields(fields) -> None:
    made = cut([fields], most=7)
    assert len(made) == 7
    counts = per_field(made)
    assert max(counts) - min(counts) <= 1


def test_folders_without_a_nucleus_are_an_error_that_says_what_was_there(tmp_path) -> None:
    save(np.full((200, 200, 3), 220, np.uint8), tmp_path / "blank.png")
    with pytest.raises(DataError, match="no nucleus"):
        cut([tmp_path / "blank.png", tmp_path / "missing.png"])


def test_real_fields(shared, tmp_path) -> None:
    files = sorted((shared / "data" / "lbc_fields" / "NL").glob("*.jpg"))[:2]
    files += sorted((shared / "data" / "cric_fields").glob("*.webp"))[:1]
    made = cut(files)
    assert len(per_field(made)) == 3
    assert len(made) > 30
    pixels = np.stack([decoding.resize(decoding.load(c.path, c.box), 112) for c in made.cells])
    # The middle of a crop is darker than its rim: that is what "about a nucleus" means.
    inner = pixels[:, 50:62, 50:62, :2].mean((1, 2)).max(axis=1)
    outer = np.concatenate([pixels[:, :8].mean((1, 2)), pixels[:, -8:].mean((1, 2))], axis=1)
    outer = outer.reshape(len(made), 2, 3)[..., :2].mean(axis=1).max(axis=1)
    assert (inner < outer).mean() > 0.85
