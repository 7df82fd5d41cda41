"""Filters: chains are read, refused and stored in one way; defaults are what they always were; slow ones are kept."""

from __future__ import annotations

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cervicyte.errors import UsageError
from cervicyte.images import filter_cache
from cervicyte.images.filter_cache import FilteredImages
from cervicyte.images.filters import FILTERS, apply_chain, parse_chain, parse_step, stored_chain
from support.generated_cells import make_cell

NAMES = [row.name for row in FILTERS]
ODD_SHAPES = [(1, 1), (1, 9), (2, 2), (3, 200), (40, 31)]


@pytest.fixture(scope="module")
def cell() -> np.ndarray:
    return make_cell(3, 60)


def spread(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation in CIE LAB."""
    lab = cv2.cvtColor(image.astype(np.float32) / 255, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    return lab.mean(axis=0), lab.std(axis=0)


# --- reading chains --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "chain"),
    [
        ("", ()),
        (" , ,", ()),
        ("normalise,clahe,median,nlm", ("normalise", "clahe:tile=32", "median", "nlm:bgr=1")),
        ("clahe:clip=3:tiles=4", ("clahe:clip=3:tiles=4:tile=32",)),
        ("clahe:tile=0:tiles=4:clip=3", ("clahe:clip=3:tiles=4:tile=0",)),
        ("clahe:clip=2.0:tiles=8", ("clahe:tile=32",)),
        (" CLAHE : Clip = 2.5 ", ("clahe:clip=2.5:tile=32",)),
        ("nlm:hColor=7,nlm:bgr=0", ("nlm:hcolor=7:bgr=1", "nlm:bgr=0")),
        ("nlm:h=1e1:search=15", ("nlm:search=15:bgr=1",)),
        ("reinhard:mean_b=-5.5", ("reinhard:mean_b=-5.5",)),
        ("normalise:low=-0", ("normalise:low=0",)),
    ],
)
def test_a_chain_is_read_into_its_canonical_texts(text: str, chain: tuple[str, ...]) -> None:
    assert parse_chain(text) == chain


@pytest.mark.parametrize(
    ("text", "what", "todo"),
    [
        ("clahee", "unknown filter", "did you mean 'clahe'"),
        ("normalize", "unknown filter", "did you mean 'normalise'"),
        ("sharpen", "unknown filter", "normalise, clahe, median, nlm, reinhard"),
        ("clahe:clp=3", "unknown parameter of 'clahe'", "did you mean 'clip'"),
        ("median:h=3", "unknown parameter of 'median'", "there are: size"),
        ("clahe:clip=three", "no number", "clahe:clip=2:tiles=8"),
        ("clahe:clip=", "no NAME=NUMBER", "clahe:clip=2:tiles=8"),
        ("clahe:=3", "no NAME=NUMBER", "clahe:clip=2:tiles=8"),
        ("clahe:", "no NAME=NUMBER", "clahe:clip=2:tiles=8"),
        ("clahe::", "no NAME=NUMBER", "clahe:clip=2:tiles=8"),
        ("clahe:3", "no NAME=NUMBER", "clahe:clip=2:tiles=8"),
        ("clahe:clip=3=4", "no number", "clahe:clip=2"),
        ("clahe:clip=3:clip=4", "twice", "keep one"),
        ("clahe:clip=0", "must be a number from 0.1 to 100", "default is 2"),
        ("clahe:clip=nan", "must be a number", "default is 2"),
        ("clahe:clip=inf", "must be a number", "default is 2"),
        ("clahe:tiles=2.5", "must be a whole number from 1 to 64", "default is 8"),
        ("median:size=4", "must be an odd whole number from 3 to 31", "default is 3"),
        ("nlm:template=6", "must be an odd whole number", "default is 7"),
        ("nlm:search=22", "must be an odd whole number", "default is 21"),
        ("nlm:template=23", "needs template smaller than search", "nlm:h=10"),
        ("normalise:low=99:high=1", "needs low smaller than high", "normalise:low=1"),
        ("normalise:low=50:high=50", "needs low smaller than high", "normalise:low=1"),
        ("h=10:nlm", "a filter's name comes before its parameters", "NAME:PARAMETER=NUMBER"),
        ("nlm:h=10,hcolor=3", "a filter's name comes before its parameters", "comma"),
        (":clip=3", "unknown filter", "there are"),
    ],
)
def test_what_cannot_be_used_is_a_clear_error(text: str, what: str, todo: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_chain(f"normalise,{text}")
    assert what in caught.value.what
    assert caught.value.received
    assert todo in (caught.value.todo or "")


@st.composite
def chains(draw: st.DrawFn) -> str:
    """Chains of known filters with parameters inside their bounds, in any order."""
    parts = []
    for row in draw(st.lists(st.sampled_from(FILTERS), max_size=4)):
        text = row.name
        for p in draw(st.permutations(row.parameters)):
            if p.name in row.ascending or not draw(st.booleans()):
                continue
            if p.whole or p.odd:
                value: float = draw(st.integers(int(p.low), int(p.high)).filter(lambda v, p=p: not p.odd or v % 2))
            else:
                value = draw(st.floats(p.low, p.high))
            text += f":{p.name}={value}"
        parts.append(text)
    return ",".join(parts)


@given(chains())
@settings(max_examples=60, deadline=None)
def test_reading_a_canonical_chain_changes_nothing(text: str) -> None:
    chain = parse_chain(text)
    assert parse_chain(",".join(chain)) == chain
    assert stored_chain(chain) == chain
    for one in chain:
        assert parse_step(one).values == parse_step(parse_step(one).text).values


@given(st.text(alphabet="nlmclahe:=,.0123456789 -_\n", max_size=30))
@settings(max_examples=150, deadline=None)
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        chain = parse_chain(text)
    except UsageError:
        return
    assert parse_chain(",".join(chain)) == chain


@pytest.mark.parametrize("row", FILTERS, ids=NAMES)
def test_each_row_is_whole(row) -> None:
    later = "".join(f":{p.name}={p.default}" for p in row.parameters if p.absent is not None)
    assert parse_chain(row.name) == (f"{row.name}{later}",)
    assert stored_chain([row.name]) == (row.name,)
    assert row.help
    for p in row.parameters:
        assert p.help
        assert p.low <= p.default <= p.high
    assert set(row.ascending) <= {p.name for p in row.parameters}


# --- what filters do -------------------------------------------------------------------------------------


def test_defaults_give_what_bundles_were_made_with(cell) -> None:
    low, high = np.percentile(cell, (1, 99), axis=(0, 1))
    stretched = np.clip((cell - low) * (255.0 / np.maximum(high - low, 1.0)), 0, 255).astype(np.uint8)
    lab = cv2.cvtColor(cell, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(np.ascontiguousarray(lab[..., 0]))
    expected = {
        "normalise": stretched,
        "clahe": cv2.cvtColor(lab, cv2.COLOR_LAB2RGB),
        "median": cv2.medianBlur(cell, 3),
        "nlm": cv2.fastNlMeansDenoisingColored(cell, None, 10, 10, 7, 21),
    }
    for name, image in expected.items():
        np.testing.assert_array_equal(apply_chain(cell, (name,)), image)


def test_new_chains_hand_colours_over_in_the_order_of_the_library(cell) -> None:
    expected = cv2.fastNlMeansDenoisingColored(cell[..., ::-1].copy(), None, 10, 10, 7, 21)[..., ::-1]
    np.testing.assert_array_equal(apply_chain(cell, parse_chain("nlm")), expected)
    assert (apply_chain(cell, stored_chain(["nlm"])) != expected).any()


@pytest.mark.parametrize(
    ("shape", "grid"), [((90, 90), (2, 2)), ((20, 20), (1, 1)), ((40, 200), (6, 1)), ((300,) * 2, (8, 8))]
)
def test_new_chains_scale_the_tiles_of_clahe_with_the_image(shape, grid) -> None:
    image = np.random.default_rng(0).integers(60, 160, (*shape, 3), dtype=np.uint8)
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    lab[..., 0] = cv2.createCLAHE(3, grid).apply(np.ascontiguousarray(lab[..., 0]))
    np.testing.assert_array_equal(apply_chain(image, parse_chain("clahe:clip=3")), cv2.cvtColor(lab, cv2.COLOR_LAB2RGB))


def test_the_limit_of_contrast_matters_on_crops_of_single_cells() -> None:
    crop, plain = make_cell(3, 90), np.full((90, 90, 3), 128, np.uint8)
    limits = (0.5, 1, 2, 3.5)
    images = [apply_chain(crop, parse_chain(f"clahe:clip={limit}")) for limit in limits]
    assert all((a != b).any() for a, b in itertools.pairwise(images))
    old = [apply_chain(crop, stored_chain([f"clahe:clip={limit}"])) for limit in (0.5, 2)]
    np.testing.assert_array_equal(*old)  # what was the matter, and stays so for models that were trained with it
    assert abs(int(apply_chain(plain, parse_chain("clahe")).max()) - 128) < 10
    assert apply_chain(plain, ("clahe",)).max() > 200


def test_a_parameter_without_effect_is_remarked_where_it_has_none() -> None:
    crop, shape = make_cell(3, 90), (90, 90, 3)
    assert "clip=2 has no effect on tiles of 12 x 12 px" in parse_step("clahe").remark(shape)
    assert "tile=32" in parse_step("clahe").remark(shape)
    assert parse_step("clahe").remark((512, 512, 3)) == ""
    assert "tiles=8 has no effect" in parse_step("clahe:tile=32").remark(shape)
    assert parse_step("clahe:tiles=2:tile=32").remark(shape) == ""
    assert parse_step("nlm").remark(shape) == ""
    np.testing.assert_array_equal(apply_chain(crop, ("clahe:tile=32",)), apply_chain(crop, ("clahe:tiles=30:tile=32",)))


@pytest.mark.parametrize("shape", ODD_SHAPES)
@pytest.mark.parametrize("name", NAMES)
def test_images_of_any_size_and_of_one_colour_come_through(name: str, shape: tuple[int, int]) -> None:
    for image in (
        np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8),
        np.full((*shape, 3), 90, np.uint8),
    ):
        before = image.copy()
        result = apply_chain(image, (name,))
        assert (result.shape, result.dtype) == (image.shape, np.uint8)
        np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize(
    "text",
    [
        "normalise:low=10",
        "normalise:high=80",
        "clahe:clip=20",
        "clahe:tiles=2",
        "median:size=7",
        "nlm:h=3",
        "nlm:hcolor=30",
        "nlm:search=9",
        "nlm:template=3",
        "nlm:bgr=1",
        "clahe:tile=25",
        "reinhard:mean_l=40",
        "reinhard:sd_a=3",
    ],
)
def test_each_parameter_changes_the_image(cell, text: str) -> None:
    assert (apply_chain(cell, (text,)) != apply_chain(cell, (text.split(":")[0],))).any()


def test_a_chain_is_applied_from_left_to_right(cell) -> None:
    direct = apply_chain(cell, ("normalise", "median:size=5"))
    np.testing.assert_array_equal(direct, cv2.medianBlur(apply_chain(cell, ("normalise",)), 5))
    assert (direct != apply_chain(cell, ("median:size=5", "normalise"))).any()
    assert apply_chain(cell, ()) is cell


@pytest.mark.parametrize("tint", [(1.0, 1.0, 1.0), (0.9, 0.7, 0.8), (0.6, 0.75, 0.95)])
def test_reinhard_brings_any_stain_to_the_same_numbers(tint) -> None:
    image = (make_cell(5, 80) * np.array(tint)).astype(np.uint8)
    mean, deviation = spread(apply_chain(image, ("reinhard",)))
    np.testing.assert_allclose(mean, (61, 13, 3), atol=1.5)
    np.testing.assert_allclose(deviation, (16, 7, 10), atol=1.5)


def test_reinhard_makes_pictures_of_two_stains_alike_and_does_not_blow_up_noise() -> None:
    image = make_cell(6, 80)
    restained = (image * np.array((0.7, 0.85, 0.95))).astype(np.uint8)
    far = np.abs(image.astype(int) - restained).mean()
    near = np.abs(apply_chain(image, ("reinhard",)).astype(int) - apply_chain(restained, ("reinhard",))).mean()
    assert near < far / 3
    noise = np.random.default_rng(0).integers(119, 122, (50, 50, 3)).astype(np.uint8)
    assert spread(apply_chain(noise, ("reinhard",)))[1].max() < 16


# --- what slow filters made is kept ----------------------------------------------------------------------


class Counted:
    """A slow filter that counts its work."""

    def __init__(self) -> None:
        self.calls = 0
        self.lock = threading.Lock()

    def __call__(self, image: np.ndarray) -> np.ndarray:
        with self.lock:
            self.calls += 1
        return 255 - image


def stored(folder: Path) -> list[Path]:
    return sorted(p for p in folder.rglob("*") if p.is_file())


def random_images(n: int, side: int = 40) -> list[np.ndarray]:
    return list(np.random.default_rng(n).integers(0, 256, (n, side, side, 3), dtype=np.uint8))


def test_an_image_is_filtered_once_and_found_by_its_content(tmp_path, cell) -> None:
    work = Counted()
    cache = FilteredImages(tmp_path, 10**7)
    filtered = cache.get(cell, "slow", work)
    np.testing.assert_array_equal(cache.get(cell.copy(), "slow", work), 255 - cell)
    filtered[:] = 0  # the caller's own
    np.testing.assert_array_equal(cache.get(cell, "slow", work), 255 - cell)
    assert work.calls == 1
    np.testing.assert_array_equal(FilteredImages(tmp_path, 10**7).get(cell, "slow", work), 255 - cell)
    assert work.calls == 1, "another process finds it on disk"
    cache.get(cell, "slow:h=3", work)
    cache.get(cell[:, ::-1], "slow", work)
    cache.get(cell.reshape(-1, 10, 3), "slow", work)
    assert work.calls == 4


@pytest.mark.parametrize("damage", [b"", b"x" * 40, "flip", "cut"])
def test_a_damaged_file_is_made_again(tmp_path, cell, damage) -> None:
    FilteredImages(tmp_path, 10**7).get(cell, "slow", Counted())
    (path,) = stored(tmp_path)
    data = bytearray(path.read_bytes())
    if damage == "flip":
        data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data[:-9]) if damage == "cut" else damage if isinstance(damage, bytes) else bytes(data))
    work = Counted()
    np.testing.assert_array_equal(FilteredImages(tmp_path, 10**7).get(cell, "slow", work), 255 - cell)
    assert work.calls == 1
    FilteredImages(tmp_path, 10**7).get(cell, "slow", work)
    assert work.calls == 1, "and the good one replaced it"


def test_the_folder_stays_within_its_bound_and_the_oldest_go(tmp_path) -> None:
    import os
    import time

    images = random_images(20)
    limit = 5 * 40 * 40 * 3
    cache = FilteredImages(tmp_path, limit, memory=0)
    for i, image in enumerate(images):
        cache.get(image, "slow", Counted())
        assert sum(p.stat().st_size for p in stored(tmp_path)) <= limit
        for path in stored(tmp_path):  # the clock of some file systems is too coarse for this test
            if path.stat().st_mtime > time.time() - 1000:
                os.utime(path, (1000.0 + i, 1000.0 + i))
    work = Counted()
    cache.get(images[-1], "slow", work)
    assert work.calls == 0
    cache.get(images[0], "slow", work)
    assert work.calls == 1


def test_an_image_that_is_used_again_is_not_the_oldest(tmp_path) -> None:
    import os

    images = random_images(4)
    limit = int(3.6 * 40 * 40 * 3)
    cache = FilteredImages(tmp_path, limit, memory=0)
    for image in images[:3]:
        cache.get(image, "slow", Counted())
        for path in stored(tmp_path):
            os.utime(path, (1000.0, 1000.0))
    cache.get(images[0], "slow", Counted())  # used now
    cache.get(images[3], "slow", Counted())
    work = Counted()
    cache.get(images[0], "slow", work)
    assert work.calls == 0


def test_without_room_or_disk_the_work_goes_on(tmp_path, cell, capsys, monkeypatch) -> None:
    monkeypatch.setenv("CERVICYTE_PROGRESS", "auto")
    FilteredImages(tmp_path / "a", 0).get(cell, "slow", Counted())
    assert not (tmp_path / "a").exists()
    FilteredImages(tmp_path / "b", 100).get(cell, "slow", Counted())
    assert not stored(tmp_path)
    (tmp_path / "file").write_text("in the way")
    cache = FilteredImages(tmp_path / "file" / "c", 10**7)
    for image in random_images(3):
        np.testing.assert_array_equal(cache.get(image, "slow", Counted()), 255 - image)
    messages = capsys.readouterr().err
    assert messages.count("not kept on disk") == 1


def test_threads_that_want_one_image_make_it_once(tmp_path) -> None:
    images = random_images(6)
    cache, work = FilteredImages(tmp_path, 10**7), Counted()
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda i: cache.get(images[i % 6], "slow", work), range(120)))
    assert work.calls == 6
    for i, image in enumerate(results):
        np.testing.assert_array_equal(image, 255 - images[i % 6])


def test_only_slow_filters_of_a_chain_are_kept_and_by_all_their_parameters(tmp_path, cell, monkeypatch) -> None:
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(tmp_path))
    filtered = apply_chain(cell, ("normalise", "clahe", "median", "reinhard", "nlm:search=9"))
    assert len(stored(tmp_path / "filtered")) == 1
    np.testing.assert_array_equal(
        filtered, apply_chain(cell, ("normalise", "clahe", "median", "reinhard", "nlm:search=9:h=10"))
    )
    assert len(stored(tmp_path / "filtered")) == 1
    apply_chain(cell, ("normalise", "clahe", "median", "reinhard", "nlm:search=11"))
    assert len(stored(tmp_path / "filtered")) == 2
    monkeypatch.setenv("CERVICYTE_FILTERED_CACHE_MB", "0")
    np.testing.assert_array_equal(
        filtered, apply_chain(cell, ("normalise", "clahe", "median", "reinhard", "nlm:search=9"))
    )


def test_the_key_holds_the_version_of_the_library(tmp_path, cell, monkeypatch) -> None:
    FilteredImages(tmp_path, 10**7).get(cell, "slow", Counted())
    monkeypatch.setattr("cv2.__version__", "99.0")
    work = Counted()
    FilteredImages(tmp_path, 10**7).get(cell, "slow", work)
    assert work.calls == 1
    assert filter_cache._shared_cache(tmp_path, 1) is filter_cache._shared_cache(tmp_path, 1)
