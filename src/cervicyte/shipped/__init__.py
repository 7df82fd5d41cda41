"""The network that comes with the package, in two precisions: bundles trained by our own code, and a backbone."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from cervicyte.errors import MissingError

#: What it is called as a model and as a backbone, and its 8-bit version as a model.
NAME, INT8 = "cytonet", "cytonet-int8"

#: Folder of each bundle in the package, by the name that may stand where the folder of a bundle may.
FOLDERS = {
    NAME: Path(__file__).parent / "cytonet",
    INT8: Path(__file__).parent / "cytonet_int8",
}


def bundle_folder(name: str = NAME) -> Path:
    """Where a bundle of `FOLDERS` lies.

    Raises
    ------
    MissingError : this installation has none
    """
    if not (FOLDERS[name] / "manifest.json").is_file():
        raise MissingError(
            "the network that comes with cervicyte is not in this installation",
            FOLDERS[name],
            "install cervicyte again, or name a bundle with --model",
        )
    return FOLDERS[name]


def find(model: Path | str | None) -> Path:
    """Where a model lies that was named: a folder, or by its bare name, as a str, a network that ships.

    A file or folder of that name goes first: who trained into ``cytonet`` means that. None is the network `NAME`.

    Raises
    ------
    MissingError : this installation has none
    """
    if model is None:
        return bundle_folder()
    if model in FOLDERS and not os.path.lexists(model):
        return bundle_folder(str(model))
    return Path(model)


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
