"""Trained last blocks on disk: results under a key of all their inputs, and checkpoints of what is not done yet."""

from __future__ import annotations

import json
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cervicyte import shelf
from cervicyte.files import atomic_write
from cervicyte.heads import LinearHead


@dataclass(frozen=True)
class TrainedTail:
    """One trained version of the last blocks.

    Attributes
    ----------
    arrays : weights of the blocks, in Keras' order
    head : logits from the features behind the blocks
    logits : of the validation cells, averaged over orientations, float64 (n, k)
    history : a row an epoch: epoch (0 is the head alone), train_loss (None there), and of the validation cells, after
        the best temperature, validation_loss (log loss), brier and accuracy
    """

    arrays: tuple[np.ndarray, ...]
    head: LinearHead
    logits: np.ndarray
    history: tuple[dict[str, float | None], ...]


@dataclass(frozen=True)
class Job:
    """Where the result and the checkpoint of one training are; ``key`` names every input of it."""

    key: str

    def result(self) -> TrainedTail | None:
        """What an earlier run trained, or None."""
        held = _read(self._path("npz"))
        try:
            return None if held is None else unpacked(held)
        except (KeyError, ValueError):
            return None

    def checkpoint(self) -> dict[str, np.ndarray] | None:
        """Where an earlier run was stopped, or None."""
        return _read(self._path("checkpoint.npz"))

    def keep(self, result: TrainedTail) -> None:
        """Write the result and drop the checkpoint."""
        _write(self._path("npz"), packed(result))
        self._path("checkpoint.npz").unlink(missing_ok=True)

    def keep_checkpoint(self, held: dict[str, np.ndarray]) -> None:
        """Write where training is."""
        _write(self._path("checkpoint.npz"), held)

    def _path(self, ending: str) -> Path:
        return shelf.folder() / "tails" / f"{self.key[:40]}.{ending}"


def packed(trained: TrainedTail) -> dict[str, np.ndarray]:
    """A plain form of named arrays; `unpacked` reads it back."""
    arrays = {f"array_{i}": a for i, a in enumerate(trained.arrays)}
    head = {"weights": trained.head.weights, "bias": trained.head.bias, "C": np.array(trained.head.C)}
    return arrays | head | {"logits": trained.logits, "history": np.array(json.dumps(trained.history))}


def unpacked(held: dict[str, np.ndarray]) -> TrainedTail:
    """Read the form that `packed` wrote; KeyError or ValueError if it is not of that form."""
    count = sum(name.startswith("array_") for name in held)
    return TrainedTail(
        tuple(held[f"array_{i}"] for i in range(count)),
        LinearHead(held["weights"], held["bias"], float(held["C"])),
        held["logits"],
        tuple(json.loads(str(held["history"]))),
    )


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a file, or None where it is not there or damaged."""
    try:
        with np.load(path, allow_pickle=False) as found:
            held = {name: found[name] for name in found.files}
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile):
        return None  # RuntimeError: a damaged byte says that the file is encrypted or packed in a way not known
    shelf.used(path)
    return held


def _write(path: Path, held: dict[str, np.ndarray]) -> None:
    shelf.make_room(sum(a.nbytes for a in held.values()))
    with atomic_write(path, "wb") as stream:
        np.savez(stream, allow_pickle=False, **held)
