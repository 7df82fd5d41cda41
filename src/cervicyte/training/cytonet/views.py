"""Training views for our own network: each image as another stain, microscope or camera would have shown it.

Turns by 90 degrees and mirroring are left out: the network's answer does not depend on them.
"""

from __future__ import annotations

import cv2
import numpy as np

#: Turn in degrees, and logarithm of zoom, of the aspect, and shares of the side for shift and shear; drawn evenly from
#: -x to x.
_TURN, _ZOOM, _ASPECT, _SHIFT, _SHEAR = 45.0, 0.22, 0.1, 0.07, 0.08

#: Of colours: logarithms of contrast and saturation, gains of the channels, and shifts in grey levels of all and each.
_CONTRAST, _SATURATION, _GAIN, _BRIGHTNESS, _TINT = 0.22, 0.4, 0.1, 16.0, 10.0

#: Shares of the views that are blurred (up to this many pixels), noisy (up to so many grey levels), and compressed.
_BLURRED, _BLUR = 0.35, 1.5
_NOISY, _NOISE = 0.2, 6.0
_COMPRESSED, _QUALITY = 0.3, (40, 95)

_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)


def view(image: np.ndarray, side: int, random: np.random.Generator) -> np.ndarray:
    """One view of a square image: uint8 (s, s, 3) to uint8 (side, side, 3)."""
    angle = random.uniform(-_TURN, _TURN)
    zoom, aspect = np.exp(random.uniform(-_ZOOM, _ZOOM)), np.exp(random.uniform(-_ASPECT, _ASPECT))
    shear, shift = random.uniform(-_SHEAR, _SHEAR), random.uniform(-_SHIFT, _SHIFT, 2)
    scale = zoom * side / len(image)
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.array([[aspect, shear], [0, 1 / aspect]]) * scale
    middle = np.array([(len(image) - 1) / 2] * 2)
    offset = (side - 1) / 2 + shift * side - turn @ middle
    matrix = np.column_stack([turn, offset])
    seen = cv2.warpAffine(image, matrix, (side, side), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    seen = _coloured(seen, random)
    if random.random() < _BLURRED:
        seen = cv2.GaussianBlur(seen, (0, 0), random.uniform(0.3, _BLUR))
    if random.random() < _NOISY:
        noise = random.normal(0, random.uniform(1, _NOISE), seen.shape)
        seen = np.clip(seen + noise, 0, 255).astype(np.uint8)
    if random.random() < _COMPRESSED:
        quality = [cv2.IMWRITE_JPEG_QUALITY, int(random.integers(*_QUALITY))]
        # JPEG is coarser in colour than in brightness, so the order of the channels matters to it.
        coded = cv2.imencode(".jpg", cv2.cvtColor(seen, cv2.COLOR_RGB2BGR), quality)[1]
        decoded = cv2.imdecode(coded, cv2.IMREAD_COLOR)
        assert decoded is not None, "what was coded just now"
        seen = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB)
    return np.asarray(seen)


def _coloured(image: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Contrast and saturation about the image's mean colour, gains, and a shift of all of it."""
    contrast, saturation = np.exp(random.uniform(-1, 1, 2) * (_CONTRAST, _SATURATION))
    gains = 1 + random.uniform(-_GAIN, _GAIN, 3)
    shift = random.uniform(-_BRIGHTNESS, _BRIGHTNESS) + random.uniform(-_TINT, _TINT, 3)
    mixing = contrast * (saturation * np.eye(3) + (1 - saturation) * _LUMA[None, :])
    mean = image.mean(axis=(0, 1))
    # About the mean the mixing changes the spread only; gains then move the mean as well.
    offset = gains * (mean - mixing @ mean) + shift
    return np.asarray(cv2.transform(image, np.column_stack([gains[:, None] * mixing, offset])))
