"""Write docs/cli.md from the commands' own --help; with --check, say whether it is up to date.

Run: python docs/write_cli_reference.py
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from cervicyte import settings
from cervicyte.errors import EXIT_CODES

PAGE = Path(__file__).with_name("cli.md")
COMMANDS = (
    (),
    ("train",),
    ("evaluate",),
    ("predict",),
    ("data",),
    ("data", "list"),
    ("data", "inspect"),
    ("data", "audit"),
    ("recipes",),
    ("demo",),
    ("doctor",),
)


def reference() -> str:
    """The whole page as Markdown."""
    parts = ["# Command line\n", "Made from `--help` by `python docs/write_cli_reference.py`; do not edit by hand.\n"]
    for command in COMMANDS:
        words = " ".join(("cervicyte", *command))
        parts += [f"## {words}\n", "```", _help(command), "```\n"]
    parts += ["## Exit codes\n", "| code | meaning |", "| --- | --- |"]
    parts += [f"| {code} | {meaning} |" for code, meaning in EXIT_CODES.items()]
    parts += ["\n## Settings\n", "About the machine, never about the science; all are environment variables.\n"]
    parts += ["| variable | default | what it is |", "| --- | --- | --- |"]
    parts += [f"| `{row.variable}` | `{row.default or ' '}` | {row.help} |" for row in settings.SETTINGS]
    return "\n".join(parts) + "\n"


def _help(command: tuple[str, ...]) -> str:
    environment = dict(os.environ, COLUMNS="100", TERMINAL_WIDTH="100", NO_COLOR="1", TERM="dumb")
    run = [sys.executable, "-m", "cervicyte", *command, "--help"]
    text = subprocess.run(run, capture_output=True, text=True, check=True, env=environment).stdout
    return "\n".join(line.rstrip() for line in text.replace("python -m cervicyte", "cervicyte").strip().splitlines())


def main() -> int:
    """Write the page, or compare it."""
    page = reference()
    if "--check" in sys.argv:
        if PAGE.exists() and PAGE.read_text(encoding="utf-8") == page:
            return 0
        print("docs/cli.md is out of date: run python docs/write_cli_reference.py")
        return 1
    PAGE.write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
