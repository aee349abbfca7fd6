"""Amounts of money on the command line."""

from __future__ import annotations

import re
from typing import Annotated, Any

import typer
from typer.core import TyperArgument, TyperCommand

HELP = "CYXWIZ, such as 1.5"
Amount = Annotated[str, typer.Argument(metavar="AMOUNT", help=HELP)]
_BELOW_ZERO = re.compile(r"-[0-9.]")


class TakesAmount(TyperCommand):
    """A command whose amount may begin with a minus, so that it is refused as an amount and not as an option."""

    ignore_unknown_options = True

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        rest = super().parse_args(ctx, args)
        for param in self.params:
            given = ctx.params.get(str(param.name)) if isinstance(param, TyperArgument) else None
            if isinstance(given, str) and given.startswith("-") and not _BELOW_ZERO.match(given):
                ctx.fail(f"No such option: {given}")
        return rest
