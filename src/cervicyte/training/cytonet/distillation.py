"""Training our own network: first to see as a large network does, then to tell cells as a teacher does.

The foundation is trained once, on crops without labels, to give the features of a network that was pretrained on
ImageNet (Romero et al. 2015, FitNets, ICLR). A student starts from it, and is trained on labelled cells, with the
teacher's opinion of them and of the crops beside the labels (Hinton et al. 2015, Distilling the knowledge in a neural
network). No weight is copied from anywhere.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from cervicyte.base import fingerprints
from cervicyte.base.checkpoints import Computation
from cervicyte.base.parallel import in_order
from cervicyte.base.progress import track
from cervicyte.decision.linear import LinearHead, fit_linear
from cervicyte.images.decoding import resize
from cervicyte.networks.cytonet import Cytonet, Shape
from cervicyte.networks.runtime import has_bfloat16
from cervicyte.training.cytonet.views import view
from cervicyte.training.optimisation import Optimisation
from cervicyte.training.schedule import Schedule

#: Raised when the same inputs would train other weights.
FORMAT = 3

#: Seconds between two checkpoints of a computation; a kill loses at most these.
CHECKPOINT_SECONDS = 60.0

#: The share of the epochs in which views are smaller, and their side in shares of the full one: such a step costs less
#: than half, and what small views hide is learnt at the end (Touvron et al. 2019, Fixing the train-test resolution
#: discrepancy, NeurIPS).
_COARSE, _COARSE_SIDE = 2 / 3, 2 / 3

#: Crops without labels in a step, in shares of its cells.
_CROPS_A_CELL = 0.5

#: Rows that are run at a time where nothing is trained.
_ROWS = 64

#: Inverse regularisation strength of the head that a student starts from.
_HEAD_C = 1e-3


@dataclass(frozen=True)
class Weighing:
    """What a student listens to, in shares of its loss.

    Attributes
    ----------
    teacher : of the opinion on labelled cells that is the teacher's; the rest is the label's
    features : weight of the large network's features, on cells and crops
    pool : weight of the crops without labels; 0 leaves them out
    """

    teacher: float = 0.5
    features: float = 0.5
    pool: float = 0.5


@dataclass(frozen=True)
class Foundation:
    """A network that sees as the large one does.

    Attributes
    ----------
    arrays : its weights and statistics
    projector : from its features to the large network's, float32 (d, p)
    key : names every input of its training
    history : mean loss of each epoch
    """

    arrays: tuple[np.ndarray, ...]
    projector: np.ndarray
    key: str
    history: tuple[float, ...]


@dataclass(frozen=True)
class Student:
    """A trained network and its head.

    Attributes
    ----------
    arrays : its weights and statistics
    head : logits from its features
    history : a row an epoch: epoch and train_loss
    """

    arrays: tuple[np.ndarray, ...]
    head: LinearHead
    history: tuple[dict[str, float | None], ...]


@dataclass(frozen=True)
class Lessons:
    """What a student is told, for the same rows in the same order.

    Attributes
    ----------
    pixels : uint8 (n, s, s, 3)
    targets : the large network's features, reduced and scaled, float32 (n, p)
    opinions : the teacher's probabilities, float32 (n, k)
    """

    pixels: np.ndarray
    targets: np.ndarray
    opinions: np.ndarray


def uses_bfloat16(precision: str) -> bool:
    """Whether training computes in bfloat16."""
    return precision != "float32" and (torch.cuda.is_available() or has_bfloat16())


def train_foundation(
    pixels: np.ndarray, targets: np.ndarray, shape: Shape, schedule: Schedule, seed: int, named: str, bfloat16: bool
) -> Foundation:
    """Teach a network with random weights to give the large network's features of crops.

    Parameters
    ----------
    pixels : uint8 (n, s, s, 3)
    targets : float32 (n, p)
    schedule : its epochs, batch_size, learning_rate, weight_decay and averaging
    named : names the crops and targets

    Raises
    ------
    DataError : a loss that is not finite
    StorageError : the disk is full
    """
    numbers = {name: getattr(schedule, name) for name in ("epochs", "batch_size", "learning_rate", "weight_decay")}
    key = _key("foundation", named, asdict(shape), numbers, schedule.averaging, seed, bfloat16)
    computation = Computation(key, "foundations")
    held = computation.result()
    if held is None:
        run = _Run(Cytonet(shape, seed), len(pixels), schedule, seed, bfloat16)
        start = np.random.default_rng(seed).normal(0, shape.dimension**-0.5, (shape.dimension, targets.shape[1]))
        projector = torch.nn.Parameter(torch.tensor(start, dtype=torch.float32, device=run.device))
        run.learn([*run.network.parameters(), projector])

        def loss(rows: np.ndarray, views: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
            wanted = torch.from_numpy(targets[rows]).to(run.device)
            return functional.mse_loss(run.features(views) @ projector, wanted)

        history = run.all_epochs(pixels, loss, computation, f"epochs of {len(pixels)} crops without labels")
        with run.optimisation.averaged():
            run.settle(pixels)
            held = {f"array_{i}": a for i, a in enumerate(run.network.get_arrays())}
            held |= {"projector": projector.detach().cpu().numpy()}
        held |= {"history": np.array(history)}
        computation.save_result(held)
    return Foundation(_arrays(held), held["projector"], key, tuple(float(x) for x in held["history"]))


class StudentTrainer:
    """Trains and runs students that share a foundation.

    Parameters
    ----------
    foundation : where they start
    shape : of the network
    schedule : how to train
    weighing : what they listen to
    bfloat16 : compute in it
    """

    def __init__(
        self, foundation: Foundation, shape: Shape, schedule: Schedule, weighing: Weighing, bfloat16: bool
    ) -> None:
        self.foundation, self.shape, self.schedule = foundation, shape, schedule
        self.weighing, self.bfloat16 = weighing, bfloat16
        self.network = Cytonet(shape, 0)
        self.key = _key("student", foundation.key, asdict(schedule), asdict(weighing), _HEAD_C, bfloat16)

    def train(
        self, named: str, codes: np.ndarray, n_classes: int, seed: int, lessons: Callable[[], tuple[Lessons, Lessons]]
    ) -> Student:
        """Train one student; what was done before is taken from disk.

        Parameters
        ----------
        named : names the cells, their order, and what the teacher was fitted on
        codes : class of each cell, int (n,), each of 0..n_classes-1 present
        seed : of order and views
        lessons : gives what there is to learn of the cells and of the crops; called only where it is needed

        Raises
        ------
        DataError : a loss that is not finite
        StorageError : the disk is full
        """
        computation = Computation(_key(self.key, named, seed, codes.tolist()), "students")
        held = computation.result()
        if held is None:
            held = self._trained(codes, n_classes, seed, *lessons(), computation)
            computation.save_result(held)
        history: list[dict[str, float | None]] = []
        for epoch, loss in enumerate(held["history"], 1):
            history.append({"epoch": epoch, "train_loss": float(loss)})
        return Student(_arrays(held), LinearHead(held["weights"], held["bias"], _HEAD_C), tuple(history))

    def logits(self, student: Student, pixels: np.ndarray) -> np.ndarray:
        """What a student says of images: uint8 (n, side, side, 3) to float64 (n, k)."""
        self.network.set_arrays(student.arrays)
        return student.head.logits(features_of(self.network, pixels))

    def _trained(
        self, codes: np.ndarray, n_classes: int, seed: int, cells: Lessons, crops: Lessons, computation: Computation
    ) -> dict[str, np.ndarray]:
        schedule, weighing = self.schedule, self.weighing
        run = _Run(self.network, len(codes), schedule, seed, self.bfloat16)
        run.network.set_arrays(self.foundation.arrays)
        head = _Head(features_of(run.network, _resized(cells.pixels, self.shape.side)), codes, n_classes)
        projector = torch.nn.Parameter(torch.tensor(self.foundation.projector, device=run.device))
        head.to(run.device)
        run.learn([*run.network.parameters(), projector, *head.parameters()])
        balanced = (len(codes) / n_classes / np.bincount(codes, minlength=n_classes)) ** schedule.class_weight
        class_weights = torch.tensor(balanced, dtype=torch.float32, device=run.device)

        def opinion(lessons: Lessons, rows: np.ndarray, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            """Loss against the teacher's opinion and the large network's features."""
            opinions = torch.from_numpy(lessons.opinions[rows]).to(run.device)
            wanted = torch.from_numpy(lessons.targets[rows]).to(run.device)
            return functional.cross_entropy(head(features), opinions), functional.mse_loss(features @ projector, wanted)

        def loss(rows: np.ndarray, views: torch.Tensor, random: np.random.Generator) -> torch.Tensor:
            features = run.features(views)
            labels = torch.from_numpy(codes[rows]).to(run.device)
            hard = functional.cross_entropy(
                head(features), labels, weight=class_weights, label_smoothing=schedule.label_smoothing
            )
            soft, seen = opinion(cells, rows, features)
            total = (1 - weighing.teacher) * hard + weighing.teacher * soft + weighing.features * seen
            if weighing.pool and len(crops.pixels):
                some = random.integers(0, len(crops.pixels), math.ceil(_CROPS_A_CELL * len(rows)))
                with run.network.statistics_kept():
                    features = run.features(run.tensor(_views(crops.pixels, some, views.shape[-1], random)))
                soft, seen = opinion(crops, some, features)
                total = total + weighing.pool * (soft + weighing.features * seen)
            return total

        history = run.all_epochs(cells.pixels, loss, computation, f"epochs of {len(codes)} cells")
        with run.optimisation.averaged():
            run.settle(cells.pixels)
            held = {f"array_{i}": a for i, a in enumerate(run.network.get_arrays())}
            weights, bias = head.folded()
        return held | {"weights": weights, "bias": bias, "history": np.array(history)}


class _Head(torch.nn.Module):
    """Logits from standardised features, so that one learning rate suits all of them; starts as logistic regression."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, features: np.ndarray, codes: np.ndarray, n_classes: int) -> None:
        super().__init__()
        head = fit_linear(features, codes, n_classes, _HEAD_C)
        mean, scale = features.mean(axis=0, dtype=np.float64), features.std(axis=0, dtype=np.float64) + 1e-3
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("scale", torch.tensor(scale, dtype=torch.float32))
        self.weights = torch.nn.Parameter(torch.tensor(head.weights * scale[:, None], dtype=torch.float32))
        self.bias = torch.nn.Parameter(torch.tensor(head.bias + mean @ head.weights, dtype=torch.float32))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return (features - self.mean) / self.scale @ self.weights + self.bias

    def folded(self) -> tuple[np.ndarray, np.ndarray]:
        """Weights (d, k) and bias (k,) for features as they are, float64."""
        mean, scale, weights, bias = (
            t.detach().cpu().numpy().astype(np.float64) for t in (self.mean, self.scale, self.weights, self.bias)
        )
        weights = weights / scale[:, None]
        return weights, bias - mean @ weights


class _Run:
    """One training: views made while the step before is computed, checkpoints, and statistics settled at the end."""

    def __init__(self, network: Cytonet, rows: int, schedule: Schedule, seed: int, bfloat16: bool) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.network = network.to(self.device)
        self.rows, self.schedule, self.seed, self.bfloat16 = rows, schedule, seed, bfloat16
        self.steps = max(1, math.ceil(rows / schedule.batch_size))
        self.optimisation: Optimisation = None  # type: ignore[assignment]  # set by learn

    def learn(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Say what is learnt."""
        schedule = self.schedule
        groups = [(parameters, schedule.learning_rate)]
        self.optimisation = Optimisation(
            groups, schedule.weight_decay, schedule.averaging, schedule.epochs * self.steps
        )

    def tensor(self, pixels: np.ndarray) -> torch.Tensor:
        """Pixels as the network takes them."""
        tensor = torch.from_numpy(pixels).to(self.device).permute(0, 3, 1, 2)
        return tensor.float() / 127.5 - 1

    def features(self, views: torch.Tensor) -> torch.Tensor:
        """float32 (n, d)."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bfloat16):
            maps: torch.Tensor = self.network(views)
        return maps.float().mean((2, 3))

    def all_epochs(
        self,
        pixels: np.ndarray,
        loss: Callable[[np.ndarray, torch.Tensor, np.random.Generator], torch.Tensor],
        computation: Computation,
        label: str,
    ) -> list[float]:
        """Train to the end, from a checkpoint if there is one; the mean loss of each epoch."""
        history: list[float] = []
        held = computation.checkpoint()
        if held is not None:
            self.optimisation.resume(held)
            self.network.set_statistics([held[f"statistic_{i}"] for i in range(len(self.network.statistics()))])
            history = [float(x) for x in held["history"]]
        saved = time.monotonic()
        for epoch in track(range(len(history) + 1, self.schedule.epochs + 1), label):
            self.network.train()
            losses = []
            for some, seen, random in self._batches(pixels, epoch, self._side(epoch)):
                losses.append(self.optimisation.step(loss(some, self.tensor(seen), random)))
            history.append(float(np.mean(losses)))
            if time.monotonic() - saved > CHECKPOINT_SECONDS:
                statistics = {f"statistic_{i}": a for i, a in enumerate(self.network.statistics())}
                computation.save_checkpoint(self.optimisation.arrays() | statistics | {"history": np.array(history)})
                saved = time.monotonic()
        return history

    def settle(self, pixels: np.ndarray) -> None:
        """Take BatchNorm's statistics anew, from one pass over the views, for the weights as they are now."""
        self.network.train()
        with torch.no_grad(), self.network.statistics_averaged():
            for _, views, _ in self._batches(pixels, 0, self.network.shape.side):
                self.features(self.tensor(views))
        self.network.eval()

    def _side(self, epoch: int) -> int:
        """Side of an epoch's views in pixels."""
        side = self.network.shape.side
        if epoch > _COARSE * self.schedule.epochs:
            return side
        return max(16, round(side * _COARSE_SIDE / 16) * 16)

    def _batches(
        self, pixels: np.ndarray, epoch: int, side: int
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.random.Generator]]:
        """Rows, their views, and a generator for what else the step draws."""
        # A generator an epoch and a step: what comes next does not depend on where a kill fell.
        order = np.random.default_rng([self.seed, epoch, 0]).permutation(self.rows)

        def made(step: int) -> tuple[np.ndarray, np.ndarray, np.random.Generator]:
            random = np.random.default_rng([self.seed, epoch, step + 1])
            some = order[step :: self.steps]
            return some, _views(pixels, some, side, random), random

        return in_order(made, range(self.steps), threads=1, ahead=2)


def _views(pixels: np.ndarray, rows: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    return np.stack([view(pixels[row], side, random) for row in rows])


def _resized(pixels: np.ndarray, side: int) -> np.ndarray:
    return np.stack([resize(image, side) for image in pixels])


def features_of(network: Cytonet, pixels: np.ndarray) -> np.ndarray:
    """Features at prediction: uint8 (n, side, side, 3) to float32 (n, d)."""
    device = next(network.parameters()).device
    network.eval()
    features = []
    with torch.no_grad():
        for start in range(0, len(pixels), _ROWS):
            some = torch.from_numpy(np.ascontiguousarray(pixels[start : start + _ROWS])).to(device)
            features.append(network(some.permute(0, 3, 1, 2).float() / 127.5 - 1).mean((2, 3)).cpu().numpy())
    return np.concatenate(features)


def _arrays(held: Mapping[str, np.ndarray]) -> tuple[np.ndarray, ...]:
    return tuple(held[f"array_{i}"] for i in range(sum(name.startswith("array_") for name in held)))


def _key(*parts: Any) -> str:
    return fingerprints.of_json([FORMAT, torch.__version__, *parts])
