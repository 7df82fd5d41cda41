"""The last blocks of a network as a part that can be trained by itself and joined to the rest again.

A tail takes the tensor before the last two blocks (see `cervicyte.networks.keras.export.cut_layer`) and gives the last
feature map. Several trained tails share the untrained rest of the network in one ONNX graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cervicyte.base.files import atomic_write
from cervicyte.errors import DataError
from cervicyte.networks.keras.export import build_network, cut_layer, export_record, parity_images, quiet
from cervicyte.networks.onnx_graphs import OPSET, simplify
from cervicyte.networks.registry import Backbone, Weights, import_keras
from cervicyte.networks.runtime import Engine

if TYPE_CHECKING:
    from cervicyte.networks.keras.torch_blocks import TailNetwork

#: Largest difference allowed between trained tails in PyTorch and in the engine: max |a - b| / max |a|.
PARITY = 1e-3


def build_tail(backbone: Backbone, weights: Weights) -> TailNetwork:
    """The last blocks with their pretrained weights, on the graphics processor where PyTorch sees one.

    Returns
    -------
    a PyTorch module: float (n, c, h, w), the tensor before the tail, to the last feature map (n, d, h, w)

    Raises
    ------
    DataError, UsageError : see `cervicyte.networks.keras.export.build_network`
    """
    keras = import_keras()
    import torch

    from cervicyte.networks.keras.torch_blocks import TailNetwork

    network = build_network(backbone, weights)
    tail = keras.Model(network.get_layer(cut_layer(network, backbone.tail)).output, network.output)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    # Its annotations forget the format.
    blocks: TailNetwork = TailNetwork(tail).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return blocks


def tail_maps(maps: np.ndarray, tail: TailNetwork, bfloat16: bool = False) -> Any:
    """Activations, float (n, h, w, c), as a tensor for a tail: (n, c, h, w), its channels last in memory."""
    import torch

    device = next(tail.parameters()).device
    tensor = torch.from_numpy(np.ascontiguousarray(maps)).to(device, torch.bfloat16 if bfloat16 else torch.float32)
    return tensor.permute(0, 3, 1, 2)


def tail_features(tail: TailNetwork, maps: np.ndarray, bfloat16: bool = False) -> np.ndarray:
    """Run a tail as it is: float (n, h, w, c) before it to float32 (n, d), averaged over the last map."""
    import torch

    inputs = tail_maps(maps, tail, bfloat16)
    with torch.no_grad(), torch.autocast(inputs.device.type, torch.bfloat16, enabled=bfloat16):
        return np.asarray(tail(inputs).float().mean((2, 3)).cpu().numpy())


def join(prefix: Path, tail: TailNetwork, trained: Sequence[Sequence[np.ndarray]], path: Path) -> None:
    """Write one graph of the untrained part and several trained versions of a tail.

    Parameters
    ----------
    prefix : an export up to the tail, with the contract of `cervicyte.networks.onnx_graphs`
    tail : from `build_tail`; its weights are changed
    trained : for each version its weights, as ``tail.get_arrays()`` gives them
    path : the graph, with the same contract; ``features`` (n, versions * d) and ``feature_map`` hold the
        versions side by side

    Raises
    ------
    DataError : the graph does not answer as PyTorch does
    """
    import onnx

    untrained = onnx.load(str(prefix))
    shape = next(_shape(o) for o in untrained.graph.output if o.name == "feature_map")
    parts = []
    for arrays in trained:
        tail.set_arrays(arrays)
        parts.append(_converted(tail, shape[1:]))
    whole = simplify(_joined(untrained, parts))
    onnx.checker.check_model(whole)
    data = bytes(whole.SerializeToString())
    _check(prefix, tail, trained, data)
    with atomic_write(path, "wb") as stream:
        stream.write(data)


def _converted(tail: TailNetwork, shape: tuple[int, ...]) -> Any:
    import torch

    device = next(tail.parameters()).device
    example = torch.zeros((1, shape[2], *shape[:2]), device=device)
    with torch.no_grad(), quiet():
        tail.eval()
        # One batch size is traced and opened afterwards, as for whole networks.
        program = torch.onnx.export(tail, (example,), dynamo=True, optimize=True, verbose=False, opset_version=OPSET)
    assert program is not None, "dynamo gives a program"
    return program.model_proto


def _joined(prefix: Any, tails: Sequence[Any]) -> Any:
    import onnx
    from onnx import compose, helper

    base = onnx.utils.Extractor(prefix).extract_model(["image"], ["feature_map"])
    renamed = compose.add_prefix(base, "before_")
    graph = renamed.graph
    for node in graph.node:
        node.input[:] = ["image" if name == graph.input[0].name else name for name in node.input]
    graph.input[0].name = "image"
    graph.node.append(helper.make_node("Transpose", [graph.output[0].name], ["cut"], perm=[0, 3, 1, 2]))
    maps = []
    for i, tail in enumerate(tails):
        part = compose.add_prefix(tail, f"tail{i}_").graph
        source = part.input[0].name
        for node in part.node:
            node.input[:] = ["cut" if name == source else name for name in node.input]
        graph.node.extend(part.node)
        graph.initializer.extend(part.initializer)
        maps.append(part.output[0].name)
    _, dimension, height, width = _shape(part.output[0])
    dimension *= len(tails)
    graph.node.extend(
        [
            helper.make_node("Concat", maps, ["map_first"], axis=1),
            helper.make_node("Transpose", ["map_first"], ["feature_map"], perm=[0, 2, 3, 1]),
            helper.make_node("GlobalAveragePool", ["map_first"], ["map_mean"]),
            helper.make_node("Flatten", ["map_mean"], ["features"], axis=1),
        ]
    )
    del graph.output[:]
    kind = onnx.TensorProto.FLOAT
    graph.output.append(helper.make_tensor_value_info("features", kind, ["N", dimension]))
    graph.output.append(helper.make_tensor_value_info("feature_map", kind, ["N", height, width, dimension]))
    del graph.value_info[:]
    return renamed


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(d.dim_value for d in value.type.tensor_type.shape.dim)


def _check(prefix: Path, tail: TailNetwork, trained: Sequence[Sequence[np.ndarray]], data: bytes) -> None:
    """The joined graph against PyTorch's tails on the engine's own activations, in float32."""
    images = parity_images(int(export_record(prefix)["input_size"]))
    before = Engine(prefix, ("feature_map",), precision="float32").run(images)["feature_map"]
    answers = []
    for arrays in trained:
        tail.set_arrays(arrays)
        answers.append(tail_features(tail, before))
    expected = np.concatenate(answers, axis=1)
    joined = Engine(data, ("features",), precision="float32").run(images)["features"]
    error = float(np.abs(joined - expected).max() / max(np.abs(expected).max(), 1e-12))
    if not error <= PARITY:
        raise DataError(
            "the exported network does not answer as the trained one does",
            f"relative difference {error:.2g}, allowed {PARITY:g}",
            "report this as a bug, with the network and the versions of keras, torch and openvino",
        )
