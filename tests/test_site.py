"""The documentation builds without a warning and fetches nothing; `make docs` also runs the examples."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from support.paths import ROOT


def test_the_site_builds_without_a_warning_and_fetches_nothing(tmp_path: Path) -> None:
    site = tmp_path / "html"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-E", "-b", "html"]
    done = subprocess.run(
        [*command, "-d", str(tmp_path / "doctrees"), str(ROOT / "docs"), str(site)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "CERVICYTE_DOCS_EXAMPLES": "off"},
    )
    assert done.returncode == 0, done.stderr
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    fetched = re.compile(r'<(?:script|img|iframe)\b[^>]*\bsrc="(?:https?:)?//|<link\b[^>]*\bhref="(?:https?:)?//')
    assert [str(page.relative_to(site)) for page in pages if fetched.search(page.read_text(encoding="utf-8"))] == []
    reference = (site / "reference" / "cervicyte.html").read_text(encoding="utf-8")
    for name in ("Bundle", "CellTable", "CervicyteError", "Recipe", "evaluate", "load", "train"):
        assert f'id="cervicyte.{name}"' in reference, name
