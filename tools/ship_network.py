"""Put a trained bundle into the package, as the network that ships.

    python tools/ship_network.py RUN

Takes the bundle of a run of the recipe cytonet. The thumbnails by which a bundle recognises its training cells are
left out: the package must hold no picture of anybody. Their content hashes and groups stay.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from cervicyte import gate, shipped
from cervicyte.bundle import TRAINING_CELLS, Bundle, save_bundle

#: Most bytes of ONNX in the package.
MOST = 6_000_000


def main() -> None:
    """Copy the bundle and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    options = parser.parse_args()
    bundle = Bundle.load(options.run)
    graphs = [(bundle.folder / member.graph).read_bytes() for member in bundle.manifest.graphs]
    size = sum(map(len, graphs))
    if size > MOST:
        raise SystemExit(f"{size} bytes of ONNX; the package may hold {MOST}")
    kept = gate.load_training_cells(bundle.folder / TRAINING_CELLS)
    kept["signatures"] = np.empty((len(kept["digests"]), 0), dtype=np.uint8)
    made = save_bundle(shipped.FOLDER, replace(bundle.manifest, name=shipped.NAME), graphs, kept)
    print(f"{made.folder}: {size} bytes of ONNX, {len(kept['digests'])} training cells by content hash")


if __name__ == "__main__":
    main()
