"""Ensembles from recipe to report: one bundle, every member's vote kept, and no way past the guard."""

from __future__ import annotations

import csv
import json
import shutil
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from PIL import Image

from cervicyte.audit.leakage import training_cells
from cervicyte.base.files import sha256_file
from cervicyte.bundle import inference
from cervicyte.bundle.compression import compress
from cervicyte.bundle.folder import Bundle, InputSpec, Manifest, MemberSpec, save_bundle
from cervicyte.bundle.graph import measurements_graph
from cervicyte.bundle.predictions import write_predictions
from cervicyte.data import synthetic
from cervicyte.data.cells import Cell, CellTable
from cervicyte.data.labels import BETHESDA, BINARY, HERLEV, LabelSystem, find_map
from cervicyte.decision.calibration import UNCERTAIN, DecisionLimits
from cervicyte.decision.ensemble import RULES, Combiner, fit_combiner
from cervicyte.decision.linear import LinearHead
from cervicyte.errors import BundleError, DataError, LeakageError, MissingError, UsageError
from cervicyte.evaluation.cross_validation import judge
from cervicyte.images import morphology
from cervicyte.runs import train as training
from cervicyte.runs.evaluate import evaluate, judge_bundle
from cervicyte.runs.train import Run, finish, train
from cervicyte.training import bundling
from cervicyte.training.fitting import fit_model
from cervicyte.training.judging import judge_plan
from cervicyte.training.members import make_member
from cervicyte.training.parts import Linear
from cervicyte.training.plan import Options, make_plan, parts_at_hand
from cervicyte.training.recipes import Recipe, parse_recipe
from support.commands import inside, read, three_parts
from support.runs import bundled, judged

NAMES = [r.name for r in RULES]
CLASSES = HERLEV.classes
ABNORMAL = np.array([c in (HERLEV.abnormal or ()) for c in CLASSES])
NORMAL = frozenset(CLASSES) - (HERLEV.abnormal or frozenset())
LIMITS = DecisionLimits(
    threshold=0.5, sensitivity=0.95, normal_below=0.5, abnormal_from=0.5, confidence_from=0.0, max_risk=0.05
)

#: Two ways to measure and one untrained network, each member different in more than its name.
MEMBERS = (
    Linear(name="plain", C=1.0),
    Linear(name="local contrast", filters=("clahe",)),
    Linear(name="network", backbone="MobileNetV2", size=64),
)

SIDE, SHARPNESS = 16, 0.5


# ---- a bundle whose members vote as the pixels of an image tell them


def _reading_graph(member: int, classes: int) -> bytes:
    """A graph that takes row ``member`` of the image as its logits: class c is as probable as pixel c is bright."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def numbers(*values: int) -> np.ndarray:
        return np.array(values, dtype=np.int64)

    constants = {
        "starts": numbers(member, 0, 0),
        "ends": numbers(member + 1, classes, 1),
        "axes": numbers(1, 2, 3),
        "flat": numbers(-1, classes),
        "sharpness": np.array(SHARPNESS, dtype=np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Slice", ["float", "starts", "ends", "axes"], ["row"]),
        helper.make_node("Reshape", ["row", "flat"], ["pixels"]),
        helper.make_node("Mul", ["pixels", "sharpness"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "reader",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["n", classes])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _constant_graph(p: np.ndarray) -> bytes:
    """A graph on measurements that answers the same for every cell."""
    weights = np.zeros((len(morphology.NAMES), len(p)))
    return measurements_graph(LinearHead(weights, np.log(np.maximum(p, 1e-30)), 1.0), 1.0)


def _spec(kind: str = "image", **changes) -> InputSpec:
    if kind == "image":
        return InputSpec("image", **{"size": SIDE, **changes})
    return InputSpec("measurements", measurements=tuple(morphology.NAMES), **changes)


def _reader_bundle(folder: Path, members: int = 3, **changes) -> Bundle:
    """Members that read their votes off the picture; the first two share their input."""
    specs = [_spec(), _spec(), *(_spec(fit="pad") for _ in range(members - 2))]
    values = {
        "name": "readers",
        "system": HERLEV,
        "classes": CLASSES,
        "input": InputSpec("members"),
        "limits": LIMITS,
        "precision": "float32",
        "members": tuple(
            MemberSpec(f"reader {i}", f"member-{i + 1}.onnx", s, "float32") for i, s in enumerate(specs[:members])
        ),
        "combiner": Combiner("mean"),
        **changes,
    }
    graphs = [_reading_graph(i, len(values["classes"])) for i in range(members)]
    nothing = {"digests": np.array([], "U64"), "boxes": np.array([], "U8"), "groups": np.array([], "U8")}
    nothing["signatures"] = np.zeros((0, 4), dtype=np.uint8)
    return save_bundle(folder, Manifest(**values), graphs, nothing)


def _picture(path: Path, logits: np.ndarray) -> Path:
    """A PNG whose first rows say what each member is to think: int (members, classes) of 0 to 255."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.zeros((SIDE, SIDE, 3), dtype=np.uint8)
    image[: logits.shape[0], : logits.shape[1]] = np.asarray(logits)[:, :, None]
    Image.fromarray(image).save(path)
    return path


@pytest.fixture(scope="module")
def readers(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return _reader_bundle(tmp_path_factory.mktemp("readers") / "bundle")


@pytest.fixture(scope="module")
def adversaries(tmp_path_factory: pytest.TempPathFactory) -> CellTable:
    """Cells on which one member is certain of a class and the others of another, for every pair; and random ones."""
    folder = tmp_path_factory.mktemp("adversaries")
    random = np.random.default_rng(7)
    cells = []
    for mine in range(7):
        for theirs in (0, 1, 2, 6):
            logits = np.zeros((3, 7), dtype=int)
            logits[:, theirs] = 255
            logits[(mine + theirs) % 3] = 255 * np.eye(7, dtype=int)[mine]
            cells.append(logits)
    cells += [random.integers(0, 256, (3, 7)) for _ in range(20)]
    cells += [random.integers(100, 112, (3, 7)) for _ in range(20)]
    rows = [
        Cell(path=str(_picture(folder / f"{i}.png", logits)), label=CLASSES[i % 7], group=f"g{i}")
        for i, logits in enumerate(cells)
    ]
    return CellTable(cells=tuple(rows), system=HERLEV, name="adversaries")


def _combiner(rule: str, seed: int, m: int = 3, k: int = 7) -> Combiner:
    """A combiner as bad as it may be: one that ignores members, or always says "normal"."""
    random = np.random.default_rng(seed)
    if rule == "weighted":
        return Combiner(rule, weights=tuple(np.eye(m)[random.integers(m)].tolist()))
    if rule == "stacked":
        matrix = random.normal(size=(m * k, k)) * 10 ** random.uniform(-2, 2)
        bias = (9.0, *(0.0,) * (k - 1)) if random.random() < 0.5 else tuple(random.normal(size=k).tolist())
        return Combiner(rule, matrix=tuple(map(tuple, matrix.tolist())), bias=bias)
    return Combiner(rule)


_SHARE = st.floats(0, 1)
_BAND = st.one_of(_SHARE, st.just(0.0), st.just(float("inf")))
_LIMITS = st.builds(
    DecisionLimits,
    threshold=st.one_of(_SHARE, st.sampled_from([0.0, 1e-12, 0.5, 1.0])),
    sensitivity=st.just(0.95),
    normal_below=_BAND,
    abnormal_from=_BAND,
    confidence_from=st.just(0.0),
    max_risk=st.just(0.05),
)
_TEMPERATURES = st.sampled_from([0.05, 0.5, 1.0, 3.0, 20.0])


def _check_prediction(p, threshold: float) -> None:
    """The promise of this file, on one verdict as a user gets it."""
    seen = [vote.p_abnormal >= threshold for vote in p.votes]
    if any(seen):
        assert p.label not in NORMAL, p
        assert p.uncertain or p.above_operating_point, p
    if p.label in NORMAL:
        assert not p.above_operating_point
        assert not any(seen)
    assert (p.label == UNCERTAIN) == p.uncertain


@hypothesis_settings(max_examples=200, deadline=None)
@given(st.sampled_from(NAMES), _LIMITS, _TEMPERATURES, st.integers(0, 10**6), st.integers(2, 5), st.data())
def test_no_vector_of_votes_gives_a_normal_verdict_where_a_member_sees_abnormality(
    readers: Bundle, rule: str, limits: DecisionLimits, temperature: float, seed: int, m: int, data: st.DataObject
) -> None:
    random = np.random.default_rng(seed)
    votes = random.gamma(10 ** random.uniform(-2, 1, (24, m, 1)), size=(24, m, 7)) + 1e-30
    votes[:7, 0], votes[:7, 1:] = np.eye(7), np.eye(7)[data.draw(st.integers(0, 6))]
    votes /= votes.sum(axis=2, keepdims=True)
    # At the operating point to the last bit, on the last class and on one that has company.
    votes[7:9, 0], votes[7:9, 0, 0] = 0.0, 1 - limits.threshold
    votes[7, 0, 6] = limits.threshold
    votes[8, 0, [3, 6]] = limits.threshold * 0.7, limits.threshold * (1 - 0.7)
    members = tuple(replace(readers.manifest.members[0], name=f"reader {i}") for i in range(m))
    changed = {"limits": limits, "temperature": temperature, "combiner": _combiner(rule, seed, m), "members": members}
    bundle = Bundle(readers.folder, replace(readers.manifest, **changed))
    vectors = votes.reshape(len(votes), -1)
    for vector in vectors:
        p = bundle.verdict("cell.png", vector)
        _check_prediction(p, limits.threshold)
        assert 0 <= p.disagreement <= 1
    cells = CellTable(
        cells=tuple(Cell(path=f"{i}.png", label=CLASSES[i % 7], group="g") for i in range(len(votes))),
        system=HERLEV,
        name="x",
    )
    known = SimpleNamespace(classes=CLASSES, limits=limits, answers=lambda _: bundle.answers(vectors))
    judged = judge(known, cells, "grouped")
    seen = (votes[:, :, ABNORMAL].sum(axis=2) >= limits.threshold).any(axis=1)
    assert (judged.uncertain | judged.called_abnormal)[seen].all()


@hypothesis_settings(max_examples=12, deadline=None)
@given(st.sampled_from(NAMES), _LIMITS, _TEMPERATURES, st.integers(0, 10**6))
def test_no_picture_gives_a_normal_verdict_where_a_member_sees_abnormality(
    readers: Bundle, adversaries: CellTable, rule: str, limits: DecisionLimits, temperature: float, seed: int
) -> None:
    changed = {"limits": limits, "temperature": temperature, "combiner": _combiner(rule, seed)}
    bundle = Bundle(readers.folder, replace(readers.manifest, **changed))
    found = list(bundle.stream(adversaries.paths))
    assert len(found) == len(adversaries)
    for p in found:
        assert p.error == ""
        _check_prediction(p, limits.threshold)


@pytest.mark.parametrize("rule", NAMES)
@pytest.mark.parametrize("code", np.flatnonzero(ABNORMAL))
def test_a_certain_member_that_is_outvoted_makes_the_cell_uncertain(readers: Bundle, tmp_path, rule, code) -> None:
    # The case of system A's web app: a confident severe dysplasia, or the last class, among members that say normal.
    logits = np.zeros((3, 7), dtype=int)
    logits[:2, 0], logits[2, code] = 255, 255
    path = _picture(tmp_path / "cell.png", logits)
    bad = {
        "weighted": Combiner("weighted", weights=(0.5, 0.5, 0.0)),
        "stacked": Combiner("stacked", matrix=((0.0,) * 7,) * 21, bias=(9.0, *(0.0,) * 6)),
    }
    bundle = Bundle(readers.folder, replace(readers.manifest, combiner=bad.get(rule) or Combiner(rule)))
    row = bundle.predict(path).iloc[0]
    assert row["p_abnormal"] < LIMITS.threshold, "without the guard this cell would have been called normal"
    assert (row["label"], row["uncertain"], row["above_operating_point"]) == (UNCERTAIN, True, False)
    assert row["vote reader 2"] == CLASSES[code]
    assert row["p_abnormal reader 2"] > 0.99
    assert row["disagreement"] > 0.5
    # All of one mind: the class itself, the last one too.
    agreed = bundle.predict(_picture(tmp_path / "agreed.png", np.tile(255 * np.eye(7, dtype=int)[code], (3, 1))))
    assert agreed["disagreement"][0] < 1e-6
    if rule not in bad:
        assert agreed["label"][0] == CLASSES[code]


@pytest.mark.parametrize("rule", NAMES)
def test_an_external_test_keeps_the_guard_under_every_label_system(
    readers: Bundle, adversaries: CellTable, rule
) -> None:
    bundle = Bundle(readers.folder, replace(readers.manifest, combiner=_combiner(rule, 3)))
    votes = np.array([[v.probabilities for v in p.votes] for p in bundle.stream(adversaries.paths)])
    seen = (votes[:, :, ABNORMAL].sum(axis=2) >= LIMITS.threshold).any(axis=1)
    assert 10 < seen.sum() < len(seen)
    for target in ("herlev", "binary", "bethesda"):
        cells = adversaries if target == "herlev" else adversaries.map_labels(find_map(HERLEV, target))
        p = judge_bundle(bundle, cells).evaluation.predictions
        assert (p.uncertain | p.called_abnormal)[seen].all(), target
        np.testing.assert_allclose(p.probabilities.sum(axis=1), 1, atol=1e-6)
    mine = LabelSystem(name="mine", classes=("well", "sick"), abnormal=frozenset({"sick"}))
    own = CellTable(
        cells=tuple(replace(c, label=mine.classes[i % 2]) for i, c in enumerate(adversaries.cells)),
        system=mine,
        name="own",
    )
    p = judge_bundle(bundle, own).evaluation.predictions
    assert p.classes == BINARY.classes
    assert (p.uncertain | p.called_abnormal)[seen].all()


def test_what_is_abnormal_to_the_data_and_not_to_the_model_is_guarded_too(tmp_path) -> None:
    # A model that takes light dysplasia for normal, tested on data that call it LSIL: there one certain member
    # must not be outvoted either.
    lenient = replace(HERLEV, abnormal=HERLEV.abnormal - {"light_dysplastic"})
    bundle = _reader_bundle(tmp_path / "b", 3, system=lenient)
    logits = np.zeros((3, 7), dtype=int)
    logits[:2, 0], logits[2, 3] = 255, 255
    path = _picture(tmp_path / "cell.png", logits)
    assert bundle.predict(path)["label"][0] == CLASSES[0]
    cells = CellTable(cells=(Cell(path=str(path), label="LSIL", group="g"),), system=BETHESDA, name="one")
    p = evaluate(bundle, cells, tmp_path / "test").evaluation.predictions
    assert p.p_abnormal[0] == pytest.approx(1 / 3, abs=1e-3)
    assert p.uncertain.tolist() == [True]


def test_a_model_with_a_reading_of_its_own_keeps_it_for_labels_of_another_system(tmp_path) -> None:
    # A model on Bethesda classes that takes LSIL for normal: its operating point holds for that reading.
    reading = replace(BETHESDA, abnormal=BETHESDA.abnormal - {"LSIL"})
    bundle = _reader_bundle(tmp_path / "b", 2, system=reading, classes=reading.classes)
    path = _picture(tmp_path / "cell.png", np.tile([0, 0, 255, 0, 0, 0], (2, 1)))
    cells = CellTable(cells=(Cell(path=str(path), label="light_dysplastic", group="g"),), system=HERLEV, name="one")
    p = evaluate(bundle, cells, tmp_path / "test").evaluation.predictions
    assert p.system == reading
    assert p.p_abnormal[0] < 0.01


# ---- training


@pytest.fixture(scope="module")
def some(demo_cells) -> CellTable:
    """Three of the seven classes: 36 cells."""
    kept = ["normal_superficiel", "severe_dysplastic", "carcinoma_in_situ"]
    return demo_cells.subset(np.isin(demo_cells.labels.astype(str), kept))


@pytest.fixture(scope="module", autouse=True)
def float32() -> Iterator[None]:
    """The bits of float32 everywhere, whatever the processor can do."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CERVICYTE_PRECISION", "float32")
        yield


@pytest.fixture(scope="module")
def runs(some, tmp_path_factory) -> dict[str, Run]:
    """One run for each rule, all of one plan; the first of them with its report."""
    recipe = Recipe(name="three", members=MEMBERS)
    plan = make_plan(some, recipe, Options(folds=2, holdout=True, weights="random", seed=2))
    done: dict[str, Run] = {}
    for rule in NAMES:
        folder = tmp_path_factory.mktemp("runs") / rule
        ruled = replace(plan, recipe=recipe.changed(rule=rule))
        judgement = judge_plan(ruled)
        if done:
            bundle = bundling.save(folder / "bundle", ruled, judgement)
            done[rule] = Run(folder, bundle, judgement.evaluations, plan.failed)
        else:
            done[rule] = finish(folder, ruled, judgement)
    return done


@pytest.fixture(scope="module")
def read_members(some):
    members = tuple(make_member(part, "random", "float32", 2, "geometric") for part in MEMBERS)
    assert [m.read(some) for m in members] == [{}, {}, {}]
    return members


@pytest.mark.parametrize("rule", NAMES)
def test_a_trained_ensemble_is_one_bundle_that_says_what_the_model_says(runs, read_members, some, rule) -> None:
    run = runs[rule]
    graphs = {f"member-{i}.onnx" for i in (1, 2, 3)}
    folder = run.folder / "bundle"
    assert {p.name for p in folder.iterdir()} == graphs | {
        "manifest.json",
        "training_cells.npz",
        "MODEL_CARD.md",
        "SHA256SUMS",
    }
    manifest = read(folder / "manifest.json")
    assert manifest["format"] == 2
    assert [m["name"] for m in manifest["members"]] == [p.name for p in MEMBERS]
    assert manifest["combiner"]["rule"] == rule
    assert manifest["precision"] == "float32"
    bundle = Bundle.load(run.folder)
    model = fit_model(some, read_members, Recipe(name="three", members=MEMBERS, rule=rule), 2, "grouped")
    rows = np.arange(0, len(some), 3)
    expected = model.answers(some.subset(rows))
    found = bundle.predict([some.cells[i].path for i in rows])
    good = (found["quality"] == "good").to_numpy()
    assert good.mean() > 0.8
    found = found[good]
    columns = [f"p_{c}" for c in bundle.classes]
    np.testing.assert_allclose(found[columns].to_numpy(), expected.probabilities[good], atol=2e-4)
    for i, member in enumerate(MEMBERS):
        votes = expected.votes[good, i]
        assert found[f"vote {member.name}"].tolist() == [bundle.classes[c] for c in votes.argmax(axis=1)]
        p_abnormal = votes[:, bundle.manifest.abnormal_classes].sum(axis=1)
        np.testing.assert_allclose(found[f"p_abnormal {member.name}"], p_abnormal, atol=2e-4)
    assert found["disagreement"].between(0, 1).all()
    assert found["disagreement"].nunique() > 3
    assert bundle.manifest.limits.threshold == pytest.approx(model.limits.threshold, abs=1e-6)
    assert Manifest.from_json(json.loads(json.dumps(manifest))) == bundle.manifest


def test_each_rule_is_another_model_with_another_name_in_records(runs) -> None:
    sums = {Bundle.load(run.folder).graph_sha256 for run in runs.values()}
    assert len(sums) == len(NAMES)
    graphs = {sha256_file(run.folder / "bundle" / "member-3.onnx") for run in runs.values()}
    assert len(graphs) == 1  # the members themselves do not depend on the rule


def test_votes_are_kept_in_every_format(runs, some, tmp_path) -> None:
    import pandas as pd

    bundle = Bundle.load(runs["stacked"].folder)
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"not an image")
    good = [c.path for c, q in zip(some.cells, bundle.predict(some.paths)["quality"], strict=True) if q == "good"]
    inputs = [good[0], bad, good[-1]]
    frame = bundle.predict(inputs)
    own = [f"{what} {part.name}" for part in MEMBERS for what in ("vote", "p_abnormal")]
    old = ["path", "label", "bethesda", *(f"p_{c}" for c in bundle.classes)]
    old += ["p_abnormal", "above_operating_point", "uncertain"]
    assert list(frame.columns) == [*old, "quality", "error", "disagreement", *own]
    for ending in ("csv", "json", "parquet"):
        list(write_predictions(bundle.stream(inputs), bundle.classes, tmp_path / f"p.{ending}", bundle.members))
    with (tmp_path / "p.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == list(frame.columns)
    assert [row["vote network"] for row in rows] == [frame["vote network"][0], "", frame["vote network"][2]]
    assert float(rows[2]["p_abnormal plain"]) == pytest.approx(frame["p_abnormal plain"][2], abs=1e-6)
    stored = read(tmp_path / "p.json")
    assert [list(row) for row in stored] == [list(frame.columns)] * 3
    assert [stored[1][name] for name in ("disagreement", *own)] == [None] * 7
    assert "not an image" in stored[1]["error"]
    assert stored[0]["disagreement"] == frame["disagreement"][0]
    table = pd.read_parquet(tmp_path / "p.parquet")
    assert list(table.columns) == list(frame.columns)
    assert table["vote network"][0] == frame["vote network"][0]
    assert np.isnan(table["p_abnormal network"][1])
    assert table["disagreement"].dtype == np.float64


def test_the_command_line_gives_and_counts_votes(runs, some, tmp_path, monkeypatch, capsys) -> None:
    model = runs["mean"].folder
    bundle = Bundle.load(model)
    good = next(p.path for p in bundle.stream(some.paths) if p.quality == "good")
    code, out, said = inside(monkeypatch, capsys, "predict", good, "--model", model)
    assert code == 0
    (row,) = csv.DictReader(out.splitlines())
    assert row["vote network"] in CLASSES
    assert 0 <= float(row["disagreement"]) <= 1
    assert "1 image:" in said


def test_a_single_model_is_written_and_answers_as_before(some, tmp_path) -> None:
    bundle = bundled(tmp_path / "bundle", some, parse_recipe("one", {"C": 1.0}), folds=2)
    manifest = read(bundle.folder / "manifest.json")
    assert manifest["format"] == 1
    assert not {"members", "combiner", "temperature"} & set(manifest)
    assert Bundle.load(bundle.folder).manifest.to_json() == bundle.manifest.to_json()
    assert bundle.members == ()
    assert bundle.graph_sha256 == sha256_file(bundle.folder / "model.onnx")
    frame = bundle.predict(some.cells[0].path)
    old = ["path", "label", "bethesda", *(f"p_{c}" for c in bundle.classes)]
    old += ["p_abnormal", "above_operating_point", "uncertain"]
    assert list(frame.columns) == [*old, "quality", "error"]
    assert bundle.verdict("x", np.eye(3)[0]).disagreement is None


def test_members_of_two_precisions_are_told_and_proved_as_such(runs, some, tmp_path, monkeypatch) -> None:
    from cervicyte.networks import runtime

    if not runtime.has_bfloat16():
        pytest.skip("this processor does not compute in bfloat16")
    monkeypatch.setenv("CERVICYTE_PRECISION", "auto")
    bundle = bundled(tmp_path / "b", some, Recipe(name="two", members=MEMBERS[1:]), folds=2, weights="random")
    manifest = bundle.manifest
    assert manifest.precision == "mixed"
    assert [m.precision for m in manifest.members] == ["float32", "bfloat16"]
    extractor = bundle.extractor()
    assert (extractor.precision, bundle.extractor("float32").precision) == ("mixed", "float32")
    assert extractor.key != bundle.extractor("float32").key


def test_the_account_of_an_ensemble_names_members_and_rule(runs) -> None:
    folder = runs["vote"].folder
    facts = read(folder / "bundle" / "manifest.json")["training"]["facts"]
    assert facts["Member 3: network"].startswith("backbone MobileNetV2; weights RANDOM")
    assert "clahe" in facts["Member 2: local contrast"]
    assert facts["Combined by"].startswith("vote: Majority vote")
    page = (folder / "report.html").read_text(encoding="utf-8")
    for words in ("Member 1: plain", "Member 2: local contrast", "Majority vote", "C chosen by inner folds"):
        assert words in page
    assert read(folder / "recipe.json")["members"][2]["backbone"] == "MobileNetV2"


def test_where_stacking_cannot_be_done_the_mean_takes_its_place_and_a_note_says_so(some, tmp_path, monkeypatch) -> None:
    def too_few(rule, *rest):
        assert rule == "stacked"
        return replace(fit_combiner("mean", *rest), note="mean instead of stacked: too few groups")

    monkeypatch.setattr("cervicyte.training.fitting.fit_combiner", too_few)
    run = train(some, tmp_path / "run", Recipe(name="two", members=MEMBERS[:2], rule="stacked"), folds=2)
    assert run.bundle.manifest.combiner == Combiner("mean")
    assert "mean instead of stacked: too few groups" in (run.folder / "report.html").read_text(encoding="utf-8")


# ---- a manifest that lies


@pytest.fixture
def lying(readers: Bundle, tmp_path: Path):
    """Changes the manifest of a copy of the bundle, mends the checksums, and gives the copy's folder."""
    folder = Path(shutil.copytree(readers.folder, tmp_path / "bundle"))

    def change(edit) -> Path:
        manifest = read(folder / "manifest.json")
        edit(manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        _resum(folder)
        return folder

    return change


def _resum(folder: Path) -> None:
    names = sorted(p.name for p in folder.iterdir() if p.name != "SHA256SUMS")
    (folder / "SHA256SUMS").write_text("".join(f"{sha256_file(folder / n)}  {n}\n" for n in names))


def _member(i: int, **changes):
    return lambda m: m["members"][i].update(changes)


def _top(**changes):
    return lambda m: m.update(changes)


def _without(*names: str):
    return lambda m: [m.pop(name) for name in names]


_STACKED = {"rule": "stacked", "weights": [], "matrix": [[0.0] * 7] * 21, "bias": [0.0] * 7}

LIES = {
    "one member only": lambda m: m.update(members=m["members"][:1]),
    "no members": _top(members=[]),
    "members gone": _without("members"),
    "all that is new gone": _without("members", "combiner", "temperature"),
    "rule gone": _without("combiner"),
    "rule null": _top(combiner=None),
    "temperature gone": _without("temperature"),
    "temperature 0": _top(temperature=0),
    "temperature below 0": _top(temperature=-1.0),
    "temperature NaN": _top(temperature=float("nan")),
    "temperature infinite": _top(temperature=float("inf")),
    "temperature in words": _top(temperature="warm"),
    "format 1": _top(format=1),
    "single input": lambda m: m.update(input=m["members"][0]["input"]),
    "members as names": _top(members=["member-1.onnx", "member-2.onnx", "member-3.onnx"]),
    "two graphs of one name": _member(1, graph="member-1.onnx"),
    "two members of one name": _member(1, name="reader 0"),
    "manifest as graph": _member(1, graph="manifest.json"),
    "kind of input": _member(1, input={**_spec().to_json(), "kind": "members"}),
    "size of input": _member(1, input={**_spec().to_json(), "size": 0}),
    "unknown filter": _member(1, input={**_spec().to_json(), "filters": ["emboss"]}),
    "member without input": lambda m: m["members"][1].pop("input"),
    "unknown rule": _top(combiner={"rule": "dictator", "weights": [], "matrix": [], "bias": []}),
    "weights for two": _top(combiner={"rule": "weighted", "weights": [0.5, 0.5], "matrix": [], "bias": []}),
    "weights beyond 1": _top(combiner={"rule": "weighted", "weights": [1.0, 1.0, 1.0], "matrix": [], "bias": []}),
    "matrix for two": _top(combiner={**_STACKED, "matrix": [[0.0] * 7] * 14}),
    "matrix for fewer classes": _top(
        combiner={"rule": "stacked", "weights": [], "matrix": [[0.0] * 3] * 21, "bias": [0.0] * 3}
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_manifest_that_lies_is_refused_even_with_right_checksums(lying, lie) -> None:
    with pytest.raises(BundleError, match="not of the form") as raised:
        Bundle.load(lying(LIES[lie]))
    assert raised.value.received
    assert raised.value.todo


def test_the_truth_is_not_refused(lying) -> None:
    assert Bundle.load(lying(_top(combiner=_STACKED))).members == ("reader 0", "reader 1", "reader 2")


@pytest.mark.parametrize(
    "name", ["member-9.onnx", "../member-1.onnx", "/etc/passwd", "", ".", "..", "a\0b", "folder/x"]
)
def test_a_graph_that_is_not_in_the_folder_is_refused(lying, name) -> None:
    with pytest.raises(BundleError, match="not in the bundle"):
        Bundle.load(lying(_member(2, graph=name)))


def test_a_file_that_is_no_graph_is_no_member(lying, adversaries) -> None:
    folder = lying(_member(2, graph="training_cells.npz"))
    (folder / "member-3.onnx").unlink()
    _resum(folder)
    with pytest.raises(DataError, match="no engine can read"):
        Bundle.load(folder).predict(adversaries.cells[0].path)


def test_members_with_another_number_of_classes_are_refused(lying, adversaries) -> None:
    def fewer(manifest) -> None:
        manifest["classes"] = list(CLASSES[:6])

    with pytest.raises(BundleError, match="probability for each of its classes"):
        Bundle.load(lying(fewer)).predict(adversaries.cells[0].path)


@pytest.mark.parametrize("name", ["member-1.onnx", "member-3.onnx", "manifest.json"])
@pytest.mark.parametrize("how", ["changed", "missing", "swapped"])
def test_tampering_with_a_member_is_found(readers, tmp_path, name, how) -> None:
    folder = Path(shutil.copytree(readers.folder, tmp_path / "bundle"))
    path = folder / name
    if how == "changed":
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
    elif how == "swapped":
        path.write_bytes((folder / "member-2.onnx").read_bytes())
    else:
        path.unlink()
    with pytest.raises(BundleError):
        Bundle.load(folder)


# ---- the extractor


@pytest.fixture(scope="module")
def mixed(readers: Bundle, tmp_path_factory) -> Bundle:
    """Readers of two fits of the picture, and a measuring member of a constant opinion between them."""
    folder = tmp_path_factory.mktemp("mixed") / "bundle"
    constant = np.array([0.7, 0.05, 0.05, 0.05, 0.05, 0.05, 0.05])
    specs = (
        MemberSpec("first", "member-1.onnx", _spec(), "float32"),
        MemberSpec("measuring", "member-2.onnx", _spec("measurements"), "float32"),
        MemberSpec("second", "member-3.onnx", _spec(), "float32"),
        MemberSpec("padded", "member-4.onnx", _spec(fit="pad"), "float32"),
    )
    graphs = [_reading_graph(0, 7), _constant_graph(constant), _reading_graph(1, 7), _reading_graph(2, 7)]
    return save_bundle(folder, replace(readers.manifest, members=specs), graphs)


def test_members_that_see_the_same_share_one_preparation(mixed, tmp_path, monkeypatch) -> None:
    calls: list[InputSpec] = []
    prepare = inference.GraphExtractor.prepare

    def counted(self, image):
        calls.append(self.spec)
        return prepare(self, image)

    monkeypatch.setattr(inference.GraphExtractor, "prepare", counted)
    path = _picture(tmp_path / "cell.png", np.arange(21).reshape(3, 7) * 10)
    (p,) = mixed.stream([path], cache=False)
    assert calls == [_spec(), _spec("measurements"), _spec(fit="pad")]
    logits = SHARPNESS * np.arange(21).reshape(3, 7) * 10
    expected = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected /= expected.sum(axis=1, keepdims=True)
    found = {v.member: v.probabilities for v in p.votes}
    np.testing.assert_allclose(found["first"], expected[0], atol=1e-6)
    np.testing.assert_allclose(found["second"], expected[1], atol=1e-6)
    np.testing.assert_allclose(found["padded"], expected[2], atol=1e-6)
    assert found["measuring"][0] == pytest.approx(0.7, abs=1e-6)


def test_an_extractor_runs_rows_that_another_one_prepared(mixed, adversaries) -> None:
    # Nothing about a row's form is remembered from preparing; it follows from the members' inputs.
    from cervicyte.images import decoding

    rows = np.stack([mixed.extractor().prepare(decoding.load(p)) for p in adversaries.paths[:5]])
    votes = mixed.extractor().run(rows)
    assert votes.shape == (5, 28)
    np.testing.assert_allclose(votes.reshape(5, 4, 7).sum(axis=2), 1, atol=1e-5)


def test_rows_of_several_threads_are_those_of_one(mixed, adversaries) -> None:
    from cervicyte.images import decoding

    extractor = mixed.extractor()
    pictures = [decoding.load(p) for p in adversaries.paths]
    expected = extractor.run(np.stack([extractor.prepare(p) for p in pictures]))
    barrier = threading.Barrier(4)

    def work(turn: int) -> np.ndarray:
        barrier.wait()
        rows = np.stack([extractor.prepare(p) for p in pictures[turn::4]])
        return extractor.run(rows)

    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(work, range(4)))
    for turn, votes in enumerate(found):
        np.testing.assert_allclose(votes, expected[turn::4], atol=1e-6)


def test_one_unreadable_picture_stops_nothing(mixed, adversaries, tmp_path) -> None:
    bad = tmp_path / "bad.png"
    bad.write_bytes(b"")
    paths = [*adversaries.paths[:3], str(bad), str(tmp_path / "gone.png"), *adversaries.paths[3:6]]
    found = list(mixed.stream(paths, cache=False))
    assert [p.path for p in found] == paths
    assert [bool(p.error) for p in found] == [False] * 3 + [True] * 2 + [False] * 3
    assert all(len(p.votes) == (0 if p.error else 4) for p in found)
    assert [p.disagreement is None for p in found] == [bool(p.error) for p in found]


def test_votes_are_kept_by_content_and_by_every_member(readers, mixed, tmp_path, monkeypatch) -> None:
    calls = []
    run = inference.EnsembleExtractor.run

    def counted(self, batch):
        calls.append(len(batch))
        return run(self, batch)

    monkeypatch.setattr(inference.EnsembleExtractor, "run", counted)
    path = _picture(tmp_path / "cell.png", np.random.default_rng(11).integers(0, 256, (3, 7)))
    copy = Path(shutil.copy(path, tmp_path / "copy.png"))
    (first,) = mixed.stream([path])
    (second,) = mixed.stream([copy])
    assert sum(calls) == 1
    assert replace(second, path="") == replace(first, path="")
    # Another rule reads the same votes; another member does not.
    (other,) = Bundle(mixed.folder, replace(mixed.manifest, combiner=Combiner("vote"))).stream([path])
    assert sum(calls) == 1
    assert other.votes == first.votes
    assert other.probabilities != first.probabilities
    keys = {mixed.extractor().key, readers.extractor().key}
    for i in range(4):
        members = list(mixed.manifest.members)
        members[i] = replace(members[i], input=replace(members[i].input, filters=("median",)))
        keys.add(Bundle(mixed.folder, replace(mixed.manifest, members=tuple(members))).extractor().key)
    members = mixed.manifest.members
    keys.add(Bundle(mixed.folder, replace(mixed.manifest, members=members[::-1])).extractor().key)
    assert len(keys) == 7


# ---- compress, evaluate, gate


def test_compress_refuses_an_ensemble(readers, adversaries, tmp_path, monkeypatch, capsys) -> None:
    with pytest.raises(UsageError, match="single network"):
        compress(readers, adversaries.paths, tmp_path / "small")
    args = ("compress", readers.folder, adversaries.paths[0], "--out", tmp_path / "small")
    code, _, said = inside(monkeypatch, capsys, *args)
    assert code == 2
    assert three_parts(said)
    assert not (tmp_path / "small").exists()


def test_an_ensemble_is_tested_on_other_slides_and_refuses_its_own(runs, some, tmp_path) -> None:
    strangers = synthetic.generate(tmp_path / "cells", n_per_class=3, seed=42, size=96)
    bundle = Bundle.load(runs["weighted"].folder)
    strangers = strangers.subset(np.isin(strangers.labels.astype(str), bundle.classes))
    test = judge_bundle(bundle, strangers)
    found = bundle.predict(strangers.paths)
    p = test.evaluation.predictions
    good = p.quality == ""
    assert good.mean() > 0.5
    answered = found[good]
    np.testing.assert_allclose(
        answered[[f"p_{c}" for c in bundle.classes]].to_numpy(), p.probabilities[good], atol=1e-6
    )
    np.testing.assert_array_equal(found["uncertain"].to_numpy(bool), p.uncertain)
    np.testing.assert_array_equal(answered["above_operating_point"].to_numpy(bool), p.called_abnormal[good])
    assert test.evaluation.facts["Model SHA-256"] == bundle.graph_sha256
    with pytest.raises(LeakageError):
        evaluate(bundle, some, tmp_path / "leak")
    assert not (tmp_path / "leak").exists()
    assert training_cells(some)["digests"].tolist() == _stored(bundle, "digests")


def _stored(bundle: Bundle, name: str) -> list:
    with np.load(bundle.folder / "training_cells.npz", allow_pickle=False) as kept:
        return kept[name].tolist()


# ---- stand-ins


@pytest.fixture
def no_network(monkeypatch, tmp_path) -> list:
    """Every attempt to reach another machine fails, and is noted."""
    tried: list = []

    def refused(*args, **_):
        tried.append(args)
        raise OSError("there is no network here")

    monkeypatch.delenv("CERVICYTE_WEIGHTS", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras"))
    monkeypatch.setattr(socket.socket, "connect", refused)
    monkeypatch.setattr(socket, "getaddrinfo", refused)
    return tried


def test_a_stand_in_takes_the_place_of_absent_weights_and_all_outputs_say_so(some, tmp_path, no_network) -> None:
    absent = Linear(name="six", backbone="Xception", stand_in=Linear(name="measured instead", filters=("median",)))
    recipe = Recipe(name="with stand-in", members=(MEMBERS[0], absent))
    run = train(some, tmp_path / "run", recipe, folds=2)
    assert no_network == []
    assert run.bundle.members == ("plain", "measured instead")
    for said in (
        read(run.folder / "metrics.json")["warnings"],
        read(run.folder / "bundle" / "manifest.json")["training"]["warnings"],
    ):
        assert any(w.startswith("STAND-IN") and "Xception" in w and "measured instead" in w for w in said), said
    page = (run.folder / "report.html").read_text(encoding="utf-8")
    assert "STAND-IN" in page
    assert "Member 2: measured instead" in page


def test_without_a_stand_in_the_missing_file_is_named(some, tmp_path, no_network, monkeypatch) -> None:
    (tmp_path / "weights").mkdir()
    recipe = Recipe(name="without", members=(MEMBERS[0], Linear(name="six", backbone="Xception")))
    with pytest.raises(MissingError) as raised:
        train(some, tmp_path / "run", recipe, folds=2, weights=str(tmp_path / "weights"))
    assert "xception" in str(raised.value).lower()
    assert ".h5" in str(raised.value)
    assert no_network == []
    assert not (tmp_path / "run" / "bundle").exists()


def test_a_stand_in_waits_where_the_weights_or_a_graph_are_at_hand(tmp_path) -> None:
    from cervicyte.networks.registry import get_backbone

    (tmp_path / get_backbone("Xception").keras_file).write_bytes(b"weights")
    (tmp_path / "own.onnx").write_bytes(b"graph")
    parts = (
        Linear(name="network", backbone="Xception", stand_in=Linear(name="instead")),
        Linear(name="measured", filters=("median",), stand_in=Linear(name="b")),
        Linear(
            name="mine",
            backbone=f"onnx:{tmp_path / 'own.onnx'}",
            preprocess="tf",
            stand_in=Linear(name="c"),
        ),
        Linear(name="absent", backbone="ResNet101", stand_in=Linear(name="d")),
        Linear(
            name="gone",
            backbone="onnx:gone.onnx",
            preprocess="tf",
            stand_in=Linear(name="e"),
        ),
    )
    found, said = parts_at_hand(Recipe(name="x", members=parts), str(tmp_path))
    assert [p.name for p in found] == ["network", "measured", "mine", "d", "e"]
    assert len(said) == 2


# ---- the protocol of system A


@pytest.fixture(scope="module")
def few_files(some, tmp_path_factory) -> Path:
    """The folder of the 36 cells alone, with their groups."""
    folder = tmp_path_factory.mktemp("few") / "cells"
    for cell in some.cells:
        (folder / cell.label).mkdir(parents=True, exist_ok=True)
        shutil.copy(cell.path, folder / cell.label)
    rows = "".join(f"{c.label}/{Path(c.path).name},{c.group}\n" for c in some.cells)
    (folder / "groups.csv").write_text(f"path,group\n{rows}")
    return folder


def test_as_published_stands_beside_the_honest_number_and_is_marked(
    some, few_files, tmp_path, monkeypatch, capsys
) -> None:
    recipe = tmp_path / "published.toml"
    recipe.write_text(
        'copies = 2\npublished_test = 0.18\npublished_validation = 0.12\nrule = "stacked"\n'
        '[[members]]\nname = "plain"\nC = 1.0\n[[members]]\nfilters = ["median"]\nC = 1.0\n'
    )
    args = ("train", few_files, "--recipe", recipe, "--protocol", "as-published")
    code, out, said = inside(monkeypatch, capsys, *args, "--out", tmp_path / "run")
    assert code == 0, said
    m = read(tmp_path / "run" / "metrics.json")
    assert m["protocol"] == "as-published"
    assert any("LEAKING" in w for w in m["warnings"])
    assert list(m["compared"]) == ["grouped"]
    assert not any("LEAKING" in w for w in m["compared"]["grouped"]["warnings"])
    n = len(some) * 3
    folds = read(tmp_path / "run" / "folds.json")["protocols"]["as-published"]
    assert len(folds["cells"]) == n
    (fold,) = folds["folds"]
    assert sorted(fold["train"] + fold["test"]) == list(range(n))
    assert len(fold["test"]) / n == pytest.approx(0.18, abs=1 / n)
    page = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert "LEAKING" in page
    assert "grouped" in page
    assert "groups kept apart" in page
    assert "LEAKING" in out


@pytest.mark.parametrize(
    ("options", "compare"),
    [
        (("as-published",), None),
        (("as-published", "--compare"), ("grouped",)),
        (("as-published", "--no-compare"), ()),
        (("grouped",), None),
        (("grouped", "--compare"), ("random",)),
        (("random", "--compare"), ("grouped",)),
    ],
)
def test_what_stands_beside_a_protocol(few_files, tmp_path, monkeypatch, capsys, options, compare) -> None:
    asked = {}

    def stop(*_, **given):
        asked.update(given)
        raise UsageError("that will do")

    monkeypatch.setattr(training, "train", stop)
    inside(monkeypatch, capsys, "train", few_files, "--out", tmp_path / "run", "--protocol", *options)
    assert asked["compare"] == compare
    assert asked["protocol"] == options[0]


def test_no_compare_leaves_the_honest_number_out(some, tmp_path) -> None:
    recipe = parse_recipe("one", {"C": 1.0, "copies": 1, "published_test": 0.18, "published_validation": 0.12})
    plan, judgement = judged(some, recipe, protocol="as-published", compare=())
    assert [e.metrics["protocol"] for e in judgement.evaluations] == ["as-published"]
    bundle = bundling.save(tmp_path / "bundle", plan, judgement)
    assert any("LEAKING" in w for w in bundle.manifest.training["warnings"])


def test_the_validation_share_of_the_published_split_stops_and_calibrates(some) -> None:
    from cervicyte.data import splits
    from cervicyte.training import fitting

    recipe = parse_recipe("x", {"published_test": 0.18, "published_validation": 0.12})
    codes = np.tile(np.arange(5), 200)
    outer = splits.random_split(codes, recipe.published_test, 0, "as-published")
    rest = codes[outer.train[0]]
    table = SimpleNamespace(groups=np.arange(len(rest)).astype(str))
    (held,) = fitting._inner(table, rest, recipe, 0, "as-published").test
    shares = [len(outer.test[0]), len(held), len(rest) - len(held)]
    np.testing.assert_allclose(np.array(shares) / len(codes), [0.18, 0.12, 0.70], atol=0.002)
    assert len(fitting._inner(table, rest, recipe, 0, "grouped")) == recipe.inner_folds
