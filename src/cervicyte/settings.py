"""The settings: one table of (name, default, help), read from CERVICYTE_* variables.

Settings are about the machine (where caches live, how many threads), never about
the science: what changes a result is an option of a command or a line of a recipe,
so that it is stored with the run.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cervicyte.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One row: its name, default (as text), kind, a line of help, and what it may be.

    ``choices`` are the only values of a text, or none where it is free; ``least`` the smallest number.
    """

    name: str
    default: str
    kind: type
    help: str
    choices: tuple[str, ...] = ()
    least: int = 0

    @property
    def variable(self) -> str:
        """The environment variable that sets it."""
        return f"CERVICYTE_{self.name.upper()}"


SETTINGS: tuple[Setting, ...] = (
    Setting(
        name="cache_dir", default="~/.cache/cervicyte", kind=Path, help="Where features and exported networks are kept."
    ),
    Setting(
        name="cache_gb",
        default="20",
        kind=int,
        help="Most disk that the working files of fine-tuning may take, in GB.",
        least=1,
    ),
    Setting(
        name="weights",
        default="",
        kind=str,
        help="File or folder with pretrained weights, used when --weights is not given.",
    ),
    Setting(name="threads", default="0", kind=int, help="Processor threads for inference; 0 takes all."),
    Setting(
        name="engine",
        default="openvino",
        kind=str,
        help="Inference engine: openvino or onnxruntime.",
        choices=("openvino", "onnxruntime"),
    ),
    Setting(
        name="precision",
        default="auto",
        kind=str,
        help="auto (bfloat16 where the processor has it, else float32), float32 or bfloat16.",
        choices=("auto", "float32", "bfloat16"),
    ),
    Setting(
        name="max_pixels",
        default="50000000",
        kind=int,
        help="Images with more pixels are refused before they are decoded.",
        least=1,
    ),
    Setting(name="batch_size", default="16", kind=int, help="Images per inference request.", least=1),
    Setting(
        name="filtered_cache_mb",
        default="1024",
        kind=int,
        help="Most that kept pictures of slow filters take, in megabytes; 0 keeps none.",
    ),
    Setting(
        name="data_dir",
        default="~/.local/share/cervicyte",
        kind=Path,
        help="Where the web application keeps its database, images and log of heads.",
    ),
    Setting(
        name="database_url",
        default="",
        kind=str,
        help="Database of the web application: postgresql://USER:PASSWORD@HOST/NAME; empty: SQLite in the data folder.",
    ),
    Setting(
        name="registration",
        default="closed",
        kind=str,
        help="Who may register: closed (administrators make accounts), invitation or open (an e-mailed code).",
        choices=("closed", "invitation", "open"),
    ),
    Setting(
        name="smtp_url",
        default="",
        kind=str,
        help="Mail server: smtp://USER:PASSWORD@HOST:PORT or smtps://...; empty: no mail is sent.",
    ),
    Setting(name="mail_from", default="", kind=str, help="Sender of the web application's mails."),
    Setting(
        name="public_url",
        default="http://127.0.0.1:8000",
        kind=str,
        help="Address of the web application as its users type it.",
    ),
    Setting(
        name="proxies",
        default="0",
        kind=int,
        help="Reverse proxies before the web application whose forwarded addresses are believed.",
    ),
    Setting(name="session_hours", default="12", kind=int, help="Hours after which a sign-in ends.", least=1),
    Setting(
        name="max_upload_mb", default="200", kind=int, help="Most that one upload may hold, in megabytes.", least=1
    ),
    Setting(
        name="queue_size",
        default="256",
        kind=int,
        help="Images that may wait for the engine; more are asked to come later.",
        least=1,
    ),
    Setting(
        name="retention_days", default="0", kind=int, help="Days after which signed cases are deleted; 0 keeps them."
    ),
    Setting(
        name="progress",
        default="auto",
        kind=str,
        help="Progress bars: auto (only on a terminal), on or off.",
        choices=("auto", "on", "off"),
    ),
)

_BY_NAME = {row.name: row for row in SETTINGS}


def get(name: str, environ: Mapping[str, str] | None = None) -> object:
    """Return the value of one setting: the environment's, else the default.

    Raises
    ------
    UsageError : the variable is set to something that is not of its kind

    >>> get("threads", {"CERVICYTE_THREADS": "2"})
    2
    """
    row = _BY_NAME[name]
    text = (os.environ if environ is None else environ).get(row.variable, row.default)
    if row.kind is Path:
        return Path(text).expanduser()
    if row.kind is int:
        try:
            number = int(text)
        except ValueError:
            raise UsageError(f"{row.variable} must be a whole number", repr(text), row.help) from None
        if number < row.least:
            raise UsageError(f"{row.variable} must be {row.least} or more", repr(text), row.help)
        return number
    if row.choices and text not in row.choices:
        raise UsageError(f"{row.variable} must be one of {', '.join(row.choices)}", repr(text), row.help)
    return text


def check_all() -> None:
    """Tell of a setting that cannot be used before long work, not in the middle of it; raises UsageError."""
    for row in SETTINGS:
        get(row.name)


def get_int(name: str) -> int:
    """A whole-number setting."""
    value = get(name)
    assert isinstance(value, int)
    return value


def get_str(name: str) -> str:
    """A text setting."""
    return str(get(name))


def get_path(name: str) -> Path:
    """A path setting, with ~ expanded."""
    return Path(str(get(name)))


def available_threads() -> int:
    """Processors that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1
