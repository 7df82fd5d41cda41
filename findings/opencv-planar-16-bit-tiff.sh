#!/usr/bin/env bash
# OpenCV 5.0.0.93: a TIFF whose 16-bit colour planes lie one after the other (PlanarConfiguration 2) is read without an
# error and with wrong pixels; the same planes with 8 bits are right. tifffile reads both.
# Our way round it: each plane is read by itself.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet opencv-python-headless==5.0.0.93 tifffile==2026.3.3 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import io

import cv2
import numpy as np
import tifffile

print("version", cv2.__version__)
y, x = np.mgrid[:48, :64]
seen = {}
for bits, scale in ((8, 1), (16, 257)):
    pixels = np.stack([x * 3, y * 4, x + y], axis=-1).astype(f"u{bits // 8}") * scale
    stream = io.BytesIO()
    planes = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
    tifffile.imwrite(stream, planes, photometric="rgb", planarconfig="separate")
    image = cv2.imdecode(np.frombuffer(stream.getvalue(), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(tifffile.imread(io.BytesIO(stream.getvalue())), planes)
    seen[bits] = image is not None and np.array_equal(image[..., ::-1], pixels)
print("expected: right twice, or no image; seen:", {bits: "right" if v else "wrong" for bits, v in seen.items()})
raise SystemExit(0 if seen == {8: True, 16: False} else 1)
PY
