from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from cyxwiz.cli.app import app


def arguments(command: Any) -> Iterator[Any]:
    for each in getattr(command, "commands", {}).values():
        yield from arguments(each)
    yield from (each for each in command.params if each.param_type_name == "argument")


def test_every_argument_says_what_it_is_and_is_written_alike() -> None:
    found = list(arguments(typer.main.get_command(app)))
    assert len(found) > 30
    for each in found:
        assert each.help, each.name
        assert each.metavar == "KEYPAIR.json" or each.metavar.strip("[]").upper() == each.metavar, each.name
