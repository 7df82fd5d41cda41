"""Streaming and the cache: order, errors, flat memory, one read per file, and nothing lost or wrong after a kill."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest

from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import LabelSystem
from cervicyte.errors import ImageError, StorageError, UsageError
from cervicyte.features import extraction
from cervicyte.features.cache import FeatureCache, cell_key
from cervicyte.images import decoding
from cervicyte.images.augmentation import GEOMETRIC
from cervicyte.images.decoding import CellImage


class Colours:
    """A tiny deterministic extractor: the mean colour, and a count of its work."""

    dimension, parallel, seed = 3, 2, 0
    augmentation = GEOMETRIC

    def __init__(self, key: str = "c" * 64, batch_size: int = 4, pause: float = 0.0) -> None:
        self.key, self.batch_size, self.pause = key, batch_size, pause
        self.rows = self.live = self.most_live = 0
        self.lock = threading.Lock()

    def prepare(self, image: np.ndarray) -> np.ndarray:
        with self.lock:
            self.live += 1
            self.most_live = max(self.most_live, self.live)
        return image.mean(axis=(0, 1)).astype(np.float32)

    def run(self, batch: np.ndarray) -> np.ndarray:
        time.sleep(self.pause * len(batch))
        with self.lock:
            self.rows += len(batch)
            self.live -= len(batch)
        return batch


def write_cells(folder: Path, n: int) -> list[str]:
    """n different little PNG files."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(n)
    paths = []
    for i in range(n):
        path = folder / f"cell {i:04d}.png"
        ok, data = cv2.imencode(".png", random.integers(0, 256, (8, 9, 3), dtype=np.uint8))
        assert ok
        path.write_bytes(data.tobytes())
        paths.append(str(path))
    return paths


@pytest.fixture(scope="module")
def cells(tmp_path_factory) -> list[str]:
    return write_cells(tmp_path_factory.mktemp("cells"), 60)


def colours_of(paths) -> np.ndarray:
    return np.stack([decoding.load(p).mean(axis=(0, 1)) for p in paths]).astype(np.float32)


@pytest.mark.parametrize("batch_size", [1, 4, 7, 100])
@pytest.mark.parametrize("cached", [False, True])
def test_answers_come_in_the_order_of_the_pictures(cells, tmp_path, batch_size, cached) -> None:
    extractor = Colours(batch_size=batch_size)
    with FeatureCache(extractor.key, tmp_path) as cache:
        found = list(extraction.stream(map(CellImage, cells), extractor, cache if cached else None))
    assert [index for index, _ in found] == list(range(len(cells)))
    np.testing.assert_array_equal(np.stack([v for _, v in found]), colours_of(cells))


def test_bad_files_yield_their_error_and_the_others_go_on(cells, tmp_path) -> None:
    empty, text = tmp_path / "empty.png", tmp_path / "text.png"
    empty.write_bytes(b"")
    text.write_text("not an image")
    mixed = [cells[0], str(empty), cells[1], str(text), str(tmp_path / "gone.png"), cells[2]]
    pictures = [CellImage(p) for p in mixed] + [CellImage(cells[3], (100, 100, 200, 200))]
    with FeatureCache("k", tmp_path) as cache:
        answers = [a for _, a in extraction.stream(pictures, Colours(), cache)]
        assert len(cache) == 3, "errors are not cached"
    good, bad = [0, 2, 5], [1, 3, 4, 6]
    assert all(isinstance(answers[i], ImageError) for i in bad)
    np.testing.assert_array_equal(np.stack([answers[i] for i in good]), colours_of([mixed[i] for i in good]))


def test_a_filter_that_fails_on_one_picture_does_not_stop_the_rest(cells) -> None:
    class Picky(Colours):
        def prepare(self, image):
            if image.shape[0] < 3:
                raise ValueError("too small")
            return super().prepare(image)

    answers = [a for _, a in extraction.stream([CellImage(cells[0], (0, 0, 2, 2)), CellImage(cells[1])], Picky())]
    assert isinstance(answers[0], ImageError)
    assert "too small" in str(answers[0])
    assert answers[1].shape == (3,)


def test_no_pictures_no_answers() -> None:
    assert list(extraction.stream([], Colours())) == []


def test_an_endless_generator_is_drawn_only_a_little_ahead(cells) -> None:
    drawn = 0

    def endless():
        nonlocal drawn
        while True:
            yield CellImage(cells[drawn % len(cells)])
            drawn += 1

    extractor = Colours(pause=0.0005)
    answers = extraction.stream(endless(), extractor)
    for _ in range(1000):
        next(answers)
    answers.close()
    assert drawn < 1000 + 250
    assert extractor.most_live < 250, "prepared rows must not pile up"


def test_a_lone_miss_among_many_hits_does_not_hold_them_back(cells, tmp_path) -> None:
    extractor = Colours(batch_size=8)
    with FeatureCache(extractor.key, tmp_path) as cache:
        list(extraction.stream(map(CellImage, cells[1:]), extractor, cache))
        drawn = 0

        def pictures():
            nonlocal drawn
            for i in range(3000):
                drawn += 1
                yield CellImage(cells[0] if i == 0 else cells[1 + i % 59])

        answers = extraction.stream(pictures(), extractor, cache)
        index, first = next(answers)
        assert (index, first.shape) == (0, (3,))
        assert drawn < 1000
        answers.close()


def test_memory_does_not_grow_with_the_number_of_pictures(cells) -> None:
    psutil = pytest.importorskip("psutil")
    process = psutil.Process()

    def run(n: int) -> int:
        most = 0
        for i, _ in extraction.stream((CellImage(cells[k % 60]) for k in range(n)), Colours(batch_size=16)):
            if i % 500 == 0:
                most = max(most, process.memory_info().rss)
        return most

    first = run(1000)
    assert run(6000) - first < 30e6


def test_each_file_is_read_once_and_decoded_only_on_a_miss(cells, tmp_path, monkeypatch) -> None:
    read, decoded = [], []
    read_bytes, decode = decoding.read_bytes, decoding.decode
    monkeypatch.setattr(decoding, "read_bytes", lambda path: read.append(path) or read_bytes(path))
    monkeypatch.setattr(decoding, "decode", lambda data, name: decoded.append(name) or decode(data, name))
    boxes = [CellImage(cells[0], (0, 0, 4, k)) for k in range(1, 8)]
    extractor = Colours()
    with FeatureCache(extractor.key, tmp_path) as cache:
        list(extraction.stream(boxes, extractor, cache))
        assert read == decoded == [cells[0]], "a field with many cells is read and decoded once"
        read.clear()
        decoded.clear()
        list(extraction.stream(boxes, extractor, cache))
    assert (read, decoded) == ([cells[0]], [])
    assert extractor.rows == len(boxes)


def test_the_cache_knows_the_content_not_the_name(cells, tmp_path) -> None:
    copy = tmp_path / "other name.png"
    copy.write_bytes(Path(cells[5]).read_bytes())
    extractor = Colours()
    with FeatureCache(extractor.key, tmp_path) as cache:
        list(extraction.stream([CellImage(cells[5])], extractor, cache))
        list(extraction.stream([CellImage(str(copy))], extractor, cache))
        assert extractor.rows == 1
        copy.write_bytes(Path(cells[6]).read_bytes())
        (_, changed), *_ = extraction.stream([CellImage(str(copy))], extractor, cache)
    np.testing.assert_array_equal(changed, colours_of([cells[6]])[0])


def test_box_and_variant_are_part_of_the_key(cells, tmp_path) -> None:
    pictures = [CellImage(cells[0], None, v) for v in range(4)] + [
        CellImage(cells[0], (0, 0, 5, 5)),
        CellImage(cells[0]),
    ]
    extractor = Colours()
    with FeatureCache(extractor.key, tmp_path) as cache:
        first = [a for _, a in extraction.stream(pictures, extractor, cache)]
        again = [a for _, a in extraction.stream(pictures, Colours(), cache)]
        assert len(cache) == 5
    np.testing.assert_array_equal(first, again)
    assert len({v.tobytes() for v in first}) == 5


def test_extract_fills_a_matrix_and_tells_the_errors(cells, tmp_path) -> None:
    paths = [cells[0], str(tmp_path / "gone.png"), cells[1]]
    system = LabelSystem(name="toy", classes=("a",), abnormal=frozenset())
    table = CellTable(cells=tuple(Cell(path=p, label="a", group="g") for p in paths), system=system)
    matrix, errors = extraction.extract(table, Colours())
    assert matrix.shape == (3, 3)
    assert list(errors) == [1]
    assert np.isnan(matrix[1]).all()
    np.testing.assert_array_equal(matrix[[0, 2]], colours_of(cells[:2]))


# ---- the cache by itself


def some_rows(n: int) -> dict[bytes, np.ndarray]:
    random = np.random.default_rng(1)
    return {cell_key(bytes([i]), None, 0): random.standard_normal(50).astype(np.float32) for i in range(n)}


def filled(folder: Path, n: int = 40) -> tuple[FeatureCache, dict[bytes, np.ndarray]]:
    cache, rows = FeatureCache("key", folder), some_rows(n)
    for key, vector in rows.items():
        cache.put(key, vector)
    cache.commit()
    return cache, rows


def test_what_is_put_is_got_before_and_after_a_commit(tmp_path) -> None:
    cache = FeatureCache("key", tmp_path)
    rows = some_rows(3)
    for key, vector in rows.items():
        cache.put(key, vector)
    assert cache.get(list(rows)).keys() == rows.keys()
    cache.close()
    with FeatureCache("key", tmp_path) as again:
        for key, vector in again.get([*rows, b"unknown"]).items():
            np.testing.assert_array_equal(vector, rows[key])
        assert len(again) == 3


def test_a_flipped_byte_is_seen_and_the_row_computed_again(tmp_path) -> None:
    cache, rows = filled(tmp_path)
    cache.close()
    victim = list(rows)[7]
    with sqlite3.connect(cache.path) as raw:
        (vector,) = raw.execute("SELECT vector FROM features WHERE key = ?", (victim,)).fetchone()
        flipped = bytearray(vector)
        flipped[11] ^= 1
        raw.execute("UPDATE features SET vector = ? WHERE key = ?", (bytes(flipped), victim))
    raw.close()
    with FeatureCache("key", tmp_path) as again:
        assert again.get(list(rows)).keys() == rows.keys() - {victim}


def _scribble(path: Path) -> None:
    path.write_bytes(b"this is no database, and long enough to be sure of it" * 100)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _wreck_pages(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[4096:] = np.random.default_rng(2).bytes(len(data) - 4096)
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("damage", [_scribble, _cut, _wreck_pages])
def test_a_damaged_file_is_set_aside_with_a_message_and_rebuilt(tmp_path, monkeypatch, capsys, damage) -> None:
    monkeypatch.setenv("CERVICYTE_PROGRESS", "auto")
    cache, rows = filled(tmp_path)
    cache.close()
    damage(cache.path)
    with FeatureCache("key", tmp_path) as again:
        assert again.get(list(rows)) == {}
        for key, vector in rows.items():
            again.put(key, vector)
    assert "damaged" in capsys.readouterr().err
    assert len(list(cache.path.parent.glob("*.damaged-*"))) == 1
    with FeatureCache("key", tmp_path) as rebuilt:
        assert rebuilt.get(list(rows)).keys() == rows.keys()


def test_two_caches_on_one_file_do_not_disturb_each_other(tmp_path) -> None:
    rows = some_rows(200)
    halves = list(rows)[:120], list(rows)[80:]

    def write(keys: list[bytes]) -> None:
        with FeatureCache("key", tmp_path) as cache:
            for key in keys:
                cache.put(key, rows[key])
                if key[0] % 16 == 0:
                    cache.commit()

    threads = [threading.Thread(target=write, args=(half,)) for half in halves]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with FeatureCache("key", tmp_path) as cache:
        found = cache.get(list(rows))
    assert found.keys() == rows.keys()
    assert all(np.array_equal(found[k], rows[k]) for k in rows)


def test_caches_that_open_one_new_file_at_once_wait_for_each_other(tmp_path) -> None:
    problems = []

    def write(folder: Path, start: threading.Barrier, key: int) -> None:
        with FeatureCache("key", folder) as cache:
            start.wait()
            try:
                cache.put(bytes([key]) * 32, np.zeros(4, np.float32))
                cache.commit()
            except StorageError as error:
                problems.append(error)

    for repeat in range(40):
        start = threading.Barrier(4)
        threads = [threading.Thread(target=write, args=(tmp_path / str(repeat), start, key)) for key in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with FeatureCache("key", tmp_path / str(repeat)) as cache:
            assert len(cache) == 4
    assert problems == []


FULL_DISK = """
import resource, sys
import numpy as np
from pathlib import Path
from cervicyte.features.cache import FeatureCache, cell_key
from cervicyte.errors import StorageError
cache = FeatureCache("key", Path(sys.argv[1]))
try:
    for i in range(100000):
        if i == 300:  # from here on no file may grow any more
            limit = cache.path.with_name(cache.path.name + "-wal").stat().st_size + 20000
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        cache.put(cell_key(str(i).encode(), None, 0), np.full(500, i, dtype=np.float32))
except StorageError as error:
    print(error.one_line)
    sys.exit(error.exit_code)
"""


def test_a_full_disk_is_a_storage_error_and_what_was_committed_stays(tmp_path) -> None:
    """A file size limit stands for the full disk: to SQLite both are a write that fails."""
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(tmp_path)], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == StorageError.exit_code, done.stderr
    assert "cannot be written" in done.stdout
    with FeatureCache("key", tmp_path) as cache:
        assert len(cache) >= 256
        found = cache.get([cell_key(str(i).encode(), None, 0) for i in range(256)])
    assert all(np.array_equal(v, np.full(500, v[0])) for v in found.values())
    assert len(found) == 256


def test_a_folder_that_cannot_be_made_is_a_storage_error(tmp_path) -> None:
    (tmp_path / "features").write_text("a file where the folder should be")
    with pytest.raises(StorageError):
        FeatureCache("key", tmp_path).get([b"x"])


KILLED = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from test_extraction import Colours
from cervicyte.features import extraction as features
from cervicyte.features.cache import FeatureCache
from cervicyte.images.decoding import CellImage
paths = sorted(str(p) for p in Path(sys.argv[2]).glob("*.png"))
extractor = Colours(pause=0.01)
cache = FeatureCache(extractor.key, Path(sys.argv[3]))
for index, _ in features.stream(map(CellImage, paths), extractor, cache):
    pass
cache.close()
print(extractor.rows)
"""


@pytest.mark.slow
def test_killed_at_any_moment_it_resumes_and_the_cache_is_whole(tmp_path) -> None:
    """A real process is killed with SIGKILL in mid extraction, twice; then it runs to its end."""
    paths = write_cells(tmp_path / "cells", 600)
    command = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path / "cells"), str(tmp_path)]
    cache = FeatureCache(Colours().key, tmp_path)
    kept = 0
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        deadline = time.monotonic() + 40
        while time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.1)
            if cache.path.exists() and len(cache) > kept + 30:
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL, "it had ended before it was killed"
        with sqlite3.connect(cache.path) as raw:
            assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        raw.close()
        assert kept < len(cache) < len(paths)
        kept = len(cache)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert int(done.stdout) == len(paths) - kept, "what was committed is not computed again"
    answers = [a for _, a in extraction.stream(map(CellImage, paths), Colours(), cache)]
    cache.close()
    undisturbed = [a for _, a in extraction.stream(map(CellImage, paths), Colours())]
    np.testing.assert_array_equal(answers, undisturbed)


# ---- real extractors


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """MobileNetV2 with random weights, tapped early: small enough to export in a test."""
    folder = tmp_path_factory.mktemp("network")
    before = os.environ["CERVICYTE_CACHE_DIR"]
    os.environ["CERVICYTE_CACHE_DIR"] = str(folder)

    def make(**options):
        return extraction.make_extractor("MobileNetV2", "random", size=64, layer="block_2_add", **options)

    yield make
    os.environ["CERVICYTE_CACHE_DIR"] = before


def test_a_network_extractor_streams(network, cells) -> None:
    extractor = network(precision="float32")
    assert (extractor.dimension, extractor.size) == (24, 64)
    answers = np.stack([a for _, a in extraction.stream(map(CellImage, cells), extractor)])
    alone = extractor.run(extractor.prepare(decoding.load(cells[17]))[None])[0]
    assert answers.dtype == np.float32
    np.testing.assert_allclose(answers[17], alone, rtol=1e-4, atol=1e-5)


def test_a_network_that_bfloat16_hurts_runs_in_float32(network) -> None:
    record = network(precision="float32").onnx_path.with_suffix(".json")
    before = record.read_text()
    hurt = json.loads(before)
    hurt["parity"]["bfloat16"] = {"relative_error": 0.4, "bound": 0.1, "within": False, "engine": "openvino"}
    try:
        record.write_text(json.dumps(hurt))
        assert network(precision="auto").precision == "float32"
        with pytest.raises(UsageError, match="bfloat16 changes the features"):
            network(precision="bfloat16")
    finally:
        record.write_text(before)


def test_the_key_names_every_input(network) -> None:
    base = network(precision="float32").key
    assert network(precision="float32").key == base
    others = [
        network(precision="float32", fit="pad"),
        network(precision="float32", chain=("clahe",)),
        network(precision="float32", seed=1),
        network(precision="float32", engine="onnxruntime"),
        extraction.make_extractor("MobileNetV2", "random", size=64, layer="block_1_project_BN", precision="float32"),
        extraction.make_extractor(
            "MobileNetV2", "random", size=64, layer="block_1_project_BN", precision="float32", weights_seed=9
        ),
    ]
    assert len({base, *(e.key for e in others)}) == len(others) + 1


def test_an_unknown_fit_is_refused() -> None:
    with pytest.raises(UsageError, match="unknown fit"):
        extraction.make_extractor("MobileNetV2", "random", fit="squash")


def test_morphology_streams_its_measurements(demo_cells) -> None:
    extractor = extraction.make_extractor("morphology")
    from cervicyte.images import morphology

    assert extractor.dimension == len(morphology.NAMES)
    some = demo_cells.subset(range(3))
    matrix, errors = extraction.extract(some, extractor)
    assert not errors
    np.testing.assert_array_equal(matrix[1], morphology.measure(decoding.load(some.paths[1])))
    assert extraction.make_extractor("morphology", chain=("median",)).key != extractor.key
