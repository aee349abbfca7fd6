"""Central's services wired on a store in memory, with a node that is played by calls."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prometheus_client import CollectorRegistry

from cyxwiz.app.money import stake_rules
from cyxwiz.bus.local import LocalBus
from cyxwiz.config import Config
from cyxwiz.domain.account import Role
from cyxwiz.domain.ids import JobId, NodeId
from cyxwiz.domain.job import Device, Lease
from cyxwiz.domain.money import parse_cyxwiz
from cyxwiz.domain.node import DeviceInfo, Hardware
from cyxwiz.domain.payment import Tariff
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ledger.credits import CreditsLedger
from cyxwiz.ledger.localnet.chain import Chain
from cyxwiz.ledger.localnet.ledger import local_ledger
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.ledger import Ledger
from cyxwiz.ports.store import BlobInfo
from cyxwiz.runtime.clock import SystemClock
from cyxwiz.scheduler.rank import Weights
from cyxwiz.services import leases
from cyxwiz.services.accounts import Accounts
from cyxwiz.services.api import Api
from cyxwiz.services.jobs import Jobs
from cyxwiz.services.leases import RetryPolicy
from cyxwiz.services.liveness import Liveness
from cyxwiz.services.nodes import Nodes, Registration
from cyxwiz.services.payments import Payments, Terms
from cyxwiz.services.platform import PlatformKey
from cyxwiz.services.quotes import Quotes
from cyxwiz.services.receipts import Receipts
from cyxwiz.services.reports import Reporting, token_to
from cyxwiz.services.reputation import Reputation, rules_of
from cyxwiz.services.reservation_drift import ReservationDrift
from cyxwiz.services.reservation_funds import LedgerFunds, NoFunds, ReservationFunds
from cyxwiz.services.reservation_reports import ReservationReports
from cyxwiz.services.reservations import Reservations
from cyxwiz.services.room import Room
from cyxwiz.services.secrets import load_secrets
from cyxwiz.services.stakes import staking_of
from cyxwiz.services.verification import verifying_of
from cyxwiz.services.wallets import Wallets
from cyxwiz.services.watch import Watch
from cyxwiz.store.blobs import FileBlobStore
from cyxwiz.store.memory import MemoryStore
from cyxwiz.transports.auth import Guard
from cyxwiz.transports.rest.app import build
from cyxwiz.transports.ws.events import router as websockets

JOB: dict[str, Any] = {
    "name": "digits-mlp",
    "dataset": "builtin:digits",
    "epochs": 4,
    "model": {"layers": [{"type": "dense", "units": 64}, {"type": "relu"}, {"type": "dense", "units": 10}]},
    "hyperparameters": {"optimizer": "adam", "learning_rate": 0.001},
}


@dataclass
class Central:
    """What a test needs of a central; `admin` and `alice` are API keys."""

    clock: Clock
    bus: LocalBus
    store: MemoryStore
    accounts: Accounts
    jobs: Jobs
    nodes: Nodes
    reporting: Reporting
    blobs: FileBlobStore
    api: Api
    guard: Guard
    app: FastAPI
    admin: str
    reservations: Reservations
    reservation_reports: ReservationReports
    ready: bool = True
    alice: str = ""
    bob: str = ""

    async def aclose(self) -> None:
        self.app.state.streams.close()
        await self.bus.aclose()
        if self.api.payments is not None:
            await self.api.payments.ledger.aclose()
        await self.store.aclose()

    async def user(self, name: str, role: Role = Role.USER, password: str = "") -> str:
        """A new user's API key."""
        admin = await self.accounts.authenticate(self.admin)
        await self.accounts.create_user(admin, name, password, role)
        key = self.store.read(lambda tx: tx.user_by_name(name))
        user = await key
        assert user is not None
        from cyxwiz.domain.account import Principal

        return (await self.accounts.create_key(Principal(user.id, name, role), "test"))[1]

    async def node(self, name: str = "rig", **changes: Any) -> NodeId:
        """A node that has joined and is online."""
        node_id = NodeId(str(uuid.uuid4()))
        devices = (DeviceInfo(Device.CPU, "CPU", 32 << 30, 24 << 30, 8),)
        registration = Registration(
            name=name,
            hardware=Hardware("Example CPU", 8, 32 << 30, 24 << 30, changes.pop("devices", devices)),
            public_key=b"k" * 32,
            max_concurrent_jobs=2,
            **changes,
        )
        await self.store.write(lambda tx: self.nodes.join(tx, node_id, registration, "", local=True))
        return node_id

    async def lease(self, job_id: str, node_id: NodeId) -> Lease:
        def unit(tx: Any) -> Lease:
            job = tx.job(JobId(job_id))
            assert job is not None
            return leases.issue(tx, job, node_id)

        return await self.store.write(unit)

    async def report(self, lease: Lease, *bodies: Any, after: int = 0) -> int:
        """Applies reports with the given bodies: Progress, Logs, Finished, Failed. The node has sent what they name."""
        for body in bodies:
            for artefact in body.artefacts if isinstance(body, pb.Finished) else ():
                await self.jobs.record_blob(artefact.sha256, artefact.size, owner=None, sender=lease.node_id)
        reports = []
        for seq, body in enumerate(bodies, after + 1):
            report = pb.Report(job_id=lease.job_id, token=token_to(lease.token), seq=seq)
            field = {"Progress": "progress", "Logs": "logs", "Finished": "finished", "Failed": "failed"}
            field |= {"Preempted": "preempted", "FirstStep": "first_step"}
            getattr(report, field[type(body).__name__]).CopyFrom(body)
            reports.append(report)
        unit = await self.store.write(lambda tx: self.reporting.apply(tx, lease.node_id, "boot", reports))
        return unit.last_seq

    async def finished(self, weights: bytes, **metrics: float) -> pb.Finished:
        """The last report of a run whose weights are stored."""
        import hashlib

        sha256 = hashlib.sha256(weights).hexdigest()
        if await self.blobs.size(sha256) is None:
            upload = await self.blobs.begin(sha256, len(weights), 0)
            await upload.write(weights)
            await upload.commit()
        await self.store.write(lambda tx: tx.add_blob(BlobInfo(sha256, len(weights), tx.now), None))
        artefact = pb.Artefact(name="model.safetensors", sha256=sha256, size=len(weights))
        return pb.Finished(artefacts=[artefact], final_metrics=metrics, compute_seconds=2.5)


def progress(epoch: int, epochs: int = 4, **metrics: float) -> pb.Progress:
    return pb.Progress(epoch=epoch, epochs=epochs, progress=epoch / epochs, epoch_ended=True, metrics=metrics)


async def central(
    folder: Path,
    *,
    clock: Clock | None = None,
    funds: ReservationFunds | None = None,
    charged: bool = False,
    chain: Chain | None = None,
    **overrides: Any,
) -> Central:
    """`charged`: by credits, or on the `chain`, which is closed with the store; nothing settles but by
    `payments.drive`. `overrides` are sections of the configuration:
    `server={"max_request_bytes": 2048}`."""
    sections: dict[str, Any] = {"auth": {"argon2_memory_kib": 8, "argon2_time_cost": 1}}
    for name, values in overrides.items():
        sections[name] = {**sections.get(name, {}), **values}
    config = Config.model_validate(sections)
    clock, bus = clock or SystemClock(), LocalBus()
    store = MemoryStore(clock, bus)
    secrets = await load_secrets(store, config.auth)
    accounts = Accounts(store, clock, config.auth, secrets)
    admin = await accounts.bootstrap() or ""
    liveness = Liveness(clock, config.scheduler.node_heartbeat_timeout_ms / 1000)
    pricing = config.pricing
    tariff = Tariff(pricing.base_rate, pricing.gpu_multiplier, pricing.ram_factor_per_gb)
    policy = RetryPolicy.of(config.scheduler)
    reputation = Reputation(rules_of(config.reputation), policy)
    nodes = Nodes(store, liveness, policy, reputation, open_mode=accounts.open)
    ledger: Ledger | None = None
    if chain is not None:
        ledger = local_ledger(chain, store, clock, custody=b"c" * 32, welcome_units=parse_cyxwiz(config.ledger.welcome))
    elif charged:
        welcome = parse_cyxwiz(config.ledger.welcome)
        ledger = CreditsLedger(store, welcome_units=welcome, stakes=stake_rules(config))
    terms = Terms(1000, 60, 30)
    payments = Payments(store, clock, ledger, terms) if ledger else None
    if ledger is not None and funds is None:
        funds = LedgerFunds(store, ledger)
    jobs = Jobs(
        store,
        clock,
        accounts,
        liveness,
        tariff,
        Weights(),
        reputation,
        max_pending_per_user=1000,
        max_user_bytes=config.blobs.max_user_bytes,
        payments=payments,
        minimum_stake=parse_cyxwiz(config.blockchain.minimum_stake),
    )
    staking = staking_of(config, store, clock, ledger.stakes, reputation) if ledger else None
    platform = PlatformKey(secrets.platform)
    receipts = Receipts(store, platform, ledger.info if ledger else None, fee_bps=1000)
    wallets = Wallets(store, clock, accounts, secrets, platform, allow_signup=config.auth.allow_signup)
    blobs = FileBlobStore(folder / "blobs", clock)
    if payments is not None and isinstance(funds, LedgerFunds):
        payments.reconciliation.reservations = ReservationDrift(store, funds)
    reservations = Reservations(store, clock, accounts, liveness, jobs, funds or NoFunds(), fee_percent=10)
    watch = Watch(store, bus, accounts, poll_seconds=1.0)
    quotes = Quotes(store, clock, jobs, payments, platform) if payments else None
    api = Api(
        store,
        clock,
        jobs,
        nodes,
        accounts,
        watch,
        reservations,
        receipts,
        wallets,
        payments,
        quotes,
        staking=staking,
        room=Room(store, blobs, most=config.blobs.max_user_bytes),
    )
    guard = Guard(accounts, config.rate_limit, max_streams=config.server.max_streams_per_principal)
    reporting = Reporting(policy, tariff, reputation, verifying_of(config.verify, policy, secrets, reputation))
    made: list[Central] = []
    app = build(
        api,
        guard,
        blobs,
        clock,
        store,
        config=config,
        spool=folder / "spool",
        ready=lambda: made[0].ready,
        registry=CollectorRegistry(),
        routers=[websockets(api, guard)],
    )
    found = Central(
        clock,
        bus,
        store,
        accounts,
        jobs,
        nodes,
        reporting,
        blobs,
        api,
        guard,
        app,
        admin,
        reservations,
        ReservationReports(store, reservations, reputation),
    )
    made.append(found)
    found.alice = await found.user("alice", Role.OPERATOR, "alice-password")
    found.bob = await found.user("bob")
    return found
