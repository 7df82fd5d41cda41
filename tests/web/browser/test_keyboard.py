"""Reading with the keyboard alone, in a real browser: a hundred cells, however fast they are typed, each as meant."""

from __future__ import annotations

import socket
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

pytest.importorskip("waitress", reason="the extra 'web' is not installed")

import waitress
from sqlalchemy import func, select

from cervicyte.web.app import create_app
from cervicyte.web.base.schema import User, VerdictRow
from cervicyte.web.base.site import Site
from cervicyte.web.middleware.current import Running
from cervicyte.web.reading import verdicts
from cervicyte.web.reading.categories import CATEGORIES
from support.web.browser import Programs
from support.web.cases import until
from support.web.process import Person
from support.web.records import CLASSES, make_case, predict
from support.web.site import PASSWORD, make_site, make_user
from support.web.threads import running

CELLS = 100
#: What the keys of verdicts store; agreeing stores the class that the model names.
VERDICTS = {category.key: category.code for category in CATEGORIES} | {"u": "unsatisfactory"}
VERDICTS |= dict(zip("qwe", CLASSES.values(), strict=True))

#: Notes, in the page, whenever a key is pressed or a picture drawn while nothing of the reading has the keyboard.
WATCH = """(() => {
  window.lost = [];
  const look = () => {
    const has = document.activeElement;
    if (!has || !document.getElementById('main').contains(has)) window.lost.push(has?.outerHTML.slice(0, 80) ?? '');
  };
  addEventListener('keydown', look, true);
  addEventListener('keyup', look, true);
  const draw = () => { look(); requestAnimationFrame(draw); };
  draw();
})()"""


@dataclass
class Reader:
    """What the keys mean: where one is, and what stands. It is written from the guide, not from the scripts."""

    labels: list[str]
    place: int = 0
    stands: dict[int, tuple[str, str]] = field(default_factory=dict)
    order: list[int] = field(default_factory=list)
    rows: int = 0

    def decide(self, key: str, comment: str | None = None) -> None:
        """A verdict on this cell, then the next without one; a comment that is not written anew stays."""
        here = self.place
        kept = self.stands.get(here, ("", ""))[1] if comment is None else comment
        self.stands[here] = (self.labels[here] if key == "a" else VERDICTS[key], kept)
        self.order = [i for i in self.order if i != here] + [here]
        self.rows += 1
        ahead = [*range(here + 1, len(self.labels)), *range(here)]
        self.place = next((i for i in ahead if i not in self.stands), here)

    def undo(self) -> None:
        """Back to the cell that was decided last."""
        self.place = self.order.pop()
        del self.stands[self.place]
        self.rows += 1


class Lab:
    """One reader's laboratory: a server in this process, and the browser that reads."""

    def __init__(self, site: Site, owner: User, person: Person, failed: list[str]) -> None:
        self.site, self.owner, self.person, self.failed = site, owner, person, failed

    def begin(self, number: str) -> None:
        """Open the case and start to read, by keys."""
        self.person.visit(f"/cases/{number}")
        self.person.tab_to("Start reading")
        self.person.press("Enter")
        self.person.wait("document.querySelector('[data-reading]') && document.readyState === 'complete'")
        self.person.evaluate(WATCH)

    def type(self, keys: Iterable[str]) -> None:
        """Press keys one after the other, without waiting for what they do."""
        self.person.press(*keys)

    def wait(self, decided: int, of: int) -> None:
        """Until the page says that so many are decided."""
        words = f"{decided} of {of} decided"
        self.person.wait(f"document.querySelector('.progress span')?.textContent === '{words}'", 60)

    def stands(self, images: list[str]) -> dict[str, tuple[str, str]]:
        """What is stored of each picture: verdict and comment."""
        with self.site.database.read() as session:
            found = verdicts.standing(session, self.owner, images)
            return {i: (s.first.stored, s.first.comment) for i, s in found.items() if s.first}

    def rows(self, images: list[str]) -> int:
        """How many verdicts were stored, those taken back and the taking back among them."""
        with self.site.database.read() as session:
            return session.scalar(select(func.count()).where(VerdictRow.image_id.in_(images))) or 0


@pytest.fixture(scope="module")
def lab(chromium: Programs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    folder = tmp_path_factory.mktemp("keys")
    failed: list[str] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:
        root = f"http://127.0.0.1:{listening.getsockname()[1]}"
        site = replace(make_site(folder / "data"), public_url=root)
        owner = make_user(site)
        app = create_app(Running(site=site))

        @app.after_request
        def note(answer: Any) -> Any:
            if answer.status_code >= 400:
                failed.append(answer.status)
            return answer

        with closing(site.database), running(waitress.create_server(app, sockets=[listening], threads=4)):
            person = Person(chromium, root, folder / "downloads")
            try:
                person.visit("/sign-in")
                person.submit("main form", email=owner.email, password=PASSWORD)
                yield Lab(site, owner, person, failed)
            finally:
                person.close()


def test_a_hundred_cells_are_read_with_the_keyboard_alone_however_fast_it_is_typed(lab: Lab) -> None:
    scores = [0.99 - 0.009 * k for k in range(CELLS)]  # in the order of reading
    case, images = make_case(lab.site, lab.owner, scores)
    labels = [CLASSES["NILM" if p < 0.3 else "LSIL" if p < 0.7 else "HSIL"] for p in scores]
    lab.begin(case.number)
    told = Reader(labels)
    for k in range(CELLS - 1):
        lab.type(_keys(k, told))
        if k < 20:  # at first one looks at each page, then no more
            lab.wait(k + 1, CELLS)
    lab.wait(CELLS - 1, CELLS)
    assert lab.person.evaluate("window.lost") == []
    assert told.place == CELLS - 1
    told.decide("4")
    lab.type("4")
    lab.person.wait(f"location.pathname === '/cases/{case.number}' && document.readyState === 'complete'")
    assert f"{CELLS} decided by you" in " ".join(lab.person.text.split())

    assert len(told.stands) == CELLS
    assert lab.stands(images) == {images[i]: what for i, what in told.stands.items()}
    assert lab.rows(images) == told.rows  # none twice, none lost
    assert (lab.failed, lab.person.errors) == ([], [])


def _keys(k: int, told: Reader) -> list[str]:
    """What is typed at the k-th cell, of which the reader is told what it means."""
    match k % 10:
        case 1:  # corrected to a category
            told.decide("3")
            return ["3"]
        case 2:  # to a class of the model
            told.decide("w")
            return ["w"]
        case 3:
            told.decide("u")
            return ["u"]
        case 4:  # what is written in a comment decides nothing
            told.decide("5", "dark 1 acaz")
            return ["c", *"dark 1 acaz", "Escape", "5"]
        case 5:  # a mistake, taken back
            told.decide("1")
            told.undo()
            told.decide("4")
            return ["1", "z", "4"]
        case 6:
            told.decide("2")
            return ["ArrowRight", "ArrowLeft", "2"]
        case 7:
            told.decide("E".lower())
            return ["j", "k", "E"]
        case 8:  # the cell before is thought over
            told.place -= 1
            told.decide("6")
            told.decide("7")
            return ["k", "6", "7"]
        case 9:
            told.decide("a", "two\nlines")
            return ["c", *"two", "Enter", *"linesx", "Backspace", "Escape", "a"]
        case _:
            told.decide("a")
            return ["a"]


def test_a_key_that_says_nothing_here_ends_what_was_typed_ahead_and_is_told(lab: Lab) -> None:
    case, images = make_case(lab.site, lab.owner, [0.9, 0.8, 0.7, 0.6])
    predict(lab.site, images[1], 0.8, label="uncertain")  # nothing to agree with
    lab.begin(case.number)
    lab.type("aaaa5")
    lab.person.wait("document.querySelector('[data-told]').textContent.includes('The key A does nothing')")
    assert lab.stands(images) == {images[0]: (CLASSES["HSIL"], "")}  # the others were meant for other cells


def test_the_last_verdict_of_a_case_is_taken_back_though_it_was_typed_ahead(lab: Lab) -> None:
    case, images = make_case(lab.site, lab.owner, [0.9, 0.8])
    lab.begin(case.number)
    lab.type("15z")
    until(lambda: lab.rows(images) == 3)  # the page says "1 of 2" after the first key too
    lab.wait(1, 2)
    assert lab.stands(images) == {images[0]: ("NILM", "")}
    lab.type("66")  # and a key too many at the end of a case changes nothing
    lab.person.wait(f"location.pathname === '/cases/{case.number}' && document.readyState === 'complete'")
    assert lab.stands(images) == {images[0]: ("NILM", ""), images[1]: ("SCC", "")}
    assert lab.rows(images) == 4


def test_that_there_is_nothing_to_take_back_is_said_and_the_cell_stays(lab: Lab) -> None:
    case, images = make_case(lab.site, lab.owner, [0.9])
    lab.begin(case.number)
    here = lab.person.path
    lab.type("z")
    lab.person.wait(
        "document.querySelector('[role=status][data-told]').textContent === 'There is nothing to take back.'"
    )
    assert lab.person.path == here
    assert lab.person.evaluate("window.lost") == []
    lab.type("5")
    lab.person.wait(f"location.pathname === '/cases/{case.number}'")
    assert lab.stands(images) == {images[0]: ("HSIL", "")}
