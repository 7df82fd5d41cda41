"""The house rules: imports follow the table, nothing is undocumented, examples run, nothing is unpickled."""

from __future__ import annotations

import ast
import doctest
import importlib
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import cervicyte
from cervicyte import settings
from cervicyte.errors import EXIT_CODES, CervicyteError

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "cervicyte"
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(SOURCE)], "cervicyte."))


def _table() -> dict[str, set[str]]:
    text = (ROOT / "docs" / "architecture.md").read_text()
    block = text.split("```")[1]
    rows = {}
    for line in block.strip().splitlines():
        left, arrow, right = line.partition("<-")
        assert arrow, f"a row without <-: {line}"
        rows[left.split()[0]] = {name.strip() for name in right.split(",") if name.strip()}
    return rows


def _imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, anywhere in it, except for type checking only."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            node.body = []
    names = {m.removeprefix("cervicyte.") for m in MODULES}
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "cervicyte":
            base = node.module.removeprefix("cervicyte").removeprefix(".")
            for alias in node.names:
                full = f"{base}.{alias.name}".removeprefix(".")
                found.add(full if full in names else base)
        elif isinstance(node, ast.Import):
            found |= {a.name.removeprefix("cervicyte.") for a in node.names if a.name.startswith("cervicyte.")}
    return found - {""}


def test_every_module_has_a_row_and_imports_only_what_its_row_names() -> None:
    table = _table()
    order = list(table)
    for module in MODULES:
        name = module.removeprefix("cervicyte.")
        path = SOURCE / (name.replace(".", "/") + ".py")
        path = path if path.exists() else SOURCE / name.replace(".", "/") / "__init__.py"
        assert name in table, f"{name} has no row in docs/architecture.md"
        extra = _imports(path) - table[name]
        assert not extra, f"{name} imports {sorted(extra)}, which its row in docs/architecture.md does not name"
    for name, allowed in table.items():
        assert f"cervicyte.{name}" in MODULES, f"docs/architecture.md has a row for {name}, which is not there"
        below = [a for a in allowed if order.index(a) >= order.index(name)]
        assert not below, f"{name} may not import {below}: data flows from top to bottom"


def test_no_source_file_is_too_long_to_read() -> None:
    long = {p.name: n for p in SOURCE.rglob("*.py") if (n := len(p.read_text().splitlines())) > 450}
    assert not long


@pytest.mark.parametrize("module", MODULES)
def test_docstring_examples_run(module: str) -> None:
    if module == "cervicyte.__main__":
        pytest.skip("importing it runs the command line")
    result = doctest.testmod(importlib.import_module(module))
    assert result.failed == 0


def test_some_docstring_examples_exist() -> None:
    finder = doctest.DocTestFinder()
    modules = [importlib.import_module(m) for m in MODULES if m != "cervicyte.__main__"]
    assert sum(len(t.examples) for m in modules for t in finder.find(m)) >= 8


@pytest.mark.parametrize("name", [*cervicyte.__all__])
def test_public_names_are_callable_and_say_why_they_exist(name: str) -> None:
    value = getattr(cervicyte, name)
    if name == "__version__":
        assert re.fullmatch(r"\d+\.\d+\.\d+", value)
    else:
        assert callable(value)
        assert value.__doc__
    assert len(cervicyte.__all__) <= 12


def test_nothing_that_is_loaded_is_unpickled_and_no_global_seed_is_set() -> None:
    bad = re.compile(
        r"pickle\.load|joblib\.load|allow_pickle\s*=\s*True|np\.random\.seed|random\.seed\(|torch\.load|(?<![.\w])(eval|exec)\("
    )
    for path in SOURCE.rglob("*.py"):
        text = path.read_text()
        assert not bad.search(text), f"{path.name}: {bad.search(text)}"
        assert not re.search(r"^(import|from) (pickle|joblib|shelve|dill)\b", text, re.M), path.name


def test_importing_the_package_is_light_and_offline() -> None:
    heavy = ("torch", "keras", "pandas", "sklearn", "skimage", "cv2", "matplotlib", "openvino", "onnx", "pyarrow")
    code = (
        "import socket, sys\n"
        "def refuse(*a, **k): raise AssertionError('network at import')\n"
        "socket.socket.connect = refuse\n"
        "import cervicyte, cervicyte.cli.main\n"
        f"print([m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_setting_is_documented() -> None:
    text = (ROOT / "docs" / "cli.md").read_text()
    for row in settings.SETTINGS:
        assert f"`{row.variable}`" in text, f"{row.variable} is not in docs/cli.md"


def test_the_reference_pages_are_what_the_registries_and_help_say() -> None:
    script = ROOT / "docs" / "write_reference.py"
    done = subprocess.run([sys.executable, str(script), "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_error_has_an_exit_code_that_is_explained() -> None:
    def family(kind: type[CervicyteError]) -> list[type[CervicyteError]]:
        return [kind, *(k for sub in kind.__subclasses__() for k in family(sub))]

    for kind in family(CervicyteError):
        assert kind.exit_code in EXIT_CODES
