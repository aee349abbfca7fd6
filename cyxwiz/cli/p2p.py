"""`cyxwiz submit --p2p`: the job is followed on its node, which gets its data from here and gives the weights back."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from cyxwiz.cli import live, show
from cyxwiz.cli.session import Session
from cyxwiz.domain.errors import Code, CyxError, invalid

if TYPE_CHECKING:
    from cyxwiz.client import Client, LocalData, P2PSession

Json = dict[str, Any]


def submit_p2p(
    here: Session, file: Path, sets: Sequence[str], *, way: str, download: Path | None, key: str | None
) -> None:
    """Submits the job, follows it to its end and shows it; exits with 1 when it did not complete."""
    from cyxwiz.client.p2p import WAYS

    if way not in WAYS:  # told before the job is there and costs money
        raise invalid(f"--p2p-way: must be one of {', '.join(WAYS)}, not {way!r}")

    async def work(client: Client) -> Json:
        from cyxwiz.client import P2PSession

        job, data = prepared(dict(await client.prepare(file, sets)), file.parent)
        made = await client.submit(job, key)
        here.note(f"job {made['id']} submitted")
        async with AsyncExitStack() as stack:
            session = P2PSession(client, made["id"], way=way, data=data)
            complete: Json = {}
            with here.following(made["id"]):
                try:
                    await _until_given(here, client, made["id"])
                    await stack.enter_async_context(session)
                    here.note(_connected(session))
                    await session.send_job()
                    complete = await _follow(here, session, made)
                except CyxError as error:
                    if error.code is not Code.CONFLICT:
                        raise
                    here.note(error.message)  # it ended, and its node has nothing of it: central says how
                final = await client.wait(made["id"])
            if download and final["status"] == "completed":
                with live.transfer() as progress:
                    name = ""
                    if complete.get("success"):
                        name = Path(complete["weights_location"]).name
                        path = await session.download(download / name, complete["result_hash"], progress)
                        here.note(f"saved {path}, from the node")
                    for path in await client.download(made["id"], download, progress):  # what else there is
                        if path.name != name:
                            here.note(f"saved {path}")
        return final

    document = here.ask(work)
    here.show(document, show.job)
    if document["status"] != "completed":
        raise typer.Exit(1)


def prepared(job: Json, beside: Path) -> tuple[Json, LocalData | None]:
    """The job with a data set `remote://PATH` by its name alone, and what that file holds."""
    from cyxwiz.client.engine import LocalData, local_path, remote_uri

    dataset = job.get("dataset")
    path = local_path(dataset, beside) if isinstance(dataset, str) else None
    if path is None:
        return job, None
    return {**job, "dataset": remote_uri(path)}, LocalData.read(path)


async def _until_given(here: Session, client: Client, job_id: str) -> None:
    """Says why the job waits, until a node has it or it has ended."""
    said = ""
    async with aclosing(client.watch(job_id)) as updates:
        async for update in updates:
            job = update["job"]
            if job["status"] != "pending":
                return
            if job["reason"] not in ("", said):
                said = job["reason"]
                here.note(f"pending: {said}")


def _connected(session: P2PSession) -> str:
    if not session.relayed:
        return f"connected to node {session.node_id}"
    because = f" ({session.why_relayed})" if session.why_relayed else ""
    return f"connected to node {session.node_id} over central{because}"


async def _follow(here: Session, session: P2PSession, job: Json) -> Json:
    """Shows the job's updates; returns the last one."""
    shown: Json = {**job, "status": "running", "reason": "", "metrics": {}}
    update: Json = {}
    relayed = session.relayed
    with live.JobView() as view:
        async with aclosing(session.follow()) as updates:
            async for update in updates:
                if session.relayed != relayed:
                    relayed = session.relayed
                    here.note(_connected(session))
                if update["type"] == "progress":
                    shown |= {"progress": update["progress_percentage"], "current_epoch": update["current_epoch"]}
                    shown["phase"] = "training"
                    shown["metrics"] = {**shown["metrics"], **update["metrics"]}
                    ended = update["current_batch"] == update["total_batches"]
                    point = {"attempt": 1, "epoch": update["current_epoch"], "metrics": update["metrics"]}
                    view.update({"job": shown, "metrics": [{**point, "epoch_ended": ended}]})
                elif update["type"] == "log" and update["level"] >= 2:  # warnings and errors
                    here.note(f"{update['source']}: {update['message']}")
                elif update["type"] == "error":
                    here.note(f"{update['error_code']}: {update['error_message']}")
    return update
