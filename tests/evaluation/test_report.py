"""The report says what it must, of itself alone, and nothing in the data can break out of it."""

from __future__ import annotations

import dataclasses
import errno
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from cervicyte.base.plots import data_uri
from cervicyte.data import splits
from cervicyte.data.labels import BINARY, HERLEV, LabelSystem
from cervicyte.errors import StorageError, UsageError
from cervicyte.evaluation import figures, metrics, report
from cervicyte.evaluation.results import DIFFERS, Evaluation, Predictions

HOSTILE = (
    '<script>alert("x")</script>',
    "$\\frac{1",
    '"><img src=x onerror=y>',
    "naïve_\udce9_细胞",
    "{{ 7 * 7 }}",
    "",
)
VOID = {"meta", "img", "br", "wbr", "hr", "input", "link"}


def predictions(folder, protocol="grouped", system=HERLEV, n=70, seed=0, op=0.4, skill=2.5, unsure=0.2):
    """Predictions on small pictures made on the spot; every seventh file is no picture."""
    rng = np.random.default_rng(seed)
    k = len(system.classes)
    truth = np.arange(n) % k
    logits = skill * np.eye(k)[truth] + 1.5 * rng.normal(size=(n, k))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    folder.mkdir(exist_ok=True)
    paths = []
    for i in range(n):
        path = folder / f"cell & {i} <b>.png"
        if i % 7:
            Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(path)
        else:
            path.write_bytes(b"not a picture")
        paths.append(str(path))
    p_abnormal = None
    if system.abnormal is not None:
        p_abnormal = p[:, [c in system.abnormal for c in system.classes]].sum(axis=1).clip(0, 1)
    return Predictions(
        protocol,
        system,
        system.classes,
        tuple(paths),
        tuple((2, 2, 18, 18) if i % 2 else None for i in range(n)),
        np.zeros(n, dtype=np.int64),
        np.array([system.classes[t] for t in truth], dtype=object),
        np.array([f"s:{g}" for g in rng.integers(0, 25, n)], dtype=object),
        np.arange(n) % 5,
        p,
        p_abnormal,
        None if op is None or p_abnormal is None else np.full(n, op),
        p.max(axis=1) < np.quantile(p.max(axis=1), unsure),
    )


def evaluation(p, command="cervicyte train DATA --out RUN"):
    warning = splits.get_protocol(p.protocol).warning if p.protocol != "external" else ""
    facts = {"Data set": "a & b", "Recipe": "resnet50-lr", "Fingerprint": "f" * 64}
    return Evaluation(p, metrics.score(p, n_boot=40), facts, (warning,) if warning else (), command)


class Page(HTMLParser):
    """What the tests look at: tags and their attributes, text outside <style>, and whether tags are nested right."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.open = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.text.append(data)

    @property
    def words(self):
        return re.sub(r"\s+", " ", "".join(self.text))


def read(folder):
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert not page.open
    return page


@pytest.fixture(scope="module")
def compared(tmp_path_factory):
    """A report of three protocols; its folder and its evaluations."""
    folder = tmp_path_factory.mktemp("run")
    cells = folder / "cells"
    made = [
        evaluation(predictions(cells)),
        evaluation(predictions(cells, "random", seed=0, skill=3.5)),
        evaluation(predictions(cells, "as-published", seed=0, skill=5)),
    ]
    audit = {"findings": [{"severity": "warning", "message": "3 near duplicates"}]}
    history = [
        {"epoch": 0, "train_loss": None, "validation_loss": 0.9, "brier": 0.4},
        {"epoch": 1, "train_loss": 0.8, "validation_loss": 0.7, "brier": 0.3},
    ]
    curves = {"first network": [history], "second network": [history, history]}
    report.write_report(made, folder, notes=["12 cells fewer than declared"], audit=audit, curves=curves)
    return folder, made


def test_the_folder_holds_numbers_predictions_figures_and_page(compared):
    folder, made = compared
    found = json.loads((folder / "metrics.json").read_text(), parse_constant=lambda x: pytest.fail(x))
    assert found["protocol"] == "grouped"
    assert found["native"] == made[0].metrics["native"]
    assert list(found["compared"]) == ["random", "as-published"]
    assert found["compared"]["random"]["binary"] == made[1].metrics["binary"]
    assert len((folder / "predictions.csv").read_text().splitlines()) == 71
    pngs = {p.stem for p in (folder / "figures").glob("*.png")}
    assert pngs == set(figures.CAPTIONS)
    for path in (folder / "figures").glob("*.png"):
        with Image.open(path) as image:
            assert min(image.size) > 300


def test_the_page_says_what_it_must(compared):
    folder, made = compared
    page = read(folder)
    words = page.words
    m = made[0].metrics
    for text in (
        f"{100 * m['binary']['sensitivity']['value']:.1f}",
        f"{100 * m['native']['accuracy']['value']:.1f}",
        f"{m['binary']['auroc']['value']:.3f}",
        splits.get_protocol("grouped").words,
        splits.get_protocol("random").warning,
        splits.get_protocol("as-published").warning,
        "3 near duplicates",
        "12 cells fewer than declared",
        "cervicyte train DATA --out RUN",
        "f" * 64,
        "not a diagnosis",
        "no picture: not an image of a known format",
        "resnet50-lr on a & b",
        *HERLEV.classes,
        *metrics.DEFINITIONS.values(),
    ):
        assert text in words, text
    gap = made[1].metrics["native"]["accuracy"]["value"] - m["native"]["accuracy"]["value"]
    assert f"+{100 * gap:.1f}" in words
    titles = [title for title, _ in figures.CAPTIONS.values()]
    assert all(title in words for title in titles)


def test_the_page_stands_alone(compared):
    folder, _ = compared
    page = read(folder)
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "link", "iframe", "object", "embed", "form", "base"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/"), tag
        if "href" in attributes:
            assert attributes["href"].startswith("#")
    style = (folder / "report.html").read_text().split("<style>")[1].split("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_page_can_be_heard_and_linked(compared):
    folder, _ = compared
    page = read(folder)
    assert all(attributes.get("alt") for tag, attributes in page.tags if tag == "img")
    assert all("scope" in attributes for tag, attributes in page.tags if tag == "th")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = {attributes["href"][1:] for tag, attributes in page.tags if tag == "a"}
    assert links <= set(ids)
    assert page.tags[0] == ("html", {"lang": "en"})


@pytest.mark.parametrize("protocol", ["random", "as-published"])
def test_a_dishonest_protocol_is_marked_before_any_number(tmp_path, protocol):
    made = evaluation(predictions(tmp_path / "cells", protocol))
    report.write_report([dataclasses.replace(made, warnings=())], tmp_path)
    page = read(tmp_path)
    words = page.words
    warning = splits.get_protocol(protocol).warning
    assert words.index("Read this before the numbers") < words.index(warning) < words.index("Sensitivity at the")
    assert words.count(warning) == 1
    assert "On cells whose" in words


def test_what_else_differs_between_two_protocols_is_said_with_the_numbers(tmp_path):
    published = evaluation(predictions(tmp_path / "cells", "as-published", seed=0, skill=5))
    grouped = evaluation(predictions(tmp_path / "cells"))
    report.write_report([grouped, published], tmp_path)
    assert "The same recipe shows" in read(tmp_path).words
    assert "not all that differs" not in read(tmp_path).words
    told = {**published.facts, DIFFERS: "its members make no views of their own"}
    marked = dataclasses.replace(published, facts=told)
    for pair in ([grouped, marked], [marked, grouped]):
        report.write_report(pair, tmp_path)
        assert "The division is not all that differs: its members make no views of their own." in read(tmp_path).words


def test_only_what_needs_a_banner_has_one(compared, tmp_path):
    assert "Read this before" not in read(compared[0]).words
    made = dataclasses.replace(compared[1][0], warnings=("NO GROUPS were given.",))
    report.write_report([made], tmp_path)
    assert "Read this before the numbers NO GROUPS were given." in read(tmp_path).words


def test_hostile_names_stay_words(tmp_path):
    system = LabelSystem(name="hostile", classes=HOSTILE, abnormal=frozenset(HOSTILE[1:4]))
    made = evaluation(predictions(tmp_path / "cells", system=system, n=48, skill=0.5), command="x --name '<i>'")
    made = dataclasses.replace(made, facts={"<u>key": "<svg/onload=z>", "data set": "\udcff"})
    finding = {"severity": "<b>high", "message": "</td><script>"}
    report.write_report([made], tmp_path, notes=["<script src='//evil'>"], audit={"findings": [finding]})
    page = read(tmp_path)
    assert not {tag for tag, _ in page.tags} & {"script", "svg", "u", "i"}
    assert not [a for _, a in page.tags if "onerror" in a or "onload" in a]
    assert '<script>alert("x")</script>' in page.words
    assert "{{ 7 * 7 }}" in page.words
    assert "<svg/onload=z>" in page.words
    assert "cell & " in page.words
    found = json.loads((tmp_path / "metrics.json").read_text(encoding="utf-8"))
    assert "naïve_\\xe9_细胞" in found["per_class"]
    assert "naïve_\\xe9_细胞" in (tmp_path / "predictions.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize("case", ["binary", "no abnormal", "no operating point", "external", "perfect", "one cell"])
def test_every_kind_of_result_gives_a_page(tmp_path, case):
    cells = tmp_path / "cells"
    if case == "binary":
        p = dataclasses.replace(predictions(cells, system=BINARY), uncertain=np.ones(70, dtype=bool))
    elif case == "no abnormal":
        p = predictions(cells, system=LabelSystem(name="letters", classes=("a", "b", "c"), abnormal=None))
    elif case == "no operating point":
        p = predictions(cells, op=None)
    elif case == "external":
        p = predictions(cells, "external")
    elif case == "perfect":
        p = predictions(cells, skill=40)
    else:
        p = predictions(cells).subset([1])
    report.write_report([evaluation(p)], tmp_path)
    page = read(tmp_path)
    assert "nan" not in re.findall(r"[a-z]+", page.words.lower())
    assert json.loads((tmp_path / "metrics.json").read_text())["n"] == len(p)
    expected = {
        "no abnormal": "names the right one of 3 classes",
        "no operating point": "no operating point was set",
        "external": "On another data set",
        "perfect": "None among the tested cells.",
        "binary": "gives a verdict for 0.0 %",
    }
    assert expected.get(case, "Intended use") in page.words


def test_the_verdict_counts_missed_cells_and_names_the_prevalence(tmp_path):
    p = predictions(tmp_path / "cells", op=0.8)
    missed = p.abnormal & ~p.called_abnormal
    said = " ".join(report.verdict(evaluation(p)))
    assert f"Of {p.abnormal.sum()} abnormal cells, {missed.sum()} fall below" in said
    assert f"{(missed & ~p.uncertain).sum()} of them without" in said
    assert "Where 5\N{NO-BREAK SPACE}% of cells are abnormal" in said


def test_the_verdict_claims_no_unseen_slide_where_every_cell_is_its_own_group(tmp_path):
    p = predictions(tmp_path / "cells")
    assert report.verdict(evaluation(p))[0].startswith("On cells of groups that it had not seen, it calls")
    alone = dataclasses.replace(p, groups=np.array([str(i) for i in range(len(p))], dtype=object))
    assert report.verdict(evaluation(alone))[0].startswith(
        "On cells that it had not seen, their slides unknown, it calls"
    )


def test_missed_abnormal_cells_come_first_the_worst_at_the_head(tmp_path):
    p = predictions(tmp_path / "cells", op=0.8)
    report.write_report([evaluation(p)], tmp_path, mistakes=3)
    words = read(tmp_path).words
    missed = np.flatnonzero(p.abnormal & ~p.called_abnormal)
    worst = missed[np.lexsort((p.p_abnormal[missed], p.uncertain[missed]))]
    section = words[words.index("Abnormal cells below the threshold:") :]
    places = [section.index(f"cell & {i} <b>.png") for i in worst[:3]]
    assert places == sorted(places)
    assert section.index("Other mistakes:") > places[-1]
    assert f"Abnormal cells below the threshold: {len(missed)}" in words


def test_figures_are_the_same_each_time(tmp_path):
    p = predictions(tmp_path / "cells")
    assert data_uri(figures.roc(p)) == data_uri(figures.roc(p))


def test_a_full_disk_leaves_the_old_page(tmp_path, monkeypatch):
    made = evaluation(predictions(tmp_path / "cells"))
    report.write_report([made], tmp_path)
    before = (tmp_path / "report.html").read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("cervicyte.base.files.os.fsync", full)
    with pytest.raises(StorageError, match="No space left"):
        report.write_report([made], tmp_path, title="new")
    assert (tmp_path / "report.html").read_bytes() == before
    assert not list(tmp_path.glob(".*.tmp"))


def test_nothing_to_report_is_an_error(tmp_path):
    with pytest.raises(UsageError, match="needs an evaluation"):
        report.write_report([], tmp_path)
