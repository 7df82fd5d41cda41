"""The audit log: who did what and when, chained by SHA-256 so that a change of the past shows.

Each row's hash covers all its fields and the hash of the row before it. How many rows there are, and the last hash,
is kept twice more: in a table of one row, and as a line added to a file beside the database for every row. So a row
that was changed, taken out, put in or cut off the end shows, and so does a chain that was computed anew, as long as
the file was not rewritten too: keep a copy of it where the server cannot write.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.orm import Session

from cervicyte.base.files import printable
from cervicyte.errors import UsageError
from cervicyte.web.base.database import Database, after_commit, lock
from cervicyte.web.base.schema import AuditHead, AuditRow, Base, now

HEADS = "audit-heads.txt"
#: What the first row has for the hash of the row before it.
START = "0" * 64

#: What a row says, before it has its place in the chain.
Entry = Mapping[str, Any]

#: What a row's hash covers.
_HASHED = ("id", "at", "actor", "action", "subject", "detail", "previous")
# Every answer and every change comes by here: built once, these take a third of the time of session.get and add.
_ROW, _HEAD = (Base.metadata.tables[kind.__tablename__] for kind in (AuditRow, AuditHead))
_LAST = select(_HEAD.c.rows, _HEAD.c.hash).where(_HEAD.c.id == 1)
_ADD, _BEGIN = insert(_ROW), insert(_HEAD)
_MOVE = update(_HEAD).where(_HEAD.c.id == 1).values(rows=bindparam("to_rows"), hash=bindparam("to_hash"))
_LINE = re.compile(r"([1-9][0-9]*) ([0-9a-f]{64})", re.ASCII)
_log = logging.getLogger("cervicyte.web")


@dataclass(frozen=True)
class Verification:
    """What a check of the audit log found.

    Attributes
    ----------
    rows : rows that were read
    broken : number of the first row that is not as it was written or is missing; None where all is well
    problem : what is wrong with it, in words; empty where all is well
    head : hash of the last row that was read
    """

    rows: int
    broken: int | None = None
    problem: str = ""
    head: str = START

    @property
    def ok(self) -> bool:
        """True where every row is as it was written and none is missing."""
        return self.broken is None


@dataclass(frozen=True)
class AuditLog:
    """The audit log; ``heads`` is the file with every row's number and hash."""

    heads: Path

    def append(
        self,
        session: Session,
        actor: str,
        action: str,
        subject: str = "",
        detail: Mapping[str, Any] | None = None,
        at: datetime | None = None,
    ) -> None:
        """Add a row in the caller's transaction of `Database.write`; it is there when the transaction's work is.

        Do it last in a transaction, since other writers wait from here to its end. Parameters are those of `entry`,
        which is what it raises.
        """
        self.extend(session, [entry(actor, action, subject, detail, at)])

    def extend(self, session: Session, entries: Sequence[Entry]) -> None:
        """Add several rows, at least one, in their order; see `append`."""
        session.flush()  # rows first, the one lock of all last: two writers then never wait for each other
        lock(session, "ledger")
        connection = session.connection()
        head = connection.execute(_LAST).one_or_none()
        number, last = head or (0, START)
        rows = []
        for fields in entries:
            number += 1
            row = {"id": number, **fields, "previous": last}
            row["hash"] = last = _hash(row)
            rows.append(row)
        connection.execute(_ADD, rows)
        if head is None:
            connection.execute(_BEGIN, {"id": 1, "rows": number, "hash": last})
        else:
            connection.execute(_MOVE, {"to_rows": number, "to_hash": last})
        after_commit(session, lambda: self._note(rows))

    def verify(self, database: Database) -> Verification:
        """Read all rows and say which is the first that is not as it was written.

        Rows are read in parts; the noted heads are held at once, some 200 bytes for each row.

        Raises
        ------
        StorageError : the database cannot be read
        """
        noted, clash = self._noted()  # before the rows, so that a row added meanwhile is not missed
        with database.read() as session:
            head = session.get(AuditHead, 1)
            count, last = 0, START
            for row in session.scalars(select(AuditRow).order_by(AuditRow.id).execution_options(yield_per=500)):
                expected = count + 1
                problem = _problem(row, expected, last, noted.get(expected))
                if problem:
                    return Verification(count, expected, problem, last)
                count, last = row.id, row.hash
                session.expunge(row)
        known = max([*noted, head.rows if head else 0])
        if known > count:
            return Verification(count, count + 1, f"rows {count + 1} to {known} were cut off", last)
        if (head.rows, head.hash) != (count, last) if head else count:
            return Verification(count, count, "the last row is not the one that was noted", last)
        if clash:
            return Verification(count, clash, f"the file of heads names two hashes for row {clash}", last)
        return Verification(count, head=last)

    def _note(self, rows: Sequence[Entry]) -> None:
        """Add lines to the file of heads in one write, the line feed first, should half a line stand there."""
        try:
            self.heads.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            handle = os.open(self.heads, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
            try:
                os.write(handle, "".join(f"\n{row['id']} {row['hash']}" for row in rows).encode())
            finally:
                os.close(handle)
        except OSError as error:  # what was done is done and is in the log; only this second witness is missing
            _log.error("the head of the audit log could not be noted in %s: %s", self.heads, error.strerror)

    def _noted(self) -> tuple[dict[int, str], int | None]:
        """Number and hash of each noted row, and the first number with two different ones.

        A line that a power cut left half-written is passed over.
        """
        noted: dict[int, str] = {}
        clash = None
        try:
            with self.heads.open(encoding="ascii", errors="replace") as stream:
                for line in stream:
                    if match := _LINE.fullmatch(line.strip()):
                        number, digest = int(match[1]), match[2]
                        if noted.setdefault(number, digest) != digest and clash is None:
                            clash = number
        except FileNotFoundError:
            pass
        return noted, clash


def entry(
    actor: str,
    action: str,
    subject: str = "",
    detail: Mapping[str, Any] | None = None,
    at: datetime | None = None,
) -> Entry:
    """What a row will say.

    Parameters
    ----------
    actor : who: an e-mail address, "system" or "command line"
    action : what, in words with dots, for example "user.disabled"
    subject : to what: an e-mail address, the number of a case
    detail : more, as JSON; never a password, a token or a code
    at : when; now where it is left out

    Raises
    ------
    UsageError : the detail is not JSON
    """
    return {
        "at": (at or now()).astimezone(UTC),
        "actor": _clean(actor, 254),
        "action": _clean(action, 60),
        "subject": _clean(subject, 500),
        "detail": _plain(detail or {}),
    }


def _problem(row: AuditRow, expected: int, previous: str, noted: str | None) -> str:
    if row.id != expected:
        return f"row {expected} is missing"
    if row.previous != previous:
        return f"row {expected} does not follow the row before it"
    if row.hash != _hash({name: getattr(row, name) for name in _HASHED}):
        return f"row {expected} was changed"
    if noted is not None and noted != row.hash:
        return f"row {expected} is not the one that was noted when it was written"
    return ""


def _hash(row: Entry) -> str:
    """SHA-256 of all fields as canonical JSON: sorted keys, no spaces, ASCII, UTC to the microsecond."""
    fields = {name: row[name] for name in _HASHED}
    fields["at"] = fields["at"].astimezone(UTC).isoformat(timespec="microseconds")
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _clean(text: str, most: int) -> str:
    """Text that every database takes and gives back as it was."""
    return printable(text).replace("\x00", "\\x00")[:most]


def _plain(detail: Mapping[str, Any]) -> dict[str, Any]:
    """The detail as it will be read back: JSON and nothing else."""
    try:
        value = json.loads(json.dumps(dict(detail), allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UsageError("the detail of an audit row must be JSON", str(error), "use text, numbers and lists") from None
    assert isinstance(value, dict)
    return value
