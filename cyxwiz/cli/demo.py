"""`cyxwiz demo`: central and a node in a directory of their own, one job from submit to receipt, and all gone again.

Promised: nothing outside the temporary directory is touched, no port is fixed, the process that was started is ended
whatever happens. It succeeds only if the model got at least 95 % of the held-out digits right, and the money adds up:
what the client has less is what the node, which has a wallet of its own here, and the platform have more.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyxwiz.cli import live, show, show_money
from cyxwiz.cli.session import Session, session
from cyxwiz.domain.errors import Code, CyxError

if TYPE_CHECKING:
    from cyxwiz.client import Client

Json = dict[str, Any]
SETTLE_SECONDS = 10.0
ENOUGH = 0.95
READY_SECONDS = 60
STOP_SECONDS = 30
LOG = "cyxwiz.log"


def add_to(app: typer.Typer) -> None:
    app.command()(demo)


def digits(epochs: int) -> Json:
    """The job of examples/digits.toml, in batches so small that it takes some seconds: its money flows meanwhile."""
    return {
        "name": "digits-mlp",
        "type": "training",
        "dataset": "builtin:digits",
        "epochs": epochs,
        "batch_size": 8,
        "seed": 0,
        "model": {"layers": [{"type": "dense", "units": 64}, {"type": "relu"}, {"type": "dense", "units": 10}]},
        "hyperparameters": {"optimizer": "adam", "learning_rate": 0.001},
    }


def demo(
    context: typer.Context,
    epochs: Annotated[int, typer.Option(min=1, help="passes over the data")] = 50,
    keep: Annotated[bool, typer.Option("--keep", help="leave the data directory for you to look at")] = False,
) -> None:
    """Train a model on this machine, through everything that CyxWiz is made of."""
    here = session(context)
    directory = Path(tempfile.mkdtemp(prefix="cyxwiz-demo-"))
    try:
        document = asyncio.run(_demo(here, directory, epochs))
    finally:
        if keep:
            here.note(f"kept: {directory} (look around with `cyxwiz run --data-dir {directory}`)")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    here.show(document, lambda _: _by_hand(document))
    if not document["passed"]:
        raise typer.Exit(1)


async def _demo(here: Session, directory: Path, epochs: int) -> Json:
    from cyxwiz.client import FROM_START, Client
    from cyxwiz.client.keypair import Keypair

    # Ended from outside it stops what it started, as on Ctrl-C.
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    _say(here, "Starting central and a node …")
    node_wallet = Keypair(os.urandom(32)).address  # nobody takes out what comes here: the chain is gone with the demo
    async with _started(directory, node_wallet) as ready:
        _say(here, f"Central listens on {ready['grpc']} and {ready['rest']}, the node {ready['node_id']} has joined.")
        async with Client(ready["grpc"], data_dir=directory) as client:
            before = await _balances(client, node_wallet)
            job = await client.submit(digits(epochs))
            _say(here, f"Submitted job {job['id']}.\n")
            with live.JobView(stdout=not here.machine) as view:
                async with aclosing(client.watch(job["id"], FROM_START)) as updates:
                    async for update in updates:
                        job = update["job"]
                        view.update(update)
            if job["status"] != "completed":
                error = job["error"] or {}
                raise CyxError(Code.INTERNAL, f"The job is {job['status']}: {error.get('message', job['reason'])}")
            result, receipt = await client.result(job["id"]), await _settled(client, job["id"])
            balances = show_money.changes(before, await _balances(client, node_wallet))
        accuracy = float(result["final_metrics"].get("val_accuracy", 0.0))
        adds_up = sum(each["change_units"] for each in balances) == 0 and receipt["settled"]
        passed = accuracy >= ENOUGH and adds_up
        document = {"passed": passed, "val_accuracy": accuracy, "job": job, "result": result, "receipt": receipt}
        document |= {"balances": balances, "balances_add_up": adds_up}
        if not here.machine:
            _tell(document)
        _say(here, "\nStopping …")
    return document


@asynccontextmanager
async def _started(directory: Path, node_wallet: str) -> AsyncIterator[Json]:
    """`cyxwiz run --role both` as a process of its own; the addresses that it prints."""
    from cyxwiz.compute.sandbox.confine import die_with_parent

    command = [sys.executable, "-m", "cyxwiz", "run", "--role", "both", "--data-dir", str(directory)]
    command += ["--set", "server.grpc_address=127.0.0.1:0", "--set", "server.rest_address=127.0.0.1:0"]
    command += ["--set", "node.name=demo-node", "--set", "logging.format=text"]
    command += ["--set", f"node.wallet_address={node_wallet}", "--set", "ledger.stream_interval_seconds=1"]
    package = str(Path(__file__).parents[2])
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CYXWIZ_")}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, environment.get("PYTHONPATH"))))
    with (directory / LOG).open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=directory,  # no config.toml of the user's counts here
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,  # Ctrl-C is for this process, which stops the other in order
            # Killed, it can't stop it any more.
            preexec_fn=partial(die_with_parent, os.getpid(), signal.SIGTERM) if sys.platform == "linux" else None,
        )
    try:
        yield await _until_ready(process, directory)
    finally:
        await _stop(process)


async def _until_ready(process: asyncio.subprocess.Process, directory: Path) -> Json:
    assert process.stdout is not None
    printed: Json = {}
    try:
        async with asyncio.timeout(READY_SECONDS):
            async for line in process.stdout:
                name, _, value = line.decode().strip().partition(" ")
                if name == "ready":
                    return printed
                printed[name] = value
            await process.wait()
    except TimeoutError:
        raise CyxError(
            Code.TIMEOUT, f"Central was not ready within {READY_SECONDS} s: {_last_words(directory)}"
        ) from None
    raise CyxError(Code.INTERNAL, f"Central ended with status {process.returncode}: {_last_words(directory)}")


def _last_words(directory: Path) -> str:
    lines = (directory / LOG).read_text(errors="replace").strip().splitlines()
    return " / ".join(lines[-3:]) or "it said nothing"


async def _stop(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(STOP_SECONDS):
            await process.wait()
    except (TimeoutError, asyncio.CancelledError):
        process.kill()
        await process.wait()
        raise


async def _settled(client: Client, job_id: str) -> Json:
    """The receipt once the money has come to its end, which takes a moment; after `SETTLE_SECONDS` as it is."""
    for _ in range(int(SETTLE_SECONDS / 0.1)):
        receipt = await client.receipt(job_id)
        if receipt["settled"]:
            return receipt
        await asyncio.sleep(0.1)  # noqa: TID251  a command has no injected clock
    return await client.receipt(job_id)


async def _balances(client: Client, node_wallet: str) -> Json:
    """Units by who has them."""
    platform = (await client.platform())["ledger"]["platform"]
    accounts = {"you": "", "the node": node_wallet, "the platform": platform}
    return {who: (await client.wallet(account))["balance_units"] for who, account in accounts.items()}


def _say(here: Session, text: str) -> None:
    if here.machine:
        here.note(text.strip())
    else:
        print(text, flush=True)


def _tell(document: Json) -> None:
    accuracy, result = document["val_accuracy"], document["result"]
    verdict = "" if accuracy >= ENOUGH else f", which is less than the {ENOUGH:.0%} it should be"
    print(f"\nResult: {accuracy:.1%} of the held-out digits are recognised{verdict}.")
    print(f"Weights: {result['model_weights_hash']} ({show.size(result['model_size'])})")
    print("\nReceipt")
    show_money.receipt(document["receipt"])
    print()
    show_money.balances(document["balances"])
    print("The changes add up to nothing." if document["balances_add_up"] else "The money does NOT add up.")


def _by_hand(document: Json) -> None:
    job_id = document["job"]["id"]
    activate = Path(sys.prefix) / "bin" / "activate"
    found = shutil.which("cyxwiz") is not None or not activate.exists()
    print("\nThe same by hand:")
    for command, what in (
        *(() if found else ((f". {shlex.quote(os.path.relpath(activate))}", "in each terminal: brings `cyxwiz`"),)),
        ("cyxwiz run", "central and a node on this machine, in a terminal of its own"),
        ("cyxwiz submit examples/digits.toml --watch", "submits the job and follows it"),
        ("cyxwiz jobs list", "shows its id, such as " + job_id),
        ("cyxwiz jobs result JOB --download model", "fetches the weights, checked"),
        ("cyxwiz receipts show JOB", "what it used and what it cost"),
        ("cyxwiz wallet show", "what you have left"),
    ):
        print(f"  {command:<46} # {what}")
