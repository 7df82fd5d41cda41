"""Explanations add up to the answer, show the place that made it, and are about the model and not the picture."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings as hypothesis_settings, strategies as st
from PIL import Image

from cervicyte.bundle.folder import Bundle, InputSpec, Manifest, MemberSpec, save_bundle
from cervicyte.bundle.graph import measurements_graph, network_graph
from cervicyte.data.labels import BINARY, HERLEV
from cervicyte.decision.calibration import DecisionLimits, softmax
from cervicyte.decision.ensemble import Combiner
from cervicyte.decision.linear import LinearHead
from cervicyte.errors import BundleError, CervicyteError, ImageError, MissingError, StorageError, UsageError
from cervicyte.explain.drawing import limit
from cervicyte.explain.evidence import Target, find_target, member_weights, upsample
from cervicyte.explain.explainer import Explainer, Explanation, explain, overlay, write_png
from cervicyte.explain.faithfulness import agreement, correlation, deletion, filled, randomised, strongest
from cervicyte.images import decoding, morphology
from cervicyte.networks.orientations import averaged, oriented
from support.commands import inside, three_parts

SIDE, PLACES, CHANNELS = 32, 4, 6
LIMITS = DecisionLimits(
    threshold=0.5, sensitivity=0.95, normal_below=0.5, abnormal_from=0.5, confidence_from=0.0, max_risk=0.05
)
IMAGE = InputSpec("image", size=SIDE)
MEASURED = InputSpec("measurements", measurements=morphology.NAMES)
D = len(morphology.NAMES)


# ---- tiny networks


def _network(path: Path, kernels: np.ndarray) -> Path:
    """A backbone of one convolution over patches of 8 pixels, then ReLU: uint8 pixels to features and their map."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    patch = SIDE // PLACES
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernels"], ["found"], strides=[patch, patch]),
        helper.make_node("Relu", ["found"], ["positive"]),
        helper.make_node("Transpose", ["positive"], ["feature_map"], perm=[0, 2, 3, 1]),
        helper.make_node("ReduceMean", ["feature_map", "places"], ["features"], keepdims=0),
    ]
    d = len(kernels)
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", SIDE, SIDE, 3])],
        [
            helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", d]),
            helper.make_tensor_value_info("feature_map", TensorProto.FLOAT, ["n", PLACES, PLACES, d]),
        ],
        [
            numpy_helper.from_array(kernels.astype(np.float32), "kernels"),
            numpy_helper.from_array(np.array([1, 2], dtype=np.int64), "places"),
        ],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), str(path))
    return path


def _random_network(path: Path, seed: int = 0) -> Path:
    patch = SIDE // PLACES
    return _network(path, np.random.default_rng(seed).normal(size=(CHANNELS, 3, patch, patch)) / 300)


def _colour_network(path: Path) -> Path:
    """Features are how red, green and blue a place is beyond the other colours, about 0 to 1."""
    patch = SIDE // PLACES
    kernels = np.full((3, 3, patch, patch), -0.5)
    kernels[np.arange(3), np.arange(3)] = 1
    return _network(path, kernels / 255 / patch**2)


def _head(d: int, k: int, seed: int = 1, scale: float = 1.0) -> LinearHead:
    random = np.random.default_rng(seed)
    return LinearHead(random.normal(size=(d, k)) * scale, random.normal(size=k), 1.0, random.normal(size=d))


def _bundle(folder: Path, *graphs: bytes, specs: tuple[InputSpec, ...] = (), **changes) -> Bundle:
    specs = specs or (IMAGE,) * len(graphs)
    system = changes.pop("system", BINARY)
    values = {"name": "tiny", "system": system, "classes": system.classes, "limits": LIMITS, "precision": "float32"}
    if len(graphs) == 1:
        return save_bundle(folder, Manifest(**{**values, "input": specs[0], **changes}), graphs[0])
    members = tuple(MemberSpec(f"m{i}", f"member-{i}.onnx", spec, "float32") for i, spec in enumerate(specs))
    values |= {"input": InputSpec("members"), "members": members, "combiner": Combiner("mean")}
    return save_bundle(folder, Manifest(**{**values, **changes}), graphs)


@pytest.fixture(scope="module")
def colours(tmp_path_factory) -> Bundle:
    """Red speaks for abnormal, blue against it, and nothing else says anything."""
    folder = tmp_path_factory.mktemp("colours")
    weights = np.array([[0, 40.0], [0, 0], [40.0, 0]])
    graph = network_graph(_colour_network(folder / "net.onnx"), LinearHead(weights, np.zeros(2), 1.0), 1.0)
    return _bundle(folder / "bundle", graph)


@pytest.fixture(scope="module")
def seven(tmp_path_factory) -> Bundle:
    """Seven classes on a random network that is not the same turned."""
    folder = tmp_path_factory.mktemp("seven")
    graph = network_graph(_random_network(folder / "net.onnx"), _head(CHANNELS, 7), 0.7)
    return _bundle(folder / "bundle", graph, system=HERLEV)


@pytest.fixture(scope="module")
def measured(tmp_path_factory) -> Bundle:
    head = _head(D, 2, scale=0.02)
    values = np.abs(np.random.default_rng(3).normal(size=D))
    graph = measurements_graph(replace(head, centre=values), 1.3)
    return _bundle(tmp_path_factory.mktemp("measured") / "bundle", graph, specs=(MEASURED,))


def _noise(height: int = SIDE, width: int = SIDE, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def _planted(red=(slice(0, 8), slice(16, 24)), blue=(slice(24, 32), slice(0, 8))) -> np.ndarray:
    picture = np.full((SIDE, SIDE, 3), 128, dtype=np.uint8)
    picture[red] = (255, 0, 0)
    picture[blue] = (0, 0, 255)
    return picture


def _float(bundle: Bundle, image: object, target: str | None = None) -> Explanation:
    return explain(bundle, image, target, precision="float32")


def _sums(found: Explanation) -> None:
    """What must hold of every explanation."""
    height, width = found.image.shape[:2]
    assert np.isfinite(found.log_odds)
    assert sum(abs(m.weight) for m in found.members) == pytest.approx(1)
    assert all(np.isfinite(v) for v in found.measurements.values())
    assert set(found.measurements) == set(morphology.NAMES)
    for member in found.members:
        if member.grid is not None:
            assert member.grid.dtype == np.float32
            assert member.grid.mean() == pytest.approx(member.log_odds, abs=1e-3)
        if member.contributions is not None:
            total = sum(member.contributions.values()) + member.baseline
            assert total == pytest.approx(member.log_odds, abs=1e-6)
    if found.map is not None:
        assert found.map.shape == (height, width)
        assert found.map.dtype == np.float32
        assert np.isfinite(found.map).all()


# ---- the numbers


@pytest.mark.parametrize("target", [None, "abnormal", *HERLEV.classes])
def test_the_mean_of_a_map_is_the_log_odds_of_the_answer(seven, target) -> None:
    found = _float(seven, _noise(), target)
    _sums(found)
    p = np.array(found.prediction.probabilities)
    inside = seven.manifest.abnormal_classes if found.target == "abnormal" else np.array(HERLEV.classes) == found.target
    expected = np.log(p[inside].sum() / p[~inside].sum())
    assert found.log_odds == pytest.approx(expected, abs=1e-4)
    assert found.map.mean() == pytest.approx(expected, abs=1e-3)
    assert found.probability == pytest.approx(p[inside].sum(), abs=1e-6)
    assert found.target == (target or "abnormal")
    assert np.ptp(found.map) > 0.01


def test_with_two_classes_the_map_is_the_difference_of_their_maps(colours) -> None:
    from cervicyte.networks.runtime import Engine

    picture = _noise(seed=5)
    activation = Engine(colours.folder / "model.onnx", ("activation_map",), precision="float32").run(picture[None])
    z = activation["activation_map"][0]
    found = _float(colours, picture)
    np.testing.assert_allclose(found.members[0].grid, z[..., 1] - z[..., 0], atol=1e-3)
    against = _float(colours, picture, "normal")
    np.testing.assert_allclose(against.map, -found.map, atol=1e-4)


def test_the_explained_prediction_is_that_of_predict(seven, tmp_path) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(_noise(40, 60)).save(path)
    found = _float(seven, path)
    row = seven.predict([path], precision="float32", cache=False).iloc[0]
    assert found.prediction.label == row["label"]
    assert found.prediction.p_abnormal == pytest.approx(row["p_abnormal"], abs=1e-6)
    assert found.prediction.path == str(path)


@hypothesis_settings(max_examples=50, deadline=None)
@given(
    logits=st.lists(st.floats(-8, 8), min_size=2, max_size=7),
    data=st.data(),
)
def test_class_weights_are_the_derivative_of_the_log_odds(logits, data) -> None:
    z = np.array(logits)
    mask = np.zeros(len(z), dtype=bool)
    mask[data.draw(st.lists(st.integers(0, len(z) - 1), min_size=1, max_size=len(z) - 1, unique=True))] = True
    target = Target("x", mask)
    step = 1e-5 * np.eye(len(z))
    numeric = [
        (target.log_odds(softmax((z + s)[None])[0]) - target.log_odds(softmax((z - s)[None])[0])) / 2e-5 for s in step
    ]
    np.testing.assert_allclose(target.weights(z), numeric, atol=1e-4)


def test_log_odds_are_finite_for_a_certain_model() -> None:
    target = Target("x", np.array([True, False]))
    assert np.isfinite([target.log_odds(np.array(p)) for p in ([1.0, 0.0], [0.0, 1.0])]).all()
    assert np.isfinite(target.weights(np.array([1e4, -1e4]))).all()


def test_a_planted_patch_is_found_and_its_opposite_too(colours) -> None:
    found = _float(colours, _planted())
    _sums(found)
    y, x = np.unravel_index(found.map.argmax(), found.map.shape)
    assert y < 8
    assert 16 <= x < 24
    assert found.map[y, x] > 10
    y, x = np.unravel_index(found.map.argmin(), found.map.shape)
    assert y >= 24
    assert x < 8
    assert found.map[y, x] < -10
    assert abs(found.map[16:20, 28:]).max() < 0.5  # grey says nothing


@pytest.mark.parametrize(("height", "width"), [(32, 64), (64, 32), (20, 90)])
@pytest.mark.parametrize("fit", decoding.FITS)
def test_maps_lie_where_the_picture_lies_whatever_its_shape(colours, tmp_path, height, width, fit) -> None:
    graph = (colours.folder / "model.onnx").read_bytes()
    bundle = _bundle(tmp_path / "b", graph, specs=(replace(IMAGE, fit=fit),))
    picture = np.full((height, width, 3), 128, dtype=np.uint8)
    picture[:, width // 2 :][: height // 2] = (255, 0, 0)
    found = _float(bundle, picture)
    _sums(found)
    red = np.zeros((height, width), dtype=bool)
    red[: height // 2, width // 2 :] = True
    assert found.map[red].mean() > found.map[~red].mean() + 3
    assert red[np.unravel_index(found.map.argmax(), red.shape)]


def test_upsampling_keeps_the_mean_and_makes_no_values() -> None:
    grid = np.random.default_rng(0).normal(size=(7, 5))
    large = upsample(grid, 70, 100, "stretch")
    assert large.mean() == pytest.approx(grid.mean(), abs=1e-5)
    assert grid.min() <= large.min() <= large.max() <= grid.max()
    np.testing.assert_allclose(upsample(np.full((7, 7), 3.0), 31, 57, "pad"), 3.0, rtol=1e-6)
    np.testing.assert_allclose(upsample(grid.T, 100, 70, "stretch"), large.T, atol=1e-5)


# ---- orientations


def test_a_turned_image_gives_the_turned_map_where_orientations_are_averaged(tmp_path) -> None:
    plain = _random_network(tmp_path / "net.onnx")
    (tmp_path / "net8.onnx").write_bytes(averaged(plain, 8))
    one = _bundle(tmp_path / "one", network_graph(plain, _head(CHANNELS, 2), 1.0))
    eight = _bundle(tmp_path / "eight", network_graph(tmp_path / "net8.onnx", _head(CHANNELS, 2), 1.0))
    picture = _noise(seed=9)
    upright = _float(eight, picture)
    _sums(upright)
    differs = 0.0
    for k in range(8):
        turned = _float(eight, oriented(picture, k))
        np.testing.assert_allclose(turned.map, oriented(upright.map[..., None], k)[..., 0], atol=1e-3)
        assert turned.log_odds == pytest.approx(upright.log_odds, abs=1e-4)
        differs = max(differs, abs(_float(one, oriented(picture, k)).log_odds - _float(one, picture).log_odds))
    assert differs > 0.05  # the network alone does not have this property


# ---- ensembles


def _trio(folder: Path, combiner: Combiner) -> Bundle:
    nets = [_random_network(folder / f"net{i}.onnx", i) for i in range(2)]
    graphs = [network_graph(net, _head(CHANNELS, 2, seed=i), 1.0) for i, net in enumerate(nets)]
    graphs.append(measurements_graph(_head(D, 2, scale=0.01), 1.0))
    specs = (IMAGE, replace(IMAGE, fit="pad"), MEASURED)
    return _bundle(folder / "bundle", *graphs, specs=specs, combiner=combiner)


@pytest.mark.parametrize("rule", ["mean", "vote", "fuzzy-rank"])
def test_rules_that_treat_members_alike_weigh_their_maps_alike(tmp_path, rule) -> None:
    found = _float(_trio(tmp_path, Combiner(rule)), _noise(40, 70))
    _sums(found)
    assert [m.weight for m in found.members] == pytest.approx([1 / 3] * 3)
    maps = found.member_maps
    assert set(maps) == {"m0", "m1"}
    assert found.members[2].grid is None
    assert set(found.contributions) == set(morphology.NAMES)
    np.testing.assert_allclose(found.map, (maps["m0"] + maps["m1"]) / 2, atol=1e-5)


def test_weights_of_a_weighted_ensemble_are_those_of_the_maps(tmp_path) -> None:
    found = _float(_trio(tmp_path, Combiner("weighted", weights=(0.6, 0.2, 0.2))), _noise())
    maps = found.member_maps
    np.testing.assert_allclose(found.map, 0.75 * maps["m0"] + 0.25 * maps["m1"], atol=1e-5)
    p = np.array(found.prediction.probabilities)
    assert found.log_odds == pytest.approx(np.log(p[1] / p[0]), abs=1e-6)


def test_members_without_any_weight_leave_an_empty_map(tmp_path) -> None:
    found = _float(_trio(tmp_path, Combiner("weighted", weights=(0.0, 0.0, 1.0))), _noise())
    assert not found.map.any()
    write_png(found, tmp_path / "x.png")


def test_stacking_weighs_members_by_what_they_move() -> None:
    random = np.random.default_rng(2)
    combiner = Combiner("stacked", matrix=tuple(map(tuple, random.normal(size=(6, 3)))), bias=(0.1, 0.0, -0.1))
    votes = random.dirichlet(np.ones(3), size=2)
    target = Target("x", np.array([False, True, True]))

    def moved(member: int, step: float) -> float:
        p = votes.copy()
        inside = p[member, target.mask].sum()
        new = 1 / (1 + np.exp(-(np.log(inside / (1 - inside)) + step)))
        p[member] *= np.where(target.mask, new / inside, (1 - new) / (1 - inside))
        return target.log_odds(combiner.combine(p[None])[0])

    slopes = np.array([(moved(m, 1e-4) - moved(m, -1e-4)) / 2e-4 for m in range(2)])
    np.testing.assert_allclose(member_weights(combiner, votes, target), slopes / np.abs(slopes).sum(), atol=1e-4)


# ---- measurements


def test_contributions_of_measurements_sum_to_the_difference_of_the_logits(measured, demo_cells) -> None:
    head = _head(D, 2, scale=0.02)
    centre = np.abs(np.random.default_rng(3).normal(size=D))
    for cell in demo_cells.cells[::30]:
        found = _float(measured, cell.path)
        _sums(found)
        assert found.map is None
        x = morphology.measure(decoding.load(cell.path)).astype(np.float64)
        slope = (head.weights[:, 1] - head.weights[:, 0]) / 1.3
        expected = dict(zip(morphology.NAMES, slope * (x - centre), strict=True))
        assert found.contributions == pytest.approx(expected, abs=1e-4)
        z = (head.bias + x @ head.weights) / 1.3
        assert sum(expected.values()) + found.baseline == pytest.approx(z[1] - z[0], abs=1e-3)
        average = (head.bias + centre @ head.weights) / 1.3
        assert found.baseline == pytest.approx(average[1] - average[0], abs=1e-3)
        sizes = [abs(v) for v in found.contributions.values()]
        assert sizes == sorted(sizes, reverse=True)


def test_training_leaves_the_average_cell_in_the_graph(trained, demo_cells) -> None:
    import onnx
    from onnx import numpy_helper

    bundle = Bundle.load(trained.bundle)
    graph = onnx.load(str(bundle.folder / "model.onnx")).graph
    centre = next(numpy_helper.to_array(row) for row in graph.initializer if row.name == "head_centre")
    mean = np.mean([morphology.measure(decoding.load(c.path)) for c in demo_cells.cells], axis=0)
    np.testing.assert_allclose(centre, mean, rtol=1e-3, atol=1e-4)
    found = explain(bundle, demo_cells.cells[0].path)
    _sums(found)
    assert found.target == "abnormal"


def test_a_graph_without_a_linear_head_is_refused(tmp_path) -> None:
    import onnx

    model = onnx.load_from_string(measurements_graph(_head(D, 2), 1.0))
    for row in model.graph.initializer:
        row.name = {"head_bias": "other"}.get(row.name, row.name)
    for node in model.graph.node:
        node.input[:] = [{"head_bias": "other"}.get(name, name) for name in node.input]
    bundle = _bundle(tmp_path / "b", model.SerializeToString(), specs=(MEASURED,))
    with pytest.raises(BundleError, match="no linear head"):
        Explainer(bundle)


# ---- what cannot be explained


def _edited(graph: bytes, edit) -> bytes:
    import onnx

    model = onnx.load_from_string(graph)
    edit(model.graph)
    return bytes(model.SerializeToString())


def test_a_network_without_a_map_says_so(seven, tmp_path) -> None:
    def blind(graph) -> None:
        del graph.output[1]

    bundle = _bundle(tmp_path / "b", _edited((seven.folder / "model.onnx").read_bytes(), blind), system=HERLEV)
    with pytest.raises(UsageError, match="nothing to explain"):
        Explainer(bundle)


def test_a_map_of_another_answer_is_refused(seven, tmp_path) -> None:
    def lie(graph) -> None:
        node = next(n for n in graph.node if "activation_map" in n.output)
        node.op_type = "Neg"
        del node.input[1]

    bundle = _bundle(tmp_path / "b", _edited((seven.folder / "model.onnx").read_bytes(), lie), system=HERLEV)
    with pytest.raises(BundleError, match="does not explain its own answer"):
        _float(bundle, _noise())


@pytest.mark.parametrize("target", ["", "cat", "Abnormal", "normal columnar", 3])
def test_unknown_targets_are_answered_with_those_that_exist(seven, target) -> None:
    with pytest.raises(UsageError, match="no such class") as raised:
        _float(seven, _noise(), target)
    assert "normal_columnar" in raised.value.todo


def test_without_normal_and_abnormal_the_most_probable_class_is_explained() -> None:
    p = np.array([0.2, 0.5, 0.3])
    assert find_target(None, ("a", "b", "c"), None, p).name == "b"
    for abnormal in (None, np.zeros(3, bool), np.ones(3, bool)):
        with pytest.raises(UsageError):
            find_target("abnormal", ("a", "b", "c"), abnormal, p)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((4, 4), np.uint8),
        np.zeros((4, 4, 4), np.uint8),
        np.zeros((4, 4, 3), np.float32),
        np.zeros((0, 4, 3), np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        None,
        7,
        b"cell.png",
        [["x"]],
    ],
)
def test_what_is_no_picture_is_refused(seven, image) -> None:
    with pytest.raises(ImageError, match="not an image"):
        _float(seven, image)


@pytest.mark.parametrize("content", [b"", b"not an image", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_files_that_are_no_images_are_refused(seven, tmp_path, content) -> None:
    (tmp_path / "x.png").write_bytes(content)
    with pytest.raises(ImageError):
        _float(seven, tmp_path / "x.png")
    with pytest.raises(ImageError):
        _float(seven, tmp_path / "absent.png")


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3), (33, 7)])
@pytest.mark.parametrize("mode", ["L", "RGBA", "1"])
def test_tiny_grey_and_transparent_pictures_work(seven, measured, tmp_path, size, mode) -> None:
    path = tmp_path / "x.png"
    Image.fromarray(_noise(*size)).convert(mode).save(path)
    for bundle in (seven, measured):
        found = _float(bundle, path)
        _sums(found)
        assert overlay(found).shape == (*size, 3)
    if mode == "L":
        write_png(found, tmp_path / "out.png")
        assert Image.open(tmp_path / "out.png").size[0] > 500


def test_a_picture_without_a_verdict_is_not_explained(seven, demo_cells, tmp_path) -> None:
    from cervicyte.decision.quality import fit_quality
    from cervicyte.images.descriptors import describe

    pictures = [decoding.load(cell.path) for cell in demo_cells.cells]
    quality, _ = fit_quality(np.stack([describe(p) for p in pictures]), demo_cells.groups)
    graph = (seven.folder / "model.onnx").read_bytes()
    bundle = _bundle(tmp_path / "b", graph, system=HERLEV, quality=quality)
    found = _float(bundle, pictures[0])
    assert found.prediction.quality == "good"
    with pytest.raises(ImageError, match="no verdict") as raised:
        _float(bundle, np.full((64, 64, 3), 200, dtype=np.uint8))
    assert "blank" in raised.value.received


# ---- the picture


def test_an_overlay_is_red_for_and_blue_against_on_grey(colours) -> None:
    found = _float(colours, _planted())
    shown = overlay(found, 0.5).astype(int)
    assert shown.shape == found.image.shape
    red, blue = shown[3, 19], shown[28, 3]
    assert red[0] > red[2] + 40
    assert blue[2] > blue[0] + 40
    grey = overlay(found, 0.0)
    assert (grey == grey[..., :1]).all()
    stronger = overlay(found, 1.0).astype(int)
    assert stronger[3, 19][0] - stronger[3, 19][2] > red[0] - red[2]
    flipped = replace(found, map=-found.map)
    assert limit(flipped.map) == limit(found.map)
    assert overlay(flipped)[3, 19][2] > overlay(flipped)[3, 19][0]


def test_noise_is_not_blown_up_to_colours(colours) -> None:
    found = _float(colours, np.full((SIDE, SIDE, 3), 128, dtype=np.uint8))
    assert limit(found.map) == 1.0
    assert np.ptp(overlay(found).astype(int), axis=2).max() < 5


@pytest.mark.parametrize("opacity", [-0.1, 1.1, float("nan"), float("inf")])
def test_an_opacity_out_of_range_is_refused(colours, tmp_path, opacity) -> None:
    found = _float(colours, _planted())
    for make in (lambda: overlay(found, opacity), lambda: write_png(found, tmp_path / "x.png", opacity)):
        with pytest.raises(UsageError, match="opacity"):
            make()
    assert not list(tmp_path.iterdir())


def test_contours_are_drawn_where_there_is_no_map(measured, demo_cells) -> None:
    cell = demo_cells.cells[-1]
    found = _float(measured, cell.path)
    changed = (overlay(found) != found.image).any(axis=2)
    assert found.segmentation.nucleus.any()
    assert 0 < changed.mean() < 0.3


def test_figures_are_written_whole_or_not_at_all(colours, measured, tmp_path, demo_cells) -> None:
    for name, bundle in (("a", colours), ("b", measured), ("c", _trio(tmp_path, Combiner("mean")))):
        write_png(_float(bundle, demo_cells.cells[0].path), tmp_path / f"{name}.png")
        picture = decoding.load(tmp_path / f"{name}.png")
        assert picture.std() > 10
    found = _float(colours, demo_cells.cells[0].path)
    with pytest.raises(UsageError, match="PNG"):
        write_png(found, tmp_path / "x.jpg")
    with pytest.raises(UsageError, match="replace its image"):
        write_png(found, demo_cells.cells[0].path)
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(StorageError):
        write_png(found, tmp_path / "folder.png")


# ---- faithfulness


def test_deleting_what_is_marked_costs_more_than_as_much_elsewhere(colours) -> None:
    pictures = [
        _planted(red=(slice(8 * i, 8 * i + 8), slice(8, 16)), blue=(slice(0, 0), slice(0, 0))) for i in range(4)
    ]
    explainer = Explainer(colours, "float32")
    found = deletion(explainer, pictures, shares=(0.1, 0.2), draws=3)
    assert found.marked.shape == found.elsewhere.shape == found.central.shape == (4, 2)
    assert (found.marked[:, 1] > found.elsewhere[:, 1]).all()
    assert found.marked[:, 1].mean() > 1.5
    again = deletion(explainer, pictures, shares=(0.1, 0.2), draws=3)
    np.testing.assert_array_equal(found.elsewhere, again.elsewhere)
    assert (found.elsewhere != deletion(explainer, pictures, shares=(0.1, 0.2), draws=3, seed=1).elsewhere).any()


@hypothesis_settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(2, 30), st.floats(0.05, 0.9), st.integers(0, 99))
def test_what_is_deleted_is_gone_and_the_rest_stays(height, width, share, seed) -> None:
    picture, other = _noise(height, width, seed), _noise(height, width, seed + 100)
    mask = strongest(np.random.default_rng(seed).normal(size=(height, width)), share)
    assert mask.sum() == max(1, round(share * height * width))
    if mask.all():
        return
    one, two = filled(picture, mask), filled(np.where(mask[..., None], other, picture), mask)
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one[~mask], picture[~mask])


def test_a_shuffled_model_has_other_maps_and_the_same_numbers(seven, tmp_path) -> None:
    import onnx
    from onnx import numpy_helper

    pictures = [_noise(seed=i) for i in range(6)]
    trained = Explainer(seven, "float32")
    np.testing.assert_allclose(agreement(trained, trained, pictures), 1)
    for part in ("head", "network"):
        other = randomised(seven, tmp_path / part, part)
        assert agreement(trained, Explainer(other, "float32"), pictures).mean() < 0.7
        pairs = [onnx.load(str(b.folder / "model.onnx")).graph.initializer for b in (seven, other)]
        changed = set()
        for mine, theirs in zip(*map(list, pairs), strict=True):
            a, b = numpy_helper.to_array(mine), numpy_helper.to_array(theirs)
            np.testing.assert_array_equal(np.sort(a, axis=None), np.sort(b, axis=None))
            changed |= {mine.name} if (a != b).any() else set()
        assert changed == ({"head_weights"} if part == "head" else {"head_weights", "kernels"})
    with pytest.raises(UsageError, match="unknown part"):
        randomised(seven, tmp_path / "x", "tail")


def test_rank_correlation_of_maps() -> None:
    values = np.random.default_rng(0).normal(size=(9, 7))
    assert correlation(values, np.exp(values)) == pytest.approx(1)
    assert correlation(values, -values) == pytest.approx(-1)
    assert correlation(values, np.zeros((9, 7))) == 0


def test_measurements_have_nothing_to_delete(measured, seven) -> None:
    with pytest.raises(UsageError, match="only maps"):
        deletion(Explainer(measured), [_noise()])
    with pytest.raises(UsageError, match="only maps"):
        agreement(Explainer(measured), Explainer(measured), [_noise()])
    for wrong in ({"shares": (1.5,)}, {"shares": ()}, {"draws": 0}):
        with pytest.raises(UsageError, match="shares between"):
            deletion(Explainer(seven), [_noise()], **wrong)


# ---- the command


def test_the_command_draws_a_figure_and_says_the_verdict(trained, seven, tmp_path, monkeypatch, capsys) -> None:
    image = next(Path(trained.data).rglob("*.png"))
    for k, model in enumerate((trained.folder, seven.folder)):
        out = tmp_path / f"why {k}.png"
        code, said, err = inside(monkeypatch, capsys, "explain", image, "--model", model, "--out", out)
        assert code == 0, err
        assert "P(abnormal) 0." in said
        assert str(out) in err
        assert decoding.load(out).shape[1] > 500
    target = HERLEV.classes[2]
    code, said, _ = inside(monkeypatch, capsys, "explain", image, "--model", model, "--out", out, "--target", target)
    assert code == 0
    assert f"P({target})" in said


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"--target": "cat"}, UsageError),
        ({"--opacity": "2"}, UsageError),
        ({"--out": "why.jpg"}, UsageError),
        ({"--precision": "int3"}, UsageError),
        ({"--model": "nowhere"}, MissingError),
        ({"image": "nowhere.png"}, ImageError),
    ],
)
def test_the_command_says_what_is_wrong(
    seven, tmp_path, monkeypatch, capsys, change, kind: type[CervicyteError]
) -> None:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(_noise()).save("cell.png")
    options = {"image": "cell.png", "--model": seven.folder, "--out": "why.png", **change}
    image = options.pop("image")
    code, _, err = inside(monkeypatch, capsys, "explain", image, *(x for pair in options.items() for x in pair))
    assert code == kind.exit_code
    assert three_parts(err)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cell.png"]
