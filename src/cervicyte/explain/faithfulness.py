"""Whether maps tell the truth about their model: two tests that a map of anything else would fail.

- *Deletion* (Samek et al. 2017, Evaluating the visualization of what a deep neural network has learned, IEEE
  TNNLS 28:2660): taking away the places that the map says speak for the target must lower its log-odds more
  than taking away as much elsewhere.
- *Randomisation* (Adebayo et al. 2018, Sanity checks for saliency maps, NeurIPS): a model whose weights are
  shuffled must get other maps. One that stays the same shows the image, not the model.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import numpy_helper
from scipy.stats import rankdata

from cervicyte.base.progress import track
from cervicyte.bundle.folder import Bundle, save_bundle
from cervicyte.errors import UsageError
from cervicyte.explain.evidence import find_target
from cervicyte.explain.explainer import Explainer, Explanation

#: Shares of the pixels that are deleted.
SHARES = (0.1, 0.2, 0.4)

#: What `randomised` shuffles: the weights of the head alone, or those of every layer.
PARTS = ("head", "network")


@dataclass(frozen=True, eq=False)
class Deletion:
    """How much the target's log-odds fall when parts of the images are deleted.

    Attributes
    ----------
    shares : of the pixels deleted, s of them
    before : log-odds of each whole image, float64 (n,)
    marked : fall after deleting the places that the map marks most strongly as speaking for the target, (n, s)
    elsewhere : fall after deleting the same pieces mirrored and shifted to a random place, mean of the draws, (n, s)
    central : fall after deleting as many pixels about the centre, where the cell lies whatever a map says, (n, s)
    """

    shares: tuple[float, ...]
    before: np.ndarray
    marked: np.ndarray
    elsewhere: np.ndarray
    central: np.ndarray


def deletion(
    explainer: Explainer,
    images: Iterable[np.ndarray],
    target: str | None = None,
    shares: Sequence[float] = SHARES,
    draws: int = 5,
    seed: int = 0,
) -> Deletion:
    """Delete marked and other places of images, uint8 (h, w, 3) each, and ask the model again.

    Deleted pixels are filled in from what is left about them (see `filled`). The control has the same pieces:
    as many pixels, as ragged, only elsewhere, so that what differs is what the map says.

    Parameters
    ----------
    target : see `cervicyte.explain.explainer.explain`
    draws : random places for each image and share
    seed : of the places; those of an image depend on its number only

    Raises
    ------
    UsageError : a bundle without maps, shares outside 0 to 1, or fewer than one draw
    """
    if not explainer.has_map:
        raise UsageError("only maps can be tested by deletion", explainer.bundle.folder, "name a bundle with a network")
    if draws < 1 or not shares or not all(0 < s < 1 for s in shares):
        raise UsageError("deletion needs shares between 0 and 1, and a draw", f"{list(shares)}, {draws} draws")
    before, rows = [], []
    for number, image in enumerate(track(images, "Deleting")):
        explanation = explainer.explain(image, target)
        random = np.random.default_rng([seed, number])
        variants = [
            filled(image, mask)
            for share in shares
            for mask in (
                strongest(_values(explanation), share),
                strongest(_central(image.shape[:2]), share),
                *(strongest(elsewhere(_values(explanation), random), share) for _ in range(draws)),
            )
        ]
        after = log_odds(explainer, variants, explanation).reshape(len(shares), 2 + draws)
        before.append(explanation.log_odds)
        rows.append(explanation.log_odds - after)
    falls = np.array(rows).reshape(-1, len(shares), 2 + draws)
    return Deletion(tuple(shares), np.array(before), falls[:, :, 0], falls[:, :, 2:].mean(axis=2), falls[:, :, 1])


def log_odds(explainer: Explainer, images: Sequence[np.ndarray], explanation: Explanation) -> np.ndarray:
    """The log-odds of an explanation's target for other images: float64 (n,)."""
    manifest = explainer.bundle.manifest
    p = explainer.probabilities(images)
    target = find_target(explanation.target, manifest.classes, manifest.abnormal_classes, p[0])
    return np.array([target.log_odds(row) for row in p])


def strongest(values: np.ndarray, share: float) -> np.ndarray:
    """The given share of the pixels with the highest values: float (h, w) to bool (h, w), exactly so many."""
    count = max(1, round(share * values.size))
    mask = np.zeros(values.size, dtype=bool)
    mask[np.argsort(-values, axis=None, kind="stable")[:count]] = True
    return mask.reshape(values.shape)


def filled(image: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The image with the pixels of a mask replaced by the blurred rest of it, which knows nothing of them.

    Uint8 (h, w, 3) and bool (h, w), not all True, to uint8 (h, w, 3).
    """
    keep = (~mask).astype(np.float32)
    visible = image.astype(np.float32) * keep[..., None]
    sigma = max(1.0, max(image.shape[:2]) / 16)
    # Far from all that is left there is nothing to blur: the mean of the rest takes over.
    little = 1e-3
    mean = visible.sum(axis=(0, 1)) / max(keep.sum(), 1.0)
    weight = cv2.GaussianBlur(keep, (0, 0), sigma)[..., None] + little
    blurred = (cv2.GaussianBlur(visible, (0, 0), sigma) + little * mean) / weight
    return np.where(mask[..., None], blurred.round().clip(0, 255), image).astype(np.uint8)


def randomised(bundle: Bundle, folder: Path | str, part: str = "network", seed: int = 0) -> Bundle:
    """Write the bundle with shuffled weights: the same numbers in each tensor, in another order.

    Parameters
    ----------
    folder : for the new bundle, which is of no other use
    part : one of PARTS
    seed : of the order

    Raises
    ------
    UsageError : an unknown part
    StorageError : the folder cannot be written
    """
    if part not in PARTS:
        raise UsageError("unknown part of a model", repr(part), f"there are: {', '.join(PARTS)}")
    random = np.random.default_rng(seed)
    graphs = []
    for member in bundle.manifest.graphs:
        model = onnx.load(str(bundle.folder / member.graph))
        for row in model.graph.initializer:
            values = numpy_helper.to_array(row)
            layer = values.ndim >= 2 and values.dtype in (np.float32, np.float16, np.int8)
            if row.name == "head_weights" or (part == "network" and layer):
                row.CopyFrom(
                    numpy_helper.from_array(random.permutation(values.ravel()).reshape(values.shape), row.name)
                )
        graphs.append(bytes(model.SerializeToString()))
    manifest = replace(bundle.manifest, name=f"{bundle.manifest.name}, {part} shuffled", scores={})
    return save_bundle(folder, manifest, graphs)


def agreement(
    first: Explainer, other: Explainer, images: Iterable[np.ndarray], target: str | None = None
) -> np.ndarray:
    """Correlation of two models' maps of each image, for the same target: float64 (n,); see `correlation`."""
    correlations = []
    for image in track(images, "Comparing"):
        of_first = first.explain(image, target)
        of_other = other.explain(image, of_first.target)
        correlations.append(correlation(_values(of_first), _values(of_other)))
    return np.array(correlations)


def correlation(first: np.ndarray, other: np.ndarray) -> float:
    """Spearman's rank correlation of two maps of the same shape, -1 to 1; 0 where one of them is flat."""
    a, b = (rankdata(values) - (values.size + 1) / 2 for values in (first, other))
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale else 0.0


def _values(explanation: Explanation) -> np.ndarray:
    if explanation.map is None:
        raise UsageError("only maps can be compared", "measurements", "name a bundle with a network")
    return explanation.map


def _central(shape: tuple[int, ...]) -> np.ndarray:
    """Higher the nearer to the centre: a disc, or an ellipse of the image's own proportions."""
    y, x = (np.abs(np.arange(n) + 0.5 - n / 2) / n for n in shape[:2])
    return np.asarray(-np.hypot(y[:, None], x[None]))


def elsewhere(values: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """The same values mirrored at random and shifted round the edges: same pieces, another place."""
    flipped = values[:: random.choice((-1, 1)), :: random.choice((-1, 1))]
    return np.roll(flipped, (random.integers(values.shape[0]), random.integers(values.shape[1])), (0, 1))
