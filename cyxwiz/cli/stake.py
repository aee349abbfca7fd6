"""`cyxwiz stake …`: what a node has staked, and its way in and back."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyxwiz.cli.amounts import HELP, Amount, TakesAmount
from cyxwiz.cli.session import Session, session
from cyxwiz.cli.show import pairs, table, when
from cyxwiz.domain.errors import invalid

if TYPE_CHECKING:
    from cyxwiz.client import Client

Json = dict[str, Any]
Node = Annotated[str | None, typer.Option("--node", metavar="NODE", help="the node's id; left out: your only node")]

app_stake = typer.Typer(help="The stake of your node.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(app_stake, name="stake")


@app_stake.command("show")
def show_stake(context: typer.Context, node: Node = None) -> None:
    """Show what is staked, cooling down and slashed, and what was done lately."""
    here = session(context)
    here.show(_of(here, node, lambda client, found: client.stake(found)), stake)


@app_stake.command(cls=TakesAmount)
def add(context: typer.Context, amount: Amount, node: Node = None) -> None:
    """Stake out of the account of the node's owner."""
    here = session(context)
    here.show(_of(here, node, lambda client, found: client.add_stake(found, amount)), stake)


@app_stake.command(cls=TakesAmount)
def withdraw(
    context: typer.Context,
    amount: Annotated[str | None, typer.Argument(metavar="AMOUNT", help=f"{HELP}; left out: all")] = None,
    node: Node = None,
) -> None:
    """Begin the cool-down; called again after it, take out what has cooled down."""
    here = session(context)

    def tell(document: Json) -> None:
        did = document["did"]
        if did["kind"] == "unstake":
            print(f"withdrawn {did['amount']} CYXWIZ: they are on the owner's account")
        else:
            print(f"{did['amount']} CYXWIZ cool down: withdraw them after {when(document['cooling_until'])}")
        stake(document)

    here.show(_of(here, node, lambda client, found: client.withdraw_stake(found, amount)), tell)


@app_stake.command()
def appeal(context: typer.Context, node: Node = None) -> None:
    """Appeal against a slash, while there is time."""
    here = session(context)
    here.show(_of(here, node, lambda client, found: client.appeal_slash(found)), stake)


@app_stake.command()
def rewards(
    context: typer.Context,
    claim: Annotated[bool, typer.Option("--claim", help="pay out what is due, to the owner's account")] = False,
    node: Node = None,
) -> None:
    """Show the rewards due to a stake, and what they are paid out of."""
    here = session(context)

    async def act(client: Client, found: str) -> Json:
        return await (client.claim_rewards(found) if claim else client.stake(found))

    def tell(document: Json) -> None:
        if claim:
            print(f"claimed {document['did']['amount']} CYXWIZ: they are on the owner's account")
        pairs(_rewards(document))

    here.show(_of(here, node, act), tell)


@app_stake.command(cls=TakesAmount)
def fund(context: typer.Context, amount: Amount) -> None:
    """Give of your balance for the rewards of all stakes."""
    here = session(context)
    here.show(here.ask(lambda client: client.fund_rewards(amount)), lambda document: pairs(_vault(document)))


@app_stake.command()
def judge(
    context: typer.Context,
    upheld: Annotated[
        bool, typer.Option("--uphold/--dismiss", help="whether the slash stands, or the stake goes back")
    ],
    node: Node = None,
) -> None:
    """Decide an appeal (for admins)."""
    here = session(context)
    here.show(_of(here, node, lambda client, found: client.judge_slash(found, upheld)), stake)


def _of(here: Session, node: str | None, act: Callable[[Client, str], Awaitable[Json]]) -> Json:
    """What `act` answers for the node that was named, or the caller's only one."""

    async def work(client: Client) -> Json:
        return await act(client, node or await _only(client))

    return here.ask(work)


async def _only(client: Client) -> str:
    found = (await client.nodes(mine=True, limit=10))["nodes"]
    if len(found) == 1:
        return str(found[0]["id"])
    if not found:
        raise invalid("You have no node: name one with --node NODE")
    names = ", ".join(f"{each['name']} ({each['id']})" for each in found)
    raise invalid(f"You have several nodes: name one with --node NODE, of {names}")


def _vault(document: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        ("rewards vault", document["rewards_account"]),
        ("in the vault", f"{document['rewards_vault']} CYXWIZ"),
    ]


def _rewards(document: Mapping[str, Any]) -> list[tuple[str, Any]]:
    return [
        ("node", document["node_id"]),
        ("stake", f"{document['stake']} CYXWIZ"),
        ("rewards a year", f"{document['rewards_percent']:g} % of it"),
        ("rewards due", f"{document['rewards_due']} CYXWIZ"),
        *_vault(document),
    ]


def stake(document: Mapping[str, Any]) -> None:
    rows = [("node", document["node_id"]), ("account", document["account"])]
    for name in ("stake", "cooling", "withdrawable", "contested", "slashed"):
        rows.append((name, f"{document[name]} CYXWIZ"))
    rows.append(("rewards due", f"{document['rewards_due']} CYXWIZ"))
    if document["required_units"]:
        rows.append(("needed for jobs of others", f"{document['required']} CYXWIZ"))
    if document["cooling_until"]:
        rows.append(("cools down until", when(document["cooling_until"])))
    if document["contested_until"]:
        ends = "appeal until" if document["contest"] == "pending" else "judged until"
        rows += [(ends, when(document["contested_until"])), ("evidence", document["evidence_hash"])]
    pairs(rows)
    if document["steps"]:
        table(
            ("At", "What", "CYXWIZ", "Status", "By", "Reference", "Note"),
            (
                (
                    when(each["at"]),
                    each["kind"],
                    each["amount"],
                    each["status"],
                    each["by"],
                    each["reference"],
                    each["error"],
                )
                for each in document["steps"]
            ),
            least=("Reference", "By"),
            short=("Note",),
        )
