#!/usr/bin/env bash
# Pillow 13.0.0: a palette TIFF whose colour map holds 0 to 255, as old programs wrote it, is black; OpenCV 5.0.0.93 and
# every other reader upon libtiff look at the largest value and read the colours.
# Our way round it: the map is read by the same rule.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 opencv-python-headless==5.0.0.93 tifffile==2026.3.3 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import io

import cv2
import numpy as np
import PIL
import tifffile
from PIL import Image

print("version", PIL.__version__, cv2.__version__)
colours = np.zeros((3, 256), np.uint16)
colours[:, :2] = [[226, 84], [222, 60], [230, 128]]
index = np.eye(8, dtype=np.uint8)
expected = colours.T[index].astype(np.uint8)
seen = {}
for scale in (257, 1):
    stream = io.BytesIO()
    tifffile.imwrite(stream, index, photometric="palette", colormap=colours * scale)
    by_opencv = cv2.imdecode(np.frombuffer(stream.getvalue(), np.uint8), cv2.IMREAD_COLOR_RGB)
    by_pillow = np.asarray(Image.open(stream).convert("RGB"))
    seen[scale] = [bool(np.array_equal(image, expected)) for image in (by_pillow, by_opencv)]
print("expected: both right for both maps; seen (Pillow, OpenCV):", seen)
raise SystemExit(0 if seen == {257: [True, True], 1: [False, True]} else 1)
PY
