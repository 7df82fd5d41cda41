"""Draw the floors of the package from its real imports: which room uses which, and how often.

    python tools/draw_floors.py            writes docs/images/floors.svg
    python tools/draw_floors.py --check    says whether the picture shows the rooms and arrows of today

Rooms and floors are those of the contracts in pyproject.toml, imports are counted by grimp. Numbers are those of the
day on which the picture was drawn; ``--check`` fails on a room or an arrow that the picture lacks or has too many.
"""

from __future__ import annotations

import argparse
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[1]
PICTURE = ROOT / "docs" / "images" / "floors.svg"

#: Pixels: height of a row, width of a column, of the names, and of the margins.
ROW, COLUMN, NAMES, MARGIN, HEADER = 30, 34, 210, 24, 92


@dataclass(frozen=True)
class Floors:
    """One house: its rooms from top to bottom, with how many modules each holds and how often it uses the others."""

    title: str
    rooms: tuple[tuple[str, ...], ...]
    modules: Counter[str]
    arrows: Counter[tuple[str, str]]

    @property
    def order(self) -> tuple[str, ...]:
        """Return all rooms from top to bottom."""
        return tuple(room for floor in self.rooms for room in floor)


def read_floors() -> tuple[Floors, Floors]:
    """Read the contracts and count the imports: of the core, and of the web application on top of the core."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = {contract["containers"][0]: contract["layers"] for contract in contracts if contract["type"] == "layers"}
    graph = grimp.build_graph("cervicyte", exclude_type_checking_imports=True)
    core = [_rooms(layer) for layer in layers["cervicyte"]]
    web = [*(_rooms(layer) for layer in layers["cervicyte.web"]), ("the core",)]
    return (
        _count("The core", graph, core, lambda module: _room(module, "cervicyte")),
        _count("The web application", graph, web, _web_room),
    )


def _rooms(layer: str) -> tuple[str, ...]:
    return tuple(room.strip() for room in re.split(r"[|:]", layer))


def _room(module: str, container: str) -> str:
    inside = module.removeprefix(container + ".")
    return "" if inside == module else inside.split(".")[0]


def _web_room(module: str) -> str:
    return _room(module, "cervicyte.web") or ("the core" if _room(module, "cervicyte") not in ("", "web") else "")


def _count(title: str, graph: grimp.ImportGraph, floors: Sequence[tuple[str, ...]], room_of) -> Floors:
    rooms = {room for floor in floors for room in floor}
    modules = Counter(room for module in graph.modules if (room := room_of(module)) in rooms)
    arrows: Counter[tuple[str, str]] = Counter()
    for module in graph.modules:
        for imported in graph.find_modules_directly_imported_by(module):
            pair = (room_of(module), room_of(imported))
            # The command line, which belongs to the core, starts the web application: the one arrow that goes up.
            if pair[0] != pair[1] and rooms.issuperset(pair) and pair[0] != "the core":
                arrows[pair] += 1
    return Floors(title, tuple(floors), modules, arrows)


def draw(houses: Sequence[Floors]) -> str:
    """Return the picture as SVG: a room a row, and what it uses as discs under the names of the rooms below."""
    width = 2 * MARGIN + NAMES + COLUMN * max(len(house.order) for house in houses)
    parts, top = [], MARGIN
    for house in houses:
        parts += _panel(house, top)
        top += HEADER + ROW * len(house.order) + 2 * MARGIN
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {top}" width="{width}" height="{top}" '
            'font-family="system-ui, sans-serif" font-size="13" fill="#1b2733">',
            f'<rect width="{width}" height="{top}" fill="#ffffff"/>',
            *parts,
            "</svg>\n",
        ]
    )


def _panel(house: Floors, top: int) -> list[str]:
    order = house.order
    total = f"{sum(house.modules[room] for room in order if room != 'the core')} modules, "
    total += f"{sum(house.arrows.values())} imports between rooms, {len(house.arrows)} arrows"
    parts = [
        f'<text x="{MARGIN}" y="{top + 16}" font-size="17" font-weight="600">{escape(house.title)}</text>',
        f'<text x="{MARGIN}" y="{top + 36}" fill="#5a6875">{total}</text>',
    ]
    first = top + HEADER
    row = 0
    for number, floor in enumerate(house.rooms):
        y, height = first + row * ROW, len(floor) * ROW
        shade = "#eef3f8" if number % 2 else "#f8fafc"
        parts.append(
            f'<rect x="{MARGIN}" y="{y}" width="{NAMES + COLUMN * len(order)}" height="{height}" fill="{shade}"/>'
        )
        row += len(floor)
    for i, room in enumerate(order):
        x, y = MARGIN + NAMES + i * COLUMN + COLUMN // 2, first + i * ROW + ROW // 2
        count = f"{house.modules[room]} module{'s' if house.modules[room] != 1 else ''}"
        parts += [
            f'<g data-room="{escape(room)}"><text x="{MARGIN + 10}" y="{y + 4}" font-weight="600">{escape(room)}</text>'
            f'<text x="{MARGIN + NAMES - 10}" y="{y + 4}" text-anchor="end" fill="#5a6875">{count}</text></g>',
            f'<text transform="translate({x + 4} {first - 8}) rotate(-50)" fill="#5a6875">{escape(room)}</text>',
            f'<rect x="{x - 9}" y="{y - 9}" width="18" height="18" rx="3" fill="#cbd6e0"/>',
        ]
    for (user, used), count in sorted(house.arrows.items(), key=lambda arrow: (order.index(arrow[0][0]), arrow[0][1])):
        x = MARGIN + NAMES + order.index(used) * COLUMN + COLUMN // 2
        y = first + order.index(user) * ROW + ROW // 2
        radius = min(14.0, 7 + count**0.5)
        colour = "#2f6690" if order.index(used) > order.index(user) else "#b3261e"
        parts.append(
            f'<g data-from="{escape(user)}" data-to="{escape(used)}"><title>{escape(user)} imports {escape(used)}: '
            f'{count}</title><circle cx="{x}" cy="{y}" r="{radius:.1f}" fill="{colour}"/>'
            f'<text x="{x}" y="{y + 4}" text-anchor="middle" font-size="11" fill="#ffffff">{count}</text></g>'
        )
    return parts


def structure(picture: str) -> list[str]:
    """List what a picture shows, without its numbers: its rooms in order, then its arrows."""
    rooms = re.findall(r'data-room="([^"]+)"', picture)
    arrows = re.findall(r'data-from="([^"]+)" data-to="([^"]+)"', picture)
    return [*rooms, *sorted(f"{user} -> {used}" for user, used in arrows)]


def main() -> None:
    """Write the picture, or compare it with the imports of today."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    picture = draw(read_floors())
    if not options.check:
        PICTURE.write_text(picture, encoding="utf-8")
        print(f"written: {PICTURE}")
        return
    shown, real = (structure(text) for text in (PICTURE.read_text(encoding="utf-8"), picture))
    if shown != real:
        lacks, surplus = Counter(real) - Counter(shown), Counter(shown) - Counter(real)
        print(f"the picture lacks {sorted(lacks)} and has {sorted(surplus)} too many, or rooms changed their order")
        sys.exit("docs/images/floors.svg is out of date; run python tools/draw_floors.py")


if __name__ == "__main__":
    main()
