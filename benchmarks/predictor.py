"""Images per second through the web application's predictor, with many clients at once, against plain streaming.

    python benchmarks/predictor.py --weights FOLDER

A ResNet50 bundle answers the same files in both ways, in turns, in one run: `cervicyte.features.extraction.stream`
with nothing cached, and threads of clients that each send a few images, wait for the verdicts, and send the next.
See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
from pathlib import Path
from statistics import median

from cervicyte.web.engine.predictor import Predictor
from common import (
    make_network_bundle,
    make_parser,
    median_and_range,
    print_table,
    rate,
    repeat,
    run_in_turns,
    stream_files,
    write_figures,
    write_images,
)


def main() -> None:
    """Make the bundle and the images, run both ways in turns, print the table."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch:
        bundle = make_network_bundle(options.network, options.weights, Path(scratch) / "bundle")
        files = write_images(Path(scratch) / "images", 128)
        some = repeat(files, options.images)
        extractor = bundle.extractor()
        with Predictor(bundle, queue_size=max(512, 2 * options.clients * options.images_a_request)) as predictor:
            send(predictor, files, options)  # start the threads, compile for the sizes of batches that occur
            stream_files(files, extractor)
            ways = {
                "streaming": lambda: rate(len(some), lambda: stream_files(some, extractor)),
                "predictor": lambda: rate(len(some), lambda: send(predictor, some, options)),
            }
            speeds = run_in_turns(ways, options.rounds)
            counts = predictor.statistics()
    share = median(p / s for p, s in zip(speeds["predictor"], speeds["streaming"], strict=True))
    print(f"\n**{options.network}**, {options.clients} clients, {options.images_a_request} images a request\n")
    rows = [(way, median_and_range(values)) for way, values in speeds.items()]
    rows += [
        ("share of streaming (median of rounds; target 85 %)", f"{100 * share:.0f} %"),
        ("images in a batch, mean", f"{counts.images / max(1, counts.batches):.1f}"),
        ("seconds from request to verdict, mean", f"{counts.waited_s / max(1, counts.images):.2f}"),
    ]
    print_table(("", "images/s (range)"), rows)
    sizes = {str(size): n for size, n in sorted(counts.batch_sizes.items())}
    write_figures(options.out, speeds=speeds, share=share, batch_sizes=sizes)


def send(predictor: Predictor, files: list[Path], options: argparse.Namespace) -> None:
    """Send all files by so many clients, each of which waits for its verdicts before it sends the next."""
    requests = [files[i : i + options.images_a_request] for i in range(0, len(files), options.images_a_request)]

    def client(own: list[list[Path]]) -> None:
        for request in own:
            assert not any(prediction.error for prediction in predictor.predict(request))

    threads = [threading.Thread(target=client, args=(requests[i :: options.clients],)) for i in range(options.clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _options() -> argparse.Namespace:
    parser = make_parser(__doc__, rounds=5, weights="random")
    parser.add_argument("--network", default="ResNet50")
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--images-a-request", type=int, default=1)
    parser.add_argument("--images", type=int, default=512, help="of each round")
    return parser.parse_args()


if __name__ == "__main__":
    main()
