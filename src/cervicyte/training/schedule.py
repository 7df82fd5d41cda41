"""How the last blocks are trained: the numbers of a fine-tuning."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How the last blocks are trained.

    Attributes
    ----------
    epochs : passes over the training cells; each takes one view of each cell
    patience : epochs without a better Brier score on the held cells after which training stops
    batch_size : cells a step
    learning_rate, head_learning_rate : of the blocks and of the head at the end of the warm-up (a tenth of
        the steps), then down to zero along a cosine
    weight_decay : of AdamW
    label_smoothing : share of the truth that is spread over all classes
    class_weight : exponent of inverse class frequency in the loss: 0 none, 1 balanced
    averaging : share of the old in the running mean of weights after each step, which is what is judged and kept
        (Polyak and Juditsky 1992, Acceleration of stochastic approximation by averaging); 0 for none
    """

    epochs: int = 10
    patience: int = 6
    batch_size: int = 32
    learning_rate: float = 1e-4
    head_learning_rate: float = 1e-3
    weight_decay: float = 0.02
    label_smoothing: float = 0.1
    class_weight: float = 0.5
    averaging: float = 0.97
