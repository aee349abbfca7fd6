"""Jobs by REST."""

from __future__ import annotations

from fastapi import Request
from starlette.responses import Response

from cyxwiz.domain.errors import Code
from cyxwiz.services.api import Api, Call, JobList, QuoteJob, Reason, Tail, WatchFrom
from cyxwiz.services.call import Paging
from cyxwiz.services.jobfile import JobFile
from cyxwiz.transports.auth import Guard
from cyxwiz.transports.rest.request import Access, Operation, reply
from cyxwiz.transports.rest.streams import Streams, open_stream

_OWN = (Code.NOT_FOUND, Code.FORBIDDEN)


def operations(api: Api, guard: Guard, streams: Streams) -> list[Operation]:
    async def submit(_: Request, call: Call) -> Response:
        job, new = await api.submit(call)
        return reply(job, 201 if new else 200, {"Location": f"/api/jobs/{job['id']}"})

    async def events(request: Request, call: Call) -> Response:
        args = dict(call.args or {})
        if last := request.headers.get("last-event-id"):
            args["cursor"] = last
        actor = call.caller
        source = api.watch_job(Call(actor, call.id, args))
        return await open_stream(
            source,  # type: ignore[arg-type]
            lambda update: update["cursor"],
            streams=streams,
            guard=guard,
            key=f"rest:{actor.id}",
        )

    taken = (Code.NOT_FOUND, Code.UNSUPPORTED, Code.EXHAUSTED)
    path = "/api/jobs/{id}"
    return [
        Operation("GET", "/api/jobs", "Your jobs, newest first", "Jobs", api.list_jobs, query=JobList),
        Operation(
            "POST",
            "/api/jobs",
            "Submit a job: the job file as JSON",
            "Job",
            serve=submit,
            body=JobFile,
            status=201,
            also={200: "The job that this idempotency key made before"},
            headers={"Idempotency-Key": "the same key and content get the first answer again; other content: CONFLICT"},
            refuses=(*taken, Code.CONFLICT),
        ),
        Operation(
            "POST",
            "/api/jobs/plan",
            "What a submit would meet: the price, and every node's answer",
            "Plan",
            api.plan_job,
            body=JobFile,
            refuses=(*taken, Code.CONFLICT),
        ),
        Operation(
            "POST",
            "/api/jobs/quote",
            "What a wallet's owner is asked to lock for a job, to be signed with its key",
            "JobQuote",
            api.quote_job,
            body=QuoteJob,
            refuses=taken,
        ),
        Operation("GET", path, "A job", "Job", api.get_job, refuses=_OWN),
        Operation(
            "DELETE", path, "Forget a job that has ended", "DeletedJob", api.delete_job, refuses=(*_OWN, Code.CONFLICT)
        ),
        Operation(
            "POST",
            f"{path}/cancel",
            "End a job that has not ended",
            "Job",
            api.cancel_job,
            body=Reason,
            body_optional=True,
            refuses=(*_OWN, Code.CONFLICT),
        ),
        Operation(
            "POST",
            f"{path}/pause",
            "Set it aside, with a checkpoint if it runs",
            "Job",
            api.pause_job,
            refuses=(*_OWN, Code.CONFLICT),
        ),
        Operation(
            "POST",
            f"{path}/resume",
            "Let a paused job go on from its last checkpoint",
            "Job",
            api.resume_job,
            refuses=(*_OWN, Code.CONFLICT),
        ),
        Operation(
            "POST",
            f"{path}/preempt",
            "Take it away from its node, with a checkpoint; it goes on elsewhere",
            "Job",
            api.preempt_job,
            body=Reason,
            body_optional=True,
            refuses=(*_OWN, Code.CONFLICT),
        ),
        Operation(
            "GET",
            f"{path}/checkpoints",
            "Its saved states, newest first",
            "JobCheckpoints",
            api.get_job_checkpoints,
            query=Paging,
            refuses=_OWN,
        ),
        Operation(
            "GET",
            f"{path}/explain",
            "Why a job waits, or where it went",
            "Explanation",
            api.explain_job,
            refuses=_OWN,
        ),
        Operation(
            "GET",
            f"{path}/metrics",
            "Its curve, from an offset on",
            "JobMetrics",
            api.get_job_metrics,
            query=Tail,
            large=True,
            refuses=_OWN,
        ),
        Operation(
            "GET",
            f"{path}/logs",
            "Its log, from an offset on",
            "JobLogs",
            api.get_job_logs,
            query=Tail,
            large=True,
            refuses=_OWN,
        ),
        Operation("GET", f"{path}/result", "Its result", "Result", api.get_job_result, refuses=(*_OWN, Code.CONFLICT)),
        Operation(
            "GET",
            f"{path}/proof",
            "The chain of its run, and what nodes signed",
            "Proof",
            api.get_job_proof,
            refuses=_OWN,
        ),
        Operation(
            "GET",
            f"{path}/receipt",
            "What was used, and its price",
            "Receipt",
            api.get_job_receipt,
            refuses=(*_OWN, Code.CONFLICT),
        ),
        Operation(
            "GET",
            f"{path}/events",
            "Follow a job to its end: Server-Sent Events, each a JobUpdate; `id` is the cursor",
            "text/event-stream",
            serve=events,
            query=WatchFrom,
            headers={"Last-Event-ID": "the cursor of the last event seen: goes on behind it"},
            access=Access.STREAM,
            refuses=_OWN,
        ),
    ]
