"""Small signatures of images, and the search for near, rotated and flipped copies among them.

A signature is all that a stored model needs to keep of its training cells to recognise them
later: 2,307 bytes from which no image of use can be made again, but against which another
image can be aligned and compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from cervicyte.images import decoding

#: Side of the grey thumbnail. Measured on the 733 Herlev cells (score of `_score` after
#: alignment): crops shifted by 3 to 10 % keep 0.98 or more at 48 px, but only 0.91 at 32 px
#: and 0.81 at 24 px, where the best aligned pairs of different cells already reach 0.95.
SIDE = 48

#: Bytes of a signature: the thumbnail and the mean red, green and blue.
LENGTH = SIDE * SIDE + 3

#: Thumbnails with a smaller standard deviation (grey levels) are blank: they all look alike,
#: which says nothing, so they are never called copies of each other.
MIN_CONTRAST = 2.0

#: The gates a pair passes before it is aligned, with the share of different Herlev pairs that is left.
#: Herlev copies, recompressed or turned, pass them all; of crops shifted by 6 % 97 % are found, of crops
#: that lost 5 % at every side 74 % (a zoom this large is for the keypoints to find).
_MIN_LOW = 0.70  # correlation of 16 px thumbnails, the best orientation: 9 %
_MAX_COLOUR = 20  # difference of the mean colours in any channel: 2 %
_MIN_PEAK = 0.65  # best correlation of high-pass 24 px thumbnails over all shifts: 0.04 %
_MIN_START = 0.72  # score at the best whole-pixel shift: 0.03 %

#: Correlation of the aligned high-pass thumbnails from which two images are one.
MIN_SCORE = 0.955

_LOW = 16
_MID = 24
_BLOCK = 1024

#: Quarter turns and mirror of each orientation that is tried, and what a hit is called.
_ORIENTATIONS: tuple[tuple[int, bool, str], ...] = (
    (0, False, "near"),
    (1, False, "rotated"),
    (2, False, "rotated"),
    (3, False, "rotated"),
    (0, True, "flipped"),
    (1, True, "flipped"),
    (2, True, "flipped"),
    (3, True, "flipped"),
)


@dataclass(frozen=True)
class Match:
    """Row ``second`` of b shows what row ``first`` of a shows.

    ``kind`` is near (the same, resized, recompressed or slightly shifted), rotated (by quarter
    turns) or flipped; ``score`` the correlation after alignment, at most 1.
    """

    first: int
    second: int
    kind: str
    score: float


def signature(image: np.ndarray) -> np.ndarray:
    """The signature of one image, so that it can be recognised without being kept.

    Parameters
    ----------
    image : uint8 (h, w, 3) RGB

    Returns
    -------
    uint8 (2307,): a grey 48 x 48 thumbnail, row by row, then the mean red, green and blue. It is
    never all zero: that stands for an image that could not be read.
    """
    small = decoding.resize(image, SIDE).astype(np.float32)
    grey = small @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    row = np.concatenate([grey.ravel(), small.mean((0, 1))])
    row = np.clip(row.round(), 0, 255).astype(np.uint8)
    row[-1] = max(row[-1], 1)
    return np.asarray(row)


def readable(signatures: np.ndarray) -> np.ndarray:
    """Which rows (uint8 (n, 2307)) are signatures of images that could be read: bool (n,)."""
    return np.asarray(np.asarray(signatures).any(axis=1), dtype=bool)


def match(a: np.ndarray, b: np.ndarray) -> list[Match]:
    """Pairs in which an image of b is a copy of one of a, at most one entry per pair.

    Parameters
    ----------
    a, b : signatures, uint8 (n, 2307) and (m, 2307)

    Notes
    -----
    A matrix product over 16 px thumbnails in eight orientations proposes pairs; the mean colour
    and a correlation over all shifts thin them out; what is left is aligned by maximising the
    enhanced correlation coefficient (Evangelidis and Psarakis 2008, 10.1109/TPAMI.2008.113) and
    accepted from a correlation of 0.955 on. Contrast and brightness do not matter much, colour does.
    """
    return _search(_Prepared.of(a), _Prepared.of(b), within=False)


def match_within(a: np.ndarray) -> list[Match]:
    """`match` of a set with itself: each pair once, with first < second."""
    prepared = _Prepared.of(a)
    return _search(prepared, prepared, within=True)


@dataclass(frozen=True)
class _Prepared:
    """Signatures of the comparable rows in the forms that the gates use."""

    rows: np.ndarray  # int64 (k,), their row in the input
    grey: np.ndarray  # uint8 (k, 48, 48)
    colour: np.ndarray  # int16 (k, 3)

    @classmethod
    def of(cls, signatures: np.ndarray) -> _Prepared:
        signatures = np.asarray(signatures, dtype=np.uint8).reshape(-1, LENGTH)
        contrast = np.array([row.std() for row in signatures[:, :-3]])
        rows = np.flatnonzero(readable(signatures) & (contrast >= MIN_CONTRAST))
        chosen = signatures[rows]
        return cls(rows, chosen[:, :-3].reshape(-1, SIDE, SIDE), chosen[:, -3:].astype(np.int16))

    def low(self, turns: int = 0, mirror: bool = False) -> np.ndarray:
        """Unit vectors of the 16 px thumbnails, float32 (k, 256)."""
        return _unit(_oriented(_pooled(self.grey, _LOW), turns, mirror))

    def spectrum(self, turns: int = 0, mirror: bool = False) -> np.ndarray:
        """Fourier transforms of the high-pass 24 px thumbnails of unit energy, complex64 (k, 24, 13)."""
        pooled = _oriented(_pooled(self.grey, _MID), turns, mirror)
        high = _unit(pooled - _blurred(pooled)).reshape(len(pooled), _MID, _MID)
        return np.fft.rfft2(high).astype(np.complex64)


def _search(a: _Prepared, b: _Prepared, within: bool) -> list[Match]:
    best: dict[tuple[int, int], Match] = {}
    for turns, mirror, kind in _ORIENTATIONS:
        for first, second in _candidates(a, b, turns, mirror, within):
            for i, j in zip(first.tolist(), second.tolist(), strict=True):
                score = aligned_score(a.grey[i], _oriented(b.grey[j][None], turns, mirror)[0])
                pair = (int(a.rows[i]), int(b.rows[j]))
                if score >= MIN_SCORE and (pair not in best or score > best[pair].score + 0.005):
                    best[pair] = Match(*pair, kind, round(score, 4))
    return [best[pair] for pair in sorted(best)]


def _candidates(
    a: _Prepared, b: _Prepared, turns: int, mirror: bool, within: bool
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs of one orientation that pass the three cheap gates, block by block."""
    low_a, low_b = a.low(), b.low(turns, mirror)
    spectrum_a, spectrum_b = a.spectrum(), b.spectrum(turns, mirror)
    for top in range(0, len(a.rows), _BLOCK):
        for left in range(top if within else 0, len(b.rows), _BLOCK):
            first, second = np.nonzero(low_a[top : top + _BLOCK] @ low_b[left : left + _BLOCK].T >= _MIN_LOW)
            first, second = first + top, second + left
            keep = np.abs(a.colour[first] - b.colour[second]).max(axis=1, initial=0) <= _MAX_COLOUR
            if within:
                keep &= first < second
            first, second = first[keep], second[keep]
            for start in range(0, len(first), 4096):
                i, j = first[start : start + 4096], second[start : start + 4096]
                product = spectrum_a[i] * np.conj(spectrum_b[j])
                peak = np.fft.irfft2(product, (_MID, _MID)).max(axis=(1, 2))
                yield i[peak >= _MIN_PEAK], j[peak >= _MIN_PEAK]


def aligned_score(a: np.ndarray, b: np.ndarray, start: np.ndarray | None = None, loose: bool = False) -> float:
    """Correlation of two thumbnails where they overlap, after the best affine alignment.

    Parameters
    ----------
    a, b : (48, 48) grey
    start : float32 (2, 3), takes points of a to points of b; default: the best shift
    loose : also accept turns and stretches, not only shifts and moderate zooms

    Returns
    -------
    The correlation of what is finer than an eighth of the side, or 0 where the alignment is
    implausible or less than half of a remains.
    """
    import cv2

    x, y = a.astype(np.float32), b.astype(np.float32)
    matrix = _best_shift(x, y) if start is None else start.astype(np.float32)
    score = _score(x, y, matrix, loose)
    if score >= 0.99 or (start is None and score < _MIN_START):
        return score
    try:
        criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-4)
        # Its annotations forget that there may be no mask.
        _, refined = cv2.findTransformECC(x, y, matrix.copy(), cv2.MOTION_AFFINE, criteria, None, 5)  # type: ignore[call-overload]
    except cv2.error:  # no convergence: the images are not alike
        return score
    return max(score, _score(x, y, refined, loose))


def _best_shift(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    import cv2

    margin = SIDE // 8
    scores = cv2.matchTemplate(b, np.ascontiguousarray(a[margin:-margin, margin:-margin]), cv2.TM_CCOEFF_NORMED)
    x, y = cv2.minMaxLoc(scores)[3]
    return np.array([[1, 0, x - margin], [0, 1, y - margin]], dtype=np.float32)


def _score(a: np.ndarray, b: np.ndarray, matrix: np.ndarray, loose: bool) -> float:
    import cv2

    linear = matrix[:, :2]
    strain = np.linalg.svd(linear, compute_uv=False)
    if not 0.6 <= strain[1] <= strain[0] <= 1.67:
        return 0.0
    if not loose and (np.abs(linear[[0, 1], [1, 0]]).max() > 0.06 or strain[0] / strain[1] > 1.25):
        return 0.0
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    inside = cv2.warpAffine(np.ones_like(b), matrix, (SIDE, SIDE), flags=flags) > 0.99
    margin = SIDE // 16
    inside[:margin] = inside[-margin:] = inside[:, :margin] = inside[:, -margin:] = False
    if inside.mean() < (0.35 if loose else 0.5):
        return 0.0
    moved = cv2.warpAffine(b, matrix, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    x, y = _high_pass(a, inside)[inside], _high_pass(moved, inside)[inside]
    x, y = x - x.mean(), y - y.mean()
    energy = float(np.sqrt((x * x).sum() * (y * y).sum()))
    return float((x * y).sum()) / energy if energy > 1e-6 else 0.0


def _high_pass(grey: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """What is finer than an eighth of the side; pixels outside the overlap take no part in it."""
    import cv2

    weight = inside.astype(np.float32)
    blurred = cv2.GaussianBlur(grey * weight, (0, 0), SIDE / 8) / np.maximum(
        cv2.GaussianBlur(weight, (0, 0), SIDE / 8), 1e-3
    )
    return cv2.GaussianBlur(grey, (0, 0), 0.7) - blurred


def _pooled(grey: np.ndarray, side: int) -> np.ndarray:
    step = SIDE // side
    return np.asarray(grey.reshape(len(grey), side, step, side, step).mean(axis=(2, 4), dtype=np.float32))


def _oriented(grey: np.ndarray, turns: int, mirror: bool) -> np.ndarray:
    turned = np.rot90(grey, turns, axes=(1, 2))
    return turned[:, :, ::-1] if mirror else turned


def _blurred(grey: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return np.asarray(gaussian_filter(grey, sigma=(0, _MID / 8, _MID / 8), mode="nearest"))


def _unit(grey: np.ndarray) -> np.ndarray:
    flat = np.ascontiguousarray(grey).reshape(len(grey), grey.shape[1] * grey.shape[2])
    flat = flat - flat.mean(axis=1, keepdims=True)
    return np.asarray(flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6))
