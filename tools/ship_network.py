"""Put a trained bundle into the package, as the networks that ship: as it is, and in 8-bit integers.

    python tools/ship_network.py RUN --calibrate DATA [--cost WORDS]

Takes the bundle of a run of the recipe cytonet, and the folder of the cells that it was trained on, some of which set
the ranges of the integers. The thumbnails by which a bundle recognises its training cells are left out: the package
must hold no picture of anybody. Their content hashes and groups stay. ``--cost`` is what experiments/cytonet.py
measured of 8 bits, cross-fitted, for the card of the 8-bit version: "cross-fitted: AUROC ... against ...".
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from cervicyte import shipped
from cervicyte.audit import leakage
from cervicyte.base import files
from cervicyte.bundle.compression import compress
from cervicyte.bundle.folder import TRAINING_CELLS, Bundle, save_bundle
from cervicyte.images import decoding

#: Most bytes of ONNX in the package.
MOST = 6_000_000


def main(arguments: Sequence[str] | None = None) -> None:
    """Make the 8-bit version, copy both bundles, and say what came of it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("--calibrate", type=Path, required=True)
    parser.add_argument("--cost")
    options = parser.parse_args(arguments)
    bundle = Bundle.load(options.run)
    kept = leakage.load_training_cells(bundle.folder / TRAINING_CELLS)
    check_trained_on(options.calibrate, set(kept["digests"].tolist()))
    kept["signatures"] = np.empty((len(kept["digests"]), 0), dtype=np.uint8)
    with tempfile.TemporaryDirectory() as scratch:
        small, change = compress(bundle, [options.calibrate], Path(scratch) / "int8")
        manifest = small.manifest
        if options.cost:
            told = {**manifest.training["compressed"], "cost": options.cost}
            manifest = replace(manifest, training={**manifest.training, "compressed": told})
        versions = ((shipped.NAME, bundle.manifest, graphs(bundle)), (shipped.INT8, manifest, graphs(small)))
    size = sum(len(graph) for _, _, some in versions for graph in some)
    if size > MOST:
        raise SystemExit(f"{size} bytes of ONNX; the package may hold {MOST}")
    for name, manifest, some in versions:
        made = save_bundle(shipped.FOLDERS[name], replace(manifest, name=name), some, kept)
        print(f"{made.folder}: {sum(map(len, some))} bytes, {len(kept['digests'])} training cells by content hash")
    print(f"{change.same_class:.1%} of {change.images} training images keep their most probable class in 8 bits")


def graphs(bundle: Bundle) -> list[bytes]:
    """The contents of a bundle's graphs."""
    return [(bundle.folder / member.graph).read_bytes() for member in bundle.manifest.graphs]


def check_trained_on(folder: Path, digests: set[str]) -> None:
    """Refuse pictures that the network was not trained on: its ranges would come from cells that may test it."""
    found = [f.path for f in decoding.find_images([folder]) if f.problem is None]
    strangers = [path for path in found if files.sha256_file(path) not in digests]
    if strangers:
        raise SystemExit(f"not trained on {len(strangers)} pictures of {folder}, for example {strangers[0]}")


if __name__ == "__main__":
    main()
