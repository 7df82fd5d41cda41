"""How fast one bundle answers beside another: graphs alone, a folder of files, one image, and a cold command.

    python benchmarks/latency.py IMAGES --fast BUNDLE --slow BUNDLE [--rounds 5]

Every round runs both bundles in every way, so that other work on the machine meets both alike; medians and ranges.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from cervicyte.bundle.folder import Bundle
from cervicyte.images import decoding
from common import make_parser, median_and_range, print_table, repeat, run_in_turns, write_figures

#: Seconds that a way which repeats itself runs in a round.
_SECONDS = 3.0


def main() -> None:
    """Print a table of both bundles."""
    parser = make_parser(__doc__, rounds=5)
    parser.add_argument("images", type=Path)
    parser.add_argument("--fast", required=True)
    parser.add_argument("--slow", required=True)
    parser.add_argument("--precision", default="auto")
    options = parser.parse_args()
    files = [file.path for file in decoding.find_images([options.images]) if file.problem is None]
    bundles = {"fast": options.fast, "slow": options.slow}
    ways = {name: _ways(model, files, options.precision) for name, model in bundles.items()}
    names = list(next(iter(ways.values())))
    turns = {(way, name): ways[name][way] for way in names for name in bundles}
    figures = run_in_turns(turns, options.rounds, "{:.4g}".format)
    rows = []
    for way in names:
        fast, slow = figures[way, "fast"], figures[way, "slow"]
        ratio = statistics.median(fast) / statistics.median(slow)
        rows.append((way, median_and_range(fast, ".4g"), median_and_range(slow, ".4g"), f"{ratio:.2f}"))
    print_table(("", options.fast, options.slow, "ratio"), rows)
    write_figures(options.out, figures={f"{way}, {name}": values for (way, name), values in figures.items()})


def _ways(model: str, files: list[Path], precision: str) -> dict[str, Callable[[], float]]:
    bundle = Bundle.load(model)
    extractor = bundle.extractor(precision)
    rows = [extractor.prepare(decoding.load(file)) for file in repeat(files, extractor.batch_size)]
    batch = np.stack(rows)

    def graph_alone() -> float:
        with ThreadPoolExecutor(extractor.parallel) as pool:
            count, start = 0, time.perf_counter()
            while time.perf_counter() - start < _SECONDS:
                list(pool.map(lambda _: extractor.run(batch), range(2 * extractor.parallel)))
                count += 2 * extractor.parallel * len(batch)
            return count / (time.perf_counter() - start)

    def folder() -> float:
        start = time.perf_counter()
        count = sum(1 for _ in bundle.stream(files, precision=precision, cache=False))
        return count / (time.perf_counter() - start)

    def one() -> float:
        start = time.perf_counter()
        for file in files[:20]:
            extractor.run(extractor.prepare(decoding.load(file))[None])
        return (time.perf_counter() - start) / min(20, len(files)) * 1000

    def cold() -> float:
        with tempfile.TemporaryDirectory() as cache:
            environment = {**os.environ, "CERVICYTE_CACHE_DIR": cache}
            command = [sys.executable, "-m", "cervicyte", "predict", str(files[0]), "--model", model]
            start = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True, env=environment)
            return time.perf_counter() - start

    return {
        "images/s, the graph alone": graph_alone,
        "images/s, files to verdicts": folder,
        "ms, one image, file to probabilities": one,
        "s, a cold `cervicyte predict` of one file": cold,
    }


if __name__ == "__main__":
    main()
