"""The network that comes with the package, in two precisions: it answers with nothing else at hand, or says why not."""

from __future__ import annotations

import csv
import importlib.util
import io
import os
import shutil
import socket
import tomllib
from pathlib import Path

import cv2
import numpy as np
import pytest

import cervicyte
from cervicyte import shipped
from cervicyte.audit import leakage
from cervicyte.bundle.folder import CARD, TRAINING_CELLS, Bundle
from cervicyte.errors import LeakageError, MissingError
from cervicyte.features.extraction import make_extractor
from cervicyte.images import decoding
from cervicyte.networks import runtime
from cervicyte.runs.evaluate import evaluate
from cervicyte.training.recipes import load_recipe
from support.commands import inside, three_parts
from support.foreign_inputs import KINDS
from support.paths import ROOT


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The network that ships."""
    return Bundle.load(shipped.bundle_folder())


@pytest.fixture(scope="module")
def own(demo_cells, tmp_path_factory):
    """A run on generated cells that could ship: one network on images."""
    return cervicyte.train(demo_cells, tmp_path_factory.mktemp("own") / "run", "cytonet-lr", folds=2)


@pytest.fixture
def into(tmp_path, monkeypatch) -> Path:
    """A package that holds nothing yet."""
    monkeypatch.setattr(shipped, "FOLDERS", {name: tmp_path / "package" / name for name in shipped.FOLDERS})
    return tmp_path / "package"


def ship(*arguments: object, most: int | None = None) -> None:
    """Run tools/ship_network.py in this process."""
    spec = importlib.util.spec_from_file_location("ship_network", ROOT / "tools" / "ship_network.py")
    assert spec is not None
    assert spec.loader is not None
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    tool.MOST = most or tool.MOST
    tool.main([str(argument) for argument in arguments])


def test_both_are_small_and_hold_no_picture_of_anybody() -> None:
    folders = [shipped.bundle_folder(name) for name in ("cytonet", "cytonet-int8")]
    sizes = [sum(path.stat().st_size for path in folder.glob("*.onnx")) for folder in folders]
    assert sum(sizes) <= 6_000_000
    assert sizes[1] < 0.6 * sizes[0]
    for folder in folders:
        kept = leakage.load_training_cells(folder / TRAINING_CELLS)
        assert kept["signatures"].shape[1] == 0
        assert len(kept["digests"]) > 500
        assert all(kept["digests"].tolist())
        assert sorted(path.name for path in folder.iterdir()) == sorted(os.listdir(folders[0]))


def test_the_wheel_holds_every_file_of_both() -> None:
    patterns = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["cervicyte"]
    package = ROOT / "src" / "cervicyte"
    packed = {path for pattern in patterns for path in package.glob(pattern)}
    for folder in shipped.FOLDERS.values():
        files = set(folder.iterdir())
        assert len(files) == 5
        assert files <= packed


@pytest.mark.parametrize("named", [(), ("--model", "cytonet"), ("--model", "cytonet-int8")], ids=" ".join)
def test_a_picture_is_predicted_offline_by_name_or_without(demo_cells, monkeypatch, capsys, named) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("went to the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    code, out, said = inside(monkeypatch, capsys, "predict", demo_cells.cells[0].path, *named)
    assert code == 0, said
    (row,) = csv.DictReader(io.StringIO(out))
    assert row["error"] == ""
    assert row["label"] in (*Bundle.load().classes, "abnormal", "unsatisfactory")


def test_a_name_is_a_bundle_and_none_is_the_full_precision(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Bundle.load().manifest.name == Bundle.load("cytonet").manifest.name == "cytonet"
    small = Bundle.load("cytonet-int8")
    assert (small.manifest.name, small.manifest.precision) == ("cytonet-int8", "int8")
    assert small.extractor().precision == "int8"


def test_a_folder_of_that_name_goes_first_and_a_path_is_never_a_name(own, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in ("./cytonet", "./cytonet-int4", Path("cytonet-int4"), Path("cytonet"), str(tmp_path / "cytonet")):
        with pytest.raises(MissingError, match="no bundle here") as raised:
            Bundle.load(path)
        assert "did you mean" not in str(raised.value)
    shutil.copytree(own.bundle.folder, tmp_path / "cytonet")
    for path in ("cytonet", "./cytonet", Path("cytonet")):
        assert Bundle.load(path).manifest.name == own.bundle.manifest.name
    assert Bundle.load().manifest.name == "cytonet"
    (tmp_path / "cytonet-int8").mkdir()  # what was begun here is not answered by another network
    with pytest.raises(MissingError, match="no bundle here") as raised:
        Bundle.load("cytonet-int8")
    assert "did you mean" not in str(raised.value)


def test_an_unknown_name_is_told_what_ships(demo_cells, monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    for command in (
        ("predict", demo_cells.cells[0].path, "--model", "cytonet-int4"),
        ("explain", demo_cells.cells[0].path, "--model", "cytonet-int4", "--out", "why.png"),
        ("evaluate", "cytonet-int4", Path(demo_cells.cells[0].path).parents[1], "--out", "test"),
        ("compress", "cytonet-int4", demo_cells.cells[0].path, "--out", "small"),
    ):
        code, _, said = inside(monkeypatch, capsys, *command)
        assert code == MissingError.exit_code
        assert three_parts(said)
        assert "cytonet-int4" in said
        assert "did you mean 'cytonet-int8'?" in said
        assert "cytonet, cytonet-int8" in said


def test_the_8_bit_version_says_nearly_the_same_in_both_engines(bundle, demo_cells) -> None:
    pixels = np.stack([decoding.resize(decoding.load(c.path), 96, "stretch") for c in demo_cells.cells])
    exact = runtime.Engine(bundle.folder / "model.onnx", ("probabilities",), precision="float32").run(pixels)
    for engine in runtime.ENGINES:
        small = runtime.Engine(shipped.bundle_folder("cytonet-int8") / "model.onnx", ("probabilities",), engine=engine)
        assert (small.engine, small.precision) == (engine, "int8")
        found = small.run(pixels)["probabilities"]
        difference = np.abs(found - exact["probabilities"])
        assert 0 < difference.mean() < 0.01
        assert difference.max() < 0.15
        assert (found.argmax(axis=1) == exact["probabilities"].argmax(axis=1)).mean() > 0.95


def test_the_8_bit_version_claims_no_scores_of_its_own(bundle) -> None:
    small = Bundle.load("cytonet-int8").manifest
    assert small.training["compressed"]["from"] == bundle.graph_sha256
    assert small.scores == bundle.manifest.scores
    assert small.limits == bundle.manifest.limits
    card = (shipped.bundle_folder("cytonet-int8") / CARD).read_text(encoding="utf-8")
    told = card.split("## What its numbers are")[1].split("\n## ")[0]
    assert "not judged itself" in told
    assert f"against {bundle.manifest.scores['binary']['auroc']['value']:.3f} in float32" in told
    assert "## What its numbers are" not in (bundle.folder / CARD).read_text(encoding="utf-8")


def test_the_documents_tell_of_the_network_that_ships(bundle) -> None:
    scores, repository = bundle.manifest.scores, ROOT
    for document in ("README.md", "docs/model-card.md", "docs/results.md"):
        text = (repository / document).read_text(encoding="utf-8")
        for kind, metric in (("native", "accuracy"), ("binary", "accuracy_at_half"), ("binary", "auroc")):
            assert f"{scores[kind][metric]['value']:.3f}" in text, f"{document}: {metric}"


def test_shipping_makes_both_without_thumbnails(own, demo_cells, into, capsys) -> None:
    cells = Path(demo_cells.cells[0].path).parents[1]
    ship(own.folder, "--calibrate", cells, "--cost", "cross-fitted: AUROC 0.9 against 0.8")
    assert str(into / "cytonet-int8") in capsys.readouterr().out
    full, small = (Bundle.load(name) for name in ("cytonet", "cytonet-int8"))
    assert [b.manifest.name for b in (full, small)] == ["cytonet", "cytonet-int8"]
    assert (full.manifest.precision, small.manifest.precision) == (own.bundle.manifest.precision, "int8")
    for made in (full, small):
        kept = leakage.load_training_cells(made.folder / TRAINING_CELLS)
        assert kept["signatures"].size == 0
        assert len(kept["digests"]) == len(demo_cells)
    assert "AUROC 0.9 against 0.8" in (small.folder / CARD).read_text(encoding="utf-8")
    ship(full.folder, "--calibrate", cells)  # what has no thumbnails can be shipped anew
    assert "AUROC" not in (small.folder / CARD).read_text(encoding="utf-8").split("## How good")[0]


def test_shipping_refuses_what_is_too_large_and_pictures_that_it_was_not_trained_on(
    own, demo_cells, into, bundle
) -> None:
    cells = Path(demo_cells.cells[0].path).parents[1]
    with pytest.raises(SystemExit, match="bytes of ONNX"):
        ship(own.folder, "--calibrate", cells, most=4_500_000)
    with pytest.raises(SystemExit, match="not trained on 84 pictures"):
        ship(bundle.folder, "--calibrate", cells)
    assert not into.exists()


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
    pixels = np.stack([extractor.prepare(decoding.load(c.path)) for c in demo_cells.cells[:4]])
    expected = extractor.run(pixels)
    assert expected.std(axis=0).max() > 1e-2
    for turned in (np.rot90(pixels, 1, (1, 2)), pixels[:, :, ::-1]):
        found = extractor.run(np.ascontiguousarray(turned))
        np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_the_backbone_gives_the_features_that_its_own_head_reads(bundle, demo_cells) -> None:
    import onnx
    from onnx import numpy_helper

    extractor = make_extractor("cytonet", precision="float32")
    pixels = np.stack([extractor.prepare(decoding.load(c.path)) for c in demo_cells.cells[:5]])
    known = {i.name: numpy_helper.to_array(i) for i in onnx.load(bundle.folder / "model.onnx").graph.initializer}
    logits = extractor.run(pixels) @ known["head_weights"] + known["head_bias"]
    odds = np.exp(logits - logits.max(axis=1, keepdims=True))
    whole = bundle.extractor("float32")
    rows = np.stack([whole.prepare(decoding.load(c.path)) for c in demo_cells.cells[:5]])
    np.testing.assert_allclose(
        whole.run(rows)[:, : len(bundle.classes)], odds / odds.sum(axis=1, keepdims=True), atol=1e-4
    )


def test_own_labels_need_no_weights(own, demo_cells) -> None:
    assert len(list(own.bundle.stream([demo_cells.cells[0].path], cache=False))) == 1
    assert "cytonet" in own.evaluations[0].facts["Backbone"]


def test_no_honest_number_on_the_cells_that_it_was_trained_on(shared, tmp_path) -> None:
    cells = cervicyte.load(shared / "data" / "herlev")
    with pytest.raises(LeakageError, match="known to the model"):
        cervicyte.train(cells, tmp_path / "run", load_recipe("cytonet-lr"))
    with pytest.raises(LeakageError, match="known to the model"):
        evaluate("cytonet", cells, tmp_path / "test")
    with pytest.raises(LeakageError, match="known to the model"):
        evaluate("cytonet-int8", cells, tmp_path / "test")


def test_an_installation_without_it_says_so(monkeypatch, capsys, tmp_path, demo_cells) -> None:
    monkeypatch.setattr(shipped, "FOLDERS", {name: tmp_path / "nothing" for name in shipped.FOLDERS})
    for name in shipped.FOLDERS:
        with pytest.raises(MissingError, match="not in this installation"):
            shipped.bundle_folder(name)
    code, _, said = inside(monkeypatch, capsys, "predict", demo_cells.cells[0].path)
    assert code == MissingError.exit_code
    assert "--model" in said
