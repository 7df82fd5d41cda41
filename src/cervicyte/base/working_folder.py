"""Folders bounded in size, from which what was used longest ago goes first; above all that of fine-tuning's files."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from cervicyte import settings
from cervicyte.base.progress import say
from cervicyte.errors import StorageError

#: Of fine-tuning's folder, what goes before all else: it takes minutes to compute anew, where a training takes hours.
ACTIVATIONS = "activations"


def folder() -> Path:
    """Where fine-tuning keeps its large working files; it need not be there yet."""
    return settings.get_path("cache_dir") / "finetuning"


def check(wanted: int) -> None:
    """Refuse work whose working files cannot lie side by side within CERVICYTE_CACHE_GB.

    Raises
    ------
    StorageError : more bytes are wanted than the bound allows at all
    """
    bound = settings.get_int("cache_gb") * 10**9
    if wanted > bound:
        raise StorageError(
            f"fine-tuning needs {wanted / 1e9:.1f} GB for its working files",
            f"CERVICYTE_CACHE_GB={bound // 10**9}",
            "raise CERVICYTE_CACHE_GB, or lower variants or size in the recipe",
        )


def make_room(wanted: int) -> None:
    """Delete files until ``wanted`` bytes more fit into CERVICYTE_CACHE_GB: activations first, then trainings.

    A file that a process has open stays readable for it.

    Raises
    ------
    StorageError : more is wanted than the bound allows at all
    """
    check(wanted)
    bound = settings.get_int("cache_gb") * 10**9
    held = left = size(folder())
    if left + wanted > bound:
        others = held - size(folder() / ACTIVATIONS)
        left = others + remove_oldest(folder() / ACTIVATIONS, bound - wanted - others)
    if left + wanted > bound:
        left = remove_oldest(folder(), bound - wanted)
    if left < held:
        say(f"made room: {(held - left) / 1e6:.0f} MB of earlier working files removed (CERVICYTE_CACHE_GB)")


def size(place: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(taken for _, taken, _ in _files(place))


def remove_oldest(place: Path, limit: int) -> int:
    """Delete the files used longest ago until the others take no more than ``limit`` bytes; return what is left."""
    oldest_first = sorted(_files(place))
    held = sum(taken for _, taken, _ in oldest_first)
    for _, taken, path in oldest_first:
        if held <= limit:
            break
        with contextlib.suppress(PermissionError):  # another process has it open, and the system minds
            path.unlink(missing_ok=True)
            held -= taken
    return held


def used(path: Path) -> None:
    """Note that a file was used now."""
    with contextlib.suppress(OSError):
        os.utime(path)


def _files(place: Path) -> list[tuple[float, int, Path]]:
    """Time of last use, size and path of every file, those of a killed process included."""
    files = []
    for path in place.rglob("*"):
        with contextlib.suppress(OSError):  # another process was quicker
            status = path.stat()
            if path.is_file():
                files.append((status.st_mtime, status.st_size, path))
    return files
