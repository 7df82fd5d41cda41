"""StandardScaler and logistic regression as one linear map."""

from __future__ import annotations

import numpy as np
import pytest

from cervicyte.decision.calibration import softmax
from cervicyte.decision.linear import fit_head, inner_folds
from cervicyte.errors import DataError


def _blobs(n: int, d: int, k: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    codes = np.arange(n) % k
    features = random.normal(size=(n, d)) + np.eye(k, d)[codes] * 1.5 + 3.0
    return features.astype(np.float32), codes, np.arange(n) // k


@pytest.mark.parametrize(("n", "d", "k"), [(90, 200, 3), (90, 12, 3), (60, 150, 2), (60, 8, 2)])
def test_head_equals_scikit_learns_own_pipeline(n: int, d: int, k: int) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features, codes, groups = _blobs(n, d, k)
    head = fit_head(features, codes, groups, k, C=0.1).head
    reference = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=5000, tol=1e-8))
    reference.fit(features.astype(np.float64), codes)
    ours, theirs = softmax(head.logits(features)), reference.predict_proba(features.astype(np.float64))
    np.testing.assert_allclose(ours, theirs, atol=5e-3)


def test_out_of_fold_logits_never_come_from_a_head_that_saw_the_group() -> None:
    # Labels that only a memory of the group can tell: out of fold they must be at chance.
    random = np.random.default_rng(3)
    groups = np.repeat(np.arange(60), 4)
    codes = random.integers(0, 2, 60)[groups]
    features = random.normal(size=(60, 40))[groups] + random.normal(size=(240, 40)) * 0.05
    grouped = fit_head(features, codes, groups, 2, C=1.0)
    leaking = fit_head(features, codes, groups, 2, C=1.0, protocol="random")
    assert (leaking.oof_logits.argmax(axis=1) == codes).mean() > 0.9
    assert (grouped.oof_logits.argmax(axis=1) == codes).mean() < 0.65


def test_c_is_the_one_with_the_lowest_out_of_fold_loss() -> None:
    features, codes, groups = _blobs(90, 30, 3)
    fitted = fit_head(features, codes, groups, 3)
    assert len(fitted.losses) > 3
    assert min(fitted.losses, key=lambda c: fitted.losses[c]) == fitted.head.C


def test_a_class_with_one_group_and_features_that_are_not_numbers_are_refused() -> None:
    features, codes, groups = _blobs(30, 5, 3)
    with pytest.raises(DataError, match="single group"):
        inner_folds(codes, np.where(codes == 0, 0, groups + 1), seed=0)
    features[3, 2] = np.nan
    with pytest.raises(DataError, match="not finite"):
        fit_head(features, codes, groups, 3)
