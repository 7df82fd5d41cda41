"""Many pictures in one request: one case, however often and when it is sent, and none that a kill left empty."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

pytest.importorskip("sqlalchemy", reason="the extra 'web' is not installed")

from cervicyte.errors import StorageError
from cervicyte.web.cases import cases, deletion, listing as case_list
from cervicyte.web.cases.submissions import submit
from cervicyte.web.errors import InvalidFieldError
from support.web.cases import picture, rows
from support.web.databases import on_both

HERE = Path(__file__).parent
FILES = [(f"{i}.png", picture(i)) for i in range(3)]


def _numbers(site, user) -> list[str]:
    return [case.number for case in case_list.listing(site, user).rows]


@on_both
def test_the_same_request_at_the_same_time_makes_one_case(site, reader, monkeypatch) -> None:
    barrier, put = threading.Barrier(4), type(site.image_store).put

    def together(image_store, data):
        if data == FILES[0][1]:
            barrier.wait(20)  # all of them are at work before any has stored its case
        return put(image_store, data)

    monkeypatch.setattr(type(site.image_store), "put", together)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(submit(site, reader, FILES, "A 1", key="same"))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (number,) = _numbers(site, reader)
    assert [(made.number, made.receipt.accepted) for made in found] == [(number, 3)] * 4
    assert [row.position for row in rows(site, number)] == [1, 2, 3]
    assert site.audit_log.verify(site.database).ok


#: Where a process is killed: while it stores the second picture; when the case and its pictures are about to be stored.
KILLS = {
    "between two pictures": """
put = ImageStore.put
ImageStore.put = lambda image_store, data: kill() if data == FILES[1][1] else put(image_store, data)
""",
    "before the transaction ends": """
append = AuditLog.append
AuditLog.append = lambda *a, **k: kill() if a[3] == "images.uploaded" else append(*a, **k)
""",
}

_SENDER = """
import os, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from cervicyte.web.accounts import users as accounts
from cervicyte.web.base.audit_log import AuditLog
from cervicyte.web.cases.submissions import submit
from cervicyte.web.base.image_store import ImageStore
from test_submissions import FILES
from support.web.site import make_site

def kill():
    os.kill(os.getpid(), signal.SIGKILL)

site = make_site(Path(sys.argv[2]))
with site.database.read() as session:
    user = accounts.find(session, sys.argv[3])
exec(sys.argv[4])
submit(site, user, FILES, key=sys.argv[5])
"""


@pytest.mark.parametrize("where", KILLS)
def test_a_kill_leaves_no_empty_case_and_the_same_request_makes_one(site, reader, where) -> None:
    for key in ("", "k-1"):
        arguments = [HERE, site.data_dir, reader.id, KILLS[where], key]
        done = subprocess.run([sys.executable, "-c", _SENDER, *map(str, arguments)], check=False, timeout=60)
        assert done.returncode == -signal.SIGKILL
        assert _numbers(site, reader) == []
    made = submit(site, reader, FILES, key="k-1")
    assert submit(site, reader, FILES, key="k-1") == made
    assert _numbers(site, reader) == [made.number]
    assert len(rows(site, made.number)) == 3
    deletion.drop_orphans(site, older_s=-10)
    assert set(site.image_store.digests()) == {row.sha256 for row in rows(site, made.number)}
    assert site.audit_log.verify(site.database).ok


def test_what_breaks_off_or_cannot_be_used_makes_no_case_and_is_not_in_the_log(site, reader, monkeypatch) -> None:
    before = site.audit_log.verify(site.database).rows
    assert submit(site, reader, [("x.png", b"no")], key="k").number == ""

    def full(*_: object) -> str:
        raise StorageError("cannot write: no space left on device", "disk", "free some space")

    with monkeypatch.context() as patch:
        patch.setattr(type(site.image_store), "put", full)
        with pytest.raises(StorageError):
            submit(site, reader, FILES, key="k")
    with pytest.raises(InvalidFieldError):
        submit(site, reader, FILES, "x" * (cases.ACCESSION_LENGTH + 1), key="k")
    assert _numbers(site, reader) == []
    assert site.audit_log.verify(site.database).rows == before
    assert submit(site, reader, FILES, key="k").receipt.accepted == 3
