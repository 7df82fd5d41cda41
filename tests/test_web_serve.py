"""`cervicyte serve` as a real process: first start, a picture answered, a clean end, and starts that cannot work."""

from __future__ import annotations

import contextlib
import http.cookiejar
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("waitress", reason="the extra 'web' is not installed")

from cervicyte.web.serve import THREADS
from commands import cervicyte, three_parts
from web_client import cell, small_bundle
from web_site import PASSWORD

EMAIL = "admin@lab.example"


class Server:
    """A server process and a browser that talks to it."""

    def __init__(self, folder: Path, *options: object) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "CERVICYTE_PUBLIC_URL"}
        command = [sys.executable, "-m", "cervicyte", "serve", "--port", "0", "--data-dir", folder, *options]
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=(folder.parent / "log").open("w"),
            text=True,
            env=environment,
        )
        self.log = folder.parent / "log"
        self.said: list[str] = []
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said.append(line.strip())
            if found := re.search(r"serves (\S+) from", line):
                self.root = found[1]
                break
        else:
            raise AssertionError(f"the server did not start: {self.log.read_text()}")
        self.jar = http.cookiejar.CookieJar()
        self.opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(self.jar))

    def get(self, path: str) -> str:
        return self.opener.open(self.root + path, timeout=20).read().decode()

    def json(self, path: str) -> tuple[int, dict[str, Any]]:
        try:
            with self.opener.open(self.root + path, timeout=20) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)

    def post(self, path: str, page: str, **fields: str) -> str:
        """Fill in a form of a page; where it leads to."""
        token = re.search(r'name="csrf" content="([^"]+)"', self.get(page))
        assert token
        data = urllib.parse.urlencode({"csrf": token[1]} | fields).encode()
        return urllib.parse.urlsplit(self.opener.open(self.root + path, data, timeout=20).url).path

    def upload(self, number: str, name: str, data: bytes) -> dict[str, Any]:
        token = re.search(r'name="csrf" content="([^"]+)"', self.get(f"/cases/{number}"))
        assert token
        edge = uuid.uuid4().hex
        head = f'--{edge}\r\nContent-Disposition: form-data; name="images"; filename="{name}"\r\n\r\n'
        request = urllib.request.Request(
            f"{self.root}/cases/{number}/images",
            head.encode() + data + f"\r\n--{edge}--\r\n".encode(),
            {
                "Content-Type": f"multipart/form-data; boundary={edge}",
                "Accept": "application/json",
                "X-CSRF-Token": token[1],
            },
        )
        return json.load(self.opener.open(request, timeout=20))

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.said += [line.strip() for line in self.process.stdout]
        return code


@contextlib.contextmanager
def serving(folder: Path, *options: object) -> Iterator[Server]:
    server = Server(folder, *options)
    try:
        yield server
    finally:
        server.process.kill()
        server.process.wait(10)
        assert server.process.stdout is not None
        server.process.stdout.close()


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return small_bundle(tmp_path_factory.mktemp("served") / "bundle").folder


def _answered(server: Server, number: str) -> bool:
    return "data-live-every" not in server.get(f"/cases/{number}")


def _until(done: Any, seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, "never done"
        time.sleep(0.05)


def test_from_the_first_start_to_an_answer_and_over_a_restart(tmp_path: Path, bundle: Path) -> None:
    folder = tmp_path / "data"
    with serving(folder) as server:  # without a model: nothing is made up, nothing is lost
        no_network = any("No model answers" in line for line in server.said)
        link = next(line for line in server.said if "/set-up/" in line)
        path = urllib.parse.urlsplit(link).path
        form = {"name": "Administrator", "email": EMAIL, "password": PASSWORD, "again": PASSWORD}
        assert server.post(path, path, **form) == "/cases"
        number = server.post("/cases", "/cases", accession="C26-1").rsplit("/", 1)[1]
        if no_network:
            status, body = server.json("/readyz")
            assert (status, body["database"], body["worker"]) == (503, "ok", "ok")
            assert body["model"] != "ok"
            assert server.upload(number, "first.png", cell(1))["accepted"] == 1
            assert "No model answers" in server.get(f"/cases/{number}")
        assert server.end() == 0
    with serving(folder, "--model", bundle) as server:
        assert not any("/set-up/" in line for line in server.said)
        assert server.json("/readyz") == (
            200,
            {"status": "ready"} | dict.fromkeys(("database", "images", "model", "worker"), "ok"),
        )
        assert server.post("/sign-in", "/sign-in", email=EMAIL, password=PASSWORD) == "/cases"
        assert server.upload(number, "second.png", cell(2))["accepted"] == 1
        _until(lambda: _answered(server, number))
        text = server.get(f"/cases/{number}")
        start = re.search(rf"/cases/{number}/cells/[0-9a-f]+", text)
        assert start
        assert "Probability that the cell is abnormal" in server.get(start[0])
        assert server.end(signal.SIGINT) == 0
        assert server.said[-1].startswith("Ending")
    log = server.log.read_text()
    assert "Traceback" not in log
    assert "/cases/<number>/images" in log
    for secret in (PASSWORD, path.rsplit("/", 1)[1], *(cookie.value for cookie in server.jar)):
        assert secret not in log
    assert oct(folder.stat().st_mode & 0o777) == "0o700"


def test_slow_senders_hold_up_nobody(tmp_path: Path, bundle: Path) -> None:
    with serving(tmp_path / "data", "--model", bundle) as server, contextlib.ExitStack() as stack:
        place = urllib.parse.urlsplit(server.root)
        for _ in range(THREADS + 8):  # uploads that begin and go on no further
            slow = stack.enter_context(socket.create_connection((str(place.hostname), place.port or 0), 10))
            slow.sendall(f"POST /sign-in HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: 9999\r\n\r\na".encode())
        assert server.json("/healthz") == (200, {"status": "ok"})
        assert "Sign in" in server.get("/sign-in")


def test_a_bundle_that_cannot_be_used_is_said_and_the_pages_are_there(tmp_path: Path, bundle: Path) -> None:
    damaged = tmp_path / "bundle"
    damaged.mkdir()
    for file in bundle.iterdir():
        (damaged / file.name).write_bytes(file.read_bytes())
    (damaged / "model.onnx").write_bytes(b"nothing")
    with serving(tmp_path / "data", "--model", damaged) as server:
        assert any("No model answers" in line for line in server.said)
        status, body = server.json("/readyz")
        assert status == 503
        assert str(tmp_path) not in json.dumps(body)
        assert server.json("/healthz") == (200, {"status": "ok"})
        assert server.end() == 0


def test_a_port_that_is_taken_and_a_folder_that_cannot_be_written_are_said_at_once(
    tmp_path: Path, bundle: Path
) -> None:
    with contextlib.closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        done = cervicyte("serve", "--port", port, "--data-dir", tmp_path / "data", "--model", bundle)
    assert done.returncode == 2
    assert three_parts(done.stderr)
    assert not (tmp_path / "data").exists()
    (tmp_path / "file").write_text("")
    done = cervicyte("serve", "--port", 0, "--data-dir", tmp_path / "file" / "data", "--model", bundle)
    assert done.returncode == 8
    assert three_parts(done.stderr)
