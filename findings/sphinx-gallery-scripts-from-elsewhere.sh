#!/usr/bin/env bash
# sphinx-gallery 0.22.1: by default it writes a page of computation times that loads scripts and styles from other sites,
# so that a documentation built without network is not one that is read without network.
# Our way round it: `write_computation_times` is False in docs/conf.py.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sphinx==9.0.4 sphinx-gallery==0.22.1 matplotlib==3.11.2 pillow==13.0.0
mkdir -p "$folder/docs/examples"
printf 'Gallery\n=======\n' > "$folder/docs/examples/GALLERY_HEADER.rst"
printf '"""\nOne\n===\n"""\nprint(1)\n' > "$folder/docs/examples/one.py"
printf 'Index\n=====\n\n.. toctree::\n\n   gallery/index\n' > "$folder/docs/index.rst"
cat > "$folder/docs/conf.py" <<'PY'
extensions = ["sphinx_gallery.gen_gallery"]
exclude_patterns = ["examples"]
sphinx_gallery_conf = {"examples_dirs": "examples", "gallery_dirs": "gallery", "filename_pattern": r"\.py"}
PY
"$folder/venv/bin/python" -m sphinx -q -b html "$folder/docs" "$folder/html"
"$folder/venv/bin/python" - "$folder/html" <<'PY'
import pathlib, re, sys
import sphinx_gallery

print("version", sphinx_gallery.__version__)
seen = sorted(
    {
        f"{page.name}: {address.split('/')[2]}"
        for page in pathlib.Path(sys.argv[1]).rglob("*.html")
        for address in re.findall(r'<script src="(https?://[^"]+)"', page.read_text())
    }
)
print("expected: no script of another site; seen:", seen or "none")
raise SystemExit(0 if seen else 1)
PY
