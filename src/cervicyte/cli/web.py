"""The commands `cervicyte serve`, `cervicyte users ...` and `cervicyte audit-log ...`: the web application."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cervicyte.cli.options import ModelOrShipped, say
from cervicyte.errors import DataError, MissingError

if TYPE_CHECKING:
    from cervicyte.web.accounts.registration import Handed
    from cervicyte.web.base.site import Site

users = typer.Typer(
    help="Add, list, disable and reset the web application's users.", no_args_is_help=True, rich_markup_mode=None
)
audit_log = typer.Typer(help="Check the web application's audit log.", no_args_is_help=True, rich_markup_mode=None)

#: Who did it, in the audit log: whoever may run commands on the server.
ACTOR = "command line"

Email = Annotated[str, typer.Argument(metavar="EMAIL", help="The user's e-mail address.")]


def serve(
    model: ModelOrShipped = None,
    host: Annotated[str, typer.Option("--host", help="Address to listen at; 0.0.0.0 is every one.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=0, max=65535, help="Port to listen at; 0 takes a free one.")
    ] = 8000,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Folder for everything that is kept; instead of the setting.")
    ] = None,
) -> None:
    """Serve the web application.

    Uploads, reading, reports. The first start prints a link that makes the first administrator.
    """
    with installed():
        from cervicyte.web.serve import serve as run_server
    run_server(model, data_dir, host, port, typer.echo)


@users.command("add")
def users_add(
    email: Email,
    role: Annotated[str, typer.Option("--role", help="reader, reviewer or administrator.")] = "reader",
    name: Annotated[str, typer.Option("--name", help="Name that reports show; left out: from the address.")] = "",
) -> None:
    """Make an account.

    Prints a link by which its owner chooses the password; where mail is set up, it is mailed too.
    """
    from cervicyte.web.accounts.registration import add_user

    _hand_over(add_user(open_here(), ACTOR, email, name, role))


@users.command("list")
def users_list() -> None:
    """List all users.

    With role, state, second step and last sign-in.
    """
    from cervicyte.web.accounts.users import everyone

    with open_here().database.read() as session:
        for user in everyone(session):
            state = "disabled" if not user.active else "active" if user.password_hash else "no password yet"
            step = "authenticator" if user.totp_secret else "password only"
            seen = f"{user.last_sign_in_at:%Y-%m-%d %H:%M} UTC" if user.last_sign_in_at else "never signed in"
            typer.echo(f"{user.email:36} {user.role:14} {state:16} {step:14} {seen:22} {user.name}")


@users.command("disable")
def users_disable(email: Email) -> None:
    """Disable a user.

    Who is disabled is signed out everywhere at once; what the user did stays.
    """
    from cervicyte.web.accounts.users import change

    say(f"Disabled: {change(open_here(), ACTOR, email, active=False).email}")


@users.command("enable")
def users_enable(email: Email) -> None:
    """Enable a user again."""
    from cervicyte.web.accounts.users import change

    say(f"Enabled: {change(open_here(), ACTOR, email, active=True).email}")


@users.command("reset")
def users_reset(email: Email) -> None:
    """Let a user in again who lost the password or the authenticator.

    Removes the authenticator, ends every sign-in, and prints a link for a new password.
    """
    from cervicyte.web.accounts.registration import reset_for

    _hand_over(reset_for(open_here(), ACTOR, email))


@audit_log.command("verify")
def audit_log_verify() -> None:
    """Check that the audit log is as it was written.

    Reads every row, recomputes the chain of hashes, and names the first row that was changed, added or removed.
    """
    site = open_here()
    verification = site.audit_log.verify(site.database)
    if not verification.ok:
        raise DataError(
            "the audit log is not as it was written",
            verification.problem,
            f"compare with a backup from row {verification.broken} on; the rows before it are good",
        )
    typer.echo(f"{verification.rows} rows, all as they were written; the last hash is {verification.head}")


def open_here() -> Site:
    """The installation that the settings name; MissingError without the web extra."""
    with installed():
        from cervicyte.web.base.site import open_site
    return open_site()


@contextmanager
def installed() -> Iterator[None]:
    """Say how to install the web application where a package of it is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("cervicyte"):
            raise
        raise MissingError(
            "the web application is not installed", error.name, "pip install 'cervicyte[web]'"
        ) from error


def _hand_over(handed: Handed) -> None:
    typer.echo(handed.link)
    say(f"The link works once; {'it was mailed to' if handed.mailed else 'hand it over to'} {handed.email}")
    if handed.problem:
        say(f"not mailed: {handed.problem}")
