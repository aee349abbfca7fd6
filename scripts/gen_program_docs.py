"""Measures the compute units of every instruction and writes their table in docs/programs.md. `--check` only compares.

Each is measured once, in the situation of its test, on the virtual machine; keys are fixed, so that the figures repeat.
"""

from __future__ import annotations

import sys
from pathlib import Path

from generated import ROOT, settle

sys.path.insert(0, str(ROOT))

from tests.integration.programs import test_escrow_checks as escrow
from tests.integration.programs import test_staking_checks as staking
from tests.integration.programs.deals import Deal
from tests.integration.programs.pledges import STAKING, Pledges

TARGET = ROOT / "docs" / "programs.md"
BEGIN, END = "<!-- compute units: begin -->\n", "<!-- compute units: end -->\n"


def measure() -> list[tuple[str, str, int]]:
    """Program, instruction, compute units."""
    rows = []
    deal = Deal()
    deal.create()
    rows.append(("escrow", "create", deal.chain.used))
    for step, (situation, build, who) in escrow.STEPS.items():
        deal = Deal()
        situation(deal)
        rows.append(("escrow", step.name.lower(), deal.send(build(deal), getattr(deal, who))))
    world = Pledges()
    rows.append(("staking", "configure", world.chain.used))
    minimum = staking.builders.set_minimum(STAKING, world.config, 5)
    rows.append(("staking", "set_minimum", world.send(minimum, world.admin)))
    rows.append(("staking", "open", world.send(world.staking().open(), world.node)))
    for each, (prepare, make, signer) in staking.STEPS.items():
        world = Pledges()
        prepare(world)
        rows.append(("staking", each.name.lower(), world.send(make(world.staking()), getattr(world, signer))))
    return rows


def render(page: str) -> str:
    head, rest = page.split(BEGIN)
    _, tail = rest.split(END)
    lines = ["| program | instruction | compute units |", "|---|---|---|"]
    lines += [f"| {program} | {name} | {used:,} |" for program, name, used in measure()]
    return head + BEGIN + "\n".join(lines) + "\n" + END + tail


if __name__ == "__main__":
    sys.exit(settle(TARGET, render(Path(TARGET).read_text(encoding="utf-8")), sys.argv[1:], __file__))
