"""docs/operate.md and deploy/: every command, option, setting and picture that they name exists."""

from __future__ import annotations

import json
import re
import shlex
import tomllib

import pytest
import typer

from cervicyte import settings
from cervicyte.cli import main as cli
from support.paths import ROOT

GUIDE = (ROOT / "docs" / "operate.md").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DEPLOY = {path.name: path.read_text(encoding="utf-8") for path in sorted((ROOT / "deploy").iterdir())}


def _commands() -> list[str]:
    """Every line of a block, and every piece of code in a sentence, that runs `cervicyte`."""
    lines = [line for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.S) for line in block.splitlines()]
    lines += re.findall(r"`([^`\n]+)`", GUIDE)
    found = [re.search(r"(?:^|[\w/]*/|[A-Z]+=\S+ )cervicyte (?!cervicyte)([a-z].*)", line) for line in lines]
    started = re.search(r"^ExecStart=\S+/cervicyte (.*)$", DEPLOY["cervicyte.service"], re.M)
    assert started
    contained = shlex.join(_of_the_container("CMD")[1:])
    return sorted({match[1] for match in [*found, started] if match} | {contained})


def _of_the_container(instruction: str) -> list[str]:
    """The words of an instruction of the Containerfile, of all that there are of it, without what is from a stage."""
    lines = re.sub(r"\\\n\s*", "", DEPLOY["Containerfile"]).splitlines()
    found = [line.partition(" ")[2] for line in lines if line.startswith(f"{instruction} ")]
    assert found, instruction
    return [
        word
        for text in found
        if not text.startswith("--from")
        for word in (json.loads(text) if text.startswith("[") else text.split())
    ]


@pytest.mark.parametrize("line", _commands())
def test_a_command_of_the_guide_exists_with_its_options(line: str) -> None:
    words = shlex.split(line, comments=True)
    command = typer.main.get_command(cli.app)
    with command.make_context("cervicyte", ["--help"], resilient_parsing=True) as context:
        while words and hasattr(command, "get_command"):
            inner = command.get_command(context, words.pop(0))
            assert inner is not None, line
            command = inner
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in words if word.startswith("-")} <= known
    assert not hasattr(command, "get_command"), f"{line} names a group, not a command"


def test_the_guide_names_the_commands_of_an_administrator() -> None:
    text = "\n".join(_commands())
    for name in ("users add", "users list", "users reset", "site backup", "site restore", "site retention"):
        assert name in text
    assert "audit-log verify" in text


def test_settings_of_the_guide_and_the_examples_exist_and_all_of_the_web_application_are_explained() -> None:
    rows = {row.variable: row for row in settings.SETTINGS}
    named = set(re.findall(r"CERVICYTE_[A-Z_]+", GUIDE + "".join(DEPLOY.values())))
    assert named <= set(rows)
    explained = dict(re.findall(r"^\| `(CERVICYTE_[A-Z_]+)` \| ([^|]+) \|", GUIDE, re.M))
    names = [row.name for row in settings.SETTINGS]
    web = names[names.index("data_dir") : names.index("retention_days") + 1]
    assert {f"CERVICYTE_{name.upper()}" for name in web} <= set(explained)
    for name, default in explained.items():
        assert default.startswith(f"`{rows[name].default}`" if rows[name].default else "empty"), name


def test_the_container_is_built_from_what_is_there_and_keeps_its_data_where_it_serves_from() -> None:
    copied = [word for word in _of_the_container("COPY") if word not in ("./", "src")]
    for name in [*copied, "src"]:
        assert (ROOT / name).exists(), name
    assert {"pyproject.toml", "constraints.txt", PROJECT["readme"], *PROJECT["license-files"]} <= set(copied)
    served = _of_the_container("CMD")
    assert _of_the_container("EXPOSE") == [served[served.index("--port") + 1]]
    assert f"127.0.0.1:{_of_the_container('EXPOSE')[0]}/healthz" in DEPLOY["Containerfile"]
    assert f"CERVICYTE_DATA_DIR={_of_the_container('VOLUME')[0]}" in _of_the_container("ENV")


def test_extras_and_constraints_of_the_guide_and_the_examples_exist() -> None:
    text = GUIDE + "".join(DEPLOY.values())
    extras = {name for names in re.findall(r"'\.\[([\w,-]+)\]'", text) for name in names.split(",")}
    assert extras >= {"web", "postgresql"}
    assert extras <= set(PROJECT["optional-dependencies"])
    assert {(ROOT / name).exists() for name in re.findall(r"--constraint (\S+)", text)} == {True}


def test_links_and_pictures_of_the_guide_are_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)", GUIDE):
        assert (ROOT / "docs" / target).resolve().exists(), target
