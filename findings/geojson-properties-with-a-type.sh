#!/usr/bin/env bash
# geojson 3.3.0: `loads` takes any object within "properties" for GeoJSON when it has a key "type" of such a name, and
# adds members to it. An annotation tool's {"type": "Point", "name": "HSIL"} comes back with "coordinates": [], and a
# {"type": "Feature"} with "geometry" and "properties". RFC 7946 (section 3.2) leaves properties to the application.
# Our way round it: the reader of outlines parses with the standard library's json.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet geojson==3.3.0
"$folder/venv/bin/python" - <<'PY'
import json

import geojson

print("version", geojson.__version__)
properties = {"tool": {"type": "Point", "name": "brush"}, "parent": {"type": "Feature", "name": "region 1"}}
feature = {"type": "Feature", "geometry": {"type": "Point", "coordinates": [12, 7]}, "properties": properties}
seen = json.loads(geojson.dumps(geojson.loads(json.dumps(feature))))["properties"]
print("expected:", properties)
print("seen:    ", seen)
changed = {
    "tool": {"type": "Point", "name": "brush", "coordinates": []},
    "parent": {"type": "Feature", "name": "region 1", "geometry": None, "properties": {}},
}
raise SystemExit(0 if seen == changed else 1)
PY
