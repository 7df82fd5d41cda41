"""Look at the pages: render every template with invented contexts, and take pictures of them with Chromium.

    PYTHONPATH=tests python -m support.web.preview FOLDER [--pages reading,case] [--widths 360,1280] [--themes dark]

Writes FOLDER/NAME.html and, where a Chromium is installed, FOLDER/NAME-WIDTH-THEME.png, and prints what a browser can
measure: pages wider than the window, targets below 24 pixels (WCAG 2.2, 2.5.8), errors of scripts and of the policy.
Pictures of cells are generated; nothing here is data of a person.
"""

from __future__ import annotations

import argparse
import base64
import functools
import http.server
import io
import itertools
import json
import re
import sys
import threading
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from support.generated_cells import make_cell
from support.web.browser import Browser, find_programs
from support.web.contexts import VARIANTS, WEB, contexts, environment

POLICY = (
    "default-src 'none'; img-src 'self'; style-src 'self'; script-src 'self'; connect-src 'self'; form-action 'self'"
)

#: Pictures below the window are loaded too before one is taken of the page.
LOAD = """Promise.all([...document.images].map((image) => {
  image.loading = 'eager';
  return image.decode().catch(() => {});
}))"""

#: Said by the browser of a page: its overflow and its small targets.
MEASURE = """(() => {
  const small = [...document.querySelectorAll('a, button, input, select, summary, textarea')].filter((e) => {
    const box = e.getBoundingClientRect();
    if (!box.width || e.closest('.unseen, .skip') || e.matches('.unseen, [type=hidden], [type=checkbox]')) return false;
    const inText = getComputedStyle(e).display === 'inline';
    return !inText && (box.width < 24 || box.height < 24);
  }).map((e) => e.outerHTML.slice(0, 90));
  const wide = document.documentElement.scrollWidth - document.documentElement.clientWidth;
  return JSON.stringify({ wide, small: small.slice(0, 4), height: document.documentElement.scrollHeight });
})()"""


def pages() -> dict[str, str]:
    """Name of a page to its HTML."""
    jinja, known = environment(), contexts()
    rows = [(name.removesuffix(".html"), name, {}) for name in known] + list(VARIANTS)
    return {name: jinja.get_template(template).render(known[template] | more) for name, template, more in rows}


@functools.cache
def picture(seed: int, kind: str) -> bytes:
    """A generated cell, its thumbnail or a map laid over it, as PNG."""
    cell = make_cell(seed, 148)
    if kind == "thumbnail":
        cell = cv2.resize(cell, (96, 96), interpolation=cv2.INTER_AREA)
    if kind == "map":
        coarse = np.random.default_rng(seed).normal(0, 0.3, (7, 7)).astype(np.float32)
        coarse[2:5, 2:5] += 0.9
        values = np.clip(cv2.resize(coarse, (148, 148), interpolation=cv2.INTER_CUBIC), -1, 1)
        colour = np.where(values[..., None] > 0, [200, 20, 45], [20, 95, 190])
        cell = np.dstack([colour, np.abs(values) * 255]).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(cell).save(out, "PNG")
    return out.getvalue()


class Site(http.server.BaseHTTPRequestHandler):
    """Pages under /NAME, static files and pictures under the addresses of the application."""

    html: dict[str, str]

    def do_GET(self) -> None:  # the name that http.server calls
        path = self.path.partition("?")[0]
        found = re.fullmatch(r"/images/([0-9a-f]+)(?:/(\w+))?", path)
        if found:
            body, kind = picture(int(found[1], 16), found[2] or ""), "image/png"
        elif path.startswith("/static/") and (file := WEB / "static" / Path(path).name).is_file():
            kinds = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
            body, kind = file.read_bytes(), kinds[file.suffix]
        else:
            text = self.page(path)
            body, kind = text.encode(), "text/html; charset=utf-8"
        self.answer(200 if body else 404, body, kind)

    def page(self, path: str) -> str:
        """The page at an address; any cell's is the same."""
        return self.html.get("reading" if "/cells/" in path else path.strip("/"), "")

    def answer(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        """Send an answer under the application's policy."""
        self.send_response(status)
        headers |= {"Content-Type": kind, "Content-Security-Policy": POLICY, "Content-Length": str(len(body))}
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *parts: object) -> None:
        """Say nothing."""


def main() -> None:
    """Render, and take pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pages", default="")
    parser.add_argument("--widths", default="360,1280,2560")
    parser.add_argument("--themes", default="light,dark")
    parser.add_argument("--script", default="", help="run in each page before its picture is taken")
    parser.add_argument("--media", default="", help="print shows what goes to paper")
    chosen = parser.parse_args()
    chosen.folder.mkdir(parents=True, exist_ok=True)
    Site.html = pages()
    for name, html in Site.html.items():
        (chosen.folder / f"{name}.html").write_text(html, encoding="utf-8")
    programs = find_programs()
    if programs is None:
        raise SystemExit("no Chromium or no chromedriver: the pages are rendered, no pictures taken")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    names = chosen.pages.split(",") if chosen.pages else list(Site.html)
    browser = Browser(programs, f"http://127.0.0.1:{server.server_port}")
    faults = 0
    try:
        for name, width in itertools.product(names, map(int, chosen.widths.split(","))):
            height = {360: 740, 2560: 1440}.get(width, 800)
            browser.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False
            )
            for theme in chosen.themes.split(","):
                feature = [{"name": "prefers-color-scheme", "value": theme}]
                browser.call("Emulation.setEmulatedMedia", media=chosen.media, features=feature)
                browser.log()
                browser.visit(f"/{name}")
                if chosen.script:
                    browser.evaluate(chosen.script)
                browser.evaluate(LOAD)
                found = json.loads(browser.evaluate(MEASURE))
                said = [entry["message"] for entry in browser.log() if "[DOM]" not in entry["message"]]
                if found["wide"] > 0 or found["small"] or said:
                    faults += 1
                    print(name, width, theme, {k: v for k, v in found.items() if k != "height"}, said)
                clip = {"x": 0, "y": 0, "width": width, "height": min(found["height"], 3200), "scale": 1}
                shot = browser.call("Page.captureScreenshot", format="png", clip=clip, captureBeyondViewport=True)
                (chosen.folder / f"{name}-{width}-{theme}.png").write_bytes(base64.b64decode(shot["data"]))
    finally:
        browser.close()
        server.shutdown()
    print(f"{len(names)} pages, {faults} with faults")


if __name__ == "__main__":
    sys.exit(main())
