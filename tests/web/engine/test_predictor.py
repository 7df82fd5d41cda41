"""One engine for all: what `predict` says, in order; full batches across users, fair turns, and nobody left waiting."""

from __future__ import annotations

import io
import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from cervicyte.bundle.folder import Bundle, InputSpec, Manifest, save_bundle
from cervicyte.bundle.graph import measurements_graph
from cervicyte.bundle.predictions import Prediction
from cervicyte.data.labels import BINARY
from cervicyte.decision.calibration import DecisionLimits
from cervicyte.decision.linear import LinearHead
from cervicyte.errors import BundleError, ImageError, UsageError
from cervicyte.explain.explainer import explain
from cervicyte.images import decoding, morphology
from cervicyte.web.engine import predictor as predictor_module
from cervicyte.web.engine.predictor import Predictor
from cervicyte.web.errors import BusyError, StoppedError
from support.generated_cells import make_cell, save

D = len(morphology.NAMES)

#: Grey values that the engine below does not take like the others.
DEADLY, REFUSED = 251, 252


def _grey(value: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("L", (8, 8), value).save(buffer, "PNG")
    return buffer.getvalue()


GREYS = [_grey(value) for value in range(256)]
DAMAGED = GREYS[7][: GREYS[7].index(b"IDAT") + 6]


class Engine:
    """Stands in for a bundle and its extractor: the verdict on a grey picture is its grey value."""

    classes = ("grey",)

    def __init__(self, batch_size: int = 4, parallel: int = 1) -> None:
        self.batch_size, self.parallel = batch_size, parallel
        self.open = threading.Event()  # closed, the engine works on one batch for ever
        self.open.set()
        self.entered = threading.Event()
        self.batches: list[list[int]] = []
        self.prepared: list[int] = []
        self.fault: BaseException | None = None
        self.delay = 0.0

    def extractor(self, precision: str | None = None) -> Engine:
        return self

    def prepare(self, image: np.ndarray) -> np.ndarray:
        value = int(image[0, 0, 0])
        self.prepared.append(value)
        if value == DEADLY:
            raise SystemExit("the worker is gone")
        return np.array([value], dtype=np.float32)

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.batches.append([int(v) for v in batch[:, 0]])
        self.entered.set()
        assert self.open.wait(20)
        time.sleep(self.delay)
        if self.fault is not None:
            raise self.fault
        if (batch == REFUSED).any():
            raise BundleError("no probability", "nan", "do not use it")
        return batch

    def verdict(self, path: str, vector: np.ndarray) -> Prediction:
        return Prediction(path, label=str(int(vector[0])))

    def shut(self, predictor: Predictor) -> object:
        """Close the engine while it works on one picture; the predictor is then full of what comes after."""
        self.open.clear()
        self.entered.clear()
        first = predictor.submit([GREYS[0]])
        assert self.entered.wait(20)
        return first


def _labels(answers: list[Prediction]) -> list[str]:
    return [p.label or p.error for p in answers]


@pytest.fixture
def engine() -> Engine:
    return Engine()


@pytest.fixture
def predictor(engine):
    with Predictor(engine, queue_size=64, workers=2, max_wait_ms=5) as made:
        engine.batches.clear()
        engine.prepared.clear()
        yield made
        engine.open.set()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Bundle:
    random = np.random.default_rng(0)
    centre = np.abs(random.normal(size=D))
    head = LinearHead(random.normal(size=(D, 2)) * 0.01, np.zeros(2), 1.0, centre)
    spec = InputSpec("measurements", measurements=tuple(morphology.NAMES))
    limits = DecisionLimits(
        threshold=0.3, sensitivity=0.95, normal_below=0.1, abnormal_from=0.8, confidence_from=0.0, max_risk=0.05
    )
    manifest = Manifest("small", BINARY, BINARY.classes, limits=limits, input=spec, precision="float32")
    return save_bundle(tmp_path_factory.mktemp("predictor") / "bundle", manifest, measurements_graph(head, 1.5))


# ---- answers


def test_the_desk_says_exactly_what_predict_says(bundle, tmp_path) -> None:
    paths = [save(make_cell(i, 60), tmp_path / f"{i}.png") for i in range(5)]
    Path(paths[2]).write_bytes(b"no picture")
    save(make_cell(9, 60)[:1, :1], tmp_path / "dot.png")
    paths += [str(tmp_path / "dot.png"), str(tmp_path / "missing.png")]
    expected = list(bundle.stream(paths, cache=False))
    with Predictor(bundle) as predictor:
        assert predictor.predict(paths)[:6] == expected[:6]
        missing = predictor.predict(paths)[6]
        assert "No such file" in missing.error or "not" in missing.error
        contents = [Path(p).read_bytes() for p in paths[:6]]
        for found, wanted in zip(predictor.predict(contents), expected, strict=False):
            assert found.path == ""
            assert (found.label, found.probabilities) == (wanted.label, wanted.probabilities)
            assert bool(found.error) == bool(wanted.error)
        assert predictor.health().ok


def test_answers_keep_their_order_and_a_damaged_picture_fails_alone(predictor) -> None:
    found = predictor.predict([GREYS[5], DAMAGED, GREYS[3], b"", GREYS[4]])
    assert [found[i].label for i in (0, 2, 4)] == ["5", "3", "4"]
    assert "damaged or truncated" in found[1].error
    assert found[3].error
    assert predictor.predict([]) == []
    counted = predictor.statistics()
    assert (counted.images, counted.failed, counted.open, counted.queued, counted.ready) == (5, 2, 0, 0, 0)


def test_many_threads_get_their_own_answers(predictor) -> None:
    wrong: list[object] = []

    def client(seed: int) -> None:
        random = np.random.default_rng(seed)
        for _ in range(15):
            values = random.integers(0, 200, random.integers(1, 4))
            found = _labels(predictor.predict([GREYS[v] for v in values]))
            if found != [str(v) for v in values]:
                wrong.append((values, found))

    threads = [threading.Thread(target=client, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert not wrong
    counted = predictor.statistics()
    assert counted.requests == 16 * 15
    assert counted.images == sum(size * n for size, n in counted.batch_sizes.items())
    assert counted.batches == sum(counted.batch_sizes.values())
    assert counted.waited_s > 0
    assert counted.engine_s > 0


def test_pictures_of_several_callers_share_a_batch(engine, predictor) -> None:
    first = engine.shut(predictor)
    others = [predictor.submit([GREYS[i], GREYS[i]]) for i in (1, 2, 3, 4)]
    _until(lambda: predictor.statistics().ready == 8)
    engine.open.set()
    assert [_labels(f.result(20)) for f in others] == [[str(i)] * 2 for i in (1, 2, 3, 4)]
    assert _labels(first.result(20)) == ["0"]
    assert [len(batch) for batch in engine.batches] == [1, 4, 4]
    assert len(set(engine.batches[1])) > 1
    assert predictor.statistics().batch_sizes == {1: 1, 4: 2}


def test_a_lone_picture_does_not_wait_for_others(engine) -> None:
    with Predictor(engine, max_wait_ms=60_000) as patient:
        start = time.monotonic()
        assert _labels(patient.predict([GREYS[9]])) == ["9"]
        assert time.monotonic() - start < 10


class Slow(Engine):
    """An engine for which one picture is not prepared until it may be."""

    picture = 250

    def __init__(self) -> None:
        super().__init__()
        self.ready = threading.Event()

    def prepare(self, image: np.ndarray) -> np.ndarray:
        row = super().prepare(image)
        assert row[0] != self.picture or self.ready.wait(20)
        return row


def test_the_last_of_some_pictures_brings_all_to_the_engine() -> None:
    engine = Slow()
    with Predictor(engine, max_wait_ms=60_000, workers=1) as patient:
        some = patient.submit([GREYS[1], GREYS[2], GREYS[Slow.picture]])
        _until(lambda: patient.statistics().ready == 2)
        time.sleep(0.1)  # by now a runner waits for the third
        engine.ready.set()
        assert _labels(some.result(10)) == ["1", "2", str(Slow.picture)]


def test_a_picture_that_is_ready_waits_a_moment_for_one_that_takes_long_and_no_longer() -> None:
    engine = Slow()
    with Predictor(engine, max_wait_ms=50, workers=2) as predictor:
        long = predictor.submit([GREYS[Slow.picture]])
        assert _labels(predictor.submit([GREYS[1]]).result(10)) == ["1"]
        assert not long.done()
        engine.ready.set()
        assert _labels(long.result(10)) == [str(Slow.picture)]


def test_requests_take_turns(engine) -> None:
    with Predictor(engine, queue_size=200, workers=1) as predictor:
        engine.prepared.clear()
        engine.shut(predictor)
        large = predictor.submit([GREYS[100 + i] for i in range(100)])
        small = predictor.submit([GREYS[1], GREYS[2]])
        engine.open.set()
        assert _labels(small.result(20)) == ["1", "2"]
        assert len(large.result(20)) == 100
        # What was prepared ahead goes first, one batch more than the engine works on; then they alternate.
        assert engine.prepared.index(2) < 16


# ---- a full queue


def test_a_full_queue_refuses_at_once_and_takes_again_when_there_is_room(engine) -> None:
    with Predictor(engine, queue_size=5) as predictor:
        first = engine.shut(predictor)
        second = predictor.submit(GREYS[1:4])
        start = time.monotonic()
        with pytest.raises(BusyError) as raised:
            predictor.submit(GREYS[4:6])
        assert time.monotonic() - start < 1
        assert 1 <= raised.value.retry_after_s <= 60
        assert f"try again in {raised.value.retry_after_s} s" in str(raised.value)
        fifth = predictor.submit([GREYS[4]])  # all or none: one still fits
        engine.open.set()
        assert [len(f.result(20)) for f in (first, second, fifth)] == [1, 3, 1]
        assert len(predictor.predict(GREYS[:5])) == 5
        assert predictor.statistics().turned_away == 2
        with pytest.raises(UsageError, match="more pictures than"):
            predictor.submit(GREYS[:6])


def test_waiting_bytes_are_bounded_too(engine) -> None:
    size = len(GREYS[1])
    with Predictor(engine, queue_bytes=3 * size, workers=1, queue_size=100) as predictor:
        engine.shut(predictor)
        taken = []
        with pytest.raises(BusyError):
            taken += [predictor.submit([GREYS[1]]) for _ in range(50)]
        with pytest.raises(UsageError):
            predictor.submit([bytes(4 * size)])
        engine.open.set()
        predictor.close()
        assert predictor.statistics().open == 0


def test_a_cancelled_request_gives_its_places_back(engine) -> None:
    with Predictor(engine, queue_size=41, workers=1) as predictor:
        engine.shut(predictor)
        gone = predictor.submit([GREYS[1]] * 40)
        with pytest.raises(BusyError):
            predictor.submit([GREYS[2]])
        assert gone.cancel()
        engine.open.set()
        with pytest.raises(CancelledError):
            gone.result(20)
        deadline = time.monotonic() + 20
        while predictor.statistics().open and time.monotonic() < deadline:
            time.sleep(0.005)
        assert _labels(predictor.predict([GREYS[3]])) == ["3"]
        assert engine.prepared.count(1) < 40
        counted = predictor.statistics()
        assert (counted.open, counted.queued) == (0, 0)


# ---- faults


def test_an_engine_that_fails_is_told_and_works_again_when_it_does(engine, predictor) -> None:
    engine.fault = RuntimeError("out of memory")
    with pytest.raises(RuntimeError, match="out of memory"):
        predictor.predict(GREYS[:3])
    assert not predictor.health().ok
    assert "out of memory" in predictor.health().problems[0]
    engine.fault = None
    assert _labels(predictor.predict(GREYS[:3])) == ["0", "1", "2"]
    assert predictor.health().ok
    assert predictor.statistics().errors >= 1


def test_a_picture_that_the_graph_cannot_answer_fails_alone(engine, predictor) -> None:
    first = engine.shut(predictor)
    both = predictor.submit([GREYS[1], GREYS[REFUSED]]), predictor.submit([GREYS[2], GREYS[3]])
    engine.open.set()
    mixed, clean = both[0].result(20), both[1].result(20)
    assert first.result(20)
    assert mixed[0].label == "1"
    assert "no probability" in mixed[1].error
    assert _labels(clean) == ["2", "3"]


def test_a_dead_worker_is_noticed_and_the_others_go_on(engine, predictor) -> None:
    with pytest.raises(StoppedError):
        predictor.predict([GREYS[1], GREYS[DEADLY]])
    _until(lambda: predictor.health().workers == 1)
    health = predictor.health()
    assert not health.ok
    assert "the worker is gone" in " ".join(health.problems)
    assert _labels(predictor.predict(GREYS[:9])) == [str(i) for i in range(9)]


def test_when_all_workers_are_dead_nobody_is_left_waiting(engine, predictor) -> None:
    first = engine.shut(predictor)
    deadly = [predictor.submit([GREYS[DEADLY]]) for _ in range(2)]
    _until(lambda: predictor.health().workers == 0)
    for future in (first, *deadly):
        with pytest.raises(StoppedError):
            future.result(20)
    with pytest.raises(StoppedError, match="every worker"):
        predictor.submit([GREYS[1]])
    engine.open.set()
    assert not predictor.health().ok


def test_when_the_engine_threads_die_nobody_is_left_waiting(engine, predictor) -> None:
    engine.fault = SystemExit("gone")
    futures = [predictor.submit([GREYS[i]]) for i in range(9)]
    for future in futures:
        with pytest.raises(StoppedError):
            future.result(20)
    _until(lambda: predictor.health().runners == 0)
    assert "runner 0 died" in " ".join(predictor.health().problems)


def test_a_desk_that_is_stuck_says_so(engine, predictor, monkeypatch) -> None:
    assert predictor.health().ok
    monkeypatch.setattr(predictor_module, "STUCK_S", 0.01)
    assert predictor.health().ok  # nothing waits
    first = engine.shut(predictor)
    time.sleep(0.02)
    assert "none was answered" in predictor.health().problems[0]
    engine.open.set()
    assert first.result(20)
    assert predictor.health().ok


def test_a_bundle_that_does_not_work_is_noticed_at_the_start(engine) -> None:
    engine.fault = BundleError("wrong shape", "(1, 3)", "do not use it")
    with pytest.raises(BundleError):
        Predictor(engine)


def _until(true: object) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


# ---- the end


def test_closing_answers_what_was_taken(engine) -> None:
    predictor = Predictor(engine, queue_size=100)
    engine.delay = 0.005
    taken = [predictor.submit(GREYS[i : i + 10]) for i in range(0, 60, 10)]
    predictor.close()
    predictor.close()
    assert [_labels(f.result(0)) for f in taken] == [[str(v) for v in range(i, i + 10)] for i in range(0, 60, 10)]
    for work in (lambda: predictor.predict([GREYS[1]]), lambda: predictor.explain(GREYS[1])):
        with pytest.raises(StoppedError, match="closed"):
            work()
    health = predictor.health()
    assert (health.ok, health.workers, health.runners) == (False, 0, 0)


def test_closing_does_not_wait_for_ever(engine) -> None:
    predictor = Predictor(engine)
    first = engine.shut(predictor)
    later = predictor.submit(GREYS[:20])
    predictor.close(timeout_s=0.05)
    for future in (first, later):
        with pytest.raises(StoppedError, match="before it came"):
            future.result(20)
    engine.open.set()
    _until(lambda: predictor.health().runners == 0)


# ---- explanations


def test_explanations_are_those_of_explain_and_the_last_ones_are_kept(bundle, tmp_path) -> None:
    path = save(make_cell(1, 60), tmp_path / "cell.png")
    data = Path(path).read_bytes()
    with Predictor(bundle, explanations=2) as predictor:
        found = predictor.explain(data)
        wanted = explain(bundle, decoding.decode(data))
        assert found.prediction == wanted.prediction == predictor.predict([data])[0]
        assert found.contributions == pytest.approx(wanted.contributions)
        assert predictor.explain(path) is found  # the same bytes
        other = predictor.explain(data, "normal")
        assert other.target == "normal"
        predictor.explain(Path(save(make_cell(2, 60), tmp_path / "other.png")).read_bytes())
        assert predictor.explain(data, "normal") is other
        assert predictor.explain(data) is not found  # two are kept
        counted = predictor.statistics()
        assert (counted.explanations, counted.explained_from_cache) == (6, 2)
        for picture, kind in ((DAMAGED, ImageError), (tmp_path / "none.png", ImageError)):
            with pytest.raises(kind):
                predictor.explain(picture)
        with pytest.raises(UsageError, match="no such class"):
            predictor.explain(data, "dog")


def test_callers_that_want_the_same_explanation_share_it(bundle) -> None:
    buffer = io.BytesIO()
    Image.fromarray(make_cell(5, 60)).save(buffer, "PNG")
    found: list[object] = []
    with Predictor(bundle) as predictor:
        threads = [
            threading.Thread(target=lambda: found.append(predictor.explain(buffer.getvalue()))) for _ in range(6)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
        assert len(found) == 6
        assert len({id(f) for f in found}) == 1


def test_large_explanations_do_not_fill_the_memory(monkeypatch) -> None:
    from cervicyte.web.engine import explanations

    sizes: list[int] = []

    def explained(picture: np.ndarray, target: str | None) -> SimpleNamespace:
        sizes.append(picture.size)
        return SimpleNamespace(image=picture)

    monkeypatch.setattr(explanations, "Explainer", lambda *_: SimpleNamespace(explain=explained))
    monkeypatch.setattr(explanations, "_KEPT_PIXELS", 200)
    kept = explanations.Explanations(None, most=10)
    for value in range(6):
        kept.get(GREYS[value])  # 64 pixels each
    assert kept.get(GREYS[5])[1]
    assert kept.get(GREYS[3])[1]
    assert not kept.get(GREYS[2])[1]
    assert kept._pixels <= 200


# ---- memory


def test_memory_is_flat_over_twenty_thousand_requests() -> None:
    psutil = pytest.importorskip("psutil")
    process = psutil.Process()
    engine = Engine(batch_size=16)
    with Predictor(engine, queue_size=256) as predictor:
        resident = {}
        for start in range(0, 20_000, 100):
            futures = [predictor.submit([GREYS[(start + i) % 200]]) for i in range(100)]
            assert all(f.result(30)[0].label for f in futures)
            engine.batches.clear()
            engine.prepared.clear()
            resident[start] = process.memory_info().rss
        counted = predictor.statistics()
        assert (counted.requests, counted.images, counted.open) == (20_000, 20_000, 0)
        assert resident[19_900] - resident[2_000] < 8 << 20
