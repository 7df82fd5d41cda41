#!/usr/bin/env bash
# shapely 2.2.0: `to_geojson` writes a coordinate that is NaN as null, which is no GeoJSON (RFC 7946, section 3.1.1: a
# position is an array of numbers), and which its own `from_geojson` refuses. `to_wkt` and `to_wkb` of the same geometry
# are read back. A point without a place, as of an annotation whose x was left empty, makes a whole file unreadable.
# Our way round it: outlines are parsed with the standard library's json, and one without finite coordinates is counted.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet shapely==2.2.0 numpy==2.4.6
"$folder/venv/bin/python" - <<'PY'
import shapely

print("version", shapely.__version__, "GEOS", shapely.geos_version_string)
points = shapely.MultiPoint([shapely.Point(10, 20), shapely.Point(float("nan"), 5)])
text = shapely.to_geojson(points)
print("expected: numbers, or an error; seen:", text)
try:
    read = shapely.from_geojson(text)
except shapely.errors.GEOSException as error:
    read = None
    print("read back:", str(error)[:90])
well_known = shapely.from_wkt(shapely.to_wkt(points))
print("through WKT:", well_known)
raise SystemExit(0 if "null" in text and read is None and len(well_known.geoms) == 2 else 1)
PY
