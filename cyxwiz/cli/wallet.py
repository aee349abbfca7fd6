"""`cyxwiz wallet …`: what you have, where it went, and the wallets that are yours."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyxwiz.cli import show, show_money
from cyxwiz.cli.amounts import Amount, TakesAmount
from cyxwiz.cli.process import File, Sets, load_settings
from cyxwiz.cli.session import session
from cyxwiz.domain.errors import unsupported

if TYPE_CHECKING:
    from cyxwiz.cli.chain import Deed
    from cyxwiz.client import Client

Json = dict[str, Any]
Paid = Annotated[str, typer.Argument(metavar="JOB", help="the id of the job, or of the quote, that was paid for")]
ClientOf = Annotated[str, typer.Option("--client", metavar="ADDRESS", help="the wallet that locked the money")]
KeyFile = Annotated[Path, typer.Argument(metavar="KEYPAIR.json", help="a keypair file as Solana's tools write it")]

app_wallet = typer.Typer(help="Your money and your wallets.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(app_wallet, name="wallet")


@app_wallet.command("show")
def show_wallet(
    context: typer.Context,
    address: Annotated[str, typer.Argument(metavar="ADDRESS", help="of another account; by default your own")] = "",
) -> None:
    """Show your balance, what is locked for jobs, and your wallets."""
    here = session(context)

    async def work(client: Client) -> Json:
        found = await client.wallet(address)
        return found if address else {**found, "wallets": (await client.wallets())["wallets"]}

    here.show(here.ask(work), show_money.wallet)


@app_wallet.command()
def history(
    context: typer.Context,
    page: Annotated[int, typer.Option(min=1)] = 1,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
) -> None:
    """List what moved, the newest first."""
    here = session(context)
    here.show(here.ask(lambda client: client.transactions(page, limit)), show_money.transactions)


@app_wallet.command(cls=TakesAmount)
def airdrop(context: typer.Context, amount: Amount) -> None:
    """Give yourself money, where the platform makes it and you are an admin."""
    here = session(context)

    async def work(client: Client) -> Json:
        return await client.grant((await client.whoami())["id"], amount)

    here.show(here.ask(work), show_money.granted)


@app_wallet.command(cls=TakesAmount)
def withdraw(
    context: typer.Context, to: Annotated[str, typer.Argument(metavar="ADDRESS", help="a wallet's")], amount: Amount
) -> None:
    """Send of your balance to a wallet, on a chain."""
    here = session(context)
    here.show(here.ask(lambda client: client.withdraw(to, amount)), show.record)


@app_wallet.command(cls=TakesAmount)
def grant(
    context: typer.Context, user: Annotated[str, typer.Argument(metavar="USER", help="name or id")], amount: Amount
) -> None:
    """Give a user money, where the platform makes it (for admins)."""
    here = session(context)
    here.show(here.ask(lambda client: client.grant(user, amount)), show_money.granted)


@app_wallet.command()
def link(context: typer.Context, keypair: KeyFile) -> None:
    """Make a wallet yours, by signing with its key; it then signs you in."""
    from cyxwiz.client.keypair import Keypair

    here = session(context)
    pair = Keypair.read(keypair)
    here.show(here.ask(lambda client: client.link_wallet(pair)), show.record)


@app_wallet.command()
def unlink(
    context: typer.Context, address: Annotated[str, typer.Argument(metavar="ADDRESS", help="the wallet's")]
) -> None:
    """Let a wallet sign you in no more."""
    here = session(context)
    here.show(here.ask(lambda client: client.unlink_wallet(address)), lambda _: print(f"unlinked {address}"))


@app_wallet.command()
def reclaim(context: typer.Context, job: Paid, keypair: KeyFile, file: File = None, sets: Sets = None) -> None:
    """Take back what an escrow of your own key still holds, from the chain itself: the platform is not asked.

    blockchain.solana_rpc_url and blockchain.program_id say where; your key pays the fee in SOL.
    """
    _act(context, "reclaim", job, keypair, file, sets)


@app_wallet.command()
def dispute(
    context: typer.Context, job: Paid, keypair: KeyFile, client: ClientOf = "", file: File = None, sets: Sets = None
) -> None:
    """Freeze an escrow that does not stream, as its client or its node, until its arbiter decides or the time is over.

    It is done on the chain itself, as `reclaim`. Each side has one dispute.
    """
    _act(context, "dispute", job, keypair, file, sets, client=client)


@app_wallet.command()
def claim(
    context: typer.Context, job: Paid, keypair: KeyFile, client: ClientOf, file: File = None, sets: Sets = None
) -> None:
    """Have what your node earned by a stream paid, on the chain itself, where the platform does not do it."""
    _act(context, "claim", job, keypair, file, sets, client=client)


@app_wallet.command(cls=TakesAmount)
def resolve(
    context: typer.Context,
    job: Paid,
    keypair: KeyFile,
    amount: Amount,
    client: ClientOf,
    file: File = None,
    sets: Sets = None,
) -> None:
    """Decide a dispute with the arbiter's key: AMOUNT is paid for the job in all, the rest goes back to its client."""
    from cyxwiz.domain.money import parse_cyxwiz

    _act(context, "resolve", job, keypair, file, sets, client=client, units=parse_cyxwiz(amount))


def _act(
    context: typer.Context,
    deed: Deed,
    job: str,
    keypair: Path,
    file: Path | None,
    sets: list[str] | None,
    **given: Any,
) -> None:
    import asyncio
    import uuid

    from cyxwiz.domain.ids import parse_job_id

    here, chain = session(context), load_settings(file, sets).config.blockchain
    ident = uuid.UUID(parse_job_id(job)).bytes
    try:
        from cyxwiz.cli.chain import act
    except ImportError:
        raise unsupported("This needs solders and solana: pip install 'cyxwiz[ledger]'") from None
    here.show(asyncio.run(act(chain, keypair, ident, deed, **given)), show.record)


@app_wallet.command()
def login(context: typer.Context, keypair: KeyFile) -> None:
    """Log in by a wallet; later commands go on as its user until `cyxwiz logout`."""
    from cyxwiz.client.keypair import Keypair

    here = session(context)
    pair = Keypair.read(keypair)
    answer = here.ask(lambda client: client.wallet_login(pair, keep=True))
    said = {"user": answer["user"], "expires_in": answer["expires_in"]}
    here.show(said, lambda document: print(f"logged in as {show.plain(document['user']['name'])}"))
