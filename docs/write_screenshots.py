"""Make the pictures of the web application's pages in docs/images from generated cells, with a real server and browser.

Run: python docs/write_screenshots.py; with --weights FOLDER (Keras' ResNet50) the model is a network and has heat maps.
It needs the extra 'dev' and a Chromium with its chromedriver. Every cell in the pictures is generated and every name
made up of a role.
"""

from __future__ import annotations

import argparse
import base64
import io
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
from PIL import Image

import cervicyte
from cervicyte.data import synthetic
from cervicyte.web.accounts import registration
from cervicyte.web.base import site

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from support.web.browser import find_programs
from support.web.preview import LOAD
from support.web.process import Person, serving
from support.web.site import PASSWORD

IMAGES = Path(__file__).parent / "images"
HEIGHTS = {360: 1000, 1280: 860}
ALL = tuple((width, theme) for width in HEIGHTS for theme in ("light", "dark"))
#: Colours of a picture, 256 together: of the page around the cells, and of the cells.
AROUND, CELLS = 112, 144
#: Of those around the cells, the most frequent ones, which are kept exactly: paper, cards, lines, text.
FLAT = 24
#: Bytes that all pictures together may have.
MOST = 1_500_000

#: Where cells are on the page.
BOXES = """[...document.querySelectorAll('main img')].map((image) => {
  const box = image.getBoundingClientRect();
  return [box.left, box.top, box.right, box.bottom];
})"""

FIRST, SECOND = "first@lab.example", "second@lab.example"


def main() -> None:
    """Train on generated cells, serve, read a case as two readers would, and take the pictures on the way."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder with Keras' ResNet50 weights; left out: measurements")
    parser.add_argument("--folder", type=Path, default=IMAGES)
    options = parser.parse_args()
    programs = find_programs()
    if programs is None:
        raise SystemExit("Chromium or its chromedriver is not installed: no pictures taken")
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        bundle = _train(folder, options.weights)
        plan = _pictures(folder / "new")
        with serving(folder / "data", "--model", bundle) as server:
            person = Person(programs, server.root, folder / "downloads")
            try:
                _walk(person, server.link, folder / "data", plan, options.folder)
                if person.errors:
                    raise SystemExit(f"the browser logged errors: {person.errors}")
            finally:
                person.close()
    size = sum(path.stat().st_size for path in options.folder.glob("web-*.png"))
    print(f"{size:,} bytes of pictures in {options.folder}")
    if size > MOST:
        raise SystemExit(f"at most {MOST:,} bytes are wanted")


def shoot(person: Person, folder: Path, name: str, *shots: tuple[int, str]) -> None:
    """Take pictures of the page that is open, one for each (width, theme)."""
    for width, theme in shots:
        height = HEIGHTS[width]
        person.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        person.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": theme}])
        # No place is kept for a scroll bar that a headless browser does not draw.
        person.evaluate("document.documentElement.style.scrollbarGutter = 'auto'")
        person.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        person.evaluate(LOAD)
        taken = person.call("Page.captureScreenshot", format="png")
        picture = Image.open(io.BytesIO(base64.b64decode(taken["data"]))).convert("RGB")
        small(picture, person.evaluate(BOXES)).save(folder / f"web-{name}-{width}-{theme}.png", optimize=True)
    person.call("Emulation.clearDeviceMetricsOverride")


def small(picture: Image.Image, boxes: list[list[int]]) -> Image.Image:
    """A picture with 256 colours: a rare one of the page (a symbol's) is kept, and cells get the rest.

    Parameters
    ----------
    boxes : left, top, right and bottom of the cells, in pixels
    """
    pixels = np.asarray(picture)
    cells = np.zeros(pixels.shape[:2], bool)
    for left, top, right, bottom in np.maximum(boxes, 0).astype(int) if boxes else []:
        cells[top:bottom, left:right] = True
    colours, counts = np.unique(pixels[~cells], axis=0, return_counts=True)
    colours = colours[np.argsort(-counts)].astype(int)
    chosen = list(colours[:FLAT])
    distances = np.abs(colours[:, None] - colours[None, :FLAT]).sum(axis=2).min(axis=1)
    while len(chosen) < AROUND:  # each is the farthest from those before it
        chosen.append(colours[int(distances.argmax())])
        distances = np.minimum(distances, np.abs(colours - chosen[-1]).sum(axis=1))
    palette = [int(v) for colour in chosen for v in colour]
    if cells.any():
        taken = Image.fromarray(pixels[cells][None]).quantize(CELLS, method=Image.Quantize.MEDIANCUT)
        palette += (taken.getpalette() or [])[: 3 * CELLS]
    holder = Image.new("P", (1, 1))
    holder.putpalette(palette)
    indices = np.array(picture.quantize(palette=holder, dither=Image.Dither.NONE))
    for i, colour in enumerate(chosen[:FLAT]):  # Pillow looks for near colours, not for the nearest
        indices[(pixels == colour).all(axis=2)] = i
    found = Image.fromarray(indices)
    found.putpalette(palette)
    return found


def _walk(person: Person, set_up: str, data_dir: Path, plan: dict[Path, str], folder: Path) -> None:
    person.visit(set_up)
    fields = {"name": "Administrator", "email": "administrator@lab.example"}
    person.submit("main form", **fields, password=PASSWORD, again=PASSWORD)
    _sign_out(person)
    shoot(person, folder, "sign-in", (360, "light"))

    links = _accounts(data_dir)
    _enter(person, links[FIRST], FIRST)
    person.submit('main form[method="post"]', accession="C26-0417", notes="Liquid-based, Papanicolaou.")
    case = person.path
    person.choose_files("#images", list(plan))
    person.wait("document.querySelectorAll('[data-live-every]').length === 0", 60)
    person.wait(f"document.querySelectorAll('.cells li').length === {len(plan)}", 60)
    verdicts = {path.name: code for path, code in plan.items()}
    person.visit(case)
    person.leave("document.querySelector('#case-actions a').click()")
    person.read(verdicts, 9)
    shoot(person, folder, "reading", *ALL)
    person.visit(case)
    shoot(person, folder, "case", *ALL)
    person.leave("document.querySelector('#case-actions a').click()")
    person.read(verdicts)
    form = f'form[action="{case}/second-reader"]'
    choice = f"[...document.querySelectorAll('{form} option')].find((o) => o.textContent.startsWith('Second')).value"
    person.evaluate(f"document.querySelector('{form} [name=blinded]').checked = true")
    person.submit(form, second_reader=person.evaluate(choice))
    _sign_out(person)

    _enter(person, links[SECOND], SECOND)
    doubted = {"HSIL": "ASC-H", "LSIL": "ASC-US"}
    second = verdicts | {name: doubted[code] for name, code in list(verdicts.items())[::5] if code in doubted}
    person.visit(case)
    person.leave("document.querySelector('#case-actions a').click()")
    person.read(second, 3)
    shoot(person, folder, "blinded", (1280, "light"))
    person.read(second)
    person.visit("/disagreements")
    shoot(person, folder, "disagreements", (1280, "light"), (360, "dark"))
    while person.evaluate("document.querySelectorAll('main tbody form').length"):
        person.submit("main tbody form", verdict="HSIL", comment="Seen together.")
    person.visit(f"{case}/report")
    words = "High-grade squamous cells beside normal ones."
    person.submit(f'form[action="{case}/report/signature"]', conclusion=words, password=PASSWORD)
    person.visit(f"{case}/report")
    shoot(person, folder, "report", *ALL)
    person.visit("/dashboard")
    shoot(person, folder, "dashboard", (1280, "light"), (1280, "dark"), (360, "light"))


def _train(folder: Path, weights: Path | None) -> Path:
    cells = synthetic.generate(folder / "known", n_per_class=16, seed=0, size=128)
    recipe = "resnet50-lr" if weights else "morphology-lr"
    cervicyte.train(cells, folder / "run", recipe, weights=weights, folds=3)
    return folder / "run" / "bundle"


def _pictures(folder: Path) -> dict[Path, str]:
    """New cells, of other slides than those of the training, and what a reader will call them."""
    cells = synthetic.generate(folder, n_per_class=4, seed=7, size=128).cells
    names = {"carcinoma_in_situ": "HSIL", "severe_dysplastic": "HSIL", "moderate_dysplastic": "HSIL"}
    names |= {"light_dysplastic": "LSIL"}
    plan = {}
    for i, cell in enumerate(cells, 1):
        path = folder / f"cell-{i:02d}{Path(cell.path).suffix}"  # the class is not told by the name
        Path(cell.path).rename(path)
        plan[path] = names.get(cell.label, "NILM")
    return plan


def _accounts(data_dir: Path) -> dict[str, str]:
    """Accounts of two readers; the paths by which they choose their passwords."""
    here = site.open_site(data_dir)
    found = {}
    for email, name, role in ((FIRST, "First reader", "reader"), (SECOND, "Second reader", "reviewer")):
        found[email] = urlsplit(registration.add_user(here, "command line", email, name, role).link).path
    here.database.close()
    return found


def _enter(person: Person, link: str, email: str) -> None:
    person.visit(link)
    person.submit("main form", password=PASSWORD, again=PASSWORD)
    person.submit("main form", email=email, password=PASSWORD)


def _sign_out(person: Person) -> None:
    person.leave("document.querySelector('form[action=\"/sign-out\"] button').click()")


if __name__ == "__main__":
    main()
