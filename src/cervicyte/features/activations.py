"""Activations before the last blocks, computed once for each image and variant and kept on disk.

Fine-tuning the last blocks never changes what comes before them, so the untrained part of the network runs
once, through the fast engine, and training reads its answers from a memory-mapped file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte import settings
from cervicyte.base import files, fingerprints, working_folder
from cervicyte.base.progress import say, track
from cervicyte.base.versions import opencv_version, version_of
from cervicyte.data.cells import CellTable
from cervicyte.errors import CervicyteError, DataError, UsageError
from cervicyte.features import extraction
from cervicyte.images import decoding, filters
from cervicyte.images.augmentation import augmented_copy, get_augmentation
from cervicyte.images.decoding import CellImage
from cervicyte.networks.keras.export import BEFORE_TAIL, export_backbone, export_record
from cervicyte.networks.orientations import COUNTS, oriented
from cervicyte.networks.registry import Backbone, find_weights
from cervicyte.networks.runtime import Engine

#: Raised when the same inputs would give other activations.
ACTIVATION_FORMAT = 2

#: Images whose activations are flushed to disk together.
_FLUSH = 64


class PrefixExtractor:
    """The untrained part of a network, in the shape of a feature extractor over all views of an image.

    The views of an image are its ``orientations`` (first, the image as it is) and then ``variants``
    augmented copies. Filters come first, once for all views.

    Parameters
    ----------
    backbone : a row of the registry, with a tail
    weights : see `cervicyte.networks.registry.find_weights`
    fit, chain, precision : see `cervicyte.features.extraction.NetworkExtractor`
    orientations : flips and turns that are averaged at prediction, one of orientations.COUNTS
    variants : augmented copies to train on
    augmentation : how they are made
    copies : how the copies that a table holds already (CellImage.variant >= 1) are made
    seed : of both

    Raises
    ------
    UsageError : a backbone without named last blocks
    """

    batch_size = 1

    def __init__(
        self,
        backbone: Backbone,
        weights: str | None = None,
        *,
        fit: str = "stretch",
        chain: tuple[str, ...] = (),
        precision: str | None = None,
        orientations: int = 1,
        variants: int = 0,
        augmentation: str = "strong",
        copies: str = "geometric",
        weights_seed: int = 0,
        seed: int = 0,
    ) -> None:
        if not backbone.tail:
            raise UsageError("this backbone has no last blocks to fine-tune", backbone.name, "choose a Keras network")
        if orientations not in COUNTS:
            raise UsageError("orientations must be one of " + ", ".join(map(str, COUNTS)), orientations)
        self.backbone = backbone
        self.weights = find_weights(backbone, weights, seed=weights_seed)
        self.onnx_path = export_backbone(backbone, self.weights, layer=BEFORE_TAIL)
        record = export_record(self.onnx_path)
        wanted = extraction.sound_precision(precision or settings.get_str("precision"), record["parity"], backbone)
        self.engine = Engine(self.onnx_path, ("feature_map",), precision=wanted)
        self.precision = self.engine.precision
        self.parallel = self.engine.parallel
        self.size = int(record["input_size"])
        self.orientations = orientations
        self.variants = variants
        self.views = orientations + variants
        self.view_augmentation = get_augmentation(augmentation)
        self.augmentation = get_augmentation(copies)
        self.fit = fit
        self.chain = chain
        self.seed = seed
        blank = np.zeros((1, self.size, self.size, 3), dtype=np.uint8)
        self.shape = self.engine.run(blank)["feature_map"].shape[1:]
        self.dimension = self.views * int(np.prod(self.shape))
        described = {
            "format": ACTIVATION_FORMAT,
            "graph": record["sha256"],
            "precision": self.precision,
            "engine": [self.engine.engine, version_of(self.engine.engine)],
            "pixels": {"pillow": version_of("pillow"), "opencv-python-headless": opencv_version()},
            "fit": fit,
            "filters": list(chain),
            "orientations": orientations,
            "variants": [variants, self.view_augmentation.named] if variants else [],
            "seed": seed,
        }
        self.key = fingerprints.of_json(described)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """uint8 (h, w, 3) to all its views, uint8 (views, size, size, 3)."""
        image = filters.apply_chain(image, self.chain)
        key = hashlib.sha256(image.tobytes()).hexdigest()
        upright = decoding.resize(image, self.size, self.fit)
        views = [oriented(upright, k) for k in range(self.orientations)]
        for k in range(1, self.variants + 1):
            copy = augmented_copy(image, k, key, self.seed, self.view_augmentation)
            views.append(decoding.resize(copy, self.size, self.fit))
        return np.stack(views)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """uint8 (n, views, size, size, 3) to float16 (n, dimension)."""
        step = self.engine.batch_size
        rows = batch.reshape(-1, self.size, self.size, 3)
        parts = [self.engine.run(rows[i : i + step])["feature_map"] for i in range(0, len(rows), step)]
        maps = np.concatenate(parts)
        largest = np.finfo(np.float16).max
        if not (np.abs(maps) <= largest).all():
            raise DataError(
                "activations that are not finite or too large to keep",
                f"{self.backbone.name}, up to {np.abs(maps).max():g}",
                "check the network's weights",
            )
        return maps.astype(np.float16).reshape(len(batch), -1)


@dataclass(frozen=True)
class ActivationTable:
    """Activations of images, found again by where their pixels are.

    Attributes
    ----------
    maps : float16 (n, views, h, w, c), memory-mapped
    rows : row of each image
    orientations : the first views of each image: those that are averaged at prediction
    key : names every input of the activations besides the images
    digests : SHA-256 that names each row's image, n of them
    """

    maps: np.ndarray
    rows: Mapping[CellImage, int]
    orientations: int
    key: str
    digests: Sequence[str]

    def rows_of(self, cells: CellTable) -> np.ndarray:
        """Rows of the given cells, int64 (n,)."""
        return np.array([self.rows[c.image] for c in cells.cells], dtype=np.int64)


def compute(cells: CellTable, extractor: PrefixExtractor) -> tuple[ActivationTable, dict[int, CervicyteError]]:
    """The activations of a table's cells, computed where they are not on disk yet; goes on after a kill.

    Returns
    -------
    table : without the cells that cannot be read
    errors : row index to what was wrong with it

    Raises
    ------
    StorageError : the disk is full, or they are larger than CERVICYTE_CACHE_GB allows
    """
    digests = [
        hashlib.sha256(
            f"{digest}|{c.box}|{c.variant}|{extractor.augmentation.named if c.variant else ''}".encode()
        ).hexdigest()
        for digest, c in zip(cells.digests(), cells.cells, strict=True)
    ]
    key = fingerprints.of_lines([extractor.key, *digests])
    folder = working_folder.folder() / working_folder.ACTIVATIONS
    shape = (len(cells), extractor.views, *extractor.shape)
    maps, done = _opened(folder, key[:40], shape)
    todo = np.flatnonzero(done == 0)
    errors: dict[int, CervicyteError] = {}
    if len(todo):
        if len(todo) < len(cells):
            say(f"going on with the activations of {len(todo)} of {len(cells)} cells")
        images = [cells.cells[i].image for i in todo]
        label = f"activations of {extractor.backbone.name}"
        finished: list[int] = []
        for at, answer in track(extraction.stream(images, extractor, None), label, len(images)):
            row = int(todo[at])
            if isinstance(answer, CervicyteError):
                errors[row] = answer
                continue
            maps[row] = answer.reshape(shape[1:])
            finished.append(row)
            if len(finished) == _FLUSH:
                _settle(maps, done, finished)
        _settle(maps, done, finished)
    rows = {cells.cells[i].image: i for i in range(len(cells)) if i not in errors}
    return ActivationTable(maps, rows, extractor.orientations, extractor.key, digests), errors


def needed(cells: CellTable, extractor: PrefixExtractor) -> int:
    """Bytes on disk that the activations of a table's cells take."""
    return len(cells) * 2 * extractor.dimension


def _opened(folder: Path, name: str, shape: tuple[int, ...]) -> tuple[Any, Any]:
    """The two files of a table, memory-mapped: activations, and which rows are whole."""
    path, marks = folder / f"{name}.f16", folder / f"{name}.done"
    size = 2 * int(np.prod(shape))
    with files.storage_errors(folder):
        if not (
            path.is_file() and marks.is_file() and path.stat().st_size == size and marks.stat().st_size == shape[0]
        ):
            folder.mkdir(parents=True, exist_ok=True)
            marks.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
            working_folder.make_room(size)
            files.reserve(path, size)
            with files.atomic_write(marks, "wb") as stream:
                stream.write(bytes(shape[0]))
        working_folder.used(path)
        working_folder.used(marks)
        maps = np.memmap(path, dtype=np.float16, mode="r+", shape=shape)
        return maps, np.memmap(marks, dtype=np.uint8, mode="r+", shape=shape[:1])


def _settle(maps: Any, done: Any, finished: list[int]) -> None:
    """Rows count as whole only after they are on disk."""
    maps.flush()
    done[finished] = 1
    done.flush()
    finished.clear()
