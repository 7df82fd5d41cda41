#!/usr/bin/env bash
# Pillow 13.0.0: an image that was once saved as JPEG cannot be a later page of a TIFF: saving raises TypeError, since
# what the JPEG encoder was told stays on the image. The same image as the first page, or a copy, can be saved.
# Our way round it: none needed; a test that writes pages makes each image anew.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pillow==13.0.0
"$folder/venv/bin/python" - <<'PY'
import io

import PIL
from PIL import Image

print("version", PIL.__version__)
first, second = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")


def pages(a, b):
    try:
        a.save(io.BytesIO(), "TIFF", save_all=True, append_images=[b])
    except TypeError as error:
        return f"TypeError: {error}"
    return "saved"


seen = [pages(first, second)]
second.save(io.BytesIO(), "JPEG")
seen += [pages(first, second), pages(first, second.copy())]
print("expected: saved three times; seen:", seen)
raise SystemExit(0 if [text.split(":")[0] for text in seen] == ["saved", "TypeError", "saved"] else 1)
PY
