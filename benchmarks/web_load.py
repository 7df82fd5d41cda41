"""How much of the engine's speed `cervicyte serve` passes on to its clients, how long they wait, and what it remembers.

    python benchmarks/web_load.py BUNDLE
    python benchmarks/web_load.py --network ResNet50 --weights FOLDER

A real server process answers ``POST /api/v1/predict`` to 1, 8 and 32 clients; the bundle streams the same files; a page
written system B's way (plain_page.py) answers the same clients. All in turns, in one run, so that other work on the
machine meets all of them alike. The clients share the processor with the server: what they cost is its loss and never
streaming's, and so they are as light as clients can be (clients.py) and run in this process, which does nothing else
meanwhile. Then the server answers many requests while its memory is read. See benchmarks/README.md.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import re
import secrets
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import psutil

from cervicyte.bundle.folder import Bundle
from cervicyte.images import decoding
from cervicyte.web.accounts import api_tokens, registration
from cervicyte.web.base.site import open_site
from clients import Address, Load, load
from common import (
    find_files,
    make_network_bundle,
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

#: Shares of the requests after which the server's memory is read.
MARKS = (0.1, 0.5, 1.0)


def main() -> None:
    """Start both servers, run all ways in turns, then the long run; print the tables."""
    options = _options()
    with tempfile.TemporaryDirectory() as scratch, contextlib.ExitStack() as stack:
        folder = Path(scratch)
        path = options.bundle or make_network_bundle(options.network, options.weights, folder / "bundle").folder
        bundle = Bundle.load(path)
        files = find_files(options.images, folder, 128)
        some = repeat(files, options.images_a_round)
        images = [file.read_bytes() for file in files]
        extractor = bundle.extractor()
        server, process = stack.enter_context(_serving(path, folder / "data"))
        page = stack.enter_context(_plain_page(options, path))
        _same_answers(bundle, server, images[:8])
        stream_files(files, extractor)
        for place in (server, page):  # compile for the sizes of batches that occur, start the threads
            load(place, images, max(options.clients), 2 * max(options.clients))
        # Eager in Keras, as system B does it; or the bundle's own engine, which only lacks the batches.
        plain = f"plain page, {options.page_network} in Keras" if options.page_network else "plain page, this bundle"
        ways = {
            (name, clients): partial(load, place, images, clients, count)
            for clients in options.clients
            for name, place, count in (
                ("cervicyte serve", server, options.images_a_round),
                (plain, page, options.images_a_page),
            )
        }
        streaming: list[float] = []
        loads: dict[tuple[str, int], list[Load]] = {way: [] for way in ways}
        for _ in range(options.rounds):
            streaming.append(rate(len(some), lambda: stream_files(some, extractor)))
            for way, (measured,) in run_in_turns(ways, 1, lambda measured: f"{measured.rate:.1f}/s").items():
                loads[way].append(measured)
        _print_loads(bundle.manifest.name, streaming, loads)
        memory = _memory(server, process, images, max(options.clients), options.requests)
    rows = [
        {"way": way, "clients": n, "rate": r.rate, "p50_ms": r.quantile(0.5), "p95_ms": r.quantile(0.95)}
        | {"turned_away": r.turned_away}
        for (way, n), measured in loads.items()
        for r in measured
    ]
    write_figures(options.out, streaming=streaming, loads=rows, resident_mb=memory)


def _same_answers(bundle: Bundle, server: Address, images: list[bytes]) -> None:
    """The server says what the bundle says; speed without that would mean nothing."""
    where = urlsplit(server.url)
    extractor = bundle.extractor()
    for data in images:
        own = bundle.verdict("", extractor.run(extractor.prepare(decoding.decode(data, "it"))[None])[0])
        connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=120)
        connection.request("POST", where.path, data, server.headers)
        answer = connection.getresponse()
        body = json.load(answer)
        connection.close()
        assert answer.status == 200, body
        assert body["label"] == own.label, (body, own)


def _memory(server: Address, process: psutil.Process, images: list[bytes], clients: int, count: int) -> dict[str, int]:
    """Megabytes of the server after a tenth, half and all of many requests; prints them."""
    marks = {max(1, round(share * count)): f"{round(100 * share)} %" for share in MARKS}
    memory: dict[str, int] = {}

    def watch(done: int) -> None:
        if done in marks:
            memory[marks[done]] = resident_mb(process)
            print(f"  {done} requests: {memory[marks[done]]} MB", file=sys.stderr)

    long_run = load(server, images, clients, count, watch)
    sizes = " / ".join(str(size) for size in memory.values())
    print(f"\n{count} requests of {clients} clients, {long_run.rate:.1f}/s", end="; ")
    print(f"resident memory at 10 / 50 / 100 %: {sizes} MB")
    return memory


def _print_loads(name: str, streaming: list[float], loads: dict[tuple[str, int], list[Load]]) -> None:
    print(f"\n**{name}**; streaming {median_and_range(streaming)} images/s\n")
    rows = []
    for (way, clients), measured in loads.items():
        rates = [load.rate for load in measured]
        share = statistics.median(speed / own for speed, own in zip(rates, streaming, strict=True))
        p50, p95 = (statistics.median(load.quantile(q) for load in measured) for q in (0.5, 0.95))
        later = sum(load.turned_away for load in measured)
        rows.append((way, clients, median_and_range(rates), f"{100 * share:.0f} %", f"{p50:.0f}", f"{p95:.0f}", later))
    head = ("way", "clients", "images/s (range)", "share of streaming", "p50, ms", "p95, ms", "asked to come later")
    print_table(head, rows)


@contextlib.contextmanager
def _serving(bundle: Path | str, data_dir: Path) -> Iterator[tuple[Address, psutil.Process]]:
    """`cervicyte serve` with one user, who has a token."""
    site = open_site(data_dir)
    link = registration.setup_link(site)
    assert link is not None
    words = secrets.token_urlsafe(24)
    user = registration.set_up(site, link.rsplit("/", 1)[1], "load@bench.example", "Load test", words)
    token = api_tokens.make(site, user.id, "load test").text
    site.database.close()
    command = [sys.executable, "-m", "cervicyte", "serve", "--model", str(bundle), "--port", "0"]
    with _started([*command, "--data-dir", str(data_dir)]) as (root, process):
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/octet-stream"}
        yield Address(f"{root}/api/v1/predict", headers), process


@contextlib.contextmanager
def _plain_page(options: argparse.Namespace, bundle: Path | str) -> Iterator[Address]:
    script = str(Path(__file__).with_name("plain_page.py"))
    what = ["--bundle", str(bundle)]
    if options.page_network:
        what = ["--network", options.page_network, "--weights", options.weights]
    with _started([sys.executable, script, *what]) as (root, _):
        yield Address(f"{root}/predict")


@contextlib.contextmanager
def _started(command: list[str]) -> Iterator[tuple[str, psutil.Process]]:
    """A server process that says where it serves; its log is thrown away, as writing it costs nothing here."""
    environment = {name: value for name, value in os.environ.items() if name != "CERVICYTE_PUBLIC_URL"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment)
    assert process.stdout is not None
    try:
        address = next(filter(None, (re.search(r"serves (http://[^\s/]+)", line) for line in process.stdout)), None)
        if address is None:
            raise SystemExit(f"did not start: {' '.join(command)}")
        yield address[1], psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait(60)
        process.stdout.close()


def _options() -> argparse.Namespace:
    parser = make_parser(__doc__, weights="random")
    parser.add_argument("bundle", nargs="?", help="left out: one is made of --network with a random head")
    parser.add_argument("--network", default="ResNet50")
    parser.add_argument(
        "--page-network", default="", help="network of the plain page, in Keras; left out: that of --network, or BUNDLE"
    )
    parser.add_argument("--images", type=Path, help="folder of images; left out: generated")
    parser.add_argument("--clients", type=lambda text: [int(n) for n in text.split(",")], default=[1, 8, 32])
    parser.add_argument("--images-a-round", type=int, default=512)
    parser.add_argument("--images-a-page", type=int, default=64, help="of a round, to the plain page, which is slow")
    parser.add_argument("--requests", type=int, default=20_000, help="of the long run, while memory is read")
    options = parser.parse_args()
    if options.bundle is None and not options.page_network:
        options.page_network = options.network
    return options


if __name__ == "__main__":
    main()
