"""Writing an audit down: a table, JSON, and a page on which every finding can be seen."""

from __future__ import annotations

import base64
import csv
import io
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from cervicyte.audit.checks import SEVERITIES, Audit, Finding
from cervicyte.base.files import atomic_write, write_json
from cervicyte.data.cells import CellTable
from cervicyte.errors import ImageError
from cervicyte.images import decoding

#: Examples shown of each finding, and the side of an image on the page.
_SHOWN = 12
_SIDE = 132

_COLUMNS = ("check", "severity", "example", "row", "path", "box", "label", "group")


def write_audit(audit: Audit, cells: CellTable, folder: Path | str) -> None:
    """Write ``findings.csv``, ``audit.json`` and ``audit.html`` into a folder.

    The table has one line for each row concerned (the lines of a pair share the number of their
    example); the JSON has no NaN; the page holds its images and needs nothing else.

    Raises
    ------
    StorageError : the folder cannot be written
    """
    folder = Path(folder)
    _write_table(audit, cells, folder / "findings.csv")
    write_json(folder / "audit.json", to_json(audit, cells))
    with atomic_write(folder / "audit.html") as stream:
        stream.write(page(audit, cells))


def to_json(audit: Audit, cells: CellTable) -> dict[str, Any]:
    """The audit in plain values; what is not a finite number becomes null."""
    value = {
        "name": audit.name,
        "n": audit.n,
        "worst": audit.worst,
        "findings": [asdict(f) for f in audit.findings],
        "pairs": [asdict(p) for p in audit.pairs],
        "probes": [asdict(p) for p in audit.probes],
        "paths": cells.paths,
    }
    return {name: _finite(part) for name, part in value.items()}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None
    return int(value) if isinstance(value, np.integer) else value


def _write_table(audit: Audit, cells: CellTable, path: Path) -> None:
    with atomic_write(path) as stream:
        writer = csv.writer(stream)
        writer.writerow(_COLUMNS)
        for finding in audit.findings:
            if not finding.examples:
                writer.writerow([finding.check, finding.severity, *[""] * 6])
            for number, rows in enumerate(finding.examples, start=1):
                for row in rows:
                    cell = cells.cells[row]
                    box = "" if cell.box is None else " ".join(map(str, cell.box))
                    where = (row, cell.path, box, cell.label, cell.group)
                    writer.writerow([finding.check, finding.severity, number, *where])


def page(audit: Audit, cells: CellTable) -> str:
    """The audit as one self-contained HTML page."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    findings = [
        {
            "check": f.check,
            "severity": f.severity,
            "count": f.count,
            "message": f.message,
            "shown": [_example(cells, rows) for rows in f.examples[:_SHOWN]],
            "more": max(0, len(f.examples) - _SHOWN),
            "notes": _notes(f),
        }
        for f in audit.findings
    ]
    return environment.get_template("page.html").render(
        name=audit.name,
        n=audit.n,
        groups=len(set(cells.groups)) if cells.grouped else None,
        counts=[(label, *numbers) for label, numbers in cells.counts().items() if numbers[0]],
        tally=[(s, sum(f.severity == s for f in audit.findings), SEVERITIES[s]) for s in reversed(SEVERITIES)],
        findings=findings,
        probes=_probe_table(audit),
    )


def _example(cells: CellTable, rows: Iterable[int]) -> list[dict[str, str]]:
    return [
        {
            "image": _image(cells, row),
            "name": Path(cells.cells[row].path).name,
            "label": cells.cells[row].label,
            "group": cells.cells[row].group,
        }
        for row in rows
    ]


def _image(cells: CellTable, row: int) -> str:
    """A small JPEG as a data URI, or nothing where there is no image."""
    from PIL import Image

    cell = cells.cells[row]
    try:
        image = decoding.load(cell.path, cell.box)
    except ImageError:
        return ""
    buffer = io.BytesIO()
    Image.fromarray(decoding.resize(image, _SIDE, "pad")).save(buffer, "JPEG", quality=82)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()


def _notes(finding: Finding) -> list[str]:
    reasons = finding.details.get("reasons", {})
    lines = list(reasons.values())[:_SHOWN]
    for row in finding.details.get("targets", []):
        low, high = row["ci95"]
        lines.append(f"{row['target']}: AUROC {row['auroc']:.2f} ({low:.2f} to {high:.2f})")
    return lines


def _probe_table(audit: Audit) -> dict[str, Any]:
    """Targets down, families across: AUROC, interval and how far from chance the lower end is (0..1)."""
    families = list(dict.fromkeys(p.family for p in audit.probes))
    targets = list(dict.fromkeys(p.target for p in audit.probes))
    cell = {(p.target, p.family): p for p in audit.probes}
    rows = []
    for target in targets:
        in_order = [cell.get((target, family)) for family in families]
        rows.append((target, [None if p is None else (p, max(0.0, min(1.0, 2 * p.low - 1))) for p in in_order]))
    return {"families": families, "rows": rows}
