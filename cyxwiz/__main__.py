"""The command `cyxwiz`. `run` takes the short way: central must be ready before a person notices the wait."""

from __future__ import annotations

import sys


def main() -> None:
    from cyxwiz.cli.arguments import split

    options, rest, wrong = split(sys.argv[1:])
    if rest[:1] == ["run"] and wrong is None:
        from cyxwiz.cli.start import run

        sys.exit(run(options, rest[1:]))
    from cyxwiz.cli.app import run_command

    sys.exit(run_command(options, rest, wrong))


if __name__ == "__main__":
    main()
