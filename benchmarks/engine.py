"""How fast files on disk become features: cervicyte against Keras, and against one image at a time.

    python benchmarks/engine.py --weights FOLDER                  the table of networks
    python benchmarks/engine.py --weights FOLDER --stream 10000   a folder against the engine alone

Every round runs every way once, so that other work on the machine meets all of them alike;
the table gives the median round and the range. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from cervicyte.features import extraction
from cervicyte.features.cache import FeatureCache
from cervicyte.images import decoding
from cervicyte.images.decoding import CellImage
from cervicyte.networks import runtime
from cervicyte.networks.keras.export import build_network
from cervicyte.networks.quantisation import quantisation_error, quantise
from cervicyte.networks.registry import find_weights, get_backbone, import_keras
from common import (
    find_files,
    make_parser,
    median_and_range,
    print_table,
    rate,
    repeat,
    resident_mb,
    run_in_turns,
    stream_files,
    write_figures,
)

Way = Callable[[list[Path]], None]

#: What the project wants to reach, as a multiple of Keras' predict.
TARGETS = {("ResNet50", "bfloat16"): 7, ("ResNet50", "float32"): 4, ("ResNet152", "bfloat16"): 4}
TARGETS["ResNet152", "float32"] = 2


def main() -> None:
    """Run the asked-for part and write its JSON."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        files = find_files(options.images, Path(scratch), 256)
        figures: dict[str, Any] = {"files": len(files)}
        if options.stream:
            figures["stream"] = stream(files, options, Path(scratch))
        else:
            figures["networks"] = [network(name, files, options) for name in options.networks.split(",")]
    write_figures(options.out, **figures)


def network(name: str, files: list[Path], options: argparse.Namespace) -> dict:
    """One network in every way, interleaved; prints its Markdown table."""
    weights = options.weights if name in options.real.split(",") else "random"
    ways = {**cervicyte_ways(name, weights, files, options), **keras_ways(name, weights, options.batch)}
    counts = {way: options.images_per_row for way in ways}
    counts["Keras predict"] = counts["Keras, one image at a time"] = options.images_per_keras_row
    for way, run in ways.items():  # compile, fill the disk cache, start the threads
        run(files[:2] if "one image" in way else files[: options.batch])
    speeds = run_in_turns({way: _timed(run, repeat(files, counts[way])) for way, run in ways.items()}, options.rounds)
    base = statistics.median(speeds["Keras predict"])
    single = statistics.median(speeds["Keras, one image at a time"])
    print(f"\n**{name}** ({'ImageNet weights' if weights != 'random' else 'random weights'}), files to features\n")
    rows = []
    for way, values in speeds.items():
        middle, target = statistics.median(values), TARGETS.get((name, way.removeprefix("cervicyte ")), "")
        rows.append((way, median_and_range(values), f"{middle / base:.1f}", f"{middle / single:.1f}", target))
    print_table(("way", "images/s (range)", "over Keras predict", "over one at a time", "target"), rows)
    print()
    return {"network": name, "weights": "random" if weights == "random" else "ImageNet", "images_per_second": speeds}


def _timed(run: Way, files: list[Path]) -> Callable[[], float]:
    """A way as a measurement: images per second over these files."""
    return lambda: rate(len(files), lambda: run(files))


def cervicyte_ways(name: str, weights: str, files: list[Path], options: argparse.Namespace) -> dict[str, Way]:
    """cervicyte in float32, bfloat16 (where the processor has it) and int8; nothing cached."""
    precisions = ["float32"] + (["bfloat16"] if runtime.has_bfloat16() else [])
    extractors = {p: extraction.make_extractor(name, weights, precision=p) for p in precisions}
    if "int8" in options.precisions.split(","):
        exact = extractors["float32"]
        middle = len(files) // 2
        with tempfile.TemporaryDirectory() as folder:
            path = quantise(exact.onnx_path, batches(files[: min(64, middle)], exact), Path(folder) / "int8.onnx")
            error = quantisation_error(exact.onnx_path, path, batches(files[middle : middle + 32], exact))
            print(f"  {name} int8: features differ by {error.relative:.3f}, cosine {error.cosine:.4f}", file=sys.stderr)
            extractors["int8"] = extraction.make_extractor(name, weights, precision="float32")
            extractors["int8"].engine = runtime.Engine(path.read_bytes())
            extractors["int8"].parallel = extractors["int8"].engine.parallel

    wanted = options.precisions.split(",")
    return {f"cervicyte {p}": partial(stream_files, extractor=e) for p, e in extractors.items() if p in wanted}


def keras_ways(name: str, weights: str, batch: int) -> dict[str, Way]:
    """The same network in Keras on torch: batches, and system B's one image at a time."""
    keras = import_keras()
    row = get_backbone(name)
    base = build_network(row, find_weights(row, weights))
    model = keras.Model(base.input, keras.layers.GlobalAveragePooling2D()(base.output))

    def load(path: Path) -> np.ndarray:
        image = keras.utils.load_img(path, target_size=(row.size, row.size))
        return keras.utils.img_to_array(image)

    def prepared(pixels: np.ndarray) -> np.ndarray:
        return keras.applications.imagenet_utils.preprocess_input(pixels, mode=row.preprocessing)

    def batched(some: list[Path]) -> None:
        model.predict(prepared(np.stack([load(p) for p in some])), batch_size=batch, verbose=0)

    def one_by_one(some: list[Path]) -> None:
        for path in some:
            model.predict(prepared(load(path)[None]), verbose=0)

    return {"Keras predict": batched, "Keras, one image at a time": one_by_one}


def stream(files: list[Path], options: argparse.Namespace, scratch: Path) -> dict:
    """A folder of many files end to end, against the engine alone on one batch in memory."""
    name = options.networks.split(",")[0]
    extractor = extraction.make_extractor(name, options.weights if name in options.real.split(",") else "random")
    count = options.stream
    images = write_many(files, scratch / "many", count)
    batch = np.stack([extractor.prepare(decoding.load(p)) for p in files[: extractor.batch_size]])
    process, memory = psutil.Process(), {}

    def alone(seconds: float) -> float:
        start, done = time.perf_counter(), 0

        def same() -> Iterator[np.ndarray]:
            while time.perf_counter() - start < seconds:
                yield batch

        for _ in extractor.engine.stream(same()):
            done += len(batch)
        return done / (time.perf_counter() - start)

    alone(3)
    engine, folder = [alone(options.slice_seconds)], []
    cache = FeatureCache(f"benchmark-{time.time_ns()}", scratch)
    # In slices, the engine measured between them: what else runs on the machine meets both alike.
    size = -(-count // options.slices)
    for start in range(0, count, size):
        part = images[start : start + size]
        begin = time.perf_counter()
        for index, answer in extraction.stream(iter(part), extractor, cache):
            assert isinstance(answer, np.ndarray), answer
            done = start + index + 1
            if done in (count // 10, count // 2, count):
                memory[f"{round(100 * done / count)} %"] = resident_mb(process)
        folder.append((len(part), time.perf_counter() - begin))
        engine.append(alone(options.slice_seconds))
        print(f"  {start + len(part)}: {len(part) / folder[-1][1]:.1f}/s, engine {engine[-1]:.1f}/s", file=sys.stderr)
    cache.commit()
    first = sum(n for n, _ in folder) / sum(s for _, s in folder)
    begin = time.perf_counter()
    hits = sum(1 for _ in extraction.stream(iter(images), extractor, cache))
    second = hits / (time.perf_counter() - begin)
    cache.close()
    of_engine = statistics.median((n / s) / ((engine[i] + engine[i + 1]) / 2) for i, (n, s) in enumerate(folder))
    print(f"\n**{name}**, {extractor.precision}, {count} files\n")
    rows = (
        ("engine alone, images/s", median_and_range(engine)),
        ("folder to features, images/s", f"{first:.1f}"),
        ("share of the engine's speed (median of slices; target 90 %)", f"{100 * of_engine:.1f} %"),
        ("second run, all cached, images/s", f"{second:.0f}, {second / first:.0f} times the first (target 50)"),
        ("resident memory at 10 / 50 / 100 %, MB", " / ".join(str(size) for size in memory.values())),
    )
    print_table(("", ""), rows)
    return {
        "network": name,
        "precision": extractor.precision,
        "count": count,
        "engine_images_per_second": engine,
        "folder_slices": folder,
        "share_of_engine": of_engine,
        "cached_images_per_second": second,
        "cached_over_first": second / first,
        "resident_mb": memory,
    }


def batches(files: list[Path], extractor: extraction.NetworkExtractor, size: int = 8) -> Iterator[np.ndarray]:
    """Prepared images, some at a time."""
    for start in range(0, len(files), size):
        yield np.stack([extractor.prepare(decoding.load(p)) for p in files[start : start + size]])


def write_many(files: list[Path], folder: Path, count: int) -> list[CellImage]:
    """``count`` files of different content: copies with a number after the image's end."""
    folder.mkdir(parents=True)
    images = []
    for i, source in enumerate(repeat(files, count)):
        path = folder / f"{i:06d}{source.suffix}"
        shutil.copyfile(source, path)
        with path.open("ab") as out:
            out.write(b"%d" % i)
        images.append(CellImage(str(path)))
    return images


def _options() -> argparse.Namespace:
    parser = make_parser(__doc__, weights="")
    parser.add_argument("--networks", default="ResNet50,ResNet152", help="names, separated by commas")
    parser.add_argument("--real", default="ResNet50", help="networks with real weights; the others get random ones")
    parser.add_argument("--precisions", default="float32,bfloat16,int8", help="of cervicyte")
    parser.add_argument("--images", type=Path, help="folder with images; default: 256 generated ones")
    parser.add_argument("--images-per-row", type=int, default=192, help="images per round in cervicyte's rows")
    parser.add_argument("--images-per-keras-row", type=int, default=32, help="images per round in Keras' rows")
    parser.add_argument("--batch", type=int, default=32, help="Keras' batch size")
    parser.add_argument("--stream", type=int, default=0, help="number of files: run the folder benchmark instead")
    parser.add_argument("--slices", type=int, default=10, help="of the folder benchmark")
    parser.add_argument("--slice-seconds", type=float, default=5.0, help="engine alone, between two slices")
    return parser.parse_args()


if __name__ == "__main__":
    main()
