"""A bundle comes back as it was written, or not at all; and predicting needs nothing but the core install."""

from __future__ import annotations

import csv
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings as hypothesis_settings, strategies as st

from cervicyte import shipped
from cervicyte.base.files import sha256_file
from cervicyte.bundle.folder import Bundle, InputSpec, Manifest, save_bundle
from cervicyte.bundle.graph import measurements_graph
from cervicyte.bundle.manifest import FORMAT
from cervicyte.data import readers, synthetic
from cervicyte.data.labels import BINARY, HERLEV
from cervicyte.decision.calibration import DecisionLimits
from cervicyte.decision.linear import LinearHead
from cervicyte.errors import BundleError, MissingError, StorageError, UsageError
from cervicyte.training.fitting import fit_model
from cervicyte.training.members import LinearMember
from cervicyte.training.recipes import load_recipe
from support.commands import cervicyte, inside, read, three_parts
from support.graphs import read_by_the_oldest_runtime

FILES = ("manifest.json", "model.onnx", "training_cells.npz", "MODEL_CARD.md", "SHA256SUMS")
LIMITS = DecisionLimits(
    threshold=0.3, sensitivity=0.95, normal_below=0.1, abnormal_from=0.8, confidence_from=0.0, max_risk=0.05
)


def _small(folder: Path, **changes) -> Bundle:
    from cervicyte.images import morphology

    d = len(morphology.NAMES)
    random = np.random.default_rng(0)
    graph = measurements_graph(LinearHead(random.normal(size=(d, 2)) * 0.01, np.zeros(2), 1.0), 1.5)
    values = {"name": "small", "system": BINARY, "classes": BINARY.classes, "limits": LIMITS, "precision": "float32"}
    values["input"] = InputSpec("measurements", measurements=tuple(morphology.NAMES))
    return save_bundle(folder, Manifest(**{**values, **changes}), graph)


def _resum(folder: Path) -> None:
    """Make the checksums right again, as one would who means to deceive."""
    names = sorted(p.name for p in folder.iterdir() if p.name != "SHA256SUMS")
    (folder / "SHA256SUMS").write_text("".join(f"{sha256_file(folder / n)}  {n}\n" for n in names))


def test_a_bundle_holds_these_files_and_says_what_it_is(trained) -> None:
    assert sorted(p.name for p in trained.bundle.iterdir()) == sorted(FILES)
    bundle = Bundle.load(trained.bundle)
    m = bundle.manifest
    assert m.classes == HERLEV.classes
    assert m.system == HERLEV or m.system.classes == HERLEV.classes
    assert m.input.kind == "measurements"
    assert 0 < m.limits.threshold < 1
    assert m.training["recipe"]["name"] == "morphology-lr"
    assert m.training["seed"] == 3
    assert m.scores["protocol"] == "grouped"
    assert len(m.training["facts"]["Data fingerprint"]) == 64
    assert Bundle.load(trained.folder) == bundle  # the run's folder will do
    assert Manifest.from_json(json.loads(json.dumps(m.to_json()))).limits == m.limits


def test_predictions_are_the_probabilities_of_training(trained, demo_cells) -> None:
    from cervicyte.features.extraction import MorphologyExtractor

    bundle = Bundle.load(trained.bundle)
    recipe = load_recipe("morphology-lr")
    member = LinearMember(recipe.members[0], MorphologyExtractor())
    assert not member.read(demo_cells)
    model = fit_model(demo_cells, (member,), recipe, 3, "grouped")
    rows = np.arange(0, len(demo_cells), 5)
    expected = model.answers(demo_cells.subset(rows)).probabilities
    found = bundle.predict([demo_cells.cells[i].path for i in rows], cache=False)
    np.testing.assert_allclose(found[[f"p_{c}" for c in bundle.classes]].to_numpy(), expected, atol=1e-4)
    assert bundle.manifest.limits.threshold == pytest.approx(model.limits.threshold)


def test_a_bundle_holds_no_names_of_files_and_no_pickles(trained, demo_cells) -> None:
    for name in FILES:
        data = (trained.bundle / name).read_bytes()
        assert Path(demo_cells.cells[0].path).name.encode() not in data
    with np.load(trained.bundle / "training_cells.npz", allow_pickle=False) as kept:
        assert {kept[name].dtype.kind for name in kept.files} <= {"U", "u"}


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_one_changed_byte_anywhere_is_found(bundle_copy, name, where) -> None:
    path = bundle_copy / name
    data = bytearray(path.read_bytes())
    at = {"first": 0, "middle": len(data) // 2, "last": len(data) - 2}[where]
    data[at] ^= 0x10
    path.write_bytes(data)
    with pytest.raises(BundleError) as raised:
        Bundle.load(bundle_copy)
    assert raised.value.exit_code == 7
    assert raised.value.received
    assert raised.value.todo


@hypothesis_settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_changed_byte_is_found(bundle_copy, data) -> None:
    path = bundle_copy / data.draw(st.sampled_from(FILES))
    before = path.read_bytes()
    at = data.draw(st.integers(0, len(before) - 1))
    changed = bytearray(before)
    changed[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(changed)
    try:
        with pytest.raises(BundleError):
            Bundle.load(bundle_copy)
    finally:
        path.write_bytes(before)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_found(bundle_copy, name, monkeypatch, capsys) -> None:
    (bundle_copy / name).unlink()
    code, _, said = inside(monkeypatch, capsys, "predict", "x.png", "--model", bundle_copy)
    assert code == 7
    assert three_parts(said)
    assert name in said


@pytest.mark.parametrize("name", ["payload.py", "model2.onnx", ".hidden", "folder"])
def test_a_file_that_is_not_named_is_found(bundle_copy, name) -> None:
    if name == "folder":
        (bundle_copy / name).mkdir()
    else:
        (bundle_copy / name).write_text("x")
    with pytest.raises(BundleError, match="do not name") as raised:
        Bundle.load(bundle_copy)
    assert name in raised.value.received


@pytest.mark.parametrize(
    ("version", "what"),
    [(FORMAT + 1, "newer"), (10**6, "newer"), (0, "format number"), ("1", "format number"), (True, "format number")],
)
def test_another_format_is_refused_before_anything_else_is_read(bundle_copy, version, what) -> None:
    value = read(bundle_copy / "manifest.json")
    (bundle_copy / "manifest.json").write_text(json.dumps(value | {"format": version}))
    with pytest.raises(BundleError, match=what):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "3", '"format"', "{}", "\x00", "[" * 100_000, '{"format": 1}', '{"format": null}']
)
def test_a_manifest_that_is_none_is_refused(bundle_copy, text) -> None:
    (bundle_copy / "manifest.json").write_text(text)
    _resum(bundle_copy)
    with pytest.raises(BundleError):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("classes",), "abnormal"),
        (("classes",), ["carcinoma_in_situ", "normal_columnar"]),
        (("classes",), ["nobody", "knows"]),
        (("classes",), []),
        (("system",), {"name": "x"}),
        (("system", "abnormal"), ["nothing"]),
        (("input", "kind"), "python"),
        (("input", "fit"), "squash"),
        (("input", "filters"), ["emboss"]),
        (("input", "size"), "large"),
        (("input",), None),
        (("limits", "threshold"), None),
        (("limits", "threshold"), float("nan")),
        (("limits",), [1, 2]),
        (("scores",), 5),
    ],
)
def test_a_manifest_of_the_wrong_shape_is_refused_even_with_right_checksums(bundle_copy, place, value) -> None:
    manifest = read(bundle_copy / "manifest.json")
    at = manifest
    for name in place[:-1]:
        at = at[name]
    at[place[-1]] = value
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    _resum(bundle_copy)
    with pytest.raises(BundleError, match="not of the form"):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize("name", ["../outside", "/etc/passwd", "..", "", ".", "a/b", "a\0b"])
def test_checksums_cannot_name_a_file_outside(bundle_copy, name) -> None:
    (bundle_copy.parent / "outside").write_text("x")
    with (bundle_copy / "SHA256SUMS").open("a") as stream:
        stream.write(f"{sha256_file(bundle_copy.parent / 'outside')}  {name}\n")
    with pytest.raises(BundleError):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize("text", ["", "no sums here\n", "x\n", "\xff"])
def test_checksums_of_another_form_are_refused(bundle_copy, text) -> None:
    (bundle_copy / "SHA256SUMS").write_text(text, encoding="latin-1")
    with pytest.raises(BundleError):
        Bundle.load(bundle_copy)


def test_a_pipe_in_place_of_a_file_does_not_hang(bundle_copy) -> None:
    (bundle_copy / "model.onnx").unlink()
    os.mkfifo(bundle_copy / "model.onnx")
    with pytest.raises(BundleError, match="missing"):
        Bundle.load(bundle_copy)


@pytest.mark.parametrize("name", ["nowhere", "a" * 300, "bad\udce9name"])
def test_where_no_bundle_is_the_answer_says_so(tmp_path, name) -> None:
    with pytest.raises(MissingError, match="no bundle here") as raised:
        Bundle.load(tmp_path / name)
    assert raised.value.exit_code == 6


def test_a_graph_that_does_not_fit_its_classes_is_refused(tmp_path, demo_cells) -> None:
    _small(tmp_path / "b")
    manifest = read(tmp_path / "b" / "manifest.json")
    manifest |= {"system": HERLEV.to_json(), "classes": list(HERLEV.classes)}
    (tmp_path / "b" / "manifest.json").write_text(json.dumps(manifest))
    _resum(tmp_path / "b")
    with pytest.raises(BundleError, match="probability for each of its classes"):
        Bundle.load(tmp_path / "b").predict(demo_cells.cells[0].path)


def test_measurements_of_another_version_are_refused(tmp_path) -> None:
    bundle = _small(tmp_path / "b", input=InputSpec("measurements", measurements=("area", "mystery")))
    with pytest.raises(BundleError, match="other measurements") as raised:
        Bundle.load(bundle.folder).extractor()
    assert "mystery" in raised.value.received


def test_a_new_bundle_replaces_an_old_one_and_nothing_else(tmp_path) -> None:
    first = _small(tmp_path / "b")
    second = _small(tmp_path / "b", name="second")
    assert Bundle.load(tmp_path / "b").manifest.name == "second"
    assert first.folder == second.folder
    assert [p.name for p in tmp_path.iterdir()] == ["b"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    with pytest.raises(UsageError, match="not a bundle"):
        _small(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.txt").read_text() == "years"
    (tmp_path / "file").write_text("x")
    with pytest.raises(StorageError):
        _small(tmp_path / "file")


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "desktop.ini", "._manifest.json", "@eaDir/x.jpg"])
def test_what_systems_leave_in_a_bundle_is_no_part_of_it(tmp_path, name) -> None:
    bundle = _small(tmp_path / "bundle")
    (bundle.folder / name).parent.mkdir(exist_ok=True)
    (bundle.folder / name).write_bytes(b"x")
    assert Bundle.load(bundle.folder).classes == bundle.classes
    (bundle.folder / "other").mkdir()
    with pytest.raises(BundleError, match="do not name") as raised:
        Bundle.load(bundle.folder)
    assert raised.value.received == "other"


def test_a_bundle_may_be_written_into_a_folder_that_a_system_looked_at(tmp_path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / ".DS_Store").write_bytes(b"x")
    assert Bundle.load(_small(tmp_path / "new").folder)


def test_a_bundle_that_fails_its_proof_does_not_replace_the_good_one(tmp_path, monkeypatch, demo_cells) -> None:
    from cervicyte.runs import train as training
    from cervicyte.training import members

    few = _two_classes(demo_cells)
    training.train(few, tmp_path / "run", folds=2)
    good = sha256_file(tmp_path / "run" / "bundle" / "model.onnx")

    def wrong(head, temperature):
        return measurements_graph(LinearHead(-head.weights, head.bias, head.C), temperature)

    monkeypatch.setattr(members, "measurements_graph", wrong)
    with pytest.raises(BundleError, match="does not say what the trained one says"):
        training.train(few, tmp_path / "run", folds=2)
    assert sha256_file(tmp_path / "run" / "bundle" / "model.onnx") == good
    assert Bundle.load(tmp_path / "run").classes == few.present
    assert not [p for p in (tmp_path / "run").iterdir() if p.name.startswith(".")]


def _two_classes(cells):
    return cells.subset(np.isin(cells.labels.astype(str), ["normal_superficiel", "carcinoma_in_situ"]))


def test_loading_imports_nothing_heavy(trained) -> None:
    heavy = ("torch", "keras", "pandas", "sklearn", "skimage", "cv2", "matplotlib", "openvino", "onnx", "onnxruntime")
    code = (
        "import sys\nfrom cervicyte import Bundle\n"
        f"bundle = Bundle.load({str(trained.bundle)!r})\nassert len(bundle.classes) == 7\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


#: Put on the path of a child process, it makes the packages of the extra ``train`` raise as if not installed.
_ABSENT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "keras", "tensorflow", "h5py", "onnxscript"):
            raise ModuleNotFoundError("No module named " + repr(name), name=name)
sys.meta_path.insert(0, Absent())
"""


def test_the_core_install_predicts_and_says_what_it_needs_to_export(trained, demo_cells, tmp_path) -> None:
    (tmp_path / "sitecustomize.py").write_text(_ABSENT)
    env = {"PYTHONPATH": str(tmp_path)}
    probe = subprocess.run([sys.executable, "-c", "import torch"], env={**os.environ, **env}, capture_output=True)
    assert probe.returncode != 0
    done = cervicyte("predict", demo_cells.cells[0].path, "--model", trained.bundle, "--no-cache", env=env)
    assert done.returncode == 0, done.stderr
    assert len(list(csv.DictReader(done.stdout.splitlines()))) == 1
    args = ("--backbone", "MobileNetV2", "--weights", "random", "--size", "64", "--folds", "2")
    refused = cervicyte("train", trained.data, "--out", tmp_path / "run", *args, env=env)
    assert refused.returncode == 6
    assert "cervicyte[train]" in refused.stderr
    assert "Traceback" not in refused.stderr


def _extractor_graph(path: Path, side: int = 24) -> Path:
    """A tiny network as a user might bring: NCHW float, one convolution, ReLU; its output is a feature map."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    random = np.random.default_rng(5)
    kernel = random.normal(scale=0.4, size=(12, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Conv", ["pixels", "kernel"], ["sums"], strides=[3, 3]),
        helper.make_node("Relu", ["sums"], ["map"]),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 3, side, side])],
        [helper.make_tensor_value_info("map", TensorProto.FLOAT, ["N", 12, side // 3, side // 3])],
        [numpy_helper.from_array(kernel, "kernel")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return path


def test_a_network_bundle_goes_from_pixels_to_probabilities_and_explains_itself(tmp_path, monkeypatch) -> None:
    import onnxruntime

    from cervicyte.images import decoding, filters
    from cervicyte.runs.train import train

    monkeypatch.setenv("CERVICYTE_PRECISION", "float32")
    cells = synthetic.generate(tmp_path / "cells", n_per_class=10, size=40, system="binary", seed=2)
    onnx_path = _extractor_graph(tmp_path / "tiny.onnx")
    recipe = load_recipe("morphology-lr").changed(
        backbone=f"onnx:{onnx_path}", preprocess="tf", filters=("normalise", "median"), fit="pad"
    )
    run = train(cells, tmp_path / "run", recipe, folds=2)
    onnx_path.unlink()  # the bundle is whole without it
    shutil.move(run.folder / "bundle", tmp_path / "elsewhere")
    bundle = Bundle.load(tmp_path / "elsewhere")
    spec = bundle.manifest.input
    assert (spec.kind, spec.size, spec.fit, spec.filters) == ("image", 24, "pad", ("normalise", "median"))

    # The graph by itself, in another engine, on pixels prepared as the manifest says.
    wide = decoding.load(cells.cells[3].path)[:20]
    batch = np.stack(
        [decoding.resize(filters.apply_chain(p, spec.filters), spec.size, spec.fit) for p in (wide, wide[::-1])]
    )
    session = onnxruntime.InferenceSession(str(bundle.folder / "model.onnx"), providers=["CPUExecutionProvider"])
    probabilities, activation = session.run(["probabilities", "activation_map"], {"image": batch})
    assert probabilities.shape == (2, 2)
    assert activation.shape[0] == 2
    assert activation.shape[3] == 2
    logits = activation.mean(axis=(1, 2))
    expected = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities, expected, rtol=1e-4, atol=1e-6)

    # And the bundle gives the same for a file.
    from PIL import Image

    Image.fromarray(wide).save(tmp_path / "wide.png")
    found = bundle.predict(tmp_path / "wide.png", cache=False)
    np.testing.assert_allclose(found[["p_normal", "p_abnormal"]].to_numpy()[0], probabilities[0], atol=1e-5)
    assert readers.load(tmp_path / "cells").fingerprint == bundle.manifest.training["facts"]["Data fingerprint"]


def test_what_is_kept_is_never_a_stale_answer(trained, monkeypatch) -> None:
    from cervicyte.bundle import folder as module

    key = Bundle.load(trained.bundle).extractor().key
    assert Bundle.load(trained.bundle).extractor().key == key
    monkeypatch.setattr(module.extraction, "morphology_code", lambda: b"other measurements")
    assert Bundle.load(trained.bundle).extractor().key != key


def test_graphs_of_bundles_state_versions_that_the_oldest_runtime_reads(trained) -> None:
    folders = (trained.bundle, *(shipped.bundle_folder(name) for name in shipped.FOLDERS))
    graphs = [graph for folder in folders for graph in folder.glob("*.onnx")]
    assert len(graphs) >= 3
    assert all(map(read_by_the_oldest_runtime, graphs))
