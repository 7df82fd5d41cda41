"""Is this installation whole? Rows of (status, name, message, fix)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass

from cervicyte import settings
from cervicyte.errors import CervicyteError

#: Package, what it is for, and how to get it; those of the core first.
_PACKAGES: tuple[tuple[str, str, str], ...] = (
    ("openvino", "fast inference", "pip install cervicyte"),
    ("onnxruntime", "inference without OpenVINO", "pip install cervicyte"),
    ("scikit-learn", "training heads", "pip install cervicyte"),
    ("opencv-python-headless", "filters and resizing", "pip install cervicyte"),
    ("scikit-image", "morphology", "pip install cervicyte"),
    ("onnx", "writing bundles", "pip install cervicyte"),
    ("pandas", "tables", "pip install cervicyte"),
    ("pyarrow", "Parquet", "pip install cervicyte"),
    ("matplotlib", "figures", "pip install cervicyte"),
)
_TRAIN: tuple[tuple[str, str, str], ...] = (
    ("torch", "exporting and fine-tuning pretrained networks", "pip install cervicyte[train]"),
    ("keras", "exporting and fine-tuning pretrained networks", "pip install cervicyte[train]"),
)


@dataclass(frozen=True)
class Row:
    """One thing looked at: OK, NOTE (works without it) or FAIL, and how to mend it."""

    status: str
    name: str
    message: str
    fix: str = ""


def check() -> Iterator[Row]:
    """Look at Python, packages, processor, cache folder, settings and pretrained weights."""
    yield Row("OK", "python", f"{platform.python_version()} on {platform.machine()}")
    for package, purpose, fix in _PACKAGES:
        yield _package(package, purpose, fix, "FAIL")
    for package, purpose, fix in _TRAIN:
        yield _package(package, purpose, fix, "NOTE")
    yield _precision()
    yield _integers()
    yield _cache()
    yield from _settings()
    yield from _weights()


def _package(name: str, purpose: str, fix: str, status: str) -> Row:
    try:
        return Row("OK", name, f"{importlib.metadata.version(name)} ({purpose})")
    except importlib.metadata.PackageNotFoundError:
        return Row(status, name, f"not installed ({purpose})", fix)


def _precision() -> Row:
    from cervicyte.networks import runtime

    fast = "bfloat16" if runtime.has_bfloat16() else "float32 (no bfloat16 on this processor)"
    try:
        return Row("OK", "engine", f"{settings.get_str('engine')}, {fast}")
    except CervicyteError as error:
        return Row("FAIL", "engine", error.what, error.todo or "")


def _integers() -> Row:
    from cervicyte.networks import quantisation

    cut = quantisation.saturates()
    if cut is None:
        return Row("OK", "8-bit graphs", "not known whether this processor cuts their sums; those of 7 bits are safe")
    if cut:
        return Row(
            "NOTE",
            "8-bit graphs",
            "this processor (AVX2 without VNNI) cuts sums of 8-bit products to 16 bits: graphs whose weights have 8 "
            "bits answer otherwise; cytonet-int8 and what compress makes have 7 bits and are not affected",
            "compress bundles of earlier versions again",
        )
    return Row("OK", "8-bit graphs", "this processor computes them exactly")


def _cache() -> Row:
    folder = settings.get_path("cache_dir")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Row("FAIL", "cache", f"{folder}: {error.strerror}", "set CERVICYTE_CACHE_DIR to a folder you may write")
    free = shutil.disk_usage(folder).free / 1e9
    status = "OK" if free > 2 else "NOTE"
    return Row(status, "cache", f"{folder}, {free:.1f} GB free", "" if free > 2 else "free some space")


def _settings() -> Iterator[Row]:
    for row in settings.SETTINGS:
        try:
            settings.get(row.name)
        except CervicyteError as error:
            yield Row("FAIL", row.variable, error.one_line, row.help)


def _weights() -> Iterator[Row]:
    from cervicyte.networks import registry

    for backbone in registry.BACKBONES:
        if backbone.kind != "keras":
            continue
        name, todo = (
            f"weights {backbone.name}",
            f"put {backbone.weights_file} into a folder, set CERVICYTE_WEIGHTS to it",
        )
        try:
            path = registry.weights_path(backbone)
        except CervicyteError as error:
            yield Row("NOTE", name, "not at hand", error.todo or todo)
            continue
        yield Row("OK", name, str(path)) if path.is_file() else Row("NOTE", name, "not at hand", todo)
