"""Pages: each renders with what is documented, escapes what is hostile, obeys the policy and can be read by all."""

from __future__ import annotations

import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from hypothesis import given, strategies as st

from cervicyte.data.labels import BETHESDA
from cervicyte.web.formatting import visible
from cervicyte.web.pages import ROUTES
from cervicyte.web.pages.charts import bar_chart, line_chart
from cervicyte.web.reading.categories import CATEGORIES, SEVERITIES, severity
from support.web.contexts import VARIANTS, WEB, contexts, environment

HOSTILE = "\"'><script>alert(1)</script><b data-evil onclick=x style=y>{{ 7*7 }}\u202egnp.exe\u0000\u2066&amp;"
ENVIRONMENT = environment()
PAGES = {name.removesuffix(".html"): (name, {}) for name in contexts()} | {n: (t, more) for n, t, more in VARIANTS}
VOID = {"meta", "link", "input", "img", "br", "hr", "source"}


class Reader(HTMLParser):
    """Elements of a page: (tag, attributes, open ancestors), and their text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None], tuple[int, ...]]] = []
        self.text: dict[int, str] = {}
        self.open: list[tuple[str, int]] = []
        self.faults: list[str] = []
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag, _ in self.open]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        self.faults += [f"<{tag}> has {n} twice" for n in names if names.count(n) > 1]
        self.elements.append((tag, dict(attrs), tuple(i for _, i in self.open)))
        if tag not in VOID:
            self.open.append((tag, len(self.elements) - 1))

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open[-1][0] != tag:
            self.faults.append(f"</{tag}> closes {self.open[-1:] or 'nothing'}")
        elif self.open:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        for _, i in self.open:
            self.text[i] = self.text.get(i, "") + data

    def all(self, *tags: str) -> Iterator[tuple[int, dict[str, str | None], tuple[int, ...]]]:
        return ((i, attrs, above) for i, (tag, attrs, above) in enumerate(self.elements) if tag in tags)


def render(page: str, hostile: bool = False) -> str:
    template, more = PAGES[page]
    context = contexts((lambda text: text + HOSTILE) if hostile else str)[template]
    return ENVIRONMENT.get_template(template).render(context | more)


def test_every_template_is_documented_and_has_a_context() -> None:
    files = {p.name for p in (WEB / "templates").glob("*.html") if not p.name.startswith("_")} - {"base.html"}
    assert files == set(contexts())
    named = {route.template for route in ROUTES if route.template}
    assert files - {"error.html"} == named
    text = __import__("cervicyte.web.pages").web.pages.__doc__
    assert all(re.search(rf"^{re.escape(name)} ", text, re.M) for name in files)


def test_endpoints_are_unique() -> None:
    assert len({route.endpoint for route in ROUTES}) == len(ROUTES)
    taken = [(method, route.rule) for route in ROUTES for method in route.methods.split()]
    assert len(set(taken)) == len(taken)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_whole_titled_and_has_one_heading(page: str) -> None:
    text = render(page)
    found = Reader(text)
    assert not found.faults
    assert text.lstrip().startswith("<!doctype html>")
    assert next(found.all("html"))[1]["lang"] == "en"
    title = next(found.all("title"))[0]
    assert found.text[title].removesuffix(" · cervicyte").strip()
    headings = list(found.all("h1"))
    assert len(headings) == 1
    assert found.text[headings[0][0]].strip()
    assert len(list(found.all("main"))) == 1
    ids = [attrs["id"] for _, attrs, _ in found.all(*{tag for tag, _, _ in found.elements}) if "id" in attrs]
    assert len(set(ids)) == len(ids)
    levels = [int(tag[1]) for tag, _, _ in found.elements if re.fullmatch("h[1-6]", tag)]
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels)), levels


@pytest.mark.parametrize("page", PAGES)
def test_forms_that_post_carry_csrf_and_those_that_get_do_not_leak_it(page: str) -> None:
    found = Reader(render(page))
    forms = {i: attrs for i, attrs, _ in found.all("form")}
    tokens = {i: 0 for i in forms}
    for _, attrs, above in found.all("input"):
        if attrs.get("name") == "csrf":
            assert attrs["value"] == "c5rf-token"
            tokens[next(i for i in reversed(above) if i in forms)] += 1
    for i, attrs in forms.items():
        assert attrs["method"] in ("get", "post")
        assert attrs["action"].startswith("/")
        assert tokens[i] == (attrs["method"] == "post"), attrs


@pytest.mark.parametrize("page", PAGES)
def test_every_input_is_labelled_and_every_control_has_a_name(page: str) -> None:
    found = Reader(render(page))
    labels = {attrs.get("for") for _, attrs, _ in found.all("label")}
    wraps = {i for i, _, _ in found.all("label")}
    for _, attrs, above in found.all("input", "select", "textarea"):
        if attrs.get("type") != "hidden":
            assert attrs.get("id") in labels - {None} or wraps & set(above) or attrs.get("aria-label"), attrs
    for i, attrs, _ in found.all("button", "a", "summary"):
        inside = [a for _, a, above in found.all("img") if i in above and a.get("alt")]
        assert found.text.get(i, "").strip() or attrs.get("aria-label") or inside, attrs
    for _, attrs, _ in found.all("img"):
        assert "alt" in attrs
    for _, attrs, _ in found.all("progress"):
        assert attrs.get("aria-label")
    for _, attrs, _ in found.all("svg"):
        assert attrs.get("aria-hidden") == "true" or (attrs.get("role") == "img" and attrs.get("aria-label"))


@pytest.mark.parametrize("page", PAGES)
def test_hostile_text_is_escaped_and_the_policy_holds(page: str) -> None:
    text = render(page, hostile=True)
    found = Reader(text)
    assert not found.faults
    assert {tag for tag, _, _ in found.elements} == {tag for tag, _, _ in Reader(render(page)).elements}
    assert "49" not in re.findall(r"data-evil[^{]*(\{\{ 7\*7 \}\}|49)", text)
    assert not re.search("[\u202a-\u202e\u2066-\u2069\u0000]", text)
    for tag, attrs, _ in found.elements:
        assert "style" not in attrs
        assert tag != "style"
        assert "data-evil" not in attrs
        assert not [name for name in attrs if name.startswith("on")], attrs
        for name in ("src", "href", "action"):
            if name in attrs and not (attrs[name] or "").startswith("otpauth://"):
                assert re.match(r"/(?!/)|\?|#", attrs[name] or ""), attrs[name]
    for i, attrs, _ in found.all("script"):
        assert attrs["src"].startswith("/static/")
        assert i not in found.text


def test_links_lead_to_files_and_symbols_that_are_there() -> None:
    static = WEB / "static"
    symbols = {e.get("id") for e in ElementTree.parse(static / "icons.svg").iter() if e.tag.endswith("symbol")}
    assert {row.name for row in SEVERITIES} <= symbols
    for page in PAGES:
        for _, attrs, _ in Reader(render(page)).all("use", "script", "link"):
            path, _, symbol = (attrs.get("href") or attrs["src"]).partition("#")
            if path.startswith("/static/"):
                assert (static / path.removeprefix("/static/")).is_file()
            assert not symbol or symbol in symbols, symbol


def test_scripts_and_styles_are_ours_alone_and_never_make_markup_of_data() -> None:
    for path in (WEB / "static").iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?://|//[a-z0-9-]+\.[a-z]{2,}|@import|url\(", text), path.name
        if path.suffix == ".js":
            bad = r"(inner|outer)HTML|insertAdjacentHTML|document\.write|\beval\(|new Function"
            assert not re.search(bad + r"|setAttribute\(['\"](style|on)", text), path.name
        if path.suffix == ".svg":
            assert not re.search(r"<script|\son\w+=|\sstyle=", text)


def _colours() -> dict[str, tuple[str, str]]:
    text = (WEB / "static" / "style.css").read_text()
    return {n: (a, b) for n, a, b in re.findall(r"--([\w-]+): light-dark\((#\w{6}), (#\w{6})\)", text)}


def _contrast(one: str, two: str) -> float:
    """Contrast ratio of two colours by WCAG 2.2."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    high, low = sorted((luminance(one), luminance(two)), reverse=True)
    return (high + 0.05) / (low + 0.05)


SEVERE = ("normal", "low", "high", "cancer", "uncertain", "plain")
TEXT = [(ink, ground) for ink in ("ink", "soft") for ground in ("paper", "card", "raised", "stage")]
TEXT += [("accent", g) for g in ("paper", "card", "accent-back")] + [("on-accent", "accent"), ("high", "card")]
TEXT += [(name, f"{name}-back") for name in SEVERE] + [(name, "card") for name in SEVERE]
SHAPES = [("edge", "card"), ("edge", "paper"), ("accent", "raised"), ("high", "raised"), ("uncertain", "raised")]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_colours_can_be_told_apart(theme: int) -> None:
    colours = {name: pair[theme] for name, pair in _colours().items()}
    weak = {p: round(r, 2) for p in TEXT if (r := _contrast(colours[p[0]], colours[p[1]])) < 4.5}
    weak |= {p: round(r, 2) for p in SHAPES if (r := _contrast(colours[p[0]], colours[p[1]])) < 3}
    assert not weak


def test_the_contrast_of_black_and_white_is_known() -> None:
    assert _contrast("#000000", "#ffffff") == pytest.approx(21)


def test_categories_are_those_of_the_label_system_and_the_glandular_one() -> None:
    assert tuple(row.code for row in CATEGORIES) == (*BETHESDA.classes, "AGC")
    assert [row.key for row in CATEGORIES] == list("1234567")
    assert {row.severity for row in CATEGORIES} <= {row.name for row in SEVERITIES}


def test_an_uncertain_cell_is_never_shown_as_normal() -> None:
    assert severity("uncertain", "NILM", False).name == "uncertain"
    assert severity("unsatisfactory", "NILM", False).name == "unsatisfactory"
    assert severity("some class", None, None).name == "ungraded"
    assert severity("HSIL").name == "high"


def test_a_blinded_reader_sees_no_answer_of_the_model() -> None:
    for template in ("reading.html", "case.html"):
        for view in ("grid", "table"):
            context = contexts()[template] | {"hide_model": True, "view": view, "others": [], "review": None}
            for cell in context.get("cells", []):
                cell["verdict"] = None
            page = ENVIRONMENT.get_template(template).render(context)
            text = re.sub(r"(?s)<div class=\"verdict\">.*?</div>|<dl class=\"keys\">.*?</dl>", "", page)
            assert not re.search(r"HSIL|LSIL|dysplastic|carcinoma|\d\s%|/map\b|value=\"agree\"", text)


@given(st.text())
def test_what_is_shown_neither_hides_nor_turns(text: str) -> None:
    assert not re.search(
        "[\u0000-\u0008\u007f-\u009f\u200b\u200e\u200f\u202a-\u202e\u2060-\u2069\ufeff]", visible(text)
    )
    assert visible(visible(text)) == visible(text)


@given(st.lists(st.integers(0, 10**6), max_size=40), st.booleans())
def test_bars_stay_inside_the_plot_and_keep_their_order(values: list[int], percent: bool) -> None:
    chart = bar_chart(range(len(values)), [("cells", values)], percent=percent)
    assert len(chart.rows) == len(values)
    assert len(chart.x_ticks) <= 4
    assert all(0 <= bar.y <= 100 and bar.height <= 100.001 for bar in chart.bars)
    assert all(bar.x + bar.width <= 100.001 for bar in chart.bars)
    ranked = sorted(range(len(values)), key=values.__getitem__)
    assert all(chart.bars[a].height <= chart.bars[b].height for a, b in itertools.pairwise(ranked))
    assert chart.empty == (not any(values))


@given(st.lists(st.none() | st.floats(0, 1), max_size=40))
def test_a_line_is_broken_where_there_is_no_value(values: list[float | None]) -> None:
    chart = line_chart(range(len(values)), [("agreement", values)])
    pairs = sum(a is not None and b is not None for a, b in itertools.pairwise(values))
    assert len(chart.segments) == pairs
    assert len(chart.points) == sum(v is not None for v in values)
    assert all(0 <= p.y <= 100 for p in chart.points)
