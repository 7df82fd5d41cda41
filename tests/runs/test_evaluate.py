"""A finished bundle on labelled cells of other slides."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cervicyte.audit.leakage import training_cells
from cervicyte.bundle.folder import Bundle, InputSpec, Manifest, save_bundle
from cervicyte.bundle.graph import measurements_graph
from cervicyte.data import splits, synthetic
from cervicyte.data.cells import CellTable
from cervicyte.data.labels import BETHESDA, BINARY, HERLEV, SIPAKMED, LabelSystem, find_map, get_map
from cervicyte.decision.calibration import DecisionLimits
from cervicyte.decision.linear import LinearHead
from cervicyte.errors import DataError, StorageError, UsageError
from cervicyte.runs.evaluate import evaluate, judge_bundle
from support.commands import cervicyte, inside, read, three_parts


@pytest.fixture(scope="session")
def strangers(tmp_path_factory) -> CellTable:
    """Cells of other slides than the trained bundle's, five of each class."""
    return synthetic.generate(tmp_path_factory.mktemp("strangers") / "cells", n_per_class=5, seed=42, size=96)


def _folder(cells: CellTable) -> Path:
    return Path(cells.cells[0].path).parents[1]


def _model(folder: Path, system: LabelSystem, known: CellTable, **training) -> Bundle:
    """A bundle of that label system that was made of no cell at all."""
    from cervicyte.images import morphology

    d, k = len(morphology.NAMES), len(system.classes)
    weights = np.random.default_rng(1).normal(size=(d, k)) * 0.01
    limits = DecisionLimits(
        threshold=None if system.abnormal is None else 0.4,
        sensitivity=0.95,
        normal_below=0.1,
        abnormal_from=0.9,
        confidence_from=0.0,
        max_risk=0.05,
    )
    spec = InputSpec("measurements", measurements=tuple(morphology.NAMES))
    manifest = Manifest("stand-in", system, system.classes, spec, limits, "float32", training)
    nothing = training_cells(known.subset(np.zeros(len(known), dtype=bool)))
    return save_bundle(folder, manifest, measurements_graph(LinearHead(weights, np.zeros(k), 1.0), 1.0), nothing)


def test_other_slides_pass_and_the_account_is_whole(trained, strangers, tmp_path) -> None:
    out = tmp_path / "test"
    done = cervicyte("evaluate", trained.folder, _folder(strangers), "--out", out)
    assert done.returncode == 0, done.stderr
    m = read(out / "metrics.json")
    assert (m["protocol"], m["n"], m["warnings"]) == ("external", len(strangers), [])
    for section, name in (("native", "accuracy"), ("binary", "auroc"), ("binary", "sensitivity")):
        low, high = m[section][name]["ci95"]
        assert low <= m[section][name]["value"] <= high
    # Generated cells share one drawing hand: the model must do far better than chance on new slides too.
    assert m["binary"]["auroc"]["value"] > 0.75
    assert {"predictions.csv", "report.html", "figures"} <= {p.name for p in out.iterdir()}
    assert "evaluate" in (out / "report.html").read_text(encoding="utf-8")
    assert "external" in done.stdout


def test_it_gives_the_same_probabilities_as_predict(trained, strangers) -> None:
    test = judge_bundle(trained.bundle, strangers)
    bundle = Bundle.load(trained.bundle)
    found = bundle.predict(strangers.paths)
    p = test.evaluation.predictions
    good = p.quality == ""
    assert good.mean() > 0.8
    assert found["quality"].tolist() == [q or "good" for q in p.quality]
    answered = found[good]
    np.testing.assert_allclose(
        answered[[f"p_{c}" for c in bundle.classes]].to_numpy(), p.probabilities[good], atol=1e-6
    )
    np.testing.assert_array_equal(answered["above_operating_point"].to_numpy(bool), p.called_abnormal[good])
    np.testing.assert_array_equal(found["uncertain"].to_numpy(bool), p.uncertain)


def test_the_random_protocol_marks_nothing_that_is_not_so(trained, strangers) -> None:
    test = judge_bundle(trained.bundle, strangers, protocol="random")
    assert test.evaluation.metrics["protocol"] == "external"
    assert test.evaluation.warnings == ()


def test_unreadable_cells_are_listed_and_the_rest_is_tested(trained, strangers, tmp_path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    cells = strangers.with_cells([replace(strangers.cells[0], path=str(bad)), *strangers.cells[1:]])
    test = evaluate(trained.bundle, cells, tmp_path / "test")
    assert test.evaluation.metrics["n"] == len(strangers) - 1
    assert "0 bytes" in read(tmp_path / "test" / "failed.json")[str(bad)]
    evaluate(trained.bundle, strangers, tmp_path / "test")
    assert not (tmp_path / "test" / "failed.json").exists()
    gone = strangers.with_cells([replace(c, path=c.path + ".gone") for c in strangers.cells])
    with pytest.raises(DataError, match="no cell can be read"):
        evaluate(trained.bundle, gone, tmp_path / "none")


def test_labels_of_another_system_are_mapped(trained, strangers) -> None:
    binary = strangers.map_labels(find_map(HERLEV, "binary"))
    p = judge_bundle(trained.bundle, binary).evaluation.predictions
    assert p.classes == BINARY.classes
    native = judge_bundle(trained.bundle, strangers).evaluation.predictions
    np.testing.assert_allclose(p.probabilities[:, 1], native.p_abnormal)
    bethesda = strangers.map_labels(find_map(HERLEV, "bethesda"))
    p = judge_bundle(trained.bundle, bethesda).evaluation.predictions
    assert p.classes == ("NILM", "LSIL", "HSIL")
    np.testing.assert_allclose(p.probabilities.sum(axis=1), 1, atol=1e-6)


def test_classes_that_the_model_cannot_name_are_told(trained, strangers) -> None:
    cells = [replace(c, label=("NILM", "ASC-US", "LSIL", "SCC")[i % 4]) for i, c in enumerate(strangers.cells)]
    table = CellTable(cells=tuple(cells), system=BETHESDA, name="bethesda cells")
    test = judge_bundle(trained.bundle, table)
    (warning,) = test.evaluation.warnings
    assert "never saw" in warning
    assert "ASC-US" in warning
    assert "SCC" in warning


def test_data_of_a_binary_model_are_read_by_the_map_that_it_was_trained_with(strangers, tmp_path) -> None:
    cells = [replace(c, label=SIPAKMED.classes[i % 5]) for i, c in enumerate(strangers.cells)]
    table = CellTable(cells=tuple(cells), system=SIPAKMED, name="sipakmed cells")
    published = _model(tmp_path / "b", BINARY, strangers, recipe={"maps": ["sipakmed-to-binary-published"]})
    labels = judge_bundle(published, table).evaluation.predictions.labels.tolist()
    assert labels == get_map("sipakmed-to-binary-published")([c.label for c in cells])
    clinical = _model(tmp_path / "c", BINARY, strangers)
    labels = judge_bundle(clinical, table).evaluation.predictions.labels.tolist()
    assert labels == get_map("sipakmed-to-binary-clinical")([c.label for c in cells])


def test_own_classes_are_compared_by_name_whatever_their_order(strangers, tmp_path) -> None:
    mine = LabelSystem(name="custom", classes=("healthy", "odd", "ill"), abnormal=frozenset({"odd", "ill"}))
    model = _model(tmp_path / "b", mine, strangers)
    fewer = LabelSystem(name="custom", classes=("ill", "healthy"), abnormal=None)
    cells = [replace(c, label=fewer.classes[i % 2]) for i, c in enumerate(strangers.cells)]
    p = judge_bundle(model, CellTable(cells=tuple(cells), system=fewer)).evaluation.predictions
    assert p.classes == mine.classes
    assert p.abnormal is not None
    assert p.abnormal.tolist() == [c.label == "ill" for c in cells]
    other = LabelSystem(name="custom", classes=("healthy", "ill"), abnormal=frozenset({"healthy"}))
    test = judge_bundle(model, CellTable(cells=tuple(cells), system=other))
    assert any("do not agree" in w and "healthy" in w for w in test.evaluation.warnings)


def test_labels_that_cannot_be_compared_are_refused(trained, strangers, tmp_path, monkeypatch, capsys) -> None:
    table = tmp_path / "cells.csv"
    table.write_text(
        "path,label,group\n" + "".join(f"{c.path},kind{i % 2},{c.group}\n" for i, c in enumerate(strangers.cells))
    )
    code, _, said = inside(monkeypatch, capsys, "evaluate", trained.bundle, table, "--out", tmp_path / "test")
    assert code == 2
    assert three_parts(said)
    assert "kind0" in said
    assert "--normal" in said
    code, out, said = inside(
        monkeypatch, capsys, "evaluate", trained.bundle, table, "--out", tmp_path / "test", "--normal", "kind0"
    )
    assert code == 0, said
    assert "AUROC" in out
    assert read(tmp_path / "test" / "metrics.json")["n"] == len(strangers)


def test_a_binary_answer_follows_the_reading_that_the_model_was_trained_with(strangers, tmp_path) -> None:
    reading = replace(SIPAKMED, abnormal=frozenset({"Koilocytotic", "Dyskeratotic", "Metaplastic"}))
    model = _model(tmp_path / "b", reading, strangers)
    p = judge_bundle(model, strangers.map_labels(find_map(HERLEV, "binary"))).evaluation.predictions
    found = model.predict(strangers.paths)
    np.testing.assert_allclose(p.probabilities[:, 1], found["p_abnormal"], atol=1e-6)
    np.testing.assert_allclose(
        p.probabilities[:, 1], found[["p_Koilocytotic", "p_Dyskeratotic", "p_Metaplastic"]].sum(axis=1), atol=1e-6
    )


def test_what_would_be_overwritten_or_cannot_be_written_is_refused_first(trained, strangers, tmp_path) -> None:
    before = (trained.folder / "metrics.json").read_bytes()
    with pytest.raises(UsageError, match="training run"):
        evaluate(trained.bundle, strangers, trained.folder)
    assert (trained.folder / "metrics.json").read_bytes() == before
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        evaluate(trained.bundle, strangers, tmp_path / "file")
    with pytest.raises(UsageError, match="did you mean 'as-published'"):
        evaluate(trained.bundle, strangers, tmp_path / "t", protocol="as-publishd")
    with pytest.raises(UsageError, match="seed"):
        evaluate(trained.bundle, strangers, tmp_path / "t", seed=-3)
    assert splits.get_protocol("grouped").honest
    assert json.loads(before)["protocol"] == "grouped"
