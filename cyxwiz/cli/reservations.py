"""`cyxwiz reservations …`: keep a node for oneself, and give it back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from cyxwiz.cli import show
from cyxwiz.cli.session import session

Reservation = Annotated[str, typer.Argument(metavar="RESERVATION", help="the reservation's id")]
reservations = typer.Typer(help="Keep a node for yourself, for a while.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.add_typer(reservations, name="reservations")


@reservations.command("list")
def list_reservations(
    context: typer.Context,
    active: Annotated[bool, typer.Option("--active", help="only those that keep a node now")] = False,
    page: Annotated[int, typer.Option(min=1)] = 1,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
) -> None:
    """List your reservations, newest first."""
    here = session(context)
    found = here.ask(lambda client: client.reservations(active=active or None, page=page, limit=limit))
    here.show(found, listed)


@reservations.command("show")
def show_reservation(context: typer.Context, reservation: Reservation) -> None:
    """Show one reservation."""
    here = session(context)
    here.show(here.ask(lambda client: client.reservation(reservation)), show.record)


@reservations.command()
def create(
    context: typer.Context,
    node: Annotated[str, typer.Argument(metavar="NODE", help="the node's id")],
    minutes: Annotated[int, typer.Option(help="for how long, 10 to 1440")] = 60,
    job: Annotated[Path | None, typer.Option(help="the first job to run there", metavar="FILE")] = None,
) -> None:
    """Reserve a node. Further jobs run there with `cyxwiz submit FILE --set reservation=RESERVATION`."""
    here = session(context)
    made = here.ask(lambda client: client.reserve(node, minutes, job))
    here.show(made, lambda document: show.record(_without_token(document)))


@reservations.command()
def extend(
    context: typer.Context,
    reservation: Reservation,
    minutes: Annotated[int, typer.Option(help="how many minutes more")],
) -> None:
    """Keep the node longer, at the same price."""
    here = session(context)
    here.show(here.ask(lambda client: client.extend_reservation(reservation, minutes)), show.record)


@reservations.command()
def release(
    context: typer.Context,
    reservation: Reservation,
    reason: Annotated[str, typer.Option(help="why, for the record")] = "",
) -> None:
    """Give the node back: what was used is paid, the rest goes back. What runs there is cancelled."""
    here = session(context)
    here.show(here.ask(lambda client: client.release_reservation(reservation, reason)), show.record)


def listed(document: Any) -> None:
    show.table(
        ("ID", "Node", "Status", "Until", "Left", "Locked", "Jobs"),
        (
            (
                each["id"],
                each["node_id"],
                each["status"],
                show.when(each["ends_at"]),
                f"{each['remaining_seconds'] // 60} min",
                each["escrow"],
                each["jobs_completed"],
            )
            for each in document["reservations"]
        ),
        least=("Node", "Jobs", "Locked", "Left"),
    )


def _without_token(document: Any) -> Any:
    """A token is for programs: `--output json` has it."""
    p2p = {name: value for name, value in document["p2p"].items() if name != "auth_token"}
    return {**document, "p2p": p2p}
