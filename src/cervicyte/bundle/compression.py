"""A finished bundle in 8-bit integers: where bfloat16 is not to be had, the graph alone is about twice as fast.

Reading and judging an image takes as long as before: with the small network that ships files to verdicts are 1.3 times
as fast, and a single image gains nothing.

The smaller model is another model: what it changes is measured on images that did not calibrate it, and told.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from cervicyte.base.progress import say, track
from cervicyte.bundle.folder import GRAPH, TRAINING_CELLS, Bundle, save_bundle
from cervicyte.bundle.inference import GraphExtractor
from cervicyte.errors import DataError, UsageError
from cervicyte.images import decoding
from cervicyte.networks import runtime
from cervicyte.networks.quantisation import quantise, weight_bits

#: Images that set the ranges of the integers, and further ones on which the change is measured.
CALIBRATION, COMPARISON = 64, 256

_BATCH = 16


@dataclass(frozen=True)
class Change:
    """How far the compressed model's probabilities are from the original's, on images that did not calibrate it.

    Attributes
    ----------
    images : how many were compared
    mean, largest : of |difference| over all classes
    same_class : share of images whose most probable class is the same
    """

    images: int
    mean: float
    largest: float
    same_class: float


def compress(model: Bundle, inputs: Iterable[Path | str], out: Path | str) -> tuple[Bundle, Change]:
    """Write an 8-bit version of a bundle, calibrated on training images.

    Parameters
    ----------
    model : a bundle on images
    inputs : files, folders and globs of training images; a fixed choice of them is used
    out : folder of the new bundle

    Returns
    -------
    the new bundle, whose scores and limits are the original's, and how far its answers are from those in float32

    Raises
    ------
    UsageError : an ensemble, a bundle on measurements, or one that is 8-bit already
    DataError : too few readable images
    StorageError : the folder cannot be written
    """
    manifest = model.manifest
    if manifest.input.kind != "image" or manifest.precision == "int8":
        what = "an ensemble" if manifest.members else f"{manifest.input.kind}, {manifest.precision}"
        raise UsageError(
            "only a bundle of a single network in full precision can be compressed",
            f"{model.folder}: {what}",
            "name such a bundle, or predict with this one as it is",
        )
    extractor = GraphExtractor(model.folder, manifest.graphs[0], len(manifest.classes), "float32")
    paths = [f.path for f in decoding.find_images(inputs) if f.problem is None]
    order = np.random.default_rng(0).permutation(len(paths))[: 2 * (CALIBRATION + COMPARISON)]
    prepared = _prepared([paths[i] for i in order], extractor)
    if len(prepared) < CALIBRATION + 1:
        raise DataError("too few readable images to calibrate on", len(prepared), f"give at least {CALIBRATION + 1}")
    first, rest = prepared[:CALIBRATION], prepared[CALIBRATION : CALIBRATION + COMPARISON]
    with TemporaryDirectory() as scratch:
        small = quantise(model.folder / GRAPH, _batches(first), Path(scratch) / "int8.onnx")
        engine = runtime.Engine(small, ("probabilities",))
        before = np.concatenate([extractor.run(batch) for batch in _batches(rest)])
        after = np.concatenate([engine.run(batch)["probabilities"] for batch in _batches(rest)])
        difference = np.abs(before - after)
        same = float((before.argmax(axis=1) == after.argmax(axis=1)).mean())
        change = Change(len(rest), float(difference.mean()), float(difference.max()), same)
        training = {
            **manifest.training,
            "facts": {**manifest.training.get("facts", {}), "Precision": "int8"},
            "compressed": {
                **asdict(change),
                "from": model.graph_sha256,
                "precision": manifest.precision,
                "weight_bits": weight_bits(small),
            },
        }
        smaller = replace(manifest, name=f"{manifest.name}, int8", precision="int8", training=training)
        with np.load(model.folder / TRAINING_CELLS, allow_pickle=False) as stored:
            training_cells = {name: stored[name] for name in stored.files}
        return save_bundle(out, smaller, small.read_bytes(), training_cells), change


def _prepared(paths: Sequence[Path], extractor: GraphExtractor) -> np.ndarray:
    rows = []
    for path in track(paths, "Reading"):
        try:
            rows.append(extractor.prepare(decoding.load(path)))
        except DataError as error:
            say(f"not used: {error.one_line}")
    return np.stack(rows) if rows else np.empty((0,))


def _batches(rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), _BATCH):
        yield rows[start : start + _BATCH]
