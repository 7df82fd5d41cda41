"""Many opinions, one answer: rules that combine the members' probabilities, and the guard that no rule passes by.

Members may differ in network, filters, input or seed; here they are columns of an array. Whatever the
rule makes of them, a cell that any member sees as abnormal at the operating point is never answered
"normal": `uncertain_by_disagreement` says which cells that concerns, for `calibration.name_cells`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from cervicyte.decision.calibration import Answers, DecisionLimits, softmax, tempered
from cervicyte.decision.linear import fit_head, inner_folds
from cervicyte.errors import CervicyteError, DataError, UsageError, did_you_mean

#: No class gets less than this, so that every answer has a logarithm for temperature scaling.
_LEAST = 1e-12

#: Logarithms in stacking stop here: some thousand training cells say nothing about smaller probabilities.
_LEAST_STACKED = 1e-6

#: Sums of one cell's probabilities in another order differ by less; within it the guard takes the cautious side.
_ROUNDING = 1e-9

#: How far the weights may stay from the lowest log loss, in nats per cell, and how long they are improved.
_GAP, _MOST_STEPS = 1e-6, 20_000

#: Larger parameters could only overflow.
_LARGEST = 1e9

_TODO = "take the combiner as fit_combiner made it"


@dataclass(frozen=True)
class Combiner:
    """A rule with its fitted parameters: from the members' probabilities to one distribution.

    Attributes
    ----------
    rule : one of RULES
    weights : of each member, at least 0, sum 1, m numbers; for "weighted"
    matrix : m * k rows (member by member, class by class) of k numbers; for "stacked"
    bias : k numbers; for "stacked"

    Raises
    ------
    UsageError : an unknown rule
    DataError : parameters that the rule does not take, or cannot work with
    """

    rule: str
    weights: tuple[float, ...] = ()
    matrix: tuple[tuple[float, ...], ...] = ()
    bias: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        row = get_rule(self.rule)
        given = tuple(name for name in ("weights", "matrix", "bias") if getattr(self, name))
        if given != row.parameters:
            raise DataError(
                f"the rule {self.rule!r} takes {' and '.join(row.parameters) or 'no parameters'}",
                ", ".join(given) or "none",
                _TODO,
            )
        numbers = [*self.weights, *self.bias, *(x for r in self.matrix for x in r)]
        k = len(self.bias)
        for right, what in (
            (all(abs(x) <= _LARGEST for x in numbers), "parameters that are not numbers of a usable size"),
            (all(w >= 0 for w in self.weights), "a weight below 0"),
            (not self.weights or abs(sum(self.weights) - 1) <= 1e-6, "weights whose sum is not 1"),
            (not k or (k >= 2 and len(self.matrix) % k == 0), "a matrix without k rows for each member"),
            (all(len(r) == k for r in self.matrix), "a matrix without one column for each class"),
        ):
            if not right:
                raise DataError(f"a combiner with {what}", repr(self)[:200], _TODO)

    def combine(self, votes: np.ndarray) -> np.ndarray:
        """One distribution from each cell's votes: float (n, m, k) to float64 (n, k).

        Every class is kept, none at 0, and each row sums to 1. Raises DataError where the votes are not
        distributions, or not those of the members that the combiner was fitted on.
        """
        valid = checked(votes)
        _, m, k = valid.shape
        if not self.fits(m, k):
            raise DataError(
                "votes that are not those of the members which the ensemble was fitted on",
                f"{m} members with {k} classes",
                "give one vote of every member, in the order of training",
            )
        return _distributions(get_rule(self.rule).pool(_distributions(valid), self))

    def fits(self, members: int, classes: int) -> bool:
        """Whether its parameters are those of so many members with so many classes."""
        return (
            len(self.weights) in (0, members)
            and len(self.matrix) in (0, members * classes)
            and len(self.bias) in (0, classes)
        )

    def to_json(self) -> dict[str, object]:
        """A plain form for manifests; `from_json` reads it back exactly."""
        return {
            "rule": self.rule,
            "weights": list(self.weights),
            "matrix": [list(r) for r in self.matrix],
            "bias": list(self.bias),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> Combiner:
        """Read the form that `to_json` wrote, and nothing else; raises DataError if it is not of that form."""
        try:
            if not isinstance(value, Mapping) or set(value) != {"rule", "weights", "matrix", "bias"}:
                raise ValueError("its fields are not rule, weights, matrix and bias")
            if not isinstance(value["rule"], str) or not isinstance(value["matrix"], list):
                raise ValueError("rule is not a name, or matrix not a list")
            rows = tuple(_numbers(r) for r in value["matrix"])
            return cls(value["rule"], _numbers(value["weights"]), rows, _numbers(value["bias"]))
        except (ValueError, OverflowError, CervicyteError) as error:
            reason = error.one_line if isinstance(error, CervicyteError) else str(error)
            raise DataError("not a combiner of an ensemble", reason, "train again to write it anew") from error


def _numbers(value: object) -> tuple[float, ...]:
    if not isinstance(value, list) or any(isinstance(x, bool) or not isinstance(x, int | float) for x in value):
        raise ValueError("a parameter is not a list of numbers")
    return tuple(float(x) for x in value)


def _vote(p: np.ndarray, combiner: Combiner) -> np.ndarray:
    ballots = (p == p.max(axis=2, keepdims=True)).astype(np.float64)
    ballots /= ballots.sum(axis=2, keepdims=True)  # a member that cannot decide divides its vote
    return np.asarray((ballots.sum(axis=1) + p.mean(axis=1)) / (p.shape[1] + 1))


def _mean(p: np.ndarray, combiner: Combiner) -> np.ndarray:
    return np.asarray(p.mean(axis=1))


def _weighted(p: np.ndarray, combiner: Combiner) -> np.ndarray:
    return np.asarray(np.einsum("nmk,m->nk", p, np.array(combiner.weights)))


def _stacked(p: np.ndarray, combiner: Combiner) -> np.ndarray:
    return softmax(_log_features(p) @ np.array(combiner.matrix) + np.array(combiner.bias))


def _fuzzy_rank(p: np.ndarray, combiner: Combiner) -> np.ndarray:
    def rank(confidence: np.ndarray) -> np.ndarray:
        distance = (confidence - 1) ** 2 / 2
        return np.asarray((1 - np.exp(-distance)) * (1 - np.tanh(distance)))

    # 0 where all members are certain of the class, 1 where all exclude it. Its complement keeps the order
    # and, unlike a reciprocal, stays finite for certain members.
    score = (rank(p) / rank(np.zeros(1))).mean(axis=1) * (1 - p.mean(axis=1))
    return np.asarray(1 - score)


def _fit_weighted(p: np.ndarray, codes: np.ndarray, groups: np.ndarray, seed: int, protocol: str) -> Combiner:
    """Weights that minimise the log loss of the weighted mean, by expectation maximisation."""
    truth = p[np.arange(len(codes)), :, codes]
    weights = np.full(p.shape[1], 1 / p.shape[1])
    for _ in range(_MOST_STEPS):
        gain = (truth / (truth @ weights)[:, None]).mean(axis=0)
        # The loss is convex in the weights, so the best gain bounds what is left to win.
        if gain.max() - 1 <= _GAP:
            break
        weights = weights * gain
        weights /= weights.sum()
    return Combiner("weighted", weights=tuple(weights.tolist()))


def _fit_stacked(p: np.ndarray, codes: np.ndarray, groups: np.ndarray, seed: int, protocol: str) -> Combiner:
    """Multinomial logistic regression on log-probabilities, C chosen by folds inside these rows."""
    head = fit_head(_log_features(p), codes, groups, p.shape[2], seed=seed, protocol=protocol).head
    return Combiner("stacked", matrix=tuple(map(tuple, head.weights.tolist())), bias=tuple(head.bias.tolist()))


def _log_features(p: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(np.maximum(p, _LEAST_STACKED)).reshape(len(p), p.shape[1] * p.shape[2]))


@dataclass(frozen=True)
class Rule:
    """One way to combine members.

    Attributes
    ----------
    name : its name in recipes
    words : what it does, in plain words, for reports
    source : where it is from
    pool : members' probabilities (n, m, k) and a combiner to what is proportional to the answer (n, k)
    parameters : what a combiner of this rule holds; empty where nothing is fitted
    fit : (p, codes, groups, seed, protocol) to a combiner fitted on these rows
    """

    name: str
    words: str
    source: str
    pool: Callable[[np.ndarray, Combiner], np.ndarray]
    parameters: tuple[str, ...] = ()
    fit: Callable[[np.ndarray, np.ndarray, np.ndarray, int, str], Combiner] | None = None


RULES: tuple[Rule, ...] = (
    Rule(
        "vote",
        "Majority vote: each member votes for its most probable class. The members' mean counts as one more vote, a "
        "divided one, so it decides ties, never outweighs a lead of one vote, and leaves no class at 0.",
        "Kittler et al. 1998, On combining classifiers, IEEE TPAMI 20:226; the divided vote is ours",
        _vote,
    ),
    Rule(
        "mean",
        "The mean of the members' probabilities.",
        "Lakshminarayanan et al. 2017, Simple and scalable predictive uncertainty estimation, NeurIPS",
        _mean,
    ),
    Rule(
        "weighted",
        "The weighted mean of the members' probabilities, with the weights that give the lowest log loss on "
        "out-of-fold predictions of the training cells.",
        "Yao et al. 2018, Using stacking to average Bayesian predictive distributions, Bayesian Analysis 13:917",
        _weighted,
        ("weights",),
        _fit_weighted,
    ),
    Rule(
        "stacked",
        "Multinomial logistic regression on the logarithms of the members' out-of-fold probabilities of the training "
        "cells, its regularisation chosen by folds that keep groups together.",
        "Wolpert 1992, Stacked generalization, Neural Networks 5:241",
        _stacked,
        ("matrix", "bias"),
        _fit_stacked,
    ),
    Rule(
        "fuzzy-rank",
        "Fuzzy-rank fusion: each member's distance from certainty is turned into two ranks, one growing and one "
        "falling with it; their product, summed over the members and multiplied by how far their mean is from 1, is "
        "lowest for the winning class.",
        "Manna et al. 2021, A fuzzy rank-based ensemble of CNN models, Scientific Reports 11:14538; "
        "that a score's complement is read as a probability is ours",
        _fuzzy_rank,
    ),
)


def get_rule(name: str) -> Rule:
    """Return a rule by name; an unknown one is answered with those that exist (UsageError)."""
    for row in RULES:
        if row.name == name:
            return row
    names = [r.name for r in RULES]
    hint = did_you_mean(name, names)
    raise UsageError("unknown rule of an ensemble", repr(name), f"{hint}there are: {', '.join(names)}")


@dataclass(frozen=True)
class FittedCombiner:
    """A combiner, and the combined probabilities that may calibrate it.

    Attributes
    ----------
    combiner : fitted on all the rows given
    oof : float64 (n, k), each row combined with parameters that were fitted on other rows and, under the grouped
        protocol, other groups; the members that cast the votes of these others may have been fitted on it
    note : why the combiner is the plain mean although another rule was asked for; empty where it is not
    """

    combiner: Combiner
    oof: np.ndarray
    note: str = ""


def fit_combiner(
    rule: str, votes: np.ndarray, codes: np.ndarray, groups: np.ndarray, seed: int = 0, protocol: str = "grouped"
) -> FittedCombiner:
    """Fit a rule on the members' out-of-fold votes for training cells, and combine the same cells honestly.

    Where a class has too few groups to divide the cells once more, the combiner is the mean and ``note``
    says so: parameters without out-of-fold answers of their own could not be calibrated.

    Parameters
    ----------
    rule : name, one of RULES
    votes : out-of-fold probabilities, float (n, m, k); every row has a vote of every member
    codes : class index of each row, int (n,)
    groups : group of each row (n,)
    protocol : "grouped" keeps groups together in the inner folds

    Raises
    ------
    UsageError : an unknown rule
    DataError : arrays that do not fit each other, or votes that are not distributions
    """
    row = get_rule(rule)
    p = _distributions(checked(votes))
    codes, groups = np.asarray(codes), np.asarray(groups)
    n, _, k = p.shape
    if codes.shape != (n,) or groups.shape != (n,):
        received = f"votes {p.shape}, codes {codes.shape}, groups {groups.shape}"
        raise DataError("votes, codes and groups of different lengths", received, "give one code and group per cell")
    if n and not (np.issubdtype(codes.dtype, np.integer) and codes.min() >= 0 and codes.max() < k):
        raise DataError("codes that are not class numbers", codes[:10], f"use whole numbers from 0 to {k - 1}")
    if row.fit is None:
        combiner = Combiner(rule)
        return FittedCombiner(combiner, combiner.combine(votes))
    try:
        if n == 0:
            raise DataError("there are no cells to fit it on")
        combiner = row.fit(p, codes, groups, seed, protocol)
        folds = inner_folds(codes, groups, seed, protocol)
        oof = np.zeros((n, k))
        for train, test in zip(folds.train, folds.test, strict=True):
            oof[test] = row.fit(p[train], codes[train], groups[train], seed, protocol).combine(p[test])
    except DataError as error:
        combiner = Combiner("mean")
        return FittedCombiner(combiner, combiner.combine(votes), f"mean instead of {rule}: {error.one_line}")
    return FittedCombiner(combiner, oof)


def abnormal_votes(votes: np.ndarray, abnormal_classes: np.ndarray | None, threshold: float | None) -> np.ndarray:
    """Which members see a cell as abnormal, P(abnormal) at or above the operating point: bool (n, m).

    Parameters
    ----------
    votes : members' probabilities, float (n, m, k)
    abnormal_classes : bool (k,), or None where normal and abnormal are not defined: no member does then
    threshold : the operating point, or None where there is none
    """
    valid = checked(votes)
    if abnormal_classes is None or threshold is None:
        return np.zeros(valid.shape[:2], dtype=bool)
    mask = np.asarray(abnormal_classes, dtype=bool)
    if mask.shape != valid.shape[2:]:
        raise DataError("abnormal classes for another number of classes", mask.shape, f"give {valid.shape[2]}")
    # Not "below" rather than "at or above": a threshold that is not a number must alarm.
    return np.asarray(~(valid[:, :, mask].sum(axis=2) < threshold - _ROUNDING))


def alarmed(votes: np.ndarray, abnormal_classes: np.ndarray | None, threshold: float | None) -> np.ndarray:
    """Which cells at least one member sees as abnormal: bool (n,); parameters as for `abnormal_votes`."""
    return np.asarray(abnormal_votes(votes, abnormal_classes, threshold).any(axis=1))


def uncertain_by_disagreement(
    probabilities: np.ndarray, votes: np.ndarray, abnormal_classes: np.ndarray | None, limits: DecisionLimits
) -> np.ndarray:
    """Which cells the members' votes forbid to answer: bool (n,), the ``unsure`` of `calibration.name_cells`.

    Where normal and abnormal are defined: cells that the ensemble would call normal although a member
    sees them as abnormal. The converse is no reason for doubt, since a missed lesion costs more than a
    second look. Where they are not defined: cells whose answer is the most probable class of fewer than
    half of the members.

    Parameters
    ----------
    probabilities : calibrated answers of the ensemble, (n, k)
    votes : calibrated probabilities of its members, (n, m, k)
    abnormal_classes : bool (k,), or None
    """
    valid, answers = checked(votes), np.asarray(probabilities)
    if answers.shape != (valid.shape[0], valid.shape[2]):
        received = f"probabilities {answers.shape}, votes {valid.shape}"
        raise DataError("answers and votes of different shapes", received, "give one answer per cell")
    if abnormal_classes is None:
        agree = valid.argmax(axis=2) == answers.argmax(axis=1)[:, None]
        return np.asarray(agree.mean(axis=1) < 0.5)
    alarm = alarmed(valid, abnormal_classes, limits.threshold)
    mask = np.asarray(abnormal_classes, dtype=bool)
    flagged = limits.flagged(answers[:, mask].sum(axis=1) - _ROUNDING)
    # A flagged cell gets an abnormal label, if there is one to give.
    return alarm if flagged is None or not mask.any() else np.asarray(alarm & ~flagged)


def answer(
    votes: np.ndarray,
    combiner: Combiner | None,
    temperature: float,
    abnormal_classes: np.ndarray | None,
    limits: DecisionLimits,
) -> Answers:
    """What members' votes, float (n, m, k), come to; without a combiner, what the only member says."""
    if combiner is None:
        return Answers(votes[:, 0], np.zeros(len(votes), dtype=bool))
    probabilities = tempered(combiner.combine(votes), temperature)
    unsure = uncertain_by_disagreement(probabilities, votes, abnormal_classes, limits)
    return Answers(probabilities, unsure, votes)


def disagreement(votes: np.ndarray) -> np.ndarray:
    """How far the members are from one opinion: votes (n, m, k) to float64 (n,), 0 for one opinion, 1 for none shared.

    The Jensen-Shannon divergence of the members' distributions (Lin 1991, Divergence measures based on
    the Shannon entropy, IEEE Trans. Inf. Theory 37:145), as a share of its largest value, log min(m, k).
    Unlike the share of members with another most probable class it tells two sure members that
    contradict each other from two that waver between the same classes. It depends on no rule.
    """
    p = _distributions(checked(votes))
    _, m, k = p.shape
    if m == 1:
        return np.zeros(len(p))
    mean = p.mean(axis=1)
    divergence = (p * np.log(p)).sum(axis=2).mean(axis=1) - (mean * np.log(mean)).sum(axis=1)
    return np.asarray(np.clip(divergence / np.log(min(m, k)), 0.0, 1.0))


def checked(votes: np.ndarray) -> np.ndarray:
    """Votes as float64 (n, m, k), m >= 1, k >= 2, each a distribution; raises DataError otherwise."""
    distributions = np.asarray(votes, dtype=np.float64)
    if distributions.ndim != 3 or distributions.shape[1] < 1 or distributions.shape[2] < 2:
        raise DataError("votes of the wrong shape", distributions.shape, "give an array of cells, members and classes")
    # Graphs answer in float32 and lower; a comparison with NaN is never true.
    good = (distributions >= -1e-6).all(axis=2) & (np.abs(distributions.sum(axis=2) - 1) <= 1e-3)
    if not good.all():
        cell, member = np.argwhere(~good)[0]
        first = f"the first is of member {member} for cell {cell}: {distributions[cell, member]}"
        raise DataError(
            "a vote that is not a distribution over the classes",
            f"{int((~good).sum())} vote(s); {first}",
            "give probabilities that are not negative and sum to 1",
        )
    return distributions


def _distributions(values: np.ndarray) -> np.ndarray:
    """Values of at least 0 as distributions over the last axis, none of them at 0."""
    positive = np.maximum(values, _LEAST)
    return np.asarray(positive / positive.sum(axis=-1, keepdims=True))
