"""`cyxwiz submit` and `cyxwiz jobs …`.

A command that waits for a job's end succeeds only if the job did.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyxwiz.cli import live, show, show_money
from cyxwiz.cli.amounts import Amount, TakesAmount
from cyxwiz.cli.p2p import submit_p2p
from cyxwiz.cli.session import Session, session
from cyxwiz.domain.errors import Code, CyxError, invalid

if TYPE_CHECKING:
    from cyxwiz.client import Client

Json = dict[str, Any]
Job = Annotated[str, typer.Argument(metavar="JOB", help="the job's id")]
PAGE = 1000

jobs = typer.Typer(help="Look at jobs, steer them, get what they made.", no_args_is_help=True)


def add_to(app: typer.Typer) -> None:
    app.command()(submit)
    app.add_typer(jobs, name="jobs")


def submit(
    context: typer.Context,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="a job file (.toml, .json, .yaml), a .cyxgraph or a .py")
    ],
    watch: Annotated[bool, typer.Option("--watch", help="show its progress until it ends")] = False,
    plan: Annotated[bool, typer.Option("--plan", help="only tell the price and which nodes can run it")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="wait for its end")] = False,
    download: Annotated[Path | None, typer.Option(metavar="DIR", help="wait, and put its files there")] = None,
    idempotency_key: Annotated[str | None, typer.Option(metavar="K", help="the same key never makes two jobs")] = None,
    sets: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="changes a field")] = None,
    p2p: Annotated[bool, typer.Option("--p2p", help="follow it on its node, and stream remote:// data to it")] = False,
    way: Annotated[str, typer.Option("--p2p-way", help="auto, direct, or relay (over central)")] = "auto",
    wallet: Annotated[
        Path | None,
        typer.Option(metavar="KEYPAIR.json", help="lock its money with this key, in place of your balance's"),
    ] = None,
) -> None:
    """Submit a job."""
    from cyxwiz.client.keypair import Keypair

    here = session(context)
    if plan and (watch or wait or download or p2p or wallet):
        raise invalid("--plan submits nothing, so there is nothing to watch, wait for, download or pay")
    if p2p and wallet:
        raise invalid("--p2p jobs are paid out of your balance: leave --wallet out")
    if way != "auto" and not p2p:
        raise invalid("--p2p-way says how --p2p talks to the node: give both")
    keypair = Keypair.read(wallet) if wallet else None
    given = sets or []
    if download:
        from cyxwiz.client.blobs import make_folder

        make_folder(download)
    if p2p:
        submit_p2p(here, file, given, way=way, download=download, key=idempotency_key)
        return

    async def work(client: Client) -> tuple[Json, bool]:
        try:
            job = await client.prepare(file, given)
            if plan:
                return await client.plan(job), False
            made = await client.submit(job, idempotency_key, wallet=keypair)
        except CyxError as error:
            raise _placed(error, file, given) from None
        if str(made["dataset_uri"]).startswith("remote:"):
            here.note("its node waits for a client that streams the data: submit --p2p is one")
        if not (watch or wait or download):
            return made, False
        here.note(f"job {made['id']} submitted")
        final = await _follow(here, client, made["id"], shown=watch)
        if download and final["status"] == "completed":
            await _save(here, client, made["id"], download)
        return final, True

    document, ended = here.ask(work)
    here.show(document, show.plan if plan else show.job)
    if not plan and not ended and not here.machine:
        here.note(f"follow it with `cyxwiz jobs watch {document['id']}`")
    if ended:
        _exit_as(document)


def _placed(error: CyxError, file: Path, sets: Sequence[str]) -> CyxError:
    """The same error with the line of the job file that it is about, where one line is."""
    field = str(error.details.get("field") or "")
    said_here = any(field == setting.partition("=")[0].strip() for setting in sets)
    if error.code is not Code.INVALID or not field or said_here or "file" in error.details:
        return error
    from cyxwiz.client.jobfile import locate

    line = locate(file, field)
    if line is None:
        return error
    details = {**error.details, "file": str(file), "line": line}
    return CyxError(error.code, f"{file}:{line}: {error.message}", details, retryable=error.retryable)


async def _follow(here: Session, client: Client, job_id: str, *, shown: bool) -> Json:
    """The job object at its end; `shown` with all that happens before."""
    from cyxwiz.client import FROM_START

    job: Json = {}
    with here.following(job_id):
        if not shown:
            return await client.wait(job_id)
        with live.JobView() as view:
            async with aclosing(client.watch(job_id, FROM_START)) as updates:
                async for update in updates:
                    job = update["job"]
                    view.update(update)
    return job


async def _save(here: Session, client: Client, job_id: str, directory: Path) -> None:
    with live.transfer() as progress:
        for path in await client.download(job_id, directory, progress):
            here.note(f"saved {path}")


def _exit_as(job: Json) -> None:
    if job["status"] != "completed":
        raise typer.Exit(1)


@jobs.command("list")
def list_jobs(
    context: typer.Context,
    status: Annotated[
        str | None, typer.Option(help="pending, assigned, running, paused, completed, failed or cancelled")
    ] = None,
    name: Annotated[str | None, typer.Option(help="part of the name")] = None,
    node: Annotated[str | None, typer.Option(help="id of the node that has it")] = None,
    page: Annotated[int, typer.Option(min=1)] = 1,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
) -> None:
    """List your jobs, the newest first."""
    here = session(context)
    found = here.ask(lambda client: client.list_jobs(status=status, name=name, node_id=node, page=page, limit=limit))
    here.show(found, show.jobs)


@jobs.command("show")
def show_job(context: typer.Context, job: Job) -> None:
    """Show one job."""
    here = session(context)
    here.show(here.ask(lambda client: client.get(job)), show.job)


@jobs.command()
def watch(context: typer.Context, job: Job) -> None:
    """Follow a job until it ends."""
    here = session(context)
    final = here.ask(lambda client: _follow(here, client, job, shown=True))
    here.show(final, show.job)
    _exit_as(final)


@jobs.command()
def logs(
    context: typer.Context,
    job: Job,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="go on until the job ends")] = False,
) -> None:
    """Show what a job wrote."""
    here = session(context)
    here.ask(lambda client: _logs(here, client, job, follow))


async def _logs(here: Session, client: Client, job_id: str, follow: bool) -> None:
    if not follow:
        lines = await _all(client.logs, job_id, "logs")
        here.show({"job_id": job_id, "logs": lines}, show.logs)
        return
    from cyxwiz.client import FROM_START

    lines = []
    async with aclosing(client.watch(job_id, FROM_START)) as updates:
        async for update in updates:
            if here.machine:
                lines += update["logs"]
            else:
                show.logs(update)
    if here.machine:
        here.show({"job_id": job_id, "logs": lines}, show.logs)


async def _all(read: Any, job_id: str, name: str) -> list[Json]:
    """Every page of a job's logs or metrics."""
    items: list[Json] = []
    after = 0
    while True:
        document = await read(job_id, after, PAGE)
        items += document[name]
        after = document["next_after"]
        if len(document[name]) < PAGE:
            return items


@jobs.command()
def metrics(context: typer.Context, job: Job) -> None:
    """Show a job's curve."""
    here = session(context)
    points = here.ask(lambda client: _all(client.metrics, job, "metrics"))
    here.show({"job_id": job, "metrics": points}, show.metrics)


@jobs.command()
def cancel(
    context: typer.Context, job: Job, reason: Annotated[str, typer.Option(help="kept with the job")] = ""
) -> None:
    """End a job that has not ended."""
    here = session(context)
    here.show(here.ask(lambda client: client.cancel(job, reason)), show.job)


@jobs.command()
def pause(context: typer.Context, job: Job) -> None:
    """Set a job aside; a run saves a checkpoint first."""
    here = session(context)
    here.show(here.ask(lambda client: client.pause(job)), show.job)


@jobs.command()
def resume(context: typer.Context, job: Job) -> None:
    """Let a paused job go on from its last checkpoint."""
    here = session(context)
    here.show(here.ask(lambda client: client.resume(job)), show.job)


@jobs.command()
def preempt(
    context: typer.Context, job: Job, reason: Annotated[str, typer.Option(help="kept with the job")] = ""
) -> None:
    """Take a job away from its node, with a checkpoint (for admins)."""
    here = session(context)
    here.show(here.ask(lambda client: client.preempt(job, reason)), show.job)


@jobs.command()
def checkpoints(context: typer.Context, job: Job) -> None:
    """List a job's saved states, the newest first."""
    here = session(context)
    here.show(here.ask(lambda client: client.checkpoints(job)), show.checkpoints)


@jobs.command()
def explain(context: typer.Context, job: Job) -> None:
    """Tell why a job waits, or where it went."""
    here = session(context)
    here.show(here.ask(lambda client: client.explain(job)), show.explanation)


@jobs.command()
def result(
    context: typer.Context,
    job: Job,
    download: Annotated[Path | None, typer.Option(metavar="DIR", help="put its files there, each checked")] = None,
) -> None:
    """Show what came out of a job, and fetch it."""
    here = session(context)

    async def work(client: Client) -> Json:
        document = await client.result(job)
        if download:
            await _save(here, client, job, download)
        return document

    here.show(here.ask(work), show.result)


@jobs.command()
def delete(context: typer.Context, job: Job) -> None:
    """Forget an ended job with its curve, logs and result."""
    here = session(context)
    here.show(here.ask(lambda client: client.delete(job)), lambda _: print(f"deleted {job}"))


@jobs.command()
def receipt(context: typer.Context, job: Job) -> None:
    """Show what an ended job used."""
    here = session(context)
    here.show(here.ask(lambda client: client.receipt(job)), show_money.receipt)


@jobs.command(cls=TakesAmount)
def topup(context: typer.Context, job: Job, amount: Amount) -> None:
    """Lock more money for a job; one that was set aside for want of it goes on."""
    here = session(context)
    here.show(here.ask(lambda client: client.top_up(job, amount)), show.job)
