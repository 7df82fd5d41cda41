"""A walk through the application as its users take it: a real server, a real browser, from the first link to the last.

Administrator, first reader and second reader sit before the same browser, one after the other, as in a small
laboratory. Real Herlev cells are uploaded where they are, else generated ones.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("waitress", reason="the extra 'web' is not installed")

import cervicyte
from support.commands import cervicyte as command
from support.generated_cells import make_cell, save
from support.web.browser import Programs
from support.web.pdf import words_of_pdf
from support.web.process import LACKS, Person, Server, serving
from support.web.site import PASSWORD

ADMINISTRATOR, FIRST, SECOND = "administrator@lab.example", "first@lab.example", "second@lab.example"
#: Of each of two classes. With fewer nothing could be trained on what two readers made of them.
CELLS = 8


@pytest.fixture(scope="module")
def pictures(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[Path]]:
    """Cells that are read as NILM, and as HSIL."""
    try:
        herlev = request.getfixturevalue("shared") / "data" / "herlev"
    except pytest.skip.Exception:
        folder = tmp_path_factory.mktemp("cells")
        files = [Path(save(make_cell(i, 120), folder / f"cell-{i:02d}.png")) for i in range(2 * CELLS)]
        return {"NILM": files[:CELLS], "HSIL": files[CELLS:]}
    names = {"NILM": "normal_superficiel", "HSIL": "severe_dysplastic"}
    return {code: sorted((herlev / name).iterdir())[:CELLS] for code, name in names.items()}


@pytest.fixture(scope="module")
def server(trained, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with serving(tmp_path_factory.mktemp("server") / "data", "--model", trained.bundle) as found:
        yield found


@pytest.fixture(scope="module")
def person(chromium: Programs, server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Person]:
    found = Person(chromium, server.root, tmp_path_factory.mktemp("downloads"))
    try:
        yield found
    finally:
        found.close()


def test_from_the_first_link_to_a_signed_report_a_new_model_and_out(
    server: Server, person: Person, pictures: dict[str, list[Path]], tmp_path: Path
) -> None:
    links = _set_up(person, server.link)
    plan = {path.name: code for code, files in pictures.items() for path in files}

    _enter(person, links[FIRST], FIRST)
    number = _open_case(person)
    _upload(person, pictures, tmp_path)
    _read_with_keys(person, number, plan)
    _assign(person, number)
    _look(person, "/cases", f"/cases/{number}", f"/cases/{number}?view=table", "/second", "/history", "/account")
    _leave(person, number)

    _enter(person, links[SECOND], SECOND)
    disputed = next(path.name for path in pictures["HSIL"])
    _read_blinded(person, number, plan | {disputed: "NILM"})
    _settle(person, disputed)
    _sign_and_amend(person, number)
    _train_on_export(person, number, plan, tmp_path)
    _look(person, "/second", "/disagreements", f"/cases/{number}/report", "/history", "/dashboard")
    _leave(person, number)

    assert person.errors == []
    assert "Traceback" not in server.log.read_text(encoding="utf-8")
    assert server.end() == 0


def _set_up(person: Person, link: str) -> dict[str, str]:
    """The administrator's first steps; the links by which the two readers choose their passwords."""
    person.visit(link)
    _look(person)
    person.submit("main form", name="Administrator", email=ADMINISTRATOR, password=PASSWORD, again=PASSWORD)
    assert person.path == "/cases"
    _leave(person)
    person.submit("main form", email=ADMINISTRATOR, password=PASSWORD)
    assert person.path == "/cases"
    links = {}
    for email, role in ((FIRST, "reader"), (SECOND, "reviewer")):
        person.visit("/admin/invite")
        person.submit("main form", email=email, role=role)
        links[email] = person.evaluate("document.getElementById('invitation-link').value")
    _look(person, "/admin/users", "/admin/invite", "/admin/upkeep", "/admin/audit")
    person.submit("main form[method=post]")
    assert "rows are whole" in person.text
    person.visit("/cases")
    _leave(person)
    return links


def _enter(person: Person, link: str, email: str) -> None:
    """Choose a password by the link that was handed over, and sign in with it."""
    person.visit(link)
    _look(person)
    person.submit("main form", password=PASSWORD, again=PASSWORD)
    assert person.path == "/sign-in"
    _look(person)
    person.submit("main form", email=email, password=PASSWORD)
    assert person.path == "/cases"


def _open_case(person: Person) -> str:
    person.submit('main form[method="post"]', accession="WALK-1", notes="Two classes of cells.")
    found = person.path.removeprefix("/cases/")
    assert "WALK-1" in person.text
    return found


def _upload(person: Person, pictures: dict[str, list[Path]], folder: Path) -> None:
    """Pictures and rubbish together: what is good comes in, what is not is named, and no page is loaded again."""
    *plain, first, last = [path for files in pictures.values() for path in files]
    archive = folder / "slides.zip"
    with zipfile.ZipFile(archive, "w") as made:
        made.write(first, f"tray/{first.name}")
        made.write(last, f"tray/{last.name}")
        made.write(first, "../../../out-of-the-walk.png")
    lie = folder / "lie.png"
    lie.write_text("This is a letter, not a picture.\n")
    person.evaluate("window.stayed = true")
    person.choose_files("#images", [lie, *plain, archive])
    person.wait(f"document.querySelector('[data-sending-said]').textContent === '{len(plain) + 2} files sent'", 30)
    sent = str(person.evaluate("document.querySelector('[data-sending]').innerText"))
    assert "not a picture" in sent or "not an image" in sent, sent
    assert "2 taken, 1 refused" in sent
    assert "leads out of the archive" in sent
    person.wait("!document.querySelector('[data-live-every]')", 30)
    assert person.evaluate("document.querySelectorAll('#case-cells .cells li').length") == 2 * CELLS
    assert person.evaluate("window.stayed") is True
    assert not list(folder.parent.rglob("out-of-the-walk*"))


def _read_with_keys(person: Person, number: str, plan: dict[str, str]) -> None:
    """Every cell with the keyboard alone: a comment, a mistake taken back, and a verdict for each."""
    person.tab_to("Start reading")
    person.press("Enter")
    person.wait("document.querySelector('[data-reading]') && document.readyState === 'complete'")
    _look(person)
    first = person.cell
    person.press("c")
    for letter in "halo 5":  # letters and digits of a comment decide nothing
        person.press(letter)
    person.press("Escape")
    person.press("u")
    person.wait(f"document.querySelector('.under bdi')?.textContent !== {first!r}")
    person.press("z")
    person.wait(f"document.querySelector('.under bdi')?.textContent === {first!r}")
    person.read(plan)
    assert person.path == f"/cases/{number}"
    assert f"{len(plan)} decided by you" in " ".join(person.text.split())


def _assign(person: Person, number: str) -> None:
    """The second reader, blinded."""
    form = f'form[action="/cases/{number}/second-reader"]'
    choice = person.evaluate(
        f"[...document.querySelectorAll('{form} option')].find((o) => o.textContent.startsWith('second')).value"
    )
    person.evaluate(f"document.querySelector('{form} [name=blinded]').checked = true")
    person.submit(form, second_reader=choice)
    assert "blinded" in person.text


def _read_blinded(person: Person, number: str, plan: dict[str, str]) -> None:
    """The second reading: nothing of the model or the first reader is seen until the last cell is decided."""
    person.visit("/second")
    assert number in person.text
    for path in (f"/cases/{number}", person.evaluate(f"document.querySelector('a[href=\"/cases/{number}\"]').href")):
        person.visit(path)
        assert person.evaluate("document.querySelectorAll('.badge, .cells .decided, svg.bar').length") == 0
    person.tab_to("Start reading")
    person.press("Enter")
    person.wait("document.querySelector('[data-reading]') && document.readyState === 'complete'")
    _look(person)
    assert "Blinded reading" in person.text
    for hidden in ("Probability that", "Agree", "Other readings", "halo", "nucleus"):
        assert hidden not in person.text
    assert person.evaluate("document.querySelector('[data-map]')") is None
    person.read(plan)
    assert person.path == f"/cases/{number}"


def _settle(person: Person, name: str) -> None:
    """The one cell on which the two differ."""
    person.visit("/disagreements")
    assert person.evaluate("document.querySelectorAll('main tbody tr').length") == 1
    assert name in person.text
    assert "Cohen" in person.text
    assert "not graded" not in person.text  # the model's answer is told whole to who was blinded until now
    person.submit("main tbody form", verdict="HSIL", comment="Seen together.")
    assert "Nothing to settle" in person.text


def _sign_and_amend(person: Person, number: str) -> None:
    """A signed report, its PDF, and a second version that does not overwrite the first."""
    sign = f'form[action="/cases/{number}/report/signature"]'
    person.visit(f"/cases/{number}/report")
    _look(person)
    person.submit(sign, conclusion="High-grade cells among normal ones.", password="wrong words here")
    assert "Version 1 is signed" not in person.text
    assert "password is wrong" in person.text
    assert [line for line in person.errors if "422" not in line] == []
    person.errors.clear()  # the browser logs the refusal, which was meant
    person.submit(sign, conclusion="High-grade cells among normal ones.", password=PASSWORD)
    assert "Version 1 is signed" in person.text
    words = _pdf(person)
    assert f"Case {number}" in words
    assert "High-grade cells" in words
    person.submit(sign, conclusion="High-grade cells.", reason="Shorter.", password=PASSWORD)
    assert "Version 2 is signed" in person.text
    assert "Amended: Shorter." in person.text
    assert "Shorter." in _pdf(person)
    person.visit(f"/cases/{number}/report?version=1")
    assert "among normal ones" in person.text


def _pdf(person: Person) -> str:
    """The words of the PDF behind the page's button."""
    file = person.download("document.querySelector('a[href*=\"report.pdf\"]').click()", ".pdf")
    data = file.read_bytes()
    assert data.startswith(b"%PDF")
    return words_of_pdf(data)


def _train_on_export(person: Person, number: str, plan: dict[str, str], folder: Path) -> None:
    """The way round: what two readers decided, exported, is what the next model is trained on."""
    person.visit("/history")
    person.evaluate("document.querySelector('main details').open = true")
    form = 'form[action="/export/cells.zip"]'
    file = person.download(f"document.querySelector('{form} button').click()", ".zip")
    with zipfile.ZipFile(file) as packed:
        packed.extractall(folder / "data")
    cells = cervicyte.load(folder / "data")
    assert sorted(cell.label for cell in cells.cells) == sorted(plan.values())
    assert {cell.group for cell in cells.cells} == {number}
    # One case is one group: only the random protocol can divide it, and it says what its numbers are worth.
    options = ("--recipe", "morphology-lr", "--protocol", "random", "--folds", "2")
    done = command("train", folder / "data", "--out", folder / "run", *options)
    assert done.returncode == 0, done.stderr
    assert (folder / "run" / "bundle" / "manifest.json").is_file()


def _leave(person: Person, number: str = "") -> None:
    """Sign out by the menu; the browser's way back shows nothing of what was there."""
    person.evaluate("document.querySelector('[data-menu]').open = true")
    person.leave("document.querySelector('form[action=\"/sign-out\"] button').click()")
    assert person.path == "/sign-in"
    person.leave("history.back()")
    assert person.path == "/sign-in"
    assert not number or number not in person.text
    person.visit("/sign-in")


def _look(person: Person, *paths: str) -> None:
    """The basics of accessibility on these pages, or on the one that is open: names, headings, visible focus."""
    for path in paths or ("",):
        if path:
            person.visit(path)
        assert person.evaluate(LACKS) == [], person.path
        assert person.hidden_focus() == [], person.path
