"""The report of a run: metrics.json, predictions.csv, figures, and one HTML page that explains them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cervicyte.base.files import atomic_write, printable, write_json
from cervicyte.base.plots import data_uri, save_figure
from cervicyte.data.splits import PROTOCOLS, Protocol
from cervicyte.errors import ImageError, UsageError
from cervicyte.evaluation import figures, metrics, wording
from cervicyte.evaluation.results import DIFFERS, Evaluation, Predictions
from cervicyte.evaluation.verdict import verdict
from cervicyte.images import decoding

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INTENDED_USE = (
    "Decision support for research and teaching, not a diagnosis. The numbers hold for cells like those tested here: "
    "cut out one by one, stained and photographed the same way. A whole slide holds other things too. "
    "Nobody should be told a result, or spared a second look, on the word of this model alone."
)

#: How a test on another data set is described; it is no way to divide cells, so `splits` does not list it.
EXTERNAL = Protocol(
    name="external", honest=True, words="The model was finished before this test. None of these cells trained it."
)
EXTERNAL_LEAKING = Protocol(
    name="external-leaking",
    honest=False,
    words="The model was finished before this test, and it was tested all the same on cells that it knows.",
    warning="LEAKING: some of these cells, or siblings or copies of them, trained the model.",
)


#: Rows of the side-by-side table: title, section, name, unit ("%" or ""), and whether less is better.
Row = tuple[str, str, str, str, bool]

_NATIVE: tuple[Row, ...] = (
    ("Accuracy", "native", "accuracy", "%", False),
    ("Balanced accuracy", "native", "balanced_accuracy", "%", False),
    ("Macro F1", "native", "f1_macro", "%", False),
    ("Macro precision", "native", "precision_macro", "%", False),
    ("AUROC, mean of one against the rest", "native", "auroc", "", False),
    ("Average precision, mean of one against the rest", "native", "average_precision", "", False),
    ("Quadratic kappa", "native", "kappa_quadratic", "", False),
    ("Calibration error (ECE)", "native", "ece", "", True),
    ("Brier score", "native", "brier", "", True),
    ("Log loss", "native", "log_loss", "", True),
)

_BINARY: tuple[Row, ...] = (
    ("Sensitivity as used", "binary", "sensitivity_as_used", "%", False),
    ("Specificity as used", "binary", "specificity_as_used", "%", False),
    ("Sensitivity among the answered", "binary", "sensitivity_answered", "%", False),
    ("Specificity among the answered", "binary", "specificity_answered", "%", False),
    ("Sensitivity at the operating point", "binary", "sensitivity", "%", False),
    ("Specificity at the operating point", "binary", "specificity", "%", False),
    ("PPV at the operating point", "binary", "ppv", "%", False),
    ("NPV at the operating point", "binary", "npv", "%", False),
    ("Accuracy at the operating point", "binary", "accuracy_at_operating_point", "%", False),
    ("Accuracy, cut at 0.5", "binary", "accuracy", "%", False),
    ("Sensitivity, cut at 0.5", "binary", "sensitivity_at_half", "%", False),
    ("Specificity, cut at 0.5", "binary", "specificity_at_half", "%", False),
    ("AUROC", "binary", "auroc", "", False),
    ("Average precision", "binary", "average_precision", "", False),
    ("Calibration error (ECE)", "binary", "ece", "", True),
    ("Brier score", "binary", "brier", "", True),
    ("Log loss", "binary", "log_loss", "", True),
)


def write_report(
    evaluations: Sequence[Evaluation],
    folder: Path | str,
    *,
    title: str = "",
    notes: Sequence[str] = (),
    audit: Mapping[str, Any] | None = None,
    counts: Mapping[str, tuple[int, int]] | None = None,
    curves: Mapping[str, Sequence[Sequence[Mapping[str, float | None]]]] | None = None,
    intended_use: str = INTENDED_USE,
    mistakes: int = 12,
) -> Path:
    """Write metrics.json, predictions.csv, figures and report.html, and return the page's path.

    Parameters
    ----------
    evaluations : the first is what the report is about; the others stand beside it and go to
        metrics.json under "compared", by protocol
    title : heading of the page; the default names the recipe and the data set of the facts
    notes : what was noticed on the way (files passed over, other counts)
    audit : {"findings": [{"severity": ..., "message": ...}, ...]}; None where no audit was made
    counts : cells and groups of each class of the data set; default: those of the tested cells
    curves : the trainings of each fine-tuned member of the final model
    mistakes : pictures of each kind of mistake

    Raises
    ------
    UsageError : no evaluation
    StorageError : the disk is full, read-only or not permitted
    """
    if not evaluations:
        raise UsageError("a report needs an evaluation", "none", "pass at least one")
    folder = Path(folder)
    named = _named(evaluations)
    first = evaluations[0]
    contents = dict(first.metrics)
    if len(named) > 1:
        contents["compared"] = {name: e.metrics for name, e in list(named.items())[1:]}
    pictures = _pictures(named)
    if curves:
        pictures["training"] = figures.training_curves(curves)
    page = _page(named, pictures, title, notes, audit, counts, intended_use, mistakes)
    write_json(folder / "metrics.json", _plain(contents))
    first.predictions.to_csv(folder / "predictions.csv")
    for name, figure in pictures.items():
        save_figure(figure, folder / "figures" / f"{name}.png")
    for name in figures.CAPTIONS.keys() - pictures.keys():  # of an earlier run in the same folder
        (folder / "figures" / f"{name}.png").unlink(missing_ok=True)
    with atomic_write(folder / "report.html") as stream:
        stream.write(printable(page))
    return folder / "report.html"


def _named(evaluations: Sequence[Evaluation]) -> dict[str, Evaluation]:
    """Evaluations by protocol; a second one of the same protocol gets a number."""
    named: dict[str, Evaluation] = {}
    for e in evaluations:
        name, k = e.predictions.protocol, 2
        while name in named:
            name, k = f"{e.predictions.protocol} ({k})", k + 1
        named[name] = e
    return named


def _protocol(name: str) -> Protocol:
    known = {row.name: row for row in (*PROTOCOLS, EXTERNAL, EXTERNAL_LEAKING)}
    return known.get(name, Protocol(name=name, honest=True, words=f"Protocol {name!r}."))


def _pictures(named: Mapping[str, Evaluation]) -> dict[str, Figure]:
    """The figures that the first evaluation allows, by the names of `figures.CAPTIONS`."""
    e = next(iter(named.values()))
    p, m = e.predictions, e.metrics
    surest = p.probabilities.max(axis=1)
    shown = {}
    if len(named) > 1:
        shown["protocols"] = figures.protocols({name: other.metrics for name, other in named.items()}, _compared(p))
    shown["confusion"] = figures.confusion_matrix(m["confusion"]["native"])
    if p.operating_point is not None and m["confusion"]["binary"]:
        shown["confusion_binary"] = figures.confusion_matrix(m["confusion"]["binary"])
    shown["roc"] = figures.roc(p)
    shown["precision_recall"] = figures.precision_recall(p)
    if p.abnormal is not None and p.p_abnormal is not None:
        shown["reliability"] = figures.reliability(p.abnormal, p.p_abnormal, "predicted P(abnormal)", "share abnormal")
    if not metrics.is_binary(p):
        of, right = "probability of the named class", p.predicted == p.labels
        shown["reliability_classes"] = figures.reliability(right, surest, of, "share right")
    shown["risk_coverage"] = figures.risk_coverage(p)
    shown["per_class"] = figures.per_class(m["per_class"])
    return shown


def _compared(p: Predictions) -> list[tuple[str, str, str]]:
    """Rows of the comparing figure: title, section, name."""
    also = "" if metrics.is_binary(p) else ", normal or abnormal"
    binary = [
        ("Sensitivity", "binary", "sensitivity"),
        ("Specificity", "binary", "specificity"),
        (f"Accuracy{also}", "binary", "accuracy"),
        (f"AUROC{also}", "binary", "auroc"),
    ]
    if metrics.is_binary(p):
        return binary
    native = [(f"{title}, {len(p.classes)} classes", section, name) for title, section, name, *_ in _NATIVE[:3]]
    return native + ([("AUROC", "native", "auroc")] if p.abnormal is None else binary)


def _page(
    named: Mapping[str, Evaluation],
    pictures: Mapping[str, Figure],
    title: str,
    notes: Sequence[str],
    audit: Mapping[str, Any] | None,
    counts: Mapping[str, tuple[int, int]] | None,
    intended_use: str,
    mistakes: int,
) -> str:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    first = next(iter(named.values()))
    p, m = first.predictions, first.metrics
    facts = {key.lower(): value for key, value in first.facts.items()}
    data = facts.get("data set", "")
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"metric": wording.text, "interval": wording.interval, "breakable": _breakable}
    protocols = {name: _protocol(e.predictions.protocol) for name, e in named.items()}
    return environment.get_template("report.html").render(
        title=title or " on ".join(x for x in (facts.get("recipe", ""), data) if x) or "Evaluation of a classifier",
        verdict=verdict(first),
        lead=_lead(named),
        m=m,
        binary_only=metrics.is_binary(p),
        known=len(p.classes),
        first_name=next(iter(named)),
        named=named,
        protocols=protocols,
        tags={name: _tag(protocol) for name, protocol in protocols.items()},
        tables=_tables(named),
        tiles=_tiles(first),
        pictures={name: (data_uri(figure), *figures.CAPTIONS[name]) for name, figure in pictures.items()},
        commands=list(dict.fromkeys(e.command for e in named.values() if e.command)),
        mistakes=_mistakes(p, mistakes),
        counts=counts or {c: (v["n"], v["groups"]) for c, v in m["per_class"].items()},
        abnormal=p.system.abnormal,
        notes=notes,
        findings=None if audit is None else audit.get("findings", []),
        intended_use=intended_use,
        definitions=metrics.DEFINITIONS,
    )


def _tag(protocol: Protocol) -> str:
    """One word for the head of a column."""
    if protocol.honest:
        return "another data set" if protocol.name == "external" else "groups kept apart"
    return protocol.warning.split(":")[0].lower()


def _lead(named: Mapping[str, Evaluation]) -> str:
    """What the other protocols show, and in two sentences why that differs."""
    (_, first), *others = named.items()
    section, what = ("binary", "accuracy of normal or abnormal") if first.metrics["binary"] else ("native", "accuracy")
    if not metrics.is_binary(first.predictions):
        section, what = "native", f"accuracy over {len(first.predictions.classes)} classes"
    value = first.metrics[section]["accuracy"]["value"]
    parts = []
    for name, other in others:
        theirs = ((other.metrics[section] or {}).get("accuracy") or {}).get("value")
        if theirs is not None and value is not None:
            parts.append(f"{wording.percent(theirs)} under {name}")
    if not parts:
        return ""
    shown = [_protocol(e.predictions.protocol) for e in named.values()]
    whys = [protocol.why for protocol in dict.fromkeys(shown) if protocol.why]
    also = [f"The division is not all that differs: {e.facts[DIFFERS]}." for e in named.values() if DIFFERS in e.facts]
    return " ".join(
        [
            f"The same recipe shows an {what} of {' and '.join(parts)}, against {wording.percent(value)} here.",
            *whys,
            *also,
        ]
    )


def _tables(named: Mapping[str, Evaluation]) -> list[dict[str, Any]]:
    """The side-by-side tables: for each row the metric of every evaluation, then its gap to the first."""
    (_, first), *others = named.items()
    differences = [metrics.gaps(first.predictions, e.predictions) for _, e in others]
    tables = []
    titles = (("All classes", _NATIVE), ("Normal or abnormal", _BINARY))
    for title, rows in titles[1:] if metrics.is_binary(first.predictions) else titles:
        lines = []
        for words, section, name, unit, less in rows:
            cells = [(e.metrics[section] or {}).get(name) for e in named.values()]
            if any(cells):
                gap = [d.get((section, name)) for d in differences]
                lines.append({"title": words, "cells": cells, "gaps": gap, "unit": unit, "less": less})
        if lines:
            tables.append({"title": title, "rows": lines})
    return tables


def _tiles(e: Evaluation) -> list[tuple[str, str, str]]:
    """The numbers at the top: title, value, interval."""
    answered: Row = ("Answered", "uncertain", "coverage", "%", False)
    if e.metrics["binary"]:
        names = ("sensitivity_as_used", "specificity_as_used", "auroc")
        rows = [*(r for r in _BINARY if r[2] in names), answered]
        if not metrics.is_binary(e.predictions):
            rows.append((f"Accuracy, {len(e.predictions.classes)} classes", *_NATIVE[0][1:]))
    else:
        rows = [*_NATIVE[:2], _NATIVE[4], answered]
    tiles = []
    for title, section, name, unit, _ in rows:
        cell = e.metrics[section].get(name)
        if cell and cell["value"] is not None:
            tiles.append((title, wording.number(cell["value"], unit), wording.interval(cell, unit)))
    return tiles


def _mistakes(p: Predictions, most: int) -> list[dict[str, Any]]:
    """The worst mistakes with their pictures: missed abnormal cells first, then the surest of the other errors."""
    original = p.variants == 0
    which = "" if original.all() else ", copies left out"
    sections = []
    taken = np.zeros(len(p), dtype=bool)
    if p.abnormal is not None and p.p_abnormal is not None and p.called_abnormal is not None:
        taken = p.abnormal & ~p.called_abnormal
        rows = np.flatnonzero(taken & original)
        rows = rows[np.lexsort((p.p_abnormal[rows], p.uncertain[rows]))]
        order = "answered before uncertain ones, lowest P(abnormal) first"
        sections.append(("Abnormal cells below the threshold", rows, order))
    surest = p.probabilities.max(axis=1)
    rows = np.flatnonzero((p.predicted != p.labels) & ~taken & original)
    rows = rows[np.argsort(-surest[rows], kind="stable")]
    sections.append(("Other mistakes" if sections else "Mistakes", rows, "most confident first"))
    return [
        {
            "title": title + which,
            "total": len(rows),
            "order": order,
            "cells": [_exhibit(p, int(i)) for i in rows[:most]],
        }
        for title, rows, order in sections
    ]


def _exhibit(p: Predictions, i: int) -> dict[str, Any]:
    path = Path(p.paths[i])
    picture, problem = "", ""
    try:
        picture = _thumbnail(decoding.load(path, p.boxes[i]))
    except ImageError as error:
        problem = error.what
    return {
        "picture": picture,
        "problem": problem,
        "path": str(path),
        "short": "/".join(path.parts[-2:]),
        "box": p.boxes[i],
        "label": p.labels[i],
        "predicted": p.predicted[i],
        "probability": wording.percent(float(p.probabilities[i].max())),
        "p_abnormal": None if p.p_abnormal is None else f"{p.p_abnormal[i]:.3f}",
        "threshold": None if p.operating_point is None else f"{p.operating_point[i]:.3f}",
        "uncertain": bool(p.uncertain[i]),
        "refused": "" if p.quality is None else p.quality[i],
    }


def _thumbnail(image: np.ndarray, size: int = 176) -> str:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(decoding.resize(image, size, "pad")).save(stream, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")


def _breakable(name: object) -> str:
    """A class name, escaped, that may be broken after its underscores."""
    from markupsafe import Markup, escape

    return escape(name).replace("_", Markup("_<wbr>"))


def _plain(value: Any) -> Any:
    """The same value in JSON's own kinds: NaN and infinity become null, names valid UTF-8."""
    if isinstance(value, Mapping):
        return {printable(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float):
        return value if np.isfinite(value) else None
    return printable(value) if isinstance(value, str) else value
