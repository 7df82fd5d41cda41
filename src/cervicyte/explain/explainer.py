"""Why a bundle answers as it does: a map of the places, or a list of the measurements, that speak for and against.

>>> from cervicyte.explain.explainer import explain, write_png                    # doctest: +SKIP
>>> write_png(explain(bundle, "cell.png"), "why.png")                   # doctest: +SKIP

No gradients and no training framework: a network's graph gives class activation maps whose mean is the answer
itself, and a head on measurements is linear. The arithmetic is in `cervicyte.explain.evidence`, the drawing in
`cervicyte.explain.drawing`, and whether a map is faithful to its model is tested by `cervicyte.explain.faithfulness`.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte.base.files import printable
from cervicyte.bundle.folder import Bundle
from cervicyte.bundle.inference import GraphExtractor
from cervicyte.bundle.manifest import MemberSpec
from cervicyte.decision.calibration import softmax
from cervicyte.errors import BundleError, ImageError, UsageError
from cervicyte.explain.drawing import overlay, write_png
from cervicyte.explain.evidence import (
    Evidence,
    Explanation,
    Target,
    find_target,
    member_weights,
    place_map,
    shares,
    upsample,
)
from cervicyte.images import decoding, morphology
from cervicyte.images.descriptors import describe
from cervicyte.images.segmentation import segment

__all__ = ["Evidence", "Explainer", "Explanation", "explain", "overlay", "write_png"]

#: How far the probabilities of a map's mean may be from the graph's own; below float32 more for each unit of the
#: map's largest value, which is the rounding of bfloat16.
_AGREEMENT, _ROUNDING = 0.05, 0.004


def explain(
    bundle: Bundle, image: np.ndarray | Path | str, target: str | None = None, *, precision: str | None = None
) -> Explanation:
    """Explain a bundle's answer for one image; for many images make an `Explainer` once.

    Parameters
    ----------
    image : a file, or uint8 (h, w, 3) RGB
    target : a class, or "abnormal"; None for "abnormal" where that is defined, else for the most probable class
    precision : see `cervicyte.networks.runtime.Engine`; None takes the setting

    Raises
    ------
    ImageError : an image that cannot be used, or that the bundle refuses as no image to judge
    UsageError : no such target, or a network of the user's own that has no feature map
    BundleError : graphs that do not give what a bundle's graphs give
    """
    return Explainer(bundle, precision).explain(image, target)


class Explainer:
    """A bundle compiled once to explain any number of images.

    Parameters
    ----------
    bundle : a model on images or measurements, or an ensemble of them
    precision : see `cervicyte.networks.runtime.Engine`; None takes the setting
    """

    def __init__(self, bundle: Bundle, precision: str | None = None) -> None:
        self.bundle = bundle
        self.members = [_Member(bundle, spec, precision) for spec in bundle.manifest.graphs]
        if not any(member.explains for member in self.members):
            raise UsageError(
                "this bundle has nothing to explain its answers with",
                f"{bundle.folder}: its network gives features without a feature map",
                "train on a network whose last layer before pooling is a map",
            )

    @property
    def has_map(self) -> bool:
        """Whether any member looks at places."""
        return any("activation_map" in member.extractor.engine.outputs for member in self.members)

    def probabilities(self, images: Sequence[np.ndarray]) -> np.ndarray:
        """What the graphs answer for images, uint8 (h, w, 3) each, of whatever quality: calibrated, float64 (n, k)."""
        votes = []
        for member in self.members:
            rows = [member.extractor.prepare(image) for image in images]
            size = member.extractor.batch_size
            parts = [np.stack(rows[i : i + size]) for i in range(0, len(rows), size)]
            votes.append(np.concatenate([member.extractor.run(part) for part in parts]))
        return self.bundle.answers(np.concatenate(votes, axis=1)).probabilities

    def explain(self, image: np.ndarray | Path | str, target: str | None = None) -> Explanation:
        """Explain the answer for one image; see `explain`."""
        pixels = _checked(image)
        seen = [member.see(pixels) for member in self.members]
        votes = np.stack([p for p, _ in seen])
        path = os.fspath(image) if isinstance(image, str | Path) else ""
        manifest = self.bundle.manifest
        checked = manifest.quality is not None
        vector = np.concatenate([votes.reshape(-1), *([describe(pixels)] if checked else [])])
        prediction = self.bundle.verdict(path, vector)
        if prediction.refused:  # a map of what the graphs say all the same would look like an answer
            raise ImageError(
                "the model gives no verdict on this image, so there is nothing to explain",
                f"{printable(path) or 'the image'}: {prediction.quality}",
                "give a sharp image of one cell, like those that the model was trained on",
            )
        answer = np.array(prediction.probabilities)
        chosen = find_target(target, manifest.classes, manifest.abnormal_classes, answer)
        weights = member_weights(manifest.combiner, votes, chosen)
        members = tuple(
            member.evidence(p, rest, chosen, float(weight))
            for member, (p, rest), weight in zip(self.members, seen, weights, strict=True)
        )
        return Explanation(
            pixels,
            chosen.name,
            prediction,
            chosen.log_odds(answer),
            _combined(members, pixels.shape[:2]),
            members,
            dict(zip(morphology.NAMES, map(float, morphology.measure(pixels)), strict=True)),
            segment(pixels),
        )


class _Member:
    """One graph, and what it can say besides its probabilities."""

    def __init__(self, bundle: Bundle, spec: MemberSpec, precision: str | None) -> None:
        import onnx

        graph = onnx.load(str(bundle.folder / spec.graph), load_external_data=False).graph
        mapped = "activation_map" in {output.name for output in graph.output}
        outputs = ("probabilities", "activation_map") if mapped else ("probabilities",)
        self.spec = spec
        self.extractor = GraphExtractor(bundle.folder, spec, len(bundle.classes), precision, outputs)
        measured = spec.input.kind == "measurements"
        self.head = _linear_head(graph, len(spec.input.measurements), len(bundle.classes)) if measured else None
        self.explains = mapped or measured

    def see(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Probabilities, float (k,), and the activation map (y, x, k) or the measurements (d,)."""
        batch = self.extractor.prepare(image)[None]
        if self.head is not None:
            return self.extractor.run(batch)[0], batch[0]
        outputs = self.extractor.engine.run(batch)
        p = outputs["probabilities"]
        if "activation_map" not in outputs:
            return self.extractor.run(batch)[0], np.empty((0, 0, p.shape[-1]))
        activation = outputs["activation_map"]
        if activation.ndim != 4 or len(p) != 1 or p.shape[-1] != self.extractor.dimension or activation.size == 0:
            raise self._wrong(f"an output of shape {p.shape} with a map of shape {activation.shape}")
        means = activation.reshape(1, -1, activation.shape[-1]).mean(axis=1)
        if means.shape != p.shape or not np.isfinite(activation).all() or not np.isfinite(p).all():
            raise self._wrong(f"a map of shape {activation.shape}, or numbers that are not finite")
        rounding = 0.0 if self.extractor.precision == "float32" else _ROUNDING * np.abs(activation).max()
        if np.abs(softmax(means) - p).max() > _AGREEMENT + rounding:
            raise self._wrong("a map whose mean is not the answer")
        return p[0], activation[0]

    def evidence(self, p: np.ndarray, rest: np.ndarray, target: Target, weight: float) -> Evidence:
        """What `see` found as evidence for a target."""
        log_odds = target.log_odds(p)
        name = self.spec.name
        if self.head is None:
            grid = place_map(rest, target, log_odds) if rest.size else None
            return Evidence(name, weight, log_odds, grid, self.spec.input.fit)
        weights, bias, centre = self.head
        off = rest.astype(np.float64) - centre
        slopes = weights @ target.weights(off @ weights + bias)
        names = self.spec.input.measurements
        parts = dict(zip(names, map(float, slopes * off), strict=True))
        values = dict(zip(names, map(float, rest), strict=True))
        rest_of_it = log_odds - sum(parts.values())
        return Evidence(name, weight, log_odds, contributions=parts, values=values, baseline=rest_of_it)

    def _wrong(self, received: str) -> BundleError:
        return BundleError(
            "the bundle's graph does not explain its own answer", f"{self.spec.graph}: {received}", "do not use it"
        )


def _combined(members: tuple[Evidence, ...], shape: tuple[int, ...]) -> np.ndarray | None:
    """Weighted mean of the members' maps, laid over the image: float32 (h, w), or None."""
    parts = [m for m in members if m.grid is not None]
    if not parts:
        return None
    total = np.zeros(shape[:2], dtype=np.float32)
    for part, weight in zip(parts, shares(parts), strict=True):
        assert part.grid is not None
        total += np.float32(weight) * upsample(part.grid, shape[0], shape[1], part.fit)
    return total


def _linear_head(graph: Any, d: int, k: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (d, k), bias (k,) and centre (d,) of a graph of `modelgraph.measurements_graph`, float64."""
    from onnx import numpy_helper

    constants = {row.name: numpy_helper.to_array(row).astype(np.float64) for row in graph.initializer}
    try:
        head = constants["head_weights"], constants["head_bias"], constants.get("head_centre", np.zeros(d))
        right = [array.shape for array in head] == [(d, k), (k,), (d,)]
    except KeyError:
        right = False
    if not right:
        raise BundleError(
            "the bundle's graph on measurements has no linear head",
            ", ".join(f"{name} {array.shape}" for name, array in constants.items()) or "no constants",
            "train it again with this version",
        )
    return head


def _checked(image: np.ndarray | Path | str) -> np.ndarray:
    if isinstance(image, str | Path):
        return decoding.load(image)
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8 or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ImageError(
            "not an image: uint8 of height, width and 3 colours is needed",
            f"{pixels.dtype} of shape {pixels.shape}",
            "decode files with cervicyte.images.decoding.load",
        )
    return np.ascontiguousarray(pixels)
