"""Many clients of a server at once, as light as clients can be, since they share the processor with what they measure.

Each is a connection of its own that sends an image, waits until the whole answer is there, checks its status, and only
then sends the next. One thread serves them all with requests that were put together before, so that a request costs
its clients less than a tenth of a millisecond: a browser's cost would be on another machine.
"""

from __future__ import annotations

import heapq
import re
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import SplitResult, urlsplit

import numpy as np

#: Seconds after which a server that says nothing has failed.
PATIENCE_S = 120.0

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)", re.IGNORECASE)
_LATER = re.compile(rb"\r\nretry-after: *([0-9]+)", re.IGNORECASE)
_LAST = re.compile(rb"HTTP/1\.0 |.*\r\nconnection: *close", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class Address:
    """Where to post an image, and with which headers."""

    url: str
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """What clients saw: seconds of all, milliseconds of each request, and how often they were asked to come later."""

    seconds: float
    waited_ms: list[float]
    turned_away: int

    @property
    def rate(self) -> float:
        """Answers per second of all clients together."""
        return len(self.waited_ms) / self.seconds

    def quantile(self, q: float) -> float:
        """Milliseconds within which a share of the requests was answered."""
        return float(np.quantile(self.waited_ms, q))


def load(
    place: Address,
    images: list[bytes],
    clients: int,
    count: int,
    watch: Callable[[int], None] = lambda _: None,
) -> Load:
    """Post ``count`` images with so many clients, each of which waits for its answer before it sends the next.

    A client that is asked to come later does so, and its image's time goes on; ``watch`` hears how many images
    are answered. Raises RuntimeError over any other answer than 200, 429 and 503.
    """
    where = urlsplit(place.url)
    requests = [_request(where, place.headers, image) for image in images]
    waited: list[float] = []
    later: list[tuple[float, int, _Client]] = []  # when a client that was turned away asks again
    turned_away = sent = 0
    start = time.perf_counter()
    with selectors.DefaultSelector() as selector:
        for _ in range(min(clients, count)):
            _Client(where, selector).send(requests[sent % len(requests)])
            sent += 1
        while len(waited) < count:
            patience = max(0.0, later[0][0] - time.perf_counter()) if later else PATIENCE_S
            ready = selector.select(patience)
            if not ready and not later:
                raise RuntimeError(f"no answer within {PATIENCE_S:.0f} s")
            while later and later[0][0] <= time.perf_counter():
                heapq.heappop(later)[2].again()
            for key, _ in ready:
                client: _Client = key.data
                answer = client.answer()
                if answer is None:
                    continue
                status, head, body = answer
                now = time.perf_counter()
                if status in (429, 503):
                    turned_away += 1
                    asked = _LATER.search(head)
                    heapq.heappush(later, (now + float(asked[1] if asked else 1), turned_away, client))
                    continue
                if status != 200:
                    raise RuntimeError(f"{status}: {body[:300]!r}")
                waited.append(1000 * (now - client.since))
                watch(len(waited))
                if sent < count:
                    client.send(requests[sent % len(requests)])
                    sent += 1
                else:
                    client.close()
    return Load(time.perf_counter() - start, waited, turned_away)


class _Client:
    """One connection; made anew where the server ends it after an answer."""

    def __init__(self, where: SplitResult, selector: selectors.BaseSelector) -> None:
        self._where = where
        self._selector = selector
        self._request = self._received = b""
        self.since = 0.0
        self._open()

    def send(self, request: bytes) -> None:
        """Send a request, whose time begins now."""
        self._request, self.since = request, time.perf_counter()
        self.again()

    def again(self) -> None:
        """Send the last request again."""
        self._socket.sendall(self._request)

    def answer(self) -> tuple[int, bytes, bytes] | None:
        """Read what has come: status, head and body where the answer is whole."""
        came = self._socket.recv(1 << 16)
        self._received += came
        head, end, body = self._received.partition(b"\r\n\r\n")
        length = _LENGTH.search(head) if end else None
        if length is None or len(body) < int(length[1]):
            if not came:
                raise RuntimeError(f"the server ended the connection: {self._received[:300]!r}")
            return None
        self._received = b""
        if _LAST.match(head):
            self.close()
            self._open()
        return int(head.split(b" ", 2)[1]), head, body

    def close(self) -> None:
        """Say nothing more."""
        self._selector.unregister(self._socket)
        self._socket.close()

    def _open(self) -> None:
        self._socket = socket.create_connection((self._where.hostname or "", self._where.port or 80), PATIENCE_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._selector.register(self._socket, selectors.EVENT_READ, self)


def _request(where: SplitResult, headers: dict[str, str], body: bytes) -> bytes:
    lines = [f"POST {where.path} HTTP/1.1", f"Host: {where.netloc}", f"Content-Length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode("ascii") + body
