"""The options that every command takes, wherever they stand on the command line.

Light on purpose: `cyxwiz run` reads its command line with this and nothing heavier. What comes after `--` is left
alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

OUTPUTS = ("table", "json", "yaml")
VALUED = {
    "--server": "server",
    "--token": "token",
    "--data-dir": "data_dir",
    "--ca-file": "ca_file",
    "--cert-file": "cert_file",
    "--key-file": "key_file",
    "--output": "output",
}


class UsageError(Exception):
    """The command line can't be read; the message is one line for a person."""


@dataclass
class Options:
    server: str | None = None
    token: str | None = None
    data_dir: str | None = None
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    output: str = "table"
    debug: bool = False

    @property
    def directory(self) -> Path:
        """The data directory that is meant."""
        if self.data_dir:
            return Path(self.data_dir)
        from cyxwiz.config import default_data_dir

        return default_data_dir()


def split(args: Sequence[str]) -> tuple[Options, list[str], str | None]:
    """(the common options, the rest in its order, what is wrong with the options if something is)."""
    options, rest, wrong = Options(), [], None
    waiting = iter(args)
    for arg in waiting:
        name, equals, value = arg.partition("=")
        if arg == "--":
            rest += [arg, *waiting]
        elif arg == "--debug":
            options.debug = True
        elif name in VALUED:
            given = value if equals else next(waiting, None)
            if given is None:
                wrong = f"{name} needs a value"
            elif name == "--output" and given not in OUTPUTS:
                wrong = f"--output {given}: must be one of {', '.join(OUTPUTS)}"
            else:
                setattr(options, VALUED[name], given)
        else:
            rest.append(arg)
    return options, rest, wrong
