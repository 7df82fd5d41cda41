"""A server of waitress in a thread of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from waitress import wasyncore


@contextmanager
def running(server: Any) -> Iterator[None]:
    """Serve in a thread that also closes the server: closed from another, its loop looks for sockets that are gone."""
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            wasyncore.loop(timeout=0.1, map=server._map, count=1)
        server.task_dispatcher.shutdown()
        wasyncore.close_all(server._map)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(20)
        assert not thread.is_alive()
