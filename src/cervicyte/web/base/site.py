"""What every part of the application shares: where it keeps things, who writes the audit log, and what time it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path

from sqlalchemy.engine import URL

from cervicyte import settings
from cervicyte.base.files import storage_errors
from cervicyte.errors import UsageError
from cervicyte.web.base import rate_limits
from cervicyte.web.base.audit_log import HEADS, AuditLog
from cervicyte.web.base.audit_log_batches import Recorder
from cervicyte.web.base.credentials import Hasher
from cervicyte.web.base.database import FILE, Database
from cervicyte.web.base.image_store import ImageStore
from cervicyte.web.base.mail import Mailer
from cervicyte.web.base.schema import now


@dataclass(frozen=True, kw_only=True)
class Site:
    """One installation of the web application; functions of `accounts`, `entry` and the like take it first.

    Attributes
    ----------
    data_dir : for its owner alone: the SQLite database, the images and the heads of the audit log
    registration : closed, invitation or open
    public_url : the address that its users type, without a slash at the end; links in mails begin with it
    session_hours : hours after which a sign-in ends
    clock : the time, aware; tests set it
    """

    data_dir: Path
    database: Database
    image_store: ImageStore
    audit_log: AuditLog
    hasher: Hasher
    mailer: Mailer
    registration: str = "closed"
    public_url: str = "http://127.0.0.1:8000"
    session_hours: int = 12
    clock: Callable[[], datetime] = now

    @cached_property
    def recorder(self) -> Recorder:
        """Writes rows of the audit log that stand alone."""
        return Recorder(self.database, self.audit_log)

    def link(self, page: str, token: str = "") -> str:
        """The address of a page, from the setting and never from what a browser claims.

        A token goes into the path, where no form and no search can repeat it.
        """
        return "/".join(part for part in (self.public_url.rstrip("/"), page, token) if part)


def open_site(
    data_dir: Path | None = None,
    *,
    database_url: str | None = None,
    hasher: Hasher | None = None,
    mailer: Mailer | None = None,
    clock: Callable[[], datetime] = now,
) -> Site:
    """Open an installation as the settings say, with its tables up to date; what is given goes before the settings.

    Raises
    ------
    UsageError : a setting cannot be used
    StorageError : the folder cannot be written, or the database is busy, damaged or not reachable
    """
    folder = (data_dir or settings.get_path("data_dir")).absolute()
    public_url = settings.get_str("public_url")
    if not public_url.startswith(("http://", "https://")):
        raise UsageError(
            "CERVICYTE_PUBLIC_URL must begin with https:// or http://", repr(public_url), "write it as users type it"
        )
    url = settings.get_str("database_url") if database_url is None else database_url
    if mailer is None:
        mailer = Mailer(settings.get_str("smtp_url"), settings.get_str("mail_from"))
    with storage_errors(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    site = Site(
        data_dir=folder,
        database=Database(url or URL.create("sqlite", database=str(folder / FILE))),
        image_store=ImageStore(folder / "images"),
        audit_log=AuditLog(folder / HEADS),
        hasher=hasher or Hasher(),
        mailer=mailer,
        registration=settings.get_str("registration"),
        public_url=public_url.rstrip("/"),
        session_hours=settings.get_int("session_hours"),
        clock=clock,
    )
    site.database.upgrade()
    rate_limits.prune(site.database, site.clock())
    return site
