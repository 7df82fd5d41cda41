"""Images per second through the web application's desk, with many clients at once, against plain streaming.

    python benchmarks/predictor.py --weights FOLDER

A ResNet50 bundle answers the same files in both ways, in turns, in one run: `cervicyte.features.extraction.stream`
with nothing
cached, and threads of clients that each send a few pictures, wait for the verdicts, and send the next. See
benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import threading
import time
from itertools import cycle, islice
from pathlib import Path

import numpy as np

from cervicyte.base.files import write_json
from cervicyte.bundle.folder import Bundle, InputSpec, Manifest, save_bundle
from cervicyte.bundle.graph import network_graph
from cervicyte.data.labels import BINARY
from cervicyte.decision.calibration import Limits
from cervicyte.decision.linear import LinearHead
from cervicyte.features import extraction
from cervicyte.images.decoding import Picture
from cervicyte.web.engine.predictor import Desk
from engine import machine, write_pictures


def main() -> None:
    """Make the bundle and the pictures, run both ways in turns, print the table."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        bundle = network_bundle(options.network, options.weights, Path(scratch) / "bundle")
        files = write_pictures(Path(scratch) / "pictures", 128)
        some = list(islice(cycle(files), options.images))
        extractor = bundle.extractor()
        speeds: dict[str, list[float]] = {"streaming": [], "desk": []}
        with Desk(bundle, queue_size=max(512, 2 * options.clients * options.pictures)) as desk:
            through(desk, files, options)  # start the threads, compile for the sizes of batches that occur
            streamed(files, extractor)
            for _ in range(options.rounds):
                speeds["streaming"].append(streamed(some, extractor))
                speeds["desk"].append(through(desk, some, options))
                print({way: round(found[-1], 1) for way, found in speeds.items()}, file=sys.stderr)
            counted = desk.statistics()
    share = statistics.median(d / s for d, s in zip(speeds["desk"], speeds["streaming"], strict=True))
    print(f"\n**{options.network}**, {options.clients} clients, {options.pictures} pictures each time\n")
    print("| | images/s (range) |\n| --- | --- |")
    for way, found in speeds.items():
        print(f"| {way} | {statistics.median(found):.1f} ({min(found):.1f} to {max(found):.1f}) |")
    print(f"| share of streaming (median of rounds; target 85 %) | {100 * share:.0f} % |")
    mean = counted.images / max(1, counted.batches)
    print(f"| pictures in a batch, mean | {mean:.1f} |")
    print(f"| seconds from request to verdict, mean | {counted.waited_s / max(1, counted.images):.2f} |")
    if options.out:
        sizes = {str(size): n for size, n in sorted(counted.batch_sizes.items())}
        write_json(options.out, {"machine": machine(), "speeds": speeds, "share": share, "batch_sizes": sizes})


def network_bundle(name: str, weights: str, folder: Path) -> Bundle:
    """A bundle whose head is drawn at random: its speed is that of any other."""
    extractor = extraction.make_extractor(name, weights)
    weights_of_head = np.random.default_rng(0).normal(size=(extractor.dimension, 2)) * 0.01
    graph = network_graph(extractor.onnx_path, LinearHead(weights_of_head, np.zeros(2), 1.0), 1.0)
    spec = InputSpec("image", size=extractor.size)
    limits = Limits(0.5, 0.95, 0.4, 0.6, 0.0, 0.05)
    manifest = Manifest(name, BINARY, BINARY.classes, limits=limits, input=spec, precision=extractor.precision)
    return save_bundle(folder, manifest, graph)


def streamed(files: list[Path], extractor: extraction.Extractor) -> float:
    """Images per second of the extractor's own streaming."""
    start = time.perf_counter()
    for _, answer in extraction.stream((Picture(str(path)) for path in files), extractor):
        assert isinstance(answer, np.ndarray), answer
    return len(files) / (time.perf_counter() - start)


def through(desk: Desk, files: list[Path], options: argparse.Namespace) -> float:
    """Images per second of all clients together."""
    requests = [files[i : i + options.pictures] for i in range(0, len(files), options.pictures)]

    def client(mine: list[list[Path]]) -> None:
        for request in mine:
            assert not any(p.error for p in desk.predict(request))

    threads = [threading.Thread(target=client, args=(requests[i :: options.clients],)) for i in range(options.clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(files) / (time.perf_counter() - start)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", default="random", help="file or folder with weights; the speed is the same")
    parser.add_argument("--network", default="ResNet50")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=1, help="of each request")
    parser.add_argument("--images", type=int, default=512, help="of each round")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
