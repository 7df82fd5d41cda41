"""The members of a model: each turns cells into logits in its own way, and is fitted on training cells alone.

A member reads all cells once (what is frozen sees no label), is fitted once a fold, and ends as one ONNX graph.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from cervicyte.base.files import printable
from cervicyte.bundle.graph import measurements_graph, network_graph
from cervicyte.bundle.manifest import InputSpec
from cervicyte.data.cells import CellTable
from cervicyte.data.splits import Folds
from cervicyte.decision import linear
from cervicyte.decision.linear import LinearHead
from cervicyte.errors import DataError
from cervicyte.features import activations, extraction
from cervicyte.features.activations import ActivationTable, PrefixExtractor
from cervicyte.features.cache import FeatureCache
from cervicyte.images.augmentation import get_augmentation
from cervicyte.images.decoding import CellImage
from cervicyte.networks.keras import last_blocks
from cervicyte.networks.orientations import averaged_file
from cervicyte.networks.registry import get_backbone
from cervicyte.training.fine_tuning import TailTrainer
from cervicyte.training.parts import Finetune, Linear, Part
from cervicyte.training.tail_files import TrainedTail

Extractor = extraction.NetworkExtractor | extraction.MorphologyExtractor


class Fitted(Protocol):
    """A member after fitting."""

    @property
    def oof(self) -> np.ndarray:
        """Out-of-fold logits of the training cells, float64 (n, k); NaN in rows that no fold held out."""
        ...

    @property
    def curves(self) -> Sequence[Sequence[Mapping[str, float | None]]]:
        """For a trained network, the history of each training."""
        ...

    def logits(self, cells: CellTable) -> np.ndarray:
        """Logits of any cells that the member has read, float64 (n, k)."""
        ...

    def graph(self, temperature: float) -> bytes:
        """The ONNX graph from input to probabilities softmax(logits / temperature)."""
        ...


class Member(Protocol):
    """One way to see cells.

    Attributes
    ----------
    name : in votes and listings
    part : of the recipe
    spec : how an image becomes its input
    precision : what the engine computes in
    weights : where its pretrained weights come from, in words
    """

    name: str
    spec: InputSpec
    precision: str
    weights: str

    @property
    def part(self) -> Part:
        """The part of the recipe that it is made from."""
        ...

    @property
    def crops(self) -> CellTable | None:
        """Cells without labels that it learns from; None where it learns from none."""
        ...

    def working_bytes(self, cells: CellTable) -> Mapping[str, int]:
        """Tell what fitting on these cells needs on disk all the time.

        Returns
        -------
        bytes of each table of activations, by its key: members with one key share the table
        """
        ...

    def read(self, cells: CellTable) -> dict[str, str]:
        """Compute what is frozen for all cells; returns path and reason for each that cannot be read."""
        ...

    def has(self, cells: CellTable) -> np.ndarray:
        """Which cells were read, bool (n,)."""
        ...

    def fit(self, cells: CellTable, codes: np.ndarray, n_classes: int, seed: int, folds: Folds) -> Fitted:
        """Fit on these cells alone.

        Parameters
        ----------
        codes : class index of each cell, int (n,)
        folds : inner folds of these cells, the same for all members
        """
        ...


@dataclass(frozen=True)
class FeatureTable:
    """Features of cells, found again by where their pixels are."""

    values: np.ndarray
    rows: Mapping[CellImage, int]

    def of(self, cells: CellTable) -> np.ndarray:
        """float32 (n, d) of the given cells."""
        return self.values[[self.rows[c.image] for c in cells.cells]]


def extract_table(cells: CellTable, extractor: Extractor) -> tuple[FeatureTable, dict[str, str]]:
    """Features of all cells that can be read, and the reason for each that cannot.

    Raises
    ------
    DataError : none can be read
    """
    values, errors = extraction.extract(cells, extractor, FeatureCache(extractor.key))
    good = [i for i in range(len(cells)) if i not in errors]
    return FeatureTable(values, {cells.cells[i].image: i for i in good}), _reasons(cells, errors)


@dataclass(frozen=True)
class FittedLinear:
    """Scaler and logistic regression over frozen features."""

    member: LinearMember
    head: LinearHead
    oof: np.ndarray
    fold_heads: tuple[LinearHead, ...] = ()
    curves: Sequence[Sequence[Mapping[str, float | None]]] = ()

    def without(self, fold: int) -> FittedLinear:
        """As it was fitted without the cells that an inner fold holds out."""
        return replace(self, head=self.fold_heads[fold])

    def logits(self, cells: CellTable) -> np.ndarray:
        """Logits, float64 (n, k)."""
        return self.head.logits(self.member.table.of(cells))

    def graph(self, temperature: float) -> bytes:
        """Backbone and head as one graph."""
        if isinstance(self.member.extractor, extraction.NetworkExtractor):
            return network_graph(self.member.extractor.onnx_path, self.head, temperature)
        return measurements_graph(self.head, temperature)


class LinearMember:
    """Frozen features (of a network or measured), StandardScaler and logistic regression."""

    crops: None = None

    def __init__(self, part: Linear, extractor: Extractor) -> None:
        self.name = part.name
        self.part = part
        self.extractor = extractor
        self.precision = extractor.precision
        self.table = FeatureTable(np.empty((0, 0)), {})
        if isinstance(extractor, extraction.NetworkExtractor):
            self.spec = InputSpec("image", extractor.size, part.fit, part.filters)
            known = extractor.weights
            sha = extractor.record["source_sha256"]
            self.weights = known.description if known else f"{extractor.backbone.name} (SHA-256 {sha[:12]})"
        else:
            self.spec = InputSpec("measurements", 0, part.fit, part.filters, extractor.names)
            self.weights = "none needed"

    def read(self, cells: CellTable) -> dict[str, str]:
        """Extract the features of all cells."""
        self.table, failed = extract_table(cells, self.extractor)
        return failed

    def working_bytes(self, cells: CellTable) -> Mapping[str, int]:
        """None: features lie in memory."""
        return {}

    def has(self, cells: CellTable) -> np.ndarray:
        """Which cells have features, bool (n,)."""
        return np.array([c.image in self.table.rows for c in cells.cells], dtype=bool)

    def fit(self, cells: CellTable, codes: np.ndarray, n_classes: int, seed: int, folds: Folds) -> FittedLinear:
        """Fit scaler and logistic regression; C is fixed by the recipe or chosen on the inner folds."""
        fitted = linear.fit_head(self.table.of(cells), codes, cells.groups, n_classes, self.part.C or None, folds=folds)
        return FittedLinear(self, fitted.head, fitted.oof_logits, fitted.fold_heads)


@dataclass(frozen=True)
class FittedTails:
    """Versions of the last blocks, one for each inner fold; their mean is the answer."""

    member: FinetunedMember
    versions: tuple[TrainedTail, ...]
    oof: np.ndarray

    def without(self, fold: int) -> FittedTails:
        """The version that was trained without the cells that an inner fold holds out."""
        return replace(self, versions=(self.versions[fold],))

    @property
    def curves(self) -> Sequence[Sequence[Mapping[str, float | None]]]:
        """The history of each training."""
        return [v.history for v in self.versions]

    def logits(self, cells: CellTable) -> np.ndarray:
        """Mean logits of the versions, float64 (n, k)."""
        return self.member.trainer.logits(self.versions, self.member.table.rows_of(cells))

    def graph(self, temperature: float) -> bytes:
        """The untrained part once, every version of the last blocks, and the mean of their heads."""
        member = self.member
        head = LinearHead(
            np.concatenate([v.head.weights for v in self.versions]) / len(self.versions),
            np.mean([v.head.bias for v in self.versions], axis=0),
            self.versions[0].head.C,
        )
        with tempfile.TemporaryDirectory() as scratch:
            joined = Path(scratch) / "joined.onnx"
            last_blocks.join(member.extractor.onnx_path, member.trainer.tail, [v.arrays for v in self.versions], joined)
            return network_graph(averaged_file(joined, member.extractor.orientations), head, temperature)


class FinetunedMember:
    """A pretrained network whose last two blocks are trained, once on each inner fold's training cells."""

    crops: None = None

    def __init__(self, part: Finetune, extractor: PrefixExtractor) -> None:
        self.name = part.name
        self.part = part
        self.extractor = extractor
        self.precision = extractor.precision
        self.spec = InputSpec("image", extractor.size, part.fit, part.filters)
        self.weights = extractor.weights.description
        self.table = ActivationTable(np.empty((0,)), {}, 1, "", ())

    def read(self, cells: CellTable) -> dict[str, str]:
        """Compute the activations before the last blocks, for all cells and views."""
        self.table, errors = activations.compute(cells, self.extractor)
        self.__dict__.pop("trainer", None)
        return _reasons(cells, errors)

    def working_bytes(self, cells: CellTable) -> Mapping[str, int]:
        """The activations before the last blocks, of all cells."""
        return {self.extractor.key: activations.needed(cells, self.extractor)}

    @cached_property
    def trainer(self) -> TailTrainer:
        """Made when first needed: it loads the network into Keras."""
        extractor = self.extractor
        return TailTrainer(extractor.backbone, extractor.weights, self.table, self.part.schedule, self.precision)

    def has(self, cells: CellTable) -> np.ndarray:
        """Which cells have activations, bool (n,)."""
        return np.array([c.image in self.table.rows for c in cells.cells], dtype=bool)

    def fit(self, cells: CellTable, codes: np.ndarray, n_classes: int, seed: int, folds: Folds) -> FittedTails:
        """Train one version for each inner fold, stopped early on the fold's held cells."""
        rows = self.table.rows_of(cells)
        oof = np.full((len(cells), n_classes), np.nan)
        versions = []
        for k, (train, held) in enumerate(zip(folds.train, folds.test, strict=True)):
            numbers = np.random.SeedSequence([seed, self.part.seed, k]).generate_state(1)
            trained = self.trainer.train(rows[train], codes[train], rows[held], codes[held], n_classes, int(numbers[0]))
            oof[held] = trained.logits
            versions.append(trained)
        return FittedTails(self, tuple(versions), oof)


def make_member(
    part: Linear | Finetune, weights: str | None, precision: str | None, seed: int, copies: str
) -> LinearMember | FinetunedMember:
    """Make a member from its part of a recipe, exporting its network if that was not done before.

    Parameters
    ----------
    weights, precision : see `cervicyte.features.extraction.make_extractor`
    seed : of augmented copies
    copies : name of the augmentation of copies that the table holds (the as-published protocol)

    Raises
    ------
    UsageError, MissingError, DataError : as their messages say
    """
    if isinstance(part, Linear):
        extractor = extraction.make_extractor(
            part.backbone,
            weights=weights,
            size=part.size or None,
            fit=part.fit,
            chain=part.filters,
            layer=part.layer or None,
            orientations=part.orientations,
            precision=precision,
            preprocessing=part.preprocess or None,
            augmentation=get_augmentation(copies),
            seed=seed,
        )
        return LinearMember(part, extractor)
    prefix = PrefixExtractor(
        get_backbone(part.backbone, size=part.size or None),
        weights,
        fit=part.fit,
        chain=part.filters,
        precision=precision,
        orientations=part.orientations,
        variants=part.variants,
        augmentation=part.augmentation,
        copies=copies,
        seed=seed,
    )
    return FinetunedMember(part, prefix)


def _reasons(cells: CellTable, errors: Mapping[int, Any]) -> dict[str, str]:
    if len(errors) == len(cells):
        first = next(iter(errors.values())).one_line if errors else ""
        raise DataError("no cell can be read", f"{len(cells)} cells; the first: {first}")
    return {printable(cells.cells[i].path): error.one_line for i, error in sorted(errors.items())}
