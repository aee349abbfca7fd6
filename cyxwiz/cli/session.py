"""What a command works with: the client, the form of its output, and how it ends.

Promised: with `--output json` standard output holds one JSON document and nothing else; every error is one line on
standard error (an object with `--output json`) and the exit status of `cyxwiz.wire`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from cyxwiz.cli.arguments import Options
from cyxwiz.cli.show import plain
from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.wire import CODES

if TYPE_CHECKING:
    import typer

    from cyxwiz.client import Client

T = TypeVar("T")
Json = dict[str, Any]
INTERRUPTED, TERMINATED = 130, 143


class Session:
    """One run of a command."""

    def __init__(self, options: Options) -> None:
        self.options = options

    @property
    def machine(self) -> bool:
        """Whether a program reads the output."""
        return self.options.output != "table"

    def client(self) -> Client:
        from cyxwiz.client import Client

        chosen = self.options
        return Client(
            chosen.server,
            chosen.token,
            chosen.data_dir,
            chosen.ca_file,
            cert_file=chosen.cert_file,
            key_file=chosen.key_file,
        )

    def ask(self, work: Callable[[Client], Awaitable[T]]) -> T:
        """Runs `work` with a client, and closes it."""

        async def within() -> T:
            async with self.client() as client:
                return await work(client)

        return asyncio.run(within())

    def show(self, document: Any, table: Callable[[Any], None]) -> None:
        """The one document of a command: for a program as it is, for a person as `table` prints it."""
        with writing_output():
            if self.options.output == "json":
                print(json.dumps(document, indent=2, ensure_ascii=False))
            elif self.options.output == "yaml":
                import yaml

                print(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), end="")
            else:
                table(document)

    def note(self, text: str) -> None:
        """Something for a person to know beside the document."""
        print("\n".join(map(plain, text.split("\n"))), file=sys.stderr)

    @contextmanager
    def following(self, job_id: str) -> Iterator[None]:
        """While a command waits for a job's end: who interrupts it is told that the job, which costs money, goes on."""
        try:
            yield
        except asyncio.CancelledError:
            self.note(
                f"job {job_id} has not ended: `cyxwiz jobs watch {job_id}` follows it, "
                f"`cyxwiz jobs cancel {job_id}` ends it"
            )
            raise


def session(context: typer.Context) -> Session:
    found = context.find_root().obj
    assert isinstance(found, Session)
    return found


@contextmanager
def writing_output() -> Iterator[None]:
    """While standard output is written: a disk that has no room for it is told as such, as EXHAUSTED."""
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()
        raise CyxError(Code.EXHAUSTED, f"Standard output can't be written: {error.strerror}", retryable=False) from None


def drop_output() -> None:
    """What is still to be written goes nowhere: Python would try again at its exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def fail(options: Options, error: CyxError) -> int:
    """Says what went wrong; the exit status for it."""
    row = CODES[error.code]
    if options.output == "json":
        body = {
            "code": str(error.code),
            "message": error.message,
            "details": error.details,
            "retryable": error.retryable,
        }
        print(json.dumps({"error": body}, default=str), file=sys.stderr)
    else:
        print(f"error: {plain(' '.join(error.message.split()))}", file=sys.stderr)
    return row.exit


def unexpected(options: Options, error: BaseException) -> int:
    shown = " ".join(f"{type(error).__name__}: {error}".split())
    return fail(options, CyxError(Code.INTERNAL, f"{shown} (this should not happen; --debug shows where)"))
