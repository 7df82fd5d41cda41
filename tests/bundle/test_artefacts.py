"""What earlier builds wrote is read by this one, and says the same (see tests/artefacts/README.md)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from cervicyte.bundle.folder import Bundle
from cervicyte.bundle.predictions import write_predictions
from cervicyte.data import readers, synthetic
from cervicyte.data.splits import Folds
from cervicyte.runs.train import train
from support.paths import TESTS

ARTEFACTS = TESTS / "artefacts"
BUNDLES = sorted(ARTEFACTS.glob("format-*"))
RUN = ARTEFACTS / "format-2-ensemble"


@pytest.fixture(scope="module")
def new_cells(tmp_path_factory) -> Path:
    """The folder that holds ``new/``, the cells whose predictions are recorded."""
    folder = tmp_path_factory.mktemp("artefacts")
    synthetic.generate(folder / "new", n_per_class=4, seed=1, size=64, system="binary")
    return folder


@pytest.mark.parametrize("artefact", BUNDLES, ids=lambda folder: folder.name)
def test_a_bundle_of_an_earlier_build_predicts_byte_for_byte_what_it_did(
    artefact, new_cells, tmp_path, monkeypatch
) -> None:
    monkeypatch.chdir(new_cells)
    bundle = Bundle.load(artefact)
    rows = bundle.stream(["new"], precision="float32", cache=False)
    written = tmp_path / "new.csv"
    assert len(list(write_predictions(rows, bundle.classes, written, bundle.members))) == 8
    assert written.read_bytes() == (artefact / "new.csv").read_bytes()


@pytest.mark.parametrize("artefact", BUNDLES, ids=lambda folder: folder.name)
def test_a_manifest_of_an_earlier_build_is_written_again_as_it_was(artefact) -> None:
    stored = json.loads((artefact / "bundle" / "manifest.json").read_text(encoding="utf-8"))
    assert stored["format"] == int(artefact.name.split("-")[1])
    assert ("quality" in stored) == (not artefact.name.endswith("without-quality"))
    assert Bundle.load(artefact).manifest.to_json() == stored


@pytest.mark.slow
def test_a_run_of_an_earlier_build_is_read_and_its_weights_are_fitted_again(new_cells, tmp_path, monkeypatch) -> None:
    """Weights come out as before, up to rounding; folds are dealt otherwise since, and with them the temperature."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("CERVICYTE_PRECISION", "float32")
    synthetic.generate("cells", n_per_class=13, seed=0, size=64, system="binary")
    recipe = tmp_path / "measured.toml"
    recipe.write_text('backbone = "morphology"\nC = 0.1\n', encoding="utf-8")
    run = train(readers.load("cells"), "run", recipe, folds=3)
    for folder in (RUN, run.folder):
        stored = json.loads((folder / "folds.json").read_text(encoding="utf-8"))
        folds = Folds.from_json(stored["protocols"]["grouped"])
        assert sorted(np.concatenate(folds.test)) == list(range(26))
        assert len(folds) == 3
    before, after = (pd.read_csv(folder / "predictions.csv") for folder in (RUN, run.folder))
    assert list(after) == list(before)
    same = ["path", "group", "label"]
    pd.testing.assert_frame_equal(after[same], before[same])
    metrics = [json.loads((folder / "metrics.json").read_text(encoding="utf-8")) for folder in (RUN, run.folder)]
    assert set(metrics[1]) == set(metrics[0])
    assert set(metrics[1]["binary"]) > set(metrics[0]["binary"])
    # The ensemble's measured member is this recipe: its votes are what this run says of the cells, but for temperature.
    votes = Bundle.load(RUN).predict("cells", precision="float32", cache=False)["p_abnormal measured"]
    alone = run.bundle.predict("cells", precision="float32", cache=False)["p_abnormal"]
    exact = alone.between(1e-5, 1 - 1e-5) & votes.between(1e-5, 1 - 1e-5)  # in float32
    assert exact.sum() > 5
    ratio = (np.log(alone / (1 - alone)) / np.log(votes / (1 - votes)))[exact]
    np.testing.assert_allclose(ratio, np.median(ratio), rtol=1e-2)
