"""What the pages' scripts do, in a real browser under the application's security policy."""

from __future__ import annotations

import http.server
import json
import threading
import time
import urllib.parse
from collections.abc import Iterator
from typing import Any

import pytest

from support.web.contexts import contexts, environment
from support.web.preview import Browser, Site, find_chromium, pages

CELL = "/cases/K7M2QX/cells/" + "6".zfill(32)


class Desk(Site):
    """The preview's site that also takes posts: each is answered with the next of ``answers``, or, for None, never.

    Who goes to the address ``slow`` waits until ``gate`` is open, and gets nothing; what only fetches it is answered.
    """

    posts: list[tuple[str, dict[str, str], bytes]]
    answers: list[tuple[int, bytes, str, dict[str, str]] | None]
    slow, gate = "", threading.Event()

    def do_GET(self) -> None:  # noqa: N802 -- the name that http.server calls
        if self.path == self.slow and self.headers["Sec-Fetch-Mode"] == "navigate":
            self.posts.append((self.path, dict(self.headers), b""))
            self.gate.wait(60)
            self.close_connection = True
        else:
            super().do_GET()

    def do_POST(self) -> None:  # noqa: N802 -- the name that http.server calls
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.posts.append((self.path, dict(self.headers), body))
        answer = self.answers.pop(0) if self.answers else (404, b"", "text/plain", {})
        if answer is None:
            self.close_connection = True
            return
        status, text, kind, headers = answer
        self.answer(status, text, kind, **headers)


class Visitor:
    """A browser and the site it looks at."""

    def __init__(self, browser: Browser, port: int) -> None:
        self.browser, self.root = browser, f"http://127.0.0.1:{port}"

    def open(self, path: str) -> None:
        self.browser.open(self.root + path)

    def says(self, script: str) -> Any:
        return self.browser.evaluate(script)

    def press(self, key: str) -> None:
        text = {"text": key} if len(key) == 1 else {}
        self.browser.call("Input.dispatchKeyEvent", type="keyDown", key=key, **text)
        self.browser.call("Input.dispatchKeyEvent", type="keyUp", key=key)

    def wait(self, script: str, seconds: float = 8) -> None:
        until = time.monotonic() + seconds
        while not self.says(script):
            assert time.monotonic() < until, f"never true: {script}"
            time.sleep(0.05)


@pytest.fixture(scope="module")
def site() -> Iterator[Visitor]:
    program = find_chromium()
    if program is None:
        pytest.skip("scripts in a browser: no Chromium is installed")
    pytest.importorskip("websocket", reason="scripts in a browser: websocket-client is not installed")
    Desk.html = pages()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Desk)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser = Browser(program)
    try:
        yield Visitor(browser, server.server_port)
    finally:
        browser.close()
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Desk.posts, Desk.answers = [], []


def test_a_verdict_is_one_key_and_the_next_cell_comes_without_loading_the_page(site: Visitor) -> None:
    site.open(CELL)
    site.says("window.stayed = true")
    Desk.answers = [(303, b"", "text/plain", {"Location": "/cases/K7M2QX/cells/" + "7".zfill(32)})]
    site.press("5")
    site.wait("location.pathname.endsWith('07')")
    assert site.says("window.stayed") is True
    path, _, body = Desk.posts[0]
    assert path == CELL + "/decision"
    assert urllib.parse.parse_qs(body.decode()) == {"csrf": ["c5rf-token"], "verdict": ["HSIL"], "comment": ["Halo."]}
    assert site.says("document.activeElement.id") == "main"
    site.says("history.back()")
    site.wait("location.pathname.endsWith('06')")


def test_a_class_of_the_model_is_one_key_though_its_button_is_folded_away(site: Visitor) -> None:
    site.open(CELL)
    Desk.answers = [(303, b"", "text/plain", {"Location": "/cases/K7M2QX/cells/" + "7".zfill(32)})]
    site.press("w")
    site.wait("location.pathname.endsWith('07')")
    assert urllib.parse.parse_qs(Desk.posts[0][2].decode())["verdict"] == ["light_dysplastic"]


def test_a_busy_server_loses_neither_verdict_nor_comment(site: Visitor) -> None:
    site.open(CELL)
    site.says("document.querySelector('[data-comment]').value = 'Kept.'")
    Desk.answers = [(503, b"<p>busy", "text/html", {"Retry_After": "3"})]
    site.press("u")
    site.wait("document.querySelector('[data-saying]').textContent.includes('Nothing was saved')")
    assert site.says("document.querySelector('[data-comment]').value") == "Kept."
    Desk.answers = [(303, b"", "text/plain", {"Location": CELL})]
    site.press("u")
    site.wait("document.querySelector('[data-saying]').textContent === ''")
    assert [urllib.parse.parse_qs(body.decode())["comment"] for _, _, body in Desk.posts] == [["Kept."], ["Kept."]]


def test_a_lost_answer_is_told_so_that_nothing_more_is_taken_back(site: Visitor) -> None:
    """A verdict that is sent twice is stored once; taking back twice takes back two."""
    said = "document.querySelector('[data-saying]').textContent"
    site.open(CELL)
    Desk.answers = [None, None]
    site.press("z")
    site.wait(f"{said}.includes('No connection')")
    assert "load the page again" in site.says(said)
    assert "press again" not in site.says(said)
    site.press("5")
    site.wait(f"{said}.includes('press again')")
    assert [path for path, _, _ in Desk.posts] == ["/cases/K7M2QX/undo", CELL + "/decision"]


def test_no_key_counts_while_the_browser_leaves_and_each_does_again_where_it_is_stopped(site: Visitor) -> None:
    Desk.slow = "/case"
    site.open(CELL)
    site.says("window.later = []; window.setTimeout = (act) => window.later.push(act)")
    Desk.answers = [(303, b"", "text/plain", {"Location": "/case"})]
    try:
        site.press("5")
        until = time.monotonic() + 8
        while len(Desk.posts) < 2:
            assert time.monotonic() < until, "the browser never left"
            time.sleep(0.05)
        for key in "uz4":
            site.press(key)
        time.sleep(0.3)
        site.browser.call("Page.stopLoading")
        site.says("window.later.splice(0).forEach((act) => act())")
        assert "does not come" in site.says("document.querySelector('[data-saying]').textContent")
        Desk.answers = [(303, b"", "text/plain", {"Location": "/cases/K7M2QX/cells/" + "7".zfill(32)})]
        site.press("6")
        site.wait("location.pathname.endsWith('07')")
    finally:
        Desk.slow = ""
        Desk.gate.set()
    assert [path for path, _, _ in Desk.posts] == [CELL + "/decision", "/case", CELL + "/decision"]


def test_typing_a_comment_decides_nothing_and_keys_can_be_switched_off(site: Visitor) -> None:
    site.open(CELL)
    site.press("c")
    assert site.says("document.activeElement.id") == "comment"
    site.press("a")
    site.press("5")
    assert site.says("document.activeElement.value.includes('a5')")
    site.press("Escape")
    assert site.says("document.activeElement.id") != "comment"
    site.press("?")
    assert site.says("document.querySelector('[data-help]').open") is True
    site.says("document.querySelector('[data-keys-on]').click()")
    site.press("a")
    time.sleep(0.2)
    assert Desk.posts == []
    site.says("document.querySelector('[data-keys-on]').click()")


def test_the_map_is_off_at_first_then_as_opaque_as_asked_and_remembered(site: Visitor) -> None:
    opacity = "getComputedStyle(document.querySelector('[data-map]')).opacity"
    site.says("localStorage.clear()")
    site.open(CELL)
    assert site.says(opacity) == "0"
    site.press("m")
    assert site.says(opacity) == "0.6"
    site.says(
        "(() => { const s = document.querySelector('[data-opacity]'); s.value = 25;"
        " s.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )
    assert site.says(opacity) == "0.25"
    site.open(CELL)
    assert site.says(opacity) == "0.25"
    assert not [line for line in site.browser.said if "Security Policy" in line]
    site.says("localStorage.clear()")


def test_a_file_is_sent_again_when_the_server_says_so_and_hostile_names_stay_text(site: Visitor) -> None:
    refused = {"accepted": 3, "passed_over": 1, "refused": [{"name": "<b id=evil>\u202e", "reason": "no picture"}]}
    Desk.answers = [
        (503, b"", "text/plain", {"Retry_After": "1"}),
        (200, json.dumps(refused).encode(), "application/json", {}),
        (413, b"", "text/plain", {}),
    ]
    site.open("/case")
    site.says(
        "(() => { const all = new DataTransfer(); const input = document.getElementById('images');"
        " for (const n of ['a.zip', '<i id=evil>.png']) all.items.add(new File(['x'], n));"
        " input.files = all.files; input.dispatchEvent(new Event('change', { bubbles: true })); })()"
    )
    site.wait("document.querySelector('[data-sending-said]').textContent === '2 files sent'")
    said = site.says("document.querySelector('[data-sending]').innerText")
    assert "3 taken, 1 refused, 1 passed over" in said
    assert "no picture" in said
    assert "too large; at most 200 MB" in said
    assert site.says("document.getElementById('evil')") is None
    keys = [headers["Idempotency-Key"] for _, headers, _ in Desk.posts]
    assert keys[0] == keys[1] != keys[2]
    assert all(b'name="csrf"' in body and b"c5rf-token" in body for _, _, body in Desk.posts)


def test_results_arrive_by_themselves_and_then_no_more_is_asked(site: Visitor) -> None:
    site.open("/case")
    assert site.says("document.querySelector('[data-live-every]') !== null")
    before = Desk.html["case"]
    context = contexts()["case.html"]
    context["case"] |= {"waiting": 0, "done": 19}
    Desk.html["case"] = environment().get_template("case.html").render(context)
    try:
        site.wait("document.querySelector('[data-live-every]') === null")
        assert site.says("document.querySelector('#images') !== null")
    finally:
        Desk.html["case"] = before


def test_small_pictures_of_cells_are_square(site: Visitor) -> None:
    site.open(CELL)
    sides = "[...document.querySelectorAll('.strip img')].map((i) => [i.clientWidth, i.clientHeight])"
    assert {width - height for width, height in json.loads(site.says(f"JSON.stringify({sides})"))} == {0}


def test_the_colours_change_without_loading_the_page(site: Visitor) -> None:
    site.open("/cases")
    site.says("document.querySelector('.theme [value=dark]').click()")
    assert site.says("document.documentElement.dataset.theme") == "dark"
    assert "theme=dark" in site.says("document.cookie")
    assert site.says("getComputedStyle(document.body).backgroundColor") == "rgb(16, 21, 26)"
    site.says("document.querySelector('.theme [value=\"\"]').click()")
    assert site.says("document.documentElement.dataset.theme") is None
    assert Desk.posts == []
