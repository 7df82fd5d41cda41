#!/usr/bin/env bash
# Pillow 13.0.0: an uncompressed TIFF whose 16-bit colour planes lie one after the other (PlanarConfiguration 2) is read
# without an error and with wrong pixels; the same planes with Deflate, or with 8 bits, are right.
# Our way round it: each plane is read by itself.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0 tifffile==2026.3.3 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import io

import numpy as np
import PIL
import tifffile
from PIL import Image

print("version", PIL.__version__)
y, x = np.mgrid[:48, :64]
pixels = np.stack([x * 3, y * 4, x + y], axis=-1).astype(np.uint8)
seen = {}
for bits, scale in ((8, 1), (16, 257)):
    for compression in (None, "zlib"):
        stream = io.BytesIO()
        planes = np.ascontiguousarray(np.moveaxis(pixels.astype(f"u{bits // 8}") * scale, 2, 0))
        tifffile.imwrite(stream, planes, photometric="rgb", planarconfig="separate", compression=compression)
        seen[bits, compression] = np.array_equal(np.asarray(Image.open(stream).convert("RGB")), pixels)
print("expected: right four times, or an error; seen:", {case: "right" if v else "wrong" for case, v in seen.items()})
raise SystemExit(0 if seen == {(8, None): True, (8, "zlib"): True, (16, None): False, (16, "zlib"): True} else 1)
PY
