"""`cyxwiz simulate`: plays histories of a whole platform on virtual time, with faults drawn from a seed.

Exits 0 when every promise held, 1 at the first history in which one did not, after saying how to replay it.
"""

from __future__ import annotations

from typing import Annotated

import typer


def add_to(app: typer.Typer) -> None:
    app.command()(simulate)


def simulate(
    seed: Annotated[int, typer.Option(help="The history to play; the first one with --count.")] = 0,
    count: Annotated[int, typer.Option(min=1, help="How many seeds to play, from --seed on.")] = 1,
    steps: Annotated[int, typer.Option(min=1, max=100_000, help="Faults and users' actions in a history.")] = 24,
    jobs: Annotated[int, typer.Option(min=1, max=10_000, help="Jobs that are submitted in a history.")] = 6,
    nodes: Annotated[int, typer.Option(min=1, max=1_000, help="Nodes that run them.")] = 3,
    trace: Annotated[bool, typer.Option("--trace", help="Print what happened in every history.")] = False,
) -> None:
    """Plays faults against central and its nodes on virtual time, and checks every promise after every commit."""
    from cyxwiz.simulation.run import simulate as play

    commits = 0
    for number in range(seed, seed + count):
        outcome = play(number, jobs=jobs, nodes=nodes, steps=steps)
        commits += outcome.commits
        if trace:
            print("\n".join(outcome.trace))
        if not outcome.ok or trace or count == 1:
            print(outcome)
        if not outcome.ok:
            raise typer.Exit(1)
    if count > 1:
        print(f"seeds {seed} to {seed + count - 1}: every promise held, {commits} commits checked")
