"""The project's own files agree: groups of tools and the extra, locked and tested versions, citation, release notes."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib

import pytest

from support.paths import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LOCKS = ("core", "web", "dev")


def _name(requirement: str) -> str:
    """The normal form of a package's name (PEP 503)."""
    match = re.match(r"[\w.-]+", requirement)
    assert match, requirement
    return re.sub(r"[-_.]+", "-", match[0]).lower()


def _pins(text: str) -> dict[str, str]:
    return {_name(name): version for name, version in re.findall(r"^([\w.-]+)==([^\s;]+)", text, re.M)}


def _locked(name: str) -> str:
    return (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")


def test_the_groups_of_tools_are_the_extra_dev() -> None:
    groups = PROJECT["dependency-groups"]
    tools = [tool for group in groups["dev"] for tool in groups[group["include-group"]]]
    extra = PROJECT["project"]["optional-dependencies"]["dev"]
    assert sorted(tools) == sorted(tool for tool in extra if not tool.startswith("cervicyte["))


@pytest.mark.parametrize("name", LOCKS)
def test_locked_versions_are_those_that_are_tested(name: str) -> None:
    tested = _pins((ROOT / "constraints.txt").read_text(encoding="utf-8"))
    locked = _pins(_locked(name))
    assert {package: version for package, version in locked.items() if tested.get(package, version) != version} == {}


def test_the_locks_hold_what_the_project_declares() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    core = PROJECT["project"]["dependencies"]
    wanted = {"core": core, "web": [*core, *extras["web"], *extras["postgresql"]]}
    wanted["dev"] = [*wanted["web"], *extras["train"], *extras["dev"]]
    for name, requirements in wanted.items():
        packages = {_name(r) for r in requirements if not r.startswith("cervicyte[")}
        assert packages <= _pins(_locked(name)).keys(), name


@pytest.mark.parametrize("name", LOCKS)
def test_every_locked_package_has_hashes_and_no_address_stands_in_a_lock(name: str) -> None:
    text = _locked(name)
    packages = re.findall(r"^[\w.-]+==(?:.*\\\n)+.*$", text, re.M)
    assert len(packages) == len(_pins(text))
    assert all("--hash=sha256:" in package for package in packages)
    assert not re.search(r"https?:|file:|--(extra-)?index|--find-links", text)


def test_the_citation_names_the_version_and_licence() -> None:
    text = (ROOT / "CITATION.cff").read_text(encoding="utf-8")
    assert f"version: {PROJECT['project']['version']}\n" in text
    assert f"license: {PROJECT['project']['license']}\n" in text


def test_the_fragments_make_release_notes() -> None:
    command = [sys.executable, "-m", "towncrier", "build", "--draft", "--version", "9.9.9"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    kinds = {kind["directory"] for kind in PROJECT["tool"]["towncrier"]["type"]}
    names = [path.name for path in (ROOT / "changes").glob("*.md") if path.name != "README.md"]
    assert {name.split(".")[1] for name in names} <= kinds
    assert "## 9.9.9" in done.stdout
