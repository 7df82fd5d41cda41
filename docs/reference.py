"""Write the reference of the Python API: one page a room, from the public names of its ``__init__.pyi``."""

from __future__ import annotations

import ast
import importlib
import itertools
import re
from collections.abc import Collection
from pathlib import Path
from types import ModuleType
from typing import Any

from sphinx.pycode import ModuleAnalyzer

SOURCE = Path(__file__).resolve().parents[1] / "src" / "cervicyte"

#: Sections of a docstring whose entries are "name : description".
SECTIONS = ("Parameters", "Attributes", "Raises")

#: Sections that describe one thing, and the field that shows them.
FIELDS = {"Returns": "returns", "Yields": "yields"}


def write_pages(folder: Path) -> None:
    """Write ``index.rst`` and a page for the package and for each of its rooms; unchanged pages are left alone."""
    folder.mkdir(exist_ok=True)
    package = _names_of_the_package()
    pages = {"cervicyte": _page("cervicyte", package)}
    for stub in sorted(SOURCE.rglob("__init__.pyi")):
        room = ".".join(("cervicyte", *stub.parent.relative_to(SOURCE).parts))
        names = _names_of_a_stub(stub, room)
        if names:
            pages[room] = _page(room, names, package)
    readers = importlib.import_module("cervicyte.data.readers")
    pages["cervicyte.data.readers"] = _page(
        "cervicyte.data.readers", {name: readers.__name__ for name in readers.__all__}, package
    )
    pages["index"] = _index(sorted(pages))
    for name, text in pages.items():
        path = folder / f"{name}.rst"
        if not path.exists() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
    for path in folder.glob("*.rst"):
        if path.stem not in pages:
            path.unlink()


def turn_descriptions(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Turn "name : description" of our sections into numpydoc's "name" with the description below it.

    What a section Returns or Yields says is a description as well; its type stands in the annotation.
    """
    turned: list[str] = []
    section = ""
    for number, line in enumerate(lines):
        if re.fullmatch(r"-{3,}", line.strip()) and number:
            section = lines[number - 1].strip()
            if section in FIELDS:
                turned[-1:] = ["", "", f":{FIELDS[section]}:"]  # two empty lines end the section before
                continue
        elif number + 1 < len(lines) and re.fullmatch(r"-{3,}", lines[number + 1].strip()):
            section = ""
        entry = re.fullmatch(r"(\*{0,2}[\w.]+(?:, \*{0,2}[\w.]+)*) : (.+)", line)
        if section in FIELDS:
            turned.append(f"    {line}" if line.strip() else line)
        elif entry and section in SECTIONS:
            description = [f"    {entry[2]}", *itertools.takewhile(_continues, lines[number + 1 :])]
            for each in entry[1].split(", ")[:-1]:
                turned += [each, *description]
            turned += [entry[1].split(", ")[-1], description[0]]
        else:
            turned.append(line)
    # A property's first line may hold a colon, before which napoleon would again see a type.
    lines[:] = ["", *turned] if what == "property" else turned


def _continues(line: str) -> bool:
    return line.startswith("    ")


def _names_of_the_package() -> dict[str, str]:
    package = importlib.import_module("cervicyte")
    homes: dict[str, str] = package._HOMES
    return {name: f"cervicyte.{homes[name]}" for name in package.__all__ if name in homes}


def _names_of_a_stub(stub: Path, room: str) -> dict[str, str]:
    """Public names of a room and the module in which each is defined."""
    names = {}
    for statement in ast.parse(stub.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.ImportFrom) and statement.module:
            names |= {alias.asname or alias.name: f"{room}.{statement.module}" for alias in statement.names}
    return names


def _page(room: str, names: dict[str, str], elsewhere: Collection[str] = ()) -> str:
    """The page of a room; names that are public in the package itself are described there only."""
    module = importlib.import_module(room)
    title = f"``{room}``"
    text = [title, "=" * len(title), "", (module.__doc__ or "").split("\n\n")[0].strip(), ""]
    for name in sorted(names, key=lambda name: (not name[0].isupper() or name.isupper(), name.isupper(), name)):
        if name in elsewhere:
            text += [f"``{room}.{name}`` is :py:obj:`cervicyte.{name}`.", ""]
        else:
            text += _entry(room, name, importlib.import_module(names[name]))
    return "\n".join(text)


def _entry(room: str, name: str, home: ModuleType) -> list[str]:
    value = getattr(home, name)
    if isinstance(value, type):
        return [f".. autoclass:: {room}.{name}", "   :members:", ""]
    if callable(value) and hasattr(value, "__code__"):
        return [f".. autofunction:: {room}.{name}", ""]
    comments = ModuleAnalyzer.for_module(home.__name__).find_attr_docs()
    comment = " ".join(comments.get(("", name), ["A value."])).strip()
    return [f".. py:data:: {room}.{name}", "", f"   {comment}", ""]


def _index(pages: list[str]) -> str:
    text = """Python
======

The names of ``cervicyte`` itself are what most programs need. Each room has a few public names of its own; everything
else may change from one release to the next. The web application is used by its pages and its :doc:`API </api>`.

.. toctree::
   :maxdepth: 1

"""
    return text + "\n".join(f"   {page}" for page in pages) + "\n"
