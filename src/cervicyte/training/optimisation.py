"""Steps of AdamW with warm-up, cosine and a running mean of the weights, which can be taken up where they stopped."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch

from cervicyte.errors import DataError

#: What AdamW keeps of each weight besides the number of its steps.
_MOMENTS = ("exp_avg", "exp_avg_sq")


class Optimisation:
    """One optimisation of some weights.

    Parameters
    ----------
    groups : parameters and the learning rate of each group after the warm-up (a tenth of the steps), from where it
        goes down to zero along a cosine
    weight_decay : of AdamW
    averaging : share of the old in the running mean of the weights after each step; 0 for the weights themselves
        (Polyak and Juditsky 1992, Acceleration of stochastic approximation by averaging)
    steps : that will be taken in all
    """

    def __init__(
        self,
        groups: Sequence[tuple[Sequence[torch.nn.Parameter], float]],
        weight_decay: float,
        averaging: float,
        steps: int,
    ) -> None:
        self._rates = [rate for _, rate in groups]
        self._averaging = averaging
        self._steps = steps
        self._done = 0
        self._optimiser = torch.optim.AdamW(
            [{"params": list(parameters), "lr": rate} for parameters, rate in groups],
            weight_decay=weight_decay,
            fused=True,
        )
        self.parameters: list[torch.Tensor] = [p for parameters, _ in groups for p in parameters]
        self._means = [p.detach().clone() for p in self.parameters]

    def step(self, loss: torch.Tensor) -> float:
        """Take one step down and return the loss.

        Raises
        ------
        DataError : a loss that is not finite
        """
        warm = max(1, self._steps // 10)
        share = min(1.0, (self._done + 1) / warm) * 0.5 * (1 + math.cos(math.pi * self._done / self._steps))
        for group, rate in zip(self._optimiser.param_groups, self._rates, strict=True):
            group["lr"] = rate * share
        self._optimiser.zero_grad()
        loss.backward()
        self._optimiser.step()
        with torch.no_grad():
            # The mean is young at first: it must not hold on to the weights that training started from.
            fresh = 1 - min(self._averaging, (self._done + 1) / (self._done + 10))
            torch._foreach_lerp_(self._means, self.parameters, fresh)
        self._done += 1
        value = float(loss.detach())
        if not math.isfinite(value):
            raise DataError("training went astray: the loss is not finite", value, "lower learning_rate in the recipe")
        return value

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The running means stand in the place of the weights."""
        self._exchange()
        try:
            yield
        finally:
            self._exchange()

    def _exchange(self) -> None:
        with torch.no_grad():
            for p, mean in zip(self.parameters, self._means, strict=True):
                weights = p.detach().clone()
                p.copy_(mean)
                mean.copy_(weights)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that `resume` needs."""
        held = {"done": np.array(self._done)}
        for i, (p, mean) in enumerate(zip(self.parameters, self._means, strict=True)):
            held[f"parameter_{i}"] = p.detach().cpu().numpy()
            held[f"mean_{i}"] = mean.cpu().numpy()
            for name, value in self._optimiser.state[p].items():
                held[f"{name}_{i}"] = value.cpu().numpy()
        return held

    def resume(self, held: Mapping[str, np.ndarray]) -> None:
        """Take up where `arrays` was called; KeyError for other arrays."""
        for i, (p, mean) in enumerate(zip(self.parameters, self._means, strict=True)):
            with torch.no_grad():
                p.copy_(torch.from_numpy(held[f"parameter_{i}"]))
                mean.copy_(torch.from_numpy(held[f"mean_{i}"]))
            # The fused step reads all of a weight's tensors in their order in memory: the moments must lie as it does.
            state = {"step": torch.zeros((), device=p.device)}
            state |= {name: torch.zeros_like(p, memory_format=torch.preserve_format) for name in _MOMENTS}
            for name, tensor in state.items():
                tensor.copy_(torch.from_numpy(np.array(held[f"{name}_{i}"])))
            self._optimiser.state[p] = state
        self._done = int(held["done"])
