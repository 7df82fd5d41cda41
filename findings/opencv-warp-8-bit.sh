#!/usr/bin/env bash
# opencv-python-headless 5.0.0.93 against 4.14.0.94: warpAffine and remap give other 8-bit values for the same call.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
for version in 4.14.0.94 5.0.0.93; do
  "$folder/venv/bin/pip" install --quiet --disable-pip-version-check "opencv-python-headless==$version"
  "$folder/venv/bin/python" - "$folder" <<'PY'
import sys
import cv2
import numpy as np
print("opencv", cv2.__version__)
random = np.random.default_rng(0)
image = random.integers(0, 256, (128, 128, 3), dtype=np.uint8)
matrix = cv2.getRotationMatrix2D((63.5, 63.5), 30, 1.1)
turned = cv2.warpAffine(image, matrix, (128, 128), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
y, x = np.mgrid[0:128, 0:128].astype(np.float32)
moved = cv2.remap(image, x + 0.37, y + 0.21, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
np.savez(f"{sys.argv[1]}/{cv2.__version__.split('.')[0]}.npz", turned=turned, moved=moved)
PY
done
"$folder/venv/bin/python" - "$folder" <<'PY'
import sys
import numpy as np
old, new = (np.load(f"{sys.argv[1]}/{major}.npz") for major in (4, 5))
seen = {n: (int(np.abs(old[n].astype(int) - new[n]).max()), float((old[n] != new[n]).mean())) for n in old.files}
print("expected: the same 8-bit values; seen: largest difference, share of values that differ:", seen)
raise SystemExit(0 if all(most > 0 for most, _ in seen.values()) else 1)
PY
