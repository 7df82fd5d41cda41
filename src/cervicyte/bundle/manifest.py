"""What a bundle says of itself: classes, preparation of the image, members, limits, training and scores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from cervicyte.data.labels import BETHESDA, LabelSystem, find_map
from cervicyte.decision.calibration import DecisionLimits
from cervicyte.decision.ensemble import Combiner
from cervicyte.decision.quality import QualityModel
from cervicyte.errors import BundleError, CervicyteError, UsageError
from cervicyte.images import decoding, filters

#: Version of the bundle's layout; a bundle with a higher one is refused. Ensembles came with version 2.
FORMAT = 2

MANIFEST = "manifest.json"
GRAPH = "model.onnx"

#: How many members an ensemble may have; more is no model but a mistake.
_MOST_MEMBERS = 100


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes the graph's input.

    Attributes
    ----------
    kind : "image" (uint8 pixels), "measurements" (float32 morphology), or "members" (each has its own)
    size : side of the square that the graph takes, in pixels; 0 for measurements
    fit : how other shapes become a square, one of images.FITS
    filters : texts of the filter chain
    measurements : names of the measurements, in order; empty for images
    """

    kind: str
    size: int = 0
    fit: str = "stretch"
    filters: tuple[str, ...] = ()
    measurements: tuple[str, ...] = ()

    @property
    def layout(self) -> tuple[np.dtype[Any], tuple[int, ...]]:
        """Kind of number and shape of one prepared image."""
        if self.kind == "measurements":
            return np.dtype(np.float32), (len(self.measurements),)
        return np.dtype(np.uint8), (self.size, self.size, 3)

    def to_json(self) -> dict[str, Any]:
        """A plain form; `from_json` reads it back."""
        return {**vars(self), "filters": list(self.filters), "measurements": list(self.measurements)}

    def problems(self) -> list[str]:
        """What is wrong with it, in words; raises UsageError for an unknown filter."""
        canonical = filters.stored_chain(self.filters)
        return [
            what
            for right, what in (
                (self.kind in ("image", "measurements"), f"an unknown kind of input, {self.kind!r}"),
                (self.filters == canonical, f"filters that are not written as they should be, {self.filters}"),
                (self.fit in decoding.FITS, f"an unknown fit, {self.fit!r}"),
                (self.kind != "image" or 1 <= self.size <= 4096, f"an input size of {self.size}"),
            )
            if not right
        ]


@dataclass(frozen=True)
class MemberSpec:
    """One member of an ensemble.

    Attributes
    ----------
    name : in votes and listings
    graph : its file, from input to calibrated probabilities
    input : how an image becomes its input
    precision : the precision its scores were measured with
    """

    name: str
    graph: str
    input: InputSpec
    precision: str

    def to_json(self) -> dict[str, Any]:
        """A plain form; `from_json` reads it back."""
        return {**vars(self), "input": self.input.to_json()}


@dataclass(frozen=True)
class Manifest:
    """All that a bundle says of itself.

    Attributes
    ----------
    name : what it is called in listings
    system : the label system of its classes
    classes : the order of the probabilities
    input : how an image is prepared
    limits : operating point and uncertain band
    precision : the precision its scores were measured with
    training : data set, counts, fingerprint, protocol, recipe, seed, backbone, weights, software versions
    scores : the cross-validated metrics, as in metrics.json
    members : of an ensemble, in the order of its votes; empty for a single graph
    combiner, temperature : how the members' votes become calibrated probabilities
    quality : what cells look like, for refusing other images; None in bundles that do not check it
    """

    name: str
    system: LabelSystem
    classes: tuple[str, ...]
    input: InputSpec
    limits: DecisionLimits
    precision: str
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    members: tuple[MemberSpec, ...] = ()
    combiner: Combiner | None = None
    temperature: float = 1.0
    quality: QualityModel | None = None

    @property
    def abnormal_classes(self) -> np.ndarray | None:
        """Which classes are abnormal, bool (k,), or None where that is not defined."""
        if self.system.abnormal is None:
            return None
        return np.array([c in self.system.abnormal for c in self.classes])

    @cached_property
    def bethesda(self) -> Mapping[str, str]:
        """The Bethesda category of each class; empty where there is no map to them."""
        if self.system.name == BETHESDA.name:
            return {c: c for c in self.classes}
        try:
            return find_map(self.system, BETHESDA.name).table
        except UsageError:
            return {}

    @property
    def graphs(self) -> tuple[MemberSpec, ...]:
        """Every graph of the bundle with its input; a single model counts as its own only member."""
        return self.members or (MemberSpec(self.name, GRAPH, self.input, self.precision),)

    def to_json(self) -> dict[str, Any]:
        """The contents of manifest.json, without the files' checksums."""
        plain: dict[str, Any] = {
            "format": FORMAT if self.members else 1,
            "name": self.name,
            "system": self.system.to_json(),
            "classes": list(self.classes),
            "input": self.input.to_json(),
            "limits": self.limits.to_json(),
            "precision": self.precision,
            "training": dict(self.training),
            "scores": dict(self.scores),
        }
        if self.combiner is not None:
            plain["members"] = [m.to_json() for m in self.members]
            plain["combiner"] = self.combiner.to_json()
            plain["temperature"] = self.temperature
        if self.quality is not None:
            plain["quality"] = self.quality.to_json()
        return plain

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """Read the contents of manifest.json; raises BundleError if they are not of that form."""
        try:
            manifest = msgspec.convert(value, _Stored).manifest()
            manifest.check()
        except (msgspec.ValidationError, KeyError, TypeError, ValueError, ArithmeticError, CervicyteError) as error:
            reason = error.one_line if isinstance(error, CervicyteError) else str(error) or repr(error)
            raise BundleError(
                "the manifest is not of the form that cervicyte writes", reason, "copy the bundle again from its source"
            ) from error
        return manifest

    def check(self) -> None:
        """Refuse what could only give wrong verdicts; raises BundleError or UsageError."""
        limits = self.limits
        known = [c for c in self.system.classes if c in self.classes]
        graphs = [m.graph for m in self.graphs]
        names = [m.name for m in self.members]
        numbers = [n for n in vars(limits).values() if n is not None]
        for right, what in (
            (
                len(self.classes) >= 2 and known == list(self.classes),
                "classes that are not its label system's, in order",
            ),
            ((self.input.kind == "members") == bool(self.members), "members and another input, or neither"),
            ((self.combiner is None) == (not self.members), "members without a rule, or a rule without members"),
            (len(self.members) != 1 and len(self.members) <= _MOST_MEMBERS, f"{len(self.members)} members"),
            (
                self.combiner is None or self.combiner.fits(len(self.members), len(self.classes)),
                "a rule for other members or classes",
            ),
            (len(set(names)) == len(names), "two members of one name"),
            (len(set(graphs)) == len(graphs) and MANIFEST not in graphs, "members that share a graph"),
            (0 < self.temperature < 1e3, f"a temperature of {self.temperature}"),
            (not any(np.isnan(number) for number in numbers), "a limit that is not a number"),
            (self.system.abnormal is None or limits.threshold is not None, "no operating point"),
        ):
            if not right:
                raise BundleError(f"the manifest has {what}")
        for member in self.graphs:
            for what in member.input.problems():
                raise BundleError(f"the manifest has {what}")


class _StoredInput(msgspec.Struct):
    """An input as manifest.json has it."""

    kind: str
    size: int
    fit: str
    filters: tuple[str, ...]
    measurements: tuple[str, ...]

    def spec(self) -> InputSpec:
        return InputSpec(**msgspec.structs.asdict(self))


class _StoredMember(msgspec.Struct):
    """A member as manifest.json has it."""

    name: str
    graph: str
    input: _StoredInput
    precision: str

    def spec(self) -> MemberSpec:
        return MemberSpec(self.name, self.graph, self.input.spec(), self.precision)


class _Stored(msgspec.Struct):
    """The contents of manifest.json in formats 1 and 2: which keys there are, and of which kind.

    The members of an ensemble came with format 2; ``quality`` came later, to both, and is absent in older bundles.
    """

    format: int
    name: str
    system: dict[str, Any]
    classes: tuple[str, ...]
    input: _StoredInput
    limits: dict[str, float | None]
    precision: str
    training: dict[str, Any]
    scores: dict[str, Any]
    members: tuple[_StoredMember, ...] | None = None
    combiner: dict[str, Any] | None = None
    temperature: float | None = None
    quality: dict[str, Any] | None = None

    def manifest(self) -> Manifest:
        if (self.format == 2) != (self.members is not None):
            raise ValueError("members belong to format 2, and only to it")
        if self.members is not None and (self.combiner is None or self.temperature is None):
            raise ValueError("an ensemble needs a combiner and a temperature")
        return Manifest(
            name=self.name,
            system=LabelSystem.from_json(self.system),
            classes=self.classes,
            input=self.input.spec(),
            limits=DecisionLimits.from_json(self.limits),
            precision=self.precision,
            training=self.training,
            scores=self.scores,
            members=tuple(member.spec() for member in self.members or ()),
            combiner=None if self.members is None or self.combiner is None else Combiner.from_json(self.combiner),
            temperature=1.0 if self.members is None or self.temperature is None else self.temperature,
            quality=None if self.quality is None else QualityModel.from_json(self.quality),
        )
