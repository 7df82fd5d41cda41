"""A large model that teaches a small one: what it thinks of labelled cells and of crops without labels."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cervicyte.data.cells import CellTable
from cervicyte.data.splits import Folds
from cervicyte.decision.calibration import fit_temperature, softmax
from cervicyte.training.members import FinetunedMember, FittedLinear, FittedTails, LinearMember


@dataclass(frozen=True)
class Seat:
    """One member of the teacher.

    Attributes
    ----------
    member : reads labelled cells, and is fitted on them
    before_crops : the same network or measurements, reading crops
    """

    member: LinearMember | FinetunedMember
    before_crops: LinearMember | FinetunedMember


class Teacher:
    """Several members whose calibrated probabilities are averaged; all of it is fitted on the cells that `fit` sees."""

    def __init__(self, seats: Sequence[Seat]) -> None:
        self.seats = tuple(seats)

    def read(self, cells: CellTable) -> dict[str, str]:
        """Compute what is frozen for the cells; path and reason for each that cannot be read."""
        failed: dict[str, str] = {}
        for seat in self.seats:
            failed |= seat.member.read(cells)
        return failed

    def working_bytes(self, cells: CellTable) -> dict[str, int]:
        """Tell what fitting every member needs on disk all the time: bytes by the key of the table."""
        return {key: size for seat in self.seats for key, size in seat.member.working_bytes(cells).items()}

    def read_crops(self, crops: CellTable) -> CellTable:
        """Compute what is frozen for crops; gives those that every member could read."""
        for seat in self.seats:
            seat.before_crops.read(crops)
        return crops.subset(np.all([seat.before_crops.has(crops) for seat in self.seats], axis=0))

    def has(self, cells: CellTable) -> np.ndarray:
        """Which cells every member could read, bool (n,)."""
        return np.asarray(np.all([seat.member.has(cells) for seat in self.seats], axis=0))

    def fit(self, cells: CellTable, codes: np.ndarray, n_classes: int, seed: int, folds: Folds) -> FittedTeacher:
        """Fit every member; parameters as for `cervicyte.training.members.Member.fit`."""
        fitted = [seat.member.fit(cells, codes, n_classes, seed, folds) for seat in self.seats]
        held = np.all([np.isfinite(f.oof).all(axis=1) for f in fitted], axis=0)
        temperatures = tuple(fit_temperature(f.oof[held], codes[held]) for f in fitted)
        return FittedTeacher(self.seats, tuple(fitted), temperatures)


@dataclass(frozen=True)
class FittedTeacher:
    """A teacher after fitting."""

    seats: tuple[Seat, ...]
    fitted: tuple[FittedLinear | FittedTails, ...]
    temperatures: tuple[float, ...]

    def without(self, fold: int) -> FittedTeacher:
        """The teacher as fitted without the cells that an inner fold holds out."""
        return replace(self, fitted=tuple(f.without(fold) for f in self.fitted))

    def of_cells(self, cells: CellTable) -> np.ndarray:
        """Its probabilities for labelled cells that it has read, float32 (n, k)."""
        return self._mean([f.logits(cells) for f in self.fitted])

    def of_crops(self, crops: CellTable, n_folds: int) -> list[np.ndarray]:
        """Its probabilities for crops that it has read: as fitted without each inner fold, and, last, on all cells.

        Returns
        -------
        n_folds + 1 arrays, float32 (n, k)
        """
        by_member = []
        for f, seat in zip(self.fitted, self.seats, strict=True):
            there = replace(f, member=seat.before_crops)  # type: ignore[arg-type]
            some = [there.without(k).logits(crops) for k in range(n_folds)]
            # Versions of last blocks answer with their mean: they need not be run again.
            by_member.append([*some, np.mean(some, axis=0) if isinstance(f, FittedTails) else there.logits(crops)])
        return [self._mean(logits) for logits in zip(*by_member, strict=True)]

    @property
    def key(self) -> str:
        """Names what was trained and what else it was made of, except for the cells and their inner folds."""
        named = hashlib.sha256()
        for f in self.fitted:
            named.update(f"{f.member.extractor.key}|{f.member.part}\n".encode())
            for version in f.versions if isinstance(f, FittedTails) else ():
                for array in (*version.arrays, version.head.weights, version.head.bias):
                    named.update(np.ascontiguousarray(array).tobytes())
        return named.hexdigest()

    def _mean(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        both = zip(logits, self.temperatures, strict=True)
        return np.asarray(np.mean([softmax(some, t) for some, t in both], axis=0), dtype=np.float32)
