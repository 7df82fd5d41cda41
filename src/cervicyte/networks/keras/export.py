"""Keras network (or a user's ONNX file) -> one ONNX graph with the contract of `cervicyte.networks.onnx_graphs`.

Exports are kept in the cache folder, each beside a JSON that holds its parity check: Keras
and the engine on the same images. A network that fails the check is never used.
"""

from __future__ import annotations

import difflib
import hashlib
import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte import settings, shipped
from cervicyte.base import fingerprints
from cervicyte.base.files import atomic_write, sha256_file, write_json
from cervicyte.base.progress import say
from cervicyte.base.versions import version_of
from cervicyte.errors import DataError, UsageError
from cervicyte.networks import onnx_files, onnx_graphs
from cervicyte.networks.registry import Backbone, Weights, import_keras
from cervicyte.networks.runtime import Engine, has_bfloat16

#: Instead of a layer's name: the tensor on which the last two blocks (`Backbone.tail`) hang.
BEFORE_TAIL = "before-tail"

#: Raised when the exported graphs change, so that old files are not taken for new ones.
EXPORT_FORMAT = 3

#: Largest difference allowed between the original and the engine. float32: max |a - b| / max |a|.
PARITY_FLOAT32 = 1e-4
#: bfloat16 has 8 bits of mantissa, and the roundings of a hundred layers add up: |a - b| / |a|
#: in the Euclidean norm. Measured: 0.003 to 0.007 with random weights, 0.02 with ResNet50's own.
PARITY_BFLOAT16 = 0.1


def build_network(backbone: Backbone, weights: Weights, layer: str | None = None) -> Any:
    """Build the Keras network, without its classifier, up to its last layer or the one named (or `BEFORE_TAIL`).

    Returns
    -------
    keras.Model : float32 (n, size, size, 3), preprocessed, to a feature map (n, h, w, d)

    Raises
    ------
    DataError : the file does not hold this network's weights
    UsageError : a size that the network cannot take, or no such layer
    """
    keras = import_keras()
    builder = getattr(keras.applications, backbone.name)
    try:
        network = builder(include_top=False, weights=None, input_shape=(backbone.size, backbone.size, 3))
    except ValueError as error:
        raise UsageError(f"{backbone.name} cannot take this input size ({error})", backbone.size) from error
    if weights.path is None:
        _randomise(network, np.random.default_rng(weights.seed))
    else:
        try:
            with warnings.catch_warnings():  # Keras only warns when it leaves layers untrained
                warnings.filterwarnings("error", ".*freshly-initialized.*")
                network.load_weights(weights.path)
        except (ValueError, OSError, KeyError, UserWarning) as error:
            first = str(error).strip().splitlines()[0]
            raise DataError(
                f"the file does not hold weights of {backbone.name} without its top ({first})",
                weights.path,
                f"expected a file like {backbone.keras_file}",
            ) from error
    if layer == BEFORE_TAIL:
        layer = cut_layer(network, backbone.tail)
    if layer is not None:
        names = [item.name for item in network.layers]
        if layer not in names:
            near = ", ".join(difflib.get_close_matches(layer, names, n=3, cutoff=0.4)) or ", ".join(names[-5:])
            raise UsageError(f"{backbone.name} has no such layer", repr(layer), f"for example: {near}")
        network = keras.Model(network.input, network.get_layer(layer).output)
    return network


def cut_layer(network: Any, tail: tuple[str, ...]) -> str:
    """Name of the layer whose output is all that the last blocks get to see of the image.

    Keras names some layers of a block by a running number (Xception's shortcuts, InceptionResNetV2's
    branches), so the cut is found by structure: the last layer before the first named one of the tail
    that no connection passes by.

    Parameters
    ----------
    network : keras.Model, a functional one
    tail : names, or beginnings of names up to an underscore, of the last blocks
    """
    layers = network.layers
    place = {layer.name: i for i, layer in enumerate(layers)}
    first = min(i for name, i in place.items() if any(name == t or name.startswith(f"{t}_") for t in tail))
    longest = [0] * len(layers)  # how far each layer's output reaches
    for i, layer in enumerate(layers[1:], 1):
        inputs = layer.input if isinstance(layer.input, list | tuple) else [layer.input]
        for tensor in inputs:
            source = place[tensor._keras_history.operation.name]
            longest[source] = max(longest[source], i)
    passed_by = 0
    cut = 0
    for i in range(first):
        if passed_by <= i:
            cut = i
        passed_by = max(passed_by, longest[i])
    return str(layers[cut].name)


def export_backbone(
    backbone: Backbone, weights: Weights | None = None, cache_dir: Path | None = None, layer: str | None = None
) -> Path:
    """Export a backbone once and return the ONNX file; later calls only look it up.

    Parameters
    ----------
    backbone : a row of the registry, or a user's ONNX file
    weights : from `cervicyte.networks.registry.find_weights`; None for a user's ONNX file
    cache_dir : default: the setting
    layer : name of the Keras layer to tap, or `BEFORE_TAIL`; default the last

    Returns
    -------
    Path of a graph with the contract of `cervicyte.networks.onnx_graphs`; beside it, ending in ``.json``,
    what it was made of and its parity check

    Raises
    ------
    MissingError : the extra ``train`` is needed and not installed
    DataError : damaged weights or graph, or the parity check failed
    UsageError : an input size or layer that the network does not have
    StorageError : the cache folder cannot be written
    """
    folder = (cache_dir or settings.get_path("cache_dir")) / "exports"
    recipe = _recipe(backbone, weights, layer)
    key = fingerprints.of_json(recipe)
    stem = backbone.onnx_file.stem if backbone.kind == "onnx" else backbone.name
    path = folder / f"{stem}-{backbone.size}-{key[:16]}.onnx"
    if _whole(path):
        return path
    if backbone.kind == "onnx":
        model, reference = _adapted(backbone, recipe["source_sha256"], layer)
    elif backbone.kind == "shipped":
        model, reference = _shipped(layer)
    elif backbone.kind == "keras" and weights is not None:
        say(f"exporting {backbone.name} at {backbone.size} px (once)")
        model, reference = _converted(backbone, weights, layer)
    else:
        raise UsageError("this backbone has no network to export", backbone.name)
    data = model.SerializeToString()
    input_size, dimension = _dim(model.graph.input[0], 1), _dim(model.graph.output[0], 1)
    checks = _parity(data, reference, parity_images(input_size))
    with atomic_write(path, "wb") as stream:
        stream.write(data)
    record = {
        **recipe,
        "input_size": input_size,
        "dimension": dimension,
        "sha256": hashlib.sha256(data).hexdigest(),
        "parity": checks,
    }
    write_json(path.with_suffix(".json"), record)
    return path


def export_record(path: Path) -> dict[str, Any]:
    """What is known of an export: its ingredients, SHA-256 and parity check."""
    record = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert isinstance(record, dict)
    return record


def parity_images(size: int) -> np.ndarray:
    """The fixed images of the parity check: noise, and discs on a smooth ground; uint8 (4, size, size, 3)."""
    random = np.random.default_rng(20260101)
    noise = random.integers(0, 256, (2, size, size, 3), dtype=np.uint8)
    y, x = np.mgrid[0:size, 0:size] / size
    smooth = []
    for radius in (0.15, 0.35):
        inside = ((y - 0.5) ** 2 + (x - 0.45) ** 2 < radius**2)[..., None]
        ground = np.stack([200 + 40 * x, 180 + 50 * y, 210 - 30 * x], axis=-1)
        smooth.append(np.where(inside, (90, 60, 140), ground).astype(np.uint8))
    return np.concatenate([noise, np.stack(smooth)])


def _dim(value: Any, axis: int) -> int:
    return int(value.type.tensor_type.shape.dim[axis].dim_value)


def _recipe(backbone: Backbone, weights: Weights | None, layer: str | None) -> dict[str, Any]:
    """Everything that the exported graph depends on."""
    versions = ("keras", "torch", "onnxruntime") if backbone.kind == "keras" else ("onnxruntime",)
    if backbone.kind == "onnx":
        source = onnx_files.load(backbone.onnx_file)[1]
    elif backbone.kind == "shipped":
        source = sha256_file(shipped.bundle_folder() / "model.onnx")
    else:
        source = weights.sha256 if weights else ""
    return {
        "format": EXPORT_FORMAT,
        "backbone": "onnx" if backbone.kind == "onnx" else backbone.name,
        "source_sha256": source,
        "random_weights": bool(weights and weights.random),
        "size": backbone.size,
        "preprocessing": backbone.preprocessing,
        "layer": layer,
        "versions": {name: version_of(name) for name in versions},
    }


def _whole(path: Path) -> bool:
    """True for an export that is there and unchanged since it passed its parity check."""
    try:
        return path.is_file() and export_record(path)["sha256"] == sha256_file(path)
    except (OSError, ValueError, KeyError):
        return False


def _converted(backbone: Backbone, weights: Weights, layer: str | None) -> tuple[Any, Any]:
    """The graph of a Keras network, and Keras' own answer for comparison."""
    keras = import_keras()
    import torch

    # Keras spells each layer out in some fifteen operations; the plain form is traced five times as fast.
    from cervicyte.networks.keras.torch_blocks import TailNetwork

    network = build_network(backbone, weights, layer)
    traced, shape = TailNetwork(network), (1, 3, backbone.size, backbone.size)
    example = torch.zeros(shape)
    with torch.no_grad(), quiet():
        traced.eval()
        # One batch size is traced and the axis opened afterwards: Xception cannot be traced with
        # an open one. The parity check runs another batch size, so a stuck one would be seen.
        program = torch.onnx.export(
            traced, (example,), dynamo=True, optimize=True, verbose=False, opset_version=onnx_graphs.OPSET
        )
    assert program is not None, "dynamo gives a program"
    model = onnx_graphs.simplify(onnx_graphs.wrap(program.model_proto, backbone.preprocessing, backbone.size))

    def reference(images: np.ndarray) -> np.ndarray:
        pixels = keras.applications.imagenet_utils.preprocess_input(
            images.astype(np.float32), data_format="channels_last", mode=backbone.preprocessing
        )
        with torch.no_grad():
            answer = network(torch.from_numpy(np.ascontiguousarray(pixels)), training=False)
        return np.asarray(answer.cpu().numpy())

    return model, reference


@contextmanager
def quiet() -> Iterator[None]:
    """Silence what the exporter says to its own developers."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _adapted(backbone: Backbone, source: str, layer: str | None) -> tuple[Any, Any]:
    """A user's graph of that digest with the contract, and its own answer, image by image, for comparison."""

    if layer is not None:
        raise UsageError("a user's ONNX file has no layer to choose", layer, "leave the layer out")
    original, digest = onnx_files.load(backbone.onnx_file)
    if digest != source:
        what = "the network's files changed while they were read"
        raise DataError(what, backbone.onnx_file, "try again when they are whole")
    layout, own_size = onnx_graphs.input_layout(original), onnx_graphs.input_size(original)
    if backbone.size and own_size and backbone.size != own_size:
        raise UsageError(f"the network takes {own_size} px", backbone.size, "leave the size out")
    size = own_size or backbone.size
    if not size:
        raise UsageError("the graph leaves its input size open", backbone.onnx_file, "state the size")
    session = onnx_files.session(original.SerializeToString(), backbone.onnx_file)
    model = onnx_graphs.simplify(onnx_graphs.wrap(original, backbone.preprocessing, size))

    def reference(images: np.ndarray) -> np.ndarray:
        pixels = _preprocessed(images, backbone.preprocessing)
        if layout == "NCHW":
            pixels = pixels.transpose(0, 3, 1, 2)
        name = session.get_inputs()[0].name
        rows = [session.run(None, {name: np.ascontiguousarray(one[None])})[0] for one in pixels]
        answer = np.concatenate(rows)
        return answer.transpose(0, 2, 3, 1) if answer.ndim == 4 and layout == "NCHW" else answer

    return model, reference


def _shipped(layer: str | None) -> tuple[Any, Any]:
    """The shipped network without its head, and its own answer in another engine."""
    if layer is not None:
        raise UsageError("the network that comes with cervicyte has no layer to choose", layer, "leave the layer out")
    model = shipped.features_graph()
    session = onnx_files.session(model.SerializeToString(), shipped.NAME)
    return model, lambda images: session.run(["feature_map"], {model.graph.input[0].name: images})[0]


def _preprocessed(images: np.ndarray, mode: str) -> np.ndarray:
    pixels: np.ndarray = images.astype(np.float32)
    if mode == "caffe":
        pixels = pixels[..., ::-1] - np.array((103.939, 116.779, 123.68))
    elif mode == "tf":
        pixels = pixels / 127.5 - 1
    elif mode == "torch":
        pixels = (pixels / 255 - np.array((0.485, 0.456, 0.406))) / np.array((0.229, 0.224, 0.225))
    elif mode == "0-1":
        pixels = pixels / 255
    return pixels.astype(np.float32)


def _parity(data: bytes, reference: Any, images: np.ndarray) -> dict[str, Any]:
    expected_map = reference(images)
    expected = expected_map.mean(axis=(1, 2)) if expected_map.ndim == 4 else expected_map
    if not np.isfinite(expected).all() or not expected.any():
        raise DataError("the network answers with zeros or numbers that are not finite", todo="check its weights")
    checks: dict[str, Any] = {"images": len(images)}
    bounds = [("float32", PARITY_FLOAT32)] + ([("bfloat16", PARITY_BFLOAT16)] if has_bfloat16() else [])
    for precision, bound in bounds:
        engine = Engine(data, ("features",), precision=precision)
        difference = engine.run(images)["features"] - expected
        if precision == "float32":
            error = float(np.abs(difference).max() / np.abs(expected).max())
        else:
            error = float(np.linalg.norm(difference) / np.linalg.norm(expected))
        checks[precision] = {"relative_error": error, "bound": bound, "within": error <= bound, "engine": engine.engine}
        # A network that bfloat16 hurts is no fault of the export: it runs in float32 instead.
        if precision == "float32" and not error <= bound:
            raise DataError(
                f"the exported network does not answer as the original does ({precision})",
                f"relative difference {error:.2g}, allowed {bound:g}",
                "report this as a bug, with the network and the versions of keras, torch and openvino",
            )
    return checks


def _randomise(network: Any, random: np.random.Generator) -> None:
    """Draw the kernels from a seed of their own; Keras would need a global one."""
    for layer in network.layers:
        for variable in layer.weights:
            shape = tuple(variable.shape)
            if variable.name in ("kernel", "depthwise_kernel", "pointwise_kernel"):
                depthwise = variable.name == "depthwise_kernel" or "depthwise" in layer.name.lower()
                fan_in = np.prod(shape[:2] if depthwise else shape[:-1])
                variable.assign(random.standard_normal(shape, dtype=np.float32) * np.float32(np.sqrt(1.0 / fan_in)))
            else:
                variable.assign(np.full(shape, 1.0 if variable.name in ("gamma", "moving_variance") else 0.0))
