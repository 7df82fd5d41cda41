"""A case report as PDF, made from the same body as the page: A4, and on each page its version and checksum.

The letters are those of DejaVu Sans, which comes with matplotlib. What it lacks (Chinese, for example) is shown by
its Unicode number, and a note says so; nothing is left out.
"""

from __future__ import annotations

import importlib.util
import io
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cervicyte.errors import CervicyteError, MissingError
from cervicyte.images import decoding
from cervicyte.web import formatting
from cervicyte.web.reading.categories import find_category

if TYPE_CHECKING:
    from cervicyte.web.reports.reports import ReportCell, View

#: How many of the most suspicious cells are shown as pictures, and how many in a row.
PICTURES, _COLUMNS = 12, 6
#: Sides in mm: of a picture, and of the margins.
_SIDE, _MARGIN = 26.0, 18.0
#: Height of a table's line and padding of its cells, in mm; most lines of a row, so that one always fits on a page.
_LINE, _PADDING, _MOST_LINES = 4.2, 0.6, 40
#: Pixels of a picture's longer side.
_PIXELS = 220

_FONT = "DejaVu"
_GREY = 110
_NOT = (
    "The model judges single pictures of cells. It says nothing of adequacy of a specimen, of cells that are not "
    "pictured, or of a person. It is no medical device; the verdicts above are those of the readers named."
)


def render(view: View, pictures: Callable[[str], bytes | None]) -> bytes:
    """The document's bytes; the same view gives the same document.

    Parameters
    ----------
    view : what is reported
    pictures : the bytes of a picture by its SHA-256, or None where it is not there

    Raises
    ------
    MissingError : the fonts or fpdf2 are not installed
    """
    pdf = _document(view)
    say = _Writer(pdf)
    _head(say, view)
    _facts(say, view)
    say.heading("Conclusion")
    say.text(view.conclusion or "None written yet.")
    if view.summary:
        say.heading("Verdicts")
        rows = [
            (code, c.words if (c := find_category(code)) else formatting.words(code), str(n))
            for code, n in view.summary
        ]
        say.table(("Category", "In words", "Cells"), rows, (25, 125, 24))
    _pictures(say, view, pictures)
    say.heading("Cells, the most suspicious first")
    say.table(
        ("No.", "Picture", "Verdict", "Model", "P(abnormal)", "Reader and comment"),
        [_row(cell) for cell in view.cells],
        (11, 41, 25, 35, 20, 42),
    )
    say.heading("What this is not")
    say.text(_NOT)
    _signature(say, view)
    if say.lacking:
        say.text("Characters that the document's font lacks are shown by their Unicode number, as ⟨U+4E2D⟩.", 8, _GREY)
    return bytes(pdf.output())


class _Writer:
    """Writes text that the font can show; ``lacking`` tells whether something had to be shown by its number."""

    def __init__(self, pdf: Any) -> None:
        self.pdf = pdf
        self.lacking = False

    def clean(self, text: object) -> str:
        shown = formatting.visible(text).replace("\t", " ").replace("\u200c", "").replace("\u200d", "")
        writable = "".join(c if c == "\n" or _has(c) else f"⟨U+{ord(c):04X}⟩" for c in shown)
        self.lacking = self.lacking or writable != shown
        return writable

    def heading(self, text: str) -> None:
        if self.pdf.will_page_break(24):
            self.pdf.add_page()
        self.pdf.ln(4)
        self.text(text, 12, style="B")
        self.pdf.ln(1)

    def text(self, text: object, size: float = 9.5, grey: int = 0, style: str = "") -> None:
        self.pdf.set_font(_FONT, style, size)
        self.pdf.set_text_color(grey)
        self.pdf.multi_cell(0, size * 0.5, self.clean(text), align="L", new_x="LMARGIN", new_y="NEXT")
        self.pdf.set_text_color(0)

    def table(self, head: tuple[str, ...], rows: Sequence[tuple[str, ...]], widths: tuple[int, ...]) -> None:
        self.pdf.set_font(_FONT, "", 8)
        with self.pdf.table(
            col_widths=widths,
            width=sum(widths),
            text_align="LEFT",
            borders_layout="HORIZONTAL_LINES",
            line_height=_LINE,
            padding=_PADDING,
        ) as table:
            for row in (head, *rows):
                for part in self._parts(row, widths):
                    cells = table.row()
                    for text in part:
                        cells.cell(text)

    def _parts(self, row: tuple[str, ...], widths: tuple[int, ...]) -> Iterator[tuple[str, ...]]:
        """A row of a table as rows of at most `_MOST_LINES` lines: fpdf2 breaks no row over two pages, it gives up."""
        texts = tuple(self.clean(text) for text in row)
        wrapped = [
            self.pdf.multi_cell(width - 2 * _PADDING - 2, _LINE, text, dry_run=True, output="LINES")
            for text, width in zip(texts, widths, strict=True)
        ]
        most = max(len(lines) for lines in wrapped)
        if most <= _MOST_LINES:
            yield texts
            return
        for start in range(0, most, _MOST_LINES):
            yield tuple("\n".join(lines[start : start + _MOST_LINES]) for lines in wrapped)


def _document(view: View) -> Any:
    try:
        from fpdf import FPDF
    except ModuleNotFoundError as error:
        raise MissingError("PDF reports need fpdf2", error.name, "pip install 'cervicyte[web]'") from error

    signed = view.signed_at is not None
    number, version = view.case.number, view.version

    class Document(FPDF):  # its pages begin and end as ours must
        def header(self) -> None:
            if not signed:
                self.set_font(_FONT, "B", 90)
                self.set_text_color(225)
                with self.rotation(50, 105, 148):
                    self.text(35, 165, "DRAFT")
                self.set_text_color(0)

        def footer(self) -> None:
            self.set_y(-14)
            self.set_font(_FONT, "", 7)
            self.set_text_color(_GREY)
            checksum = f"SHA-256 {view.sha256}" if signed else "DRAFT, not signed"
            self.cell(0, 3.5, f"Case {number} · version {version} · {checksum}", new_x="LMARGIN", new_y="NEXT")
            self.cell(0, 3.5, f"{view.software} · page {self.page_no()} of {{nb}}")
            self.set_text_color(0)

    pdf = Document(orientation="portrait", unit="mm", format="A4")
    for style, file in (("", "DejaVuSans.ttf"), ("B", "DejaVuSans-Bold.ttf")):
        pdf.add_font(_FONT, style, _fonts() / file)
    pdf.set_margins(_MARGIN, 16, _MARGIN)
    pdf.set_auto_page_break(True, margin=20)
    pdf.set_title(f"Case report {number}, version {version}{'' if signed else ', draft'}")
    pdf.set_lang("en")
    pdf.set_creator(view.software)
    pdf.set_creation_date(view.made_at)
    pdf.add_page()
    return pdf


def _head(say: _Writer, view: View) -> None:
    signed = view.signed_at is not None
    say.text(f"Report on single cells · version {view.version}{'' if signed else ', draft'}", 9, _GREY)
    accession = f" · {view.case.accession}" if view.case.accession else ""
    say.text(f"Case {view.case.number}{accession}", 17, style="B")
    say.text(f"made {formatting.moment(view.made_at)}", 8, _GREY)
    if view.problem:
        say.text(f"Do not rely on this document: {view.problem}.", 11, style="B")
    if view.blinded:
        say.text(view.blinded, 9.5, style="B")
    if view.changed:
        say.text("The case has changed since this version was signed.", 9.5, style="B")
    for n, one, more in (
        (view.case.waiting, "picture waits for the model.", "pictures wait for the model."),
        (view.case.failed, "picture has no answer of the model.", "pictures have no answer of the model."),
        (view.not_read, "cell has no verdict of a reader.", "cells have no verdict of a reader."),
        (view.disputed, "cell has two verdicts that differ.", "cells have two verdicts that differ."),
    ):
        if n:
            say.text(formatting.many(n, one, more), 9.5, style="B")


def _facts(say: _Writer, view: View) -> None:
    case = view.case
    second = f"{case.second_reader}{', blinded' if case.blinded else ''}" if case.second_reader else ""
    failed = f", of which {case.failed} not answered" if case.failed else ""
    rows = [
        ("Reader", case.owner),
        ("Second reader", second),
        ("Opened", formatting.moment(case.created_at)),
        ("Pictures", f"{case.images}{failed}"),
        ("Notes", case.notes),
    ]
    for model in view.models:
        share = f" ({formatting.many(model['cells'], 'cell')})" if len(view.models) > 1 else ""
        rows.append(("Model", f"{model['name']}{share}\nSHA-256 {model['sha256']}"))
        point, set_for = model["operating_point"], model.get("sensitivity")
        words = "not defined" if point is None else formatting.percent(point)
        if point is not None and set_for is not None:
            words += f", set for {formatting.percent(set_for)} sensitivity"
        rows.append(("Operating point", words))
    say.pdf.ln(2)
    say.table(("", ""), [row for row in rows if row[1]], (34, 140))


def _pictures(say: _Writer, view: View, pictures: Callable[[str], bytes | None]) -> None:
    chosen = [c for c in view.cells if c.state == "done" and c.p_abnormal is not None][:PICTURES]
    if not chosen:
        return
    say.heading("The most suspicious cells")
    pdf = say.pdf
    for start in range(0, len(chosen), _COLUMNS):
        if pdf.will_page_break(_SIDE + 10):
            pdf.add_page()
        top = pdf.get_y()
        for k, cell in enumerate(chosen[start : start + _COLUMNS]):
            left = _MARGIN + k * (_SIDE + 3.2)
            small = _small(pictures(cell.sha256), cell)
            if small is None:
                pdf.rect(left, top, _SIDE, _SIDE)
                pdf.set_xy(left, top + _SIDE / 2 - 2)
                pdf.set_font(_FONT, "", 7)
                pdf.cell(_SIDE, 4, "picture not available", align="C")
            else:
                pdf.image(small, left, top, _SIDE, _SIDE, keep_aspect_ratio=True, alt_text=f"Cell {cell.position}")
            pdf.set_xy(left, top + _SIDE + 0.8)
            pdf.set_font(_FONT, "", 7)
            verdict = (
                formatting.words(cell.verdict) if cell.verdict and not find_category(cell.verdict) else cell.verdict
            )
            pdf.multi_cell(
                _SIDE, 3.2, say.clean(f"{cell.position}: {verdict or 'none'}, {formatting.percent(cell.p_abnormal)}")
            )
        pdf.set_xy(_MARGIN, top + _SIDE + 9)


def _small(data: bytes | None, cell: ReportCell) -> io.BytesIO | None:
    from PIL import Image

    if data is None:
        return None
    try:
        picture = Image.fromarray(decoding.decode(data, cell.name))
    except CervicyteError:
        return None
    picture.thumbnail((_PIXELS, _PIXELS))
    stream = io.BytesIO()
    picture.save(stream, "PNG")
    stream.seek(0)
    return stream


def _row(cell: ReportCell) -> tuple[str, ...]:
    if cell.disputed:
        verdict = "two that differ"
    elif cell.verdict is None:
        verdict = "none yet"
    else:
        verdict = cell.verdict if find_category(cell.verdict) else formatting.words(cell.verdict)
    answer = formatting.words(cell.label) + (f" ({cell.bethesda})" if cell.bethesda else "")
    if cell.state != "done":
        answer = cell.reason or cell.state
    comment = "\n".join(part for part in (cell.reader, cell.comment) if part)
    return (str(cell.position), cell.name, verdict, answer, formatting.percent(cell.p_abnormal), comment)


def _signature(say: _Writer, view: View) -> None:
    say.pdf.ln(5)
    if view.signed_at is None:
        say.text("Not signed. A draft.", 10, style="B")
        return
    say.text(f"Signed by {view.signed_by}, {formatting.moment(view.signed_at)}", 10, style="B")
    if view.reason:
        say.text(f"Amended: {view.reason}")
    say.text(f"SHA-256 {view.sha256}", 7.5, _GREY)


def _fonts() -> Path:
    spec = importlib.util.find_spec("matplotlib")
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "mpl-data" / "fonts" / "ttf"
        if (folder / "DejaVuSans.ttf").is_file():
            return folder
    raise MissingError("the fonts of PDF reports are missing", "DejaVuSans.ttf of matplotlib", "pip install matplotlib")


@lru_cache(maxsize=1)
def _known() -> frozenset[int]:
    """Characters that both weights of the font have."""
    from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

    maps = []
    for file in ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf"):
        with TTFont(_fonts() / file, lazy=True) as font:
            maps.append(frozenset(font.getBestCmap()))
    return maps[0] & maps[1]


def _has(character: str) -> bool:
    return ord(character) in _known()
