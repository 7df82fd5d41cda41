"""What the studies of accuracy share: options, abnormal classes, metrics over acquisitions with intervals, tables."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte.data.cells import CellTable
from cervicyte.decision.calibration import fit_temperature, softmax
from cervicyte.decision.linear import FittedHead, fit_head
from cervicyte.evaluation.metrics import auroc
from cervicyte.evaluation.results import Predictions
from cervicyte.training.assembly import make_members
from cervicyte.training.recipes import Recipe

#: Draws of the bootstrap over acquisitions.
DRAWS = 1000

#: A number from predictions and the rows that count.
Metric = Callable[[Predictions, np.ndarray], float]

#: Classes of Herlev as four Bethesda-like categories (Lin et al. 2019: carcinoma in situ apart from HSIL) and as three.
_NORMAL = ("normal_superficiel", "normal_intermediate", "normal_columnar")
_FOUR = (_NORMAL, ("light_dysplastic",), ("moderate_dysplastic", "severe_dysplastic"), ("carcinoma_in_situ",))
_THREE = (_NORMAL, ("light_dysplastic",), ("moderate_dysplastic", "severe_dysplastic", "carcinoma_in_situ"))


def make_parser(document: str, *, crops: bool = False) -> argparse.ArgumentParser:
    """Make a parser with DATA and ``--weights``, and with ``--crops`` for what teaches our own network."""
    parser = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--weights", required=True)
    if crops:
        parser.add_argument("--crops", type=Path, nargs="+", required=True)
    return parser


def print_head(names: Sequence[str]) -> None:
    """Print the head of a table in Markdown."""
    print(f"| {' | '.join(names)} |\n" + "| --- " * len(names) + "|", flush=True)


def abnormal_classes(cells: CellTable) -> np.ndarray:
    """Say of each class of the label system whether it is abnormal, bool (classes,)."""
    return np.array([name in (cells.system.abnormal or ()) for name in cells.system.classes])


def read_student(recipe: Recipe, cells: CellTable, options: argparse.Namespace, seed: int) -> Any:
    """Make the one member of the recipe of our own network, and let it read the cells."""
    (member,) = make_members(recipe.members, options.weights, None, seed, recipe.copies_by, options.crops)
    member.read(cells)
    return member


def predict_fold(
    values: np.ndarray, cells: CellTable, train: np.ndarray, test: np.ndarray, seed: int
) -> tuple[np.ndarray, FittedHead]:
    """Fit a head on the training rows of a fold; return calibrated probabilities of its test rows, and the head."""
    fitted = fit_head(values[train], cells.codes[train], cells.groups[train], len(cells.system.classes), seed=seed)
    temperature = fit_temperature(fitted.oof_logits, cells.codes[train])
    return softmax(fitted.head.logits(values[test]), temperature), fitted


def score(p: np.ndarray, cells: CellTable) -> tuple[float, float, float]:
    """Return accuracy on all classes, accuracy of normal or abnormal at one half, and AUROC of P(abnormal)."""
    abnormal = abnormal_classes(cells)
    truth, p_abnormal = abnormal[cells.codes], p[:, abnormal].sum(axis=1)
    return (
        float((p.argmax(axis=1) == cells.codes).mean()),
        float(((p_abnormal >= 0.5) == truth).mean()),
        float(auroc(truth, p_abnormal)),
    )


def draw_acquisitions(groups: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the rows of as many acquisitions as there are, drawn with replacement, `DRAWS` times."""
    names, inverse = np.unique(groups.astype(str), return_inverse=True)
    rows_of = [np.flatnonzero(inverse == group) for group in range(len(names))]
    random = np.random.default_rng(0)
    for _ in range(DRAWS):
        yield np.concatenate([rows_of[group] for group in random.integers(0, len(names), len(names))])


def summarise(runs: Sequence[Predictions]) -> dict[str, Any]:
    """Return each metric's mean over seeds, its spread, and its 95 % interval over acquisitions."""
    everything = np.arange(len(runs[0].groups))
    samples = list(draw_acquisitions(runs[0].groups))
    summary = {}
    for name, metric in METRICS.items():
        values = [metric(run, everything) for run in runs]
        spread = [float(np.mean([metric(run, sample) for run in runs])) for sample in samples]
        low, high = np.percentile(spread, (2.5, 97.5))
        summary[name] = {
            "value": float(np.mean(values)),
            "sd": float(np.std(values)),
            "ci95": [float(low), float(high)],
        }
    return summary


def difference(
    runs: Sequence[Predictions], others: Sequence[Predictions], metric: Metric
) -> tuple[float, float, float]:
    """Return the difference of a metric's means and its 95 % interval, drawing acquisitions for both alike."""

    def mean(some: Sequence[Predictions], rows: np.ndarray) -> float:
        return float(np.mean([metric(run, rows) for run in some]))

    spread = [mean(runs, rows) - mean(others, rows) for rows in draw_acquisitions(runs[0].groups)]
    everything = np.arange(len(runs[0].groups))
    low, high = np.percentile(spread, (2.5, 97.5))
    return mean(runs, everything) - mean(others, everything), float(low), float(high)


def format_row(name: str, summary: dict[str, Any]) -> str:
    """Write one line of a table in Markdown: each metric with its interval."""
    values = [f"{v['value']:.3f} ({v['ci95'][0]:.3f} to {v['ci95'][1]:.3f})" for v in summary.values()]
    return f"| {name} | " + " | ".join(values) + " |"


def _accuracy(parts: Sequence[Sequence[str]] | None = None) -> Metric:
    def accuracy(run: Predictions, rows: np.ndarray) -> float:
        p = run.probabilities[rows]
        truth = np.array([run.classes.index(label) for label in run.labels[rows]])
        if parts is not None:
            where = {name: i for i, names in enumerate(parts) for name in names}
            code = np.array([where[c] for c in run.classes])
            p = np.stack([p[:, code == i].sum(axis=1) for i in range(len(parts))], axis=1)
            truth = code[truth]
        return float((p.argmax(axis=1) == truth).mean())

    return accuracy


def _binary(run: Predictions, rows: np.ndarray) -> float:
    return float(((run.p_abnormal[rows] >= 0.5) == run.abnormal[rows]).mean())


def _auroc(run: Predictions, rows: np.ndarray) -> float:
    return float(auroc(run.abnormal[rows], run.p_abnormal[rows]))


def _ece(run: Predictions, rows: np.ndarray) -> float:
    p, truth = run.p_abnormal[rows], run.abnormal[rows]
    bins = np.minimum((p * 10).astype(int), 9)
    return float(sum(abs(p[bins == b].sum() - truth[bins == b].sum()) for b in range(10)) / len(p))


def _answered(run: Predictions, rows: np.ndarray) -> float:
    return float(1 - run.uncertain[rows].mean())


def _missed(run: Predictions, rows: np.ndarray) -> float:
    """Abnormal cells called normal without a word of doubt, of all abnormal cells."""
    silent = ~run.uncertain[rows] & ~run.called_abnormal[rows] & run.abnormal[rows]
    return float(silent.sum() / run.abnormal[rows].sum())


METRICS: dict[str, Metric] = {
    "7 classes": _accuracy(),
    "4 classes": _accuracy(_FOUR),
    "3 Bethesda": _accuracy(_THREE),
    "normal/abnormal": _binary,
    "AUROC": _auroc,
    "ECE": _ece,
    "answered": _answered,
    "missed": _missed,
}
