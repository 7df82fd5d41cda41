"""A bundle's graphs at work: from decoded images to calibrated probabilities, in the shape of a feature extractor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte import settings
from cervicyte.base import files, fingerprints
from cervicyte.base.versions import opencv_version, version_of
from cervicyte.bundle.manifest import MemberSpec
from cervicyte.errors import BundleError, UsageError
from cervicyte.features import extraction
from cervicyte.features.descriptor_table import Described
from cervicyte.images import decoding, filters
from cervicyte.images.augmentation import GEOMETRIC
from cervicyte.networks import runtime

#: Packages whose version may move a pixel or a measurement.
_VERSIONS = ("pillow", "opencv-python-headless", "scikit-image", "openvino", "onnxruntime")


class GraphExtractor:
    """One graph of a bundle, whose features are the probabilities of its classes.

    Parameters
    ----------
    folder : of the bundle
    member : the graph and its input
    classes : how many
    precision : see `cervicyte.networks.runtime.Engine`; None takes the setting
    outputs : those of the graph that its engine computes, the probabilities among them
    """

    def __init__(
        self,
        folder: Path,
        member: MemberSpec,
        classes: int,
        precision: str | None = None,
        outputs: tuple[str, ...] = ("probabilities",),
    ) -> None:
        spec = member.input
        wanted = precision or settings.get_str("precision")
        if wanted == "auto" and member.precision == "float32":
            wanted = "float32"  # the precision that its scores were measured with
        code = b""
        if spec.kind == "measurements":
            if wanted not in runtime.PRECISIONS:
                raise UsageError("unknown precision", repr(wanted), f"there are: {', '.join(runtime.PRECISIONS)}")
            code = _check_measurements(spec.measurements)
            wanted = "float32"
        self.spec = spec
        self.dimension = classes
        self.engine = runtime.Engine(folder / member.graph, outputs, precision=wanted)
        self.precision = self.engine.precision
        self.batch_size = self.engine.batch_size
        self.parallel = self.engine.parallel
        self.seed = 0
        self.augmentation = GEOMETRIC
        # Everything that the probabilities depend on besides the image: what is left out here makes stale answers.
        sha256 = files.sha256_file(folder / member.graph)
        named = (extraction.FEATURE_FORMAT, sha256, self.engine.engine, self.engine.precision, spec, classes)
        versions = [(name, opencv_version() if "opencv" in name else version_of(name)) for name in _VERSIONS]
        self.key = fingerprints.of_repr((named, versions), code)

    @property
    def layout(self) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Kind of number and shape of one prepared row."""
        return self.spec.layout

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """One decoded image to one input of the graph."""
        image = filters.apply_chain(image, self.spec.filters)
        if self.spec.kind == "measurements":
            from cervicyte.images import morphology

            return morphology.measure(image)
        return decoding.resize(image, self.spec.size, self.spec.fit)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """A stack of prepared inputs to calibrated probabilities, float32 (n, k)."""
        probabilities = self.engine.run(batch)["probabilities"]
        if probabilities.shape != (len(batch), self.dimension) or not np.isfinite(probabilities).all():
            raise BundleError(
                "the bundle's graph does not give a probability for each of its classes",
                f"an output of shape {probabilities.shape} for {len(batch)} inputs and {self.dimension} classes",
                "do not use this bundle",
            )
        return probabilities


class EnsembleExtractor:
    """All graphs of an ensemble; a vector holds the members' probabilities, one member after the other.

    A prepared row holds the bytes of every distinct input once: members that see the same image share it.
    """

    def __init__(self, folder: Path, members: Sequence[MemberSpec], classes: int, precision: str | None = None) -> None:
        self.parts = [GraphExtractor(folder, member, classes, precision) for member in members]
        self.inputs = {part.spec: part for part in self.parts}
        self.dimension = len(self.parts) * classes
        precisions = {part.precision for part in self.parts}
        self.precision = precisions.pop() if len(precisions) == 1 else "mixed"
        self.batch_size = min(part.batch_size for part in self.parts)
        self.parallel = 1
        self.seed = 0
        self.augmentation = GEOMETRIC
        self.key = fingerprints.of_repr([part.key for part in self.parts])

    @property
    def layout(self) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Kind of number and shape of one prepared row."""
        inputs = (spec.layout for spec in self.inputs)
        return np.dtype(np.uint8), (sum(math.prod(shape) * dtype.itemsize for dtype, shape in inputs),)

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """One decoded image to the bytes of all inputs, uint8 (size,)."""
        rows = [part.prepare(image) for part in self.inputs.values()]
        return np.concatenate([np.ascontiguousarray(row).reshape(-1).view(np.uint8) for row in rows])

    def run(self, batch: np.ndarray) -> np.ndarray:
        """A stack of prepared rows to votes, float32 (n, members * k)."""
        prepared = {}
        start = 0
        for spec in self.inputs:
            dtype, shape = spec.layout
            end = start + math.prod(shape) * dtype.itemsize
            prepared[spec] = np.ascontiguousarray(batch[:, start:end]).view(dtype).reshape(len(batch), *shape)
            start = end
        return np.concatenate([part.run(prepared[part.spec]) for part in self.parts], axis=1)


BundleExtractor = GraphExtractor | EnsembleExtractor | Described


def make_extractor(
    folder: Path, members: Sequence[MemberSpec], classes: int, precision: str | None = None, described: bool = False
) -> BundleExtractor:
    """The extractor of a bundle with these graphs; raises what `cervicyte.networks.runtime.Engine` raises.

    Parameters
    ----------
    described : the bundle checks image quality, so that each vector ends in the image's descriptors
    """
    graphs: GraphExtractor | EnsembleExtractor
    if len(members) == 1:
        graphs = GraphExtractor(folder, members[0], classes, precision)
    else:
        graphs = EnsembleExtractor(folder, members, classes, precision)
    return Described(graphs) if described else graphs


def _check_measurements(names: tuple[str, ...]) -> bytes:
    """Refuse other measurements than this version makes, and return the code that makes them."""
    from cervicyte.images import morphology

    if names != tuple(morphology.NAMES):
        missing = [n for n in names if n not in morphology.NAMES]
        raise BundleError(
            "the bundle uses other measurements than this version makes",
            f"{len(names)} measurements, unknown: {', '.join(missing) or 'none, but their order differs'}",
            "train it again with this version",
        )
    return extraction.morphology_code()
