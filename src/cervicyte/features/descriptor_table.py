"""Descriptors of image quality, read beside what a model reads: of training cells, and of every image to predict."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np

from cervicyte.base import fingerprints
from cervicyte.data.cells import CellTable
from cervicyte.features import extraction
from cervicyte.features.cache import FeatureCache
from cervicyte.images.augmentation import Augmentation, get_augmentation
from cervicyte.images.decoding import CellImage
from cervicyte.images.descriptors import NAMES, describe, descriptor_code


class DescriptorExtractor:
    """Descriptors as features, so that they are streamed and kept like any others.

    Parameters
    ----------
    seed, augmentation : of the augmented copies
    """

    batch_size = 1
    parallel = 1
    dimension = len(NAMES) + 1

    def __init__(self, seed: int, augmentation: Augmentation) -> None:
        self.seed = seed
        self.augmentation = augmentation
        self.key = _key("copies", seed, augmentation, *augmentation.chain)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """uint8 (h, w, 3) to float32 (dimension,): the describing itself."""
        return describe(image)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """The descriptors as they are."""
        return batch


class Describer:
    """The descriptors of a training run's cells, found again by where their pixels are.

    Parameters
    ----------
    copies : name of the augmentation of copies that a table may hold
    seed : of these copies
    """

    def __init__(self, copies: str, seed: int) -> None:
        self._extractor = DescriptorExtractor(seed, get_augmentation(copies))
        self._rows: dict[CellImage, np.ndarray] = {}

    def read(self, cells: CellTable) -> None:
        """Describe the cells that were not described yet; one that cannot be read gets NaN, which is refused."""
        fresh = cells.subset(np.array([c.image not in self._rows for c in cells.cells], dtype=bool))
        if len(fresh):
            cache = FeatureCache(self._extractor.key)
            values, _ = extraction.extract(fresh, self._extractor, cache, "Describing the images")
            self._rows |= {cell.image: row for cell, row in zip(fresh.cells, values, strict=True)}

    def of(self, cells: CellTable) -> np.ndarray:
        """float32 (n, d) of cells that were read."""
        return np.stack([self._rows[c.image] for c in cells.cells])


class Graphs(extraction.Extractor, Protocol):
    """A bundle's graphs as an extractor; ``layout`` is kind of number and shape of one prepared row."""

    precision: str

    @property
    def layout(self) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Kind of number and shape of what `prepare` gives."""
        ...


class Described:
    """A bundle's graphs and the descriptors of the same images; a vector holds both, the descriptors last.

    Descriptors are of the image as it was decoded, whatever filters the model wants. A prepared row holds the bytes
    of what the graphs take, then those of the descriptors.
    """

    def __init__(self, graphs: Graphs) -> None:
        self.graphs = graphs
        self.dimension = graphs.dimension + len(NAMES) + 1
        self.precision = graphs.precision
        self.batch_size = graphs.batch_size
        self.parallel = graphs.parallel
        self.seed = graphs.seed
        self.augmentation = graphs.augmentation
        self.key = _key(graphs.key)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """One decoded image to the bytes of a row, uint8 (size,)."""
        rows = (self.graphs.prepare(image), describe(image))
        return np.concatenate([np.ascontiguousarray(row).reshape(-1).view(np.uint8) for row in rows])

    def run(self, batch: np.ndarray) -> np.ndarray:
        """A stack of rows to what the graphs give, with the descriptors behind it: float32 (n, dimension)."""
        dtype, shape = self.graphs.layout
        end = math.prod(shape) * dtype.itemsize
        prepared = np.ascontiguousarray(batch[:, :end]).view(dtype).reshape(len(batch), *shape)
        described = np.ascontiguousarray(batch[:, end:]).view(np.float32)
        return np.concatenate([self.graphs.run(prepared), described], axis=1)


def _key(*parts: object) -> str:
    """Names every input of the descriptors besides the image, and the given parts."""
    import cv2
    import PIL

    inputs = (extraction.FEATURE_FORMAT, descriptor_code(), cv2.__version__, PIL.__version__)
    return fingerprints.of_repr(("descriptors", inputs, parts))
