"""Notes on labels and groups that were typed in more than one way; nothing is merged, and nothing is left unsaid."""

from __future__ import annotations

from collections.abc import Iterable

from cervicyte.data import spelling
from cervicyte.data.cells import CellTable
from cervicyte.data.labels import SYSTEMS
from cervicyte.data.readers.base import EXAMPLES, examples


def name_notes(cells: CellTable) -> list[str]:
    """One note on each way in which the names of a table's classes and groups may mean something else."""
    labels = sorted({c.label for c in cells.cells})
    known = {name for system in SYSTEMS for name in system.classes}
    notes = []
    if twins := spelling.label_twins(labels):
        notes.append(
            f"labels: {_families(twins)} differ by case, spaces or number format only, and are classes of their own; "
            "if they are one class, spell it in one way"
        )
    if marks := spelling.marked(labels, known - set(labels)):
        pairs = ", ".join(f"{label!r} beside {other}" for label, other in marks[:EXAMPLES])
        notes.append(f"labels: read as classes of their own, for their marks may change what they mean: {pairs}")
    groups = sorted({c.group for c in cells.cells}) if cells.grouped else []
    if twins := spelling.twins(groups):
        notes.append(
            f"groups: {_families(twins)} differ by case, spaces or number format only; they count as different "
            "patients, and no division may have them on both sides: spell each in one way, or use --join-duplicates"
        )
    for what, names in (("labels", labels), ("groups", groups)):
        if absent := [name for name in names if name.strip().casefold() in spelling.MISSING]:
            notes.append(f"{what}: {examples(absent)} reads like a missing value, and was taken for a name")
        if short := spelling.shortened(names):
            notes.append(
                f"{what}: {examples(short)} were shortened by a spreadsheet, so different ones may have become one; "
                "export the column as text"
            )
    return notes


def _families(families: Iterable[tuple[str, ...]]) -> str:
    families = list(families)
    shown = "; ".join(" and ".join(map(repr, family)) for family in families[:EXAMPLES])
    return shown + (f" and {len(families) - EXAMPLES} more" if len(families) > EXAMPLES else "")
