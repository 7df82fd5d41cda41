"""Activations on disk: what they are, that a kill costs only what was not flushed, and that the folder is bounded."""

from __future__ import annotations

import errno
import hashlib
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st

from cervicyte import settings
from cervicyte.base import files, working_folder
from cervicyte.base.checkpoints import Computation
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import BINARY
from cervicyte.errors import DataError, StorageError, UsageError
from cervicyte.features import activations
from cervicyte.features.activations import PrefixExtractor, compute
from cervicyte.images import augmentation, decoding
from cervicyte.networks.orientations import oriented
from cervicyte.networks.registry import get_backbone
from support.generated_cells import make_cell, save
from support.sharing import needs

pytestmark = needs("torch")

NETWORK = get_backbone("MobileNetV2", size=64)
CUT = (2, 2, 160)


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch) -> Path:
    """A cache of the test's own, with the networks that were exported before."""
    exports = settings.get_path("cache_dir") / "exports"
    exports.mkdir(parents=True, exist_ok=True)
    folder = tmp_path_factory.mktemp("cache")
    (folder / "exports").symlink_to(exports.resolve())
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(folder))
    return folder


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> CellTable:
    """Six pictures, not square."""
    folder = tmp_path_factory.mktemp("cells")
    paths = [save(make_cell(i, 90)[:70], folder / f"{i}.png") for i in range(6)]
    return CellTable(
        cells=tuple(Cell(path=p, label=BINARY.classes[i % 2], group=f"g{i}") for i, p in enumerate(paths)),
        system=BINARY,
    )


def prefix(**options) -> PrefixExtractor:
    return PrefixExtractor(NETWORK, "random", precision="float32", **options)


def alone(extractor: PrefixExtractor, image: np.ndarray) -> np.ndarray:
    """The network's answer to one picture."""
    return extractor.engine.run(image[None])["feature_map"][0]


def close(kept: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(kept, expected, atol=2e-3 * np.abs(expected).max())


def test_views_are_the_orientations_and_then_augmented_copies(cells) -> None:
    extractor = prefix(orientations=8, variants=2, seed=3)
    table, errors = compute(cells, extractor)
    assert not errors
    assert table.maps.shape == (6, 10, *CUT)
    assert table.maps.dtype == np.float16
    assert (table.orientations, list(table.rows_of(cells))) == (8, [0, 1, 2, 3, 4, 5])
    for row in (0, 5):
        image = decoding.load(cells.cells[row].path)
        upright = decoding.resize(image, 64)
        for k in range(8):
            close(table.maps[row, k], alone(extractor, oriented(upright, k)))
        key = hashlib.sha256(image.tobytes()).hexdigest()
        for k in (1, 2):
            copy = augmentation.augmented_copy(image, k, key, 3, augmentation.get_augmentation("strong"))
            close(table.maps[row, 7 + k], alone(extractor, decoding.resize(copy, 64)))
    assert np.abs(table.maps[0, 0].astype(float) - table.maps[0, 1]).max() > 0


def test_the_eight_orientations_are_the_symmetries_of_the_square() -> None:
    image = np.arange(27).reshape(3, 3, 3)
    views = [oriented(image, k) for k in range(8)]
    expected = [np.rot90(m, k) for m in (image, image[:, ::-1]) for k in range(4)]
    assert {v.tobytes() for v in views} == {np.ascontiguousarray(e).tobytes() for e in expected}
    assert np.array_equal(views[0], image)


def test_filters_come_first_and_boxes_and_copies_are_pictures_of_their_own(cells) -> None:
    plain = cells.cells[0]
    rows = (plain, replace(plain, box=(5, 5, 60, 60)), replace(plain, variant=1))
    extractor = prefix(chain=("median",))
    table, errors = compute(cells.with_cells(rows), extractor)
    assert not errors
    assert len(set(table.digests)) == 3
    image = decoding.load(plain.path)
    from cervicyte.images import filters

    for row, source in ((0, image), (1, image[5:60, 5:60])):
        filtered = filters.apply_chain(np.ascontiguousarray(source), extractor.chain)
        close(table.maps[row, 0], alone(extractor, decoding.resize(filtered, 64)))
    assert len({table.maps[i].tobytes() for i in range(3)}) == 3
    assert len({prefix().key, extractor.key, prefix(seed=1).key, prefix(fit="pad").key, prefix(variants=1).key}) == 5
    assert prefix().key == prefix().key


def test_activations_are_computed_once(cells, monkeypatch) -> None:
    extractor = prefix()
    first, _ = compute(cells, extractor)
    monkeypatch.setattr(PrefixExtractor, "run", lambda *_: pytest.fail("computed again"))
    again, errors = compute(cells, extractor)
    assert not errors
    assert again.maps.tobytes() == first.maps.tobytes()
    assert again.digests == first.digests


def test_an_unreadable_picture_stops_nothing_and_is_tried_again(cells, tmp_path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"no picture")
    rows = cells.with_cells([replace(cells.cells[0], path=str(bad)), *cells.cells])
    table, errors = compute(rows, prefix())
    assert list(errors) == [0]
    assert list(table.rows_of(cells)) == [1, 2, 3, 4, 5, 6]
    with pytest.raises(KeyError):
        table.rows_of(rows)
    _, errors = compute(rows, prefix())
    assert list(errors) == [0]


def test_what_cannot_be_fine_tuned_or_kept_is_refused(cells, monkeypatch) -> None:
    with pytest.raises(UsageError, match="no last blocks"):
        PrefixExtractor(get_backbone("morphology"), "random")
    with pytest.raises(UsageError, match="orientations"):
        prefix(orientations=3)
    extractor = prefix()
    real = extractor.engine.run
    monkeypatch.setattr(extractor.engine, "run", lambda b: {"feature_map": real(b)["feature_map"] + np.float32(1e5)})
    with pytest.raises(DataError, match="too large") as raised:
        compute(cells, extractor)
    assert "MobileNetV2" in raised.value.received


# Killed, damaged, full


def killed_child(folder: str) -> None:
    """Compute as the tests do, flush each picture, and wait before the fourth for the kill."""
    paths = sorted(Path(folder).glob("*.png"))
    table = CellTable(
        cells=tuple(Cell(path=str(p), label=BINARY.classes[i % 2], group=f"g{i}") for i, p in enumerate(paths)),
        system=BINARY,
    )
    activations._FLUSH = 1
    real, done = activations._settle, []

    def settle(maps, marks, finished) -> None:
        real(maps, marks, finished)
        done.append(1)
        if len(done) == 3:
            print("three", flush=True)
            time.sleep(600)

    activations._settle = settle
    compute(table, prefix(variants=1))


def test_after_a_kill_only_the_rest_is_computed(cells, own_cache, monkeypatch) -> None:
    prefix(variants=1)  # exported before the child starts
    tests, folder = str(Path(__file__).parent), str(Path(cells.cells[0].path).parent)
    code = f"import sys; sys.path.insert(0, {tests!r})\nimport test_activations as t; t.killed_child({folder!r})"
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=dict(os.environ))
    try:
        assert child.stdout.readline().strip() == "three"
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
        child.stdout.close()
    (marks,) = own_cache.glob("finetuning/activations/*.done")
    assert list(marks.read_bytes()) == [1, 1, 1, 0, 0, 0]
    prepared, real = [], PrefixExtractor.prepare
    monkeypatch.setattr(PrefixExtractor, "prepare", lambda self, image: (prepared.append(1), real(self, image))[1])
    resumed, _ = compute(cells, prefix(variants=1))
    assert len(prepared) == 3
    kept = np.array(resumed.maps)
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(own_cache / "other"))
    whole, _ = compute(cells, prefix_in(own_cache, monkeypatch))
    assert len(prepared) == 9
    assert kept.tobytes() == whole.maps.tobytes()


def prefix_in(cache: Path, monkeypatch) -> PrefixExtractor:
    """The extractor in an empty cache, from the same exports."""
    (cache / "other").mkdir()
    (cache / "other" / "exports").symlink_to((cache / "exports").resolve())
    return prefix(variants=1)


@pytest.mark.parametrize("damage", ["no marks", "short marks", "short activations", "no activations"])
def test_files_that_are_not_whole_are_computed_again(cells, own_cache, damage) -> None:
    first, _ = compute(cells, prefix())
    kept = np.array(first.maps)
    path = next(own_cache.glob(f"finetuning/activations/*{'.done' if 'marks' in damage else '.f16'}"))
    if damage.startswith("no"):
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    again, errors = compute(cells, prefix())
    assert not errors
    assert again.maps.tobytes() == kept.tobytes()


def test_a_full_disk_is_told_before_the_work_and_leaves_nothing(cells, own_cache, monkeypatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "posix_fallocate", full)
    extractor = prefix()
    monkeypatch.setattr(PrefixExtractor, "run", lambda *_: pytest.fail("computed although there is no room"))
    with pytest.raises(StorageError, match="No space left"):
        compute(cells, extractor)
    assert not [p for p in own_cache.glob("finetuning/**/*") if p.is_file()]


def test_more_than_the_bound_is_refused_before_the_work(cells, own_cache, monkeypatch) -> None:
    monkeypatch.setattr(working_folder.settings, "get_int", lambda _: 0)
    with pytest.raises(StorageError, match="working files") as raised:
        working_folder.make_room(1)
    assert "CERVICYTE_CACHE_GB" in raised.value.received
    assert "variants" in raised.value.todo
    monkeypatch.undo()
    monkeypatch.setenv("CERVICYTE_CACHE_DIR", str(own_cache))
    monkeypatch.setenv("CERVICYTE_CACHE_GB", "1")
    with pytest.raises(StorageError, match=r"needs 1\.5 GB"):
        working_folder.make_room(1_500_000_000)


def test_room_is_taken_when_it_is_reserved(tmp_path, monkeypatch) -> None:
    path = tmp_path / "new" / "file"
    files.reserve(path, 100_000)
    assert path.stat().st_size == 100_000
    assert path.stat().st_blocks * 512 >= 100_000
    files.reserve(path, 0)
    assert path.stat().st_size == 0
    monkeypatch.delattr(files.os, "posix_fallocate")
    files.reserve(path, (1 << 24) + 5)
    assert path.stat().st_size == (1 << 24) + 5
    assert not any(path.read_bytes())
    (tmp_path / "in the way").write_text("x")
    with pytest.raises(StorageError):
        files.reserve(tmp_path / "in the way" / "file", 5)


# The shelf


def put(name: str, size: int, age: float) -> Path:
    """A working file of a size (sparse), used so many seconds ago."""
    path = working_folder.folder() / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as stream:
        stream.truncate(size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def total() -> int:
    return sum(p.stat().st_size for p in working_folder.folder().rglob("*") if p.is_file())


def test_what_was_used_longest_ago_goes_first(monkeypatch) -> None:
    monkeypatch.setenv("CERVICYTE_CACHE_GB", "1")
    oldest, middle, newest = (put(f"tails/{i}", 300_000_000, 100 - i) for i in range(3))
    working_folder.make_room(100_000_000)
    assert oldest.exists()
    working_folder.used(oldest)
    working_folder.make_room(200_000_000)
    assert (oldest.exists(), middle.exists(), newest.exists()) == (True, False, True)
    working_folder.make_room(10**9)
    assert total() == 0


def test_activations_go_before_trainings_and_what_went_is_told(monkeypatch, capsys) -> None:
    monkeypatch.setenv("CERVICYTE_CACHE_GB", "1")
    monkeypatch.setenv("CERVICYTE_PROGRESS", "auto")
    working_folder.remove_oldest(working_folder.folder(), 0)
    trained, maps = put("tails/old.npz", 300_000_000, 1000), put("activations/new.f16", 600_000_000, 10)
    working_folder.make_room(100_000_000)
    assert "room" not in capsys.readouterr().err
    working_folder.make_room(200_000_000)
    assert trained.exists()
    assert not maps.exists()
    assert "600 MB of earlier working files removed" in capsys.readouterr().err
    working_folder.make_room(800_000_000)
    assert not trained.exists()


@hypothesis_settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(0, 400), max_size=8), st.integers(0, 1000))
def test_after_making_room_there_is_room(sizes, wanted) -> None:
    before = os.environ.get("CERVICYTE_CACHE_GB")
    os.environ["CERVICYTE_CACHE_GB"] = "1"
    try:
        paths = [put(f"activations/{i}", size * 10**6, 100 - i) for i, size in enumerate(sizes)]
        held = total()
        working_folder.make_room(wanted * 10**6)
        assert total() + wanted * 10**6 <= 10**9
        left = [p for p in paths if p.exists()]
        assert left == paths[len(paths) - len(left) :]  # the newest
        if held + wanted * 10**6 <= 10**9:
            assert left == paths
        working_folder.make_room(10**9)
    finally:
        os.environ.pop("CERVICYTE_CACHE_GB") if before is None else os.environ.update(CERVICYTE_CACHE_GB=before)


def test_activations_and_jobs_make_room_and_mapped_files_stay_readable(cells, monkeypatch) -> None:
    monkeypatch.setenv("CERVICYTE_CACHE_GB", "1")
    stale = put("tails/stale.npz", 10**9 - 20_000, 1000)
    table, _ = compute(cells, prefix(variants=3))
    assert not stale.exists()
    kept = np.array(table.maps)
    assert total() <= 10**9
    held = list(working_folder.folder().rglob("*.f16"))
    for path in held:
        os.utime(path, (1, 1))
    put("activations/other", 10**9 - total() - 10, 0)
    Computation("1" * 64, "tails").save_checkpoint({"x": np.zeros(100)})
    assert not held[0].exists()
    assert np.array(table.maps).tobytes() == kept.tobytes()
    assert Computation("1" * 64, "tails").checkpoint()["x"].shape == (100,)
    assert total() <= 10**9 + 1000  # the headers of a small file


@hypothesis_settings(deadline=None, max_examples=60)
@given(st.data())
def test_a_job_file_is_read_whole_or_not_at_all(data) -> None:
    job = Computation("2" * 64, "tails")
    held = {"a": np.arange(20, dtype=np.float32), "b": np.array(3.0)}
    job.save_checkpoint(held)
    (path,) = working_folder.folder().glob("tails/2*.checkpoint.npz")
    content = bytearray(path.read_bytes())
    if data.draw(st.booleans()):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] ^= data.draw(st.integers(1, 255))
    else:
        content = content[: data.draw(st.integers(0, len(content) - 1))]
    path.write_bytes(content)
    found = job.checkpoint()
    for name in found or ():
        np.testing.assert_array_equal(found[name], held[name])
