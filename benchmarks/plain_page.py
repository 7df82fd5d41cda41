"""A page as system B serves its model, to measure `cervicyte serve` against (see web_load.py).

    python benchmarks/plain_page.py --network ResNet50
    python benchmarks/plain_page.py --bundle run/bundle

Flask's own server, one image a request, one forward pass a request, nothing batched, nothing kept, nobody asked who
he is. ``--network`` is Keras on torch, eager, with the network's preprocessing and a linear head; ``--bundle`` is a
bundle's graphs in their own engine.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Callable

import numpy as np
from flask import Flask, jsonify, request
from werkzeug.serving import make_server

from cervicyte.bundle.folder import Bundle
from cervicyte.images import decoding
from cervicyte.networks.keras.export import build_network
from cervicyte.networks.registry import find_weights, get_backbone, import_keras

#: Bytes of an image to P(abnormal).
Model = Callable[[bytes], float | None]


def main() -> None:
    """Serve until ended; the first line says where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle")
    parser.add_argument("--network", default="ResNet50")
    parser.add_argument("--weights", default="random", help="file or folder with weights; the speed is the same")
    options = parser.parse_args()
    model = of_bundle(options.bundle) if options.bundle else of_network(options.network, options.weights)
    app = Flask(__name__)

    @app.post("/predict")
    def predict() -> object:
        return jsonify({"p_abnormal": model(request.get_data())})

    server = make_server("127.0.0.1", 0, app, threaded=True)
    print(f"serves http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


def of_network(name: str, weights: str) -> Model:
    """A network in Keras on torch, run eagerly on one image, under a head drawn at random."""
    keras = import_keras()
    import torch

    row = get_backbone(name)
    base = build_network(row, find_weights(row, weights))
    network = keras.Model(base.input, keras.layers.GlobalAveragePooling2D()(base.output))
    head = np.random.default_rng(0).normal(size=network.output_shape[-1]) * 0.01

    def answer(data: bytes) -> float:
        image = keras.utils.load_img(io.BytesIO(data), target_size=(row.size, row.size))
        pixels = keras.utils.img_to_array(image)[None]
        with torch.no_grad():
            features = network(keras.applications.imagenet_utils.preprocess_input(pixels, mode=row.preprocessing))
        vector = keras.ops.convert_to_numpy(features)[0]
        return float(1 / (1 + np.exp(-vector @ head)))

    return answer


def of_bundle(path: str) -> Model:
    """A bundle's graphs, run on one image."""
    bundle = Bundle.load(path)
    extractor = bundle.extractor()

    def answer(data: bytes) -> float | None:
        row = extractor.prepare(decoding.decode(data, "the image"))
        return bundle.verdict("", extractor.run(row[None])[0]).p_abnormal

    return answer


if __name__ == "__main__":
    main()
