"""What the ONNX graphs that we write have in common."""

from __future__ import annotations

from pathlib import Path

#: What the oldest ONNX Runtime that pyproject.toml allows, 1.18, reads.
OLDEST_IR, OLDEST_OPSET = 10, 21


def read_by_the_oldest_runtime(path: Path) -> bool:
    """Whether a graph states an IR version and an operator set that the oldest runtime reads."""
    import onnx

    model = onnx.load(path, load_external_data=False)
    opset = {entry.domain: entry.version for entry in model.opset_import}[""]
    return 3 <= model.ir_version <= OLDEST_IR and 7 <= opset <= OLDEST_OPSET
