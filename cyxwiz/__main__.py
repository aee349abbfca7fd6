"""The command `cyxwiz`. `run` takes the short way: central must be ready before a person notices the wait."""

from __future__ import annotations

import os
import sys


def main() -> None:
    # gRPC's own notes on standard error are no lines of a log, and help nobody who types commands.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    try:
        sys.exit(_run())
    except KeyboardInterrupt:
        sys.exit(130)  # while the program was loading; a command that runs sees to it itself


def _run() -> int:
    from cyxwiz.cli.arguments import split

    options, rest, wrong = split(sys.argv[1:])
    if rest[:1] == ["run"] and wrong is None:
        from cyxwiz.cli.start import run

        return run(options, rest[1:])
    from cyxwiz.cli.app import run_command

    return run_command(options, rest, wrong)


if __name__ == "__main__":
    main()
