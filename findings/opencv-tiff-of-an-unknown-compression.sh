#!/usr/bin/env bash
# OpenCV 5.0.0.93: a TIFF of 8 bits in a compression that it was built without (JPEG 2000, JPEG XL) is read as an image of
# zeros, with a line on stderr and no error; with 16 bits the same file gives None.
# Our way round it: compressions are accepted by number, and a TIFF of one value everywhere is refused.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet opencv-python-headless==5.0.0.93 tifffile==2026.3.3 imagecodecs==2026.3.6 \
  numpy==2.4.6
"$folder/venv/bin/python" - <<'PY' 2> "$folder/stderr"
import io

import cv2
import numpy as np
import tifffile

print("version", cv2.__version__)
y, x = np.mgrid[:48, :64]
seen = {}
for compression in ("jpeg2000", "jpegxl"):
    for bits, scale in ((8, 1), (16, 257)):
        pixels = np.stack([x * 3 + 9, y * 4 + 9, x + y + 9], axis=-1).astype(f"u{bits // 8}") * scale
        stream = io.BytesIO()
        tifffile.imwrite(stream, pixels, photometric="rgb", compression=compression)
        assert np.array_equal(tifffile.imread(io.BytesIO(stream.getvalue())), pixels) or compression == "jpegxl"
        image = cv2.imdecode(np.frombuffer(stream.getvalue(), np.uint8), cv2.IMREAD_UNCHANGED)
        seen[compression, bits] = "none" if image is None else "zeros" if not image.any() else "pixels"
print("expected: pixels or none; seen:", seen)
raise SystemExit(0 if seen == {(c, b): "zeros" if b == 8 else "none" for c, b in seen} else 1)
PY
