"""Running the web application: one process with waitress, from the first start's link to a clean end."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import FrameType

import waitress

from cervicyte import settings
from cervicyte.bundle.folder import Bundle
from cervicyte.errors import CervicyteError, UsageError
from cervicyte.web.accounts import registration
from cervicyte.web.app import create_app
from cervicyte.web.base import folder_lock
from cervicyte.web.base.site import Site, open_site
from cervicyte.web.engine.predictor import Predictor
from cervicyte.web.engine.workers import ImageWorkers
from cervicyte.web.middleware.connections import Channel
from cervicyte.web.middleware.current import Running
from cervicyte.web.operations import retention

#: Requests at a time. Most of them wait, for the engine or the database, so there are more than processors; pictures
#: of different users fill one batch only when as many requests are open.
THREADS = 32
#: Seconds that pictures in the engine get to be finished at the end. What is not is done after the next start.
_PATIENCE_S = 20.0
#: A connection that says nothing, or takes nothing of its answer, for so long is closed, so that they cannot take all
#: places; of slow ones `cervicyte.web.middleware.connections` sees to that.
_SILENCE_S, _CONNECTIONS = 60, 1000
#: Bytes that are read at a time: most pictures of a cell come whole.
_READ = 1 << 16
_DAY_S = 24 * 3600.0

_log = logging.getLogger("cervicyte.web")


def serve(
    model: Path | str | None,
    data_dir: Path | None = None,
    host: str = "127.0.0.1",
    port: int = 8000,
    say: Callable[[str], None] = print,
) -> None:
    """Serve until SIGTERM or SIGINT. Without a model that works the pages are there, and pictures wait for one.

    Parameters
    ----------
    model : folder of a bundle or name of one that ships; None is cytonet
    host, port : where to listen; port 0 takes a free one
    say : takes what the person who starts it should read, line by line

    Raises
    ------
    UsageError : a setting, the host or the port cannot be used, or another server works on the data folder
    StorageError : the data folder or the database cannot be used
    """
    settings.check_all()
    _log_to_screen()
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(contextlib.closing(listen(host, port)))
        address = _address(host, listening.getsockname()[1])
        folder = data_dir or settings.get_path("data_dir")
        stack.enter_context(folder_lock.hold(folder))  # before the tables are changed under a server of another version
        site = open_site(folder)
        if "CERVICYTE_PUBLIC_URL" not in os.environ:
            site = replace(site, public_url=address)
        stack.callback(site.database.close)
        stack.callback(site.mailer.wait)
        running = _start(site, model, stack)
        stack.enter_context(_kept_tidy(site))
        if running.no_predictor is not None:
            say(f"No model answers: {running.no_predictor.what}. To do: {running.no_predictor.todo or 'see the log'}.")
            say("Pictures can be uploaded; they wait until the server is started with a model.")
        link = registration.setup_link(site)
        if link is not None:
            say("Nobody has an account yet. This link makes the first administrator; it works once, for a day:")
            say(link)
        for line in _warnings(host, site.public_url):
            say(line)
        say(f"cervicyte serves {site.public_url} from {site.data_dir}; Ctrl+C ends it.")
        _run(running, listening)
        say("Ending: what is begun is finished, the rest goes on at the next start.")


def listen(host: str, port: int) -> socket.socket:
    """A socket at a host and port, so that a second server is refused before anything is loaded.

    Raises
    ------
    UsageError : the port is taken or not allowed, or the host is not of this machine
    """
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        listener = socket.socket(family, kind, protocol)
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(place)
            listener.listen()  # who comes while the model is loaded waits; a second server is refused
        except OSError:
            listener.close()
            raise
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"cannot listen there: {getattr(error, 'strerror', None) or error}",
            f"{host}, port {port}",
            "end what listens there, or choose another --port or --host",
        ) from error
    return listener


def _start(site: Site, model: Path | str | None, stack: contextlib.ExitStack) -> Running:
    """The model and the work on waiting pictures; both end with the stack, the work first."""
    predictor: Predictor | None = None
    problem: CervicyteError | None = None
    try:
        predictor = stack.enter_context(_predictor(Bundle.load(model)))
    except CervicyteError as error:
        problem = error
        _log.error("no model answers: %s", error.one_line)
    workers = ImageWorkers(site, predictor, problem.what if problem else "")
    workers.start()
    stack.callback(workers.stop)
    return Running(
        site=site,
        predictor=predictor,
        no_predictor=problem,
        workers=workers,
        max_upload_mb=settings.get_int("max_upload_mb"),
        proxies=settings.get_int("proxies"),
    )


@contextlib.contextmanager
def _predictor(bundle: Bundle) -> Iterator[Predictor]:
    predictor = Predictor(bundle, queue_size=settings.get_int("queue_size"))
    try:
        yield predictor
    finally:
        predictor.close(_PATIENCE_S)


@contextlib.contextmanager
def _kept_tidy(site: Site) -> Iterator[None]:
    """Every day, beginning now: what has ended, what a kill left, and what retention says is deleted."""
    ending = threading.Event()

    def tidy() -> None:
        while True:
            try:
                retention.tidy(site)
            except CervicyteError as error:
                _log.error("not tidied up: %s", error.one_line)
            except Exception:  # noqa: BLE001  a bug here ends no server
                _log.exception("not tidied up")
            if ending.wait(_DAY_S):
                return

    thread = threading.Thread(target=tidy, name="tidy", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ending.set()
        thread.join(_PATIENCE_S)


def _run(running: Running, listening: socket.socket) -> None:
    app = create_app(running)
    most = app.config["MAX_CONTENT_LENGTH"]
    server = waitress.create_server(
        app,
        sockets=[listening],
        threads=THREADS,
        connection_limit=_CONNECTIONS,
        channel_timeout=_SILENCE_S,
        asyncore_use_poll=True,
        recv_bytes=_READ,
        ident="",
        # What is a little too large is read to its end, for programs that listen only then; the rest is not.
        max_request_body_size=2 * most,
        clear_untrusted_proxy_headers=not running.proxies,
    )
    server.channel_class = Channel
    gc.collect()
    gc.freeze()  # what was loaded lives to the end: no collection need go through it again
    before = signal.signal(signal.SIGTERM, _end)
    try:
        server.run()
    finally:
        signal.signal(signal.SIGTERM, before)
        server.close()


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(0)


def _address(host: str, port: int) -> str:
    """The address to open on this machine; a server that listens everywhere is reached here too."""
    name = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, f"[{host}]" if ":" in host else host)
    return f"http://{name}:{port}"


def _warnings(host: str, public_url: str) -> Iterator[str]:
    """What the person who starts a server that others can reach should know."""
    if host in ("127.0.0.1", "::1", "localhost"):
        return
    if "CERVICYTE_PUBLIC_URL" not in os.environ:
        yield "Set CERVICYTE_PUBLIC_URL to the address that users type: until then no other name is answered."
    if public_url.startswith("http://"):
        yield "Without HTTPS everyone between can read passwords and pictures: put a proxy with TLS before it."


def _log_to_screen() -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    for name, level in (("cervicyte", logging.INFO), ("waitress", logging.ERROR)):
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.propagate = False
        if not logger.handlers:
            logger.addHandler(handler)
