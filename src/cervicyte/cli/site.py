"""The commands `cervicyte site ...`: backup, restore and retention of an installation of the web application."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cervicyte import settings
from cervicyte.cli.options import say
from cervicyte.cli.web import ACTOR, installed, open_here

site = typer.Typer(
    help="Back up, restore and clear out the web application's data.", no_args_is_help=True, rich_markup_mode=None
)


@site.command("backup")
def site_backup(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, a tar archive.")],
) -> None:
    """Write the database, all images and the audit log's heads into one file.

    The server may go on working. The file holds password hashes and images: keep it as safe as the server.
    """
    here = open_here()
    from cervicyte.web.operations import backup

    made = backup.make(here, ACTOR, file)
    typer.echo(f"{made.path}: {made.images} images, {made.size} bytes, read again and whole")
    if not made.database:
        say("The database is PostgreSQL's and is NOT in this file. It must be saved just before, with the server")
        say("stopped, so that the images and heads of all its rows are here. If it was not, do both, in this order:")
        say("  pg_dump --format=custom --file=cervicyte.dump YOUR_DATABASE")
        say("  cervicyte site backup FILE")


@site.command("restore")
def site_restore(file: Annotated[Path, typer.Argument(metavar="FILE", help="A backup.")]) -> None:
    """Put a backup into the data folder, which must be empty.

    Everything is checked first; nothing is written unless all of it is whole.
    """
    with installed():
        from cervicyte.web.operations.restore import restore
    folder = settings.get_path("data_dir")
    done = restore(file, folder, ACTOR)
    at = f"{done.at:%Y-%m-%d %H:%M} UTC"
    typer.echo(f"{folder}: {done.images} images and {done.audit_rows} rows of the audit log, as of {at}")
    if not done.database:
        say("The database is PostgreSQL's and was not in this file: bring it back with pg_restore.")
    say("Everybody has to sign in again. Tokens of the API that were revoked since then are valid again: see to them.")


@site.command("retention")
def site_retention(
    delete: Annotated[bool, typer.Option("--delete", help="Delete what is due, for good.")] = False,
) -> None:
    """Say which signed cases are older than the policy keeps them, and delete them with --delete."""
    here = open_here()
    from cervicyte.web.operations import retention

    with here.database.read() as session:
        days = retention.retention_days(session)
        due = len(retention.due(session, here.clock(), days))
    typer.echo(f"signed cases are kept for {days} days; due: {due}" if days else "all cases are kept; due: 0")
    if delete:
        typer.echo(f"deleted: {retention.apply_retention(here, ACTOR)}")
    elif due:
        say("add --delete to delete them, for good")
