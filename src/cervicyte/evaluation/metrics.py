"""How good predictions are: pure functions on arrays, with intervals that resample whole groups.

Every function takes optional ``weights``, how many times each cell counts: of shape (n,) it
gives one number, of shape (b, n) it gives b numbers at once, one for each resample. A metric
that is not defined (no cell of a class, only one class) is NaN here and None in `score`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from cervicyte.evaluation import intervals
from cervicyte.evaluation.results import Predictions

#: Equal-mass bins of the calibration error and of the reliability diagram.
ECE_BINS = 15

#: The share of abnormal cells for which PPV and NPV are stated, unless told otherwise.
PREVALENCE = 0.05

#: What each name in metrics.json means; the report prints it.
DEFINITIONS: Mapping[str, str] = {
    "accuracy": "share of cells whose most probable class is the true one (binary: P(abnormal) cut at 0.5)",
    "balanced_accuracy": "mean recall over the classes that occur",
    "precision_macro": "mean precision over the classes that occur; a class never predicted counts as 0",
    "recall_macro": "mean recall over the classes that occur (the same as balanced accuracy)",
    "f1_macro": "mean F1 over the classes that occur",
    "auroc": "area under the ROC curve (more classes: mean of one against the rest)",
    "average_precision": "area under the precision-recall curve (more classes: mean of one against the rest)",
    "ece": f"expected calibration error, {ECE_BINS} equal-mass bins (more classes: of the most probable one)",
    "brier": "mean squared error of the probabilities (binary: 0 to 1; more classes: summed, 0 to 2)",
    "log_loss": "mean negative natural logarithm of the true class's probability",
    "kappa_quadratic": "Cohen's kappa with quadratic weights over the graded classes",
    "accuracy_at_half": "accuracy of normal or abnormal with P(abnormal) cut at 0.5",
    "sensitivity_at_half": "share of abnormal cells found with P(abnormal) cut at 0.5",
    "specificity_at_half": "share of normal cells passed with P(abnormal) cut at 0.5",
    "accuracy_at_operating_point": "accuracy of normal or abnormal at the operating point",
    "sensitivity": "share of abnormal cells at or above the operating point, answered or not",
    "specificity": "share of normal cells below the operating point, answered or not",
    "sensitivity_as_used": "share of abnormal cells that are called abnormal; no verdict counts as not found",
    "specificity_as_used": "share of normal cells that are called normal; no verdict counts as not passed",
    "sensitivity_answered": "share called abnormal among the abnormal cells that get a verdict",
    "specificity_answered": "share called normal among the normal cells that get a verdict",
    "ppv": "share of abnormal among cells called abnormal at the operating point, at the stated prevalence",
    "npv": "share of normal among cells called normal at the operating point, at the stated prevalence",
    "refused": "share of cells that get no verdict because their picture does not look like the training cells",
}

Array = Any  # float64 of shape () or (b,), as the weights say


def _weights(weights: np.ndarray | None, n: int) -> np.ndarray:
    return np.ones(n) if weights is None else np.asarray(weights, dtype=np.float64)


def _ratio(above: Array, below: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(below) > 0, np.divide(above, below), np.nan)[()]


def mean(values: np.ndarray, weights: np.ndarray | None = None) -> Array:
    """Weighted mean of one number per cell; NaN where nothing has weight."""
    values = np.asarray(values, dtype=np.float64)
    w = _weights(weights, len(values))
    return _ratio(w @ values, w.sum(axis=-1))


def confusion(truth: np.ndarray, predicted: np.ndarray, k: int, weights: np.ndarray | None = None) -> np.ndarray:
    """Count cells by true class (rows) and predicted class (columns): float64 (k, k) or (b, k, k).

    ``truth`` and ``predicted`` are class indices below ``k``, int (n,).
    """
    w = _weights(weights, len(truth))
    one_hot = np.zeros((len(truth), k * k))
    one_hot[np.arange(len(truth)), np.asarray(truth) * k + np.asarray(predicted)] = 1
    return (w @ one_hot).reshape(*w.shape[:-1], k, k)


def accuracy(table: np.ndarray) -> Array:
    """Share on the diagonal of a confusion matrix."""
    return _ratio(np.trace(table, axis1=-2, axis2=-1), table.sum(axis=(-2, -1)))


def recall(table: np.ndarray) -> np.ndarray:
    """Recall of each class, (k,) or (b, k); NaN for a class without cells."""
    return np.asarray(_ratio(np.diagonal(table, axis1=-2, axis2=-1), table.sum(axis=-1)))


def precision(table: np.ndarray) -> np.ndarray:
    """Precision of each class, (k,) or (b, k); NaN for a class that was never predicted."""
    return np.asarray(_ratio(np.diagonal(table, axis1=-2, axis2=-1), table.sum(axis=-2)))


def f1(table: np.ndarray) -> np.ndarray:
    """F1 of each class, (k,) or (b, k); NaN for a class that neither occurs nor is predicted."""
    hits = np.diagonal(table, axis1=-2, axis2=-1)
    return np.asarray(_ratio(2 * hits, table.sum(axis=-1) + table.sum(axis=-2)))


def macro(values: np.ndarray, table: np.ndarray) -> Array:
    """Mean of a per-class metric over the classes that occur; an undefined value of theirs counts as 0."""
    occurs = table.sum(axis=-1) > 0
    return _ratio(np.where(occurs, np.nan_to_num(values), 0).sum(axis=-1), occurs.sum(axis=-1))


def kappa_quadratic(table: np.ndarray, grades: np.ndarray | None = None) -> Array:
    """Cohen's kappa with quadratic weights (Cohen 1968); ``grades`` are the classes' places on the scale."""
    at = np.arange(table.shape[-1]) if grades is None else np.asarray(grades)
    cost = (at[:, None] - at[None, :]) ** 2.0
    chance = table.sum(axis=-1)[..., :, None] * table.sum(axis=-2)[..., None, :]
    expected = (chance * cost).sum(axis=(-2, -1))
    return 1 - _ratio((table * cost).sum(axis=(-2, -1)) * table.sum(axis=(-2, -1)), expected)


def ranked(positive: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """True and false positives when all cells of at least each distinct score are called positive.

    Returns two arrays (u,) or (b, u), from the highest score to the lowest; tied scores are one step.
    """
    positive, score = np.asarray(positive, dtype=bool), np.asarray(score, dtype=np.float64)
    order = np.argsort(-score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) != 0])
    w = _weights(weights, len(score))[..., order]
    hits = np.add.reduceat(w * positive[order], starts, axis=-1).cumsum(axis=-1)
    alarms = np.add.reduceat(w * ~positive[order], starts, axis=-1).cumsum(axis=-1)
    return hits, alarms


def auroc_from(hits: np.ndarray, alarms: np.ndarray) -> Array:
    """Area under the ROC curve (trapezoids, so that a tie counts one half) of what `ranked` gives."""
    heights = hits - np.diff(hits, axis=-1, prepend=0) / 2
    area = (np.diff(alarms, axis=-1, prepend=0) * heights).sum(axis=-1)
    return _ratio(area, hits[..., -1] * alarms[..., -1])


def average_precision_from(hits: np.ndarray, alarms: np.ndarray) -> Array:
    """Area under the precision-recall curve in steps (no interpolation) of what `ranked` gives."""
    steps = np.diff(hits, axis=-1, prepend=0)
    with np.errstate(divide="ignore", invalid="ignore"):
        area = np.nan_to_num(steps * hits / (hits + alarms)).sum(axis=-1)
    return _ratio(area, hits[..., -1])


def auroc(positive: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> Array:
    """Area under the ROC curve of one score; NaN unless both kinds occur."""
    return auroc_from(*ranked(positive, score, weights))


def average_precision(positive: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> Array:
    """Average precision of one score; NaN without a positive."""
    return average_precision_from(*ranked(positive, score, weights))


def mass_bins(confidence: np.ndarray, bins: int = ECE_BINS) -> np.ndarray:
    """Bin of each cell, int (n,): as equal in mass as ties allow (equal values share a bin)."""
    confidence = np.asarray(confidence, dtype=np.float64)
    edges = np.unique(np.quantile(confidence, np.linspace(0, 1, bins + 1)[1:-1]))
    return np.searchsorted(edges, confidence, side="left")


def ece(correct: np.ndarray, confidence: np.ndarray, bins: np.ndarray, weights: np.ndarray | None = None) -> Array:
    """Expected calibration error: mean over cells of |share correct - mean confidence| of their bin.

    ``bins`` is the bin of each cell (`mass_bins`), held fixed when cells are resampled.
    """
    w = _weights(weights, len(correct))
    member = (np.asarray(bins)[:, None] == np.unique(bins)[None, :]).astype(np.float64)
    excess = np.asarray(correct, dtype=np.float64) - np.asarray(confidence, dtype=np.float64)
    return _ratio(np.abs(w @ (member * excess[:, None])).sum(axis=-1), w.sum(axis=-1))


def predictive_values(sensitivity: Array, specificity: Array, prevalence: float) -> tuple[Array, Array]:
    """PPV and NPV where a share ``prevalence`` of cells is abnormal (Bayes' theorem)."""
    hits, alarms = sensitivity * prevalence, (1 - specificity) * (1 - prevalence)
    passed, missed = specificity * (1 - prevalence), (1 - sensitivity) * prevalence
    return _ratio(hits, hits + alarms), _ratio(passed, passed + missed)


def risk_coverage(correct: np.ndarray, confidence: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Share of cells answered and share wrong among them, from the surest cell on; ties enter together."""
    hits, misses = ranked(correct, confidence)
    return (hits + misses) / len(np.asarray(correct)), misses / (hits + misses)


Measures = dict[tuple[str, ...], Array]


def measure(p: Predictions, weights: np.ndarray, prevalence: float = PREVALENCE) -> Measures:
    """Every metric of the predictions for each row of ``weights`` (b, n): arrays (b,).

    Keys are ("native", metric), ("binary", metric), ("per_class", class, metric), ("uncertain", metric) and, where
    image quality was checked, ("quality", "refused").
    """
    names, truth, predicted = _codes(p)
    correct, answered = truth == predicted, weights * ~p.uncertain
    table = confusion(truth, predicted, len(names), weights)
    measures: Measures = {("native", k): v for k, v in _native(p, weights, table, correct).items()}
    for i, name in enumerate(names):
        rows = {"precision": precision(table)[..., i], "recall": recall(table)[..., i], "f1": f1(table)[..., i]}
        if name in p.classes:
            curve = ranked(p.labels == name, p.probabilities[:, p.classes.index(name)], weights)
            rows |= {"auroc": auroc_from(*curve), "average_precision": average_precision_from(*curve)}
        measures |= {("per_class", name, k): v for k, v in rows.items()}
    for name in ("auroc", "average_precision"):
        each = np.array([v for k, v in measures.items() if k[0] == "per_class" and k[2] == name])
        measures["native", name] = _ratio(np.nansum(each, axis=0), np.isfinite(each).sum(axis=0))
    measures["uncertain", "coverage"] = mean(~p.uncertain, weights)
    measures["uncertain", "error"] = 1 - mean(correct, answered)
    if p.quality is not None:
        measures["quality", "refused"] = mean(p.quality != "", weights)
    called = p.called_abnormal
    if p.abnormal is not None and p.p_abnormal is not None and called is not None:
        binary = _binary(p.abnormal, p.p_abnormal, called, weights, prevalence, p.operating_point is not None)
        if p.operating_point is not None:
            binary |= _as_used(p.abnormal, called, ~p.uncertain, weights)
        measures |= {("binary", k): v for k, v in binary.items()}
        measures["uncertain", "binary_error"] = 1 - mean(called == p.abnormal, answered)
        if is_binary(p):
            measures |= {("native", k): v for k, v in binary.items()}
    return measures


def score(p: Predictions, prevalence: float = PREVALENCE, n_boot: int = 1000, seed: int = 0) -> dict[str, Any]:
    """Return the contents of metrics.json: every metric with its 95 % interval, as plain numbers.

    ``native`` judges the data set's own classes by the most probable one; ``binary`` judges normal
    or abnormal (None when the label system does not say which is which; for a binary system
    ``native`` holds the same numbers). A metric is ``{"value": x, "ci95": [low, high]}``; None stands
    for what is not defined, for instance the recall of a class without cells. Intervals are those of
    `intervals.interval`, with the models as they are; there is none where fewer than three groups count.
    """
    point = measure(p, np.ones((1, len(p))), prevalence)
    drawn = bootstrap(p, prevalence, n_boot if len(set(p.groups)) > 1 else 0, seed)
    cells = {key: _cell(p, key, float(point[key][0]), drawn[key]) for key in point}
    names, truth, predicted = _codes(p)
    sections: dict[str, dict[str, Any]] = {"native": {}, "binary": {}, "uncertain": {}, "quality": {}}
    per_class: dict[str, dict[str, Any]] = {
        c: {"n": int((p.labels == c).sum()), "groups": len(set(p.groups[p.labels == c]))} for c in names
    }
    for key, cell in cells.items():
        (per_class[key[1]] if key[0] == "per_class" else sections[key[0]])[key[-1]] = cell
    counts: dict[str, Any] = {"native": _counts(names, truth, predicted), "binary": None}
    if p.abnormal is not None and p.called_abnormal is not None:
        counts["binary"] = _counts(("normal", "abnormal"), p.abnormal.astype(int), p.called_abnormal.astype(int))
        missed = p.abnormal & ~p.called_abnormal
        sections["uncertain"] |= {
            "abnormal": int(p.abnormal.sum()),
            "abnormal_below_threshold": int(missed.sum()),
            "abnormal_answered_normal": int((missed & ~p.uncertain).sum()),
        }
    if p.quality is not None:
        sections["quality"]["reasons"] = dict(Counter(sorted(q for q in p.quality if q)))
    at = p.operating_point
    return {
        "protocol": p.protocol,
        "n": len(p),
        "groups": len(set(p.groups)),
        "prevalence": float(prevalence),
        "operating_point": None if at is None else {"lowest": float(at.min()), "highest": float(at.max())},
        "bootstrap": {"unit": "group", "resamples": n_boot, "seed": seed, "interval": "Student's t on the logit scale"},
        "native": sections["native"],
        "binary": sections["binary"] or None,
        "per_class": per_class,
        "confusion": counts,
        "folds": _folds(p, prevalence),
        "uncertain": sections["uncertain"],
        "quality": sections["quality"] or None,
        "definitions": dict(DEFINITIONS),
    }


def bootstrap(p: Predictions, prevalence: float = PREVALENCE, n_boot: int = 1000, seed: int = 0) -> Measures:
    """Every metric under ``n_boot`` resamples of the groups: arrays (n_boot,), keys as `measure`."""
    blocks = [measure(p, weights, prevalence) for weights in intervals.resamples(p.groups, n_boot, seed)]
    keys = blocks[0] if blocks else measure(p, np.ones((1, len(p))), prevalence)
    return {key: np.concatenate([b[key] for b in blocks]) if blocks else np.empty(0) for key in keys}


def gaps(first: Predictions, other: Predictions, n_boot: int = 500, seed: int = 0) -> dict[tuple[str, str], Any]:
    """How much higher each native and binary metric of ``other`` is than that of ``first``.

    Intervals come from paired resamples, and only where both tested the same groups (else None).
    """
    points = [measure(p, np.ones((1, len(p)))) for p in (first, other)]
    paired = set(first.groups) == set(other.groups) and len(set(first.groups)) > 1
    drawn = [bootstrap(p, n_boot=n_boot, seed=seed) if paired else {} for p in (first, other)]
    differences: dict[tuple[str, str], Any] = {}
    for key in points[0]:
        if key[0] in ("native", "binary") and key in points[1]:
            value = float(points[1][key][0] - points[0][key][0])
            known = paired and np.isfinite(value)
            size = min(intervals.effective_groups(first.groups[rows]) for rows in _counted(first, key))
            spread = drawn[1][key] - drawn[0][key] if known else np.empty(0)
            differences[key[0], key[1]] = {
                "value": value if np.isfinite(value) else None,
                "ci95": intervals.interval(value, spread, size, (-np.inf, np.inf)) if known else None,
            }
    return differences


def is_binary(p: Predictions) -> bool:
    """True where the label system itself is one normal and one abnormal class."""
    return len(p.system.classes) == 2 and p.system.abnormal is not None and len(p.system.abnormal) == 1


def _codes(p: Predictions) -> tuple[tuple[str, ...], np.ndarray, np.ndarray]:
    """Classes that occur or are known, in the system's order, and each cell's true and predicted index."""
    names = tuple(c for c in p.system.classes if c in p.classes or c in set(p.labels))
    index = {name: i for i, name in enumerate(names)}
    return names, np.array([index[c] for c in p.labels]), np.array([index[c] for c in p.predicted])


def _native(p: Predictions, weights: np.ndarray, table: np.ndarray, correct: np.ndarray) -> dict[str, Array]:
    is_true = p.labels[:, None] == np.array(p.classes, dtype=object)[None, :]
    unknown = ~is_true.any(axis=1)
    of_true = (p.probabilities * is_true).sum(axis=1)
    surest = p.probabilities.max(axis=1)
    values = {
        "accuracy": accuracy(table),
        "balanced_accuracy": macro(recall(table), table),
        "precision_macro": macro(precision(table), table),
        "recall_macro": macro(recall(table), table),
        "f1_macro": macro(f1(table), table),
        "ece": ece(correct, surest, mass_bins(surest), weights),
        "brier": mean(((p.probabilities - is_true) ** 2).sum(axis=1) + unknown, weights),
        "log_loss": mean(-np.log(np.maximum(of_true, 1e-15)), weights),
    }
    if p.system.graded:
        grades = np.array([p.system.classes.index(c) for c in _codes(p)[0]])
        values["kappa_quadratic"] = kappa_quadratic(table, grades)
    return values


def _binary(
    truth: np.ndarray, p: np.ndarray, called: np.ndarray, weights: np.ndarray, prevalence: float, fitted: bool
) -> dict[str, Array]:
    half = confusion(truth.astype(int), (p >= 0.5).astype(int), 2, weights)
    curve = ranked(truth, p, weights)
    of_true = np.where(truth, p, 1 - p)
    values = {
        "accuracy": accuracy(half),
        "balanced_accuracy": macro(recall(half), half),
        "f1_macro": macro(f1(half), half),
        "auroc": auroc_from(*curve),
        "average_precision": average_precision_from(*curve),
        "ece": ece(truth, p, mass_bins(p), weights),
        "brier": mean((p - truth) ** 2, weights),
        "log_loss": mean(-np.log(np.maximum(of_true, 1e-15)), weights),
        "accuracy_at_half": accuracy(half),
        "sensitivity_at_half": recall(half)[..., 1],
        "specificity_at_half": recall(half)[..., 0],
    }
    if fitted:
        at = confusion(truth.astype(int), called.astype(int), 2, weights)
        sensitivity, specificity = recall(at)[..., 1], recall(at)[..., 0]
        ppv, npv = predictive_values(sensitivity, specificity, prevalence)
        values |= {"accuracy_at_operating_point": accuracy(at), "sensitivity": sensitivity, "specificity": specificity}
        values |= {"ppv": ppv, "npv": npv}
    return values


def _as_used(truth: np.ndarray, called: np.ndarray, answered: np.ndarray, weights: np.ndarray) -> dict[str, Array]:
    """What a reader gets who takes the verdicts as they are: a cell without one is neither found nor passed."""
    rates: dict[str, Array] = {}
    for name, of in (("sensitivity", truth), ("specificity", ~truth)):
        right = (called == truth) & answered
        rates[f"{name}_as_used"] = mean(right, weights * of)
        rates[f"{name}_answered"] = mean(right, weights * (of & answered))
    return rates


def _cell(p: Predictions, key: tuple[str, ...], value: float, drawn: np.ndarray) -> dict[str, Any]:
    if not np.isfinite(value):
        return {"value": None, "ci95": None}
    counted = _counted(p, key)
    if value in (0.0, 1.0) and np.all(drawn[np.isfinite(drawn)] == value):
        proves = _is_share(key) and len(drawn)
        return {"value": value, "ci95": intervals.of_no_failure(value, p.groups[counted[0]]) if proves else None}
    size = min(intervals.effective_groups(p.groups[rows]) for rows in counted)
    return {"value": value, "ci95": intervals.interval(value, drawn, size, _RANGES.get(key[-1], (0.0, 1.0)))}


#: What lies outside 0 to 1: the lowest and the highest value of a metric.
_RANGES: Mapping[str, tuple[float, float]] = {
    "log_loss": (0.0, np.inf),
    "brier": (0.0, np.inf),
    "kappa_quadratic": (-1.0, 1.0),
}


def _is_share(key: tuple[str, ...]) -> bool:
    """Whether a metric is the share of some cells of which something holds."""
    name = key[-1]
    share = name.startswith(("sensitivity", "specificity", "accuracy")) or name in ("refused", "coverage")
    return share or (key[0] == "per_class" and name == "recall")


def _counted(p: Predictions, key: tuple[str, ...]) -> tuple[np.ndarray, ...]:
    """The cells that a metric counts, bool (n,) each; two kinds where it sets them against each other."""
    name, everything = key[-1], np.ones(len(p), dtype=bool)
    if key[0] == "per_class":
        of_class = p.labels == key[1]
        return (of_class, ~of_class) if name in ("auroc", "average_precision") else (of_class,)
    if p.abnormal is None or (key[0] != "binary" and not is_binary(p)):
        return (everything,)
    of = ~p.uncertain if name.endswith("_answered") else everything
    if name.startswith("sensitivity"):
        return (p.abnormal & of,)
    if name.startswith("specificity"):
        return (~p.abnormal & of,)
    return (p.abnormal, ~p.abnormal) if name in ("auroc", "average_precision", "ppv", "npv") else (everything,)


def _counts(names: tuple[str, ...], truth: np.ndarray, predicted: np.ndarray) -> dict[str, Any]:
    return {"classes": list(names), "counts": confusion(truth, predicted, len(names)).astype(int).tolist()}


_FOLD_METRICS = (
    *(("native", m) for m in ("accuracy", "balanced_accuracy", "f1_macro", "auroc", "ece")),
    *(("binary", m) for m in ("accuracy", "auroc", "sensitivity", "specificity")),
)


def _folds(p: Predictions, prevalence: float) -> dict[str, Any]:
    """Mean and standard deviation (n - 1) over folds of the main metrics, with each fold's value."""
    parts = [p.subset(p.folds == fold) for fold in np.unique(p.folds)]
    each = [measure(part, np.ones((1, len(part))), prevalence) for part in parts]
    summary: dict[str, Any] = {"count": len(parts), "n": [len(part) for part in parts]}
    for section, name in _FOLD_METRICS:
        if (section, name) not in each[0]:
            continue
        values = np.array([float(e[section, name][0]) for e in each])
        good = values[np.isfinite(values)]
        summary.setdefault(section, {})[name] = {
            "mean": float(good.mean()) if len(good) else None,
            "sd": float(good.std(ddof=1)) if len(good) > 1 else None,
            "values": [float(v) if np.isfinite(v) else None for v in values],
        }
    return summary
