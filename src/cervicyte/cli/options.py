"""What several commands of the command line share: their options, and how they load and speak."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

import cervicyte
from cervicyte import shipped

Data = Annotated[
    Path, typer.Argument(metavar="DATA", help="Folder of a data set, or a CSV/Parquet table of path, label, group.")
]
Reader = Annotated[
    str | None,
    typer.Option(
        "--reader", help="herlev, sipakmed, cric, lbc, geojson, folder or table; found by itself if left out."
    ),
]
GroupFrom = Annotated[
    str | None,
    typer.Option("--group-from", help="Regular expression; its first group, in the path, is the cell's group."),
]
GroupsCsv = Annotated[Path | None, typer.Option("--groups", help="CSV file with the columns path and group.")]
Normal = Annotated[str | None, typer.Option("--normal", help="Which of your own classes are normal: CLASS[,CLASS...].")]
Weights = Annotated[
    str | None, typer.Option("--weights", help="File or folder with pretrained weights, or the word random.")
]
Precision = Annotated[str | None, typer.Option("--precision", help="auto, float32 or bfloat16.")]
ProtocolName = Annotated[
    str, typer.Option("--protocol", help="grouped (honest), random or as-published (both marked).")
]
#: Text and not a Path, which would forget whether it was typed as ./NAME: only the bare name is a network that ships.
_MODEL = (
    "Folder of a bundle, or of the run that made it; or, if nothing here has its name, one that ships: "
    f"{', '.join(shipped.FOLDERS)} (8-bit)"
)
Model = Annotated[str, typer.Argument(metavar="BUNDLE", help=f"{_MODEL}.")]
ModelOrShipped = Annotated[
    str | None,
    typer.Option("--model", metavar="BUNDLE", help=f"{_MODEL}. Left out: {shipped.NAME}."),
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of folds, augmentation and intervals.")]


def load(
    data: Path, reader: str | None, group_from: str | None, groups: Path | None, normal: str | None
) -> cervicyte.CellTable:
    """Read a data set as the options say."""
    from cervicyte.data import readers

    names = [name.strip() for name in (normal or "").split(",") if name.strip()]
    return readers.load(data, reader, group_from=group_from, groups_csv=groups, normal=names)


def say(message: str) -> None:
    """One line for the person who waits, on standard error."""
    typer.echo(message, err=True)


def chain(text: str | None) -> tuple[str, ...] | None:
    """A filter chain as it was typed; None where none was."""
    from cervicyte.images.filters import parse_chain

    return None if text is None else parse_chain(text)
