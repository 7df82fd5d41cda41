"""PNG files beyond what Pillow gives: their chunks, and 16-bit samples (ISO/IEC 15948)."""

from __future__ import annotations

import numpy as np

from cervicyte.images.colour import Raster


def chunk(data: bytes, kind: bytes) -> bytes:
    """Return the content of the first chunk of a kind; empty where there is none."""
    at = 8
    while at + 8 <= len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == kind:
            return data[at + 8 : at + 8 + length]
        at += 12 + length
    return b""


def deep(data: bytes, orientation: int, profile: bytes) -> Raster:
    """Read the samples of a 16-bit PNG, of which Pillow gives only the upper 8 bits where they are colours.

    Raises
    ------
    ValueError : OpenCV does not read it
    """
    import cv2

    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16:
        raise ValueError("OpenCV does not read it")
    values = np.atleast_3d(values)
    key = chunk(data, b"tRNS")
    if values.shape[2] == 1 and len(key) == 2:  # the grey that is transparent, which OpenCV leaves opaque
        values = np.dstack([values, np.where(values == int.from_bytes(key, "big"), 0, 65535).astype(np.uint16)])
    elif values.shape[2] > 2:
        values = values[..., [2, 1, 0, 3][: values.shape[2]]]
    bits = chunk(data, b"sBIT")
    return Raster(
        values=values,
        most=65535,
        stated_bits=max(bits) if bits else None,
        alpha="straight" if values.shape[2] in (2, 4) else "",
        profile=profile,
        orientation=orientation,
    )
