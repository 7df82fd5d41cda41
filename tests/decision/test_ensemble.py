"""Combining members: each rule gives a distribution, none calls a cell normal that a member sees as abnormal."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from cervicyte.data.labels import HERLEV
from cervicyte.decision.calibration import UNCERTAIN, DecisionLimits, fit_limits, fit_temperature, name_cells, softmax
from cervicyte.decision.ensemble import (
    RULES,
    Combiner,
    abnormal_votes,
    alarmed,
    disagreement,
    fit_combiner,
    get_rule,
    uncertain_by_disagreement,
)
from cervicyte.errors import DataError, UsageError

NAMES = [r.name for r in RULES]
FREE = [r.name for r in RULES if r.fit is None]
FITTED = [r.name for r in RULES if r.fit is not None]
CLASSES = HERLEV.classes
ABNORMAL = np.array([c in (HERLEV.abnormal or ()) for c in CLASSES])


def _members(
    n: int, k: int, quality: tuple[float, ...], seed: int = 0, sharp: float = 1.0
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Votes, codes and groups of simulated members; quality 0 knows nothing. Each group has every class."""
    random = np.random.default_rng(seed)
    codes = np.arange(n) % k
    evidence = [q * np.eye(k)[codes] + random.normal(size=(n, k)) for q in quality]
    return np.stack([softmax(sharp * e) for e in evidence], axis=1), codes, np.arange(n) // k


def _random_votes(random: np.random.Generator, n: int, m: int, k: int) -> np.ndarray:
    """From flat to certain, as a small concentration puts nearly all on one class."""
    concentration = 10 ** random.uniform(-2.5, 1.0, size=(n, m, 1))
    draws = random.gamma(np.broadcast_to(concentration, (n, m, k))) + 1e-300
    return np.asarray(draws / draws.sum(axis=2, keepdims=True))


def _any_combiner(rule: str, random: np.random.Generator, m: int, k: int) -> Combiner:
    """A combiner of the rule with parameters as bad as they may be: weights of 0, a matrix that turns classes round."""
    if rule == "weighted":
        weights = np.eye(m)[random.integers(m)] if random.random() < 0.5 else random.dirichlet(np.ones(m))
        return Combiner(rule, weights=tuple(weights.tolist()))
    if rule == "stacked":
        matrix = random.normal(size=(m * k, k)) * 10 ** random.uniform(-1, 3)
        return Combiner(rule, matrix=tuple(map(tuple, matrix.tolist())), bias=tuple(random.normal(size=k).tolist()))
    return Combiner(rule)


def _log_loss(p: np.ndarray, codes: np.ndarray) -> float:
    return float(-np.log(p[np.arange(len(codes)), codes]).mean())


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(NAMES), st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 8), st.integers(0, 30))
def test_every_rule_gives_a_distribution_over_all_classes(rule: str, seed: int, m: int, k: int, n: int) -> None:
    random = np.random.default_rng(seed)
    p = _any_combiner(rule, random, m, k).combine(_random_votes(random, n, m, k))
    assert p.shape == (n, k)
    assert p.dtype == np.float64
    assert (p > 0).all()
    np.testing.assert_allclose(p.sum(axis=1), 1, atol=1e-9)


@pytest.mark.parametrize("rule", NAMES)
@pytest.mark.parametrize("winner", range(7))
def test_certain_members_of_one_mind_win_whatever_the_class(rule: str, winner: int) -> None:
    fitted = fit_combiner(rule, *_members(210, 7, (3.0, 2.5, 3.0)))
    certain = np.full((1, 3, 7), 0.001)
    certain[:, :, winner] = 0.994
    p = fitted.combiner.combine(certain)
    assert p[0].argmax() == winner
    assert p[0, winner] > 0.5


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(FREE), st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 8))
def test_without_parameters_the_order_of_members_does_not_matter(rule: str, seed: int, m: int, k: int) -> None:
    random = np.random.default_rng(seed)
    votes = _random_votes(random, 12, m, k)
    shuffled = votes[:, random.permutation(m)]
    np.testing.assert_allclose(Combiner(rule).combine(shuffled), Combiner(rule).combine(votes), atol=1e-12)


@settings(deadline=None, max_examples=40)
@given(st.sampled_from(FREE), st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 8))
def test_classes_in_another_order_give_the_answer_in_that_order(rule: str, seed: int, m: int, k: int) -> None:
    random = np.random.default_rng(seed)
    votes, order = _random_votes(random, 12, m, k), random.permutation(k)
    np.testing.assert_allclose(
        Combiner(rule).combine(votes[:, :, order]), Combiner(rule).combine(votes)[:, order], atol=1e-12
    )


@pytest.mark.parametrize(("rule", "tolerance"), [("weighted", 1e-4), ("stacked", 1e-2)])
def test_a_fitted_rule_treats_all_classes_and_members_alike(rule: str, tolerance: float) -> None:
    votes, codes, groups = _members(210, 3, (1.5, 0.5, 1.0))
    order, members = np.array([2, 0, 1]), np.array([1, 2, 0])
    plain = fit_combiner(rule, votes, codes, groups)
    turned = fit_combiner(rule, votes[:, members][:, :, order], np.argsort(order)[codes], groups)
    np.testing.assert_allclose(turned.oof, plain.oof[:, order], atol=tolerance)


# ---- what single rules promise


def test_a_majority_wins_over_a_surer_minority_and_the_mean_decides_a_tie() -> None:
    majority = np.array([[[0.4, 0.3, 0.3], [0.4, 0.3, 0.3], [0.0, 0.0, 1.0]]])
    assert Combiner("vote").combine(majority)[0].argmax() == 0
    assert Combiner("mean").combine(majority)[0].argmax() == 2
    tie = np.array([[[0.6, 0.4, 0.0], [0.1, 0.9, 0.0]]])
    assert Combiner("vote").combine(tie)[0].argmax() == 1


def test_a_member_that_cannot_decide_divides_its_vote() -> None:
    p = Combiner("vote").combine(np.array([[[0.5, 0.5], [0.5, 0.5]]]))
    np.testing.assert_allclose(p, [[0.5, 0.5]])


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 8))
def test_fuzzy_ranks_order_the_classes_as_the_published_score_does(seed: int, m: int, k: int) -> None:
    votes = _random_votes(np.random.default_rng(seed), 15, m, k)
    p = Combiner("fuzzy-rank").combine(votes)
    for cell, answer in zip(votes, p, strict=True):
        ranks = sum((1 - np.exp(-((v - 1) ** 2) / 2)) * (1 - np.tanh((v - 1) ** 2 / 2)) for v in cell)
        published = ranks * (1 - cell.mean(axis=0))
        in_order = published[np.argsort(-answer, kind="stable")]
        assert (np.diff(in_order) >= -1e-9).all()


def test_fuzzy_ranks_heed_a_sure_member_more_than_the_mean_does() -> None:
    # Summed ranks are lowest where one member is sure: 0.9 and 0.0 beat twice 0.45 of the same mean.
    votes = np.array([[[0.9, 0.05, 0.05], [0.0, 0.85, 0.15]], [[0.45, 0.45, 0.1], [0.45, 0.45, 0.1]]])
    p = Combiner("fuzzy-rank").combine(votes)
    assert p[0].argmax() == 0
    np.testing.assert_allclose(p[1, 0], p[1, 1])


@pytest.mark.parametrize("rule", FITTED)
def test_fitted_rules_do_better_than_the_mean_when_a_member_is_junk(rule: str) -> None:
    # One member is sure and wrong as often as chance; judged on cells that nothing was fitted on.
    good = _members(420, 4, (2.0, 1.5), sharp=1.5)
    junk = _members(420, 4, (0.0,), seed=5, sharp=6.0)
    votes, codes, groups = np.concatenate([good[0], junk[0]], axis=1), good[1], good[2]
    old, new = groups < 60, groups >= 60
    mean = _log_loss(Combiner("mean").combine(votes[new]), codes[new])
    fitted = fit_combiner(rule, votes[old], codes[old], groups[old])
    assert _log_loss(fitted.combiner.combine(votes[new]), codes[new]) < mean - 0.05
    assert _log_loss(fitted.oof, codes[old]) < mean
    if rule == "weighted":
        assert fitted.combiner.weights[2] < 0.15


def test_weights_are_those_of_the_lowest_log_loss() -> None:
    votes, codes, groups = _members(300, 3, (1.5, 0.7, 1.0))
    weights = np.array(fit_combiner("weighted", votes, codes, groups).combiner.weights)
    best = _log_loss(np.einsum("nmk,m->nk", votes, weights), codes)
    random = np.random.default_rng(0)
    for other in random.dirichlet(np.ones(3), size=200):
        assert best <= _log_loss(np.einsum("nmk,m->nk", votes, other), codes) + 2e-6


# ---- fitted parameters and the cells they are judged on


def _turn_labels_of_one_group(codes: np.ndarray, groups: np.ndarray, group: int) -> np.ndarray:
    # Turned within the group, its counts and with them the folds stay what they are.
    turned = codes.copy()
    turned[groups == group] = np.roll(codes[groups == group], 1)
    return turned


@pytest.mark.parametrize("rule", FITTED)
def test_no_row_is_combined_with_parameters_that_saw_its_group(rule: str) -> None:
    votes, codes, groups = _members(120, 3, (1.5, 1.0), seed=2)
    clean = fit_combiner(rule, votes, codes, groups)
    moved = 0
    for group in (0, 7, 23):
        poisoned = fit_combiner(rule, votes, _turn_labels_of_one_group(codes, groups, group), groups)
        own = groups == group
        np.testing.assert_array_equal(poisoned.oof[own], clean.oof[own])
        moved += int((poisoned.oof[~own] != clean.oof[~own]).any())
        assert poisoned.combiner != clean.combiner
    assert moved == 3


@pytest.mark.parametrize("rule", FREE)
def test_rules_without_parameters_combine_the_same_rows(rule: str) -> None:
    votes, codes, groups = _members(60, 3, (1.0, 1.0))
    fitted = fit_combiner(rule, votes, codes, groups)
    np.testing.assert_array_equal(fitted.oof, fitted.combiner.combine(votes))
    assert fitted.combiner == Combiner(rule)


@pytest.mark.parametrize("rule", FITTED)
def test_too_few_groups_give_the_mean_and_say_so(rule: str) -> None:
    votes, codes, groups = _members(30, 3, (1.0, 1.0))
    fitted = fit_combiner(rule, votes, codes, np.where(codes == 1, 0, groups))
    assert fitted.combiner == Combiner("mean")
    assert rule in fitted.note
    assert "single group" in fitted.note
    np.testing.assert_array_equal(fitted.oof, Combiner("mean").combine(votes))
    assert fit_combiner(rule, votes, codes, groups).note == ""


@pytest.mark.parametrize("rule", NAMES)
def test_one_member_and_no_cells_are_no_special_case(rule: str) -> None:
    votes, codes, groups = _members(60, 3, (2.0,))
    fitted = fit_combiner(rule, votes, codes, groups)
    assert (fitted.oof.argmax(axis=1) == votes[:, 0].argmax(axis=1)).mean() > 0.8
    assert fitted.combiner.combine(votes[:0]).shape == (0, 3)
    empty = fit_combiner(rule, votes[:0], codes[:0], groups[:0])
    assert empty.oof.shape == (0, 3)
    assert empty.combiner.combine(votes).shape == (60, 3)
    assert disagreement(votes).tolist() == [0.0] * 60


@pytest.mark.parametrize("rule", NAMES)
def test_combined_probabilities_can_be_calibrated(rule: str) -> None:
    votes, codes, groups = _members(210, 7, (2.0, 2.0, 2.0))
    oof = fit_combiner(rule, votes, codes, groups).oof
    temperature = fit_temperature(np.log(oof), codes)
    assert 0.05 < temperature < 20
    assert _log_loss(softmax(np.log(oof), temperature), codes) <= _log_loss(oof, codes) + 1e-6


def test_inner_folds_follow_the_protocol() -> None:
    votes, codes, groups = _members(60, 3, (1.0, 1.5))
    assert isinstance(fit_combiner("weighted", votes, codes, groups * 0, protocol="random").oof, np.ndarray)
    assert fit_combiner("weighted", votes, codes, groups * 0, protocol="random").note == ""
    assert fit_combiner("weighted", votes, codes, groups * 0, protocol="grouped").note != ""


# ---- the safety proof


@st.composite
def _limits(draw: st.DrawFn) -> DecisionLimits:
    """Limits as fit_limits may give them, and others that it never gives."""
    share = st.floats(0, 1)
    band = st.one_of(share, st.just(0.0), st.just(float("inf")))
    threshold = draw(st.one_of(share, st.sampled_from([0.0, 1e-12, 0.5, 1.0])))
    return DecisionLimits(
        threshold=threshold,
        sensitivity=0.95,
        normal_below=draw(band),
        abnormal_from=draw(band),
        confidence_from=0.0,
        max_risk=0.05,
    )


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(NAMES), _limits(), st.integers(0, 10**6), st.integers(1, 6), st.integers(2, 8), st.data())
def test_no_rule_calls_a_cell_normal_that_a_member_sees_as_abnormal(
    rule: str, limits: DecisionLimits, seed: int, m: int, k: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    abnormal = np.array(data.draw(st.lists(st.booleans(), min_size=k, max_size=k)))
    classes = [f"{'abnormal' if a else 'normal'} {i}" for i, a in enumerate(abnormal)]
    votes = _random_votes(random, 40, m, k)
    # The adversary: one member is certain of one class, the others are certain of another, or divided.
    votes[:10, 0] = np.eye(k)[k - 1]
    votes[:5, 1:] = np.eye(k)[0]
    # And members at the operating point to the last bit.
    if abnormal.any() and not abnormal.all() and limits.threshold is not None:
        votes[10:15, 0] = 0.0
        votes[10:15, 0, np.argmax(abnormal)] = limits.threshold
        votes[10:15, 0, np.argmin(abnormal)] = 1 - limits.threshold
    combined = _any_combiner(rule, random, m, k).combine(votes)
    probabilities = softmax(np.log(combined), data.draw(st.sampled_from([0.05, 0.5, 1.0, 3.0, 20.0])))
    unsure = uncertain_by_disagreement(probabilities, votes, abnormal, limits)
    labels = name_cells(probabilities, classes, abnormal, limits, unsure)
    assert limits.threshold is not None
    seen = [any(member[abnormal].sum() >= limits.threshold for member in cell) for cell in votes]
    for label, is_seen in zip(labels, seen, strict=True):
        assert not (is_seen and label.startswith("normal"))


@pytest.mark.parametrize("rule", NAMES)
def test_a_certain_severe_dysplasia_is_not_outvoted_into_normal(rule: str) -> None:
    # Five members that contradict each other on a cell that one is certain of, for every abnormal class,
    # the last included. The weights ignore the certain member; the matrix always says normal.
    limits = DecisionLimits(
        threshold=0.5, sensitivity=0.95, normal_below=0.5, abnormal_from=0.6, confidence_from=0.0, max_risk=0.05
    )
    votes = np.full((int(ABNORMAL.sum()), 6, 7), 0.01)
    votes[:, 1:, 0] = 0.94
    votes[:, 3:, 1], votes[:, 3:, 0] = 0.94, 0.01
    for row, code in enumerate(np.flatnonzero(ABNORMAL)):
        votes[row, 0, code] = 0.94
    combiner = {
        "weighted": Combiner("weighted", weights=(0.0, 0.2, 0.2, 0.2, 0.2, 0.2)),
        "stacked": Combiner("stacked", matrix=((0.0,) * 7,) * 42, bias=(9.0, *(0.0,) * 6)),
    }.get(rule, Combiner(rule) if rule in FREE else None)
    assert combiner is not None
    p = combiner.combine(votes)
    unguarded = name_cells(p, CLASSES, ABNORMAL, limits)
    assert set(unguarded) <= set(CLASSES[:3]), "without the guard this rule would have called the cells normal"
    guarded = name_cells(p, CLASSES, ABNORMAL, limits, uncertain_by_disagreement(p, votes, ABNORMAL, limits))
    assert guarded == [UNCERTAIN] * len(votes)


@pytest.mark.parametrize("rule", NAMES)
def test_the_last_class_can_be_the_answer(rule: str) -> None:
    votes, codes, groups = _members(280, 7, (4.0, 4.0, 4.0))
    fitted = fit_combiner(rule, votes, codes, groups)
    limits = fit_limits(fitted.oof, codes, ABNORMAL)
    certain = np.full((1, 3, 7), 0.001)
    certain[:, :, -1] = 0.994
    p = fitted.combiner.combine(certain)
    unsure = uncertain_by_disagreement(p, certain, ABNORMAL, limits)
    assert name_cells(p, CLASSES, ABNORMAL, limits, unsure) == [CLASSES[-1]]


def test_the_guard_is_never_a_reason_against_an_abnormal_answer() -> None:
    limits = DecisionLimits(
        threshold=0.3, sensitivity=0.95, normal_below=0.1, abnormal_from=0.3, confidence_from=0.0, max_risk=0.05
    )
    votes = np.array([[[0.1, 0.9], [0.9, 0.1], [0.9, 0.1]]])
    p = Combiner("mean").combine(votes)
    assert abnormal_votes(votes, np.array([False, True]), 0.3).tolist() == [[True, False, False]]
    unsure = uncertain_by_disagreement(p, votes, np.array([False, True]), limits)
    assert name_cells(p, ("n", "a"), np.array([False, True]), limits, unsure) == ["a"]


def test_an_operating_point_that_is_no_number_alarms() -> None:
    votes = np.array([[[1.0, 0.0]]])
    assert alarmed(votes, np.array([False, True]), float("nan")).all()
    assert alarmed(votes, np.array([False, True]), 0.0).all()
    assert not alarmed(votes, np.array([False, True]), 1e-6).any()


# ---- without normal and abnormal


def test_without_normal_and_abnormal_fewer_than_half_of_the_members_are_no_answer() -> None:
    limits = DecisionLimits(
        threshold=None, sensitivity=0.95, normal_below=0.0, abnormal_from=0.0, confidence_from=0.0, max_risk=0.05
    )
    three = np.eye(3)
    votes = np.array([three[[0, 0, 1, 1]], three[[0, 1, 1, 1]], three[[0, 1, 2, 2]]])
    p = np.array([[0.6, 0.3, 0.1], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7]])
    assert not alarmed(votes, None, None).any()
    unsure = uncertain_by_disagreement(p, votes, None, limits)
    assert unsure.tolist() == [False, True, False]
    assert name_cells(p, ("x", "y", "z"), None, limits, unsure) == ["x", UNCERTAIN, "z"]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 8))
def test_disagreement_lies_between_none_and_all(seed: int, m: int, k: int) -> None:
    random = np.random.default_rng(seed)
    votes = _random_votes(random, 20, m, k)
    found = disagreement(votes)
    assert found.shape == (20,)
    assert ((found >= 0) & (found <= 1)).all()
    turned = votes[:, random.permutation(m)][:, :, random.permutation(k)]
    np.testing.assert_allclose(disagreement(turned), found, atol=1e-9)
    np.testing.assert_allclose(disagreement(np.repeat(votes[:, :1], m, axis=1)), 0.0, atol=1e-9)


def test_disagreement_is_1_for_certain_contradiction_and_small_for_wavering() -> None:
    contradiction, wavering = [[1.0, 0.0], [0.0, 1.0]], [[0.51, 0.49], [0.49, 0.51]]
    found = disagreement(np.array([contradiction, wavering]))
    assert found[0] == pytest.approx(1.0, abs=1e-6)
    assert found[1] < 0.01


# ---- stored form, and what is refused


@settings(deadline=None, max_examples=60)
@given(st.sampled_from(NAMES), st.integers(0, 10_000), st.integers(1, 6), st.integers(2, 8))
def test_a_combiner_survives_json_to_the_last_bit(rule: str, seed: int, m: int, k: int) -> None:
    combiner = _any_combiner(rule, np.random.default_rng(seed), m, k)
    assert Combiner.from_json(json.loads(json.dumps(combiner.to_json()))) == combiner


_GOOD = {"rule": "mean", "weights": [], "matrix": [], "bias": []}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        "mean",
        {},
        {"rule": "mean"},
        {**_GOOD, "more": 1},
        {**_GOOD, "rule": "median"},
        {**_GOOD, "rule": None},
        {**_GOOD, "rule": ["mean"]},
        {**_GOOD, "weights": [1.0]},
        {**_GOOD, "rule": "weighted"},
        {**_GOOD, "rule": "weighted", "weights": "1"},
        {**_GOOD, "rule": "weighted", "weights": [True]},
        {**_GOOD, "rule": "weighted", "weights": ["1"]},
        {**_GOOD, "rule": "weighted", "weights": [0.7, 0.7]},
        {**_GOOD, "rule": "weighted", "weights": [1.5, -0.5]},
        {**_GOOD, "rule": "weighted", "weights": [float("nan"), 1.0]},
        {**_GOOD, "rule": "weighted", "weights": [10**400]},
        {**_GOOD, "rule": "stacked", "bias": [0.0, 0.0]},
        {**_GOOD, "rule": "stacked", "matrix": [[1.0, 0.0]], "bias": [0.0, 0.0]},
        {**_GOOD, "rule": "stacked", "matrix": [[1.0, 0.0], [1.0]], "bias": [0.0, 0.0]},
        {**_GOOD, "rule": "stacked", "matrix": [[1.0]], "bias": [0.0]},
        {**_GOOD, "rule": "stacked", "matrix": [[1.0, 0.0], [1.0, float("inf")]], "bias": [0.0, 0.0]},
        {**_GOOD, "rule": "stacked", "matrix": [[1e300, 0.0], [1.0, 0.0]], "bias": [0.0, 0.0]},
        {**_GOOD, "rule": "stacked", "matrix": {"0": [1.0]}, "bias": [0.0, 0.0]},
    ],
)
def test_malformed_combiners_are_refused(value: object) -> None:
    with pytest.raises(DataError, match="not a combiner"):
        Combiner.from_json(value)  # type: ignore[arg-type]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(NAMES),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(sorted(_GOOD)), x, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(_JSON, _JSON, _JSON, _JSON)
def test_any_json_gives_a_combiner_or_one_kind_of_error(rule: object, weights: object, rows: object, b: object) -> None:
    try:
        combiner = Combiner.from_json({"rule": rule, "weights": weights, "matrix": rows, "bias": b})
    except DataError:
        return
    assert combiner.rule in NAMES


def test_an_unknown_rule_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'stacked'"):
        get_rule("stack")
    with pytest.raises(UsageError, match="fuzzy-rank"):
        fit_combiner("median", *_members(30, 3, (1.0,)))


@pytest.mark.parametrize(
    "votes",
    [
        np.full((4, 3), 1 / 3),
        np.zeros((4, 0, 3)),
        np.ones((4, 2, 1)),
        np.full((4, 2, 3), 0.5),
        np.full((4, 2, 3), np.nan),
        np.tile([1.5, -0.5], (4, 2, 1)),
    ],
)
def test_votes_that_are_not_distributions_are_refused(votes: np.ndarray) -> None:
    for call in (Combiner("mean").combine, disagreement, lambda v: abnormal_votes(v, None, None)):
        with pytest.raises(DataError, match="vote"):
            call(votes)


def test_arrays_that_do_not_fit_each_other_are_refused() -> None:
    votes, codes, groups = _members(30, 3, (1.0, 1.0))
    limits = DecisionLimits(
        threshold=0.5, sensitivity=0.95, normal_below=0.5, abnormal_from=0.6, confidence_from=0.0, max_risk=0.05
    )
    with pytest.raises(DataError, match="different lengths"):
        fit_combiner("mean", votes, codes[:-1], groups)
    with pytest.raises(DataError, match="class numbers"):
        fit_combiner("mean", votes, codes + 1, groups)
    with pytest.raises(DataError, match="class numbers"):
        fit_combiner("mean", votes, codes * 1.0, groups)
    with pytest.raises(DataError, match="another number of classes"):
        alarmed(votes, np.array([True, False]), 0.5)
    with pytest.raises(DataError, match="different shapes"):
        uncertain_by_disagreement(votes[:5, 0], votes, np.array([True, False, False]), limits)
    for rule in FITTED:
        combiner = fit_combiner(rule, votes, codes, groups).combiner
        with pytest.raises(DataError, match="not those of the members"):
            combiner.combine(votes[:, :1])
    with pytest.raises(DataError, match="takes weights"):
        Combiner("weighted")
