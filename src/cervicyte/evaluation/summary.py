"""The numbers of a run as a plain text table for the terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from cervicyte.evaluation.results import Evaluation

#: Rows of the table: section of metrics.json, metric, and what a reader should call it.
_ROWS: tuple[tuple[str, str, str], ...] = (
    ("native", "accuracy", "accuracy, all classes"),
    ("native", "balanced_accuracy", "balanced accuracy, all classes"),
    ("native", "f1_macro", "macro F1, all classes"),
    ("binary", "accuracy", "accuracy, normal/abnormal"),
    ("binary", "auroc", "AUROC, normal/abnormal"),
    ("binary", "sensitivity_as_used", "sensitivity as used (no verdict: not found)"),
    ("binary", "sensitivity_answered", "sensitivity among the answered"),
    ("binary", "sensitivity", "flagged of the abnormal (operating point)"),
    ("binary", "specificity_as_used", "specificity as used (no verdict: not passed)"),
    ("binary", "specificity", "not flagged of the normal"),
    ("uncertain", "coverage", "answered (cells with a verdict)"),
    ("binary", "ece", "calibration error (ECE), normal/abnormal"),
    ("quality", "refused", "refused as no picture to judge"),
)


def plain_table(evaluations: Sequence[Evaluation]) -> str:
    """One column per protocol, one row per metric with its 95 % interval, and every warning below."""
    columns = [e.metrics for e in evaluations]
    header = ["", *(m["protocol"] for m in columns)]
    if len(columns) > 1:
        header.append("gap")
    lines = [header]
    for section, name, words in _ROWS:
        cells = [_cell(m, section, name) for m in columns]
        if not any(cells):
            continue
        line = [words, *cells]
        if len(columns) > 1:
            line.append(_gap(columns, section, name))
        lines.append(line)
    counts = ["cells (groups)", *(f"{m['n']} ({m['groups']})" for m in columns)]
    lines.insert(1, counts + [""] * (len(header) - len(counts)))
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    text = ["  ".join(value.ljust(w) for value, w in zip(line, widths, strict=True)).rstrip() for line in lines]
    for evaluation in evaluations:
        text += [f"{evaluation.metrics['protocol']}: {warning}" for warning in evaluation.warnings]
    return "\n".join(text)


def rows(metrics: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What a reader looks for in metrics.json: words, and value with interval, of each metric that is there."""
    texts = ((words, _cell(metrics, section, name)) for section, name, words in _ROWS)
    return [(words, text) for words, text in texts if text]


def _metric(metrics: Mapping[str, Any], section: str, name: str) -> Mapping[str, Any]:
    return (metrics.get(section) or {}).get(name) or {}


def _cell(metrics: Mapping[str, Any], section: str, name: str) -> str:
    metric = _metric(metrics, section, name)
    if metric.get("value") is None:
        return ""
    interval = metric.get("ci95")
    between = f" ({interval[0]:.3f} to {interval[1]:.3f})" if interval else ""
    return f"{metric['value']:.3f}{between}"


def _gap(columns: Sequence[Mapping[str, Any]], section: str, name: str) -> str:
    first, last = (_metric(m, section, name).get("value") for m in (columns[0], columns[-1]))
    return "" if first is None or last is None else f"{last - first:+.3f}"


def inspection_table(inspection: Mapping[str, Any]) -> str:
    """What `data inspect` prints: counts per class, sizes, formats, and what could not be read."""
    counts = {name: (row["cells"], row["groups"]) for name, row in inspection["counts"].items()}
    width = max(len(name) for name in ("class", *counts))
    lines = [
        f"{inspection['name']}: {inspection['n']} cells in {inspection['files']} files",
        f"{'class':{width}}  cells  groups",
    ]
    lines += [f"{name:{width}}  {cells:5}  {groups:6}" for name, (cells, groups) in counts.items()]
    for name, unit in (("cells_per_group", ""), ("width", " px"), ("height", " px")):
        row = inspection[name]
        if row:
            values = ", ".join(f"{words} {number:g}{unit}" for words, number in row.items())
            lines.append(f"{name.replace('_', ' ')}: {values}")
    lines += [f"format {name}: {files} files" for name, files in inspection["formats"].items()]
    lines += [f"unreadable: {row['path']}: {row['problem']}" for row in inspection["unreadable"]]
    lines += [f"not in the table: {path}" for path in inspection["unlisted"][:20]]
    if len(inspection["unlisted"]) > 20:
        lines.append(f"and {len(inspection['unlisted']) - 20} more images that are not in the table")
    return "\n".join([*lines, *inspection["notes"]])
