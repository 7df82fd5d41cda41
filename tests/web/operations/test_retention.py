"""Retention, backup and restore, end to end."""

from __future__ import annotations

import io
import sqlite3
import stat
import tarfile
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cervicyte.cli.site import site as commands
from cervicyte.errors import MissingError, StorageError
from cervicyte.web.accounts import sessions
from cervicyte.web.base.schema import AuditRow, Case, User
from cervicyte.web.base.site import Site
from cervicyte.web.cases import cases, deletion, permissions
from cervicyte.web.errors import DeniedError, InvalidFieldError
from cervicyte.web.operations import backup, restore as restoring, retention
from cervicyte.web.reading import verdicts
from cervicyte.web.reports import reports
from support.web.databases import on_both
from support.web.records import make_case, png
from support.web.site import PASSWORD, Clock, make_site, make_user


def _signed(site: Site, reviewer: User, scores: list[float | None]) -> str:
    case, ids = make_case(site, reviewer, scores)
    verdicts.decide(site, reviewer, ids[0], "HSIL")
    reports.sign(site, reviewer, case.number, "High grade.")
    return case.number


@on_both
def test_retention_deletes_signed_cases_alone_and_the_audit_log_keeps_that_they_were(
    site: Site, reviewer: User
) -> None:
    clock = site.clock
    assert isinstance(clock, Clock)
    admin = make_user(site, "admin@lab.example", "administrator")
    with pytest.raises(DeniedError):
        retention.set_retention(site, reviewer, 10)
    with pytest.raises(InvalidFieldError):
        retention.set_retention(site, admin, 36501)
    old = _signed(site, reviewer, [0.9, 0.8])
    make_case(site, reviewer, [0.9])  # open, and its picture is one of the signed case too
    clock.forward(days=11)
    new = _signed(site, reviewer, [0.7, 0.6, 0.5])
    assert retention.tidy(site).cases == 0
    retention.set_retention(site, admin, 10)
    found = retention.overview(site)
    assert (found["retention_days"], found["due"]) == (10, 1)
    assert retention.tidy(site).cases == 1
    with site.database.read() as session:
        numbers = set(session.scalars(session.query(Case.number).statement))
        gone = session.query(AuditRow).filter_by(action="case.deleted").one()
        assert (gone.actor, gone.subject, gone.detail["images"]) == ("system", old, 2)
    assert old not in numbers
    assert new in numbers
    assert len(numbers) == 2
    assert len(list(site.image_store.digests())) == 3  # the other cases have the same pictures
    assert site.audit_log.verify(site.database).ok
    assert retention.storage(site).images == sum(len(png(k)) for k in range(3))


@on_both
def test_a_case_that_is_opened_again_while_others_are_deleted_stays(
    site: Site, reviewer: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = site.clock
    assert isinstance(clock, Clock)
    number = _signed(site, reviewer, [0.9])
    clock.forward(days=11)
    retention.set_retention(site, make_user(site, "admin@lab.example", "administrator"), 10)
    erase = deletion.erase

    def meanwhile(*arguments: object) -> int:
        reports.reopen(site, reviewer, number, "a second look")
        return erase(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(deletion, "erase", meanwhile)
    assert retention.tidy(site).cases == 0
    assert cases.get(site, reviewer, number).images == 1


def test_a_backup_is_restored_as_it_was(site: Site, reviewer: User, tmp_path: Path) -> None:
    number = _signed(site, reviewer, [0.9, 0.1])
    signed_in = sessions.sign_in(site, reviewer.email, PASSWORD, "192.0.2.1")
    assert isinstance(signed_in, sessions.SignedIn)
    made = backup.make(site, "admin@lab.example")
    assert (made.images, made.database, made.verified, made.path.parent) == (2, True, True, site.data_dir / "backups")
    assert stat.S_IMODE(made.path.stat().st_mode) == 0o600
    assert [(b.name, b.verified, b.size) for b in backup.listing(site)] == [(made.name, True, made.size)]
    assert not list(made.path.parent.glob(".*"))
    make_case(site, reviewer, [0.5])  # after the backup: not in it
    with pytest.raises(StorageError, match="already"):
        backup.make(site, "admin@lab.example", made.path)
    done = restoring.restore(made.path, tmp_path / "other")
    assert (done.images, done.database, done.at) == (2, True, site.clock())
    assert not list(tmp_path.glob(".*"))
    again = make_site(tmp_path / "other")
    assert again.audit_log.verify(again.database).ok
    with again.database.read() as session:
        view = reports.view(session, reviewer, number, again.clock())
        assert (view.problem, view.conclusion) == ("", "High grade.")
        assert session.query(Case).count() == 1
    assert [again.image_store.get(c.sha256) for c in view.cells] == [png(0), png(1)]
    assert sessions.load(again, signed_in.token) is None
    assert isinstance(sessions.sign_in(again, reviewer.email, PASSWORD, "192.0.2.1"), sessions.SignedIn)
    with pytest.raises(StorageError, match="not empty"):
        restoring.restore(made.path, tmp_path / "other")


def _rewritten(path: Path, to: Path, change: dict[str, bytes | None]) -> Path:
    """A copy of an archive in which some members are others, or left out."""
    with tarfile.open(path) as old, tarfile.open(to, "w") as new:
        for member in old:
            data = change.get(member.name, old.extractfile(member).read())  # type: ignore[union-attr]
            if data is not None:
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
    return to


def test_a_backup_that_is_not_whole_is_refused_and_nothing_is_written(
    site: Site, reviewer: User, tmp_path: Path
) -> None:
    _signed(site, reviewer, [0.9])
    path = backup.make(site, "system").path
    with tarfile.open(path) as archive:
        names = archive.getnames()
    image = next(name for name in names if name.startswith("images/"))
    bad = [
        _rewritten(path, tmp_path / f"{k}.tar", change)
        for k, change in enumerate(
            (
                {image: png(7)},
                {image: None},
                {"database.sqlite3": b"x"},
                {"audit-heads.txt": b""},
                {"manifest.json": None},
                {"manifest.json": b"{}"},
                {"manifest.json": b'{"format": 99}'},
            )
        )
    ]
    whole = path.read_bytes()
    for k, data in enumerate((b"", b"no archive", whole[: len(whole) // 2], whole[:1000])):
        (tmp_path / f"cut{k}.tar").write_bytes(data)
        bad.append(tmp_path / f"cut{k}.tar")
    for name, kind in (("../escape", tarfile.REGTYPE), ("images/link", tarfile.SYMTYPE)):
        with tarfile.open(tmp_path / f"{kind.decode()}.tar", "w") as archive:
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info, io.BytesIO())
        bad.append(tmp_path / f"{kind.decode()}.tar")
    before = sorted(tmp_path.iterdir())
    for file in bad:
        with pytest.raises(StorageError):
            restoring.restore(file, tmp_path / "new")
    with pytest.raises(MissingError):
        restoring.restore(tmp_path / "none.tar", tmp_path / "new")
    assert sorted(tmp_path.iterdir()) == before


def test_a_backup_of_a_log_that_was_changed_is_not_restored(site: Site, reviewer: User, tmp_path: Path) -> None:
    _signed(site, reviewer, [0.9])
    with sqlite3.connect(site.data_dir / "cervicyte.sqlite3") as connection:
        connection.execute("UPDATE audit SET actor = 'nobody' WHERE id = 2")
    made = backup.make(site, "system")
    with pytest.raises(StorageError, match="audit log"):
        restoring.restore(made.path, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_picture_that_is_missing_stops_the_backup(site: Site, reviewer: User) -> None:
    make_case(site, reviewer, [0.9])
    site.image_store.delete(next(site.image_store.digests()))
    with pytest.raises(MissingError):
        backup.make(site, "system")
    assert backup.listing(site) == []
    assert not list((site.data_dir / "backups").iterdir())


def test_the_commands_back_up_restore_and_clear_out(
    site: Site, reviewer: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    number = _signed(site, reviewer, [0.9])
    run = CliRunner()
    monkeypatch.setenv("CERVICYTE_DATA_DIR", str(site.data_dir))
    monkeypatch.setenv("CERVICYTE_RETENTION_DAYS", "1")
    done = run.invoke(commands, ["backup", str(tmp_path / "saved.tar")], catch_exceptions=False)
    assert done.exit_code == 0
    assert "1 images" in done.output
    done = run.invoke(commands, ["retention"], catch_exceptions=False)
    assert "due: 1" in done.output
    done = run.invoke(commands, ["retention", "--delete"], catch_exceptions=False)
    assert "deleted: 1" in done.output
    monkeypatch.setenv("CERVICYTE_DATA_DIR", str(tmp_path / "restored"))
    done = run.invoke(commands, ["restore", str(tmp_path / "saved.tar")], catch_exceptions=False)
    assert done.exit_code == 0
    again = make_site(tmp_path / "restored")
    with again.database.read() as session:
        assert permissions.find(session, reviewer, number).state == "signed"
