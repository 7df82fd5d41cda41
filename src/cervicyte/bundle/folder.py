"""A bundle is a trained model as a folder: a manifest and ONNX graphs, read and never executed as code.

``manifest.json`` says what the classes are, how an image is prepared, where the operating point lies,
what it was trained on and how well it did; ``model.onnx`` goes from pixels (or measurements) to
calibrated probabilities; ``MODEL_CARD.md`` says the same to people; ``SHA256SUMS`` guards every file.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cervicyte import shipped
from cervicyte.base import files, fingerprints
from cervicyte.base.system_files import own_entries
from cervicyte.bundle import inference
from cervicyte.bundle.card import model_card
from cervicyte.bundle.manifest import FORMAT, GRAPH, MANIFEST, InputSpec, Manifest, MemberSpec
from cervicyte.bundle.predictions import UNSATISFACTORY, Prediction, Vote
from cervicyte.decision.calibration import Answers, name_cells
from cervicyte.decision.ensemble import answer, disagreement
from cervicyte.decision.quality import GOOD, UNCHECKED, verdicts
from cervicyte.errors import BundleError, CervicyteError, MissingError, UsageError, did_you_mean
from cervicyte.features import extraction
from cervicyte.features.cache import FeatureCache
from cervicyte.images import decoding

__all__ = ["GRAPH", "MANIFEST", "Bundle", "InputSpec", "Manifest", "MemberSpec", "save_bundle"]

if TYPE_CHECKING:
    import pandas as pd

TRAINING_CELLS = "training_cells.npz"
CARD = "MODEL_CARD.md"
SUMS = "SHA256SUMS"


@dataclass(frozen=True)
class Bundle:
    """A trained model on disk.

    >>> bundle = Bundle.load("run/bundle")                      # doctest: +SKIP
    >>> bundle.predict(["cell.png", "folder/"])                 # doctest: +SKIP
    """

    folder: Path
    manifest: Manifest

    @classmethod
    def load(cls, path: Path | str | None = None) -> Bundle:
        """Open a bundle (or a run's folder that holds one) and verify the checksum of every file.

        Parameters
        ----------
        path : the folder; or a network that ships, as `shipped.find` knows them; left out: the float32 one

        Raises
        ------
        MissingError : there is no bundle at the path
        BundleError : a file is missing, changed or unknown, or the bundle is from a newer version
        """
        folder = shipped.find(path)
        if not _looks_like_one(folder) and _looks_like_one(folder / "bundle"):
            folder = folder / "bundle"
        if not _looks_like_one(folder):
            bare = isinstance(path, str) and path not in shipped.FOLDERS and not os.path.dirname(path)
            near = did_you_mean(path, shipped.FOLDERS) if bare else ""
            raise MissingError(
                "no bundle here",
                files.printable(path),
                f"{near}name a folder that holds {MANIFEST}, as train writes it, or a network that ships, if nothing "
                f"here has its name: {', '.join(shipped.FOLDERS)}",
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
        manifest = Manifest.from_json(value)
        for member in manifest.graphs:
            if member.graph != os.path.basename(member.graph) or not os.path.isfile(folder / member.graph):
                raise BundleError("the manifest names a graph that is not in the bundle", member.graph, "copy it again")
        return cls(folder, manifest)

    @property
    def classes(self) -> tuple[str, ...]:
        """The order of the probabilities."""
        return self.manifest.classes

    @property
    def members(self) -> tuple[str, ...]:
        """Names of an ensemble's members, in the order of their votes; empty for a single model."""
        return tuple(member.name for member in self.manifest.members)

    @cached_property
    def graph_sha256(self) -> str:
        """What this model is called in records: SHA-256 of the graph, or of an ensemble's graphs and its rule."""
        m = self.manifest
        sums = [files.sha256_file(self.folder / member.graph) for member in m.graphs]
        if m.combiner is None:
            return sums[0]
        return fingerprints.of_repr((sums, m.combiner, m.temperature))

    def extractor(self, precision: str | None = None) -> inference.BundleExtractor:
        """The graphs as an extractor whose vectors `answers` reads, compiled; precision None takes the setting."""
        m = self.manifest
        return inference.make_extractor(self.folder, m.graphs, len(m.classes), precision, m.quality is not None)

    def answers(self, vectors: np.ndarray) -> Answers:
        """What the extractor's vectors say: float (n, k), for an ensemble (n, members * k), to answers.

        Where they end in descriptors and the bundle knows what cells look like, other images are refused.
        """
        m = self.manifest
        vectors = np.asarray(vectors, dtype=np.float64)
        end = len(m.graphs) * len(m.classes)
        votes = vectors[:, :end].reshape(len(vectors), len(m.graphs), len(m.classes))
        answers = answer(votes, m.combiner, m.temperature, m.abnormal_classes, m.limits)
        if m.quality is None or vectors.shape[1] == end:
            return answers
        return answers.refusing(verdicts(m.quality, vectors[:, end:]))

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
        with FeatureCache(extractor.key) as store:
            yield from self._verdicts(inputs, extractor, store)

    def _verdicts(
        self, inputs: Iterable[Path | str], extractor: extraction.Extractor, store: FeatureCache | None
    ) -> Iterator[Prediction]:
        # Inputs in their order: a file to predict, or the reason why there is nothing to predict.
        pending: deque[decoding.SearchResult] = deque()

        def images() -> Iterator[decoding.CellImage]:
            for file in decoding.find_images(inputs):
                pending.append(file)
                if file.problem is None:
                    yield decoding.CellImage(str(file.path))

        def refused() -> Iterator[Prediction]:
            while pending and pending[0].problem is not None:
                file = pending.popleft()
                yield Prediction(str(file.path), error=file.problem.one_line if file.problem else "")

        for _, result in extraction.stream(images(), extractor, store):
            yield from refused()
            path = str(pending.popleft().path)
            if isinstance(result, CervicyteError):
                yield Prediction(path, error=result.one_line)
            else:
                yield self.verdict(path, result)
        yield from refused()

    def verdict(self, path: str, vector: np.ndarray) -> Prediction:
        """The prediction for one image's vector from the extractor."""
        m = self.manifest
        answers = self.answers(vector[None, :])
        reason = "" if answers.refused is None else answers.refused[0]
        if reason:  # whatever the graphs say of such an image means nothing
            return Prediction(path, UNSATISFACTORY, uncertain=True, quality=reason)
        rows = answers.probabilities
        abnormal = m.abnormal_classes
        p_abnormal = None if abnormal is None else rows[:, abnormal].sum(axis=1)
        flagged = m.limits.flagged(p_abnormal)
        label = name_cells(rows, m.classes, abnormal, m.limits, answers.unsure)[0]
        return Prediction(
            path,
            label,
            tuple(float(p) for p in rows[0]),
            None if p_abnormal is None else float(p_abnormal[0]),
            None if flagged is None else bool(flagged[0]),
            bool((m.limits.uncertain(rows, p_abnormal) | answers.unsure)[0]),
            votes=() if answers.votes is None else self._votes(answers.votes[0]),
            disagreement=None if answers.votes is None else float(disagreement(answers.votes)[0]),
            quality=UNCHECKED if answers.refused is None else GOOD,
            bethesda=m.bethesda.get(label, ""),
        )

    def _votes(self, votes: np.ndarray) -> tuple[Vote, ...]:
        m = self.manifest
        abnormal = m.abnormal_classes
        return tuple(
            Vote(
                member.name,
                m.classes[int(p.argmax())],
                tuple(float(x) for x in p),
                None if abnormal is None else float(p[abnormal].sum()),
            )
            for member, p in zip(m.members, votes, strict=True)
        )

    def predict(self, inputs: Iterable[Path | str] | Path | str, **options: Any) -> pd.DataFrame:
        """Predict files, folders and globs into a table with the columns of predictions.csv."""
        import pandas as pd

        inputs = [inputs] if isinstance(inputs, str | Path) else inputs
        columns = list(Prediction("").row(self.classes, self.members))
        rows = [p.row(self.classes, self.members) for p in self.stream(inputs, **options)]
        return pd.DataFrame(rows, columns=columns)


def save_bundle(
    folder: Path | str,
    manifest: Manifest,
    graph: bytes | Sequence[bytes],
    training_cells: Mapping[str, np.ndarray] | None = None,
    prove: Callable[[Bundle], None] | None = None,
) -> Bundle:
    """Write a bundle; a folder that is there is replaced only when the new one is whole and has passed ``prove``.

    Parameters
    ----------
    graph : the ONNX graph, or those of an ensemble in the order of its members

    Raises
    ------
    StorageError : the disk is full or not writable
    UsageError : the folder exists and is not a bundle
    """
    folder = Path(folder)
    files.check_folder(folder)
    if folder.exists() and not (folder / MANIFEST).is_file() and own_entries(folder):
        raise UsageError("the folder exists and is not a bundle", folder, "choose another folder")
    with files.storage_errors(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        with files.storage_errors(folder):
            staging.chmod(0o755)
            for member, data in zip(manifest.graphs, [graph] if isinstance(graph, bytes) else graph, strict=True):
                with files.atomic_write(staging / member.graph, "wb") as stream:
                    stream.write(data)
            if training_cells is not None:
                with files.atomic_write(staging / TRAINING_CELLS, "wb") as stream:
                    np.savez_compressed(stream, allow_pickle=False, **training_cells)
            files.write_json(staging / MANIFEST, manifest.to_json())
            with files.atomic_write(staging / CARD) as text:
                text.write(model_card(manifest))
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
    for name in (MANIFEST,):
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
    strangers = sorted(own_entries(folder) - set(sums) - {SUMS})
    if strangers:
        shown = ", ".join(map(files.printable, strangers))
        raise BundleError("the bundle holds files that its checksums do not name", shown, "remove them")


def _looks_like_one(folder: Path) -> bool:
    """True where a bundle is or was: one that lost a file is damaged, not absent."""
    return any(os.path.isfile(folder / name) for name in (MANIFEST, SUMS))
