"""`cyxwiz nodes …` looks after nodes; `cyxwiz node token …` lets new ones join."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer

from cyxwiz.cli import machine, show, show_nodes
from cyxwiz.cli.doctor import doctor
from cyxwiz.cli.session import session
from cyxwiz.domain.errors import invalid

Node = Annotated[str, typer.Argument(metavar="NODE", help="the node's id")]
_SPANS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

nodes = typer.Typer(help="List nodes, and take them in and out of service.", no_args_is_help=True)
node = typer.Typer(help="Let nodes join; look at this machine and measure it.", no_args_is_help=True)
token = typer.Typer(help="Join tokens.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    node.add_typer(token, name="token")
    machine.add_to(node)
    node.command()(doctor)
    app.add_typer(nodes, name="nodes")
    app.add_typer(node, name="node")


def parse_span(text: str, option: str) -> float:
    """Seconds of '90s', '30m', '24h' or '7d'. Raises INVALID."""
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if match is None:
        raise invalid(f"{option} {text}: must be a span of time such as 90s, 30m, 24h or 7d")
    return float(match[1]) * _SPANS[match[2]]


@nodes.command("list")
def list_nodes(
    context: typer.Context,
    status: Annotated[str | None, typer.Option(help="online, busy, draining, offline or banned")] = None,
    region: Annotated[str | None, typer.Option(help="part of the region's name")] = None,
    page: Annotated[int, typer.Option(min=1)] = 1,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
) -> None:
    """List nodes."""
    here = session(context)
    found = here.ask(lambda client: client.nodes(status=status, region=region, page=page, limit=limit))
    here.show(found, show_nodes.nodes)


@nodes.command("show")
def show_node(context: typer.Context, node: Node) -> None:
    """Show one node with its devices, and why its reputation is what it is."""
    here = session(context)
    here.show(here.ask(lambda client: client.node(node)), show_nodes.node)


@nodes.command()
def drain(context: typer.Context, node: Node) -> None:
    """Give a node no new jobs; what runs there saves a checkpoint and goes on elsewhere."""
    here = session(context)
    here.show(here.ask(lambda client: client.drain_node(node)), show_nodes.node)


@nodes.command()
def resume(context: typer.Context, node: Node) -> None:
    """Give a drained node jobs again."""
    here = session(context)
    here.show(here.ask(lambda client: client.resume_node(node)), show_nodes.node)


@nodes.command()
def ban(
    context: typer.Context,
    node: Node,
    span: Annotated[str | None, typer.Option("--for", help="for how long, such as 24h; left out: for good")] = None,
) -> None:
    """Take a node's jobs away and let it not connect."""
    here = session(context)
    seconds = parse_span(span, "--for") if span else None
    here.show(here.ask(lambda client: client.ban_node(node, seconds)), show_nodes.node)


@nodes.command()
def unban(context: typer.Context, node: Node) -> None:
    """End a node's ban: it may connect again, on probation."""
    here = session(context)
    here.show(here.ask(lambda client: client.unban_node(node)), show_nodes.node)


@nodes.command()
def complain(
    context: typer.Context,
    node: Node,
    job: Annotated[str, typer.Option("--job", help="your job that the node had")],
    reason: Annotated[str, typer.Option(help="what was wrong")],
) -> None:
    """Complain about a node that had your job; once a job."""
    here = session(context)
    here.show(here.ask(lambda client: client.complain_about_node(node, job, reason)), show_nodes.node)


@token.command("create")
def create_token(
    context: typer.Context,
    uses: Annotated[int | None, typer.Option(min=1, help="how many nodes may join with it; left out: any")] = None,
    expires: Annotated[str | None, typer.Option(help="how long it is good, such as 24h; left out: for ever")] = None,
) -> None:
    """Make a token with which nodes join. It is shown this once."""
    here = session(context)
    seconds = parse_span(expires, "--expires") if expires else None
    made = here.ask(lambda client: client.create_node_token(uses, seconds))

    def tell(document: Any) -> None:
        print(document["token"])
        here.note(
            "Shown this once. On the node: save it in a file and run "
            "`cyxwiz run --role node --set node.central=HOST:PORT --set node.join_token_file=FILE`; where central "
            "speaks TLS, with --set node.tls=true and, for an authority of its own, --set tls.ca_file=FILE"
        )

    here.show(made, tell)


@token.command("list")
def list_tokens(context: typer.Context) -> None:
    """List join tokens."""
    here = session(context)
    here.show(here.ask(lambda client: client.node_tokens()), show_nodes.tokens)


@token.command("revoke")
def revoke_token(
    context: typer.Context, token: Annotated[str, typer.Argument(metavar="TOKEN_ID", help="the token's id")]
) -> None:
    """Let no more nodes join with a token; those that joined stay."""
    here = session(context)
    here.show(here.ask(lambda client: client.revoke_node_token(token)), show.record)
