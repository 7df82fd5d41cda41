"""A bundle is a trained model as a folder: a manifest and ONNX graphs, read and never executed as code.

``manifest.json`` says what the classes are, how an image is prepared, where the operating point lies,
what it was trained on and how well it did; ``model.onnx`` goes from pixels (or measurements) to
calibrated probabilities; ``SHA256SUMS`` guards every file, the manifest included.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cervicyte import features, files, filters, images, runtime, settings
from cervicyte.augment import GEOMETRIC
from cervicyte.calibration import Limits, name_cells
from cervicyte.errors import BundleError, CervicyteError, MissingError, UsageError
from cervicyte.predictions import Prediction
from cervicyte.taxonomy import LabelSystem

if TYPE_CHECKING:
    import pandas as pd

#: Version of the bundle's layout; a bundle with a higher one is refused.
FORMAT = 1

MANIFEST = "manifest.json"
GRAPH = "model.onnx"
TRAINING_CELLS = "training_cells.npz"
SUMS = "SHA256SUMS"

#: Packages whose version may move a pixel or a measurement.
_VERSIONS = ("pillow", "opencv-python-headless", "scikit-image", "openvino", "onnxruntime")


@dataclass(frozen=True)
class InputSpec:
    """How an image becomes the graph's input.

    Attributes
    ----------
    kind : "image" (uint8 pixels) or "measurements" (float32 morphology)
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
    """

    name: str
    system: LabelSystem
    classes: tuple[str, ...]
    input: InputSpec
    limits: Limits
    precision: str
    training: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)

    @property
    def abnormal_classes(self) -> np.ndarray | None:
        """Which classes are abnormal, bool (k,), or None where that is not defined."""
        if self.system.abnormal is None:
            return None
        return np.array([c in self.system.abnormal for c in self.classes])

    def to_json(self) -> dict[str, Any]:
        """The contents of manifest.json, without the files' checksums."""
        return {
            "format": FORMAT,
            "name": self.name,
            "system": self.system.to_json(),
            "classes": list(self.classes),
            "input": {**vars(self.input), "filters": list(self.input.filters)}
            | {"measurements": list(self.input.measurements)},
            "limits": self.limits.to_json(),
            "precision": self.precision,
            "training": dict(self.training),
            "scores": dict(self.scores),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Manifest:
        """Read the contents of manifest.json; raises BundleError if they are not of that form."""
        try:
            spec = value["input"]
            manifest = cls(
                str(value["name"]),
                LabelSystem.from_json(value["system"]),
                tuple(map(str, value["classes"])),
                InputSpec(
                    spec["kind"],
                    int(spec["size"]),
                    spec["fit"],
                    tuple(spec["filters"]),
                    tuple(spec["measurements"]),
                ),
                Limits.from_json(value["limits"]),
                str(value["precision"]),
                dict(value["training"]),
                dict(value["scores"]),
            )
            manifest.check()
        except (KeyError, TypeError, ValueError, AttributeError, ArithmeticError, CervicyteError) as error:
            reason = error.one_line if isinstance(error, CervicyteError) else repr(error)
            raise BundleError(
                "the manifest is not of the form that cervicyte writes", reason, "copy the bundle again from its source"
            ) from error
        return manifest

    def check(self) -> None:
        """Refuse what could only give wrong verdicts; raises BundleError or UsageError."""
        spec, limits = self.input, self.limits
        known = [c for c in self.system.classes if c in self.classes]
        numbers = [n for n in vars(limits).values() if n is not None]
        for right, what in (
            (
                len(self.classes) >= 2 and known == list(self.classes),
                "classes that are not its label system's, in order",
            ),
            (spec.kind in ("image", "measurements"), f"an unknown kind of input, {spec.kind!r}"),
            (spec.fit in images.FITS, f"an unknown fit, {spec.fit!r}"),
            (spec.kind != "image" or 1 <= spec.size <= 4096, f"an input size of {spec.size}"),
            (not any(np.isnan(number) for number in numbers), "a limit that is not a number"),
            (self.system.abnormal is None or limits.threshold is not None, "no operating point"),
        ):
            if not right:
                raise BundleError(f"the manifest has {what}")
        filters.parse_chain(",".join(spec.filters))


@dataclass(frozen=True)
class Bundle:
    """A trained model on disk.

    >>> bundle = Bundle.load("run/bundle")                      # doctest: +SKIP
    >>> bundle.predict(["cell.png", "folder/"])                 # doctest: +SKIP
    """

    folder: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: Path | str) -> Bundle:
        """Open a bundle (or a run's folder that holds one) and verify the checksum of every file.

        Raises
        ------
        MissingError : there is no bundle at the path
        BundleError : a file is missing, changed or unknown, or the bundle is from a newer version
        """
        folder = Path(path)
        if not _looks_like_one(folder) and _looks_like_one(folder / "bundle"):
            folder = folder / "bundle"
        if not _looks_like_one(folder):
            raise MissingError(
                "no bundle here", files.printable(path), f"name a folder that holds {MANIFEST}, as train writes it"
            )
        try:
            value = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
            version = value["format"]
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise BundleError("the manifest cannot be read", folder / MANIFEST, "copy the bundle again") from error
        if type(version) is not int or version < 1:
            raise BundleError("the manifest has no valid format number", repr(version), "copy the bundle again")
        if version > FORMAT:
            raise BundleError(
                "the bundle was written by a newer cervicyte",
                f"format {version}; this version reads up to {FORMAT}",
                "upgrade cervicyte",
            )
        _verify(folder)
        return cls(folder, Manifest.from_json(value))

    @property
    def classes(self) -> tuple[str, ...]:
        """The order of the probabilities."""
        return self.manifest.classes

    @cached_property
    def graph_sha256(self) -> str:
        """SHA-256 of the graph: what this model is called in records."""
        return files.sha256_file(self.folder / GRAPH)

    def extractor(self, precision: str | None = None) -> BundleExtractor:
        """The graph as an extractor of probabilities, compiled; precision None takes the setting."""
        return BundleExtractor(self, precision)

    def stream(
        self, inputs: Iterable[Path | str], *, precision: str | None = None, cache: bool = True
    ) -> Iterator[Prediction]:
        """Predict files, folders and globs, one verdict after the other, memory flat for any number.

        Files that cannot be used come with their ``error`` and stop nothing. With ``cache`` the
        probabilities are kept by image content, so that a killed run goes on where it was.
        """
        extractor = self.extractor(precision)
        if not cache:
            yield from self._verdicts(inputs, extractor, None)
            return
        with features.FeatureCache(extractor.key) as store:
            yield from self._verdicts(inputs, extractor, store)

    def _verdicts(
        self, inputs: Iterable[Path | str], extractor: BundleExtractor, store: features.FeatureCache | None
    ) -> Iterator[Prediction]:
        # Inputs in their order: a file to predict, or the reason why there is nothing to predict.
        pending: deque[images.Found] = deque()

        def pictures() -> Iterator[images.Picture]:
            for found in images.find_images(inputs):
                pending.append(found)
                if found.problem is None:
                    yield images.Picture(str(found.path))

        def refused() -> Iterator[Prediction]:
            while pending and pending[0].problem is not None:
                found = pending.popleft()
                yield Prediction(str(found.path), error=found.problem.one_line if found.problem else "")

        for _, result in features.stream(pictures(), extractor, store):
            yield from refused()
            path = str(pending.popleft().path)
            if isinstance(result, CervicyteError):
                yield Prediction(path, error=result.one_line)
            else:
                yield self.verdict(path, result)
        yield from refused()

    def verdict(self, path: str, probabilities: np.ndarray) -> Prediction:
        """The prediction for one image's calibrated probabilities, float (k,)."""
        m = self.manifest
        rows = np.asarray(probabilities, dtype=np.float64)[None, :]
        abnormal = m.abnormal_classes
        p_abnormal = None if abnormal is None else rows[:, abnormal].sum(axis=1)
        flagged = m.limits.flagged(p_abnormal)
        return Prediction(
            path,
            name_cells(rows, m.classes, abnormal, m.limits)[0],
            tuple(float(p) for p in rows[0]),
            None if p_abnormal is None else float(p_abnormal[0]),
            None if flagged is None else bool(flagged[0]),
            bool(m.limits.uncertain(rows, p_abnormal)[0]),
        )

    def predict(self, inputs: Iterable[Path | str] | Path | str, **options: Any) -> pd.DataFrame:
        """Predict files, folders and globs into a table with the columns of predictions.csv."""
        import pandas as pd

        inputs = [inputs] if isinstance(inputs, str | Path) else inputs
        columns = list(Prediction("").row(self.classes))
        return pd.DataFrame([p.row(self.classes) for p in self.stream(inputs, **options)], columns=columns)


class BundleExtractor:
    """A bundle's graph in the shape of a feature extractor, whose features are the probabilities."""

    def __init__(self, bundle: Bundle, precision: str | None = None) -> None:
        spec = bundle.manifest.input
        wanted = precision or settings.get_str("precision")
        if wanted == "auto" and bundle.manifest.precision == "float32":
            wanted = "float32"  # the precision that its scores were measured with
        code = b""
        if spec.kind == "measurements":
            if wanted not in runtime.PRECISIONS:
                raise UsageError("unknown precision", repr(wanted), f"there are: {', '.join(runtime.PRECISIONS)}")
            code = _check_measurements(spec.measurements)
            wanted = "float32"
        self.spec = spec
        self.dimension = len(bundle.classes)
        self.engine = runtime.Engine(bundle.folder / GRAPH, ("probabilities",), precision=wanted)
        self.precision = self.engine.precision
        self.batch_size = self.engine.batch_size
        self.parallel = self.engine.parallel
        self.seed = 0
        self.augmentation = GEOMETRIC
        # Everything that the probabilities depend on besides the image: what is left out here makes stale answers.
        named = (features.FEATURE_FORMAT, bundle.graph_sha256, self.engine.engine, self.engine.precision, spec)
        versions = [(name, _version(name)) for name in _VERSIONS]
        self.key = hashlib.sha256(repr((named, versions)).encode() + code).hexdigest()

    def prepare(self, image: np.ndarray) -> np.ndarray:
        """One decoded image to one input of the graph."""
        image = filters.apply_chain(image, self.spec.filters)
        if self.spec.kind == "measurements":
            from cervicyte import morphology

            return morphology.measure(image)
        return images.resize(image, self.spec.size, self.spec.fit)

    def run(self, batch: np.ndarray) -> np.ndarray:
        """A stack of prepared inputs to calibrated probabilities, float32 (n, k)."""
        found = self.engine.run(batch)["probabilities"]
        if found.shape != (len(batch), self.dimension) or not np.isfinite(found).all():
            raise BundleError(
                "the bundle's graph does not give a probability for each of its classes",
                f"an output of shape {found.shape} for {len(batch)} inputs and {self.dimension} classes",
                "do not use this bundle",
            )
        return found


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def save_bundle(
    folder: Path | str,
    manifest: Manifest,
    graph: bytes,
    training_cells: Mapping[str, np.ndarray] | None = None,
    prove: Callable[[Bundle], None] | None = None,
) -> Bundle:
    """Write a bundle; a folder that is there is replaced only when the new one is whole and has passed ``prove``.

    Raises
    ------
    StorageError : the disk is full or not writable
    UsageError : the folder exists and is not a bundle
    """
    folder = Path(folder)
    files.check_folder(folder)
    if folder.exists() and not (folder / MANIFEST).is_file() and any(folder.iterdir()):
        raise UsageError("the folder exists and is not a bundle", folder, "choose another folder")
    with files.storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with files.storage_errors(folder):
            staging.chmod(0o755)
            with files.atomic_write(staging / GRAPH, "wb") as stream:
                stream.write(graph)
            if training_cells is not None:
                with files.atomic_write(staging / TRAINING_CELLS, "wb") as stream:
                    np.savez_compressed(stream, allow_pickle=False, **training_cells)
            files.write_json(staging / MANIFEST, manifest.to_json())
            names = sorted(p.name for p in staging.iterdir())
            with files.atomic_write(staging / SUMS) as stream:
                stream.writelines(f"{files.sha256_file(staging / name)}  {name}\n" for name in names)
        if prove is not None:
            prove(Bundle(staging, manifest))
        with files.storage_errors(folder):
            _replace_folder(staging, folder)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return Bundle(folder, manifest)


def _replace_folder(new: Path, folder: Path) -> None:
    if folder.exists():
        old = Path(tempfile.mkdtemp(prefix=f".{folder.name}.old.", dir=folder.parent))
        folder.replace(old)
        new.replace(folder)
        shutil.rmtree(old)
    else:
        new.replace(folder)


def _verify(folder: Path) -> None:
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
        sums = {name: digest for digest, name in (line.split("  ", 1) for line in lines)}
    except (OSError, ValueError) as error:
        raise BundleError("the bundle's checksums cannot be read", folder / SUMS, "copy the bundle again") from error
    for name in (MANIFEST, GRAPH):
        if name not in sums:
            raise BundleError("the bundle's checksums leave out a file", name, "copy the bundle again")
    for name, expected in sums.items():
        if name != os.path.basename(name):
            raise BundleError("the bundle names a file outside its folder", name, "do not use this bundle")
        try:
            actual = files.sha256_file(folder / name) if os.path.isfile(folder / name) else "no file"
        except OSError as error:
            raise BundleError("a file of the bundle cannot be read", folder / name, "copy the bundle again") from error
        if actual == "no file":
            raise BundleError("a file of the bundle is missing", folder / name, "copy the bundle again")
        if actual != expected:
            raise BundleError(
                "a file of the bundle was changed or damaged", folder / name, "copy the bundle again from its source"
            )
    strangers = sorted(set(os.listdir(folder)) - set(sums) - {SUMS})
    if strangers:
        shown = ", ".join(map(files.printable, strangers))
        raise BundleError("the bundle holds files that its checksums do not name", shown, "remove them")


def _looks_like_one(folder: Path) -> bool:
    """True where a bundle is or was: one that lost a file is damaged, not absent."""
    return any(os.path.isfile(folder / name) for name in (MANIFEST, SUMS))


def _check_measurements(names: tuple[str, ...]) -> bytes:
    """Refuse other measurements than this version makes, and return the code that makes them."""
    from cervicyte import morphology

    if names != tuple(morphology.NAMES):
        missing = [n for n in names if n not in morphology.NAMES]
        raise BundleError(
            "the bundle uses other measurements than this version makes",
            f"{len(names)} measurements, unknown: {', '.join(missing) or 'none, but their order differs'}",
            "train it again with this version",
        )
    return features.morphology_code()
