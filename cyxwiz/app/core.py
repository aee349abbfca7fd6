"""Central without doors and loops: the services over one store, wired."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from cyxwiz.config import Config
from cyxwiz.domain.money import parse_cyxwiz
from cyxwiz.domain.payment import BASIS_POINTS, Tariff
from cyxwiz.ports.blobs import BlobStore
from cyxwiz.ports.bus import Bus
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.ledger import Ledger
from cyxwiz.ports.store import Store
from cyxwiz.runtime.lifecycle import Service
from cyxwiz.scheduler.gangs import Patience
from cyxwiz.scheduler.loops.housekeeper import Housekeeper
from cyxwiz.scheduler.loops.pardoner import Pardoner
from cyxwiz.scheduler.loops.placer import Placer
from cyxwiz.scheduler.loops.reaper import LeaseReaper
from cyxwiz.scheduler.loops.reconciler import Reconciler
from cyxwiz.scheduler.loops.reservations import ReservationKeeper
from cyxwiz.scheduler.loops.settler import Settler
from cyxwiz.scheduler.loops.stakes import StakeKeeper
from cyxwiz.scheduler.loops.verifier import Verifier
from cyxwiz.scheduler.preemption import Rules
from cyxwiz.scheduler.rank import Weights
from cyxwiz.services.accounts import Accounts
from cyxwiz.services.api import Api
from cyxwiz.services.gateway import NodeGateway
from cyxwiz.services.jobs import Jobs
from cyxwiz.services.leases import RetryPolicy
from cyxwiz.services.legacy import LegacyNodes
from cyxwiz.services.liveness import Liveness
from cyxwiz.services.nodes import Nodes
from cyxwiz.services.payments import Payments, Terms
from cyxwiz.services.platform import PlatformKey
from cyxwiz.services.quotes import Quotes
from cyxwiz.services.receipts import Receipts
from cyxwiz.services.reports import Reporting
from cyxwiz.services.reputation import Reputation, rules_of
from cyxwiz.services.reservation_commands import ReservationCommands
from cyxwiz.services.reservation_drift import ReservationDrift
from cyxwiz.services.reservation_funds import LedgerFunds, NoFunds
from cyxwiz.services.reservation_reports import ReservationReports
from cyxwiz.services.reservations import Reservations
from cyxwiz.services.room import Room
from cyxwiz.services.secrets import Secrets, load_secrets
from cyxwiz.services.stakes import Staking, staking_of
from cyxwiz.services.verification import verifying_of
from cyxwiz.services.wallets import Wallets
from cyxwiz.services.watch import Watch


@dataclass(frozen=True)
class Core:
    """Central without doors and loops: the services over one store."""

    config: Config
    store: Store
    bus: Bus
    clock: Clock
    secrets: Secrets
    accounts: Accounts
    liveness: Liveness
    nodes: Nodes
    jobs: Jobs
    watch: Watch
    gateway: NodeGateway
    legacy: LegacyNodes
    reservations: Reservations
    reservation_reports: ReservationReports
    reporting: Reporting
    api: Api
    weights: Weights
    payments: Payments | None
    staking: Staking | None

    @property
    def poll_seconds(self) -> float:
        return self.config.scheduler.job_poll_interval_ms / 1000

    @property
    def patience(self) -> Patience:
        return Patience(self.config.scheduler.gang_reserve_seconds, self.config.scheduler.gang_replace_seconds)

    def loops(self) -> list[Service]:
        keep = timedelta(hours=self.config.database.event_retention_hours)
        return [
            Placer(
                self.store,
                self.bus,
                self.jobs,
                self.weights,
                poll_seconds=self.poll_seconds,
                patience=self.patience,
                rules=Rules.of(self.config.scheduler),
            ),
            LeaseReaper(self.store, self.clock, self.nodes),
            Housekeeper(
                self.store,
                keep_events=keep,
                keep_reputation=timedelta(days=self.config.reputation.event_retention_days),
            ),
            Pardoner(self.nodes),
            *(self._money_loops(self.payments) if self.payments else []),
            *([StakeKeeper(self.staking)] if self.staking else []),
            ReservationKeeper(self.reservations),
            Verifier(self.store, self.reporting),
        ]

    def _money_loops(self, payments: Payments) -> list[Service]:
        period = float(self.config.ledger.reconcile_seconds)
        return [
            Settler(payments, self.bus, poll_seconds=self.poll_seconds),
            Reconciler(payments.reconciliation, self.bus, period=period),
        ]


async def build_core(
    config: Config,
    store: Store,
    bus: Bus,
    clock: Clock,
    *,
    ledger: Ledger | None = None,
    blobs: BlobStore | None = None,
    nonce: Callable[[], bytes] | None = None,
) -> Core:
    """The services, wired. Without a ledger nothing is charged, without blobs none are kept. `nonce` replaces the
    gateway's randomness, for simulation."""
    secrets = await load_secrets(store, config.auth)
    section = config.scheduler
    accounts = Accounts(store, clock, config.auth, secrets)
    policy = RetryPolicy.of(section)
    pricing = config.pricing
    tariff = Tariff(pricing.base_rate, pricing.gpu_multiplier, pricing.ram_factor_per_gb)
    weights = Weights(
        section.weight_reputation,
        section.weight_availability,
        section.weight_capability,
        section.weight_uptime,
        section.weight_region,
        section.weight_data,
        section.weight_latency,
    )
    poll = section.job_poll_interval_ms / 1000
    liveness = Liveness(clock, section.node_heartbeat_timeout_ms / 1000)
    reputation = Reputation(rules_of(config.reputation), policy)
    nodes = Nodes(store, liveness, policy, reputation, open_mode=accounts.open)
    payments = None if ledger is None else Payments(store, clock, ledger, _terms(config))
    jobs = Jobs(
        store,
        clock,
        accounts,
        liveness,
        tariff,
        weights,
        reputation,
        max_pending_per_user=section.max_pending_per_user,
        max_user_bytes=config.blobs.max_user_bytes,
        payments=payments,
        minimum_stake=parse_cyxwiz(config.blockchain.minimum_stake),
    )
    staking = None if ledger is None else staking_of(config, store, clock, ledger.stakes, reputation)
    fee_percent = config.blockchain.platform_fee_percent
    funds = LedgerFunds(store, ledger) if ledger is not None else NoFunds()
    if payments is not None and isinstance(funds, LedgerFunds):
        payments.reconciliation.reservations = ReservationDrift(store, funds)
    reservations = Reservations(store, clock, accounts, liveness, jobs, funds, fee_percent=fee_percent)
    verifying = verifying_of(config.verify, policy, secrets, reputation, staking)
    reporting = Reporting(policy, tariff, reputation, verifying)
    watch = Watch(store, bus, accounts, poll_seconds=poll)
    gateway = NodeGateway(
        store,
        bus,
        clock,
        nodes,
        accounts,
        secrets,
        reporting,
        ReservationCommands(store, jobs, reservations),
        poll_seconds=poll,
        nonce=nonce or (lambda: os.urandom(32)),
    )
    legacy = LegacyNodes(store, nodes, reporting, open_mode=accounts.open)
    platform = PlatformKey(secrets.platform)
    receipts = Receipts(store, platform, ledger.info if ledger else None, fee_bps=_terms(config).fee_bps)
    wallets = Wallets(store, clock, accounts, secrets, platform, allow_signup=config.auth.allow_signup)
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
        Quotes(store, clock, jobs, payments, platform) if payments is not None else None,
        price_usd=config.blockchain.price_usd,
        staking=staking,
        room=Room(store, blobs, most=config.blobs.max_user_bytes) if blobs is not None else None,
    )
    return Core(
        config,
        store,
        bus,
        clock,
        secrets,
        accounts,
        liveness,
        nodes,
        jobs,
        watch,
        gateway,
        legacy,
        reservations,
        ReservationReports(store, reservations, reputation),
        reporting,
        api,
        weights,
        payments,
        staking,
    )


def _terms(config: Config) -> Terms:
    ledger, percent = config.ledger, config.blockchain.platform_fee_percent
    return Terms(percent * BASIS_POINTS // 100, ledger.stream_interval_seconds, ledger.open_days)
