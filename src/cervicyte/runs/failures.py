"""What a run could not use: its file and its lines in the report."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cervicyte.base.files import write_json


def write_failed(folder: Path, failed: Mapping[str, str]) -> None:
    """Write failed.json, or remove the one of an earlier run where nothing failed now."""
    write_or_remove(folder / "failed.json", failed)


def failed_notes(failed: Mapping[str, str]) -> list[str]:
    """Name the cells that were not used, with their reasons, for the report."""
    return [f"Not used: {path}: {reason}" for path, reason in failed.items()]


def write_or_remove(path: Path, contents: Mapping[str, Any]) -> None:
    """Write a JSON file, or remove the one of an earlier run where there is nothing to say."""
    if contents:
        write_json(path, contents)
    else:
        path.unlink(missing_ok=True)
