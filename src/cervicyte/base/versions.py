"""Which software is at work: this package and those that a result depends on, as their metadata say."""

from __future__ import annotations

import importlib.metadata


def version_of(package: str) -> str | None:
    """Look up an installed package's version, without importing it; None where it is not installed.

    >>> version_of("no-such-package") is None
    True
    """
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def own_version() -> str:
    """Look up the version of cervicyte; "0+unknown" where it runs from a folder that was never installed."""
    return version_of("cervicyte") or "0+unknown"
