"""What the pages' scripts do, in a real browser under the application's security policy."""

from __future__ import annotations

import http.server
import json
import re
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from support.web.browser import Browser, Programs
from support.web.contexts import contexts, environment
from support.web.preview import Site, pages

CELL = "/cases/K7M2QX/cells/" + "6".zfill(32)


class Desk(Site):
    """The preview's site that also takes posts: each is answered with the next of ``answers``, or, for None, never.

    What ``meanwhile`` does happens while the first of them is on its way.
    Who goes to the address ``slow`` waits until ``gate`` is open, and gets nothing; what only fetches it is answered.
    """

    posts: list[tuple[str, dict[str, str], bytes]]
    answers: list[tuple[int, bytes, str, dict[str, str]] | None]
    meanwhile: Callable[[], object] | None
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
        if self.meanwhile:
            Desk.meanwhile = self.meanwhile()
        answer = self.answers.pop(0) if self.answers else (404, b"", "text/plain", {})
        if answer is None:
            self.close_connection = True
            return
        status, text, kind, headers = answer
        self.answer(status, text, kind, **headers)


@pytest.fixture(scope="module")
def site(chromium: Programs) -> Iterator[Browser]:
    Desk.html = pages()
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Desk)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    browser = Browser(chromium, f"http://127.0.0.1:{server.server_port}")
    try:
        yield browser
    finally:
        browser.close()
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    Desk.posts, Desk.answers, Desk.meanwhile = [], [], None


def test_a_verdict_is_one_key_and_the_next_cell_comes_without_loading_the_page(site: Browser) -> None:
    site.visit(CELL)
    site.evaluate("window.stayed = true")
    Desk.answers = [(303, b"", "text/plain", {"Location": "/cases/K7M2QX/cells/" + "7".zfill(32)})]
    site.press("5")
    site.wait("location.pathname.endsWith('07')")
    assert site.evaluate("window.stayed") is True
    path, _, body = Desk.posts[0]
    assert path == CELL + "/decision"
    assert urllib.parse.parse_qs(body.decode()) == {"csrf": ["c5rf-token"], "verdict": ["HSIL"], "comment": ["Halo."]}
    assert site.evaluate("document.activeElement.id") == "main"
    site.evaluate("history.back()")
    site.wait("location.pathname.endsWith('06')")


def test_a_class_of_the_model_is_one_key_though_its_button_is_folded_away(site: Browser) -> None:
    site.visit(CELL)
    Desk.answers = [(303, b"", "text/plain", {"Location": "/cases/K7M2QX/cells/" + "7".zfill(32)})]
    site.press("w")
    site.wait("location.pathname.endsWith('07')")
    assert urllib.parse.parse_qs(Desk.posts[0][2].decode())["verdict"] == ["light_dysplastic"]


def test_a_busy_server_loses_neither_verdict_nor_comment(site: Browser) -> None:
    site.visit(CELL)
    site.evaluate("document.querySelector('[data-comment]').value = 'Kept.'")
    Desk.answers = [(503, b"<p>busy", "text/html", {"Retry_After": "3"})]
    site.press("u")
    site.wait("document.querySelector('[data-saying]').textContent.includes('Nothing was saved')")
    assert site.evaluate("document.querySelector('[data-comment]').value") == "Kept."
    Desk.answers = [(303, b"", "text/plain", {"Location": CELL})]
    site.press("u")
    site.wait("document.querySelector('[data-saying]').textContent === ''")
    assert [urllib.parse.parse_qs(body.decode())["comment"] for _, _, body in Desk.posts] == [["Kept."], ["Kept."]]


def test_a_lost_answer_is_told_so_that_nothing_more_is_taken_back(site: Browser) -> None:
    """A verdict that is sent twice is stored once; taking back twice takes back two."""
    said = "document.querySelector('[data-saying]').textContent"
    site.visit(CELL)
    Desk.answers = [None, None]
    site.press("z")
    site.wait(f"{said}.includes('No connection')")
    assert "load the page again" in site.evaluate(said)
    assert "press again" not in site.evaluate(said)
    site.press("5")
    site.wait(f"{said}.includes('press again')")
    assert [path for path, _, _ in Desk.posts] == ["/cases/K7M2QX/undo", CELL + "/decision"]


def test_no_key_counts_while_the_browser_leaves_and_each_does_again_where_it_is_stopped(site: Browser) -> None:
    Desk.slow = "/case"
    site.visit(CELL)
    site.evaluate("window.later = []; window.setTimeout = (act) => window.later.push(act)")
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
        site.call("Page.stopLoading")
        site.evaluate("window.later.splice(0).forEach((act) => act())")
        assert "does not come" in site.evaluate("document.querySelector('[data-saying]').textContent")
        Desk.answers = [(303, b"", "text/plain", {"Location": "/cases/K7M2QX/cells/" + "7".zfill(32)})]
        site.press("6")
        site.wait("location.pathname.endsWith('07')")
    finally:
        Desk.slow = ""
        Desk.gate.set()
    assert [path for path, _, _ in Desk.posts] == [CELL + "/decision", "/case", CELL + "/decision"]


def test_typing_a_comment_decides_nothing_and_keys_can_be_switched_off(site: Browser) -> None:
    site.visit(CELL)
    site.press("c")
    assert site.evaluate("document.activeElement.id") == "comment"
    site.press("a")
    site.press("5")
    assert site.evaluate("document.activeElement.value.includes('a5')")
    site.press("Escape")
    assert site.evaluate("document.activeElement.id") != "comment"
    site.press("?")
    assert site.evaluate("document.querySelector('[data-help]').open") is True
    site.evaluate("document.querySelector('[data-keys-on]').click()")
    site.press("a")
    time.sleep(0.2)
    assert Desk.posts == []
    site.evaluate("document.querySelector('[data-keys-on]').click()")


def test_the_map_is_off_at_first_then_as_opaque_as_asked_and_remembered(site: Browser) -> None:
    opacity = "getComputedStyle(document.querySelector('[data-map]')).opacity"
    site.evaluate("localStorage.clear()")
    site.visit(CELL)
    assert site.evaluate(opacity) == "0"
    site.press("m")
    assert site.evaluate(opacity) == "0.6"
    site.evaluate(
        "(() => { const s = document.querySelector('[data-opacity]'); s.value = 25;"
        " s.dispatchEvent(new Event('input', { bubbles: true })); })()"
    )
    assert site.evaluate(opacity) == "0.25"
    site.visit(CELL)
    assert site.evaluate(opacity) == "0.25"
    assert not [entry for entry in site.log() if "Security Policy" in entry["message"]]
    site.evaluate("localStorage.clear()")


def test_a_file_is_sent_again_when_the_server_says_so_and_hostile_names_stay_text(site: Browser) -> None:
    refused = {"accepted": 3, "passed_over": 1, "refused": [{"name": "<b id=evil>\u202e", "reason": "no picture"}]}
    Desk.answers = [
        (503, b"", "text/plain", {"Retry_After": "1"}),
        (200, json.dumps(refused).encode(), "application/json", {}),
        (413, b"", "text/plain", {}),
    ]
    site.visit("/case")
    site.evaluate(
        "(() => { const all = new DataTransfer(); const input = document.getElementById('images');"
        " for (const n of ['a.zip', '<i id=evil>.png']) all.items.add(new File(['x'], n));"
        " input.files = all.files; input.dispatchEvent(new Event('change', { bubbles: true })); })()"
    )
    site.wait("document.querySelector('[data-sending-said]').textContent === '2 files sent'")
    said = site.evaluate("document.querySelector('[data-sending]').innerText")
    assert "3 taken, 1 refused, 1 passed over" in said
    assert "no picture" in said
    assert "too large; at most 200 MB" in said
    assert site.evaluate("document.getElementById('evil')") is None
    keys = [headers["Idempotency-Key"] for _, headers, _ in Desk.posts]
    assert keys[0] == keys[1] != keys[2]
    assert all(b'name="csrf"' in body and b"c5rf-token" in body for _, _, body in Desk.posts)


TAKEN = (200, b'{"accepted": 1}', "application/json", {})


def _files(folder: Path, *names: str) -> list[Path]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("x")
    return [folder / name for name in names]


def _sent() -> list[str]:
    """The names of the files that were posted."""
    return [re.search(rb'filename="([^"]*)"', body)[1].decode() for _, _, body in Desk.posts]


def _states(site: Browser) -> list[list[str]]:
    """Name and state of every line of the list."""
    lines = "[...document.querySelectorAll('[data-sending] > li')].map((li) => [li.querySelector('bdi').textContent,"
    return site.evaluate(f"{lines} li.querySelector('.state').textContent])")


def test_a_dropped_folder_is_opened_and_keeps_no_other_file_waiting(site: Browser, tmp_path: Path) -> None:
    _files(tmp_path, "slide/b.png", "slide/a.png", "slide/deeper/c.png", "slide/.DS_Store")
    (tmp_path / "blank").mkdir()
    first, last = _files(tmp_path, "first.png", "last.png")
    Desk.answers = [TAKEN] * 5
    site.visit("/case")
    site.drop("[data-upload]", [first, tmp_path / "slide", tmp_path / "blank", last])
    site.wait(
        "[...document.querySelectorAll('[data-sending] .state')].filter((e) => e.innerText === '1 taken').length > 4"
    )
    assert _sent() == ["first.png", "a.png", "b.png", "c.png", "last.png"]
    taken = [[name, "1 taken"] for name in _sent()]
    assert sorted(_states(site)) == sorted([*taken, ["blank/", "the folder is empty"]])


def test_a_file_that_is_gone_when_its_turn_comes_is_named_and_the_next_is_sent(site: Browser, tmp_path: Path) -> None:
    _, gone, _ = files = _files(tmp_path, "first.png", "gone.png", "last.png")
    Desk.answers, Desk.meanwhile = [TAKEN] * 3, gone.unlink
    _choose_three(site, files)
    assert _sent() == ["first.png", "last.png"]
    assert [state[:31] for _, state in _states(site)] == ["1 taken", "the file can no longer be read:", "1 taken"]


def test_a_file_that_vanishes_while_the_server_is_busy_keeps_no_other_waiting(site: Browser, tmp_path: Path) -> None:
    gone, *_ = files = _files(tmp_path, "gone.png", "next.png", "last.png")
    Desk.answers, Desk.meanwhile = [(503, b"", "text/plain", {"Retry_After": "1"}), TAKEN, TAKEN], gone.unlink
    _choose_three(site, files)
    assert _sent() == ["gone.png", "next.png", "last.png"]
    assert [state[:31] for _, state in _states(site)] == ["the file can no longer be read:", "1 taken", "1 taken"]


def _choose_three(site: Browser, files: list[Path]) -> None:
    """Choose files on the page of a case and wait until each was sent or passed over."""
    site.visit("/case")
    site.choose_files("#images", files)
    site.wait("document.querySelector('[data-sending-said]').textContent === '3 files sent'")


def test_results_arrive_by_themselves_and_then_no_more_is_asked(site: Browser) -> None:
    site.visit("/case")
    assert site.evaluate("document.querySelector('[data-live-every]') !== null")
    before = Desk.html["case"]
    context = contexts()["case.html"]
    context["case"] |= {"waiting": 0, "done": 19}
    Desk.html["case"] = environment().get_template("case.html").render(context)
    try:
        site.wait("document.querySelector('[data-live-every]') === null")
        assert site.evaluate("document.querySelector('#images') !== null")
    finally:
        Desk.html["case"] = before


def test_small_pictures_of_cells_are_square(site: Browser) -> None:
    site.visit(CELL)
    sides = "[...document.querySelectorAll('.strip img')].map((i) => [i.clientWidth, i.clientHeight])"
    assert {width - height for width, height in json.loads(site.evaluate(f"JSON.stringify({sides})"))} == {0}


def test_the_colours_change_without_loading_the_page(site: Browser) -> None:
    site.visit("/cases")
    site.evaluate("document.querySelector('.theme [value=dark]').click()")
    assert site.evaluate("document.documentElement.dataset.theme") == "dark"
    assert "theme=dark" in site.evaluate("document.cookie")
    assert site.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(16, 21, 26)"
    site.evaluate("document.querySelector('.theme [value=\"\"]').click()")
    assert site.evaluate("document.documentElement.dataset.theme") is None
    assert Desk.posts == []
