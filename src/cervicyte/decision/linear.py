"""The classifier on top of features: StandardScaler and logistic regression, as one linear map.

This is system B's head. C is either fixed or chosen by inner folds that keep groups together;
the logits of the same inner folds then calibrate it.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from cervicyte.data.splits import Folds, grouped_folds, random_folds
from cervicyte.errors import DataError
from cervicyte.settings import available_threads

#: The inverse regularisation strengths that "auto" chooses from (scikit-learn's C).
C_GRID: tuple[float, ...] = (1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class LinearHead:
    """Logits as a linear function of features, the scaler folded in.

    Attributes
    ----------
    weights : float64 (d, k)
    bias : float64 (k,)
    C : the inverse regularisation strength it was fitted with
    centre : float64 (d,), the mean features of the training cells, from which explanations count; None if unknown
    """

    weights: np.ndarray
    bias: np.ndarray
    C: float
    centre: np.ndarray | None = None

    def logits(self, features: np.ndarray) -> np.ndarray:
        """float (n, d) to float64 (n, k)."""
        return np.asarray(np.asarray(features, dtype=np.float64) @ self.weights + self.bias)


@dataclass(frozen=True)
class FittedHead:
    """A head and the out-of-fold logits that calibrate it.

    Attributes
    ----------
    head : fitted on all the rows given
    oof_logits : float64 (n, k), each row from a head that was fitted without it and, in grouped folds, without its
        group; where C was chosen, all of these rows chose it. NaN in rows that no fold holds out
    losses : mean out-of-fold log loss for each C tried
    fold_heads : for each inner fold, the head fitted without it, at the same C
    """

    head: LinearHead
    oof_logits: np.ndarray
    losses: dict[float, float]
    fold_heads: tuple[LinearHead, ...] = ()


def fit_head(
    features: np.ndarray,
    codes: np.ndarray,
    groups: np.ndarray,
    n_classes: int,
    C: float | None = None,
    seed: int = 0,
    protocol: str = "grouped",
    folds: Folds | None = None,
) -> FittedHead:
    """Fit scaler and logistic regression, and predict the same rows out of fold.

    Parameters
    ----------
    features : float (n, d), finite
    codes : class index, int (n,), each of 0..n_classes-1 present
    groups : group of each row (n,)
    C : fixed inverse regularisation strength, or None to choose from C_GRID by inner folds
    protocol : "grouped" keeps groups together in the inner folds too
    folds : the inner folds, where they are given; rows that none of them holds out have NaN in oof_logits

    Raises
    ------
    DataError : a class too small to be divided, or features that are not finite
    """
    if not np.isfinite(features).all():
        raise DataError("features that are not finite numbers", f"{int((~np.isfinite(features)).sum())} values")
    folds = folds or inner_folds(codes, groups, seed, protocol)
    held = np.unique(np.concatenate(folds.test))
    grid = C_GRID if C is None else (C,)
    oof = {c: np.full((len(codes), n_classes), np.nan) for c in grid}
    fitted: dict[tuple[float, int], LinearHead] = {}

    # Imported before the threads start: two threads that import at once can wait for each other.
    import sklearn.linear_model
    import sklearn.preprocessing  # noqa: F401

    def predict_fold(fold: int) -> None:
        train, test = folds.train[fold], folds.test[fold]
        for head in _fit_path(features[train], codes[train], n_classes, grid):
            oof[head.C][test] = head.logits(features[test])
            fitted[head.C, fold] = head

    with _one_thread_each(), ThreadPoolExecutor(available_threads()) as pool:
        list(pool.map(predict_fold, range(len(folds))))
    losses = {c: _log_loss(logits[held], codes[held]) for c, logits in oof.items()}
    best = min(losses, key=lambda c: losses[c])
    without = tuple(fitted[best, fold] for fold in range(len(folds)))
    return FittedHead(fit_linear(features, codes, n_classes, best), oof[best], losses, without)


def fit_linear(features: np.ndarray, codes: np.ndarray, n_classes: int, C: float) -> LinearHead:
    """Scaler and logistic regression at a fixed C, fitted on all the rows given; raises DataError as `fit_head`."""
    with _one_thread_each():
        (head,) = _fit_path(features, codes, n_classes, (C,))
    return head


def inner_folds(codes: np.ndarray, groups: np.ndarray, seed: int, protocol: str = "grouped", most: int = 5) -> Folds:
    """Folds inside a training set, as many as its rarest class allows, ``most`` at most.

    Raises
    ------
    DataError : a class with a single group (or cell, for the random protocols)
    """
    present = np.unique(codes)
    units = groups if protocol == "grouped" else np.arange(len(codes))
    counts = {int(code): len(set(units[codes == code])) for code in present}
    rarest = min(counts, key=lambda code: counts[code])
    fewest = counts[rarest]
    if fewest < 2:
        raise DataError(
            "a class has a single group in a training set, so nothing can be calibrated on it",
            f"class number {rarest} has {fewest} group(s)",
            "add cells of that class from other slides or patients, or leave the class out",
        )
    n_folds = min(most, fewest)
    if protocol == "grouped":
        return grouped_folds(codes, groups, n_folds, seed)
    return random_folds(codes, n_folds, seed, protocol)


def _one_thread_each() -> Any:
    """Matrices here are small: threads inside a product wait for each other more than they work."""
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


def _fit_path(features: np.ndarray, codes: np.ndarray, n_classes: int, grid: Sequence[float]) -> list[LinearHead]:
    """Heads for each C, from strong to weak regularisation, each starting from the one before."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    if len(np.unique(codes)) < n_classes:
        raise DataError("a training fold without one of the classes", f"{len(np.unique(codes))} of {n_classes} classes")
    scaler = StandardScaler().fit(np.asarray(features, dtype=np.float64))
    scaled = scaler.transform(np.asarray(features, dtype=np.float64))
    # With fewer rows than columns an L2-penalised solution lies in the row space: rotating into it
    # changes nothing but the cost (Hastie, Tibshirani and Friedman, 18.3.5).
    basis = None
    if scaled.shape[0] < scaled.shape[1]:
        left, singular, basis = np.linalg.svd(scaled, full_matrices=False)
        scaled = left * singular
    model = LogisticRegression(max_iter=2000, tol=1e-4, warm_start=True)
    heads = []
    for c in sorted(grid):
        model.set_params(C=c)
        model.fit(scaled, codes)
        weights = model.coef_ if basis is None else model.coef_ @ basis
        bias = model.intercept_
        if n_classes == 2:  # scikit-learn keeps only the second class's row
            weights, bias = np.vstack([np.zeros_like(weights), weights]), np.concatenate([[0.0], bias])
        folded = (weights / scaler.scale_).T
        heads.append(LinearHead(folded, bias - scaler.mean_ @ folded, c, scaler.mean_))
    return heads


def _log_loss(logits: np.ndarray, codes: np.ndarray) -> float:
    from scipy.special import logsumexp

    return float((logsumexp(logits, axis=1) - logits[np.arange(len(codes)), codes]).mean())
