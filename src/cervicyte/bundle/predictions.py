"""What a model says of an image, and writing it to CSV, JSON or Parquet as it comes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from cervicyte.base.files import atomic_write, csv_writer, printable
from cervicyte.errors import UsageError

#: Rows of a Parquet file that are held before they are written.
_ROW_GROUP = 2048

#: The label of an image that is refused: the Bethesda system's word for a specimen that cannot be judged
#: (Nayar and Wilbur 2015, The Bethesda System for Reporting Cervical Cytology).
UNSATISFACTORY = "unsatisfactory"


@dataclass(frozen=True)
class Vote:
    """What one member of an ensemble says of an image.

    Attributes
    ----------
    member : its name
    label : its most probable class
    probabilities : calibrated, in the order of the bundle's classes
    p_abnormal : its probability that the cell is abnormal; None where that is not defined
    """

    member: str
    label: str
    probabilities: tuple[float, ...]
    p_abnormal: float | None


@dataclass(frozen=True)
class Prediction:
    """The verdict on one image.

    Attributes
    ----------
    path : the image file
    label : the class, "uncertain", or "unsatisfactory" for an image that is refused; empty when there is an error
    probabilities : calibrated, in the order of the bundle's classes; empty when refused or in error
    p_abnormal : probability that the cell is abnormal; None where that is not defined
    above_operating_point : p_abnormal is at or above the operating point
    uncertain : the model does not answer; such a cell is never called normal
    error : why there is no verdict; empty when there is one
    votes : of an ensemble's members, in their order; empty for a single model
    disagreement : 0 where the members share one opinion, 1 where they share none; None for a single model
    quality : "good", why the image is refused (`cervicyte.decision.quality.REASONS`), or "not checked"; empty when
        there is an error
    bethesda : the Bethesda category of the label; empty where there is none, or no class is named
    """

    path: str
    label: str = ""
    probabilities: tuple[float, ...] = ()
    p_abnormal: float | None = None
    above_operating_point: bool | None = None
    uncertain: bool | None = None
    error: str = ""
    votes: tuple[Vote, ...] = ()
    disagreement: float | None = None
    quality: str = ""
    bethesda: str = ""

    @property
    def refused(self) -> bool:
        """The image is no cell that the model can answer for."""
        return self.label == UNSATISFACTORY

    def row(self, classes: Sequence[str], members: Sequence[str] = ()) -> dict[str, Any]:
        """One flat row: the columns of every output format, in their order; two for each of an ensemble's members."""
        values: Sequence[float | None] = self.probabilities or (None,) * len(classes)
        row: dict[str, Any] = {"path": printable(self.path), "label": self.label, "bethesda": self.bethesda}
        row |= {_column(name, classes): value for name, value in zip(classes, values, strict=True)}
        row |= {
            "p_abnormal": self.p_abnormal,
            "above_operating_point": self.above_operating_point,
            "uncertain": self.uncertain,
            "quality": self.quality,
            "error": printable(self.error),
        }
        if members:
            row["disagreement"] = self.disagreement
            votes = {vote.member: vote for vote in self.votes}
            for name in members:
                vote = votes.get(name)
                row[f"vote {printable(name)}"] = vote.label if vote else None
                row[f"p_abnormal {printable(name)}"] = vote.p_abnormal if vote else None
        return row


def _column(name: str, classes: Sequence[str]) -> str:
    """The column of a class: p_<class>, unless that would hide P(abnormal), which is then another number."""
    hides = name == "abnormal" and set(classes) != {"normal", "abnormal"}
    return "p_class_abnormal" if hides else f"p_{name}"


def write_predictions(
    predictions: Iterable[Prediction], classes: Sequence[str], path: Path, members: Sequence[str] = ()
) -> Iterator[Prediction]:
    """Write predictions as they come and pass each on; the file appears, whole, when all are done.

    The format follows the file's ending: .csv, .json or .parquet. ``members`` are the names of an
    ensemble's members, whose votes get columns of their own.

    Raises
    ------
    UsageError : another ending
    StorageError : the disk is full or not writable
    """
    writer = _WRITERS.get(path.suffix.lower())
    if writer is None:
        raise UsageError("unknown output format", repr(path.name), f"end it in one of {', '.join(_WRITERS)}")
    return writer(predictions, classes, path, members)


def write_rows(
    predictions: Iterable[Prediction], classes: Sequence[str], stream: IO[str], members: Sequence[str] = ()
) -> Iterator[Prediction]:
    """Write predictions as CSV rows to an open text stream as they come, and pass each on."""
    writer = csv_writer(stream)
    writer.writerow(Prediction("").row(classes, members))
    for prediction in predictions:
        writer.writerow([_text(value) for value in prediction.row(classes, members).values()])
        yield prediction


def _write_csv(
    predictions: Iterable[Prediction], classes: Sequence[str], path: Path, members: Sequence[str]
) -> Iterator[Prediction]:
    with atomic_write(path) as stream:
        yield from write_rows(predictions, classes, stream, members)


def _write_json(
    predictions: Iterable[Prediction], classes: Sequence[str], path: Path, members: Sequence[str]
) -> Iterator[Prediction]:
    with atomic_write(path) as stream:
        stream.write("[")
        for i, prediction in enumerate(predictions):
            stream.write("\n" if i == 0 else ",\n")
            stream.write(json.dumps(prediction.row(classes, members), ensure_ascii=False, allow_nan=False))
            yield prediction
        stream.write("\n]\n")


def _write_parquet(
    predictions: Iterable[Prediction], classes: Sequence[str], path: Path, members: Sequence[str]
) -> Iterator[Prediction]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"above_operating_point": pa.bool_(), "uncertain": pa.bool_()}
    texts = ("path", "label", "bethesda", "quality", "error", *(f"vote {printable(m)}" for m in members))
    kinds |= {name: pa.string() for name in texts}
    schema = pa.schema([(name, kinds.get(name, pa.float64())) for name in Prediction("").row(classes, members)])
    with atomic_write(path, "wb") as stream, pq.ParquetWriter(stream, schema) as writer:
        held: list[dict[str, Any]] = []
        for prediction in predictions:
            held.append(prediction.row(classes, members))
            if len(held) == _ROW_GROUP:
                writer.write_table(pa.Table.from_pylist(held, schema=schema))
                held = []
            yield prediction
        writer.write_table(pa.Table.from_pylist(held, schema=schema))


_Writer = Callable[[Iterable[Prediction], Sequence[str], Path, Sequence[str]], Iterator[Prediction]]
_WRITERS: dict[str, _Writer] = {".csv": _write_csv, ".json": _write_json, ".parquet": _write_parquet}


def _text(value: object) -> object:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.6f}" if isinstance(value, float) else value
