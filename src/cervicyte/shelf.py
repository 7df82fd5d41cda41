"""Where fine-tuning keeps its large working files: a folder bounded in size; what was used longest ago goes first."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cervicyte import settings
from cervicyte.errors import StorageError


def folder() -> Path:
    """The folder; it need not be there yet."""
    return settings.get_path("cache_dir") / "finetuning"


def make_room(wanted: int) -> None:
    """Delete the files that were used longest ago until ``wanted`` bytes more fit into CERVICYTE_CACHE_GB.

    A file that a process has open stays readable for it.

    Raises
    ------
    StorageError : more is wanted than the bound allows at all
    """
    bound = settings.get_int("cache_gb") * 10**9
    if wanted > bound:
        raise StorageError(
            f"fine-tuning needs {wanted / 1e9:.1f} GB for its working files",
            f"CERVICYTE_CACHE_GB={bound // 10**9}",
            "raise CERVICYTE_CACHE_GB, or lower variants or size in the recipe",
        )
    held = []
    for path in folder().rglob("*"):
        with contextlib.suppress(FileNotFoundError):  # another process was quicker
            if path.is_file():
                status = path.stat()
                held.append((status.st_mtime, status.st_size, path))
    total = sum(size for _, size, _ in held)
    for _, size, path in sorted(held):
        if total + wanted <= bound:
            return
        with contextlib.suppress(FileNotFoundError, PermissionError):
            path.unlink()
            total -= size


def used(path: Path) -> None:
    """Note that a file was used now."""
    with contextlib.suppress(OSError):
        os.utime(path)
