"""The stored measurements of a cell in groups, as the reading page shows them: what cytologists look at first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cervicyte.images.morphology import MEASUREMENTS

#: Bethesda's criteria first: the nucleus, its share of the cell, its outline and its chromatin.
_FIRST = (
    "nc_ratio",
    "nucleus_area",
    "cytoplasm_area",
    "nucleus_elongation",
    "nucleus_circularity",
    "nucleus_irregularity",
    "nucleus_lightness",
    "contrast_cytoplasm",
    "chromatin_contrast",
    "chromatin_entropy",
    "dark_spots",
    "crowding",
)
#: Groups of the others, by parts of their names; the first that fits counts.
_GROUPS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("Chromatin and texture", ("chromatin_", "spot", "detail_", "texture", "boundary_")),
    ("Colour", ("lightness", "green_red", "blue_yellow", "saturation", "density", "hue", "contrast")),
    ("Shape and place", ("",)),
)


@dataclass(frozen=True)
class Row:
    """One measurement: its name, value, unit ("" for a ratio or count) and a line of help."""

    name: str
    value: float
    unit: str
    help: str


def groups(values: Mapping[str, float] | None) -> list[tuple[str, list[Row]]]:
    """Measurements by group, the most telling first; none where no nucleus was found."""
    if not values or not values.get("nucleus_found", 1):
        return []
    rows = {m.name: Row(m.name, values[m.name], m.unit, m.help) for m in MEASUREMENTS if m.name in values}
    groups = [("Nucleus and cell", [rows.pop(name) for name in _FIRST if name in rows])]
    rows.pop("nucleus_found", None)
    for title, parts in _GROUPS:
        fitting = [name for name in rows if any(part in name for part in parts)]
        groups.append((title, [rows.pop(name) for name in fitting]))
    return [(title, group) for title, group in groups if group]
