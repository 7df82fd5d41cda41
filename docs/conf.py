"""How the documentation is built: Sphinx with our Markdown pages, docstrings and executed examples; nothing is fetched.

Run: make docs. The pages in docs/ are used as they are; those of the repository's root are included, and links among
them are led to their pages. The reference is written from each room's public names (`reference.py`).
"""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

from sphinx.application import Sphinx

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
sys.path[:0] = [str(HERE), str(ROOT / "src")]

import reference  # noqa: E402

from cervicyte import __version__  # noqa: E402

project = "cervicyte"
author = "The cervicyte developers"
project_copyright = author
release = version = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build", "examples", "**/GALLERY_HEADER.rst"]
default_role = "literal"
suppress_warnings: list[str] = []

html_theme = "furo"
html_title = "cervicyte"
html_show_sourcelink = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["tables.css"]

myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence"]

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py",
    "within_subsection_order": "FileNameSortKey",
    "download_all_examples": False,
    "show_memory": False,
    "remove_config_comments": True,
    # A test builds all pages without running the examples.
    "plot_gallery": os.environ.get("CERVICYTE_DOCS_EXAMPLES") != "off",
    "abort_on_example_error": True,
    "show_signature": False,
    "write_computation_times": False,  # its page would fetch scripts
}

#: Pages that include a document from elsewhere in the repository.
PAGES = {
    "CONTRIBUTING.md": "/project/contributing.md",
    "SECURITY.md": "/project/security.md",
    "CHANGELOG.md": "/project/changelog.md",
    "benchmarks/README.md": "/project/benchmarks.md",
    "experiments/README.md": "/project/experiments.md",
    "findings/README.md": "/project/findings.md",
    "requirements/README.md": "/project/requirements.md",
    "src/cervicyte/shipped/cytonet/MODEL_CARD.md": "/project/model-card-of-the-bundle.md",
}


def lead_links(text: str, document: Path) -> str:
    """Lead the links of a document of the repository to the pages of the site that show their targets."""

    def lead(match: re.Match[str]) -> str:
        target, anchor = match[1], match[2] or ""
        path = (document.parent / target).resolve()
        if not path.is_relative_to(ROOT):
            return match[0]
        inside = path.relative_to(ROOT).as_posix()
        if inside in PAGES:
            return f"]({PAGES[inside]}{anchor})"
        if inside.startswith("docs/") and document.parent != HERE:
            return f"](/{inside.removeprefix('docs/')}{anchor})"
        return match[0]

    return re.sub(r"\]\((?![a-z]+:|/|#)([^)#\s]+)(#[^)\s]*)?\)", lead, text)


def _source_read(app: Sphinx, docname: str, source: list[str]) -> None:
    document = Path(app.srcdir) / f"{docname}.md"
    if document.exists():
        source[0] = lead_links(source[0], document)


def _include_read(app: Sphinx, relative_path: Path, parent_docname: str, source: list[str]) -> None:
    source[0] = lead_links(source[0], (HERE / relative_path).resolve())


def setup(app: Sphinx) -> None:
    """Connect the links, the reference and the form of our docstrings."""
    app.connect("builder-inited", lambda app: reference.write_pages(Path(app.srcdir) / "reference"))
    app.connect("source-read", _source_read)
    app.connect("include-read", _include_read)
    # Before napoleon, which takes what stands after a colon for a type.
    app.connect("autodoc-process-docstring", reference.turn_descriptions, priority=400)
