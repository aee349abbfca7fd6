"""`cyxwiz simulate`: plays histories of a whole platform on virtual time, with faults drawn from a seed.

Exits 0 when every promise held, 1 at the first history in which one did not, after saying how to replay it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Annotated

import typer

from cyxwiz.cli.session import session

if TYPE_CHECKING:
    from cyxwiz.simulation.run import Outcome


def add_to(app: typer.Typer) -> None:
    app.command()(simulate)


def simulate(
    context: typer.Context,
    seed: Annotated[int, typer.Option(help="The history to play; the first one with --count.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="How many seeds to play, from --seed on.")] = 1,
    steps: Annotated[int, typer.Option(min=1, max=100_000, help="Faults and users' actions in a history.")] = 24,
    jobs: Annotated[int, typer.Option(min=1, max=10_000, help="Jobs that are submitted in a history.")] = 6,
    nodes: Annotated[int, typer.Option(min=1, max=1_000, help="Nodes that run them.")] = 3,
    trace: Annotated[bool, typer.Option("--trace", help="Print what happened in every history.")] = False,
) -> None:
    """Play faults against central and its nodes on virtual time, and check every promise after every commit."""
    from cyxwiz.simulation.run import simulate as play

    outcomes: list[Outcome] = []
    for number in range(seed, seed + count):
        outcome = play(number, jobs=jobs, nodes=nodes, steps=steps)
        outcomes.append(outcome if trace or not outcome.ok else replace(outcome, trace=()))
        if not outcome.ok:
            break
    held = all(outcome.ok for outcome in outcomes)
    document = {"held": held, "commits": sum(each.commits for each in outcomes), "histories": [*map(asdict, outcomes)]}
    session(context).show(document, lambda _: _tell(outcomes, document["commits"], asked=count, trace=trace))
    if not held:
        raise typer.Exit(1)


def _tell(outcomes: Sequence[Outcome], commits: int, *, asked: int, trace: bool) -> None:
    for outcome in outcomes:
        if trace:
            print("\n".join(outcome.trace))
        if not outcome.ok or trace or asked == 1:
            print(outcome)
    if asked > 1 and outcomes[-1].ok:
        print(f"seeds {outcomes[0].seed} to {outcomes[-1].seed}: every promise held, {commits} commits checked")
