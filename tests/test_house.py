"""The house rules: imports follow the table, nothing is undocumented, examples run, nothing is unpickled."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
import subprocess
import sys

import pytest

import cervicyte
from cervicyte import settings
from cervicyte.errors import EXIT_CODES, CervicyteError
from support.paths import ROOT

SOURCE = ROOT / "src" / "cervicyte"
MODULES = sorted(m.name for m in pkgutil.walk_packages([str(SOURCE)], "cervicyte."))


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


ROOMS = sorted("cervicyte." + ".".join(p.parent.relative_to(SOURCE).parts) for p in SOURCE.rglob("__init__.pyi"))


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_gives_each_public_name_that_it_lists(room: str) -> None:
    package = importlib.import_module(room)
    assert package.__all__
    assert package.__doc__
    for name in package.__all__:
        assert getattr(package, name) is not None


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
