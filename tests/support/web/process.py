"""The server as a process and a person with a browser before it: for walks through the pages and pictures of them."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from cervicyte.web.reading.categories import CATEGORIES
from support.web.browser import Browser, Programs

#: The keys of the verdicts.
_KEYS = {category.code: category.key for category in CATEGORIES}

#: What a page lacks: one heading of the first level, names of controls, alternatives of pictures, ids used once.
LACKS = """(() => {
  const bad = [];
  const said = (e) => (e.getAttribute('aria-label') || e.textContent || '').trim()
    || [...e.querySelectorAll('img')].map((i) => i.alt).join('');
  if (document.querySelectorAll('h1').length !== 1) bad.push('not one h1');
  if (!document.documentElement.lang || !document.title) bad.push('no language or title');
  for (const e of document.querySelectorAll('input:not([type=hidden]), select, textarea'))
    if (!e.getAttribute('aria-label') && ![...(e.labels ?? [])].some((l) => l.textContent.trim()))
      bad.push(e.outerHTML);
  for (const e of document.querySelectorAll('img:not([alt])')) bad.push(e.outerHTML);
  for (const e of document.querySelectorAll('a[href], button, summary')) if (!said(e)) bad.push(e.outerHTML);
  const ids = [...document.querySelectorAll('[id]')].map((e) => e.id);
  for (const id of ids) if (ids.indexOf(id) !== ids.lastIndexOf(id)) bad.push('twice: ' + id);
  return bad.map((text) => text.slice(0, 160));
})()"""

#: Of the element that has the keyboard: null for none, '' where one sees that it has it, else the element. The parts of
#: one control (day, month, year, the calendar's button) are drawn by the browser.
_FOCUS = """(() => {
  const e = document.activeElement;
  if (!e || e === document.body) return null;
  if (e === window.focusedBefore) return '';
  window.focusedBefore = e;
  const shown = e.matches('.unseen') && e.labels?.length ? e.labels[0] : e;
  const style = getComputedStyle(shown), box = shown.getBoundingClientRect();
  const ring = style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2;
  return ring && box.width > 1 && box.height > 1 ? '' : e.outerHTML.slice(0, 160);
})()"""


class Server:
    """`cervicyte serve` in a process of its own, started and ready."""

    def __init__(self, data_dir: Path, *options: object, env: dict[str, str] | None = None) -> None:
        self.log = data_dir.parent / "server.log"
        command = [sys.executable, "-m", "cervicyte", "serve", "--port", "0", "--data-dir", data_dir, *options]
        kept = {name: value for name, value in os.environ.items() if name != "CERVICYTE_PUBLIC_URL"}
        with self.log.open("w", encoding="utf-8") as log:
            self.process = subprocess.Popen(
                list(map(str, command)), stdout=subprocess.PIPE, stderr=log, text=True, env=kept | (env or {})
            )
        assert self.process.stdout is not None
        self.said: list[str] = []
        self.root = ""
        for line in self.process.stdout:
            self.said.append(line.strip())
            if found := re.search(r"serves (\S+) from", line):
                self.root = found[1]
                break
        if not self.root:
            raise RuntimeError(f"the server did not start: {self.log.read_text(encoding='utf-8')}")

    @property
    def link(self) -> str:
        """The link that makes the first administrator."""
        return next(line for line in self.said if "/set-up/" in line)

    def end(self) -> int:
        """Ask it to end; its exit code."""
        self.process.terminate()
        code = self.process.wait(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


@contextlib.contextmanager
def serving(data_dir: Path, *options: object, env: dict[str, str] | None = None) -> Iterator[Server]:
    """A server that ends with the block, whatever happens in it."""
    server = Server(data_dir, *options, env=env)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            try:
                server.end()
            except subprocess.TimeoutExpired:
                server.process.kill()
                server.process.wait(10)


class Person(Browser):
    """Somebody with a browser: opens pages, types, presses keys, and notes every error that the browser logs."""

    def __init__(self, programs: Programs, root: str, downloads: Path) -> None:
        super().__init__(programs, root)
        self._errors: list[str] = []
        self.downloads = downloads
        downloads.mkdir(parents=True, exist_ok=True)
        self.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))

    @property
    def errors(self) -> list[str]:
        """Every error that the browser logged until now; what is cleared is forgotten."""
        self._errors += [entry["message"] for entry in self.log() if entry["level"] == "SEVERE"]
        return self._errors

    def leave(self, script: str) -> None:
        """Do what leads to another page, and wait for that."""
        self.evaluate("window.left = true")
        self.evaluate(script)
        self.wait("window.left !== true && document.readyState === 'complete'")

    def submit(self, form: str, **fields: str) -> None:
        """Fill in a form and press its button."""
        for name, text in fields.items():
            self.fill(f'{form} [name="{name}"]', text)
        self.leave(f"document.querySelector({json.dumps(form)}).querySelector('button:not([hidden])').click()")

    def fill(self, selector: str, text: str) -> None:
        """Type into a field instead of what is in it, or choose from a list."""
        script = (
            "(() => { const e = document.querySelector(%s); e.focus(); if (e.matches('select')) {"
            " e.value = %s; return e.value === %s; } e.select(); return null; })()"
        )
        words = json.dumps(text)
        chosen = self.evaluate(script % (json.dumps(selector), words, words))
        assert chosen is not False, f"{selector} has no choice {text!r}"
        if chosen is None:
            self.call("Input.insertText", text=text)

    def tab_to(self, words: str, most: int = 60) -> None:
        """Press Tab until what has the keyboard says these words."""
        for _ in range(most):
            self.press("Tab")
            if words in str(self.evaluate("document.activeElement.innerText")):
                return
        raise AssertionError(f"Tab never came to {words!r} on {self.path}")

    @property
    def cell(self) -> str:
        """The name of the cell that is read."""
        return str(self.evaluate("document.querySelector('.under bdi').textContent"))

    def read(self, verdicts: dict[str, str], most: int = 10_000) -> None:
        """Decide cells with one key each, by their names, until the case's page comes back or so many are decided."""
        for _ in range(most):
            self.wait("document.readyState === 'complete'")
            if not self.evaluate("!!document.querySelector('[data-reading]')"):
                return
            here = self.path
            self.press(_KEYS[verdicts[self.cell]])
            self.wait(f"location.pathname !== {here!r}")

    def download(self, script: str, ending: str, seconds: float = 15) -> Path:
        """Do what downloads a file, and wait until it is whole."""
        before = set(self.downloads.iterdir())
        self.evaluate(script)
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            new = [path for path in set(self.downloads.iterdir()) - before if path.suffix == ending]
            if new:
                return new[0]
            time.sleep(0.05)
        raise AssertionError(f"no {ending} came down: {sorted(self.downloads.iterdir())}")

    def hidden_focus(self, most: int = 25) -> list[str]:
        """Elements that get the keyboard, by Tab from the top of the page, without one seeing it."""
        self.evaluate("document.activeElement.blur()")
        bad = []
        for _ in range(most):
            self.press("Tab")
            found = self.evaluate(_FOCUS)
            if found is None:
                break
            if found:
                bad.append(found)
        self.evaluate("document.activeElement.blur()")  # what is typed next goes into no field
        return bad
