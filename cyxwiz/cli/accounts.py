"""Who is calling: log-in, users and API keys. A password is asked for or read from standard input, no argument."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from cyxwiz.cli import show
from cyxwiz.cli.amounts import TakesAmount
from cyxwiz.cli.session import Session, session
from cyxwiz.domain.errors import invalid

FromStdin = Annotated[bool, typer.Option("--password-stdin", help="read the password from standard input")]

users = typer.Typer(help="Users (for admins).", no_args_is_help=True)
keys = typer.Typer(help="API keys.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.command()(login)
    app.command()(logout)
    app.command()(whoami)
    app.add_typer(users, name="users")
    app.add_typer(keys, name="keys")


def read_password(from_stdin: bool, *, confirm: bool = False) -> str:
    """A password from standard input, or asked for on the terminal.

    Raises:
        CyxError: INVALID when there is nobody to ask.
    """
    if from_stdin:
        return sys.stdin.readline().rstrip("\r\n")
    if not sys.stdin.isatty():
        raise invalid("There is no terminal to ask for the password on: pipe it in with --password-stdin")
    import getpass

    password = getpass.getpass("Password: ", sys.stderr)
    if confirm and password and getpass.getpass("Once more: ", sys.stderr) != password:
        raise invalid("The two passwords differ: nothing was done")
    return password


def login(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="user name")],
    password_stdin: FromStdin = False,
) -> None:
    """Log in; later commands go on as that user until `cyxwiz logout`."""
    here = session(context)
    password = read_password(password_stdin)
    answer = here.ask(lambda client: client.login(name, password, keep=True))
    # The tokens lie in the data directory: no reason to leave them in a terminal or a log as well.
    here.show({"user": answer["user"], "expires_in": answer["expires_in"]}, _greet)


def _greet(document: Any) -> None:
    print(f"logged in as {document['user']['name']} ({document['user']['role']})")


def logout(context: typer.Context) -> None:
    """Void the log-in and forget it. API keys live on."""
    here = session(context)
    here.show(here.ask(lambda client: client.logout()), lambda _: print("logged out"))


def whoami(context: typer.Context) -> None:
    """Show who you are to the server."""
    here = session(context)
    here.show(here.ask(lambda client: client.whoami()), show.record)


@users.command("create")
def create_user(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="letters, digits, and . _ - @")],
    role: Annotated[str, typer.Option(help="user, operator or admin")] = "user",
    password_stdin: FromStdin = False,
    no_password: Annotated[bool, typer.Option("--no-password", help="a user who has API keys only")] = False,
) -> None:
    """Make a user."""
    here = session(context)
    password = "" if no_password else read_password(password_stdin, confirm=True)
    if not password and not no_password:
        raise invalid("The password is empty; --no-password makes a user without one")
    here.show(here.ask(lambda client: client.create_user(name, password, role)), show.record)


@users.command("list")
def list_users(
    context: typer.Context,
    page: Annotated[int, typer.Option(min=1)] = 1,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 100,
) -> None:
    """List users."""
    here = session(context)
    here.show(here.ask(lambda client: client.users(page, limit)), show.users)


@users.command("disable")
def disable_user(
    context: typer.Context, user: Annotated[str, typer.Argument(metavar="USER", help="name or id")]
) -> None:
    """Let a user in no more."""
    here = session(context)
    here.show(here.ask(lambda client: client.disable_user(user)), show.record)


@users.command("budget", cls=TakesAmount)
def user_budget(
    context: typer.Context,
    user: Annotated[str, typer.Argument(metavar="USER", help="name or id")],
    amount: Annotated[
        str | None, typer.Argument(metavar="AMOUNT", help="CYXWIZ a month, or none; left out: show it")
    ] = None,
) -> None:
    """Set or show what a user's jobs may cost a month."""
    here = session(context)
    if amount is None:
        here.show(here.ask(lambda client: client.user_budget(user)), show.record)
    else:
        here.show(here.ask(lambda client: client.set_user_budget(user, amount)), show.record)


@keys.command("create")
def create_key(
    context: typer.Context, name: Annotated[str, typer.Option(help="what it is for, for your own memory")] = "key"
) -> None:
    """Make an API key. It is shown this once, and works as a bearer token."""
    here = session(context)
    here.show(here.ask(lambda client: client.create_key(name)), lambda document: _tell_key(here, document))


def _tell_key(here: Session, document: Any) -> None:
    print(document["key"])
    here.note(f"Shown this once; its id is {document['id']}. Use it as CYXWIZ_TOKEN or 'Authorization: Bearer …'")


@keys.command("list")
def list_keys(context: typer.Context) -> None:
    """List your API keys; an admin sees everybody's."""
    here = session(context)
    here.show(here.ask(lambda client: client.keys()), show.keys)


@keys.command("revoke")
def revoke_key(
    context: typer.Context, key: Annotated[str, typer.Argument(metavar="KEY_ID", help="the key's id")]
) -> None:
    """Void an API key."""
    here = session(context)
    here.show(here.ask(lambda client: client.revoke_key(key)), show.record)
