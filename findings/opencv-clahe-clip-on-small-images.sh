#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93: CLAHE's clipLimit does nothing on small images, and an even grey 128 becomes 230.
# The limit is int(clipLimit * pixels of a tile / 256), at least 1: with the default 8 x 8 tiles it is 1 for any
# clipLimit below 3.6 on an image of 90 x 90. The documentation names no such bound.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check opencv-python-headless==5.0.0.93
"$folder/venv/bin/python" - <<'PY'
import cv2
import numpy as np
print("opencv", cv2.__version__)
image = np.random.default_rng(0).integers(60, 160, (90, 90), dtype=np.uint8)
results = [cv2.createCLAHE(clip, (8, 8)).apply(image) for clip in (0.5, 1.0, 2.0, 3.5)]
same = all((result == results[0]).all() for result in results)
grey = {side: int(cv2.createCLAHE(2.0, (8, 8)).apply(np.full((side, side), 128, np.uint8)).max()) for side in (90, 512)}
print("expected: four results that differ, and 128 stays near 128; seen: all four the same:", same, "and 128 becomes", grey)
raise SystemExit(0 if same and grey == {90: 230, 512: 130} else 1)
PY
