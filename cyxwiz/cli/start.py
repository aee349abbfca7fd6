"""`cyxwiz run`: from flags to settings to the program. Imports nothing that central does not need to be ready."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cyxwiz.cli.arguments import Options
from cyxwiz.runtime import collecting

ROLES = ("central", "node", "both")


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"error: {message}; see `cyxwiz run --help`", file=sys.stderr)
        raise SystemExit(2)


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="cyxwiz run",
        allow_abbrev=False,
        description="Runs central, a node, or both in one process, until SIGTERM or Ctrl-C.",
        epilog="Settings: defaults < config.toml < environment CYXWIZ_SECTION__KEY < --set. See `cyxwiz config show`.",
    )
    parser.add_argument("--role", choices=ROLES, default="both", help="what to run (default: both)")
    parser.add_argument("--config", type=Path, metavar="FILE", help="settings file (default: ./config.toml)")
    parser.add_argument("--set", action="append", default=[], metavar="SECTION.KEY=VALUE", help="one setting; repeat")
    parser.add_argument("--ready-file", type=Path, metavar="PATH", help="gets a JSON object when all doors are open")
    parser.add_argument("--allow-unsafe", action="store_true", help="allow node.sandbox = none: jobs run unconfined")
    parser.add_argument("--data-dir", metavar="DIR", help="where everything is kept; also CYXWIZ_DATA_DIR")
    parser.add_argument("--debug", action="store_true", help="show where an unexpected error came from")
    return parser


def run(options: Options, args: Sequence[str]) -> int:
    """Runs until it is told to stop; the exit status."""
    collecting.seldom()
    given = _parser().parse_args(args)
    from cyxwiz.config import ConfigError, load

    try:
        loaded = load(file=given.config, flags=given.set)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    try:
        from cyxwiz.app import process

        return process.main(loaded, given.role, options.directory, given.ready_file, allow_unsafe=given.allow_unsafe)
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if options.debug:
            raise
        print(f"error: {type(error).__name__}: {error} (--debug shows where)", file=sys.stderr)
        return 1
