"""Trained last blocks in the form of named arrays, as they are kept on disk."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cervicyte.decision.linear import LinearHead


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


def packed(trained: TrainedTail) -> dict[str, np.ndarray]:
    """A plain form of named arrays; `unpacked` reads it back."""
    arrays = {f"array_{i}": a for i, a in enumerate(trained.arrays)}
    head = {"weights": trained.head.weights, "bias": trained.head.bias, "C": np.array(trained.head.C)}
    return arrays | head | {"logits": trained.logits, "history": np.array(json.dumps(trained.history))}


def unpacked(held: Mapping[str, np.ndarray]) -> TrainedTail:
    """Read the form that `packed` wrote; KeyError or ValueError if it is not of that form."""
    count = sum(name.startswith("array_") for name in held)
    return TrainedTail(
        tuple(held[f"array_{i}"] for i in range(count)),
        LinearHead(held["weights"], held["bias"], float(held["C"])),
        held["logits"],
        tuple(json.loads(str(held["history"]))),
    )


def known(held: Mapping[str, np.ndarray] | None) -> TrainedTail | None:
    """What a job holds, or None where it holds nothing, or something else."""
    try:
        return None if held is None else unpacked(held)
    except (KeyError, ValueError):
        return None
