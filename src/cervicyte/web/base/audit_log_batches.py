"""Rows of the audit log that stand alone, those of all threads that wait in one transaction.

A transaction costs the same for one row as for thirty. So one thread at a time writes, and takes what the others have
brought meanwhile; each comes back when its own row is stored, and not before.
"""

from __future__ import annotations

import threading
from concurrent.futures import Future

from cervicyte.errors import StorageError
from cervicyte.web.base.audit_log import AuditLog, Entry
from cervicyte.web.base.database import Database


class _Waiting:
    """A row that is not stored yet, and what its thread is told: True to write for all that wait, False when stored."""

    def __init__(self, row: Entry) -> None:
        self.row = row
        self.turn: Future[bool] = Future()


class Recorder:
    """Adds rows to a database's audit log; `add` may be called from any thread, and not within `Database.write`."""

    def __init__(self, database: Database, audit_log: AuditLog) -> None:
        self._database = database
        self._audit_log = audit_log
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []
        self._writing = False

    def add(self, row: Entry) -> None:
        """Store a row that `cervicyte.web.base.audit_log.entry` made, and come back when it is stored.

        Raises
        ------
        StorageError : as `Database.write`; neither this row nor any that was to be written with it is stored
        """
        waiting = _Waiting(row)
        with self._lock:
            self._waiting.append(waiting)
            first = not self._writing
            self._writing = True
        if first or waiting.turn.result():
            self._write()

    def _write(self) -> None:
        """Store the rows of all that wait, of whom the caller is the first, and give the next one the turn."""
        with self._lock:
            group, self._waiting = self._waiting, []
        error: BaseException | None = None
        try:
            with self._database.write() as session:
                self._audit_log.extend(session, [one.row for one in group])
        except BaseException as raised:
            error = raised
            raise
        finally:
            with self._lock:
                following = self._waiting[:1]
                self._writing = bool(following)
            for one in following:
                one.turn.set_result(True)
            for one in group[1:]:
                if error is None:
                    one.turn.set_result(False)
                else:
                    one.turn.set_exception(_for_another(error))


def _for_another(error: BaseException) -> StorageError:
    """What a thread is told whose row was to be written with that of another, which failed; no two share an error."""
    problem = StorageError("the audit log could not be written", repr(error), "try again")
    if isinstance(error, StorageError):
        problem = StorageError(error.what, error.received, error.todo)
    problem.__cause__ = error
    return problem
