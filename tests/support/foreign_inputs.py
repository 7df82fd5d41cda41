"""Pictures that are not cells, for the tests and the benchmark of quality: each kind a function of cells and a seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

SIDE = 200


@dataclass(frozen=True)
class Kind:
    """A kind of foreign picture.

    Attributes
    ----------
    name : in tables
    gross : nothing of a cell is in it, so that nine of ten or more must be refused
    make : n pictures, uint8 (h, w, 3), from cells (not looked at by most) and a generator
    of_cells : made of cells
    """

    name: str
    gross: bool
    make: Callable[[Sequence[np.ndarray], int, np.random.Generator], list[np.ndarray]]
    of_cells: bool = False


def _flat(colour: Sequence[float] | np.ndarray, side: int = SIDE) -> np.ndarray:
    return np.zeros((side, side, 3)) + np.asarray(colour, dtype=float)


def _bytes(image: np.ndarray) -> np.ndarray:
    return np.clip(image, 0, 255).astype(np.uint8)


def blank(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """One colour, with the grain of a sensor or without."""
    made = []
    for i in range(n):
        colour = (255, 255, 255) if i % 4 == 0 else (0, 0, 0) if i % 4 == 1 else random.uniform(0, 255, 3)
        made.append(_bytes(_flat(colour) + (random.normal(0, 1.5, (SIDE, SIDE, 3)) if i % 2 else 0)))
    return made


def gradient(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """From one colour to another, straight or from the middle."""
    y, x = np.mgrid[0:SIDE, 0:SIDE] / SIDE - 0.5
    made = []
    for i in range(n):
        turn = random.uniform(0, 2 * np.pi)
        way = np.hypot(x, y) * 1.4 if i % 2 else (x * np.cos(turn) + y * np.sin(turn)) / 1.4 + 0.5
        first, last = random.uniform(0, 255, (2, 3))
        made.append(_bytes(first + (last - first) * np.clip(way, 0, 1)[..., None]))
    return made


def noise(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """White, grey or cloudy noise."""
    made = []
    for i in range(n):
        grain = random.normal(size=(SIDE, SIDE, 3 if i % 2 else 1))
        if i % 3 == 2:
            grain = cv2.GaussianBlur(grain, (0, 0), random.uniform(1, 4)).reshape(SIDE, SIDE, -1)
        grain = grain / grain.std() * random.uniform(15, 70)
        made.append(_bytes(_flat(random.uniform(80, 180, 3)) + grain))
    return made


def text(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """Lines of print, dark on light or light on dark."""
    letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
    made = []
    for i in range(n):
        paper, ink = random.uniform(190, 255, 3), random.uniform(0, 90, 3)
        if i % 4 == 3:
            paper, ink = ink, paper
        image = _bytes(_flat(paper))
        size = random.uniform(0.4, 1.2)
        for top in range(20, SIDE, int(38 * size)):
            line = "".join(random.choice(list(letters + "    "), 30))
            cv2.putText(image, line, (5, top), cv2.FONT_HERSHEY_SIMPLEX, size, ink.tolist(), 1 + i % 2, cv2.LINE_AA)
        made.append(image)
    return made


def patterns(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """Chequers, stripes and drawn graphs."""
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    made = []
    for i in range(n):
        first, last = random.uniform(0, 255, (2, 3))
        period = int(random.integers(8, 50))
        if i % 3 == 0:
            image = np.where(((x // period + y // period) % 2)[..., None], first, last)
        elif i % 3 == 1:
            turn = random.uniform(0, np.pi)
            wave = np.sin((x * np.cos(turn) + y * np.sin(turn)) * 2 * np.pi / period)
            image = first + (last - first) * (wave[..., None] > 0)
        else:
            image = _flat((255, 255, 255))
            image[20:-20, 20], image[-20, 20:-20] = 0, 0
            for _ in range(3):
                walk = np.cumsum(random.normal(0, 4, SIDE - 40)) + SIDE / 2
                points = np.stack([np.arange(20, SIDE - 20), np.clip(walk, 22, SIDE - 22)], axis=1).astype(np.int32)
                cv2.polylines(image, [points], False, random.uniform(0, 200, 3).tolist(), 2, cv2.LINE_AA)
        made.append(_bytes(image))
    return made


def photographs(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """Crops of the pictures that come with scikit-image: faces, cats, coffee, rockets, coins, grass."""
    from skimage import data

    names = ("astronaut", "coffee", "chelsea", "rocket", "camera", "coins", "moon", "grass", "gravel", "brick", "clock")
    return _crops([_rgb(getattr(data, name)()) for name in names], n, random, 0.35)


def blurred(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """Cells so far out of focus that nothing is left but their colours."""
    made = []
    for i in range(n):
        cell = cells[i % len(cells)]
        made.append(cv2.GaussianBlur(cell, (0, 0), max(cell.shape[:2]) * random.uniform(0.08, 0.16)))
    return made


def wrong_stain(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """Cells of other colours: hue turned by a third or more, inverted, or in the pink and violet of H&E."""
    made = []
    for i in range(n):
        cell = cells[i % len(cells)]
        if i % 3 == 0:
            hsv = cv2.cvtColor(cell, cv2.COLOR_RGB2HSV)
            hsv[..., 0] = (hsv[..., 0].astype(int) + random.integers(60, 121)) % 180
            made.append(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB))
        elif i % 3 == 1:
            made.append(255 - cell)
        else:
            made.append(_haematoxylin_eosin(cell))
    return made


def greyscale(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """Cells without colour."""
    some = (cells[i % len(cells)] for i in range(n))
    return [_rgb(cv2.cvtColor(cell, cv2.COLOR_RGB2GRAY)) for cell in some]


def _haematoxylin_eosin(cell: np.ndarray) -> np.ndarray:
    """Saturated pink for what is pale and deep violet for what is dark, as in a section of tissue."""
    grey = cv2.cvtColor(cell, cv2.COLOR_RGB2GRAY) / 255
    low, high = np.percentile(grey, (2, 98))
    depth = 1 - np.clip((grey - low) / max(high - low, 0.05), 0, 1)
    stops = np.array([[250, 240, 248], [235, 130, 190], [70, 25, 120]], dtype=float)
    return _bytes(np.stack([np.interp(depth, (0, 0.4, 1), stops[:, k]) for k in range(3)], axis=2))


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else np.ascontiguousarray(image[..., :3])


def _crops(pictures: Sequence[np.ndarray], n: int, random: np.random.Generator, least: float) -> list[np.ndarray]:
    """Square parts of pictures, from a share ``least`` of the shorter side up to all of it."""
    made = []
    for i in range(n):
        picture = pictures[i % len(pictures)]
        height, width = picture.shape[:2]
        side = int(min(height, width) * random.uniform(least, 1))
        top, left = random.integers(0, height - side + 1), random.integers(0, width - side + 1)
        made.append(np.ascontiguousarray(picture[top : top + side, left : left + side]))
    return made


#: What the descriptors were chosen with; none of it needs a picture from elsewhere.
KINDS: tuple[Kind, ...] = (
    Kind("blank", True, blank),
    Kind("colour gradient", True, gradient),
    Kind("noise", True, noise),
    Kind("text", True, text),
    Kind("chequers, stripes, graphs", True, patterns),
    Kind("photographs of other things", True, photographs),
    Kind("extreme blur of test cells", True, blurred, True),
    Kind("wrong stain of test cells", False, wrong_stain, True),
    Kind("test cells in grey", False, greyscale, True),
)


def other_science(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """Crops of a retina, of stained tissue, and of the sky, which come with scikit-image."""
    from skimage import data

    names = ("retina", "immunohistochemistry", "hubble_deep_field", "microaneurysms")
    return _crops([_rgb(getattr(data, name)()) for name in names], n, random, 0.3)


def scrambled(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """Cells cut into 6 x 6 tiles that were put together at random."""
    made = []
    for i in range(n):
        cell = cv2.resize(cells[i % len(cells)], (192, 192))
        tiles = cell.reshape(6, 32, 6, 32, 3).swapaxes(1, 2).reshape(36, 32, 32, 3)[random.permutation(36)]
        made.append(np.ascontiguousarray(tiles.reshape(6, 6, 32, 32, 3).swapaxes(1, 2).reshape(192, 192, 3)))
    return made


def collages(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """Nine cells in one picture."""
    made = []
    for _ in range(n):
        some = [cv2.resize(cells[k], (80, 80)) for k in random.integers(0, len(cells), 9)]
        made.append(np.vstack([np.hstack(some[k : k + 3]) for k in (0, 3, 6)]))
    return made


def grainy(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """Cells under heavy noise."""
    some = (cells[i % len(cells)] for i in range(n))
    return [_bytes(cell + random.normal(0, 60, cell.shape)) for cell in some]


def moved(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """Cells of which the camera moved by a quarter of their width."""
    made = []
    for i in range(n):
        cell = cells[i % len(cells)]
        length = cell.shape[1] // 4
        kernel = np.full((1, length) if i % 2 else (length, 1), 1 / length)
        made.append(cv2.filter2D(cell, -1, kernel))
    return made


def badly_exposed(cells: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """Cells of which most is white, or nearly black."""
    some = (cells[i % len(cells)].astype(float) for i in range(n))
    return [_bytes(cell * 2.2 if i % 2 else cell * 0.15) for i, cell in enumerate(some)]


#: What was thought of when descriptors and limits were fixed: the honest check. Nothing was changed afterwards.
LATER: tuple[Kind, ...] = (
    Kind("retina, tissue, stars", True, other_science),
    Kind("test cells cut into tiles and scrambled", False, scrambled, True),
    Kind("nine test cells in one picture", False, collages, True),
    Kind("test cells under heavy noise", False, grainy, True),
    Kind("test cells, camera moved", False, moved, True),
    Kind("test cells, badly exposed", False, badly_exposed, True),
)


def whole_fields(folders: Sequence[Path], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """Whole fields of view from folders of them."""
    from cervicyte.images import decoding

    paths = [f.path for f in decoding.find_images(folders) if f.problem is None]
    return [decoding.load(paths[k]) for k in random.permutation(len(paths))[:n]]


def background(fields: Sequence[np.ndarray], n: int, random: np.random.Generator) -> list[np.ndarray]:
    """The emptiest square parts of fields, a fifth of their side: glass and debris, without a nucleus."""
    tried = []
    for field in fields:
        height, width = field.shape[:2]
        side = min(height, width) // 5
        for _ in range(40):
            top, left = random.integers(0, height - side), random.integers(0, width - side)
            part = np.ascontiguousarray(field[top : top + side, left : left + side])
            grey = cv2.cvtColor(part, cv2.COLOR_RGB2GRAY)
            low, middle = np.percentile(grey, (0.5, 50))
            tried.append((float(middle - low), len(tried), part))
    return [part for _, _, part in sorted(tried)[:n]]
