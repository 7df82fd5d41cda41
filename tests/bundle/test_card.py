"""The model card: it tells what the run measured, warns first, and lies in every bundle."""

from __future__ import annotations

import json
from dataclasses import replace

from cervicyte.bundle.card import model_card
from cervicyte.bundle.folder import CARD, Bundle
from cervicyte.bundle.manifest import InputSpec, Manifest
from cervicyte.data.labels import SYSTEMS
from cervicyte.decision.calibration import DecisionLimits


def made(scores=None, training=None, system="herlev") -> Manifest:
    found = next(row for row in SYSTEMS if row.name == system)
    limits = DecisionLimits(
        threshold=0.4, sensitivity=0.95, normal_below=0.2, abnormal_from=0.6, confidence_from=0.0, max_risk=0.05
    )
    return Manifest("m", found, found.classes, InputSpec("image", 96), limits, "float32", training or {}, scores or {})


def test_the_card_of_a_run_tells_its_numbers(trained) -> None:
    text = (trained.bundle / CARD).read_text(encoding="utf-8")
    scores = json.loads((trained.folder / "metrics.json").read_text(encoding="utf-8"))
    found = scores["binary"]["auroc"]
    assert f"{found['value']:.3f} ({found['ci95'][0]:.3f} to {found['ci95'][1]:.3f})" in text
    assert f"{scores['n']} cells of {scores['groups']} groups under the protocol `grouped`" in text
    assert f"{Bundle.load(trained.bundle).manifest.limits.threshold:.3f}" in text
    assert "Diagnosis" in text


def test_warnings_come_before_anything_good() -> None:
    scores = {"protocol": "random", "n": 9, "groups": 3, "native": {"accuracy": {"value": 0.99, "ci95": [0.9, 1.0]}}}
    text = model_card(made(scores, {"warnings": ["LEAKING: it knows them"]}))
    assert text.index("LEAKING") < text.index("0.990")


def test_what_was_not_measured_is_said_and_not_made_up() -> None:
    text = model_card(made())
    assert "not measured" in text
    assert "## How good it is" not in text
    assert "light_dysplastic`, abnormal" in text


def test_a_named_class_comes_with_its_bethesda_category() -> None:
    assert made().bethesda["moderate_dysplastic"] == "HSIL"
    assert made(system="bethesda").bethesda["ASC-H"] == "ASC-H"
    assert made(system="binary").bethesda == {}


def test_a_leaking_protocol_is_not_told_as_an_honest_one() -> None:
    text = model_card(made({"protocol": "as-published", "n": 9, "groups": 3}))
    assert "leaks" in text
    assert "without the cells of its fold" not in text


def test_a_limit_that_no_cell_reaches_is_said_in_words() -> None:
    never = replace(
        made(),
        limits=DecisionLimits(
            threshold=0.4,
            sensitivity=0.95,
            normal_below=0.0,
            abnormal_from=float("inf"),
            confidence_from=0.0,
            max_risk=0.05,
        ),
    )
    assert "Called normal never and abnormal never" in model_card(never)
    assert "Called normal below P(abnormal) = 0.200 and abnormal from 0.600 on" in model_card(made())


def test_a_name_cannot_end_a_table() -> None:
    text = model_card(made(training={"facts": {"Data set": "a|b\nc"}}))
    assert "| Data set | a\\|b c |" in text
