"""`cyxwiz localnet`: a Solana cluster of one on this machine, with the programs, the mint and a faucet."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from cyxwiz.cli.session import Session, session
from cyxwiz.domain.errors import Code, CyxError

Json = dict[str, Any]
DIRECTORY = "localnet"  # in the data directory
LOOPBACK = ("127.0.0.1", "localhost", "::1", "[::1]")


def add_to(app: typer.Typer) -> None:
    app.command()(localnet)


def localnet(
    context: typer.Context,
    port: Annotated[int, typer.Option(min=0, max=65534, help="HTTP; WebSocket has the next; 0: free ones")] = 8899,
    host: Annotated[str, typer.Option(help="beyond this machine, others may use the faucet too")] = "127.0.0.1",
    ready_file: Annotated[Path | None, typer.Option(metavar="PATH", help="gets a JSON object once it serves")] = None,
) -> None:
    """Run a local Solana cluster until SIGTERM or Ctrl-C. What it answered is there after any end of the process."""
    here = session(context)
    try:
        import solders  # noqa: F401
    except ImportError:
        raise CyxError(
            Code.UNSUPPORTED, "cyxwiz localnet needs solders and solana: pip install 'cyxwiz[ledger]'"
        ) from None
    if host not in LOOPBACK:
        here.note(f"warning: {host} is not loopback: anybody who reaches it can use the faucet and move the time")
    asyncio.run(_run(here, host, port, ready_file))


async def _run(here: Session, host: str, port: int, ready_file: Path | None) -> None:
    from cyxwiz.ledger.localnet.chain import open_chain
    from cyxwiz.ledger.localnet.server import LocalnetServer
    from cyxwiz.ledger.programs import Program, local_id
    from cyxwiz.runtime import log as logs
    from cyxwiz.runtime import ready
    from cyxwiz.runtime.clock import SystemClock
    from cyxwiz.runtime.lifecycle import first_death
    from cyxwiz.runtime.tasks import Tasks, spawn

    logs.configure("INFO", "text")
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    ready.prepare(ready_file)
    directory = here.options.directory / DIRECTORY
    chain = await open_chain(directory, SystemClock())
    server = LocalnetServer(chain, host, port)
    tasks = Tasks()
    try:
        await server.start()
        document: Json = {
            "pid": os.getpid(),
            "url": server.url,
            "websocket_url": server.websocket_url,
            "directory": str(directory),
            "mint": str(chain.genesis.mint),
            "programs": {str(program): str(local_id(program)) for program in Program},
            "staking_config": str(chain.genesis.staking_config),
            "slot": chain.slot(),
            "transactions": len(chain.history),
        }
        ready.announce(ready_file, document)
        here.show(document, _tell)
        stopped = spawn(stop.wait(), name="signal", group=tasks)
        death = spawn(first_death(server), name="deaths", group=tasks)
        await asyncio.wait({stopped, death}, return_when=asyncio.FIRST_COMPLETED)
        ready.withdraw(ready_file)
        if death.done():
            raise death.result()
    finally:
        await tasks.aclose()
        await server.stop()
        await chain.aclose()


def _tell(document: Json) -> None:
    print(f"url       {document['url']}")
    print(f"websocket {document['websocket_url']}")
    print(f"directory {document['directory']}")
    print(f"mint      {document['mint']}")
    for name, address in document["programs"].items():
        print(f"{name:9} {address}")
    print("ready", flush=True)
