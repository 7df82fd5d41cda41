"""Generated cells for the demo and the tests: drawn by a program, so they tell nothing about patients.

A cell is drawn as light through stain (Beer and Lambert): glass of some tint, times the
absorption of the cytoplasm, of the nucleus, and of what lies about. Each slide has its own
stain, focus and light, and each slide holds several classes in its own proportions, so that
a random split is easier than a grouped one, as with real slides. The classes differ in the
size, darkness, texture and outline of the nucleus and in the cytoplasm, and they overlap.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cervicyte.base.files import atomic_write, printable
from cervicyte.base.progress import track
from cervicyte.base.system_files import own_entries
from cervicyte.data.cells import CellTable
from cervicyte.data.labels import HERLEV, SYSTEMS, find_map
from cervicyte.data.readers import folder as folder_reader
from cervicyte.errors import CervicyteError, DataError, UsageError

#: Directions in which the outline of a shape is held.
_TURNS = 720

#: Says in the folder that the cells are not real, and from which numbers they were drawn.
MARK = "SYNTHETIC.txt"


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the cells of one class look; lengths are fractions of the side of a crop.

    Attributes
    ----------
    cell, nucleus : mean radius
    elongation : long over short axis of the cell
    corners : how polygonal the outline is
    pink : share of cells with pink cytoplasm, the others are blue or green
    dark : optical density of the nucleus
    coarse : strength of the chromatin texture
    dented : irregularity of the nucleus's outline
    """

    cell: float
    nucleus: float
    elongation: float
    corners: float
    pink: float
    dark: float
    coarse: float
    dented: float


LOOKS: Mapping[str, Look] = {
    "normal_superficiel": Look(
        cell=0.43, nucleus=0.046, elongation=1.15, corners=0.90, pink=0.75, dark=1.25, coarse=0.10, dented=0.03
    ),
    "normal_intermediate": Look(
        cell=0.42, nucleus=0.068, elongation=1.20, corners=0.65, pink=0.25, dark=1.05, coarse=0.14, dented=0.03
    ),
    "normal_columnar": Look(
        cell=0.36, nucleus=0.140, elongation=1.75, corners=0.20, pink=0.20, dark=0.90, coarse=0.17, dented=0.04
    ),
    "light_dysplastic": Look(
        cell=0.41, nucleus=0.125, elongation=1.25, corners=0.50, pink=0.30, dark=0.95, coarse=0.21, dented=0.05
    ),
    "moderate_dysplastic": Look(
        cell=0.38, nucleus=0.170, elongation=1.30, corners=0.40, pink=0.25, dark=1.02, coarse=0.26, dented=0.07
    ),
    "severe_dysplastic": Look(
        cell=0.35, nucleus=0.205, elongation=1.40, corners=0.35, pink=0.25, dark=1.10, coarse=0.31, dented=0.09
    ),
    "carcinoma_in_situ": Look(
        cell=0.30, nucleus=0.220, elongation=1.20, corners=0.25, pink=0.20, dark=1.20, coarse=0.36, dented=0.11
    ),
}


@dataclass(frozen=True, kw_only=True)
class Slide:
    """What all cells of one slide share; colours are optical densities or factors of red, green and blue."""

    glass: np.ndarray
    strength: float
    cool: np.ndarray
    warm: np.ndarray
    nuclear: np.ndarray
    scale: float
    blur: float
    noise: float


def generate(
    folder: Path | str, n_per_class: int = 40, seed: int = 0, size: int = 128, system: str = "herlev"
) -> CellTable:
    """Draw cells into class folders, with a ``groups.csv`` of their slides and a ``SYNTHETIC.txt``.

    Parameters
    ----------
    folder : new or empty, or with the same cells from an earlier call, which are drawn again
    n_per_class : cells of each class
    seed : another seed draws other slides and cells
    size : side of the square images, in pixels, 32 to 1024
    system : label system of the folder names: herlev, or bethesda or binary through the named maps

    Returns
    -------
    the table that the folder reader reads back, named "demo"

    Raises
    ------
    UsageError : a number out of range, or a label system that these cells cannot be named in
    DataError : the folder holds something else
    """
    folder = Path(folder)
    if n_per_class < 1 or not 32 <= size <= 1024 or seed < 0:
        raise UsageError(
            "cells cannot be generated so",
            f"n_per_class={n_per_class}, size={size}, seed={seed}",
            "n_per_class is at least 1, size from 32 to 1024, seed at least 0",
        )
    looks = _looks_by_label(system)
    mark = _mark(n_per_class, seed, size, system)
    _check_folder(folder, mark)
    with atomic_write(folder / MARK) as stream:
        stream.write(mark)
    slides = _slides(seed, max(12, round(len(looks) * n_per_class / 12)))
    plan = _plan(looks, n_per_class, seed, len(slides))
    for place, slide, look, entropy in track(plan, "drawing cells"):
        _write(folder / place, draw(look, slides[slide], np.random.default_rng(entropy), size))
    with atomic_write(folder / folder_reader.GROUPS_FILE) as stream:
        table = csv.writer(stream, lineterminator="\n")
        table.writerow(("path", "group"))
        table.writerows((place, _slide_name(seed, slide)) for place, slide, _, _ in plan)
    return replace(folder_reader.read(folder), name="demo")


def draw(look: Look, slide: Slide, rng: np.random.Generator, size: int) -> np.ndarray:
    """Draw one cell of a look, as it appears on a slide: uint8 (size, size, 3) RGB."""
    import cv2

    look = _varied(look, rng)
    # Crops are cut about the cell, so that small cells appear nearer, if not quite as large.
    zoom = slide.scale * (0.42 / look.cell) ** 0.6
    cell, nucleus = look.cell * zoom, look.nucleus * zoom
    axis = ((np.arange(size) + 0.5) / size - 0.5).astype(np.float32)
    x, y = np.meshgrid(axis - np.float32(rng.normal(0, 0.02)), axis - np.float32(rng.normal(0, 0.02)))
    pixel = 1.0 / size

    density = np.zeros((size, size, 3), np.float32)
    for _ in range(rng.poisson(0.9)):  # neighbours, partly in the crop
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 0.75)
        at_x, at_y = x - away * np.cos(angle), y - away * np.sin(angle)
        body = _disc(at_x, at_y, rng.uniform(0.2, 0.36), rng.uniform(1, 1.5), rng, 2 * pixel, 0.4, 0.03)
        density += _cytoplasm(body, slide, rng.random() < 0.4, rng)[..., None] * _stain(slide, rng.random() < 0.4, rng)
        density += (0.8 * _disc(at_x, at_y, 0.05, 1.2, rng, 2 * pixel))[..., None] * slide.nuclear

    turn = rng.uniform(0, np.pi)
    along, across = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
    body = _disc(along, across, cell, look.elongation, rng, 1.5 * pixel, look.corners, 0.03)
    pink = rng.random() < look.pink
    offset = cell * (look.elongation - 1) * 0.45 * rng.uniform(0.2, 1)
    at_x, at_y = along - offset, across - rng.normal(0, 0.08) * max(cell - nucleus, 0.0)
    thickness = _cytoplasm(body, slide, pink, rng)
    if rng.random() < 0.18:  # a clear halo about the nucleus, of infection or of fixation
        thickness = thickness * (1 - 0.6 * _disc(at_x, at_y, nucleus * 1.7, 1.1, rng, 4 * pixel))
    core = _disc(at_x, at_y, nucleus, rng.uniform(1, 1.35), rng, 1.2 * pixel, look.dented, look.dented)
    density *= 1 - 0.6 * body[..., None]  # what lies under a cell is hidden in part
    density += (thickness * (1 - 0.5 * core))[..., None] * _stain(slide, pink, rng)
    density += _chromatin(core, look, nucleus, rng)[..., None] * slide.nuclear
    density += _passers_by(x, y, nucleus, rng, pixel)[..., None] * slide.nuclear

    light = slide.glass * (1 + 0.03 * _clouds(rng, size, 3))[..., None]
    image = light * np.exp(-slide.strength * density)
    blur = slide.blur * rng.uniform(0.7, 1.5) * size / 128
    image = cv2.GaussianBlur(image, (0, 0), max(blur, 0.3))
    image += rng.normal(0, slide.noise, (size, size, 1)) + rng.normal(0, slide.noise / 2, (size, size, 3))
    return np.asarray(np.clip(image, 0, 255).astype(np.uint8))


def _varied(look: Look, rng: np.random.Generator) -> Look:
    """One cell of its class: sizes and textures vary by so much that neighbouring classes overlap."""
    return replace(
        look,
        cell=look.cell * float(np.exp(rng.normal(0, 0.09))),
        nucleus=min(look.nucleus * float(np.exp(rng.normal(0, 0.11))), 0.85 * look.cell),
        elongation=max(1.0, look.elongation + rng.normal(0, 0.15)),
        dark=look.dark * float(np.exp(rng.normal(0, 0.14))),
        coarse=look.coarse * float(np.exp(rng.normal(0, 0.25))),
        dented=look.dented * float(np.exp(rng.normal(0, 0.3))),
    )


def _disc(
    x: np.ndarray,
    y: np.ndarray,
    radius: float,
    elongation: float,
    rng: np.random.Generator,
    edge: float,
    corners: float = 0.0,
    dents: float = 0.0,
) -> np.ndarray:
    """A soft-edged shape about the origin, 1 inside and 0 outside: an ellipse, made polygonal and dented."""
    stretch = np.float32(np.sqrt(elongation))
    u, v = x / stretch, y * stretch
    turns = np.arange(_TURNS) * (2 * np.pi / _TURNS)
    sides = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.uniform(0.7, 1.3, int(rng.integers(5, 8))))
    sides = sides / (sides[-1] - sides[0] + 1) * 2 * np.pi
    facing = np.cos(turns[:, None] - sides[None, :])
    polygon = (rng.uniform(0.82, 1.05, len(sides)) / np.maximum(facing, 0.35)).min(axis=1)
    outline = (1 - corners) + corners * np.minimum(polygon, 1.35)
    for wave in range(2, 8):
        outline += dents * rng.normal(0, 1.5 / wave) * np.cos(wave * turns + rng.uniform(0, 2 * np.pi))
    window = np.hanning(_TURNS // 12)
    outline = np.convolve(np.tile(outline, 3), window / window.sum(), "same")[_TURNS : 2 * _TURNS]
    index = (np.arctan2(v, u) * np.float32(_TURNS / (2 * np.pi))).astype(np.int32) % _TURNS
    distance = np.hypot(u, v) - (radius * outline).astype(np.float32)[index]
    return _soft(distance, edge)


def _soft(distance: np.ndarray, edge: float) -> np.ndarray:
    """1 where the distance is negative, 0 where it is positive, soft between."""
    return 1 / (1 + np.exp(np.clip(distance / np.float32(edge), -30, 30)))


def _clouds(rng: np.random.Generator, size: int, cells: int) -> np.ndarray:
    """Smooth noise with mean 0 and deviation 1, with about ``cells`` clouds across."""
    import cv2

    grid = rng.normal(0, 1, (cells + 2, cells + 2)).astype(np.float32)
    noise = cv2.resize(grid, (size, size), interpolation=cv2.INTER_CUBIC)
    return np.asarray((noise - noise.mean()) / max(float(noise.std()), 1e-6))


def _cytoplasm(body: np.ndarray, slide: Slide, pink: bool, rng: np.random.Generator) -> np.ndarray:
    """Thickness of the cytoplasm: uneven, with a denser edge, folds and fine granules."""
    size = len(body)
    thickness = 1 + 0.13 * _clouds(rng, size, 5) + 0.06 * _clouds(rng, size, 40)
    x, y = np.meshgrid(*[np.linspace(-0.5, 0.5, size, dtype=np.float32)] * 2)
    for _ in range(rng.poisson(1.2)):
        turn, place, bend = rng.uniform(0, np.pi), rng.normal(0, 0.22), rng.normal(0, 0.8)
        across, along = x * np.cos(turn) + y * np.sin(turn), y * np.cos(turn) - x * np.sin(turn)
        thickness = thickness + rng.uniform(0.1, 0.45) * np.exp(-(((across - place - bend * along**2) / 0.012) ** 2))
    edge = 4 * body * (1 - body)
    return np.asarray(body * thickness * rng.uniform(0.7, 1.25) + 0.35 * edge)


def _stain(slide: Slide, pink: bool, rng: np.random.Generator) -> np.ndarray:
    """Colour of one cell's cytoplasm."""
    mix = np.clip(rng.normal(0.88, 0.12), 0, 1) if pink else np.clip(rng.normal(0.10, 0.12), 0, 1)
    return np.asarray((mix * slide.warm + (1 - mix) * slide.cool).astype(np.float32))


def _chromatin(core: np.ndarray, look: Look, radius: float, rng: np.random.Generator) -> np.ndarray:
    """Optical density of the nucleus: its texture, a denser membrane, a few clumps."""
    size = len(core)
    across = max(4, round(3.2 / max(radius, 0.03)))
    texture = 0.5 * _clouds(rng, size, across) + 0.5 * _clouds(rng, size, 2 * across)
    clumps = np.clip(_clouds(rng, size, across) - 1.3, 0, 1.2)
    membrane = 4 * core * (1 - core) * (0.1 + 0.6 * look.coarse)
    return np.asarray(look.dark * (core * np.clip(1 + look.coarse * (texture + clumps), 0.45, 1.8) + membrane))


def _passers_by(x: np.ndarray, y: np.ndarray, nucleus: float, rng: np.random.Generator, pixel: float) -> np.ndarray:
    """Leucocytes (small nuclei of two or three lobes) and specks, away from the nucleus."""
    density = np.zeros_like(x)
    for _ in range(rng.poisson(0.7)):
        angle, away = rng.uniform(0, 2 * np.pi), rng.uniform(max(0.33, nucleus + 0.1), 0.62)
        for _ in range(int(rng.integers(2, 4))):
            at_x = away * np.cos(angle) + rng.normal(0, 0.02)
            at_y = away * np.sin(angle) + rng.normal(0, 0.02)
            lobe = _soft(np.hypot(x - np.float32(at_x), y - np.float32(at_y)) - np.float32(0.024), pixel)
            density = np.maximum(density, lobe)
    specks = rng.integers(0, len(x), (rng.poisson(5), 2))
    density[specks[:, 0], specks[:, 1]] += rng.uniform(0.3, 2, len(specks))
    return density


def _slides(seed: int, count: int) -> list[Slide]:
    """Slides with light, stain and focus of their own."""
    slides = []
    for number in range(count):
        rng = np.random.default_rng((seed, 1, number))
        green = rng.uniform(0, 1)
        cool = green * np.array([0.36, 0.20, 0.22]) + (1 - green) * np.array([0.38, 0.32, 0.15])
        warm = np.array([0.10, 0.50, 0.32]) + rng.normal(0, 0.04, 3)
        red = rng.uniform(0, 1)
        nuclear = red * np.array([0.68, 1.10, 0.60]) + (1 - red) * np.array([1.05, 1.00, 0.50])
        glass = 255 * np.array([0.91, 0.90, 0.92]) * (1 + rng.normal(0, 0.045, 3))
        slides.append(
            Slide(
                glass=np.minimum(glass, 250),
                strength=float(np.exp(rng.normal(0, 0.18))),
                cool=np.clip(cool + rng.normal(0, 0.03, 3), 0.05, 1),
                warm=np.clip(warm, 0.02, 1),
                nuclear=nuclear.astype(np.float32),
                scale=float(np.exp(rng.normal(0, 0.05))),
                blur=float(rng.uniform(0.5, 1.2)),
                noise=float(rng.uniform(1.0, 3.5)),
            )
        )
    return slides


def _plan(
    looks: Mapping[str, tuple[tuple[float, Look], ...]], n_per_class: int, seed: int, slides: int
) -> list[tuple[str, int, Look, tuple[int, ...]]]:
    """For each cell its file, slide, look and seed.

    Slides have a severity from 0 to 1 and hold mostly cells near to it, as patients do. Each
    class comes from up to eight slides or more, so that grouped folds are possible.
    """
    rng = np.random.default_rng((seed, 2))
    severity = rng.permutation(np.linspace(0, 1, slides))
    counters = [0] * slides
    plan: list[tuple[str, int, Look, tuple[int, ...]]] = []
    for code, (label, options) in enumerate(looks.items()):
        for n in range(n_per_class):
            place, look = options[n % len(options)]
            weights = np.exp(-(((severity - place) / 0.3) ** 2)) + 0.03
            if n == 0:
                order = rng.choice(slides, min(slides, 8), replace=False, p=weights / weights.sum())
            slide = int(order[n]) if n < len(order) else int(rng.choice(slides, p=weights / weights.sum()))
            counters[slide] += 1
            name = f"{label}/{_slide_name(seed, slide)}-{counters[slide]:03d}.png"
            plan.append((name, slide, look, (seed, 3, code, n)))
    return plan


def _looks_by_label(system: str) -> dict[str, tuple[tuple[float, Look], ...]]:
    """For each label of a system, the looks that it covers, each with its severity from 0 to 1."""
    names = list(LOOKS)
    try:
        table = {name: name for name in names} if system == HERLEV.name else dict(find_map(HERLEV, system).table)
    except CervicyteError as error:
        raise UsageError(
            "generated cells cannot be named in this label system", repr(system), "use herlev, bethesda or binary"
        ) from error
    order = next(row for row in SYSTEMS if row.name == system).classes
    by_label = {
        label: tuple((i / (len(names) - 1), LOOKS[name]) for i, name in enumerate(names) if table[name] == label)
        for label in order
    }
    return {label: looks for label, looks in by_label.items() if looks}


def _slide_name(seed: int, slide: int) -> str:
    # With the seed, because another seed's first slide is another slide.
    return f"D{seed}S{slide + 1:02d}"


def _mark(n_per_class: int, seed: int, size: int, system: str) -> str:
    return (
        "SYNTHETIC IMAGES. Every cell here was drawn by a program (cervicyte.data.synthetic); no patient and no slide\n"
        "stands behind them. They show how the software works. No number made with them says anything about real\n"
        "cells, and no model trained on them is of any use on real cells.\n\n"
        f"n_per_class {n_per_class}, seed {seed}, size {size}, labels {system}\n"
    )


def _check_folder(folder: Path, mark: str) -> None:
    """Refuse a folder that holds anything but these same cells."""
    if folder.exists() and not folder.is_dir():
        raise DataError("not a folder", printable(folder), "choose another place")
    if not folder.is_dir() or not own_entries(folder):
        return
    marker = folder / MARK
    if not marker.is_file() or marker.read_text(encoding="utf-8", errors="replace") != mark:
        raise DataError(
            "the folder holds something else than these generated cells",
            printable(folder),
            "choose a new folder, or remove this one",
        )


def _write(path: Path, image: np.ndarray) -> None:
    import cv2

    done, data = cv2.imencode(".png", np.ascontiguousarray(image[..., ::-1]))
    if not done:
        raise DataError("the image could not be encoded as PNG", printable(path))
    with atomic_write(path, "wb") as stream:
        stream.write(data.tobytes())
