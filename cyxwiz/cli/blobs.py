"""`cyxwiz blobs push|pull|list|delete`: files to and from central, named by their SHA-256."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyxwiz.cli import live, show
from cyxwiz.cli.session import session

if TYPE_CHECKING:
    from cyxwiz.client import Client

app_blobs = typer.Typer(help="Files on central.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(app_blobs, name="blobs")


@app_blobs.command()
def push(
    context: typer.Context, file: Annotated[Path, typer.Argument(metavar="FILE|FOLDER", help="what to upload")]
) -> None:
    """Upload a file, or a folder as one archive; an upload that was cut goes on where it stopped.

    Prints the blob:// URI under which a job names it as its data set.
    """
    here = session(context)

    async def work(client: Client) -> dict[str, Any]:
        with live.transfer() as progress:
            return await client.push_blob(file, progress)

    here.show(here.ask(work), lambda document: print(document["uri"]))


@app_blobs.command()
def pull(
    context: typer.Context,
    blob: Annotated[str, typer.Argument(metavar="SHA256", help="the hash, or its blob:// URI")],
    to: Annotated[Path | None, typer.Argument(metavar="FILE", help="left out: a file named by the hash")] = None,
) -> None:
    """Download a blob; a download that was cut goes on where it stopped."""
    here = session(context)
    sha256 = blob.removeprefix("blob://sha256/").removeprefix("sha256:")

    async def work(client: Client) -> dict[str, Any]:
        with live.transfer() as progress:
            path = await client.pull_blob(sha256, to or Path(sha256), progress)
        return {"sha256": sha256, "path": str(path), "size": path.stat().st_size}

    here.show(here.ask(work), lambda document: print(document["path"]))


@app_blobs.command("list")
def list_blobs(context: typer.Context, page: Annotated[int, typer.Option(min=1)] = 1) -> None:
    """List what you keep on central: uploads, and the files of results."""
    here = session(context)
    here.show(here.ask(lambda client: client.blobs(page)), show.blobs)


@app_blobs.command()
def delete(
    context: typer.Context, blob: Annotated[str, typer.Argument(metavar="SHA256", help="the hash, or its blob:// URI")]
) -> None:
    """Give up a blob, which makes room. A job of yours that has not ended must not need it."""
    here = session(context)
    sha256 = blob.removeprefix("blob://sha256/").removeprefix("sha256:")
    here.show(here.ask(lambda client: client.delete_blob(sha256)), show.record)
