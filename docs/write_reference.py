"""Write the reference pages (cli.md, data.md, filters.md, measurements.md, openapi.json) from registries and --help.

Run: python docs/write_reference.py; with --check it only says whether they are up to date.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from cervicyte import settings
from cervicyte.errors import EXIT_CODES

HERE = Path(__file__).parent
NLM_COLOURS = (
    "- `nlm` goes through 8-bit CIE Lab of linear light (OpenCV's `fastNlMeansDenoisingColored`), so it moves colours "
    "at any strength: of 62 Herlev cells, one of every 12, 96 % of the pixels by up to 10 levels at "
    "`h=0.1:hcolor=0.1`. With red and blue exchanged (`bgr=0`) 97 % of the pixels differ from those of `bgr=1`, by up "
    "to 14 levels. For no effect, leave the filter out. (OpenCV 5.0.0.)\n"
)
MADE = "Made by `python docs/write_reference.py`; do not edit by hand.\n"
COMMANDS = (
    (),
    ("train",),
    ("evaluate",),
    ("predict",),
    ("explain",),
    ("data",),
    ("data", "list"),
    ("data", "inspect"),
    ("data", "audit"),
    ("data", "preview"),
    ("data", "augment"),
    ("compress",),
    ("recipes",),
    ("demo",),
    ("doctor",),
    ("serve",),
    ("users",),
    ("users", "add"),
    ("users", "list"),
    ("users", "disable"),
    ("users", "enable"),
    ("users", "reset"),
    ("audit-log",),
    ("audit-log", "verify"),
    ("site",),
    ("site", "backup"),
    ("site", "restore"),
    ("site", "retention"),
)


def command_line() -> str:
    """Every command's help, the exit codes and the settings."""
    parts = ["# Command line\n", MADE]
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


def data_sets() -> str:
    """What each public data set is, and whose."""
    from cervicyte.data.labels import MAPS, SYSTEMS
    from cervicyte.data.readers import DATASETS

    parts = ["# Data sets and labels\n", MADE, "## Data sets\n"]
    for row in DATASETS:
        parts += [f"### {row.name}\n", "```", str(row), "```\n"]
    parts += ["## Label systems\n", "| name | classes in order | abnormal | source |", "| --- | --- | --- | --- |"]
    for system in SYSTEMS:
        abnormal = ", ".join(c for c in system.classes if c in (system.abnormal or ()))
        parts.append(f"| {system.name} | {', '.join(system.classes)} | {abnormal} | {system.source} |")
    parts += ["\n## Label maps\n", "| name | map | note |", "| --- | --- | --- |"]
    for row in MAPS:
        table = ", ".join(f"{a} to {b}" for a, b in row.table.items())
        parts.append(f"| {row.name} | {table} | {row.note} |")
    return "\n".join(parts) + "\n"


def measurements() -> str:
    """The named measurements of the morphology backbone."""
    from cervicyte.images.morphology import MEASUREMENTS

    parts = ["# Measurements\n", MADE]
    parts += ["What `--backbone morphology` measures on each cell; its logistic regression can be read.\n"]
    parts += [
        "The measurements of detail partly act as a ruler where crops were stretched to one size, and they also "
        "respond to focus and compression.\n"
    ]
    parts += ["| name | unit | what it is |", "| --- | --- | --- |"]
    parts += [f"| `{m.name}` | {m.unit or 'ratio'} | {m.help} |" for m in MEASUREMENTS]
    return "\n".join(parts) + "\n"


def filters() -> str:
    """The filters with their parameters, and the augmentations."""
    from cervicyte.images.augmentation import PRESETS
    from cervicyte.images.filters import FILTERS

    parts = ["# Filters and augmentation\n", MADE, "## Filters\n"]
    parts += [
        "A chain such as `--filters normalise,clahe:clip=3:tiles=4,median,nlm` is applied from left to right, before "
        "the image is resized. A filter's parameters follow its name; what is left out has its default. A bundle "
        "stores its chain and applies it at prediction. `cervicyte data preview` shows what a chain does and costs, "
        "and says which of its parameters change nothing in a picture.\n",
        "Two parameters came later. They are always written into a stored chain, and one that lacks them means what it "
        "meant: `clahe` in a bundle, a `recipe.json` or a recipe that ships is `clahe:tile=0`, and `nlm` is "
        "`nlm:bgr=0`; on the command line and in a recipe file of your own the defaults below hold.\n",
        "- OpenCV rounds CLAHE's limit down to whole entries of a bin: `clip` times a tile's pixels over 256, at least "
        "1. With 8 x 8 tiles on a crop of 90 px that is 1 for any `clip` below 3.6, and an even grey of 128 becomes "
        "230. With `tile` 32 such a crop has 2 x 2 tiles.\n",
        NLM_COLOURS,
    ]
    parts += ["| filter | parameter | default | from | to | what it is |", "| --- | --- | --- | --- | --- | --- |"]
    for row in FILTERS:
        parts.append(f"| `{row.name}` | | | | | {row.help}{'; slow, so its pictures are kept' if row.slow else ''} |")
        for p in row.parameters:
            odd = " (odd)" if p.odd else ""
            parts.append(f"| | `{p.name}` | {p.default:g} | {p.low:g} | {p.high:g} | {p.help}{odd} |")
    parts += [
        "\nMeasured on one core for cells of 200 px, in milliseconds each: normalise 1.3, clahe 0.4, median 0.02, "
        "reinhard 3, nlm 46. Training, prediction and `cervicyte data augment` filter in as many threads as there are "
        "processors (nlm with two: 23 ms). What nlm made is kept by the content of the picture and its parameters, up "
        "to `CERVICYTE_FILTERED_CACHE_MB` (25 kB each; found again in 0.8 ms, and in 0.1 ms among the last ones)."
    ]
    parts += ["\n## Augmentation\n"]
    parts += [
        "A copy follows from the file's content, its number, the seed and the augmentation: what `cervicyte data "
        "augment` writes has the pixels of the copies that `--protocol as-published` makes while training, "
        "with one version of OpenCV: 5.0.0 and 4.14.0 turn a picture to 8-bit values that differ by up to 6 levels, so "
        "caches name the version. The views that fine-tuning makes for itself are drawn from the same ranges but are "
        "others: they are named by the picture after its filters. Rotation is in degrees to either side, the "
        "others are shares.\n"
    ]
    names = list(PRESETS[0].augmentation.to_json())
    parts += [f"| name | {' | '.join(names)} | what it is |", "| --- |" + " --- |" * (len(names) + 1)]
    for preset in PRESETS:
        values = (_cell(value) for value in preset.augmentation.to_json().values())
        parts.append(f"| `{preset.name}` | {' | '.join(values)} | {preset.help} |")
    return "\n".join(parts) + "\n"


def _cell(value: float | bool) -> str:
    return ("yes" if value else "no") if isinstance(value, bool) else f"{value:g}"


def api() -> str:
    """The web application's JSON API."""
    from cervicyte.web.api.openapi import document

    return json.dumps(document(), indent=1, ensure_ascii=False) + "\n"


PAGES = {
    "cli.md": command_line,
    "data.md": data_sets,
    "filters.md": filters,
    "measurements.md": measurements,
    "openapi.json": api,
}


def main() -> int:
    """Write the pages, or compare them."""
    stale = []
    for name, make in PAGES.items():
        page, path = make(), HERE / name
        if "--check" not in sys.argv:
            path.write_text(page, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != page:
            stale.append(name)
    if stale:
        print(f"out of date: {', '.join(stale)}; run python docs/write_reference.py")
    return 1 if stale else 0


if __name__ == "__main__":
    sys.exit(main())
