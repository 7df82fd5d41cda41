"""What an image shows besides the cell: borders, padding and file properties, and whether they give the label away.

The probe is trained on such measurements alone. Where it can tell the classes apart on groups it has not
seen, a classifier can too, and its score says nothing of cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cervicyte.images import decoding


@dataclass(frozen=True)
class Family:
    """Measurements that mean the same thing.

    ``artefact`` is True where the cell itself cannot cause a difference between the classes, so that
    one is always the fault of how the files were made.
    """

    name: str
    features: tuple[str, ...]
    artefact: bool
    words: str


FAMILIES: tuple[Family, ...] = (
    Family(
        "smeared border",
        ("streak share", "strongest streak", "streak share inside"),
        True,
        "stripes that continue the border outwards, left by rotating or shifting a picture",
    ),
    Family(
        "file",
        ("width", "height", "format", "JPEG quantisation", "colour mode"),
        True,
        "size in pixels, file format and JPEG quality",
    ),
    Family(
        "compression",
        ("bytes per pixel",),
        False,
        "bytes per pixel; blur and texture of the cell act on it too",
    ),
    Family(
        "padding",
        ("padded left", "padded right", "padded top", "padded bottom"),
        False,
        "constant bars at the sides; after padding to a square their width is the shape of the crop",
    ),
    Family(
        "content at the border",
        ("border lightness", "border red-green", "border blue-yellow", "border contrast", "border texture"),
        False,
        "colour and texture of the outermost pixels; stain, background and cytoplasm act on it",
    ),
)

#: The family that needs stripes at the border, and the share of border blocks of stripes beyond that inside from which
#: there are some. The augmented LBC classes have 0.034 to 0.075; Herlev 0.010, CRIC -0.001, LBC's class that was not
#: augmented -0.005, generated cells and fields 0.000 and less.
SMEARS = FAMILIES[0].name
_SMEARED = 0.025

FEATURES: tuple[str, ...] = tuple(name for family in FAMILIES for name in family.features)


@dataclass(frozen=True, kw_only=True)
class Probe:
    """How well one family of measurements tells one target on unseen groups.

    ``auroc`` with ``low`` and ``high`` (95 %, bootstrap over groups); ``feature`` carries most of it,
    with ``alone`` its own AUROC (0.5 is chance, 0 as telling as 1) and its mean inside and outside the target.
    """

    family: str
    target: str
    auroc: float
    low: float
    high: float
    feature: str
    alone: float
    inside: float
    outside: float


def measure(data: bytes, image: np.ndarray) -> np.ndarray:
    """The measurements of one image in the order of `FEATURES`, float64.

    Parameters
    ----------
    data : the file's bytes; image : the cell's pixels, uint8 (h, w, 3) RGB
    """
    header = decoding.read_header(data)
    height, width = image.shape[:2]
    file = (
        float(width),
        float(height),
        float(decoding.FORMATS.index(header.format)),
        jpeg_quantisation(data),
        float(sum(map(ord, header.mode))),
    )
    density = len(data) / (header.width * header.height)
    return np.array([*_streaks(image), *file, density, *_padding(image), *_border(image)])


def smeared(features: np.ndarray, truth: np.ndarray) -> bool:
    """Whether the borders of a target's images, or of the others', have stripes that their insides have not.

    Noise and texture give stripes everywhere, and how strong they are tells one camera from another: no smear.

    Parameters
    ----------
    features : float64 (n, 20), columns as `FEATURES`; truth : bool (n,)
    """
    beyond = features[:, FEATURES.index("streak share")] - features[:, FEATURES.index("streak share inside")]
    return any(np.nanmean(beyond[side]) >= _SMEARED for side in (truth, ~truth) if np.isfinite(beyond[side]).any())


def jpeg_quantisation(data: bytes) -> float:
    """Mean of the first quantisation table of a JPEG file (1: finest); 0 for other formats or a damaged header."""
    if data[:2] != b"\xff\xd8":
        return 0.0
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        length = int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 1] == 0xDB:
            wide = data[at + 4] >> 4
            table = np.frombuffer(data[at + 5 : at + 5 + 64 * (1 + wide)], dtype=">u2" if wide else np.uint8)
            return float(table.mean()) if len(table) == 64 else 0.0
        at += 2 + length
    return 0.0


def _streaks(image: np.ndarray) -> tuple[float, float, float]:
    """Share of border blocks of parallel stripes, how parallel the best are, and the share inside.

    In a stripe pattern all gradients lie along one line (structure tensor of rank one) and point both
    ways along it; a cell's edge is also of rank one, but its gradients point one way.
    """
    import cv2

    # Measured: blocks of 8 px tell the augmented LBC classes from the others with AUROC 0.90, of 16 px 0.84.
    side, block = 256, 8
    grey = cv2.cvtColor(decoding.resize(image, side), cv2.COLOR_RGB2GRAY).astype(np.float32)
    dx, dy = cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1)
    n = side // block

    def mean(values: np.ndarray) -> np.ndarray:
        return np.asarray(values.reshape(n, block, n, block).mean(axis=(1, 3)))

    xx, yy, xy, mx, my = mean(dx * dx), mean(dy * dy), mean(dx * dy), mean(dx), mean(dy)
    energy = xx + yy
    coherence = np.sqrt((xx - yy) ** 2 + 4 * xy**2) / (energy + 1e-6)
    both_ways = (mx**2 + my**2) < 0.3 * energy
    strength = np.where(both_ways & (energy > 40), coherence, 0.0)
    rim = np.ones((n, n), dtype=bool)
    rim[1:-1, 1:-1] = False
    ring = np.sort(strength[rim])[::-1]
    return float((ring > 0.95).mean()), float(ring[:8].mean()), float((strength[~rim] > 0.95).mean())


def _padding(image: np.ndarray) -> tuple[float, float, float, float]:
    """Share of the side that is one constant colour, from the left, right, top and bottom."""
    flat = image.astype(np.float32).std(axis=0).max(axis=1) < 3.0
    level = image.astype(np.float32).std(axis=1).max(axis=1) < 3.0
    return _run(flat), _run(flat[::-1]), _run(level), _run(level[::-1])


def _run(flags: np.ndarray) -> float:
    return float(np.argmin(flags)) / len(flags) if not flags.all() else 1.0


def _border(image: np.ndarray) -> tuple[float, ...]:
    import cv2

    lab = cv2.cvtColor(decoding.resize(image, 64), cv2.COLOR_RGB2LAB).astype(np.float64)
    rim = np.ones((64, 64), dtype=bool)
    rim[3:-3, 3:-3] = False
    pixels = lab[rim]
    texture = np.abs(np.diff(lab[..., 0], axis=0)).mean(axis=0)[[0, 1, -2, -1]].mean()
    return (*pixels.mean(axis=0).tolist(), float(pixels[:, 0].std()), float(texture))


def probe(
    features: np.ndarray,
    labels: np.ndarray,
    groups: np.ndarray,
    targets: Sequence[tuple[str, np.ndarray]],
    seed: int = 0,
) -> list[Probe]:
    """Predict each target from each family of measurements on groups that were held out.

    Parameters
    ----------
    features : float64 (n, 20), columns as `FEATURES`
    labels, groups : (n,)
    targets : name and bool (n,) of each; a label decides to which it belongs

    Returns
    -------
    one row per family and target; none where fewer than two classes have two groups each

    Notes
    -----
    Extremely randomised trees (Geurts et al. 2006, 10.1007/s10994-006-6226-1), up to five folds.
    """
    from sklearn.ensemble import ExtraTreesClassifier
    from sklearn.model_selection import StratifiedGroupKFold

    names, codes = np.unique(labels.astype(str), return_inverse=True)
    _, group_codes = np.unique(groups.astype(str), return_inverse=True)
    folds = min([5, *(len(np.unique(group_codes[codes == c])) for c in range(len(names)))])
    if len(names) < 2 or folds < 2:
        return []
    splits = list(StratifiedGroupKFold(folds, shuffle=True, random_state=seed).split(features, codes, group_codes))
    draws = _draws(group_codes, 200, seed)
    probes = []
    for family in FAMILIES:
        columns = [FEATURES.index(name) for name in family.features]
        if not np.ptp(features[:, columns], axis=0).any():
            continue
        scores = np.zeros((len(codes), len(names)))
        for train, test in splits:
            trees = ExtraTreesClassifier(
                60, max_depth=6, min_samples_leaf=5, class_weight="balanced", random_state=seed
            )
            trees.fit(features[train][:, columns], codes[train])
            scores[np.ix_(test, trees.classes_)] = trees.predict_proba(features[test][:, columns])
        for target, truth in targets:
            members = [c for c in range(len(names)) if truth[codes == c].all()]
            probes.append(_row(family, columns, features, target, truth, scores[:, members].sum(axis=1), draws))
    return probes


def _row(
    family: Family,
    columns: list[int],
    features: np.ndarray,
    target: str,
    truth: np.ndarray,
    score: np.ndarray,
    draws: np.ndarray,
) -> Probe:
    values = [auroc(truth, score, weights) for weights in draws]
    low, high = np.nanquantile(values, (0.025, 0.975))
    alone = [auroc(truth, features[:, c]) for c in columns]
    best = int(np.argmax(np.abs(np.array(alone) - 0.5)))
    column = features[:, columns[best]]
    means = column[truth].mean(), column[~truth].mean()
    return Probe(
        family=family.name,
        target=target,
        auroc=round(auroc(truth, score), 4),
        low=round(float(low), 4),
        high=round(float(high), 4),
        feature=family.features[best],
        alone=round(alone[best], 4),
        inside=round(float(means[0]), 4),
        outside=round(float(means[1]), 4),
    )


def auroc(truth: np.ndarray, score: np.ndarray, weights: np.ndarray | None = None) -> float:
    """Area under the ROC curve with ties at half; nan where one side is empty.

    Parameters
    ----------
    truth : bool (n,); score : float (n,); weights : how often each row counts, default once
    """
    weights = np.ones(len(truth)) if weights is None else weights
    _, place = np.unique(score, return_inverse=True)
    yes, no = np.bincount(place, weights * truth), np.bincount(place, weights * ~truth)
    total = yes.sum() * no.sum()
    if total == 0:
        return float("nan")
    below = np.concatenate([[0.0], np.cumsum(no)[:-1]])
    return float((yes * (below + 0.5 * no)).sum() / total)


def _draws(group_codes: np.ndarray, n: int, seed: int) -> np.ndarray:
    """Row weights of n bootstrap samples of whole groups, float64 (n, rows)."""
    random = np.random.default_rng(seed)
    count = int(group_codes.max()) + 1
    return np.stack([np.bincount(random.integers(count, size=count), minlength=count)[group_codes] for _ in range(n)])
