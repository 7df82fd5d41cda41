"""The commands `cervicyte data ...`: data sets before anything is trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cervicyte.cli.options import Data, GroupFrom, GroupsCsv, Normal, Reader, Seed, chain, load, say
from cervicyte.errors import SOME_INPUTS_FAILED

app = typer.Typer(
    help="List, inspect, audit, preview and augment data sets.", no_args_is_help=True, rich_markup_mode=None
)


@app.command("list")
def data_list() -> None:
    """List the public data sets.

    With counts, groups, licence, citation and where to get them.
    """
    from cervicyte.data.readers import describe

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
    from cervicyte.base.files import write_json
    from cervicyte.data.inspection import contact_sheet, inspect
    from cervicyte.evaluation.summary import inspection_table

    cells = load(data, reader, group_from, groups, normal)
    inspection = inspect(cells, data if data.is_dir() else None)
    typer.echo(inspection_table(inspection.to_json()))
    if out is not None:
        sheet = contact_sheet(cells, out / "contact_sheet.png")
        write_json(out / "inspect.json", inspection.to_json())
        say(f"Written to {out}; open {sheet}")
    if inspection.unreadable:
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
    from cervicyte.audit.checks import audit
    from cervicyte.audit.page import write_audit

    cells = load(data, reader, group_from, groups, normal)
    for note in cells.notes:
        say(note)
    report = audit(cells)
    for finding in report.findings:
        typer.echo(f"{finding.severity:8} {finding.check:24} {finding.message}")
    if out is not None:
        write_audit(report, cells, out)
        say(f"Written to {out}; open {out / 'audit.html'}")


@app.command("preview")
def data_preview(
    inputs: Annotated[list[str], typer.Argument(metavar="IMAGE|DIR...", help="Files, folders or glob patterns.")],
    filters: Annotated[str, typer.Option("--filters", help="Filter chain, for example normalise,clahe:clip=3,nlm.")],
    out: Annotated[Path, typer.Option("--out", help="PNG file of the figure.")] = Path("preview.png"),
) -> None:
    """Show what filters do.

    Draws images before and after each filter of a chain, with histograms, and says what each filter costs.
    """
    from cervicyte.data.preview import preview

    chosen = chain(filters)
    assert chosen is not None
    made = preview(inputs, chosen, out)
    for text, ms in made.costs:
        typer.echo(f"{text:32} {ms:10.2f} ms per image")
    for remark in made.remarks:
        say(remark)
    for path, reason in made.failed.items():
        say(f"not drawn: {path}: {reason}")
    if made.left_out:
        say(f"{made.left_out} more image(s) were left out; a figure holds {len(made.rows)}")
    say(f"Written to {out}")
    if made.failed:
        raise typer.Exit(SOME_INPUTS_FAILED)


@app.command("augment")
def data_augment(
    data: Data,
    out: Annotated[Path, typer.Option("--out", help="Folder for the copies and their table, cells.csv.")],
    copies: Annotated[int, typer.Option("--copies", help="Copies of each cell.")] = 10,
    augmentation: Annotated[str, typer.Option("--augmentation", help="geometric, system-a or strong.")] = "geometric",
    originals: Annotated[
        bool, typer.Option("--originals/--no-originals", help="Whether the cells themselves are written too.")
    ] = True,
    reader: Reader = None,
    group_from: GroupFrom = None,
    groups: GroupsCsv = None,
    normal: Normal = None,
    seed: Seed = 0,
) -> None:
    """Write augmented copies of the cells.

    PNG files and a table in which each copy names its original, so that audit and splits know it for one.
    Repeat the command to go on after an interruption.
    """
    from cervicyte.data.augmented_set import FAILED, write_set

    cells = load(data, reader, group_from, groups, normal)
    for note in cells.notes:
        say(note)
    made = write_set(cells, out, copies, augmentation, originals=originals, seed=seed, data=data)
    typer.echo(f"{made.written} images written, {made.reused} kept from before; the table is {made.table}")
    for path, reason in list(made.failed.items())[:20]:
        say(f"not used: {path}: {reason}")
    if made.strangers:
        say(f"{len(made.strangers)} image(s) in {out} are not in the table, for example {made.strangers[0]}")
    if made.failed:
        say(f"{len(made.failed)} cell(s) could not be used; all are listed in {out / FAILED}")
        raise typer.Exit(SOME_INPUTS_FAILED)
