"""Commands about this machine rather than a server: run, config, db, certs, version, completion."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from cyxwiz.cli.session import session
from cyxwiz.domain.errors import invalid

if TYPE_CHECKING:
    from cyxwiz.config import Loaded

File = Annotated[Path | None, typer.Option("--config", metavar="FILE", help="settings file (default: ./config.toml)")]
Sets = Annotated[list[str] | None, typer.Option("--set", metavar="SECTION.KEY=VALUE", help="one setting; repeat")]

COMPLETE = "_CYXWIZ_COMPLETE"  # set by the shell when it asks for completions

config = typer.Typer(help="Look at the settings.", no_args_is_help=True)
database = typer.Typer(help="Look after central's database.", no_args_is_help=True)
certs = typer.Typer(help="Certificates for TLS.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    # Its own parser reads what follows: `__main__` sends a plain `cyxwiz run` there without loading any of this.
    unread = {"allow_extra_args": True, "ignore_unknown_options": True}
    app.command(context_settings=unread, add_help_option=False)(run)
    app.add_typer(config, name="config")
    app.add_typer(database, name="db")
    app.add_typer(certs, name="certs")
    app.command()(version)
    app.command()(completion)


def run(context: typer.Context) -> None:
    """Run central, a node, or both, until it is told to stop."""
    from cyxwiz.cli import start

    raise typer.Exit(start.run(session(context).options, context.args))


def load_settings(file: Path | None, sets: list[str] | None) -> Loaded:
    from cyxwiz.config import load

    return load(file=file, flags=sets or [])


@config.command("show")
def show_config(context: typer.Context, file: File = None, sets: Sets = None) -> None:
    """Print every setting, its value and where it came from; secrets are masked."""
    from cyxwiz.cli import show

    loaded = load_settings(file, sets)
    rows = [{"key": key, "value": value, "origin": origin} for key, value, origin in loaded.rows()]
    here = session(context)

    def tell(_: Any) -> None:
        cells = ((r["key"], "unset" if r["value"] is None else json.dumps(r["value"]), r["origin"]) for r in rows)
        show.table(("Setting", "Value", "From"), cells)

    here.show({"settings": rows}, tell)


@config.command("check")
def check_config(
    context: typer.Context,
    file: File = None,
    sets: Sets = None,
    role: Annotated[str, typer.Option(metavar="ROLE", help="what would run: central, node or both")] = "both",
    allow_unsafe: Annotated[bool, typer.Option("--allow-unsafe", help="as of `cyxwiz run`")] = False,
) -> None:
    """Say whether a role could start with the settings, and nothing else."""
    from cyxwiz.cli.start import ROLES
    from cyxwiz.config import check_role

    if role not in ROLES:
        raise invalid(f"--role {role}: must be one of {', '.join(ROLES)}")
    loaded = load_settings(file, sets)
    here = session(context)
    check_role(loaded, role, here.options.directory, allow_unsafe=allow_unsafe)
    for warning in loaded.warnings:
        here.note(f"warning: {warning}")
    here.show({"ok": True, "warnings": list(loaded.warnings)}, lambda _: print("the settings are good"))


@database.command("upgrade")
def upgrade_database(context: typer.Context, file: File = None, sets: Sets = None) -> None:
    """Bring the database's tables up to date; central does so itself at its start."""
    here = session(context)
    section, directory = load_settings(file, sets).config.database, here.options.directory

    async def upgrade() -> None:
        async with _opened(section, directory):
            pass

    asyncio.run(upgrade())
    found = asyncio.run(_revision(section, directory))
    here.show({"revision": found}, lambda _: print(f"the database is at revision {found}"))


@contextlib.asynccontextmanager
async def _opened(section: Any, directory: Path) -> AsyncGenerator[Any]:
    """The store that the settings name, brought up to date. On SQLite central must be stopped."""
    from cyxwiz.bus.local import LocalBus
    from cyxwiz.runtime.clock import SystemClock
    from cyxwiz.store.engine import open_store

    if not section.url:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    bus = LocalBus()
    store = await open_store(section, directory, clock=SystemClock(), bus=bus)
    try:
        yield store
    finally:
        await store.aclose()
        await bus.aclose()


@database.command("export")
def export_database(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="the file to write")],
    file: File = None,
    sets: Sets = None,
) -> None:
    """Write the whole database to a new file, as JSON lines. It holds secrets: only its owner can read it."""
    here = session(context)
    section, directory = load_settings(file, sets).config.database, here.options.directory

    async def write() -> int:
        from cyxwiz.store.dump import export_lines

        async with _opened(section, directory) as store:
            with _new_private(path) as output:

                def unit(tx: Any) -> int:
                    output.seek(0)  # it may be run again
                    output.truncate()
                    return sum(output.write(line + "\n") > 0 for line in export_lines(tx))

                return int(await store.read(unit))

    rows = asyncio.run(write()) - 1
    here.show({"rows": rows, "file": str(path)}, lambda _: print(f"{rows} rows written to {path}"))


@database.command("import")
def import_database(
    context: typer.Context,
    path: Annotated[Path, typer.Argument(metavar="FILE", help="what `db export` wrote")],
    file: File = None,
    sets: Sets = None,
) -> None:
    """Fill an empty database from an export. Leases of before it count no more."""
    here = session(context)
    section, directory = load_settings(file, sets).config.database, here.options.directory

    async def fill() -> int:
        from cyxwiz.store.dump import import_lines

        async with _opened(section, directory) as store:
            with path.open(encoding="utf-8") as lines:

                def unit(tx: Any) -> int:
                    lines.seek(0)  # it may be run again
                    return import_lines(tx, lines)

                return int(await store.write(unit))

    if not path.is_file():
        raise invalid(f"{path}: no such file")
    try:
        rows = asyncio.run(fill())
    except UnicodeDecodeError as error:
        raise invalid(f"{path}: is no export of `cyxwiz db export`: not UTF-8 text (byte {error.start})") from None
    here.show({"rows": rows}, lambda _: print(f"{rows} rows taken in"))


def _new_private(path: Path) -> IO[str]:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise invalid(f"{path} exists already: export into a new file") from None
    except OSError as error:
        raise invalid(f"{path}: {error.strerror}") from None
    return os.fdopen(descriptor, "w", encoding="utf-8")


@database.command("current")
def current_database(context: typer.Context, file: File = None, sets: Sets = None) -> None:
    """Print the database's revision and the one that this program needs."""
    from cyxwiz.store import migrate

    here = session(context)
    found = asyncio.run(_revision(load_settings(file, sets).config.database, here.options.directory))
    document = {"revision": found, "head": migrate.head(), "up_to_date": found == migrate.head()}

    def tell(_: Any) -> None:
        state = "up to date" if document["up_to_date"] else f"behind {document['head']}: run `cyxwiz db upgrade`"
        print(f"{found} ({state})" if found else "there is no database yet: `cyxwiz db upgrade` makes it")

    here.show(document, tell)


async def _revision(section: Any, directory: Path) -> str | None:
    """The revision of the database; None where there is none yet."""
    from cyxwiz.store import migrate
    from cyxwiz.store.engine import database_url

    url = database_url(section, directory)
    if url.get_backend_name() == "sqlite":
        path = Path(url.database or "")
        if not path.exists():
            return None
        from cyxwiz.store.sqlite import connect

        connection = connect(path, writing=False)
        try:
            return migrate.current(connection)
        finally:
            connection.close()
    from cyxwiz.store.postgres import revision

    return await revision(url)


@certs.command("init")
def init_certs(
    context: typer.Context,
    host: Annotated[list[str] | None, typer.Option(help="another name or address of the server; repeat")] = None,
    days: Annotated[int, typer.Option(min=1, max=3650, help="how long they are good")] = 825,
    force: Annotated[bool, typer.Option("--force", help="replace what is there")] = False,
) -> None:
    """Make a certificate authority and a server certificate in DATA_DIR/certs."""
    from cyxwiz.cli.certs import make

    here = session(context)
    made = make(here.options.directory / "certs", host or [], days=days, force=force)

    def tell(document: Any) -> None:
        print(f"made {document['ca_file']} and {document['cert_file']} for {', '.join(document['hosts'])}\n")
        print("in config.toml, in its section [tls]:\n")
        print(f'cert_file = "{document["cert_file"]}"\nkey_file = "{document["key_file"]}"')
        print(f'ca_file = "{document["ca_file"]}"\n')
        print(f"on other machines: copy {document['ca_file']} there, and name it with --ca-file or CYXWIZ_CA_FILE")

    here.show(made, tell)


def version(context: typer.Context) -> None:
    """Print the version."""
    import platform

    from cyxwiz import __version__

    document = {"version": __version__, "python": platform.python_version(), "platform": platform.platform()}
    session(context).show(document, lambda _: print(f"cyxwiz {__version__}"))


def completion(
    shell: Annotated[
        str | None, typer.Argument(metavar="SHELL", help="bash, zsh, fish or powershell; left out: yours")
    ] = None,
) -> None:
    """Print a script that completes commands: `source <(cyxwiz completion bash)`."""
    from typer import completion as scripts

    wanted = shell or Path(os.environ.get("SHELL", "bash")).name
    if wanted not in ("bash", "zsh", "fish", "powershell", "pwsh"):
        raise invalid(f"There is no completion for {wanted!r}: take bash, zsh, fish or powershell")
    make: Any = vars(scripts)["get_completion_script"]
    print(make(prog_name="cyxwiz", complete_var=COMPLETE, shell=wanted))


def know_shells() -> None:
    """Makes typer answer the shells that it has scripts for; it does so itself only for an app with its own options."""
    from typer import completion as scripts

    begin: Any = vars(scripts)["completion_init"]
    begin()
