#!/usr/bin/env bash
# Sphinx 9.0.4, sphinx.ext.napoleon: what stands before a colon in the first line of a property's docstring is shown as
# its type, although the property has a return annotation and the colon belongs to a sentence.
# Our way round it: docs/reference.py puts an empty line before the docstring of a property.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet sphinx==9.0.4
mkdir "$folder/docs"
cat > "$folder/docs/thing.py" <<'PY'
class Thing:
    """A thing."""

    @property
    def name(self) -> str:
        """What it is called in lists: never empty."""
        return "thing"
PY
printf 'Index\n=====\n\n.. autoclass:: thing.Thing\n   :members:\n' > "$folder/docs/index.rst"
cat > "$folder/docs/conf.py" <<'PY'
import sys, pathlib
sys.path.insert(0, str(pathlib.Path(__file__).parent))
extensions = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
PY
"$folder/venv/bin/python" -m sphinx -q -b text "$folder/docs" "$folder/text"
"$folder/venv/bin/python" - "$folder/text/index.txt" <<'PY'
import pathlib, sys
import sphinx

print("version", sphinx.__version__)
text = " ".join(pathlib.Path(sys.argv[1]).read_text().split())
print("expected: the sentence as it is; seen:", text)
raise SystemExit(0 if "What it is called in lists: never empty" not in text else 1)
PY
