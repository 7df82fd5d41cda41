"""Heat maps for browsers: the map of an explanation alone, to be laid over the picture."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from cervicyte.bundle.folder import Bundle
from cervicyte.errors import UsageError
from cervicyte.explain.drawing import AGAINST, FOR, limit
from cervicyte.explain.evidence import Explanation


def has_map(bundle: Bundle) -> bool:
    """Whether any graph of a bundle looks at places; one on measurements alone does not."""
    return any(_is_mapped(bundle.folder / spec.graph) for spec in bundle.manifest.graphs)


@functools.lru_cache(maxsize=32)
def _is_mapped(path: Path) -> bool:
    import onnx

    graph = onnx.load(str(path), load_external_data=False).graph
    return any(output.name == "activation_map" for output in graph.output)


def rgba(explanation: Explanation) -> np.ndarray:
    """The map as uint8 (h, w, 4), of the picture's size: red for, blue against, as opaque as the evidence is strong.

    Raises
    ------
    UsageError : the explanation has no map
    """
    values = explanation.map
    if values is None:
        raise UsageError("this model does not look at places, so there is no map", None, "look at the measurements")
    colour = np.where((values > 0)[..., None], np.array(FOR, np.uint8), np.array(AGAINST, np.uint8))
    strength = np.clip(np.abs(values) / limit(values), 0, 1) * 255
    return np.dstack([colour, strength.round().astype(np.uint8)])


def png(explanation: Explanation) -> bytes:
    """`rgba` as a PNG file. Raises what it raises."""
    import cv2

    done, data = cv2.imencode(".png", cv2.cvtColor(rgba(explanation), cv2.COLOR_RGBA2BGRA))
    assert done  # an array of this kind can always be written
    return data.tobytes()
