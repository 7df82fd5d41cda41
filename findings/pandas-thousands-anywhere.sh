#!/usr/bin/env bash
# pandas 3.1.1: `read_csv(thousands=...)` drops the mark wherever it stands, also where no thousands can be: with
# thousands="," a table with decimal commas is read as "1,5" = 15 and "2,50" = 250, with thousands="." a date 12.03.2026
# is the number 12032026. Documented is "Character acting as the thousands separator"; one would expect groups of three
# digits, and text where there are none. The Python engine and the C engine agree.
# Our way round it: our own reader of numbers asks for groups of three.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet pandas==3.1.1
"$folder/venv/bin/python" - <<'PY'
import io

import pandas

print("version", pandas.__version__)
seen = {}
for engine in ("c", "python"):
    for text, mark in (("1,5", ","), ("2,50", ","), ("12.03.2026", "."), ("1,2,3", ",")):
        table = pandas.read_csv(io.StringIO(f"x;y\n{text};0\n"), sep=";", thousands=mark, engine=engine)
        seen.setdefault(text, []).append(table.x.tolist()[0])
print("expected: text; seen:", seen)
expected = {"1,5": [15, 15], "2,50": [250, 250], "12.03.2026": [12032026, 12032026], "1,2,3": [123, 123]}
raise SystemExit(0 if seen == expected else 1)
PY
