"""Which software is at work: this package and those that a result depends on, as their metadata say."""

from __future__ import annotations

import importlib.metadata

#: The names under which OpenCV is distributed; the first is the one that we ask for.
_OPENCV = ("opencv-python-headless", "opencv-python", "opencv-contrib-python-headless", "opencv-contrib-python")


def version_of(package: str) -> str | None:
    """Look up an installed package's version, without importing it; None where it is not installed.

    >>> version_of("no-such-package") is None
    True
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def opencv_version() -> str | None:
    """Look up the version of OpenCV, under whichever of its names it is installed; None where it is not.

    Versions differ in pixels: 5.0.0 and 4.14.0 by up to 6 levels where noise is turned, so caches name it.
    """
    versions = {name: version_of(name) for name in _OPENCV}
    installed = [f"{name} {version}" for name, version in versions.items() if version]
    if len(installed) == 1 and versions[_OPENCV[0]]:
        return versions[_OPENCV[0]]  # as it was named before the other names were looked for
    return ", ".join(installed) or None


def own_version() -> str:
    """Look up the version of cervicyte; "0+unknown" where it runs from a folder that was never installed."""
    return version_of("cervicyte") or "0+unknown"
