"""The figures of a report, in one plain style that can be read in print and by the colour-blind."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from cervicyte.base.plots import BLUE, GREEN, GREY, INK, ORANGE, canvas, class_label, stacked
from cervicyte.evaluation import intervals, metrics
from cervicyte.evaluation.results import Predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


#: Resamples behind the bands of the curves (percentiles of a curve need fewer than those of a number).
_BAND_RESAMPLES = 300

_GRID = np.linspace(0, 1, 201)

_BARS = (
    "On the diagonal, 70 % sure means right 7 times in 10. Bars are Wilson intervals that take cells as independent."
)

#: The figures of a report: file name, title, and how to read it.
CAPTIONS: Mapping[str, tuple[str, str]] = {
    "protocols": (
        "Main metrics under each protocol",
        "Dots are the numbers, lines their 95 % intervals: the distance between dots is what a protocol adds.",
    ),
    "confusion": (
        "Confusion matrix of the classes, the most probable one taken",
        "Rows are true classes, columns what the model said; percentages are of the row, so the diagonal is recall.",
    ),
    "confusion_binary": (
        "Confusion matrix of normal and abnormal, at the operating point",
        "The lower left cell counts the abnormal cells that fell below the threshold, the uncertain ones among them.",
    ),
    "roc": (
        "ROC curve",
        "Nearer to the upper left corner is better. The band holds 95 % of resampled groups. The operating point "
        "pools the thresholds of all folds, so it may lie a little off the curve.",
    ),
    "precision_recall": (
        "Precision-recall curve",
        "Nearer to the upper right corner is better. Precision depends on how many of the tested cells are abnormal.",
    ),
    "reliability": ("Reliability of P(abnormal)", _BARS),
    "reliability_classes": ("Reliability of the named class", _BARS),
    "risk_coverage": (
        "Risk and coverage",
        "To the right the model answers more cells, the surest first; the lower the curve, the fewer it gets wrong.",
    ),
    "training": (
        "Loss of the last blocks, epoch by epoch",
        "Thin lines are single trainings, one for each inner fold of the final model; the dot is the epoch that was "
        "kept. Where the loss on held-out groups rises while the training loss falls, the network learns by heart.",
    ),
    "per_class": (
        "Recall and precision of each class",
        "Recall is the share of a class's cells that were found, precision the share of right calls; in brackets the "
        "tested cells. Lines are 95 % intervals.",
    ),
}


def confusion_matrix(table: Mapping[str, Any]) -> Figure:
    """Counts and row percentages of one confusion matrix, ``{"classes": [...], "counts": [[...]]}``."""
    names, counts = [class_label(c) for c in table["classes"]], np.asarray(table["counts"], dtype=float)
    k = len(names)
    side = max(3.4, 1.9 + 0.72 * k)
    figure, axes = canvas(side + 0.6, side)
    rows = counts.sum(axis=1, keepdims=True)
    share = np.divide(counts, rows, out=np.zeros_like(counts), where=rows > 0)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1.15, aspect="equal")
    for i in range(k):
        for j in range(k):
            colour = "white" if share[i, j] > 0.74 else INK
            kind: dict[str, Any] = {"color": colour, "ha": "center"}
            axes.text(j, i - 0.04, f"{counts[i, j]:.0f}", va="bottom", fontsize=10, weight="bold", **kind)
            axes.text(j, i + 0.08, f"{share[i, j]:.0%}" if rows[i] else "none", va="top", fontsize=7.5, **kind)
    axes.set_xticks(range(k), names, rotation=40 if k > 2 else 0, ha="right" if k > 2 else "center")
    axes.set_yticks(range(k), names)
    axes.set_xticks(np.arange(k + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(k + 1) - 0.5, minor=True)
    axes.grid(visible=False)
    axes.grid(which="minor", color="white", linewidth=2)
    axes.tick_params(which="both", length=0)
    axes.spines[:].set_visible(False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    return figure


def roc(p: Predictions, seed: int = 0) -> Figure:
    """ROC curve of P(abnormal) with its band and the operating point; without one, a curve for each class."""
    figure, axes = canvas(4.6, 4.4)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="chance")
    if p.abnormal is None or p.p_abnormal is None:
        _each_class(axes, p, _roc_points)
    else:
        low, high = _band(p, _roc_on_grid, seed)
        axes.fill_between(_GRID, low, high, color=BLUE, alpha=0.16, linewidth=0, label="95 % band")
        x, y = _roc_points(*metrics.ranked(p.abnormal, p.p_abnormal))
        area = metrics.auroc(p.abnormal, p.p_abnormal)
        axes.plot(x, y, color=BLUE, linewidth=2, label=f"P(abnormal), AUROC {area:.3f}")
        if p.operating_point is not None and p.called_abnormal is not None:
            alarms = metrics.mean(p.called_abnormal, ~p.abnormal)
            sensitivity = metrics.mean(p.called_abnormal, p.abnormal)
            axes.plot(alarms, sensitivity, **_marker(ORANGE), label="operating point")
    _unit(axes, "1 - specificity (normal cells called abnormal)", "sensitivity (abnormal cells found)")
    _legend(axes, loc="lower right")
    return figure


def precision_recall(p: Predictions, seed: int = 0) -> Figure:
    """Precision-recall curve of P(abnormal) with its band; without one, a curve for each class."""
    figure, axes = canvas(4.6, 4.4)
    if p.abnormal is None or p.p_abnormal is None:
        _each_class(axes, p, _pr_points)
    else:
        base = float(p.abnormal.mean())
        axes.axhline(base, color=GREY, linewidth=1, linestyle=(0, (4, 3)), label=f"chance ({base:.2f})")
        low, high = _band(p, _pr_on_grid, seed)
        axes.fill_between(_GRID, low, high, color=BLUE, alpha=0.16, linewidth=0, label="95 % band")
        x, y = _pr_points(*metrics.ranked(p.abnormal, p.p_abnormal))
        area = metrics.average_precision(p.abnormal, p.p_abnormal)
        axes.plot(x, y, color=BLUE, linewidth=2, label=f"P(abnormal), AP {area:.3f}")
        if p.operating_point is not None and p.called_abnormal is not None and p.called_abnormal.any():
            recall = metrics.mean(p.called_abnormal, p.abnormal)
            right = metrics.mean(p.abnormal, p.called_abnormal)
            axes.plot(recall, right, **_marker(ORANGE), label="operating point")
    _unit(axes, "recall (abnormal cells found)", "precision (abnormal among cells called abnormal)")
    _legend(axes, loc="lower left")
    return figure


def reliability(correct: np.ndarray, confidence: np.ndarray, what: str, of: str) -> Figure:
    """Reliability diagram: what happened against what was predicted, with the histogram of the predictions.

    ``correct`` bool (n,), ``confidence`` float (n,); ``what`` names the horizontal, ``of`` the vertical axis.
    """
    figure, (axes, below) = stacked(4.6, 4.8, (4, 1))
    bins = metrics.mass_bins(confidence)
    member = np.unique(bins)[:, None] == bins[None, :]
    x, y = metrics.mean(confidence, member), metrics.mean(correct, member)
    error = metrics.ece(correct, confidence, bins)
    low, high = _wilson(y, member.sum(axis=1))
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=(0, (4, 3)), label="perfect calibration")
    axes.errorbar(x, y, yerr=(y - low, high - y), color=BLUE, linewidth=1, elinewidth=1, alpha=0.6, fmt="none")
    axes.plot(x, y, color=BLUE, marker="o", markersize=5, linewidth=1.2, label=f"one bin of cells (ECE {error:.3f})")
    _unit(axes, "", of)
    axes.tick_params(labelbottom=False)
    _legend(axes, loc="upper left")
    below.hist(confidence, bins=list(np.linspace(0, 1, 26)), color=BLUE, alpha=0.75)
    below.set_xlim(-0.02, 1.02)
    below.set_xlabel(what)
    below.set_ylabel("cells")
    return figure


def risk_coverage(p: Predictions) -> Figure:
    """Error among answered cells against the share answered, and the point that abstention has in force."""
    figure, axes = canvas(4.6, 4.4)
    wrong = p.predicted != p.labels
    x, y = metrics.risk_coverage(~wrong, p.probabilities.max(axis=1))
    top = float(y[-1])
    name = "normal or abnormal" if metrics.is_binary(p) else f"all {len(p.classes)} classes"
    axes.plot(x, y, color=BLUE, linewidth=2, label=name)
    if p.abnormal is not None and p.p_abnormal is not None and not metrics.is_binary(p):
        surest = np.maximum(p.p_abnormal, 1 - p.p_abnormal)
        x2, y2 = metrics.risk_coverage((p.p_abnormal >= 0.5) == p.abnormal, surest)
        axes.plot(x2, y2, color=GREEN, linewidth=2, linestyle="--", label="normal or abnormal (cut at 0.5)")
        top = max(top, float(y2[-1]))
    answered = ~p.uncertain
    if answered.any():
        axes.plot(answered.mean(), wrong[answered].mean(), **_marker(ORANGE), label="abstention in force")
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(0, max(0.05, top * 1.45))
    _percent(axes, x=True)
    axes.set_xlabel("cells answered, the surest first")
    axes.set_ylabel("wrong among the answered")
    _legend(axes, loc="upper left")
    return figure


def per_class(values: Mapping[str, Mapping[str, Any]]) -> Figure:
    """Recall and precision of each class with their intervals, from ``metrics["per_class"]``."""
    names = list(values)
    figure, axes = canvas(6.2, 1.4 + 0.52 * len(names))
    for name, colour, shift in (("recall", BLUE, -0.19), ("precision", GREEN, 0.19)):
        at = [i for i, c in enumerate(names) if values[c][name]["value"] is not None]
        if not at:
            continue
        cells = [values[names[i]][name] for i in at]
        x = np.array([c["value"] for c in cells])
        places = np.array(at) + shift
        axes.barh(places, x, height=0.34, color=colour, alpha=0.8, label=name)
        axes.errorbar(x, places, xerr=_arms(cells), fmt="none", ecolor=INK, elinewidth=1.1, capsize=2.5)
    axes.set_yticks(range(len(names)), [f"{class_label(c)}  ({values[c]['n']})" for c in names])
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.set_xlim(0, 1.02)
    _percent(axes, x=True, y=False)
    axes.grid(visible=False, axis="y")
    axes.tick_params(axis="y", length=0)
    _legend(axes, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def training_curves(curves: Mapping[str, Sequence[Sequence[Mapping[str, float | None]]]]) -> Figure:
    """Loss of each training of each fine-tuned member over its epochs: rows as `TrainedTail.history` has them."""
    figure, every = stacked(6.2, 0.6 + 2.3 * len(curves), [1] * len(curves))
    for axes, (name, histories) in zip(every, curves.items(), strict=True):
        for k, history in enumerate(histories):
            first = k == 0
            trained = [(row["epoch"], row["train_loss"]) for row in history if row["train_loss"] is not None]
            if trained:
                axes.plot(*zip(*trained, strict=True), color=GREY, linewidth=1, label="training" if first else None)
            judged = [r for r in history if r.get("validation_loss") is not None]
            if not judged:
                continue
            epochs, losses = (np.array([r[n] for r in judged], dtype=float) for n in ("epoch", "validation_loss"))
            axes.plot(epochs, losses, color=BLUE, linewidth=1, label="held-out groups, calibrated" if first else None)
            best = min(range(len(judged)), key=lambda i: judged[i]["brier"] or 0.0)
            axes.plot(epochs[best], losses[best], "o", color=BLUE, markersize=4)
        axes.set_title(name, fontsize=9, color=INK, loc="left")
        axes.set_ylabel("loss")
        axes.locator_params(axis="x", integer=True)
        _legend(axes, loc="lower right", bbox_to_anchor=(1.0, 1.0), ncols=2, borderaxespad=0)
    every[-1].set_xlabel("epoch (0: the head alone)")
    return figure


def protocols(results: Mapping[str, Mapping[str, Any]], shown: Sequence[tuple[str, str, str]]) -> Figure:
    """Dots with intervals: each metric of ``shown`` (title, section, name) under each protocol."""
    colours = (BLUE, ORANGE, GREEN, INK, GREY)
    rows = [row for row in shown if any(_value(m, row) is not None for m in results.values())]
    figure, axes = canvas(6.6, 1.3 + len(rows) * (0.24 + 0.19 * len(results)))
    lowest = 1.0
    for k, (protocol, scores) in enumerate(results.items()):
        at = [i for i, row in enumerate(rows) if _value(scores, row) is not None]
        cells = [scores[rows[i][1]][rows[i][2]] for i in at]
        x = np.array([c["value"] for c in cells])
        arms = _arms(cells)
        places = np.array(at) + (k - (len(results) - 1) / 2) * (0.62 / max(1, len(results)))
        kind: dict[str, Any] = {"color": colours[k % 5], "fmt": "osD^v"[k % 5]}
        axes.errorbar(
            x, places, xerr=arms, markersize=6, elinewidth=1.6, capsize=0, label=class_label(protocol), **kind
        )
        lowest = min(lowest, float((x - arms[0]).min(initial=1)))
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(max(0, np.floor(lowest * 10) / 10), 1.01)
    _percent(axes, x=True, y=False)
    axes.tick_params(axis="y", length=0)
    for place in range(len(rows) - 1):
        axes.axhline(place + 0.5, color="#e3e7ea", linewidth=0.8)
    axes.grid(visible=False, axis="y")
    _legend(axes, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=min(4, len(results)))
    return figure


def _legend(axes: Axes, **place: Any) -> None:
    axes.legend(fontsize=8.5, frameon=True, framealpha=0.9, edgecolor="none", labelcolor=INK, **place)


def _marker(colour: str) -> dict[str, Any]:
    return {"marker": "D", "markersize": 8, "color": colour, "markeredgecolor": "white", "linestyle": "none"}


def _unit(axes: Axes, x: str, y: str) -> None:
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(x)
    axes.set_ylabel(y)


def _percent(axes: Axes, x: bool = False, y: bool = True) -> None:
    from matplotlib.ticker import PercentFormatter

    for wanted, axis in ((x, axes.xaxis), (y, axes.yaxis)):
        if wanted:
            axis.set_major_formatter(PercentFormatter(1, decimals=0))


def _value(scores: Mapping[str, Any], row: tuple[str, str, str]) -> float | None:
    value = ((scores.get(row[1]) or {}).get(row[2]) or {}).get("value")
    return None if value is None else float(value)


def _arms(cells: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Lengths of the two arms of each interval, (2, n); zero where there is no interval."""
    ends = [c["ci95"] or [c["value"]] * 2 for c in cells]
    arms = [(max(0.0, c["value"] - e[0]), max(0.0, e[1] - c["value"])) for c, e in zip(cells, ends, strict=True)]
    return np.array(arms, dtype=float).reshape(-1, 2).T


def _wilson(share: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's 95 % interval of a share of n (1927)."""
    z = 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return np.minimum(centre - half, share), np.maximum(centre + half, share)


def _roc_points(hits: np.ndarray, alarms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.r_[0, alarms / max(alarms[-1], 1)], np.r_[0, hits / max(hits[-1], 1)]


def _pr_points(hits: np.ndarray, alarms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    called = np.maximum(hits + alarms, 1e-12)
    return np.r_[0, hits / max(hits[-1], 1)], np.r_[(hits / called)[0], hits / called]


def _roc_on_grid(hits: np.ndarray, alarms: np.ndarray) -> np.ndarray:
    return np.asarray(np.interp(_GRID, *_roc_points(hits, alarms)))


def _pr_on_grid(hits: np.ndarray, alarms: np.ndarray) -> np.ndarray:
    return np.asarray(np.interp(_GRID, *_pr_points(hits, alarms)))


def _band(p: Predictions, curve: Callable[..., np.ndarray], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pointwise 95 % band of a curve of P(abnormal) over resampled groups."""
    curves = [
        curve(*pair)
        for weights in intervals.resamples(p.groups, _BAND_RESAMPLES, seed)
        for pair in zip(*metrics.ranked(p.abnormal, p.p_abnormal, weights), strict=True)  # type: ignore[arg-type]
        if pair[0][-1] > 0 and pair[1][-1] > 0
    ]
    if not curves:
        return np.zeros_like(_GRID), np.zeros_like(_GRID)
    low, high = np.percentile(np.array(curves), (2.5, 97.5), axis=0)
    return low, high


def _each_class(axes: Axes, p: Predictions, points: Callable[..., tuple[np.ndarray, np.ndarray]]) -> None:
    styles = ("-", "--", "-.", ":")
    for i, name in enumerate(p.classes):
        of_class = p.labels == name
        if of_class.any() and not of_class.all():
            x, y = points(*metrics.ranked(of_class, p.probabilities[:, i]))
            axes.plot(x, y, linewidth=1.6, linestyle=styles[(i // 7) % 4], label=class_label(name))
