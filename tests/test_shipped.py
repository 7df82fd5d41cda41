"""The network that comes with the package: it answers with nothing else at hand, and says what it must not judge."""

from __future__ import annotations

import csv
import io

import cv2
import numpy as np
import pytest

import cervicyte
from cervicyte import gate, images, shipped
from cervicyte.bundle import TRAINING_CELLS, Bundle
from cervicyte.errors import LeakageError, MissingError
from cervicyte.external import evaluate
from cervicyte.features import make_extractor
from cervicyte.recipes import load_recipe
from commands import inside
from foreign_inputs import KINDS


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The network that ships."""
    return Bundle.load(shipped.bundle_folder())


def test_it_is_small_and_holds_no_picture_of_anybody(bundle) -> None:
    assert sum(path.stat().st_size for path in bundle.folder.glob("*.onnx")) <= 6_000_000
    kept = gate.load_training_cells(bundle.folder / TRAINING_CELLS)
    assert kept["signatures"].shape[1] == 0
    assert len(kept["digests"]) > 500
    assert all(kept["digests"].tolist())


def test_a_picture_is_predicted_without_naming_a_model(demo_cells, monkeypatch, capsys) -> None:
    code, out, said = inside(monkeypatch, capsys, "predict", demo_cells.cells[0].path)
    assert code == 0, said
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["error"] == ""
    assert row["label"] in (*Bundle.load(shipped.bundle_folder()).classes, "abnormal", "unsatisfactory")


@pytest.mark.parametrize("kind", [k for k in KINDS if not k.of_cells], ids=lambda kind: kind.name)
def test_what_is_no_cell_gets_no_verdict(bundle, tmp_path, kind) -> None:
    for i, picture in enumerate(kind.make([], 10, np.random.default_rng(0))):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.ascontiguousarray(picture[..., ::-1]))
    found = list(bundle.stream([tmp_path], cache=False))
    assert len(found) == 10
    assert sum(p.refused for p in found) >= 9
    assert all(p.label == "unsatisfactory" for p in found if p.refused)


def test_what_it_sees_does_not_depend_on_how_a_cell_lies(demo_cells) -> None:
    extractor = make_extractor("cytonet", precision="float32")
    pixels = np.stack([extractor.prepare(images.load(c.path)) for c in demo_cells.cells[:4]])
    expected = extractor.run(pixels)
    assert expected.std(axis=0).max() > 1e-2
    for turned in (np.rot90(pixels, 1, (1, 2)), pixels[:, :, ::-1]):
        found = extractor.run(np.ascontiguousarray(turned))
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_backbone_gives_the_features_that_its_own_head_reads(bundle, demo_cells) -> None:
    import onnx
    from onnx import numpy_helper

    extractor = make_extractor("cytonet", precision="float32")
    pixels = np.stack([extractor.prepare(images.load(c.path)) for c in demo_cells.cells[:5]])
    known = {i.name: numpy_helper.to_array(i) for i in onnx.load(bundle.folder / "model.onnx").graph.initializer}
    logits = extractor.run(pixels) @ known["head_weights"] + known["head_bias"]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    whole = bundle.extractor("float32")
    rows = np.stack([whole.prepare(images.load(c.path)) for c in demo_cells.cells[:5]])
    np.testing.assert_allclose(
        whole.run(rows)[:, : len(bundle.classes)], odds / odds.sum(axis=1, keepdims=True), atol=1e-4
    )


def test_own_labels_need_no_weights(demo_cells, tmp_path) -> None:
    run = cervicyte.train(demo_cells, tmp_path / "run", "cytonet-lr", folds=2)
    assert len(list(run.bundle.stream([demo_cells.cells[0].path], cache=False))) == 1
    assert "cytonet" in run.evaluations[0].facts["Backbone"]


def test_no_honest_number_on_the_cells_that_it_was_trained_on(shared, tmp_path) -> None:
    cells = cervicyte.load(shared / "data" / "herlev")
    with pytest.raises(LeakageError, match="known to the model"):
        cervicyte.train(cells, tmp_path / "run", load_recipe("cytonet-lr"))
    with pytest.raises(LeakageError, match="known to the model"):
        evaluate(shipped.bundle_folder(), cells, tmp_path / "test")


def test_an_installation_without_it_says_so(monkeypatch, capsys, tmp_path, demo_cells) -> None:
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "nothing")
    with pytest.raises(MissingError, match="not in this installation"):
        shipped.bundle_folder()
    code, _, said = inside(monkeypatch, capsys, "predict", demo_cells.cells[0].path)
    assert code == MissingError.exit_code
    assert "--model" in said
