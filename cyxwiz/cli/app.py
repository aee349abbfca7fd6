"""The tree of commands, and the one place where a command ends: no traceback unless `--debug` asks for it."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cyxwiz.cli import (
    accounts,
    blobs,
    demo,
    jobs,
    localnet,
    nodes,
    process,
    receipts,
    replay,
    reservations,
    simulate,
    stake,
    wallet,
)
from cyxwiz.cli.arguments import OUTPUTS, Options
from cyxwiz.cli.process import COMPLETE, know_shells
from cyxwiz.cli.session import INTERRUPTED, TERMINATED, Session, drop_output, fail, unexpected, writing_output
from cyxwiz.domain.errors import Code, CyxError, invalid

EPILOG = "The options above are taken before and after a command. Exit status: 0 done, 1 failed, 2 bad usage, "
EPILOG += "3 not found, 4 not allowed, 5 server unreachable, 6 insufficient funds."

app = typer.Typer(
    name="cyxwiz",
    help="CyxWiz: submit a training job, a stranger's machine runs it, you get the model.",
    epilog=EPILOG,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["--help", "-h"]},
)


@app.callback()
def common(
    server: Annotated[str | None, typer.Option(help="host:port, grpc://… or grpcs://…", metavar="URL")] = None,
    token: Annotated[str | None, typer.Option(help="API key or access token; better CYXWIZ_TOKEN")] = None,
    data_dir: Annotated[str | None, typer.Option(help="where client.json lies", metavar="DIR")] = None,
    ca_file: Annotated[str | None, typer.Option(help="certificate authority of the server", metavar="PEM")] = None,
    cert_file: Annotated[str | None, typer.Option(help="your certificate, if it demands one", metavar="PEM")] = None,
    key_file: Annotated[str | None, typer.Option(help="the key of --cert-file", metavar="PEM")] = None,
    output: Annotated[str, typer.Option(help=" or ".join(OUTPUTS))] = "table",
    debug: Annotated[bool, typer.Option("--debug", help="show tracebacks")] = False,
) -> None:
    # `arguments.split` took them all from the command line before; they stand here for `--help`.
    del server, token, data_dir, ca_file, cert_file, key_file, output, debug


PANELS = {
    "Start": ("run", "demo", "version", "completion"),
    "Jobs": ("submit", "replay", "jobs", "blobs", "receipts"),
    "Log-in": ("login", "logout", "whoami", "keys", "users"),
    "Machines": ("nodes", "node", "reservations"),
    "Money": ("wallet", "stake"),
    "Central": ("config", "db", "certs"),
    "Try things out": ("localnet", "simulate"),
}


def _arrange() -> None:
    """Sorts the commands by what they are about, for `--help`."""
    panels = {name: panel for panel, names in PANELS.items() for name in names}
    for part in (*app.registered_commands, *app.registered_groups):
        given = part.name if isinstance(part.name, str) else getattr(part.callback, "__name__", "")
        part.rich_help_panel = panels[given]


process.add_to(app)
demo.add_to(app)
jobs.add_to(app)
replay.add_to(app)
blobs.add_to(app)
receipts.add_to(app)
accounts.add_to(app)
nodes.add_to(app)
reservations.add_to(app)
wallet.add_to(app)
stake.add_to(app)
localnet.add_to(app)
simulate.add_to(app)
_arrange()


def run_command(options: Options, args: Sequence[str], wrong: str | None = None) -> int:
    """Runs a command; the exit status. Nothing is raised but with `--debug`."""
    if wrong is not None:
        return fail(options, invalid(wrong))
    try:
        if COMPLETE in os.environ:
            know_shells()
        status = _invoke(Session(options), args)
        with writing_output():
            sys.stdout.flush()
        return status
    except CyxError as error:
        if options.debug:
            raise
        return fail(options, error)
    except KeyboardInterrupt:
        return INTERRUPTED
    except asyncio.CancelledError:
        return TERMINATED  # a command that was told to end, and has put away what it started
    except BrokenPipeError:
        drop_output()  # its reader went away: nothing is left to say
        return 1
    except Exception as error:
        return _not_foreseen(options, error)


def _invoke(session: Session, args: Sequence[str]) -> int:
    status: Any = app(args=list(args), prog_name="cyxwiz", standalone_mode=False, obj=session)
    return status if isinstance(status, int) else 0


def _not_foreseen(options: Options, error: Exception) -> int:
    """Typer's own errors, told by what they can do: whichever library raises them."""
    if isinstance(error, typer.Abort):
        return INTERRUPTED
    tell = getattr(error, "format_message", None)
    if callable(tell):
        if type(error).__name__ == "NoArgsIsHelpError":
            print(tell(), file=sys.stderr)
            return 2
        path = getattr(getattr(error, "ctx", None), "command_path", "cyxwiz")
        return fail(options, invalid(f"{str(tell()).rstrip('.')}; see `{path} --help`"))
    from cyxwiz.config import ConfigError

    if isinstance(error, ConfigError):
        return fail(options, CyxError(Code.INVALID, str(error)))
    if options.debug:
        raise error
    if isinstance(error, OSError) and error.filename is not None:
        return fail(options, invalid(f"{error.filename}: {error.strerror}"))
    return unexpected(options, error)
