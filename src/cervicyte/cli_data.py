"""The commands `cervicyte data ...`: data sets before anything is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cervicyte.cli_options import Data, GroupFrom, GroupsCsv, Normal, Reader, load, say
from cervicyte.errors import SOME_INPUTS_FAILED

app = typer.Typer(help="List, inspect and audit data sets.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def data_list() -> None:
    """List the public data sets.

    With counts, groups, licence, citation and where to get them.
    """
    from cervicyte.datasets import describe

    for row in describe():
        typer.echo(row)


@app.command("inspect")
def data_inspect(
    data: Data,
    out: Annotated[Path | None, typer.Option("--out", help="Folder for the contact sheet.")] = None,
    reader: Reader = None,
    group_from: GroupFrom = None,
    groups: GroupsCsv = None,
    normal: Normal = None,
) -> None:
    """Show what a data set holds.

    Counts per class and group, image sizes, unreadable files; with --out, a contact sheet as PNG.
    """
    from cervicyte.files import write_json
    from cervicyte.inspect import contact_sheet, inspect
    from cervicyte.summary import inspection_table

    cells = load(data, reader, group_from, groups, normal)
    found = inspect(cells, data if data.is_dir() else None)
    typer.echo(inspection_table(found.to_json()))
    if out is not None:
        sheet = contact_sheet(cells, out / "contact_sheet.png")
        write_json(out / "inspect.json", found.to_json())
        say(f"Written to {out}; open {sheet}")
    if found.unreadable:
        raise typer.Exit(SOME_INPUTS_FAILED)


@app.command("audit")
def data_audit(
    data: Data,
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder for audit.html, audit.json and findings.csv.")
    ] = None,
    reader: Reader = None,
    group_from: GroupFrom = None,
    groups: GroupsCsv = None,
    normal: Normal = None,
) -> None:
    """Look for what makes numbers lie.

    Unreadable files, duplicates, leaks, masks, blanks, and classes that differ by an artefact.
    """
    from cervicyte.audit import audit
    from cervicyte.audit_page import write_audit

    cells = load(data, reader, group_from, groups, normal)
    for note in cells.notes:
        say(note)
    found = audit(cells)
    for finding in found.findings:
        typer.echo(f"{finding.severity:8} {finding.check:24} {finding.message}")
    if out is not None:
        write_audit(found, cells, out)
        say(f"Written to {out}; open {out / 'audit.html'}")
