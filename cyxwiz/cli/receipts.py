"""`cyxwiz receipts …`: what jobs used and cost, and whether a receipt is true."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cyxwiz.cli import show_money
from cyxwiz.cli.jobs import Job
from cyxwiz.cli.session import Session, session
from cyxwiz.domain.errors import CyxError, conflict

Json = dict[str, Any]

receipts = typer.Typer(help="What jobs used and cost.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(receipts, name="receipts")


@receipts.command("list")
def list_receipts(
    context: typer.Context,
    page: Annotated[int, typer.Option(min=1)] = 1,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
) -> None:
    """List your ended jobs with what they cost, the newest first."""
    here = session(context)
    here.show(here.ask(lambda client: client.receipts(page, limit)), show_money.receipts)


@receipts.command("show")
def show_receipt(context: typer.Context, job: Job) -> None:
    """Show what an ended job used and cost; `--output json` gives the file that `verify` checks."""
    here = session(context)
    here.show(here.ask(lambda client: client.receipt(job)), show_money.receipt)


@receipts.command()
def verify(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="a receipt as JSON")],
    key: Annotated[str, typer.Option(metavar="HEX", help="the platform's public key, from GET /api/platform")] = "",
    files: Annotated[
        Path | None, typer.Option(metavar="DIR", help="the result's files, to check their hashes too")
    ] = None,
) -> None:
    """Check a receipt: its signature, its sums, its files. No server is asked."""
    from cyxwiz.client.receipts import check_against, read_receipt, verify_receipt

    here = session(context)
    document = read_receipt(file)
    check_against(key, files)
    try:
        verify_receipt(document, key=key, files=files)
    except CyxError as error:
        # The command was used well, and its answer is no: a script tells that from a file that is missing.
        raise conflict(error.message, **error.details) from None
    said = {
        "valid": True,
        "job_id": document["job_id"],
        "public_key": document["signature"]["public_key"],
        "pinned": bool(key),
        "files_checked": len(document["files"]) if files else 0,
    }
    here.show(said, lambda answer: _tell(here, answer))


def _tell(here: Session, answer: Json) -> None:
    files = f", {answer['files_checked']} files" if answer["files_checked"] else ""
    print(f"valid: job {answer['job_id']}{files}, signed by {answer['public_key']}")
    if not answer["pinned"]:
        here.note("Compare that key with the platform's own (GET /api/platform), or pin it with --key")
