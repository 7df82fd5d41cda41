"""Long computations on disk: results under a key of all their inputs, and checkpoints of what is not done yet."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cervicyte.base import working_folder
from cervicyte.base.files import atomic_write


@dataclass(frozen=True)
class Computation:
    """Where the result and the checkpoint of one computation are, as named arrays.

    Attributes
    ----------
    key : names every input of it, at least 40 characters
    folder : of computations of its kind
    """

    key: str
    folder: str

    def result(self) -> dict[str, np.ndarray] | None:
        """What an earlier run computed, or None where it is not there or damaged."""
        return _read(self._path("npz"))

    def checkpoint(self) -> dict[str, np.ndarray] | None:
        """Where an earlier run was stopped, or None."""
        return _read(self._path("checkpoint.npz"))

    def save_result(self, result: Mapping[str, np.ndarray]) -> None:
        """Write the result and drop the checkpoint."""
        _write(self._path("npz"), result)
        self._path("checkpoint.npz").unlink(missing_ok=True)

    def save_checkpoint(self, held: Mapping[str, np.ndarray]) -> None:
        """Write where the computation is."""
        _write(self._path("checkpoint.npz"), held)

    def _path(self, ending: str) -> Path:
        return working_folder.folder() / self.folder / f"{self.key[:40]}.{ending}"


def _read(path: Path) -> dict[str, np.ndarray] | None:
    """The arrays of a file, or None where it is not there or damaged."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            held = {name: stored[name] for name in stored.files}
    except (OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile):
        return None  # RuntimeError: a damaged byte says that the file is encrypted or packed in a way not known
    working_folder.used(path)
    return held


def _write(path: Path, held: Mapping[str, np.ndarray]) -> None:
    working_folder.make_room(sum(a.nbytes for a in held.values()))
    with atomic_write(path, "wb") as stream:
        np.savez(stream, allow_pickle=False, **held)
