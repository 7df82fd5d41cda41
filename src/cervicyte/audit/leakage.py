"""The leakage gate: no honest number from test cells that the training set knows.

Under the grouped protocol, and for external tests, cells that share a group or a near duplicate with a
training cell stop the work. Under the published protocols they are counted, and said in words.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from cervicyte import shipped
from cervicyte.audit import duplicates, leaks
from cervicyte.base.files import printable
from cervicyte.data.cells import CellTable, group_key
from cervicyte.data.splits import Folds, get_protocol
from cervicyte.errors import BundleError, LeakageError

#: How many offending cells a message names.
_NAMED = 3


def joined(cells: CellTable, pairs: Sequence[duplicates.DuplicatePair]) -> CellTable:
    """The table in which groups that share duplicates are one group."""
    return leaks.join_duplicates(cells, pairs)


def check(cells: CellTable, folds: Folds, pairs: Sequence[duplicates.DuplicatePair]) -> tuple[str, ...]:
    """Refuse a leaking division under an honest protocol; under the others say how much leaks.

    Returns
    -------
    sentences for the report

    Raises
    ------
    LeakageError : the protocol promises honest numbers and the division cannot give them
    """
    if not get_protocol(folds.protocol).honest:
        return _counted(cells, folds)
    for train, test in zip(folds.train, folds.test, strict=True):
        problems = leaks.leaks(cells, train, test, pairs)
        if problems:
            names = "; ".join(leak.message for leak in problems[:_NAMED])
            more = f"; and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
            raise LeakageError(
                "test cells share a group or a near duplicate with training cells, so no honest number can come of it",
                names + more,
                "see `cervicyte data audit`; --join-duplicates makes one group of groups that share duplicates, "
                "or a name in two spellings; "
                "--protocol random reproduces a published number and marks it",
            )
    return ()


def _counted(cells: CellTable, folds: Folds) -> tuple[str, ...]:
    siblings = copies = tested = 0
    originals = np.array([f"{c.original or c.path}|{c.box}" for c in cells.cells], dtype=object)
    for train, test in zip(folds.train, folds.test, strict=True):
        tested += len(test)
        siblings += int(np.isin(cells.groups[test].astype(str), cells.groups[train].astype(str)).sum())
        copies += int(np.isin(originals[test].astype(str), originals[train].astype(str)).sum())
    lines = []
    if cells.grouped:
        lines.append(f"{siblings / tested:.0%} of the test cells have a sibling of the same group in the training set.")
    if copies:
        lines.append(f"{copies / tested:.0%} of the test images have a copy of the same cell in the training set.")
    return tuple(lines)


def check_crops(cells: CellTable, crops: CellTable) -> None:
    """Refuse crops without labels that were cut from the data set's own files: test cells would be learnt from.

    Raises
    ------
    LeakageError : a file of the crops has the content of a file of the cells
    """
    own = set(cells.digests()) - {None}
    shared = sorted({path for path, digest in zip(crops.paths, crops.digests(), strict=True) if digest in own})
    if shared:
        raise LeakageError(
            f"{len(shared)} of the fields that crops are cut from are files of the data set itself",
            "; ".join(map(printable, shared[:_NAMED])),
            "name folders with other fields of view: --crops FOLDER",
        )


def training_cells(cells: CellTable) -> dict[str, np.ndarray]:
    """What a bundle keeps of its training cells so that a later test can recognise them.

    Content hashes, group names and thumbnail signatures; no image can be had back from them.
    """
    return {
        "digests": np.array([d or "" for d in cells.digests()], dtype=str),
        "boxes": np.array([str(c.box) for c in cells.cells], dtype=str),
        "groups": cells.groups.astype(str),
        "signatures": duplicates.signatures(cells),
    }


def load_training_cells(path: Path) -> dict[str, np.ndarray]:
    """Read what `training_cells` gave; nothing in it is executed.

    Raises
    ------
    BundleError : the file is missing or not of that form
    """
    try:
        with np.load(path, allow_pickle=False) as stored:
            columns = {name: stored[name] for name in ("digests", "boxes", "groups", "signatures")}
            if len({len(column) for column in columns.values()}) != 1 or columns["signatures"].ndim != 2:
                raise ValueError("columns of different lengths")
            return columns
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise BundleError("the bundle does not say what it was trained on", path, "train it again") from error


def known_cells(cells: CellTable, trained: Mapping[str, np.ndarray]) -> dict[int, str]:
    """Rows of a test table that a bundle's training set knows, each with the reason in words."""
    known: dict[int, str] = {}
    if trained["signatures"].shape[1]:  # the network that ships has no thumbnails of what it was trained on
        for match in duplicates.match(trained["signatures"], duplicates.signatures(cells)):
            known[match.second] = f"{match.kind} of a training cell"
    groups = {group_key(group): group for group in trained["groups"].tolist()}
    files = set(zip(trained["digests"].tolist(), trained["boxes"].tolist(), strict=True))
    for row, (cell, digest) in enumerate(zip(cells.cells, cells.digests(), strict=True)):
        group = groups.get(str(cells.group_keys[row])) if cells.grouped else None
        if group is not None:
            spelt = "" if group == cells.groups[row] else f", spelt {group.partition(':')[2]!r}"
            known[row] = f"its group {cell.group!r} was trained on{spelt}"
        if (digest, str(cell.box)) in files:
            known[row] = "the very file was trained on"
    return known


def check_backbone(cells: CellTable, protocol: str) -> tuple[str, ...]:
    """As `check_external`, for the network that ships where its features are what a model is made of.

    Raises
    ------
    LeakageError : the protocol is honest and that network was trained on some of the cells
    """
    return check_external(cells, load_training_cells(shipped.bundle_folder() / "training_cells.npz"), protocol)


def check_external(cells: CellTable, trained: Mapping[str, np.ndarray], protocol: str) -> tuple[str, ...]:
    """Refuse a test of a bundle on cells that it knows; under the published protocols say how many.

    Raises
    ------
    LeakageError : the protocol is honest and some test cells are known
    """
    known = known_cells(cells, trained)
    if not known:
        return ()
    share = f"{len(known)} of {len(cells)} test cells are known to the model from its training"
    if not get_protocol(protocol).honest:
        return (f"LEAKING: {share}.",)
    examples = "; ".join(f"{cells.cells[row].path}: {why}" for row, why in sorted(known.items())[:_NAMED])
    if len(known) > _NAMED:
        examples += f"; and {len(known) - _NAMED} more"
    raise LeakageError(
        share,
        examples,
        "test on cells of other slides or patients; --protocol random gives the number and marks it as leaking",
    )
