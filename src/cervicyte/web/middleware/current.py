"""What is at hand while a request is answered: the running server, who asks, and from where.

`cervicyte.web.middleware.security` fills it in before a view is called; views only read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from flask import current_app, g, request

from cervicyte.errors import CervicyteError
from cervicyte.web.accounts.sessions import SignedIn
from cervicyte.web.base.schema import User
from cervicyte.web.base.site import Site
from cervicyte.web.engine.predictor import Predictor
from cervicyte.web.errors import AddressNotFoundError, StoppedError

_KEY = "cervicyte"


class Health(Protocol):
    """Whether the work on waiting pictures goes on; `cervicyte.web.engine.workers` has more to say."""

    @property
    def ok(self) -> bool:
        """True when nothing is wrong."""
        ...

    @property
    def problem(self) -> str:
        """What is wrong, or nothing."""
        ...

    @property
    def working(self) -> int:
        """Pictures that are being worked on."""
        ...


class Work(Protocol):
    """What pages ask of the persistent work on waiting pictures (`cervicyte.web.engine.workers.ImageWorkers`)."""

    def wake(self) -> None:
        """Say that there is something to do."""
        ...

    def health(self) -> Health:
        """Whether it goes on."""
        ...


@dataclass
class Running:
    """One server process.

    Attributes
    ----------
    site : what is kept
    predictor : the model at work; None where none could be started
    no_predictor : why there is none, for people; None where there is one
    workers : the work on waiting pictures; None in a process that only answers pages
    max_upload_mb : most that one file may hold, in megabytes
    proxies : reverse proxies before this server whose forwarded addresses are believed
    """

    site: Site
    predictor: Predictor | None = None
    no_predictor: CervicyteError | None = None
    workers: Work | None = None
    max_upload_mb: int = 200
    proxies: int = 0

    def model(self) -> Predictor:
        """The model at work.

        Raises
        ------
        StoppedError : there is none; pictures wait until there is
        """
        if self.predictor is None:
            why = self.no_predictor
            raise StoppedError(
                why.what if why else "no model is set up here", None, (why and why.todo) or "ask your administrator"
            )
        return self.predictor


def install(app: Any, running: Running) -> None:
    """Put a server's parts where `running` finds them."""
    app.extensions[_KEY] = running


def running() -> Running:
    """The server that answers this request."""
    running = current_app.extensions[_KEY]
    assert isinstance(running, Running)
    return running


def site() -> Site:
    """What the server keeps."""
    return running().site


def signed_in() -> SignedIn | None:
    """Who is signed in, with the session; None for a visitor, and for a program with a token."""
    session = g.get("signed_in")
    assert session is None or isinstance(session, SignedIn)
    return session


def visitor() -> User | None:
    """Who asks, signed in or with a token; None for anyone else."""
    user = g.get("user")
    assert user is None or isinstance(user, User)
    return user


def user() -> User:
    """Who asks; `cervicyte.web.middleware.security` has seen to it that it is someone."""
    user = visitor()
    if user is None:
        raise AddressNotFoundError
    return user


def session() -> SignedIn:
    """The session of who is signed in, as `user`."""
    session = signed_in()
    if session is None:
        raise AddressNotFoundError
    return session


def address() -> str:
    """The network address that asks; behind proxies that are believed, the one they forward."""
    return request.remote_addr or ""


def wants_json() -> bool:
    """True for programs: the API, and scripts of the pages that say so."""
    if request.path.startswith("/api/"):
        return True
    best = request.accept_mimetypes.best_match(("text/html", "application/json"), "text/html")
    return best == "application/json"
