"""Metrics against scikit-learn, against numbers worked out by hand, and under the resampling of groups."""

from __future__ import annotations

import dataclasses
import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cervicyte.data.labels import BINARY, HERLEV, LabelSystem, find_map
from cervicyte.errors import DataError
from cervicyte.evaluation import metrics
from cervicyte.evaluation.results import Predictions


def make(labels, probabilities, *, system=HERLEV, classes=None, groups=None, op=0.5, folds=None, uncertain=None):
    """Predictions from class names and probabilities."""
    n = len(labels)
    classes = system.classes if classes is None else classes
    probabilities = np.asarray(probabilities, dtype=np.float64)
    p_abnormal = None
    if system.abnormal is not None:
        p_abnormal = probabilities[:, [i for i, c in enumerate(classes) if c in system.abnormal]].sum(axis=1).clip(0, 1)
    return Predictions(
        "grouped",
        system,
        tuple(classes),
        tuple(f"{i}.png" for i in range(n)),
        (None,) * n,
        np.zeros(n, dtype=np.int64),
        np.array(labels, dtype=object),
        np.array([str(i) for i in range(n)] if groups is None else groups, dtype=object),
        np.zeros(n, dtype=np.int64) if folds is None else np.asarray(folds),
        probabilities,
        p_abnormal,
        None if op is None or p_abnormal is None else np.full(n, op),
        np.zeros(n, dtype=bool) if uncertain is None else np.asarray(uncertain, dtype=bool),
    )


def realistic(n=900, seed=0, system=HERLEV, n_groups=200, shared=0.7):
    """Predictions of a middling model whose errors are shared within groups."""
    rng = np.random.default_rng(seed)
    k = len(system.classes)
    group = rng.integers(0, n_groups, n)
    truth = rng.permutation(n) % k
    logits = 1.6 * np.eye(k)[truth] + shared * rng.normal(size=(n_groups, k))[group] + rng.normal(size=(n, k))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    labels = [system.classes[t] for t in truth]
    uncertain = p.max(axis=1) < np.quantile(p.max(axis=1), 0.2)
    return make(labels, p, system=system, groups=[f"g{g}" for g in group], folds=group % 5, uncertain=uncertain, op=0.4)


@pytest.fixture(scope="module")
def seven() -> Predictions:
    return realistic()


@pytest.fixture(scope="module")
def scored(seven) -> dict:
    return metrics.score(seven, n_boot=300)


def test_native_metrics_are_those_of_scikit_learn(seven, scored):
    from sklearn import metrics as sk

    y, said, p = seven.labels.astype(str), seven.predicted.astype(str), seven.probabilities
    codes = np.array([HERLEV.classes.index(c) for c in y])
    hot = np.eye(7)[codes]
    expected = {
        "accuracy": sk.accuracy_score(y, said),
        "balanced_accuracy": sk.balanced_accuracy_score(y, said),
        "precision_macro": sk.precision_score(y, said, average="macro"),
        "recall_macro": sk.recall_score(y, said, average="macro"),
        "f1_macro": sk.f1_score(y, said, average="macro"),
        "auroc": sk.roc_auc_score(hot, p, average="macro"),
        "average_precision": sk.average_precision_score(hot, p, average="macro"),
        "kappa_quadratic": sk.cohen_kappa_score(y, said, labels=list(HERLEV.classes), weights="quadratic"),
        "log_loss": sk.log_loss(codes, p),
        "brier": ((p - hot) ** 2).sum(axis=1).mean(),
    }
    found = {name: scored["native"][name]["value"] for name in expected}
    assert found == pytest.approx(expected)
    table = sk.confusion_matrix(y, said, labels=list(HERLEV.classes))
    assert scored["confusion"]["native"] == {"classes": list(HERLEV.classes), "counts": table.tolist()}


def test_binary_metrics_are_those_of_scikit_learn(seven, scored):
    from sklearn import metrics as sk

    y, p = seven.abnormal, seven.p_abnormal
    expected = {
        "accuracy": sk.accuracy_score(y, p >= 0.5),
        "auroc": sk.roc_auc_score(y, p),
        "average_precision": sk.average_precision_score(y, p),
        "brier": sk.brier_score_loss(y, p),
        "log_loss": sk.log_loss(y, p),
        "sensitivity_at_half": sk.recall_score(y, p >= 0.5),
        "sensitivity": sk.recall_score(y, p >= 0.4),
        "specificity": sk.recall_score(~y, p < 0.4),
        "accuracy_at_operating_point": sk.accuracy_score(y, p >= 0.4),
    }
    found = {name: scored["binary"][name]["value"] for name in expected}
    assert found == pytest.approx(expected)


def test_numbers_worked_out_by_hand():
    # Truth n n a a a; P(abnormal) .1 .6 .4 .8 .9: one normal flagged and one abnormal missed at 0.5.
    p = np.array([0.1, 0.6, 0.4, 0.8, 0.9])
    uncertain = [False, False, True, False, False]
    labels = ["normal", "normal", "abnormal", "abnormal", "abnormal"]
    predictions = make(labels, np.c_[1 - p, p], system=BINARY, op=0.3, uncertain=uncertain)
    found = metrics.score(predictions, prevalence=0.1, n_boot=50)
    binary = {name: cell["value"] for name, cell in found["binary"].items()}
    assert binary["accuracy"] == pytest.approx(3 / 5)
    assert binary["auroc"] == pytest.approx(5 / 6)
    assert binary["average_precision"] == pytest.approx((1 + 1 + 3 / 4) / 3)
    assert (binary["sensitivity"], binary["specificity"]) == (1.0, 0.5)
    assert (binary["sensitivity_at_half"], binary["specificity_at_half"]) == pytest.approx((2 / 3, 1 / 2))
    assert binary["ppv"] == pytest.approx(0.1 / (0.1 + 0.5 * 0.9))
    assert binary["npv"] == 1.0
    assert binary["brier"] == pytest.approx((0.01 + 0.36 + 0.36 + 0.04 + 0.01) / 5)
    assert binary["ece"] == pytest.approx((0.1 + 0.6 + 0.6 + 0.2 + 0.1) / 5)
    assert found["confusion"]["binary"]["counts"] == [[1, 1], [0, 3]]
    assert found["uncertain"]["coverage"]["value"] == pytest.approx(4 / 5)
    assert found["uncertain"]["error"]["value"] == pytest.approx(1 / 4)
    assert found["uncertain"]["abnormal_below_threshold"] == 0
    assert all(found["native"][name] == cell for name, cell in found["binary"].items())


def test_an_uncertain_abnormal_cell_is_not_counted_as_answered_normal():
    p = np.array([0.1, 0.2, 0.3, 0.9])
    labels = ["normal", "abnormal", "abnormal", "abnormal"]
    predictions = make(labels, np.c_[1 - p, p], system=BINARY, uncertain=[False, False, True, False])
    found = metrics.score(predictions, n_boot=20)["uncertain"]
    assert (found["abnormal"], found["abnormal_below_threshold"], found["abnormal_answered_normal"]) == (3, 2, 1)


def test_risk_and_coverage_by_hand():
    coverage, risk = metrics.risk_coverage(np.array([True, False, True, False]), np.array([0.9, 0.8, 0.8, 0.3]))
    assert coverage == pytest.approx([1 / 4, 3 / 4, 1])
    assert risk == pytest.approx([0, 1 / 3, 1 / 2])


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 40), st.integers(2, 5))
def test_a_weight_is_a_repeated_row(seed, n, k):
    rng = np.random.default_rng(seed)
    truth, said, weights = rng.integers(0, k, n), rng.integers(0, k, n), rng.integers(0, 4, n)
    score = rng.integers(0, 6, n) / 6  # with ties
    bins = metrics.mass_bins(score, 4)
    rows = np.repeat(np.arange(n), weights)
    for metric in (
        lambda r, w: metrics.accuracy(metrics.confusion(truth[r], said[r], k, w)),
        lambda r, w: metrics.macro(metrics.f1(t := metrics.confusion(truth[r], said[r], k, w)), t),
        lambda r, w: metrics.macro(metrics.precision(t := metrics.confusion(truth[r], said[r], k, w)), t),
        lambda r, w: metrics.kappa_quadratic(metrics.confusion(truth[r], said[r], k, w)),
        lambda r, w: metrics.auroc(truth[r] == 0, score[r], w),
        lambda r, w: metrics.average_precision(truth[r] == 0, score[r], w),
        lambda r, w: metrics.ece(truth[r] == 0, score[r], bins[r], w),
    ):
        if not len(rows):
            continue
        weighted, repeated = metric(slice(None), weights), metric(rows, None)
        both = metric(slice(None), np.stack([weights, np.ones(n)]))
        assert weighted == pytest.approx(repeated, nan_ok=True)
        assert both[0] == pytest.approx(weighted, nan_ok=True)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 60))
def test_json_has_no_nan_and_shares_lie_between_0_and_1(seed, n):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(7), n)
    labels = rng.choice(HERLEV.classes[: rng.integers(1, 8)], n)
    found = metrics.score(make(labels, p, groups=rng.integers(0, 9, n).astype(str)), n_boot=20, seed=seed)
    json.dumps(found, allow_nan=False)
    for section in ("native", "binary", "uncertain"):
        for name, cell in found[section].items():
            if not isinstance(cell, dict) or cell["value"] is None:
                continue
            top = {"log_loss": math.inf, "brier": 2}.get(name, 1)
            low = -1 if name == "kappa_quadratic" else 0
            for x in (cell["value"], *(cell["ci95"] or ())):
                assert low - 1e-9 <= x <= top + 1e-9, name


def test_intervals_hold_the_value(scored):
    for section in ("native", "binary"):
        for name, cell in scored[section].items():
            low, high = cell["ci95"]
            assert low < high, name
            assert low <= cell["value"] <= high, name


def test_intervals_are_wider_when_groups_share_their_errors():
    together = realistic(n_groups=40, shared=1.5)
    apart = dataclasses.replace(together, groups=np.arange(len(together)).astype(str).astype(object))
    wide, narrow = (metrics.score(p, n_boot=400)["native"]["accuracy"]["ci95"] for p in (together, apart))
    assert wide[1] - wide[0] > 1.3 * (narrow[1] - narrow[0])


def test_the_same_seed_gives_the_same_numbers(seven):
    a, b, c = (metrics.score(seven, n_boot=50, seed=s) for s in (4, 4, 5))
    assert a == b
    assert a["native"]["accuracy"]["ci95"] != c["native"]["accuracy"]["ci95"]


def test_gaps_are_paired_over_the_same_groups(seven):
    better = dataclasses.replace(seven, probabilities=seven.probabilities.copy(), protocol="random")
    rows = np.flatnonzero(better.predicted != better.labels)[::3]
    better.probabilities[rows] = np.eye(7)[[HERLEV.classes.index(better.labels[i]) for i in rows]]
    better = dataclasses.replace(better)  # forget what was computed from the old probabilities
    gap = metrics.gaps(seven, better)["native", "accuracy"]
    assert gap["value"] == pytest.approx(len(rows) / len(seven))
    assert 0 < gap["ci95"][0] < gap["value"] < gap["ci95"][1]
    alone = metrics.score(seven, n_boot=500)["native"]["accuracy"]["ci95"]
    assert gap["ci95"][1] - gap["ci95"][0] < alone[1] - alone[0]
    assert metrics.gaps(seven, better.subset(range(50)))["native", "accuracy"]["ci95"] is None
    assert metrics.gaps(seven, seven)["binary", "auroc"]["value"] == 0


def test_a_class_that_no_cell_has_is_none_and_not_counted_in_means():
    labels = ["normal_columnar"] * 3 + ["carcinoma_in_situ"] * 3
    p = np.full((6, 7), 0.02)
    p[:3, 2], p[3:5, 6], p[5, 4] = 0.88, 0.88, 0.88
    found = metrics.score(make(labels, p), n_boot=50)
    assert found["per_class"]["severe_dysplastic"]["recall"] == {"value": None, "ci95": None}
    assert found["per_class"]["severe_dysplastic"]["n"] == 0
    assert found["per_class"]["moderate_dysplastic"]["precision"]["value"] == 0
    assert found["native"]["balanced_accuracy"]["value"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["native"]["f1_macro"]["value"] == pytest.approx((1 + 4 / 5) / 2)


def test_a_class_that_the_model_does_not_know_is_an_error():
    system = LabelSystem(name="letters", classes=("a", "b", "c"), abnormal=None)
    found = metrics.score(
        make(["a", "b", "c", "c"], [[1, 0], [0, 1], [1, 0], [0, 1]], system=system, classes=("a", "b"))
    )
    assert found["binary"] is None
    assert found["native"]["accuracy"]["value"] == 0.5
    assert found["native"]["brier"]["value"] == pytest.approx((0 + 0 + 2 + 2) / 4)
    assert found["per_class"]["c"]["recall"]["value"] == 0
    assert "auroc" not in found["per_class"]["c"]


def test_kappa_keeps_the_distance_between_grades_when_a_middle_class_is_absent():
    from sklearn.metrics import cohen_kappa_score

    rng = np.random.default_rng(2)
    classes = (HERLEV.classes[0], HERLEV.classes[1], HERLEV.classes[6])
    labels, p = rng.choice(classes, 80), rng.dirichlet(np.ones(3), 80)
    predictions = make(labels, p, classes=classes)
    expected = cohen_kappa_score(
        labels, predictions.predicted.astype(str), labels=list(HERLEV.classes), weights="quadratic"
    )
    assert metrics.score(predictions, n_boot=20)["native"]["kappa_quadratic"]["value"] == pytest.approx(expected)


def test_no_mistake_in_30_groups_is_no_proof_of_perfection():
    p = np.r_[np.full(30, 0.9), np.full(30, 0.1)]
    labels = ["abnormal"] * 30 + ["normal"] * 30
    found = metrics.score(make(labels, np.c_[1 - p, p], system=BINARY), n_boot=100)["binary"]
    assert found["sensitivity"] == {"value": 1.0, "ci95": [pytest.approx(0.025 ** (1 / 30)), 1.0]}
    assert found["sensitivity"]["ci95"][0] == pytest.approx(0.884, abs=0.001)
    assert found["auroc"] == {"value": 1.0, "ci95": None}


@pytest.mark.parametrize("case", ["one class", "constant", "all uncertain", "one group", "one cell"])
def test_degenerate_input_gives_numbers_or_none(case):
    p = realistic(n=60, n_groups=12)
    if case == "one class":
        p = p.subset(p.labels == "carcinoma_in_situ")
    elif case == "constant":
        p = make(list(p.labels), np.full((60, 7), 1 / 7), groups=p.groups)
    elif case == "all uncertain":
        p = dataclasses.replace(p, uncertain=np.ones(60, dtype=bool))
    elif case == "one group":
        p = dataclasses.replace(p, groups=np.full(60, "g", dtype=object))
    else:
        p = p.subset([3])
    found = metrics.score(p, n_boot=30)
    json.dumps(found, allow_nan=False)
    if case == "one class":
        assert found["binary"]["auroc"]["value"] is None
        assert found["binary"]["specificity"] == {"value": None, "ci95": None}
    elif case == "constant":
        assert found["binary"]["auroc"]["value"] == 0.5
    elif case == "all uncertain":
        assert found["uncertain"]["coverage"]["value"] == 0
        assert found["uncertain"]["error"]["value"] is None
        assert found["uncertain"]["abnormal_answered_normal"] == 0
    else:
        assert found["native"]["accuracy"]["ci95"] is None
        assert found["native"]["accuracy"]["value"] is not None


def test_folds_have_a_mean_and_a_standard_deviation(seven, scored):
    each = [np.mean(seven.predicted[seven.folds == f] == seven.labels[seven.folds == f]) for f in range(5)]
    found = scored["folds"]["native"]["accuracy"]
    assert found["values"] == pytest.approx(each)
    assert (found["mean"], found["sd"]) == pytest.approx((np.mean(each), np.std(each, ddof=1)))
    assert scored["folds"]["count"] == 5


def test_a_thousand_resamples_of_900_cells_take_seconds(seven):
    start = time.process_time()
    metrics.score(seven, n_boot=1000)
    assert time.process_time() - start < 10


def test_predictions_refuse_what_does_not_fit(seven):
    with pytest.raises(DataError, match="differ in length"):
        dataclasses.replace(seven, uncertain=seven.uncertain[:-1])
    with pytest.raises(DataError, match="between 0 and 1"):
        dataclasses.replace(seven, probabilities=seven.probabilities * np.nan)
    with pytest.raises(DataError, match="outside the label system"):
        dataclasses.replace(seven, labels=np.full(len(seven), "something else", dtype=object))
    with pytest.raises(DataError, match="no predictions"):
        seven.subset([])


def test_csv_holds_every_cell(seven, tmp_path):
    import pandas as pd

    seven.to_csv(tmp_path / "p.csv")
    table = pd.read_csv(tmp_path / "p.csv")
    names = ["path", "box", "variant", "fold", "group", "label", "predicted"]
    names += [f"p_{c}" for c in HERLEV.classes] + ["p_abnormal", "above_operating_point", "uncertain", "quality"]
    assert list(table.columns) == names
    assert set(table["quality"]) == {"not checked"}
    assert table["predicted"].tolist() == seven.predicted.tolist()
    assert table["p_abnormal"].to_numpy() == pytest.approx(seven.p_abnormal, abs=1e-6)
    assert table["uncertain"].tolist() == seven.uncertain.tolist()
    assert table["above_operating_point"].tolist() == (seven.p_abnormal >= 0.4).tolist()


def test_csv_of_a_binary_system_has_one_column_of_p_abnormal(tmp_path):
    labels = find_map(HERLEV, "binary")(["carcinoma_in_situ", "normal_columnar"])
    make(labels, [[0.2, 0.8], [0.7, 0.3]], system=BINARY).to_csv(tmp_path / "p.csv")
    header, first, _ = (tmp_path / "p.csv").read_text().splitlines()
    assert header.split(",")[7:] == ["p_normal", "p_abnormal", "above_operating_point", "uncertain", "quality"]
    assert first.split(",")[7:] == ["0.200000", "0.800000", "true", "false", "not checked"]


def test_a_cell_without_a_verdict_is_neither_found_nor_passed():
    p = realistic()
    uncertain = np.arange(len(p)) % 3 == 0
    p = dataclasses.replace(p, uncertain=uncertain)
    binary = metrics.score(p, n_boot=20)["binary"]
    called, answered = p.called_abnormal, ~uncertain
    for name, kind in (("sensitivity", p.abnormal), ("specificity", ~p.abnormal)):
        right = (called == p.abnormal) & answered & kind
        assert binary[f"{name}_as_used"]["value"] == pytest.approx(right.sum() / kind.sum())
        assert binary[f"{name}_answered"]["value"] == pytest.approx(right.sum() / (kind & answered).sum())
        assert binary[f"{name}_as_used"]["value"] < binary[name]["value"]


def test_where_all_is_refused_nothing_is_found():
    p = realistic()
    binary = metrics.score(dataclasses.replace(p, uncertain=np.ones(len(p), dtype=bool)), n_boot=20)["binary"]
    assert binary["sensitivity_as_used"]["value"] == 0
    assert binary["sensitivity_answered"]["value"] is None


def test_two_groups_give_no_interval():
    p = realistic()
    two = dataclasses.replace(p, groups=np.where(np.arange(len(p)) % 2, "a", "b").astype(object))
    scores = metrics.score(two, n_boot=50)
    assert scores["native"]["accuracy"]["ci95"] is None
    assert scores["binary"]["sensitivity"]["ci95"] is None
