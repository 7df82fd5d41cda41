"""Documents say what is there: rooms, arrows between them, names of modules, files and commands."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from support.paths import ROOT

DOCUMENTS = [
    path
    for pattern in (
        "*.md",
        "docs/*.md",
        "docs/*/*.md",
        "benchmarks/*.md",
        "experiments/*.md",
        "findings/*.md",
        "changes/*.md",
        "requirements/*.md",
    )
    for path in sorted(ROOT.glob(pattern))
]
SCRIPTS = [
    path
    for folder in ("benchmarks", "experiments", "tools", "docs", "docs/examples")
    for path in sorted((ROOT / folder).glob("*.py"))
]
FILE = re.compile(r"\b(?:src|docs|tests|benchmarks|experiments|tools|deploy|findings)/[\w/.-]+\.[a-z]{2,4}\b")
WRITTEN_BY_THE_BUILD = ("gallery/", "reference/")
BUILT = "docs/_build/"  # by `make docs`
DOTTED = re.compile(r"`(cervicyte(?!\.(?:env|service)\b)(?:\.\w+)+)[`(]")


def _resolve(name: str) -> object:
    """The module or attribute of this dotted name; raises AttributeError or ModuleNotFoundError where it is none."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            value = getattr(value, part)
        return value
    raise ModuleNotFoundError(name)


def _rooms() -> list[str]:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    rooms = []
    for contract in contracts:
        if contract["type"] == "layers":
            inside = contract["containers"][0].removeprefix("cervicyte").removeprefix(".")
            names = [room.strip() for layer in contract["layers"] for room in layer.split("|")]
            rooms += [f"{inside}.{name}".lstrip(".") for name in names]
    return rooms


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_scripts_import_of_the_package_is_there(script: Path) -> None:
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "cervicyte":
            for alias in node.names:
                _resolve(f"{node.module}.{alias.name}")


def test_the_picture_of_the_floors_shows_the_imports_of_today() -> None:
    script = ROOT / "tools" / "draw_floors.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_architecture_says_what_each_room_holds() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    assert [room for room in _rooms() if f"`{room}`" not in text] == []


def test_names_of_modules_in_the_architecture_are_those_of_the_package() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    rooms = "|".join(sorted({room.split(".")[0] for room in _rooms()}))
    names = set(re.findall(rf"`((?:{rooms})(?:\.\w+)+)`", text))
    assert len(names) > 30
    for name in sorted(names):
        _resolve(f"cervicyte.{name}")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_dotted_names_in_documents_exist(document: Path) -> None:
    text = document.read_text()
    names = [name for name in FILE.findall(text) if "NAME" not in name and not name.startswith(BUILT)]
    assert [name for name in names if not (ROOT / name).exists()] == []
    for name in DOTTED.findall(text):
        _resolve(name)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(document: Path) -> None:
    links = re.findall(r"\]\((?!https?:|mailto:|#)([^)#\s]+)", document.read_text())
    own = [link for link in links if not link.startswith(WRITTEN_BY_THE_BUILD)]
    assert [link for link in own if not (document.parent / link).exists()] == []
