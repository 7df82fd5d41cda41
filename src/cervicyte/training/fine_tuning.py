"""Training the last blocks of a network on activations that were computed once.

Head first (logistic regression on the frozen features), then the last two blocks with it: Kumar et al. 2022,
Fine-tuning can distort pretrained features. BatchNorm statistics stay as they were. Each training is a computation that
is kept under a key of all its inputs, so that a run that was killed goes on where it was.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from cervicyte.base import fingerprints
from cervicyte.base.checkpoints import Computation
from cervicyte.base.progress import track
from cervicyte.base.versions import version_of
from cervicyte.decision.calibration import fit_temperature, softmax
from cervicyte.decision.linear import LinearHead, fit_linear
from cervicyte.errors import DataError
from cervicyte.features.activations import ActivationTable
from cervicyte.networks.keras.last_blocks import build_tail, tail_features, tail_maps
from cervicyte.networks.registry import Backbone, Weights
from cervicyte.networks.runtime import has_bfloat16
from cervicyte.training.schedule import Schedule
from cervicyte.training.tail_files import TrainedTail, known, packed, unpacked

#: Raised when the same inputs would train other weights.
JOB_FORMAT = 3

#: Seconds between two checkpoints of a computation; a kill loses at most these.
CHECKPOINT_SECONDS = 60.0

#: Inverse regularisation strength of the head that training starts from.
HEAD_C = 1e-4

#: Epochs between two looks at the held cells, which cost half as much as an epoch.
_JUDGE_EVERY = 2

#: Rows of activations that are run at a time where nothing is trained.
_ROWS = 64


class TailTrainer:
    """Trains and runs the last blocks of one network over one table of activations.

    Parameters
    ----------
    backbone, weights : of the network
    table : from `cervicyte.features.activations.compute`
    schedule : how to train
    precision : of the prefix; the tail follows it: "float32", else bfloat16 where the processor has it
    """

    def __init__(
        self, backbone: Backbone, weights: Weights, table: ActivationTable, schedule: Schedule, precision: str
    ) -> None:
        import torch

        self.table = table
        self.schedule = schedule
        self.tail = build_tail(backbone, weights)
        self.initial = self.tail.get_arrays()
        self.device = next(self.tail.parameters()).device
        self.bfloat16 = precision != "float32" and (self.device.type == "cuda" or has_bfloat16())
        self._frozen: np.ndarray | None = None
        described = {
            "format": JOB_FORMAT,
            "activations": table.key,
            "backbone": backbone.name,
            "weights": weights.sha256,
            "schedule": asdict(schedule),
            "head_c": HEAD_C,
            "bfloat16": self.bfloat16,
            "device": self.device.type,
            "versions": [version_of("keras"), torch.__version__],
        }
        self._key = json.dumps(described, sort_keys=True)

    def train(
        self, rows: np.ndarray, codes: np.ndarray, held: np.ndarray, held_codes: np.ndarray, n_classes: int, seed: int
    ) -> TrainedTail:
        """Train on some rows of the table, stopping early on others; what was done before is taken from disk.

        Parameters
        ----------
        rows, codes : training rows of the table and their class indices, int (n,)
        held, held_codes : the rows that say when to stop; never test cells
        seed : of order and views

        Raises
        ------
        DataError : a class without training cells, or a loss that is not finite
        StorageError : the disk is full
        """
        counts = np.bincount(codes, minlength=n_classes)
        if not counts.all():
            raise DataError("a training set without one of the classes", f"cells a class: {counts.tolist()}")
        computation = Computation(self._named(rows, codes, held, held_codes, seed), "tails")
        done = known(computation.result())
        if done is not None:
            return done
        state = _State(self, rows, codes, held, held_codes, n_classes, seed)
        state.resume(computation.checkpoint())
        saved = time.monotonic()
        label = f"epochs of {len(rows)} cells"
        for epoch in track(range(state.epoch + 1, self.schedule.epochs + 1), label):
            state.run(epoch)
            if state.judged == epoch and epoch - state.best_epoch >= self.schedule.patience:
                break
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                computation.save_checkpoint(state.arrays())
                saved = time.monotonic()
        result = state.result()
        computation.save_result(packed(result))
        return result

    def logits(self, trained: Sequence[TrainedTail], rows: np.ndarray) -> np.ndarray:
        """Mean logits of several trained versions, each averaged over orientations: float64 (n, k)."""
        total: Any = 0.0
        for version in trained:
            self.tail.set_arrays(version.arrays)
            total = total + version.head.logits(self._features(rows))
        return np.asarray(total / len(trained))

    def frozen(self, rows: np.ndarray) -> np.ndarray:
        """Features of the untrained network, float32 (n, d)."""
        if self._frozen is None:
            # All at once: a row's last bits depend on the batch that it is run in, and so must no training's weights
            # on which trainings were done before it.
            self.tail.set_arrays(self.initial)
            self._frozen = self._features(np.arange(len(self.table.maps)))
        return np.asarray(self._frozen[rows])

    def _features(self, rows: np.ndarray) -> np.ndarray:
        count = self.table.orientations
        step = max(1, _ROWS // count)
        features = []
        for start in range(0, len(rows), step):
            maps = np.asarray(self.table.maps[rows[start : start + step], :count])
            vectors = tail_features(self.tail, maps.reshape(-1, *maps.shape[2:]), self.bfloat16)
            features.append(vectors.reshape(len(maps), count, -1).mean(axis=1))
        return np.concatenate(features)

    def _named(self, *parts: Any) -> str:
        rows, codes, held, held_codes, seed = parts
        named = [
            f"{self.table.digests[r]}:{c}:{part}"
            for part, some, classes in (("train", rows, codes), ("held", held, held_codes))
            for r, c in zip(some, classes, strict=True)
        ]
        return fingerprints.of_lines([self._key, str(seed), *named])


class _State:
    """A training that can be stopped after any epoch and taken up again."""

    def __init__(
        self,
        trainer: TailTrainer,
        rows: np.ndarray,
        codes: np.ndarray,
        held: np.ndarray,
        held_codes: np.ndarray,
        n_classes: int,
        seed: int,
    ) -> None:
        import torch

        from cervicyte.training.optimisation import Optimisation

        self.trainer, self.rows, self.codes = trainer, rows, codes
        self.held, self.held_codes, self.seed = held, held_codes, seed
        schedule = trainer.schedule
        frozen = trainer.frozen(rows)
        head = fit_linear(frozen, codes, n_classes, HEAD_C)
        trainer.tail.set_arrays(trainer.initial)
        # Trained on standardised features, so that one learning rate suits all of them.
        device = trainer.device
        mean, scale = frozen.mean(axis=0, dtype=np.float64), frozen.std(axis=0, dtype=np.float64) + 1e-6
        self.mean = torch.tensor(mean, dtype=torch.float32, device=device)
        self.scale = torch.tensor(scale, dtype=torch.float32, device=device)
        self.weights = torch.nn.Parameter(
            torch.tensor(head.weights * scale[:, None], dtype=torch.float32, device=device)
        )
        bias = head.bias + mean @ head.weights
        self.bias = torch.nn.Parameter(torch.tensor(bias, dtype=torch.float32, device=device))
        balanced = (len(rows) / n_classes / np.bincount(codes)) ** schedule.class_weight
        self.class_weights = torch.tensor(balanced, dtype=torch.float32, device=device)
        self.optimisation = Optimisation(
            [
                (list(trainer.tail.parameters()), schedule.learning_rate),
                ([self.weights, self.bias], schedule.head_learning_rate),
            ],
            schedule.weight_decay,
            schedule.averaging,
            schedule.epochs * self._steps,
        )
        self.epoch = self.best_epoch = 0
        self.history: list[dict[str, float | None]] = []
        self.best: tuple[tuple[np.ndarray, ...], LinearHead, np.ndarray] | None = None
        self.best_loss = math.inf

    @property
    def judged(self) -> int:
        """The last epoch after which the held cells were looked at."""
        return int(self.history[-1]["epoch"] or 0)

    @property
    def _steps(self) -> int:
        return max(1, math.ceil(len(self.rows) / self.trainer.schedule.batch_size))

    def run(self, epoch: int) -> None:
        """One pass over the training cells, then a look at the held ones."""
        if epoch == 1:
            self._judge(0, None)
        self.epoch = epoch
        # A generator an epoch: what comes next does not depend on where a kill fell.
        random = np.random.default_rng([self.seed, epoch])
        order = random.permutation(len(self.rows))
        losses = [self._step(order[step :: self._steps], random) for step in range(self._steps)]
        if epoch % _JUDGE_EVERY == 0 or epoch == self.trainer.schedule.epochs:
            self._judge(epoch, float(np.mean(losses)))

    def _step(self, some: np.ndarray, random: np.random.Generator) -> float:
        import torch

        trainer, schedule = self.trainer, self.trainer.schedule
        views = random.integers(0, trainer.table.maps.shape[1], len(some))
        inputs = tail_maps(trainer.table.maps[self.rows[some], views], trainer.tail, trainer.bfloat16)
        targets = torch.from_numpy(self.codes[some]).to(trainer.device)
        with torch.autocast(trainer.device.type, torch.bfloat16, enabled=trainer.bfloat16):
            after = trainer.tail(inputs)
        features = after.float().mean((2, 3))
        scores = (features - self.mean) / self.scale @ self.weights + self.bias
        loss = torch.nn.functional.cross_entropy(
            scores, targets, weight=self.class_weights, label_smoothing=schedule.label_smoothing
        )
        return self.optimisation.step(loss)

    def _judge(self, epoch: int, train_loss: float | None) -> None:
        """How well the held cells are told, after the best temperature, since every model is calibrated in the end.

        The Brier score says when to stop: the log loss turns much earlier, on a few sure mistakes that averaging
        over versions mends.
        """
        with self.optimisation.averaged():
            head, arrays = self._head(), self.trainer.tail.get_arrays()
            logits = head.logits(self.trainer._features(self.held))
        p = softmax(logits, fit_temperature(logits, self.held_codes))
        truth = np.eye(p.shape[1])[self.held_codes]
        loss = float(((p - truth) ** 2).sum(axis=1).mean())
        log_loss = float(-np.log(np.maximum((p * truth).sum(axis=1), 1e-12)).mean())
        accuracy = float((logits.argmax(axis=1) == self.held_codes).mean())
        row = {"epoch": epoch, "train_loss": train_loss, "validation_loss": log_loss, "brier": loss}
        self.history.append(row | {"accuracy": accuracy})
        if loss < self.best_loss:
            self.best_loss, self.best_epoch = loss, epoch
            self.best = arrays, head, logits

    def _head(self) -> LinearHead:
        scale = self.scale.cpu().numpy().astype(np.float64)
        weights = self.weights.detach().cpu().numpy().astype(np.float64) / scale[:, None]
        bias = self.bias.detach().cpu().numpy().astype(np.float64) - self.mean.cpu().numpy() @ weights
        return LinearHead(weights, bias, HEAD_C)

    def result(self) -> TrainedTail:
        """The version with the lowest loss on the held cells."""
        if self.best is None:
            self._judge(0, None)
        assert self.best is not None
        return TrainedTail(*self.best, tuple(self.history))

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything that `resume` needs."""
        assert self.best is not None
        best = TrainedTail(*self.best, tuple(self.history))
        numbers = np.array([self.epoch, self.best_epoch, self.best_loss])
        return self.optimisation.arrays() | {"numbers": numbers} | {f"best_{k}": v for k, v in packed(best).items()}

    def resume(self, held: dict[str, np.ndarray] | None) -> None:
        """Take up where a checkpoint was written."""
        if held is None:
            return
        self.optimisation.resume(held)
        epoch, best_epoch, self.best_loss = (float(x) for x in held["numbers"])
        self.epoch, self.best_epoch = int(epoch), int(best_epoch)
        best = unpacked({k.removeprefix("best_"): v for k, v in held.items() if k.startswith("best_")})
        self.best, self.history = (best.arrays, best.head, best.logits), list(best.history)
