"""An installation of the web application for tests: a cheap hasher, a clock that tests set, mails that are kept."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cervicyte.web.base.credentials import Hasher
from cervicyte.web.base.mail import Mailer, Message
from cervicyte.web.base.schema import User
from cervicyte.web.base.site import Site, open_site

PASSWORD = "seven green lamps at noon"
OTHER = "a quiet harbour in winter"
HERE = "192.0.2.1"


class Clock:
    """A clock that stands still until a test moves it."""

    def __init__(self) -> None:
        self.at = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at

    def forward(self, **by: float) -> None:
        self.at += timedelta(**by)


class Outbox(Mailer):
    """A mailer whose server is a list."""

    def __init__(self) -> None:
        super().__init__("smtp://mail.example", "lab@lab.example")
        self.sent: list[Message] = []

    def send(self, message: Message) -> None:
        self._compose(message)  # what a true server would never be given is refused here too
        self.sent.append(message)

    post = send

    def code(self) -> str:
        """The code in the last mail."""
        found = re.search(r"code is (\S+)", self.sent[-1].text)
        assert found
        return found[1]


def cheap() -> Hasher:
    """Argon2id at its least cost."""
    return Hasher(time_cost=1, memory_kib=8, parallelism=1)


def make_site(folder: Path, mail: bool = True, registration: str = "closed", url: str = "") -> Site:
    """A new installation in a folder, SQLite unless an address is given."""
    mailer = Outbox() if mail else Mailer()
    site = open_site(folder, database_url=url, hasher=cheap(), mailer=mailer, clock=Clock())
    return replace(site, registration=registration, public_url="https://lab.example")


def make_user(site: Site, email: str = "first@lab.example", role: str = "reader", password: str = PASSWORD) -> User:
    """A user with a password."""
    from cervicyte.web.accounts import users

    with site.database.write() as session:
        return users.create(session, site, email, "", role, site.hasher.hash(password))
