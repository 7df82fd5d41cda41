"""Rows of the audit log that many threads add at once: few transactions, one chain, nobody told before it is stored."""

from __future__ import annotations

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'web' is not installed")

from sqlalchemy import select

from cervicyte.errors import StorageError, UsageError
from cervicyte.web.base.audit_log import AuditLog, entry
from cervicyte.web.base.schema import AuditRow
from support.web.databases import on_both

N = 8


class Door:
    """Stands before the audit log: lets the first transaction wait while others come, and counts the rows of each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.entered, self.open = threading.Event(), threading.Event()
        self.groups: list[int] = []
        self.fault: Exception | None = None  # of every transaction but the first, when its rows are written
        extend = AuditLog.extend

        def held(audit_log: AuditLog, session, entries) -> None:
            self.groups.append(len(entries))
            first = len(self.groups) == 1
            self.entered.set()
            assert self.open.wait(20)
            extend(audit_log, session, entries)
            if self.fault is not None and not first:
                raise self.fault

        monkeypatch.setattr(AuditLog, "extend", held)


@pytest.fixture
def door(monkeypatch):
    return Door(monkeypatch)


def _subjects(site) -> list[str]:
    with site.database.read() as session:
        return list(session.scalars(select(AuditRow.subject).order_by(AuditRow.id)))


def _crowd(site, door) -> list[Future[list[str]]]:
    """One thread writes a row, and meanwhile all others come with theirs; what each saw stored when it came back."""

    def add(number: int) -> list[str]:
        coming.release()
        site.recorder.add(entry("first@lab.example", "picture.predicted", f"picture {number}", {"n": number}))
        return _subjects(site)

    coming = threading.Semaphore(0)
    with ThreadPoolExecutor(N) as pool:
        found = [pool.submit(add, 0)]
        assert door.entered.wait(20)
        found += [pool.submit(add, number) for number in range(1, N)]
        for _ in range(N):
            assert coming.acquire(timeout=20)
        time.sleep(0.2)
        assert not any(future.done() for future in found)
        door.open.set()
    return found


@on_both
def test_rows_that_come_while_one_is_written_are_written_together_and_each_is_there_when_its_thread_goes_on(
    site, door
) -> None:
    found = _crowd(site, door)
    for number, future in enumerate(found):
        assert f"picture {number}" in future.result()
    assert sorted(_subjects(site)) == sorted(f"picture {number}" for number in range(N))
    assert (door.groups[0], sum(door.groups)) == (1, N)
    assert len(door.groups) < N
    checked = site.audit_log.verify(site.database)
    assert (checked.ok, checked.rows) == (True, N)
    noted = site.audit_log.heads.read_text().split("\n")
    assert [line.split(" ")[0] for line in noted if line] == [str(number + 1) for number in range(N)]


def test_a_database_that_fails_fails_all_that_wait_stores_none_of_them_and_the_next_row_is_written(site, door) -> None:
    door.fault = StorageError("the disk of the database is full", "here", "free some space")
    first, *others = _crowd(site, door)
    assert first.result() == ["picture 0"]
    errors = [future.exception() for future in others]
    assert all(isinstance(e, StorageError) and e.what == "the disk of the database is full" for e in errors)
    assert len({id(e) for e in errors}) == len(others), "two threads must not raise the same exception"
    assert _subjects(site) == ["picture 0"]
    door.fault = None
    site.recorder.add(entry("first@lab.example", "picture.predicted", "after"))
    assert _subjects(site) == ["picture 0", "after"]
    checked = site.audit_log.verify(site.database)
    assert (checked.ok, checked.rows) == (True, 2)


def test_a_row_that_cannot_be_written_down_fails_alone(site) -> None:
    with pytest.raises(UsageError, match="JSON"):
        site.recorder.add(entry("a", "b", detail={"x": float("nan")}))
    site.recorder.add(entry("a", "b", "c"))
    assert _subjects(site) == ["c"]


def test_threads_that_record_and_threads_that_change_things_make_one_chain(site) -> None:
    def change(number: int) -> None:
        with site.database.write() as session:
            site.audit_log.append(session, "a", "case.opened", f"case {number}")

    with ThreadPoolExecutor(N) as pool:
        acts = [pool.submit(change, i) for i in range(20)]
        acts += [pool.submit(site.recorder.add, entry("a", "picture.predicted", f"picture {i}")) for i in range(60)]
        for act in acts:
            act.result()
    checked = site.audit_log.verify(site.database)
    assert (checked.ok, checked.rows) == (True, 80)
