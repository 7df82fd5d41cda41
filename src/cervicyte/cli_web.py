"""The commands `cervicyte users ...` and `cervicyte audit-log ...`: looking after the web application's accounts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cervicyte.cli_options import say
from cervicyte.errors import DataError, MissingError

if TYPE_CHECKING:
    from cervicyte.web.entry import Handed
    from cervicyte.web.site import Site

users = typer.Typer(
    help="Add, list, disable and reset the web application's users.", no_args_is_help=True, rich_markup_mode=None
)
audit_log = typer.Typer(help="Check the web application's audit log.", no_args_is_help=True, rich_markup_mode=None)

#: Who did it, in the audit log: whoever may run commands on the server.
ACTOR = "command line"

Email = Annotated[str, typer.Argument(metavar="EMAIL", help="The user's e-mail address.")]


@users.command("add")
def users_add(
    email: Email,
    role: Annotated[str, typer.Option("--role", help="reader, reviewer or administrator.")] = "reader",
    name: Annotated[str, typer.Option("--name", help="Name that reports show; left out: from the address.")] = "",
) -> None:
    """Make an account.

    Prints a link by which its owner chooses the password; where mail is set up, it is mailed too.
    """
    from cervicyte.web.entry import add_user

    _hand_over(add_user(_site(), ACTOR, email, name, role))


@users.command("list")
def users_list() -> None:
    """List all users.

    With role, state, second step and last sign-in.
    """
    from cervicyte.web.accounts import everyone

    with _site().database.read() as session:
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
    from cervicyte.web.accounts import change

    say(f"Disabled: {change(_site(), ACTOR, email, active=False).email}")


@users.command("enable")
def users_enable(email: Email) -> None:
    """Enable a user again."""
    from cervicyte.web.accounts import change

    say(f"Enabled: {change(_site(), ACTOR, email, active=True).email}")


@users.command("reset")
def users_reset(email: Email) -> None:
    """Let a user in again who lost the password or the authenticator.

    Removes the authenticator, ends every sign-in, and prints a link for a new password.
    """
    from cervicyte.web.entry import reset_for

    _hand_over(reset_for(_site(), ACTOR, email))


@audit_log.command("verify")
def audit_log_verify() -> None:
    """Check that the audit log is as it was written.

    Reads every row, recomputes the chain of hashes, and names the first row that was changed, added or removed.
    """
    site = _site()
    found = site.ledger.verify(site.database)
    if not found.ok:
        raise DataError(
            "the audit log is not as it was written",
            found.problem,
            f"compare with a backup from row {found.broken} on; the rows before it are good",
        )
    typer.echo(f"{found.rows} rows, all as they were written; the last hash is {found.head}")


def _site() -> Site:
    try:
        from cervicyte.web.site import open_site
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("cervicyte"):
            raise
        raise MissingError(
            "the web application is not installed", error.name, "pip install 'cervicyte[web]'"
        ) from error
    return open_site()


def _hand_over(handed: Handed) -> None:
    typer.echo(handed.link)
    say(f"The link works once; {'it was mailed to' if handed.mailed else 'hand it over to'} {handed.email}")
    if handed.problem:
        say(f"not mailed: {handed.problem}")
