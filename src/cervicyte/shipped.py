"""The network that comes with the package: a bundle trained by our own code, and a backbone for other labels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cervicyte.errors import MissingError

#: Folder of the bundle in the package.
FOLDER = Path(__file__).parent / "shipped_network"

#: What it is called as a model and as a backbone.
NAME = "cytonet"


def bundle_folder() -> Path:
    """Where the bundle lies.

    Raises
    ------
    MissingError : this installation has none
    """
    if not (FOLDER / "manifest.json").is_file():
        raise MissingError(
            "the network that comes with cervicyte is not in this installation",
            FOLDER,
            "install cervicyte again, or name a bundle with --model",
        )
    return FOLDER


def features_graph() -> Any:
    """The bundle's graph without its head: ``image`` to ``features`` and ``feature_map``, an onnx.ModelProto.

    Raises
    ------
    MissingError : this installation has none
    """
    import onnx
    from onnx import shape_inference
    from onnx.utils import Extractor

    model = shape_inference.infer_shapes(onnx.load(bundle_folder() / "model.onnx"))
    cut = Extractor(model).extract_model([model.graph.input[0].name], ["features", "feature_map"])
    onnx.checker.check_model(cut)
    return cut
