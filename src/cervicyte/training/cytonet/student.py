"""Our own network as a member of a model: taught on crops without labels, then on a fold's training cells alone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np

from cervicyte import settings
from cervicyte.base import fingerprints
from cervicyte.base.files import printable
from cervicyte.base.progress import say, track
from cervicyte.bundle.graph import network_graph
from cervicyte.bundle.manifest import InputSpec
from cervicyte.data.cells import CellTable
from cervicyte.data.splits import Folds
from cervicyte.errors import CervicyteError, DataError
from cervicyte.features import extraction
from cervicyte.images import decoding, filters
from cervicyte.images.augmentation import Augmentation
from cervicyte.images.decoding import CellImage
from cervicyte.networks import runtime
from cervicyte.networks.cytonet import Shape, to_onnx
from cervicyte.training.cytonet.distillation import (
    Foundation,
    Lessons,
    Student,
    StudentTrainer,
    Weighing,
    train_foundation,
    uses_bfloat16,
)
from cervicyte.training.cytonet.teacher import FittedTeacher, Teacher
from cervicyte.training.members import FeatureTable, extract_table
from cervicyte.training.parts import Distil
from cervicyte.training.schedule import Schedule

#: How the network first learns to see.
FOUNDATION = Schedule(epochs=50, batch_size=64, learning_rate=4e-3, weight_decay=0.05, averaging=0.995)

#: Side in pixels of the images that training views are cut from.
_SOURCE_SIDE = 128

#: Numbers that the large network's features are reduced to.
_TARGETS = 256

#: Crops of which the teacher gives its opinion.
_OPINIONS = 3000

#: From fewer crops nothing is learnt.
_LEAST_CROPS = 100


@dataclass(frozen=True)
class FittedStudent:
    """A student, and what students that were trained without each cell said of it."""

    member: DistilledMember
    student: Student
    oof: np.ndarray
    curves: Sequence[Sequence[Mapping[str, float | None]]] = ()

    def logits(self, cells: CellTable) -> np.ndarray:
        """Logits, float64 (n, k)."""
        return self.member.trainer.logits(self.student, self.member.pixels.small(cells))

    def graph(self, temperature: float) -> bytes:
        """Network and head as one graph."""
        network = self.member.trainer.network
        network.set_arrays(self.student.arrays)
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "network.onnx"
            path.write_bytes(to_onnx(network).SerializeToString())
            return network_graph(path, self.student.head, temperature)


@dataclass(frozen=True)
class PixelTable:
    """Square images of cells: the first size is the one that views are cut from, the last as at prediction."""

    sizes: tuple[np.ndarray, ...]
    rows: Mapping[CellImage, int]

    def large(self, cells: CellTable) -> np.ndarray:
        """uint8 (n, s, s, 3) to cut views from."""
        return self.sizes[0][[self.rows[c.image] for c in cells.cells]]

    def small(self, cells: CellTable) -> np.ndarray:
        """uint8 (n, side, side, 3) as at prediction."""
        return self.sizes[-1][[self.rows[c.image] for c in cells.cells]]


class PixelReader:
    """Images as they are, in one or more sizes, in the shape of a feature extractor."""

    batch_size = 16
    parallel = 1
    key = ""

    def __init__(
        self, sides: Sequence[int], fit: str, chain: tuple[str, ...], augmentation: Augmentation, seed: int
    ) -> None:
        self.sides = tuple(sides)
        self.dimension = sum(3 * s * s for s in self.sides)
        self.fit, self.chain, self.augmentation, self.seed = fit, chain, augmentation, seed

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """uint8 (h, w, 3) to the bytes of the images in all sizes, uint8 (dimension,)."""
        image = filters.apply_chain(image, self.chain)
        return np.concatenate([decoding.resize(image, side, self.fit).reshape(-1) for side in self.sides])

    def run(self, batch: np.ndarray) -> np.ndarray:
        """The images as they are."""
        return batch

    def read(self, cells: CellTable, label: str) -> tuple[PixelTable, dict[str, str]]:
        """The images of all cells that can be read, and the reason for each that cannot."""
        tables = [np.zeros((len(cells), side, side, 3), dtype=np.uint8) for side in self.sides]
        ends = np.cumsum([table[0].size for table in tables])[:-1]
        rows, failed = {}, {}
        for row, answer in track(extraction.stream((c.image for c in cells.cells), self), label, len(cells)):
            if isinstance(answer, CervicyteError):
                failed[printable(cells.cells[row].path)] = answer.one_line
            else:
                for table, part in zip(tables, np.split(answer, ends), strict=True):
                    table[row] = part.reshape(table[0].shape)
                rows[cells.cells[row].image] = row
        return PixelTable(tuple(tables), rows), failed


class DistilledMember:
    """Our own network.

    Parameters
    ----------
    part : of the recipe
    shape : of the network
    teacher : fitted on the same cells
    sight : extractors of the large network's features, which a student learns to give
    crops : without labels
    precision : "float32", or else bfloat16 where the processor has it
    augmentation, seed : of copies that a table holds
    """

    def __init__(
        self,
        part: Distil,
        shape: Shape,
        teacher: Teacher,
        sight: Sequence[extraction.NetworkExtractor],
        crops: CellTable,
        precision: str | None,
        augmentation: Augmentation,
        seed: int,
    ) -> None:
        self.name, self.part, self.shape = part.name, part, shape
        self.teacher, self.sight, self.crops = teacher, tuple(sight), crops
        wanted = precision or settings.get_str("precision")
        self.bfloat16 = uses_bfloat16(wanted)
        self.precision = "bfloat16" if wanted != "float32" and runtime.has_bfloat16() else "float32"
        self.spec = InputSpec("image", shape.side, part.fit, part.filters)
        self.weights = f"trained from random ones; it learnt to see from {len(crops)} crops without labels"
        self.reader = PixelReader((_SOURCE_SIDE, shape.side), part.fit, part.filters, augmentation, seed)
        self.crop_reader = PixelReader((_SOURCE_SIDE,), part.fit, part.filters, augmentation, seed)
        self.pixels = PixelTable((), {})
        self._seen: tuple[FeatureTable, ...] = ()

    def read(self, cells: CellTable) -> dict[str, str]:
        """Read the images, and compute what the teacher and the large network need of them."""
        self.pixels, failed = self.reader.read(cells, "reading cells")
        failed |= self.teacher.read(cells)
        tables = []
        for extractor in self.sight:
            table, more = extract_table(cells, extractor)
            tables.append(table)
            failed |= more
        self._seen = tuple(tables)
        return failed

    def working_bytes(self, cells: CellTable) -> Mapping[str, int]:
        """What the members of the teacher need."""
        return self.teacher.working_bytes(cells)

    def has(self, cells: CellTable) -> np.ndarray:
        """Which cells were read, bool (n,)."""
        rows = [self.pixels.rows, *(table.rows for table in self._seen)]
        here = np.array([all(c.image in r for r in rows) for c in cells.cells], dtype=bool)
        return np.asarray(here & self.teacher.has(cells))

    @cached_property
    def _crops(self) -> tuple[CellTable, np.ndarray, np.ndarray]:
        """The crops that can be read, their images, and the large network's features of them."""
        pixels, failed = self.crop_reader.read(self.crops, "reading crops")
        tables = []
        for extractor in self.sight:
            table, more = extract_table(self.crops, extractor)
            tables.append(table)
            failed |= more
        rows = [pixels.rows, *(t.rows for t in tables)]
        everywhere = [c for c in self.crops.cells if all(c.image in r for r in rows)]
        crops = self.crops.with_cells(everywhere)
        if failed:
            path, reason = next(iter(failed.items()))
            say(f"{len(self.crops) - len(crops)} crops cannot be read, the first of {path}: {reason}")
        if len(crops) < _LEAST_CROPS:
            raise DataError("too few crops without labels to learn to see from", f"{len(crops)}", "give more fields")
        return crops, pixels.large(crops), np.concatenate([t.of(crops) for t in tables], axis=1)

    @cached_property
    def _reduction(self) -> Reduction:
        return Reduction.fit(self._crops[2], _TARGETS)

    @cached_property
    def foundation(self) -> Foundation:
        """The network that has learnt to see; it has seen no label and none of the cells."""
        crops, pixels, seen = self._crops
        way = f"{_SOURCE_SIDE} {self.part.fit} {self.part.filters} {_TARGETS}"
        named = fingerprints.of_lines([*(e.key for e in self.sight), way, *_pixel_names(crops)])
        targets = self._reduction(seen)
        return train_foundation(pixels, targets, self.shape, FOUNDATION, self.part.seed, named, self.bfloat16)

    @cached_property
    def trainer(self) -> StudentTrainer:
        """Made when first needed."""
        return StudentTrainer(self.foundation, self.shape, self.part.schedule, Weighing(), self.bfloat16)

    @cached_property
    def _taught(self) -> tuple[CellTable, np.ndarray, np.ndarray]:
        """The crops that the teacher speaks of, their images and the large network's features."""
        crops, pixels, seen = self._crops
        chosen = np.random.default_rng(self.part.seed).permutation(len(crops))[:_OPINIONS]
        rows = np.sort(chosen)  # crops of one field together, so that it is decoded once
        some = self.teacher.read_crops(crops.subset(rows))
        if len(some) < len(rows):
            say(f"the teacher cannot read {len(rows) - len(some)} of {len(rows)} crops; they are left out")
        at = {c.image: row for row, c in enumerate(crops.cells)}
        rows = np.array([at[c.image] for c in some.cells], dtype=np.int64)
        return some, pixels[rows], self._reduction(seen[rows])

    def fit(self, cells: CellTable, codes: np.ndarray, n_classes: int, seed: int, folds: Folds) -> FittedStudent:
        """Train a student on all of the cells, and one without each inner fold to know how good it is."""
        trainer = self.trainer  # what is wrong with the crops is told before the teacher is fitted
        teacher = self.teacher.fit(cells, codes, n_classes, seed, folds)
        inputs = fingerprints.of_lines(
            [
                str(_OPINIONS),
                teacher.key,
                json.dumps(folds.to_json()),
                *_pixel_names(cells),
                *map(str, cells.labels),
            ]
        )

        @cache
        def opinions() -> list[np.ndarray]:
            return teacher.of_crops(self._taught[0], len(folds))

        def student(k: int, rows: np.ndarray, teacher: FittedTeacher) -> Student:
            some = cells.subset(rows)
            number = int(np.random.SeedSequence([seed, k, self.part.seed]).generate_state(1)[0])

            def lessons() -> tuple[Lessons, Lessons]:
                seen = np.concatenate([t.of(some) for t in self._seen], axis=1)
                of_cells = Lessons(self.pixels.large(some), self._reduction(seen), teacher.of_cells(some))
                _, pixels, targets = self._taught
                return of_cells, Lessons(pixels, targets, opinions()[k])

            named = fingerprints.of_lines([inputs, str([seed, k]), *_pixel_names(some)])
            return trainer.train(named, codes[rows], n_classes, number, lessons)

        oof = np.full((len(cells), n_classes), np.nan)
        students = []
        for k, (train, held) in enumerate(zip(folds.train, folds.test, strict=True)):
            students.append(student(k, train, teacher.without(k)))
            oof[held] = trainer.logits(students[k], self.pixels.small(cells.subset(held)))
        whole = student(len(folds), np.arange(len(cells)), teacher)
        return FittedStudent(self, whole, oof, [s.history for s in (whole, *students)])


@dataclass(frozen=True)
class Reduction:
    """From a large network's features to fewer numbers of like weight: standardised, rotated, and half whitened.

    Full whitening would make noise as loud as what matters; none lets two or three directions drown the rest.
    """

    mean: np.ndarray
    matrix: np.ndarray

    @classmethod
    def fit(cls, values: np.ndarray, count: int) -> Reduction:
        """From features without labels, float (n, d)."""
        mean, scale = values.mean(axis=0, dtype=np.float64), values.std(axis=0, dtype=np.float64) + 1e-3
        scaled = (values - mean) / scale
        variances, directions = np.linalg.eigh(scaled.T @ scaled / len(scaled))
        best = np.argsort(variances)[::-1][: min(count, len(values))]
        # What hardly varies is rounding, which no weight must make loud.
        best = best[variances[best] > 1e-6 * variances[best[0]]]
        variances = variances[best]
        weights = variances**-0.25
        # The reduced numbers have a mean variance of 1.
        weights = weights / np.sqrt((variances * weights**2).mean())
        return cls(mean, (directions[:, best] * weights) / scale[:, None])

    def __call__(self, values: np.ndarray) -> np.ndarray:
        """float (n, d) to float32 (n, count)."""
        return np.asarray((values - self.mean) @ self.matrix, dtype=np.float32)


def _pixel_names(cells: CellTable) -> list[str]:
    """Names the pixels of each cell."""
    return [f"{digest}|{c.box}|{c.variant}" for digest, c in zip(cells.digests(), cells.cells, strict=True)]
