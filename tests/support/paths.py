"""Where the repository, its tests and the real data beside it lie."""

from __future__ import annotations

from pathlib import Path

TESTS = Path(__file__).parents[1]
ROOT = TESTS.parent
#: Real cells and weights; tests that need them are skipped, loudly, where the folder is absent.
SHARED = ROOT.parent / "shared"
