"""From files on disk to feature vectors: decoding, filters and inference at the same time.

Memory stays flat for any number of images; each file is read once; what the cache knows
is not even decoded.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cervicyte import settings
from cervicyte.base import fingerprints
from cervicyte.base.parallel import in_order
from cervicyte.base.progress import track
from cervicyte.base.versions import opencv_version, version_of
from cervicyte.data.cells import CellTable
from cervicyte.errors import CervicyteError, ImageError, UsageError
from cervicyte.features.cache import FeatureCache, cell_key
from cervicyte.images import decoding, filters
from cervicyte.images.augmentation import GEOMETRIC, Augmentation, augmented_copy
from cervicyte.images.decoding import CellImage
from cervicyte.networks.registry import Backbone, find_weights, get_backbone
from cervicyte.networks.runtime import Engine
from cervicyte.settings import available_threads

#: Raised when the same inputs would give other features, so that old ones are not taken.
FEATURE_FORMAT = 2

#: Images that one worker takes at a time.
_CHUNK = 16


class Extractor(Protocol):
    """What turns a decoded cell into a vector, in two steps.

    Attributes
    ----------
    key : names every input of the features besides the cell itself (64 hexadecimal digits)
    dimension : length of a vector
    batch_size : rows that `run` likes best
    parallel : how many `run` calls at a time keep the processor busy
    seed : of the augmented copies
    augmentation : how far they lie from their original
    """

    key: str
    dimension: int
    batch_size: int
    parallel: int
    seed: int
    augmentation: Augmentation

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """One cell, uint8 (h, w, 3), to one row of the batch; runs in several threads."""
        ...

    def run(self, batch: np.ndarray) -> np.ndarray:
        """A stack of prepared rows to float32 (n, dimension); called from several threads."""
        ...


class NetworkExtractor:
    """A network's features: filters, resize, then the engine.

    Parameters
    ----------
    backbone : a row of the registry or a user's ONNX file
    weights : see `cervicyte.networks.registry.find_weights`
    fit : "stretch" or "pad" (`cervicyte.images.decoding.resize`)
    chain : texts of filters, applied before the resize
    precision : see `cervicyte.networks.runtime.Engine`
    layer : Keras layer to tap; default the last
    orientations : flips and turns to average over, one of `cervicyte.networks.orientations.COUNTS`
    weights_seed : of random weights, when these were asked for
    seed : of the augmented copies
    augmentation : how far they lie from their original
    engine_options : passed on to `cervicyte.networks.runtime.Engine`
    """

    def __init__(
        self,
        backbone: Backbone,
        weights: str | None = None,
        *,
        fit: str = "stretch",
        chain: tuple[str, ...] = (),
        precision: str | None = None,
        layer: str | None = None,
        orientations: int = 1,
        weights_seed: int = 0,
        seed: int = 0,
        augmentation: Augmentation = GEOMETRIC,
        **engine_options: Any,
    ) -> None:
        from cervicyte.networks.keras.export import export_backbone, export_record
        from cervicyte.networks.orientations import averaged_file

        if fit not in decoding.FITS:
            raise UsageError("unknown fit", repr(fit), f"there are: {', '.join(decoding.FITS)}")
        self.backbone = backbone
        self.weights = find_weights(backbone, weights, seed=weights_seed) if backbone.kind == "keras" else None
        exported = export_backbone(backbone, self.weights, layer=layer)
        self.record = export_record(exported)
        self.onnx_path = averaged_file(exported, orientations)
        wanted = sound_precision(precision or settings.get_str("precision"), self.record["parity"], backbone)
        self.engine = Engine(self.onnx_path, ("features",), precision=wanted, **engine_options)
        self.size = int(self.record["input_size"])
        self.dimension = int(self.record["dimension"])
        self.precision = self.engine.precision
        self.batch_size = max(1, self.engine.batch_size // orientations)
        self.parallel = self.engine.parallel
        self.fit = fit
        self.chain = chain
        self.seed = seed
        self.augmentation = augmentation
        self.description = {
            "format": FEATURE_FORMAT,
            "backbone": "onnx" if backbone.kind == "onnx" else backbone.name,
            "weights": self.weights.sha256 if self.weights else self.record["source_sha256"],
            "graph": self.record["sha256"],
            "layer": layer,
            "orientations": orientations,
            "size": self.size,
            "fit": fit,
            "filters": list(chain),
            "precision": self.precision,
            "engine": [self.engine.engine, version_of(self.engine.engine)],
            "pixels": {"pillow": version_of("pillow"), "opencv-python-headless": opencv_version()},
            **_augmentation_key(augmentation, seed),
        }
        self.key = fingerprints.of_json(self.description)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """uint8 (h, w, 3) to uint8 (size, size, 3)."""
        return decoding.resize(filters.apply_chain(image, self.chain), self.size, self.fit)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """uint8 (n, size, size, 3) to float32 (n, dimension)."""
        return self.engine.run(batch)["features"]


class MorphologyExtractor:
    """Named measurements of nucleus, cytoplasm, colour and texture; no network, no weights."""

    batch_size = 1
    parallel = 1
    precision = "float32"

    def __init__(self, *, chain: tuple[str, ...] = (), seed: int = 0, augmentation: Augmentation = GEOMETRIC) -> None:
        from cervicyte.images import morphology

        self._measure = morphology.measure
        self.names: tuple[str, ...] = morphology.NAMES
        self.dimension = len(self.names)
        self.chain = chain
        self.seed = seed
        self.augmentation = augmentation
        self.description = {
            "format": FEATURE_FORMAT,
            "backbone": "morphology",
            "names": list(self.names),
            "source": hashlib.sha256(morphology_code()).hexdigest(),
            "filters": list(chain),
            "pixels": {
                "pillow": version_of("pillow"),
                "opencv-python-headless": opencv_version(),
                "scikit-image": version_of("scikit-image"),
            },
            **_augmentation_key(augmentation, seed),
        }
        self.key = fingerprints.of_json(self.description)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """uint8 (h, w, 3) to float32 (dimension,): the measuring itself."""
        return np.asarray(self._measure(filters.apply_chain(image, self.chain)), dtype=np.float32)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """The measurements as they are."""
        return batch


def make_extractor(
    backbone: str,
    weights: str | None = None,
    *,
    size: int | None = None,
    fit: str = "stretch",
    chain: tuple[str, ...] = (),
    precision: str | None = None,
    layer: str | None = None,
    orientations: int = 1,
    preprocessing: str | None = None,
    weights_seed: int = 0,
    seed: int = 0,
    augmentation: Augmentation = GEOMETRIC,
    **engine_options: Any,
) -> NetworkExtractor | MorphologyExtractor:
    """Make the extractor of that name, exporting its network if that was not done before.

    Raises
    ------
    UsageError : an unknown name, size, layer, fit or precision
    MissingError : weights or the extra ``train`` are needed and not here
    DataError : damaged weights, or the parity check failed
    """
    row = get_backbone(backbone, preprocessing, size)
    if row.kind == "morphology":
        return MorphologyExtractor(chain=chain, seed=seed, augmentation=augmentation)
    return NetworkExtractor(
        row,
        weights,
        fit=fit,
        chain=chain,
        precision=precision,
        layer=layer,
        orientations=orientations,
        weights_seed=weights_seed,
        seed=seed,
        augmentation=augmentation,
        **engine_options,
    )


@dataclass
class _Slot:
    """One image on its way: prepared row, then vector or error."""

    index: int
    key: bytes = b""
    row: np.ndarray | None = None
    answer: np.ndarray | CervicyteError | None = None


def stream(
    images: Iterable[CellImage], extractor: Extractor, cache: FeatureCache | None = None
) -> Iterator[tuple[int, np.ndarray | CervicyteError]]:
    """Yield (index, vector or error) for each image, in order.

    Reading, decoding and filters run in worker threads while the engine computes. One
    unreadable image yields its error; the others go on. The number of images held at any
    time is bounded, so ``images`` may be an endless generator.

    Parameters
    ----------
    images : where the cells are
    extractor : what makes the vectors
    cache : where they are kept; None computes all of them

    Raises
    ------
    StorageError : the cache cannot be written (what was committed is kept)
    """
    slots: deque[_Slot] = deque()
    waiting: list[_Slot] = []
    running: deque[tuple[list[_Slot], Future[np.ndarray]]] = deque()
    limit = max(4 * _CHUNK, 8 * extractor.batch_size * (extractor.parallel + 1))

    def launch(pool: ThreadPoolExecutor) -> None:
        batch = np.stack([slot.row for slot in waiting if slot.row is not None])
        running.append((list(waiting), pool.submit(extractor.run, batch)))
        for slot in waiting:
            slot.row = None
        waiting.clear()

    def collect() -> None:
        batch, future = running.popleft()
        for slot, vector in zip(batch, future.result(), strict=True):
            slot.answer = vector
            if cache is not None:
                cache.put(slot.key, vector)

    def finished() -> Iterator[tuple[int, np.ndarray | CervicyteError]]:
        while slots and slots[0].answer is not None:
            slot = slots.popleft()
            assert slot.answer is not None
            yield slot.index, slot.answer

    runners = ThreadPoolExecutor(extractor.parallel, "engine")
    chunks = _prepared(images, extractor, cache)
    try:
        for chunk in chunks:
            for slot in chunk:
                slots.append(slot)
                if slot.answer is None:
                    waiting.append(slot)
                if len(waiting) >= extractor.batch_size:
                    launch(runners)
            while running and (len(running) > extractor.parallel + 1 or running[0][1].done()):
                collect()
            if len(slots) > limit:  # a lone miss among many hits must not hold them all back
                if waiting:
                    launch(runners)
                while running:
                    collect()
            yield from finished()
        if waiting:
            launch(runners)
        while running:
            collect()
            yield from finished()
        yield from finished()
    finally:
        chunks.close()
        runners.shutdown(wait=True, cancel_futures=True)
        if cache is not None:
            cache.commit()


def extract(
    cells: CellTable, extractor: Extractor, cache: FeatureCache | None = None, label: str = "features"
) -> tuple[np.ndarray, dict[int, CervicyteError]]:
    """The features of a table's cells, with progress.

    Returns
    -------
    features : float32 (n, dimension); rows of unreadable cells are NaN
    errors : row index to what was wrong with it
    """
    features = np.full((len(cells), extractor.dimension), np.nan, dtype=np.float32)
    errors: dict[int, CervicyteError] = {}
    images = (cell.image for cell in cells.cells)
    for index, answer in track(stream(images, extractor, cache), label, len(cells)):
        if isinstance(answer, CervicyteError):
            errors[index] = answer
        else:
            features[index] = answer
    return features, errors


def _prepared(
    images: Iterable[CellImage], extractor: Extractor, cache: FeatureCache | None
) -> Generator[list[_Slot], None, None]:
    """Chunks of slots in order, prepared ahead of their use, but not far ahead."""
    numbered = enumerate(images)
    chunks = iter(lambda: list(itertools.islice(numbered, _CHUNK)), [])
    threads = max(2, available_threads())
    return in_order(lambda chunk: _prepare(chunk, extractor, cache), chunks, threads=threads, ahead=threads + 2)


def _prepare(chunk: list[tuple[int, CellImage]], extractor: Extractor, cache: FeatureCache | None) -> list[_Slot]:
    """Read and hash each file of a chunk once, ask the cache, and decode what it does not know."""
    slots = [_Slot(index) for index, _ in chunk]
    contents: dict[str, tuple[bytes, bytes] | CervicyteError] = {}
    for slot, (_, image) in zip(slots, chunk, strict=True):
        if image.path not in contents:
            try:
                data = decoding.read_bytes(image.path)
                contents[image.path] = (data, hashlib.sha256(data).digest())
            except CervicyteError as error:
                contents[image.path] = error
        content = contents[image.path]
        if isinstance(content, CervicyteError):
            slot.answer = content
        else:
            slot.key = cell_key(content[1], image.box, image.variant)
    if cache is not None:
        known = cache.get(list({slot.key for slot in slots if slot.answer is None}))
        for slot in slots:
            if slot.answer is None and slot.key in known:
                slot.answer = known[slot.key]
    decoded_path, decoded = "", np.empty(0)
    for slot, (_, image) in zip(slots, chunk, strict=True):
        content = contents[image.path]
        if slot.answer is not None or isinstance(content, CervicyteError):
            continue
        try:
            with odd_cells(image.path):
                if decoded_path != image.path:
                    decoded, decoded_path = decoding.decode(content[0], image.path), image.path
                cell = decoded if image.box is None else decoding.crop(decoded, image.box)
                cell = augmented_copy(cell, image.variant, content[1].hex(), extractor.seed, extractor.augmentation)
                slot.row = extractor.prepare(cell)
        except CervicyteError as error:
            slot.answer = error
    return slots


@contextmanager
def odd_cells(name: object) -> Iterator[None]:
    """Turn what filters and measurements raise on an odd image, such as one of a single pixel, into an ImageError."""
    import cv2

    try:
        yield
    except (cv2.error, ValueError, ArithmeticError, IndexError, MemoryError) as error:
        fault = f"the cell could not be prepared ({type(error).__name__}: {error})"
        raise ImageError(fault, name, "look at the image: it may be only a few pixels large") from error


def sound_precision(wanted: str, parity: dict[str, Any], backbone: Backbone) -> str:
    """The precision to run at: bfloat16 only for a network whose features it leaves as they are."""
    check = parity.get("bfloat16", {"within": True})
    if check["within"]:
        return wanted
    if wanted == "bfloat16":
        raise UsageError(
            f"bfloat16 changes the features of {backbone.name} too much",
            f"relative difference {check['relative_error']:.2g}, allowed {check['bound']:g}",
            "use --precision float32 or auto",
        )
    return "float32" if wanted == "auto" else wanted


def _augmentation_key(augmentation: Augmentation, seed: int) -> dict[str, Any]:
    """What the copies depend on; the default is left out, as it was before there were others, and keeps its keys."""
    key: dict[str, Any] = {"augmentation_seed": seed}
    if augmentation != GEOMETRIC:
        key["augmentation"] = augmentation.to_json()
    if augmentation.chain:
        key["chain"] = list(augmentation.chain)
    return key


def morphology_code() -> bytes:
    """The code of the measurements and of the segmentation under them: another code, other features."""
    from cervicyte.images import morphology

    measuring = Path(morphology.__file__)
    return measuring.read_bytes() + measuring.with_name("segmentation.py").read_bytes()
