"""Running the command line as a user does: in a process of its own, or inside this one where only the words matter."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path


def cervicyte(*args: object, cwd: Path | None = None, **options) -> subprocess.CompletedProcess[str]:
    """Run `cervicyte ARGS` to its end in a real process; ``env`` adds variables."""
    env = {**os.environ, **options.pop("env", {})}
    command = [sys.executable, "-m", "cervicyte", *map(str, args)]
    options = {"capture_output": True, "text": True, "encoding": "utf-8", "timeout": 300} | options
    return subprocess.run(command, cwd=cwd, env=env, check=False, **options)


def listen_to_interrupts() -> None:
    """Take SIGINT again: a run in the background of a shell ignores it, and so would the process under test."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def inside(monkeypatch, capsys, *args: object) -> tuple[int, str, str]:
    """Run `cervicyte ARGS` in this process: its exit code, standard output and standard error."""
    from cervicyte.cli import main as cli

    monkeypatch.setattr(sys, "argv", ["cervicyte", *map(str, args)])
    capsys.readouterr()
    code: object = 0
    try:
        cli.main()
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    assert isinstance(code, int)
    return code, said.out, said.err


def read(path: Path) -> dict:
    """A JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))


def three_parts(text: str) -> bool:
    """Whether an error says what was wrong, what was received, and what to do, without a traceback."""
    return "cervicyte: " in text and "received: " in text and "to do: " in text and "Traceback" not in text
