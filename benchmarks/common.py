"""What the measurements of speed share: options, images, rounds in turns, tables, memory, and the machine.

Every round runs every way once, one after the other, so that other work on the machine meets all of them alike. A table
shows the median of the rounds and their range. Ratios within one run mean something; figures from different machines
or busy hours do not.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import sys
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import psutil
from PIL import Image

from cervicyte.base.files import write_json
from cervicyte.base.versions import version_of
from cervicyte.bundle.folder import Bundle, InputSpec, Manifest, save_bundle
from cervicyte.bundle.graph import network_graph
from cervicyte.data.labels import BINARY
from cervicyte.decision.calibration import DecisionLimits
from cervicyte.decision.linear import LinearHead
from cervicyte.features import extraction
from cervicyte.images import decoding
from cervicyte.images.decoding import CellImage
from cervicyte.networks import runtime

Way = TypeVar("Way", bound=Hashable)
Measured = TypeVar("Measured")

#: Packages whose versions are kept beside the figures.
PACKAGES = ("cervicyte", "openvino", "onnxruntime", "keras", "torch", "numpy")


def make_parser(document: str, *, rounds: int = 3, weights: str | None = None) -> argparse.ArgumentParser:
    """Make a parser with ``--rounds`` and ``--out``, and ``--weights`` where there is a default for it."""
    parser = argparse.ArgumentParser(description=document, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=rounds, help="how often each way runs, in turn")
    parser.add_argument("--out", type=Path, help="JSON file for the figures")
    if weights is not None:
        text = f"file or folder with weights, or random; default: {weights or 'CERVICYTE_WEIGHTS'}"
        parser.add_argument("--weights", default=weights, help=text)
    return parser


def write_figures(out: Path | None, **figures: Any) -> None:
    """Write the figures and what they were measured on as JSON; without a path, nothing."""
    if out is not None:
        write_json(out, {"machine": describe_machine(), **figures})
        print(f"written: {out}", file=sys.stderr)


def describe_machine() -> dict[str, Any]:
    """Describe what the figures were measured on: processor, threads, bfloat16, versions."""
    processor = platform.processor() or platform.machine()
    information = Path("/proc/cpuinfo")
    if information.exists():
        lines = information.read_text().splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = models[0] if models else processor
    return {
        "processor": processor,
        "threads": runtime.available_threads(),
        "bfloat16": runtime.has_bfloat16(),
        "versions": {name: version_of(name) for name in PACKAGES},
    }


def find_files(folder: Path | None, scratch: Path, count: int) -> list[Path]:
    """List the images of a folder, or make ``count`` of them where there is no folder or no image in it."""
    if folder is not None:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in decoding.SUFFIXES)
        if files:
            return files
    return write_images(scratch / "images", count)


def write_images(folder: Path, count: int, side: int = 200) -> list[Path]:
    """Write images of discs on a smooth ground with noise: as heavy to decode as a cell's crop."""
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side] / side
    paths = []
    for i in range(count):
        centre, radius = random.uniform(0.35, 0.65, 2), random.uniform(0.1, 0.3)
        inside = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2)[..., None]
        colours = random.uniform(60, 220, (2, 3))
        pixels = np.where(inside, colours[0], colours[1] + 20 * x[..., None]) + random.normal(0, 6, (side, side, 3))
        paths.append(folder / f"{i:05d}.jpg")
        Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8)).save(paths[-1], quality=92)
    return paths


def repeat(files: Sequence[Path], count: int) -> list[Path]:
    """List ``count`` files, from the start again when there are fewer."""
    return list(islice(cycle(files), count))


def run_in_turns(
    ways: Mapping[Way, Callable[[], Measured]], rounds: int, show: Callable[[Measured], str] = "{:.1f}".format
) -> dict[Way, list[Measured]]:
    """Run every way once in each round and return what each measured, round by round."""
    measured: dict[Way, list[Measured]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, run in ways.items():
            measured[way].append(run())
            print(f"  {way}: {show(measured[way][-1])}", file=sys.stderr)
    return measured


def rate(count: int, run: Callable[[], object]) -> float:
    """Return how many of ``count`` images a second a call works through."""
    start = time.perf_counter()
    run()
    return count / (time.perf_counter() - start)


def median_and_range(values: Sequence[float], form: str = ".1f") -> str:
    """Write the median with the smallest and the largest value."""
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def print_table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table in Markdown."""
    print(f"| {' | '.join(head)} |\n" + "| --- " * len(head) + "|")
    for row in rows:
        print(f"| {' | '.join(str(value) for value in row)} |", flush=True)


def resident_mb(process: psutil.Process) -> int:
    """Return the resident memory of a process in megabytes."""
    return round(process.memory_info().rss / 2**20)


def make_network_bundle(name: str, weights: str, folder: Path) -> Bundle:
    """Make a bundle whose head is drawn at random: its speed is that of any other."""
    extractor = extraction.make_extractor(name, weights)
    weights_of_head = np.random.default_rng(0).normal(size=(extractor.dimension, 2)) * 0.01
    graph = network_graph(extractor.onnx_path, LinearHead(weights_of_head, np.zeros(2), 1.0), 1.0)
    spec = InputSpec("image", size=extractor.size)
    limits = DecisionLimits(
        threshold=0.5, sensitivity=0.95, normal_below=0.4, abnormal_from=0.6, confidence_from=0.0, max_risk=0.05
    )
    manifest = Manifest(name, BINARY, BINARY.classes, limits=limits, input=spec, precision=extractor.precision)
    return save_bundle(folder, manifest, graph)


def stream_files(files: Sequence[Path], extractor: extraction.Extractor) -> None:
    """Run files through streaming extraction with nothing cached; a file that cannot be read is an error."""
    for _, answer in extraction.stream((CellImage(str(path)) for path in files), extractor):
        assert isinstance(answer, np.ndarray), answer
