"""Numbers over time, and whether the scores have drifted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cervicyte.web.base.site import Site
from cervicyte.web.errors import DeniedError
from cervicyte.web.reading import verdicts
from cervicyte.web.reports import dashboard, drift
from cervicyte.web.reports.drift import Scores
from support.web.databases import on_both
from support.web.records import give_second, make_case
from support.web.site import Clock, make_site, make_user


def _scores(seed: int, n: int, power: float = 1.0, cases: int = 20) -> Scores:
    generator = np.random.default_rng(seed)
    return Scores((generator.random(n) ** power).tolist(), [f"case {k % cases}" for k in range(n)])


@on_both
def test_the_page_counts_days_cells_and_agreement(site: Site) -> None:
    clock = site.clock
    assert isinstance(clock, Clock)
    owner, reviewer = make_user(site), make_user(site, "reviewer@lab.example", "reviewer")
    _, (one, two) = make_case(site, owner, [0.9, 0.1])
    verdicts.decide(site, owner, one, "LSIL")
    clock.forward(days=2)
    make_case(site, owner, [0.9, None])
    verdicts.decide(site, owner, one, "agree")
    verdicts.decide(site, owner, two, "LSIL")
    with site.database.read() as session:
        found = dashboard.overview(session, reviewer, 7, site.clock())
        with pytest.raises(DeniedError):
            dashboard.overview(session, owner, 7, site.clock())
        later = dashboard.overview(session, reviewer, 7, site.clock().replace(year=2027))
    assert [d.isoformat() for d in found["dates"]][-3:] == ["2026-03-01", "2026-03-02", "2026-03-03"]
    assert found["cases_per_day"] == [0, 0, 0, 0, 1, 0, 1]
    assert found["cells_per_day"] == [0, 0, 0, 0, 2, 0, 1]
    assert found["agreement_per_day"][-3:] == [None, None, 0.5]  # what was changed since does not count
    assert (found["agreement"].value, found["agreement"].n, found["agreement"].cases) == (0.5, 2, 1)
    assert found["today"] == {"cases": 1, "cells": 1, "waiting": 1, "seconds": 0.0}
    assert sorted(found["verdicts"]) == [("HSIL", 1), ("LSIL", 1)]
    assert found["drift"] is None  # too few to say
    assert later["agreement"] is None
    assert later["today"]["seconds"] is None
    assert sum(later["cells_per_day"]) == 0


def test_numbers_of_few_cells_tell_a_blinded_reader_nothing(tmp_path: Path) -> None:
    site = make_site(tmp_path)
    owner, reviewer = make_user(site), make_user(site, "reviewer@lab.example", "reviewer")
    other = make_user(site, "other@lab.example", "reviewer")
    case, (one, _) = make_case(site, owner, [0.9, 0.1])
    give_second(site, owner, case, reviewer)
    verdicts.decide(site, owner, one, "LSIL")
    verdicts.decide(site, reviewer, one, "HSIL")
    with site.database.read() as session:
        hidden, shown = (dashboard.overview(session, user, 7, site.clock()) for user in (reviewer, other))
    assert (hidden["verdicts"], hidden["agreement"]) == ([], None)
    assert sorted(shown["verdicts"]) == [("HSIL", 1), ("LSIL", 1)]
    assert shown["score_recent"] == shown["score_reference"] == []  # of one case they would be the model's answers


def test_drift_compares_the_first_answers_with_recent_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "REFERENCE", 12)
    monkeypatch.setattr(drift, "LEAST_CELLS", 12)
    monkeypatch.setattr(drift, "LEAST_CASES", 4)
    site = make_site(tmp_path)
    owner = make_user(site, role="reviewer")
    for shift in (0.0, 0.6):
        for _ in range(4):
            make_case(site, owner, [shift + 0.01, shift + 0.12, shift + 0.23])
    with site.database.read() as session:
        found = dashboard.overview(session, owner, 7, site.clock())
    assert (found["drift"].n, found["drift"].reference_n, found["drift"].ks) == (12, 12, 1.0)
    assert found["drift"].state == "drifted"
    assert found["score_reference"][0] == pytest.approx(1 / 3)
    assert found["score_reference"][9] == 0


@on_both
def test_scores_of_a_case_are_hidden_from_who_reads_it_second_and_blinded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dashboard, "REFERENCE", 3)
    monkeypatch.setattr(drift, "LEAST_CELLS", 2)
    monkeypatch.setattr(drift, "LEAST_CASES", 1)
    owner, reader = make_user(site, role="reviewer"), make_user(site, "reader@lab.example", "reviewer")
    for scores in ([0.05, 0.05, 0.05], [0.15, 0.15, 0.15]):
        make_case(site, owner, scores)
    case, _ = make_case(site, owner, [0.95, 0.95, 0.95])
    give_second(site, owner, case, reader)
    with site.database.read() as session:
        hidden, shown = (dashboard.overview(session, user, 7, site.clock()) for user in (reader, owner))
    assert hidden["score_recent"] == pytest.approx([0, 1, *[0] * 8])
    assert shown["score_recent"] == pytest.approx([0, 0.5, *[0] * 7, 0.5])


def test_scores_of_one_kind_are_stable_and_of_another_have_drifted() -> None:
    same = drift.compare(_scores(0, 600), _scores(1, 600))
    assert same
    assert (same.state, same.p > 0.05) == ("stable", True)
    other = drift.compare(_scores(0, 600, power=3), _scores(1, 600))
    assert other
    assert other.state == "drifted"
    assert other.p <= 0.01
    assert other.psi > drift.DRIFTED


def test_few_cells_or_cases_say_nothing() -> None:
    assert drift.compare(_scores(0, 99), _scores(1, 600)) is None
    assert drift.compare(_scores(0, 600, cases=7), _scores(1, 600)) is None


def test_cells_of_a_few_odd_cases_are_not_taken_for_drift() -> None:
    generator = np.random.default_rng(4)
    sides = []
    for _ in range(2):
        middle = generator.random(8)
        p = np.clip(np.repeat(middle, 100) + generator.normal(0, 0.02, 800), 0, 1)
        sides.append(Scores(p.tolist(), np.repeat(np.arange(8), 100).astype(str).tolist()))
    found = drift.compare(*sides)
    assert found
    assert found.psi > drift.DRIFTED  # as far apart as that by chance
    assert found.p > 0.05
    assert found.state == "stable"


def test_the_distances_are_the_published_ones() -> None:
    from scipy.stats import ks_2samp

    a, b = _scores(2, 300, power=2).p, _scores(3, 200).p
    assert drift.ks(a, b) == pytest.approx(ks_2samp(a, b).statistic)
    assert drift.psi(a, a) == 0
    x, y = np.histogram(a, 10, (0, 1))[0] + 0.5, np.histogram(b, 10, (0, 1))[0] + 0.5
    x, y = x / x.sum(), y / y.sum()
    assert drift.psi(a, b) == pytest.approx(((x - y) * np.log(x / y)).sum())
