"""Persistent work: every waiting picture gets its answer once, whatever is killed, full, broken or deleted."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'web' is not installed")

from sqlalchemy import exc, func, select

from cervicyte.bundle.folder import Bundle
from cervicyte.errors import BundleError, StorageError
from cervicyte.images import decoding, morphology
from cervicyte.web.base.database import Database
from cervicyte.web.base.schema import AuditRow, Image, PredictionRow
from cervicyte.web.cases import answers, cases, deletion, intake
from cervicyte.web.engine import workers
from cervicyte.web.engine.predictor import Predictor
from cervicyte.web.engine.workers import ImageWorkers
from cervicyte.web.errors import BusyError, NotFoundError
from support.web.cases import CLASSES, case_with, picture, rows, small_bundle, until
from support.web.databases import on_both

HERE = Path(__file__).parent


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return small_bundle(tmp_path_factory.mktemp("jobs") / "bundle")


@pytest.fixture
def predictor(bundle):
    with Predictor(bundle, queue_size=64, workers=2) as made:
        yield made


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(workers, "_LOOK_S", 0.05)
    monkeypatch.setattr(workers, "_AGAIN_S", (0.05, 0.1))


def _waiting(site) -> int:
    return workers.backlog(site).waiting


def _predictions(site) -> list[PredictionRow]:
    with site.database.read() as session:
        return list(session.scalars(select(PredictionRow).order_by(PredictionRow.id)))


@on_both
def test_what_is_stored_is_what_predict_says(site, reader, predictor, bundle) -> None:
    case = case_with(site, reader, 3)
    with ImageWorkers(site, predictor) as work:
        until(lambda: not _waiting(site))
        assert work.health().ok
    found = {p.image_id: p for p in _predictions(site)}
    assert len(found) == 3
    for image in rows(site, case.number):
        data = site.image_store.get(image.sha256)
        said, kept = predictor.predict([data])[0], found[image.id]
        assert (image.state, image.reason) == ("done", "")
        assert (kept.label, kept.bethesda, kept.quality) == (said.label, said.bethesda, said.quality)
        assert kept.p_abnormal == pytest.approx(said.p_abnormal)
        assert list(kept.probabilities) == list(CLASSES)
        assert list(kept.probabilities.values()) == pytest.approx(said.probabilities)
        assert (kept.model_sha256, kept.operating_point) == (bundle.graph_sha256, 0.3)
        measured = dict(zip(morphology.NAMES, morphology.measure(decoding.decode(data)), strict=True))
        assert kept.morphology == pytest.approx(measured, abs=1e-5)
    with site.database.read() as session:
        last = session.scalars(select(AuditRow).where(AuditRow.action == "images.predicted")).all()
    assert sum(row.detail["answered"] for row in last) == 3
    assert {(row.actor, row.subject) for row in last} == {("system", case.number)}


def test_a_picture_that_comes_while_it_works_is_answered_too(site, reader, predictor) -> None:
    with ImageWorkers(site, predictor) as work:
        case = case_with(site, reader, 2)
        work.wake()
        until(lambda: cases.get(site, reader, case.number).done == 2)


@on_both
def test_one_bad_picture_fails_with_its_reason_and_the_others_go_on(site, reader, predictor) -> None:
    case = case_with(site, reader, 4)
    damaged, lost = rows(site, case.number)[:2]
    path = site.image_store.folder / damaged.sha256[:2] / damaged.sha256
    path.write_bytes(path.read_bytes()[:-40])
    site.image_store.delete(lost.sha256)
    with ImageWorkers(site, predictor):
        until(lambda: not _waiting(site))
    found = rows(site, case.number)
    assert [i.state for i in found] == ["failed", "failed", "done", "done"]
    assert "changed or damaged" in found[0].reason
    assert "not in the store" in found[1].reason
    assert str(site.data_dir) not in found[0].reason + found[1].reason
    assert len(_predictions(site)) == 2


def test_without_a_model_pictures_wait_and_health_says_why(site, reader, caplog) -> None:
    case_with(site, reader, 2)
    with caplog.at_level(logging.ERROR, "cervicyte.web"), ImageWorkers(site, None, "the bundle is damaged") as work:
        time.sleep(0.2)
        assert work.health() == workers.WorkerHealth(False, "the bundle is damaged", 0)
    assert _waiting(site) == 2
    assert "the bundle is damaged" in caplog.text


def test_a_model_that_breaks_stops_the_work_and_is_never_guessed_for(site, reader, predictor, monkeypatch) -> None:
    case = case_with(site, reader, 2)
    with ImageWorkers(site, predictor) as work:
        until(lambda: not _waiting(site))

        def broken(batch):
            raise BundleError("the bundle's graph does not give a probability", "nan", "do not use this bundle")

        monkeypatch.setattr(predictor._extractor, "run", broken)
        intake.upload(site, reader, case.number, [(f"{i}.png", picture(20 + i)) for i in range(3)])
        until(lambda: not work.health().ok)
        assert "the model has failed" in work.health().problem
    assert _waiting(site) == 3
    assert len(_predictions(site)) == 2
    monkeypatch.undo()
    with ImageWorkers(site, predictor):  # mended, it goes on where it was
        until(lambda: not _waiting(site))
    assert len(_predictions(site)) == 5


@pytest.mark.parametrize("fault", [RuntimeError("the engine is odd"), BundleError("no probability", "nan", "do not")])
def test_one_picture_that_the_engine_cannot_take_stops_no_other(site, reader, predictor, monkeypatch, fault) -> None:
    case = case_with(site, reader, 5)
    bad = rows(site, case.number)[2]
    odd = predictor._extractor.prepare(decoding.decode(site.image_store.get(bad.sha256)))
    run = predictor._extractor.run

    def some(batch):
        if any((row == odd).all() for row in batch):
            raise fault
        return run(batch)

    monkeypatch.setattr(predictor._extractor, "run", some)
    with ImageWorkers(site, predictor) as work:
        until(lambda: not _waiting(site))
        assert work.health().ok
    assert [i.state for i in rows(site, case.number)] == ["done", "done", "failed", "done", "done"]


def test_a_full_disk_or_a_locked_database_costs_time_and_nothing_else(
    site, reader, predictor, monkeypatch, caplog
) -> None:
    case_with(site, reader, 3)
    faults = [
        StorageError("the disk of the database is full", "x", "free some space"),
        StorageError("the database is busy", "x", "try again"),
    ] * 2
    store = answers.store

    def full(*args):
        if faults:
            raise faults.pop()
        return store(*args)

    monkeypatch.setattr(workers, "store", full)
    with caplog.at_level(logging.WARNING, "cervicyte.web"), ImageWorkers(site, predictor, threads=1) as work:
        until(lambda: not work.health().ok)
        until(lambda: not _waiting(site))
        until(lambda: work.health().ok)
    assert len(_predictions(site)) == 3
    assert "the disk of the database is full" in caplog.text
    assert "worked on again" in caplog.text


def test_a_database_that_cannot_be_read_is_waited_for(site, reader, predictor, monkeypatch) -> None:
    case_with(site, reader, 1)
    read = Database.read
    faults = [1, 2]

    @contextlib.contextmanager
    def sometimes(self):
        if faults:
            faults.pop()
            with self._trouble():
                raise exc.OperationalError("SELECT", {}, Exception("disk I/O error"))
        with read(self) as session:
            yield session

    monkeypatch.setattr(Database, "read", sometimes)
    with ImageWorkers(site, predictor, threads=1):
        until(lambda: not faults and not _waiting(site))


def test_a_vault_that_cannot_be_read_now_lets_the_picture_wait(site, reader, predictor, monkeypatch) -> None:
    case = case_with(site, reader, 3)
    monkeypatch.setattr(workers, "_ASIDE_S", 0.3)
    first = rows(site, case.number)[0]
    read = Path.read_bytes
    again = []

    def refused(path):
        if path.name == first.sha256 and len(again) < 2:
            again.append(path)
            raise OSError(5, "Input/output error")
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    with ImageWorkers(site, predictor) as work:
        until(lambda: _waiting(site) == 1)
        assert "Input/output error" in work.health().problem
        until(lambda: not _waiting(site))
        until(lambda: work.health().ok)
    assert {i.state for i in rows(site, case.number)} == {"done"}


def test_a_bug_in_the_work_loses_no_picture(site, reader, predictor, monkeypatch) -> None:
    case_with(site, reader, 2)
    monkeypatch.setattr(workers, "_ASIDE_S", 0.3)
    measured = answers.measured
    once = [1]

    def odd(data):
        if once:
            once.pop()
            raise SystemError("never seen before")
        return measured(data)

    monkeypatch.setattr(workers, "measured", odd)
    with ImageWorkers(site, predictor, threads=1):
        until(lambda: not _waiting(site))
    assert len(_predictions(site)) == 2


def test_a_busy_desk_is_asked_again(site, reader, predictor, monkeypatch) -> None:
    case_with(site, reader, 3)
    submit = predictor.submit
    busy = [1, 2]

    def sometimes(sources):
        if busy:
            busy.pop()
            raise BusyError("the queue is full", "256", 0)
        return submit(sources)

    monkeypatch.setattr(predictor, "submit", sometimes)
    with ImageWorkers(site, predictor):
        until(lambda: not _waiting(site))


def test_more_than_the_desk_ever_holds_goes_by_one(site, reader, bundle) -> None:
    case_with(site, reader, 5)
    with Predictor(bundle, queue_size=2, workers=1) as small, ImageWorkers(site, small, threads=1):
        until(lambda: not _waiting(site))
    assert len(_predictions(site)) == 5


@on_both
def test_a_case_deleted_meanwhile_gets_no_row(site, reader, predictor, monkeypatch) -> None:
    case, kept = case_with(site, reader, 2), case_with(site, reader, 2, first=10)
    store = answers.store

    def late(*args):
        with contextlib.suppress(NotFoundError):
            deletion.delete(site, reader, case.number, case.number)
        return store(*args)

    monkeypatch.setattr(workers, "store", late)
    with ImageWorkers(site, predictor, threads=1):
        until(lambda: not _waiting(site))
    assert {p.image_id for p in _predictions(site)} == {i.id for i in rows(site, kept.number)}


@on_both
def test_a_small_case_does_not_wait_for_a_large_one(site, reader, predictor, monkeypatch) -> None:
    monkeypatch.setattr(workers, "_AT_ONCE", 4)
    large = case_with(site, reader, 12)
    small = case_with(site, reader, 2, first=50)
    work = ImageWorkers(site, predictor)
    taken = work._take()
    assert sorted(i.case_id for i in taken) == sorted([large.id, small.id] * 2)


@on_both
def test_stopping_stores_what_is_in_hand_and_leaves_the_rest(site, reader, predictor, monkeypatch) -> None:
    monkeypatch.setattr(workers, "_AT_ONCE", 4)
    case_with(site, reader, 20)
    work = ImageWorkers(site, predictor, threads=1)
    work.start()
    until(lambda: work.health().working)
    work.stop()
    assert work.health().working == 0
    done = len(_predictions(site))
    assert done % 4 == 0
    assert done + _waiting(site) == 20
    with ImageWorkers(site, predictor):
        until(lambda: not _waiting(site))
    assert len(_predictions(site)) == 20


@pytest.mark.slow
def test_what_a_kill_interrupts_is_taken_again(site, reader, bundle) -> None:
    case = case_with(site, reader, 60)
    program = (
        "import sys, time\n"
        "from pathlib import Path\n"
        "sys.path.insert(0, sys.argv[1])\n"
        "from cervicyte.bundle.folder import Bundle\n"
        "from cervicyte.web.engine import workers\n"
        "from cervicyte.web.engine.predictor import Predictor\n"
        "from support.web.site import make_site\n"
        "workers._AT_ONCE = 5\n"
        "site, bundle = make_site(Path(sys.argv[2])), Bundle.load(sys.argv[3])\n"
        "with Predictor(bundle) as predictor, workers.ImageWorkers(site, predictor):\n"
        "    print('at work', flush=True)\n"
        "    time.sleep(120)\n"
    )
    command = [sys.executable, "-c", program, str(HERE), str(site.data_dir), str(bundle.folder)]
    before = 0
    for _ in range(2):
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"CERVICYTE_DATABASE_URL": ""})
        try:
            until(lambda: len(_predictions(site)) > before, 60)  # noqa: B023  read in this turn
        finally:
            worker.send_signal(signal.SIGKILL)
            worker.communicate()
        before = len(_predictions(site))
    with site.database.read() as session:
        done = session.scalar(select(func.count()).where(Image.state == "done"))
        assert session.connection().exec_driver_sql("PRAGMA integrity_check").scalar() == "ok"
    assert done == before
    assert 0 < before < 60
    with Predictor(bundle) as predictor, ImageWorkers(site, predictor):
        until(lambda: not _waiting(site))
    found = [p.image_id for p in _predictions(site)]
    assert sorted(found) == sorted(i.id for i in rows(site, case.number))
    assert site.audit_log.verify(site.database).ok


@on_both
def test_the_backlog_counts_what_is_left(site, reader, predictor) -> None:
    assert workers.backlog(site) == workers.Backlog(0, 0, 0, None)
    case_with(site, reader, 2)
    assert workers.backlog(site, working=1) == workers.Backlog(2, 0, 1, site.clock())


def test_a_trained_bundle_answers_for_what_was_uploaded(trained, site, reader) -> None:
    case_with(site, reader, 3)
    with Predictor(Bundle.load(trained.bundle)) as predictor, ImageWorkers(site, predictor):
        until(lambda: not _waiting(site))
    assert all(p.label for p in _predictions(site))
