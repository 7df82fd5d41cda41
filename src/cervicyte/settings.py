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


@dataclass(frozen=True)
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
    Setting("cache_dir", "~/.cache/cervicyte", Path, "Where features and exported networks are kept."),
    Setting("cache_gb", "20", int, "Most disk that the working files of fine-tuning may take, in GB.", least=1),
    Setting("weights", "", str, "File or folder with pretrained weights, used when --weights is not given."),
    Setting("threads", "0", int, "Processor threads for inference; 0 takes all."),
    Setting("engine", "openvino", str, "Inference engine: openvino or onnxruntime.", ("openvino", "onnxruntime")),
    Setting(
        "precision",
        "auto",
        str,
        "auto (bfloat16 where the processor has it, else float32), float32 or bfloat16.",
        ("auto", "float32", "bfloat16"),
    ),
    Setting("max_pixels", "50000000", int, "Images with more pixels are refused before they are decoded.", least=1),
    Setting("batch_size", "16", int, "Images per inference request.", least=1),
    Setting(
        "filtered_cache_mb", "1024", int, "Most that kept pictures of slow filters take, in megabytes; 0 keeps none."
    ),
    Setting(
        "data_dir",
        "~/.local/share/cervicyte",
        Path,
        "Where the web application keeps its database, images and log of heads.",
    ),
    Setting(
        "database_url",
        "",
        str,
        "Database of the web application: postgresql://USER:PASSWORD@HOST/NAME; empty: SQLite in the data folder.",
    ),
    Setting(
        "registration",
        "closed",
        str,
        "Who may register: closed (administrators make accounts), invitation or open (an e-mailed code).",
        ("closed", "invitation", "open"),
    ),
    Setting("smtp_url", "", str, "Mail server: smtp://USER:PASSWORD@HOST:PORT or smtps://...; empty: no mail is sent."),
    Setting("mail_from", "", str, "Sender of the web application's mails."),
    Setting("public_url", "http://127.0.0.1:8000", str, "Address of the web application as its users type it."),
    Setting("proxies", "0", int, "Reverse proxies before the web application whose forwarded addresses are believed."),
    Setting("session_hours", "12", int, "Hours after which a sign-in ends.", least=1),
    Setting("max_upload_mb", "200", int, "Most that one upload may hold, in megabytes.", least=1),
    Setting("queue_size", "256", int, "Images that may wait for the engine; more are asked to come later.", least=1),
    Setting("retention_days", "0", int, "Days after which signed cases are deleted; 0 keeps them."),
    Setting("progress", "auto", str, "Progress bars: auto (only on a terminal), on or off.", ("auto", "on", "off")),
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
