"""What is dear to make is made once for all workers of a run."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def shared_folder(tmp_path_factory: pytest.TempPathFactory, name: str) -> Path:
    """A folder of this run that all its workers see; it may not be there yet."""
    base = tmp_path_factory.getbasetemp()
    worker = base.name.startswith("popen-")
    return (base.parent if worker else base) / f"shared-{name}"


def made_once(tmp_path_factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A folder that the first worker of this run fills by ``make``; the others wait for it. Nobody changes it."""
    folder = shared_folder(tmp_path_factory, name)
    with FileLock(folder.with_suffix(".lock")):
        if not (folder / "made").exists():
            folder.mkdir(exist_ok=True)
            make(folder)
            (folder / "made").touch()
    return folder


def needs(package: str) -> pytest.MarkDecorator:
    """Skip tests where a package is not installed; it is not imported before the first of them runs."""
    return pytest.mark.skipif(importlib.util.find_spec(package) is None, reason=f"{package} is not installed")
