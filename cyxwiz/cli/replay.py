"""`cyxwiz replay JOB`: does a job again on this machine, and compares its chain link by link, and its file at the end.

Exit status 0: every link is equal; 1: one differs, and its step is named, or the job could not be done again. What is
run is a declared model by this program's own trainer in a child: no code comes with it.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyxwiz.cli import show
from cyxwiz.cli.process import File, Sets, load_settings
from cyxwiz.cli.session import session
from cyxwiz.client.weights import WEIGHTS, weights_digest
from cyxwiz.domain.errors import Code, CyxError, unsupported
from cyxwiz.domain.proof import Kind, Link, loss_bits
from cyxwiz.domain.proof_document import whole_chain

if TYPE_CHECKING:
    from cyxwiz.client import Client
    from cyxwiz.config import NodeSection
    from cyxwiz.ports.executor import Work

Json = dict[str, Any]


def add_to(app: typer.Typer) -> None:
    app.command()(replay)


def replay(
    context: typer.Context,
    job: Annotated[str, typer.Argument(metavar="JOB", help="the job's id")],
    threads: Annotated[int, typer.Option(min=0, help="CPU threads; 0: as many as the job had")] = 0,
    file: File = None,
    sets: Sets = None,
) -> None:
    """Do a job again here, and compare its proof link by link. Its data come as the settings of a node here say."""
    here, node = session(context), load_settings(file, sets).config.node

    async def work(client: Client) -> Json:
        if (await client.get(job))["resources"]["nodes"] > 1:
            raise unsupported("A job of several nodes can't be replayed on one: its members add in another order.")
        document = await client.proof(job)
        expected = whole_chain(document)
        async with AsyncExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="cyxwiz-replay-")))
            again = await _work(stack, client, document, expected, folder, threads, node)
            got = await run_again(again, expected, folder / "sandbox", here.note)
            if got["links"] == expected:
                got["file"] = await _file(client, job, folder / WEIGHTS, here.note)
        return compared(document, expected, got)

    found = here.ask(work)
    here.show(found, _table)
    if not found["equal"]:
        raise typer.Exit(1)


async def _file(client: Client, job: str, path: Path, note: Callable[[str], None]) -> str | None:
    """The digest of the weights that the result's file has; None where it can't be had any more."""
    try:
        files = {each["name"]: each["sha256"] for each in (await client.result(job))["files"]}
        return weights_digest(await client.pull_blob(files[WEIGHTS], path))
    except (CyxError, KeyError) as error:
        if isinstance(error, CyxError) and error.code not in (Code.NOT_FOUND, Code.FORBIDDEN, Code.CONFLICT):
            raise
        note("the result's file is not to be had: only its chain was compared")
        return None


async def run_again(work: Work, expected: list[Link], sandbox: Path, note: Callable[[str], None]) -> Json:
    """Runs the job until its end or the first link that differs: its links, its data's digest, its environment."""
    from cyxwiz.compute.executor import ProcessExecutor
    from cyxwiz.compute.sandbox.sandbox import Sandbox
    from cyxwiz.ports.executor import Failed, Linked
    from cyxwiz.runtime.clock import SystemClock

    got: list[Link] = []
    told: Json = {"links": got, "data": "", "environment": {}}
    executor = ProcessExecutor(SystemClock(), Sandbox("none", sandbox), warm_children=0)
    try:
        run = await executor.start(work)
        async with aclosing(run.reports()) as reports:  # type: ignore[type-var]
            async for report in reports:
                if isinstance(report, Failed):
                    raise CyxError(Code(report.code), f"The replay failed: {report.message}")
                if not isinstance(report, Linked):
                    continue
                link = Link(Kind(report.kind), report.step, loss_bits(report.loss), report.weights, report.link)
                told["data"], told["environment"] = report.data, json.loads(report.environment)
                got.append(link)
                note(f"step {link.step}: {link.link[:16]}")
                if link != expected[len(got) - 1 : len(got)][0]:
                    break
        await run.cancel()
    finally:
        await executor.aclose()
    return told


async def _work(
    stack: AsyncExitStack,
    client: Client,
    document: Json,
    expected: list[Link],
    folder: Path,
    threads: int,
    node: NodeSection,
) -> Work:
    from cyxwiz.app.node import fetch_settings
    from cyxwiz.compute.data.fetch import DataCache
    from cyxwiz.ports.executor import Work
    from cyxwiz.runtime.clock import SystemClock

    definition, told = document["definition"], document["links"][0]["environment"]
    uri: str = definition["dataset_uri"]
    if uri.startswith("remote:"):
        raise unsupported("A job on data that its owner streams can't be replayed: they are stored nowhere.")

    async def pull(sha256: str, path: Path) -> None:
        await client.pull_blob(sha256, path)

    cache = DataCache(folder / "cache", fetch_settings(node), SystemClock(), pull)
    stack.push_async_callback(cache.aclose)
    data = await cache.hold(uri)
    return Work(
        job_id=document["job_id"],
        job_type=document["job_type"],
        model=definition["model"],
        dataset_uri=uri,
        hyperparameters=definition["hyperparameters"],
        epochs=definition["epochs"],
        batch_size=definition["batch_size"],
        seed=document["seed"],
        device="cuda:0" if told.get("device") == "cuda" and await asyncio.to_thread(_has_gpu) else "cpu",
        threads=threads or int(told.get("threads", 1)),
        work_dir=folder / "work",
        data_roots=tuple(Path(root).resolve() for root in node.data_roots),
        dataset_path=data.path if data is not None else None,
        link_steps=tuple(link.step for link in expected if link.kind is Kind.CHECKPOINT),
    )


def _has_gpu() -> bool:
    from cyxwiz.compute.devices import device_of

    try:
        device_of("cuda:0")
    except CyxError:
        return False
    return True


def compared(document: Json, expected: list[Link], told: Json) -> Json:
    """What the replay found. `first_difference` is the step of the first link that differs; None: all are equal."""
    from cyxwiz.domain.proof import first_difference

    got: list[Link] = told["links"]
    step = first_difference(expected, got)
    spoiled = told.get("file") not in (None, expected[-1].weights)
    index = next((number for number, pair in enumerate(zip(expected, got, strict=False)) if pair[0] != pair[1]), None)
    differs = ["file"] if spoiled else None
    if index is not None:
        differs = _differs(document, expected[index], got[index], told)
    return {
        "job_id": document["job_id"],
        "equal": step is None and not spoiled,
        "links": len(expected),
        "first_difference": expected[-1].step if spoiled else step,
        "differs_in": differs,
        "environment": told["environment"],
        "job_environment": document["links"][index or 0]["environment"],
    }


def _differs(document: Json, one: Link, other: Link, told: Json) -> list[str]:
    found = [name for name in ("kind", "step", "loss", "weights") if getattr(one, name) != getattr(other, name)]
    if told["data"] != document["data_sha256"]:
        found.insert(0, "data")
    return found or ["link"]


def _table(document: Json) -> None:
    if document["equal"]:
        print(f"equal: all {document['links']} links, to the result")
        return
    differs = ", ".join(document["differs_in"] or ["a link is missing"])
    print(f"differs first at step {document['first_difference']}: {differs}")
    for name in sorted(document["environment"]):
        ours, theirs = document["environment"][name], document["job_environment"].get(name)
        if ours != theirs:
            print(f"  {name}: {show.plain(str(ours))} here, {show.plain(str(theirs))} there")
