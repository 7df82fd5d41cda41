"""`cervicyte serve` as a real process: first start, a picture answered, a clean end, and starts that cannot work."""

from __future__ import annotations

import contextlib
import http.client
import http.cookiejar
import itertools
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.parse
import urllib.request
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("waitress", reason="the extra 'web' is not installed")

from sqlalchemy import select
from waitress.adjustments import Adjustments

from cervicyte.web.accounts import api_tokens
from cervicyte.web.base.schema import AuditRow, Case, Image
from cervicyte.web.base.site import Site, open_site
from cervicyte.web.cases import cases
from cervicyte.web.middleware.connections import Channel
from cervicyte.web.serve import THREADS
from support.commands import cervicyte, inside, listen_to_interrupts, three_parts
from support.web.client import cell, small_bundle
from support.web.site import PASSWORD, cheap, make_user

EMAIL = "admin@lab.example"
FORM = "multipart/form-data; boundary=edge"


class Server:
    """A server process and a browser that talks to it."""

    def __init__(self, folder: Path, *options: object, program: tuple[str, str] = ("-m", "cervicyte")) -> None:
        environment = {k: v for k, v in os.environ.items() if k != "CERVICYTE_PUBLIC_URL"}
        command = [sys.executable, *program, "serve", "--port", "0", "--data-dir", folder, *options]
        self.process = subprocess.Popen(
            list(map(str, command)),
            stdout=subprocess.PIPE,
            stderr=(folder.parent / "log").open("w"),
            text=True,
            env=environment,
            preexec_fn=listen_to_interrupts,
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

    def connect(self) -> socket.socket:
        """A connection to it, on which requests are written by hand."""
        place = urllib.parse.urlsplit(self.root)
        return socket.create_connection((str(place.hostname), place.port or 0), 20)

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.said += [line.strip() for line in self.process.stdout]
        return code


@contextlib.contextmanager
def serving(folder: Path, *options: object, program: tuple[str, str] = ("-m", "cervicyte")) -> Iterator[Server]:
    server = Server(folder, *options, program=program)
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


def _laboratory(folder: Path) -> tuple[Site, str, str]:
    """A data folder with a reader and an open case: the site, the number of the case, and the reader's token."""
    site = open_site(folder, hasher=cheap())
    reader = make_user(site)
    return site, cases.create(site, reader).number, api_tokens.make(site, reader.id, "test").text


def _head(method: str, path: str, **headers: object) -> bytes:
    """The beginning of a request, to its empty line."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "".join(f"{line}\r\n" for line in [*lines, ""]).encode()


def _upload(number: str, token: str, key: str, files: dict[str, bytes]) -> bytes:
    """A program's upload of pictures into a case, as bytes."""
    part = '--edge\r\nContent-Disposition: form-data; name="images"; filename="{}"\r\n\r\n'
    body = b"".join(part.format(name).encode() + data + b"\r\n" for name, data in files.items()) + b"--edge--\r\n"
    path, sender = f"/api/v1/cases/{number}/images", {"Authorization": f"Bearer {token}", "Connection": "close"}
    return _head("POST", path, **sender, Idempotency_Key=key, Content_Type=FORM, Content_Length=len(body)) + body


def _heard(line: socket.socket) -> tuple[int, bytes, bytes]:
    """What is answered until the connection ends: status, headers, body; nothing where it was broken off."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := line.recv(1 << 16):
            data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]) if head else 0, head, body


def _pictures(site: Site, number: str) -> list[Image]:
    with site.database.read() as session:
        return list(session.scalars(select(Image).join(Case).where(Case.number == number)))


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


def test_slow_senders_hold_up_nobody(tmp_path: Path) -> None:
    with serving(tmp_path / "data", "--model", "cytonet-int8") as server, contextlib.ExitStack() as stack:
        assert not any("No model answers" in line for line in server.said)
        for _ in range(THREADS + 8):  # uploads that begin and go on no further
            slow = stack.enter_context(server.connect())
            slow.sendall(_head("POST", "/sign-in", Content_Length=9999) + b"a")
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


def test_a_second_server_on_a_folder_is_refused_commands_are_not_and_a_kill_leaves_no_lock(
    tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, backup = tmp_path / "data", tmp_path / "saved.tar"
    monkeypatch.setenv("CERVICYTE_DATA_DIR", str(folder))
    with serving(folder, "--model", bundle) as server:
        done = cervicyte("serve", "--port", 0, timeout=60)
        assert done.returncode == 2
        assert "another server works on this data folder" in done.stderr
        assert three_parts(done.stderr)
        assert str(folder) in done.stderr
        for command in (("users", "add", EMAIL), ("site", "backup", backup), ("audit-log", "verify")):
            assert inside(monkeypatch, capsys, *command)[0] == 0
        code, _, said = inside(monkeypatch, capsys, "site", "restore", backup)
        assert code == 2
        assert "another server works on this data folder" in said
        assert server.json("/healthz")[0] == 200
        server.end(signal.SIGKILL)
    code, _, said = inside(monkeypatch, capsys, "site", "restore", backup)
    assert code == 8
    assert "not empty" in said  # and no word of a server any more


def test_a_kill_in_the_middle_of_an_upload_loses_nothing_that_was_taken(tmp_path: Path, bundle: Path) -> None:
    folder = tmp_path / "data"
    site, number, token = _laboratory(folder)
    many = {f"{k}.png": cell(k) for k in range(1, 25)}
    first, second = (_upload(number, token, key, many) for key in ("k-1", "k-2"))
    with serving(folder, "--model", tmp_path / "none") as server:  # nothing is answered: what is taken waits
        with server.connect() as line:
            line.sendall(_upload(number, token, "k-0", {"0.png": cell(0)}))
            assert _heard(line)[0] == 202
        with server.connect() as line:
            line.sendall(first[: len(first) // 2])
            server.end(signal.SIGKILL)
    assert [image.name for image in _pictures(site, number)] == ["0.png"]
    assert list(site.image_store.digests()) == [image.sha256 for image in _pictures(site, number)]
    with serving(folder, "--model", tmp_path / "none") as server, server.connect() as line:
        line.sendall(second)
        _until(lambda: len(list(site.image_store.digests())) > 1)
        server.end(signal.SIGKILL)
    taken = _pictures(site, number)
    assert len(taken) in (1, 25)  # an upload is taken whole or not at all
    assert not list((folder / "incoming").iterdir())
    forgotten = _forget(folder / "images")
    with serving(folder, "--model", bundle) as server:
        for upload in (first, second, second):
            with server.connect() as line:
                line.sendall(upload)
                status, _, body = _heard(line)
                assert (status, json.loads(body)["accepted"]) == (202, 24)
        _until(lambda: {image.state for image in _pictures(site, number)} == {"done"})
        _until(lambda: not any(path.exists() for path in forgotten))
        assert server.end() == 0
    found = _pictures(site, number)
    assert {image.id for image in taken} <= {image.id for image in found}
    assert sorted(image.name for image in found) == sorted(["0.png", *many, *many])
    assert all(site.image_store.get(image.sha256) for image in found)
    assert set(site.image_store.digests()) == {image.sha256 for image in found}
    assert site.audit_log.verify(site.database).ok
    assert "Traceback" not in server.log.read_text()
    site.database.close()


def test_a_kill_among_answers_leaves_a_whole_log_with_every_answer_that_was_told(tmp_path: Path, bundle: Path) -> None:
    folder = tmp_path / "data"
    site, _, token = _laboratory(folder)
    told: list[str] = []
    program = {"Authorization": f"Bearer {token}", "Content-Type": "image/png"}

    def ask(first: int) -> None:
        place = urllib.parse.urlsplit(server.root)
        with contextlib.closing(http.client.HTTPConnection(str(place.hostname), place.port, timeout=20)) as line:
            for number in itertools.count(first, 8):
                line.request("POST", "/api/v1/predict", pictures[number % len(pictures)], program)
                answer = line.getresponse()
                found = json.load(answer)
                assert answer.status == 200, found
                told.append(found["sha256"])

    pictures = [cell(seed) for seed in range(16)]
    with serving(folder, "--model", bundle) as server, ThreadPoolExecutor(8) as pool:
        asking = [pool.submit(ask, first) for first in range(8)]
        _until(lambda: len(told) > 40 or any(future.done() for future in asking))
        server.end(signal.SIGKILL)
        for future in asking:
            assert isinstance(future.exception(20), ConnectionError | http.client.HTTPException)
    assert site.audit_log.verify(site.database).ok
    with site.database.read() as session:
        rows = select(AuditRow.detail).where(AuditRow.action == "picture.predicted")
        logged = Counter(detail["sha256"] for detail in session.scalars(rows))
    assert len(told) > 40
    assert Counter(told) <= logged
    site.database.close()


def test_a_connection_on_which_a_thread_sends_is_waited_for() -> None:
    near, far = socket.socketpair()
    with contextlib.closing(far):
        line = Channel(SimpleNamespace(active_channels={}), near, ("", 0), Adjustments(), map={})
        line.outbuf_lock.acquire()  # a thread is about to send
        line.outbufs[-1].append(b"answer")
        line.total_outbufs_len = 6
        waiting = threading.Thread(target=line.handle_write)
        waiting.start()
        waiting.join(0.2)
        assert waiting.is_alive()
        line.outbuf_lock.release()
        waiting.join(20)
        assert far.recv(100) == b"answer"
        line.handle_close()


def _forget(images: Path) -> list[Path]:
    """What earlier kills left in the store: half of a picture, and a picture of no case; too old to be in use."""
    left = [images / "ab" / ".half.tmp", images / "ab" / ("ab" + "0" * 62)]
    left[0].parent.mkdir(exist_ok=True)
    for path in left:
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    return left


def test_what_is_too_large_is_refused_in_words_and_fills_no_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    psutil = pytest.importorskip("psutil")
    most = 16 << 20
    monkeypatch.setenv("CERVICYTE_MAX_UPLOAD_MB", "16")
    site, number, token = _laboratory(tmp_path / "data")
    path, form = f"/api/v1/cases/{number}/images", {"Authorization": f"Bearer {token}", "Content_Type": FORM}
    with serving(tmp_path / "data", "--model", tmp_path / "none") as server:
        process = psutil.Process(server.process.pid)
        before = process.memory_info().rss
        for more in ({}, {"Expect": "100-continue"}):
            with server.connect() as line:  # only announced: answered at once
                line.sendall(_head("POST", path, **form, **more, Content_Length=1 << 40))
                _check_too_large(*_heard(line))
        with server.connect() as line:  # to what reads no body
            line.sendall(_head("DELETE", f"/api/v1/cases/{number}", **form, Content_Length=1 << 40))
            _check_too_large(*_heard(line))
        with server.connect() as line:
            line.sendall(_head("POST", "/sign-in", Content_Length=1 << 40))
            status, _, body = _heard(line)
            assert (status, b"<h1>That is too large</h1>" in body) == (413, True)
        with server.connect() as line:  # a little too large, from a program that listens when it has sent all
            line.sendall(_head("POST", path, **form, Content_Length=most + (2 << 20)))
            for _ in range(18):
                line.sendall(bytes(1 << 20))
            line.shutdown(socket.SHUT_WR)
            status, _, body = _heard(line)
            assert (status, json.loads(body)["error"]["what"]) == (413, "the request is too large")
        with server.connect() as line:  # never ends
            line.sendall(_head("POST", path, **form, Transfer_Encoding="chunked"))
            sent = 0
            with contextlib.suppress(OSError):
                while sent < 8 * most:
                    line.sendall(b"100000\r\n" + bytes(1 << 20) + b"\r\n")
                    sent += 1 << 20
                    assert process.memory_info().rss < before + most
            assert sent < 4 * most
            _check_too_large(*_heard(line))
        assert process.memory_info().rss < before + most
        assert server.json("/healthz")[0] == 200
        assert server.end() == 0
    with site.database.read() as session:
        assert session.scalars(select(Case.number)).all() == [number]
    assert _pictures(site, number) == []
    site.database.close()


def _check_too_large(status: int, head: bytes, body: bytes) -> None:
    assert status == 413
    assert b"connection: close" in head.lower()
    error = json.loads(body)["error"]
    assert set(error) == {"what", "received", "todo", "request_id"}
    assert error["what"] == "the request is too large"


def test_who_sends_too_slowly_is_cut_off_and_holds_up_nobody(tmp_path: Path) -> None:
    soon = "from cervicyte.cli.main import main\n"
    soon += "from cervicyte.web.middleware import connections as c; c.GRACE_S = 1.5; main()"
    site, number, token = _laboratory(tmp_path / "data")
    start = _head("POST", "/sign-in", Content_Length=9999)
    honest = _upload(number, token, "k", {f"{k}.png": cell(k) for k in range(8)})
    with (
        serving(tmp_path / "data", "--model", tmp_path / "none", program=("-c", soon)) as server,
        contextlib.ExitStack() as stack,
    ):
        slow = [stack.enter_context(server.connect()) for _ in range(THREADS + 8)]
        steady = stack.enter_context(server.connect())
        for line in slow:
            line.sendall(start)
        begun, sent = time.monotonic(), 0
        while slow or sent < len(honest):
            assert time.monotonic() < begun + 30, "it is still listened to"
            slow = [line for line in slow if _drip(line)]
            steady.sendall(honest[sent : sent + 8000])
            sent += 8000
            asked = time.monotonic()
            assert server.json("/healthz")[0] == 200
            assert time.monotonic() < asked + 5
            time.sleep(0.25)
        assert time.monotonic() > begun + 1.5
        assert _heard(steady)[0] == 202
    assert len(_pictures(site, number)) == 8
    site.database.close()


def _drip(line: socket.socket) -> bool:
    """Send one byte more; whether that was still taken."""
    try:
        line.sendall(b"a")
        return True
    except OSError:
        return False
