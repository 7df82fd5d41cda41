"""A large model that teaches a small one: what it thinks of labelled cells and of crops without labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cervicyte.calibration import fit_temperature, softmax
from cervicyte.cells import CellTable
from cervicyte.members import FinetunedMember, FittedLinear, FittedTails, LinearMember
from cervicyte.splits import Folds


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

    def read_crops(self, crops: CellTable) -> None:
        """Compute what is frozen for crops."""
        for seat in self.seats:
            seat.before_crops.read(crops)

    def has(self, cells: CellTable) -> np.ndarray:
        """Which cells every member could read, bool (n,)."""
        return np.asarray(np.all([seat.member.has(cells) for seat in self.seats], axis=0))

    def fit(self, cells: CellTable, codes: np.ndarray, n_classes: int, seed: int, folds: Folds) -> FittedTeacher:
        """Fit every member; parameters as for `cervicyte.members.Member.fit`."""
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

    def of_crops(self, crops: CellTable) -> np.ndarray:
        """Its probabilities for crops that it has read, float32 (n, k)."""
        both = zip(self.fitted, self.seats, strict=True)
        return self._mean([replace(f, member=seat.before_crops).logits(crops) for f, seat in both])  # type: ignore[arg-type]

    def _mean(self, logits: Sequence[np.ndarray]) -> np.ndarray:
        both = zip(logits, self.temperatures, strict=True)
        return np.asarray(np.mean([softmax(some, t) for some, t in both], axis=0), dtype=np.float32)
