"""Every request that a person's program can make, once: REST and gRPC hand over the caller, an id and arguments, and
send back the document. A method's name in snake_case is its name in `ClientService` in CamelCase."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import AwareDatetime, Field

from cyxwiz.domain.account import Role
from cyxwiz.domain.errors import invalid
from cyxwiz.domain.ids import JobId, parse_node_id, parse_user_id
from cyxwiz.domain.job import Job, JobType
from cyxwiz.domain.link import VALID
from cyxwiz.domain.node import Node, NodeStatus
from cyxwiz.domain.reputation import MAX_NOTE
from cyxwiz.domain.reservation import MAX_MINUTES, MIN_MINUTES
from cyxwiz.domain.states import JobState
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import JobQuery, NodeQuery, ReservationQuery, Store
from cyxwiz.services import proof_views, views
from cyxwiz.services.accounts import Accounts
from cyxwiz.services.blockchain_api import BlockchainApi
from cyxwiz.services.budgets import Budgets
from cyxwiz.services.call import Args, Call, Paging, takes_nothing
from cyxwiz.services.jobfile import parse_jobfile, parse_submission
from cyxwiz.services.jobs import Jobs
from cyxwiz.services.money_api import MoneyApi
from cyxwiz.services.nodes import Nodes
from cyxwiz.services.payments import Payments
from cyxwiz.services.quotes import Quotes
from cyxwiz.services.receipts import Receipts
from cyxwiz.services.reservations import MAX_WALLET, Reservations
from cyxwiz.services.room import Room
from cyxwiz.services.room_api import RoomApi
from cyxwiz.services.stake_api import StakeApi
from cyxwiz.services.stakes import Staking
from cyxwiz.services.views import Json
from cyxwiz.services.wallet_api import WalletApi
from cyxwiz.services.wallets import Wallets
from cyxwiz.services.watch import Cursor, Watch, stats_document

MAX_POINTS = 10_000
LATEST_EVENTS = 20  # of a node's reputation


class JobList(Paging):
    status: Literal["pending", "assigned", "running", "paused", "completed", "failed", "cancelled"] | None = None
    type: Literal["training", "inference", "evaluation", "preprocessing"] | None = None
    node_id: str | None = None
    user_id: str | None = None
    name: str = Field("", max_length=200)
    cursor: str | None = Field(None, max_length=200)


class QuoteJob(Args):
    job: dict[str, Any] = Field(description="a job file")
    wallet_address: str = Field(max_length=64)


class NodeList(Paging):
    mine: bool = False
    status: NodeStatus | None = None
    region: str = Field("", max_length=64)


class ReservationList(Paging):
    active: bool = False
    user_id: str | None = None


class NewReservation(Args):
    node_id: str = Field(max_length=64)
    duration_minutes: int = Field(ge=MIN_MINUTES, le=MAX_MINUTES)
    wallet: str = Field("", max_length=MAX_WALLET)
    job: dict[str, Any] | None = None


class Extension(Args):
    additional_minutes: int = Field(ge=1, le=MAX_MINUTES)


class Tail(Args):
    after: int = Field(0, ge=0, lt=2**63)
    limit: int = Field(1000, ge=1, le=MAX_POINTS)


class Span(Args):
    start: AwareDatetime | None = None
    end: AwareDatetime | None = None
    limit: int = Field(1000, ge=1, le=MAX_POINTS)


class Reason(Args):
    reason: str = Field("", max_length=500)


class Ban(Args):
    seconds: float | None = Field(None, gt=0, le=10 * 366 * 86400)


class Complaint(Args):
    job_id: str
    reason: str = Field(min_length=1, max_length=MAX_NOTE)


class NodeTokenList(Paging):
    usable: bool | None = Field(None, description="neither revoked nor expired nor used up")


class NodeToken(Args):
    uses: int | None = Field(None, ge=1)
    expires_seconds: float | None = Field(None, gt=0)


class Credentials(Args):
    name: str = Field(min_length=1, max_length=64)
    password: str = Field(min_length=1, max_length=1024)


class RefreshToken(Args):
    refresh_token: str = Field(max_length=4096)


class LogoutTokens(Args):
    refresh_token: str = Field("", max_length=4096)


class NewUser(Args):
    name: str = Field(max_length=64)
    password: str = Field("", max_length=1024)
    role: Literal["user", "operator", "admin"] = "user"


class UserList(Paging):
    role: Literal["user", "operator", "admin"] | None = None


class NewBudget(Args):
    amount: str = Field(max_length=80)


class KeyList(Paging):
    revoked: bool | None = None


class NewKey(Args):
    name: str = Field("key", max_length=100)


class WatchFrom(Args):
    cursor: str | None = Field(None, max_length=80)


class Api(MoneyApi, StakeApi, WalletApi, BlockchainApi, RoomApi):
    """The use cases as documents. Methods whose names end a public door need a caller unless they say otherwise."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        jobs: Jobs,
        nodes: Nodes,
        accounts: Accounts,
        watch: Watch,
        reservations: Reservations,
        receipts: Receipts,
        wallets: Wallets,
        payments: Payments | None = None,
        quotes: Quotes | None = None,
        *,
        price_usd: float | None = None,
        staking: Staking | None = None,
        room: Room | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self.jobs = jobs
        self.nodes = nodes
        self.accounts = accounts
        self.budgets = Budgets(store)
        self.watch = watch
        self.receipts = receipts
        self.wallets = wallets
        self.payments = payments
        self.quotes = quotes
        self.reservations = reservations
        self.price_usd = price_usd
        self.staking = staking
        self.room = room

    # jobs

    async def submit_job(self, call: Call) -> Json:
        return (await self.submit(call))[0]

    async def submit(self, call: Call) -> tuple[Json, bool]:
        """(the job object, whether it is new)"""
        actor = call.caller
        spec, funds = parse_submission(dict(call.args or {}))
        if funds is not None and (paid := await self.jobs.paid_by(actor, spec, funds.quote)) is not None:
            return views.job(paid), False
        lock = await self.quoting.lock(actor, spec, funds) if funds is not None else None
        job, new = await self.jobs.submit(actor, spec, call.idempotency_key, lock)
        return views.job(job), new

    async def plan_job(self, call: Call) -> Json:
        spec, funds = parse_submission(dict(call.args or {}))
        if funds is not None:
            await self.quoting.lock(call.caller, spec, funds)
        return views.plan(*await self.jobs.plan(call.caller, spec))

    async def quote_job(self, call: Call) -> Json:
        args = call.read(QuoteJob)
        return await self.quoting.quote(call.caller, parse_jobfile(args.job), args.wallet_address)

    @takes_nothing
    async def get_job(self, call: Call) -> Json:
        return views.job(await self.jobs.get(call.caller, call.id))

    async def list_jobs(self, call: Call) -> Json:
        args, actor = call.read(JobList), call.caller
        query = JobQuery(
            owner_id=parse_user_id(args.user_id) if args.user_id else None,
            states=frozenset({JobState(args.status)}) if args.status else frozenset(),
            types=frozenset({JobType(args.type)}) if args.type else frozenset(),
            node_id=parse_node_id(args.node_id) if args.node_id else None,
            name_contains=args.name,
            offset=args.offset,
            limit=args.limit,
            after=parse_cursor(args.cursor) if args.cursor else None,
        )
        result = await self.jobs.list(actor, query)
        cursor = job_cursor(result.items[-1]) if len(result.items) == args.limit else None
        return views.page("jobs", result, views.job, args.page, args.limit, cursor)

    async def cancel_job(self, call: Call) -> Json:
        return views.job(await self.jobs.cancel(call.caller, call.id, call.read(Reason).reason))

    @takes_nothing
    async def pause_job(self, call: Call) -> Json:
        return views.job(await self.jobs.pause(call.caller, call.id))

    @takes_nothing
    async def resume_job(self, call: Call) -> Json:
        return views.job(await self.jobs.resume(call.caller, call.id))

    async def preempt_job(self, call: Call) -> Json:
        return views.job(await self.jobs.preempt(call.caller, call.id, call.read(Reason).reason))

    async def get_job_checkpoints(self, call: Call) -> Json:
        args = call.read(Paging)
        found = await self.jobs.checkpoints(call.caller, call.id, args.offset, args.limit)
        return {"job_id": call.id, **views.page("checkpoints", found, views.checkpoint, args.page, args.limit)}

    @takes_nothing
    async def delete_job(self, call: Call) -> Json:
        await self.jobs.delete(call.caller, call.id)
        return {"id": call.id, "deleted": True}

    @takes_nothing
    async def explain_job(self, call: Call) -> Json:
        return views.explanation(await self.jobs.explain(call.caller, call.id))

    async def get_job_metrics(self, call: Call) -> Json:
        tail = call.read(Tail)
        points = await self.jobs.metrics(call.caller, call.id, tail.after, tail.limit)
        return {"job_id": call.id, "metrics": [views.metric(p) for p in points], "next_after": _next(points, tail)}

    async def get_job_logs(self, call: Call) -> Json:
        tail = call.read(Tail)
        lines = await self.jobs.logs(call.caller, call.id, tail.after, tail.limit)
        return {"job_id": call.id, "logs": [views.log_line(line) for line in lines], "next_after": _next(lines, tail)}

    @takes_nothing
    async def get_job_result(self, call: Call) -> Json:
        found = await self.jobs.result(call.caller, call.id)
        proof = await self.jobs.proof(call.caller, call.id)
        return {**views.result(found), **proof_views.of_result(proof.proof, proof.verification)}

    @takes_nothing
    async def get_job_proof(self, call: Call) -> Json:
        return proof_views.document(await self.jobs.proof(call.caller, call.id))

    async def watch_job(self, call: Call) -> AsyncIterator[Json]:
        cursor = call.read(WatchFrom).cursor
        async for update in self.watch.job(call.caller, call.id, Cursor.parse(cursor) if cursor else None):
            yield views.update(update)

    # reservations

    async def list_reservations(self, call: Call) -> Json:
        args, actor, now = call.read(ReservationList), call.caller, self._clock.now()
        query = ReservationQuery(
            owner_id=parse_user_id(args.user_id) if args.user_id else None,
            at=now if args.active else None,
            offset=args.offset,
            limit=args.limit,
        )
        found = await self.reservations.list(actor, query)
        return views.page(
            "reservations", found, lambda each: views.reservation(each, now), args.page, args.limit
        )  # fmt: skip

    async def create_reservation(self, call: Call) -> Json:
        args, actor = call.read(NewReservation), call.caller
        spec = parse_jobfile(args.job) if args.job is not None else None
        made = await self.reservations.reserve(
            actor, args.node_id, args.wallet, args.duration_minutes, spec, call.idempotency_key
        )
        return views.reserved(made, self._clock.now())

    @takes_nothing
    async def get_reservation(self, call: Call) -> Json:
        return await self._reservation(call)

    async def extend_reservation(self, call: Call) -> Json:
        minutes = call.read(Extension).additional_minutes
        await self.reservations.extend(call.caller, call.id, minutes, call.idempotency_key)
        return await self._reservation(call)

    async def release_reservation(self, call: Call) -> Json:
        await self.reservations.release(call.caller, call.id, call.read(Reason).reason)
        return await self._reservation(call)

    async def _reservation(self, call: Call) -> Json:
        return views.reservation(await self.reservations.get(call.caller, call.id), self._clock.now())

    # nodes

    @takes_nothing
    async def get_stats(self, call: Call) -> Json:
        return await self._store.read(stats_document)

    async def list_nodes(self, call: Call) -> Json:
        args = call.read(NodeList)
        actor = call.caller
        owner_id = actor.id if args.mine else None
        query = NodeQuery(
            owner_id=owner_id, status=args.status, region_contains=args.region, offset=args.offset, limit=args.limit
        )
        result = await self.nodes.list(query)
        now = self._clock.now()
        return views.page("nodes", result, lambda node: self._node_view(node, now), args.page, args.limit)

    @takes_nothing
    async def get_node(self, call: Call) -> Json:
        """With the latest of what made its reputation."""
        actor = call.caller
        node = await self.nodes.get(call.id)
        account = await self.nodes.account(actor, node.id, LATEST_EVENTS)
        links = await self._store.read(lambda tx: tx.node_links(tx.now - VALID, node.id))
        document = self._node_view(node, self._clock.now())
        return {**document, "reputation_account": views.reputation(account), "links": views.links(links)}

    async def get_node_metrics(self, call: Call) -> Json:
        span = call.read(Span)
        _ = call.caller
        samples = await self.nodes.metrics(call.id, span.start, span.end, span.limit)
        return {"node_id": call.id, "metrics": [views.load_sample(each) for each in samples], "count": len(samples)}

    def _node_view(self, node: Node, now: datetime) -> Json:
        alive = self.nodes.liveness
        return views.node(node, now, alive.closed(node.id), (alive.round_trip(node.id), alive.network_rate(node.id)))

    @takes_nothing
    async def drain_node(self, call: Call) -> Json:
        return self._node_view(await self.nodes.cordon(call.caller, call.id, on=True), self._clock.now())

    @takes_nothing
    async def resume_node(self, call: Call) -> Json:
        return self._node_view(await self.nodes.cordon(call.caller, call.id, on=False), self._clock.now())

    async def ban_node(self, call: Call) -> Json:
        return self._node_view(await self.nodes.ban(call.caller, call.id, call.read(Ban).seconds), self._clock.now())

    @takes_nothing
    async def unban_node(self, call: Call) -> Json:
        return self._node_view(await self.nodes.unban(call.caller, call.id), self._clock.now())

    async def complain_about_node(self, call: Call) -> Json:
        args, actor = call.read(Complaint), call.caller
        node = await self.nodes.complain(actor, call.id, args.job_id, args.reason)
        return self._node_view(node, self._clock.now())

    async def create_node_token(self, call: Call) -> Json:
        args = call.read(NodeToken)
        token, text = await self.accounts.create_join_token(call.caller, args.uses, args.expires_seconds)
        return {"token": text, **views.join_token(token)}

    async def list_node_tokens(self, call: Call) -> Json:
        args = call.read(NodeTokenList)
        result = await self.accounts.join_tokens(call.caller, args.offset, args.limit, args.usable)
        return views.page("tokens", result, views.join_token, args.page, args.limit)

    @takes_nothing
    async def revoke_node_token(self, call: Call) -> Json:
        return views.join_token(await self.accounts.revoke_join_token(call.caller, call.id))

    # accounts

    async def login(self, call: Call) -> Json:
        """Needs no caller."""
        args = call.read(Credentials)
        return views.tokens(await self.accounts.login(args.name, args.password))

    async def refresh(self, call: Call) -> Json:
        """Needs no caller."""
        return views.tokens(await self.accounts.refresh(call.read(RefreshToken).refresh_token))

    async def logout(self, call: Call) -> Json:
        _ = call.caller
        await self.accounts.logout(call.bearer, call.read(LogoutTokens).refresh_token)
        return {"logged_out": True}

    @takes_nothing
    async def who_am_i(self, call: Call) -> Json:
        actor = call.caller
        user = await self.accounts.user(actor)
        return views.user(user) if user else {"id": actor.id, "name": actor.name, "role": str(actor.role)}

    async def create_user(self, call: Call) -> Json:
        """Needs no caller where sign-up is open; a sign-up is always a user."""
        args = call.read(NewUser)
        return views.user(await self.accounts.create_user(call.actor, args.name, args.password, Role(args.role)))

    async def list_users(self, call: Call) -> Json:
        args = call.read(UserList)
        role = Role(args.role) if args.role else None
        result = await self.accounts.users(call.caller, args.offset, args.limit, role)
        return views.page("users", result, views.user, args.page, args.limit)

    @takes_nothing
    async def disable_user(self, call: Call) -> Json:
        return views.user(await self.accounts.disable_user(call.caller, call.id))

    async def set_user_budget(self, call: Call) -> Json:
        return views.budget(await self.budgets.set(call.caller, call.id, call.read(NewBudget).amount))

    @takes_nothing
    async def get_user_budget(self, call: Call) -> Json:
        return views.budget(await self.budgets.get(call.caller, call.id))

    async def create_key(self, call: Call) -> Json:
        key, text = await self.accounts.create_key(call.caller, call.read(NewKey).name)
        return {"id": key.id, "key": text, "name": key.name, "created_at": views.instant(key.created_at)}

    async def list_keys(self, call: Call) -> Json:
        args = call.read(KeyList)
        result = await self.accounts.keys(call.caller, args.offset, args.limit, args.revoked)
        return views.page("keys", result, views.key, args.page, args.limit)

    @takes_nothing
    async def revoke_key(self, call: Call) -> Json:
        return views.key(await self.accounts.revoke_key(call.caller, call.id))

    @takes_nothing
    async def create_ticket(self, call: Call) -> Json:
        return {"ticket": await self.accounts.ticket(call.caller), "expires_in": 60}


def _next(items: Any, tail: Tail) -> int:
    return items[-1].offset if items else tail.after


def job_cursor(job: Job) -> str:
    """Where the next page begins: stable while new jobs arrive."""
    return place_cursor(job.created_at, job.id)


def place_cursor(at: datetime, ident: str) -> str:
    return f"{at.astimezone(UTC).isoformat().replace('+00:00', 'Z')}~{ident}"  # a plus is a blank in an address


def parse_cursor(text: str) -> tuple[datetime, JobId]:
    at, tilde, ident = text.partition("~")
    try:
        moment = datetime.fromisoformat(at)
        if not tilde or moment.tzinfo is None:
            raise ValueError
    except ValueError:
        raise invalid(
            "cursor: take it from next_cursor or next_page_token of the page before", field="cursor"
        ) from None
    return moment, JobId(ident)
