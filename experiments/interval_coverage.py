"""How often intervals and promises hold the truth, by simulation: percentiles of resamples against what we state.

Cells come in groups that share a part of what makes them easy or hard (intraclass correlation 0.2, 20 cells a group).

    python experiments/interval_coverage.py [--repeats 400]
"""

from __future__ import annotations

import argparse

import numpy as np
from scipy.stats import norm

from cervicyte.decision.thresholds import operating_point
from cervicyte.evaluation import metrics
from cervicyte.evaluation.intervals import effective_groups, interval, of_no_failure, resamples

CELLS = 20
CORRELATION = 0.2


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=400)
    repeats = parser.parse_args().repeats
    print("| groups | " + " | ".join(f"{name}: percentiles | t" for name in METRICS) + " |")
    print("|" + " ---: |" * (1 + 2 * len(METRICS)))
    for n_groups in (2, 3, 4, 6, 10, 30):
        cells = [
            f"{share:.0%}" if share is not None else "none" for m in METRICS for share in coverage(m, n_groups, repeats)
        ]
        print(f"| {n_groups} | " + " | ".join(cells) + " |")
    print("\n| abnormal cells | groups | promised | kept where promised | mean sensitivity |\n|" + " ---: |" * 5)
    for n_groups, each in ((20, 1), (59, 1), (100, 1), (700, 1), (10, 20), (20, 20), (40, 20), (100, 7)):
        print("| " + " | ".join(promise(n_groups, each, repeats)) + " |")


#: Names, and their true values.
METRICS = {"accuracy 0.8": 0.8, "sensitivity 0.9": 0.9, "AUROC 0.9": 0.9}


def coverage(name: str, n_groups: int, repeats: int) -> tuple[float, float | None]:
    """How often percentiles, and the interval that we state, hold the truth (None: none is stated)."""
    rng = np.random.default_rng(n_groups)
    truth = METRICS[name]
    groups = np.repeat(np.arange(n_groups), CELLS)
    held: list[list[bool]] = [[], []]
    for repeat in range(repeats):
        shared = rng.normal(size=n_groups)[groups] * np.sqrt(CORRELATION)
        latent = shared + rng.normal(size=len(groups)) * np.sqrt(1 - CORRELATION)
        abnormal = np.arange(len(groups)) % 2 == 0
        if name.startswith("AUROC"):
            score = latent + abnormal * norm.ppf(truth) * np.sqrt(2)
            measure = lambda w: metrics.auroc(abnormal, score, w)  # noqa: E731, B023
            rows = abnormal
        else:
            rows = abnormal if name.startswith("sensitivity") else np.ones(len(groups), dtype=bool)
            right = latent < norm.ppf(truth)
            measure = lambda w: metrics.mean(right[rows], w[..., rows])  # noqa: E731, B023
        value = float(measure(np.ones(len(groups))))
        drawn = np.concatenate([measure(w) for w in resamples(groups, 400, repeat)])
        low, high = np.nanpercentile(drawn, (2.5, 97.5))
        held[0].append(low <= truth <= high)
        share_at_end = value in (0.0, 1.0) and not name.startswith("AUROC")
        ends = (
            of_no_failure(value, groups[rows])
            if share_at_end
            else interval(value, drawn, effective_groups(groups[rows]))
        )
        if ends is not None:
            held[1].append(ends[0] <= truth <= ends[1])
    return float(np.mean(held[0])), float(np.mean(held[1])) if held[1] else None


def promise(n_groups: int, each: int, repeats: int) -> tuple[str, ...]:
    """How often a sensitivity of 0.95 is promised, and how often it then holds for cells of new groups."""
    rng = np.random.default_rng(n_groups)
    groups = np.repeat(np.arange(n_groups), each)
    promised, kept, sensitivity = [], [], []
    for _ in range(repeats):
        shared = rng.normal(size=n_groups)[groups] * np.sqrt(CORRELATION if each > 1 else 0)
        latent = shared + rng.normal(size=len(groups)) * np.sqrt(1 - CORRELATION if each > 1 else 1)
        normal = rng.uniform(0, 0.5, 300)
        p = np.r_[norm.cdf(latent) / 2, normal]
        of = np.r_[groups, n_groups + np.arange(len(normal))]
        point = operating_point(p, np.arange(len(p)) < len(latent), of)
        sensitivity.append(1 - 2 * point.threshold)
        promised.append(point.confidence is not None)
        if promised[-1]:
            kept.append(sensitivity[-1] >= 0.95)
    held = f"{np.mean(kept):.0%}" if kept else ""
    return str(len(groups)), str(n_groups), f"{np.mean(promised):.0%}", held, f"{np.mean(sensitivity):.3f}"


if __name__ == "__main__":
    main()
