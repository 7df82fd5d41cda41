"""Connections on a real server with two threads: nobody holds one for ever, and no request gets what is another's."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection, HTTPResponse
from typing import Any

import pytest

pytest.importorskip("waitress", reason="the extra 'web' is not installed")

import waitress

from cervicyte.web.middleware import connections
from support.web.cases import until
from support.web.threads import running

#: Bytes of a part of an answer, and parts of one that fits into no buffer between the two.
PART, LARGE = 1 << 16, 400
#: Seconds that silence is borne, and that a request may take to come in.
SILENCE, GRACE = 2, 1.0

Connect = Callable[[], HTTPConnection]


def answer(environ: dict[str, Any], start: Callable[..., Any]) -> Iterator[bytes]:
    """Say who asked with what, or send many parts, or take long to say it."""
    if environ["PATH_INFO"] == "/parts":
        parts = int(environ["QUERY_STRING"])
        start("200 OK", [("Content-Length", str(parts * PART))])
        return iter([bytes(PART)] * parts)
    if environ["PATH_INFO"] == "/long":
        time.sleep(1.5 * GRACE)
    said = [environ["REQUEST_METHOD"], environ.get("HTTP_AUTHORIZATION", "-"), environ["wsgi.input"].read().decode()]
    body = " ".join(said).encode()
    start("200 OK", [("Content-Length", str(len(body)))])
    return iter([body])


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.setattr(connections, "GRACE_S", GRACE)
    server = waitress.create_server(
        answer,
        listen="127.0.0.1:0",
        threads=2,
        channel_timeout=SILENCE,
        cleanup_interval=1,
        outbuf_high_watermark=1 << 20,
    )
    server.channel_class = connections.Channel
    with running(server):
        yield server


@pytest.fixture
def connect(server: Any) -> Iterator[Connect]:
    with contextlib.ExitStack() as stack:
        yield lambda: stack.enter_context(contextlib.closing(HTTPConnection("127.0.0.1", server.effective_port, 20)))


def said(line: HTTPConnection) -> str:
    return line.getresponse().read().decode()


def ask_for(parts: int, connect: Connect) -> socket.socket:
    """A connection on which a large answer has begun to come, to a system that keeps little for who does not read."""
    line = connect()
    line.connect()
    line.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PART)
    line.request("GET", f"/parts?{parts}")
    assert line.sock.recv(1)
    return line.sock


def test_who_stops_reading_gives_the_thread_back_and_is_cut_off(server: Any, connect: Connect) -> None:
    stopped = [ask_for(LARGE, connect) for _ in range(2)]
    other = connect()
    other.request("GET", "/")
    assert said(other) == "GET - "
    until(lambda: len(server.active_channels) <= 1)  # one of the two gave its thread back: who reads now gets all
    for line in stopped:
        got = 0
        with contextlib.suppress(ConnectionResetError):
            while data := line.recv(1 << 20):
                got += len(data)
        assert got < LARGE * PART


def test_who_reads_nothing_keeps_no_connection_however_much_of_the_answer_is_on_its_way(
    server: Any, connect: Connect
) -> None:
    for parts in range(1, 80, 2):  # some just fill what systems keep
        ask_for(parts, connect)
    until(lambda: not server.active_channels)


@pytest.mark.parametrize("parts", [72, LARGE])  # the thread is free again, or waits
def test_who_reads_slowly_gets_all(connect: Connect, parts: int) -> None:
    line = ask_for(parts, connect)
    got, end = 1, time.monotonic() + 2 * SILENCE
    while time.monotonic() < end:
        got += len(line.recv(PART))
        time.sleep(SILENCE / 10)
    while got < parts * PART:
        data = line.recv(1 << 20)
        assert data, "cut off"
        got += len(data)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_request_without_a_body_that_waits_to_continue_is_answered_and_leaves_the_next_nothing(
    connect: Connect, method: str
) -> None:
    line = connect()
    line.request(method, "/", headers={"Expect": "100-continue", "Authorization": "mine"})  # a POST's length is 0
    assert said(line) == f"{method} mine "
    line.request("GET", "/")
    assert said(line) == "GET - "


def test_a_body_that_waits_to_continue_is_asked_for(connect: Connect) -> None:
    line = connect()
    line.request("POST", "/", iter([]), {"Expect": "100-continue", "Content-Length": "3"})
    assert line.sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    line.send(b"abc")
    assert said(line) == "POST - abc"


def test_an_empty_line_behind_a_body_starts_no_clock(connect: Connect) -> None:
    line = connect()
    for _ in range(3):
        line.request("POST", "/", iter([]), {"Content-Length": "3"})
        time.sleep(0.05)
        line.send(b"abc\r\n")
        assert said(line) == "POST - abc"
        time.sleep(1.2 * GRACE)


def test_time_in_which_the_server_did_not_read_is_not_the_senders(connect: Connect) -> None:
    line = connect()
    line.connect()
    line.send(b"GET /long HTTP/1.1\r\nHost: here\r\n\r\nPOST / HTTP/1.1\r\nHost: here\r\nContent-Length: 3\r\n")
    with HTTPResponse(line.sock) as first:
        first.begin()
        assert first.read() == b"GET - "
    for part in (b"\r\n", b"abc"):
        line.send(part)
        time.sleep(0.05)
    with HTTPResponse(line.sock) as second:
        second.begin()
        assert second.read() == b"POST - abc"


def test_a_request_that_comes_too_slowly_behind_others_is_cut_off(connect: Connect) -> None:
    line = connect()
    line.request("GET", "/")
    assert said(line) == "GET - "
    line.request("POST", "/", iter([]), {"Content-Length": "9999"})
    end = time.monotonic() + 10 * GRACE
    with contextlib.suppress(ConnectionError):
        while True:
            assert time.monotonic() < end, "it is still listened to"
            line.send(b"a")
            time.sleep(GRACE / 4)
