"""The whole platform under faults from a seed; CYXWIZ_SIM_SEEDS says how many seeds, 300 unless told.

The mutations prove that the invariants can fail: each breaks one promise of the platform on purpose, and the simulation
must find out.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from cyxwiz.compute.agent import Agent
from cyxwiz.compute.journal import SqliteJournal
from cyxwiz.domain.ids import JobId, NodeId, Token
from cyxwiz.domain.job import Job, Lease, Priority
from cyxwiz.domain.states import LeaseState
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.ports.store import Tx
from cyxwiz.scheduler.loops.placer import Placer
from cyxwiz.scheduler.preemption import Tenant
from cyxwiz.services import leases, reports
from cyxwiz.services.jobs import Jobs
from cyxwiz.services.reports import Reporting
from cyxwiz.simulation.faults import draw
from cyxwiz.simulation.run import Outcome, simulate
from cyxwiz.store.sql import SqlTx

SEEDS = int(os.environ.get("CYXWIZ_SIM_SEEDS", "300"))
CHUNKS = 12
MOST_SEEDS = 120  # in which a mutation must be found


@pytest.mark.slow
@pytest.mark.timeout(60 + SEEDS)
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_every_promise_holds_whatever_goes_wrong(chunk: int) -> None:
    for seed in range(chunk, SEEDS, CHUNKS):
        outcome = simulate(seed)
        assert outcome.ok, str(outcome)


def test_more_of_everything() -> None:
    outcome = simulate(1, jobs=20, nodes=6, steps=80)
    assert outcome.ok, str(outcome)


def test_a_seed_gives_the_same_history_in_every_process() -> None:
    program = "from cyxwiz.simulation.run import simulate; print(*(simulate(seed).digest for seed in (3, 4, 5)))"

    def digests(hash_seed: str) -> str:
        environ = {**os.environ, "PYTHONHASHSEED": hash_seed}
        ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environ, check=True)
        return ran.stdout

    assert digests("1") == digests("2")


def test_what_was_played_before_does_not_matter() -> None:
    alone = simulate(7).digest
    simulate(8)
    assert simulate(7).digest == alone


def test_seeds_differ() -> None:
    assert simulate(1).digest != simulate(2).digest


def test_a_schedule_reads_as_text() -> None:
    import random

    schedule = draw(random.Random(5), jobs=4, nodes=3, steps=30)
    assert all(str(step).startswith(f"step {step.number}: {step.kind}") for step in schedule.steps)


# mutations


def no_fence(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report counts for the newest lease of its job, whoever sent it."""
    original = Reporting.apply

    def apply(self: Reporting, tx: Tx, node_id: NodeId, boot_id: str, given: Sequence[pb.Report]) -> int:
        job = tx.job(JobId(given[0].job_id))
        lease = tx.lease(job.id, job.token) if job and job.token else None
        if lease is not None and lease.token != reports.token_of(given[0].token):
            node_id = lease.node_id
            for seq, report in enumerate(given, lease.last_seq + 1):
                report.token.counter, report.seq = lease.token.counter, seq
        return original(self, tx, node_id, boot_id, given)

    monkeypatch.setattr(Reporting, "apply", apply)


def old_lease_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    """A silent node loses its job, and keeps the lease of it."""

    def expire(tx: Tx, job: Job, lease: Lease, policy: leases.RetryPolicy, reason: str) -> Job:
        return leases.lose(tx, job, lease.node_id, policy, reason)

    monkeypatch.setattr(leases, "expire", expire)


def no_replay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node that restarts does not look into its journal."""

    async def recall(self: Agent) -> None:
        return

    monkeypatch.setattr(Agent, "_recall", recall)


def no_retransmission(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was on its way when the stream broke counts as sent."""
    original = Agent._welcome

    async def welcome(self: Agent, session: Any, welcome: pb.Welcome, duties: Any) -> None:
        for record in self._records.values():
            record.acked_seq = max(record.acked_seq, record.sent_seq)
        await original(self, session, welcome, duties)

    monkeypatch.setattr(Agent, "_welcome", welcome)


def no_idempotency(monkeypatch: pytest.MonkeyPatch) -> None:
    """A submit that is sent twice is two jobs."""
    original = Jobs.submit

    async def submit(self: Jobs, actor: Any, spec: Any, key: str = "") -> Any:
        return await original(self, actor, spec)

    monkeypatch.setattr(Jobs, "submit", submit)


def reports_count_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """A report that comes twice is applied twice."""
    original = Reporting.apply

    def apply(self: Reporting, tx: Tx, node_id: NodeId, boot_id: str, given: Sequence[pb.Report]) -> int:
        lease = tx.lease(JobId(given[0].job_id), reports.token_of(given[0].token))
        if lease is not None and lease.state is LeaseState.ACTIVE and lease.last_seq >= given[0].seq:
            tx.save_lease(replace(lease, last_seq=given[0].seq - 1))
        return original(self, tx, node_id, boot_id, given)

    monkeypatch.setattr(Reporting, "apply", apply)


def forgetful_journal(monkeypatch: pytest.MonkeyPatch) -> None:
    """The journal keeps leases for ever."""

    async def forget(self: SqliteJournal, job_id: str, token: Token) -> None:
        return

    monkeypatch.setattr(SqliteJournal, "forget", forget)


def no_slots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Central gives a node whatever waits, full or not, and does not look whether a job was taken meanwhile."""

    def issue(self: Placer, tx: Tx, seen: Job, placement: Any) -> bool:
        job = tx.job(placement.job_id)
        assert job is not None
        for _ in range(2):
            leases.issue(tx, job, placement.node_id)
        return True

    monkeypatch.setattr(Placer, "_issue", issue)


def lost_runs_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    """A node's runs go on after central said that they are not wanted."""
    monkeypatch.setattr(Agent, "_cancel", lambda self, cancel: None)


def everybody_gives_way(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever runs, save what is critical, counts as less urgent than what waits."""
    original = SqlTx.tenures
    monkeypatch.setattr(Tenant, "rank", property(lambda self: -1))
    monkeypatch.setattr(SqlTx, "tenures", lambda self, below: original(self, Priority.CRITICAL))


MUTATIONS: list[Callable[[pytest.MonkeyPatch], None]] = [
    no_fence,
    old_lease_stays,
    no_replay,
    no_retransmission,
    no_idempotency,
    reports_count_twice,
    forgetful_journal,
    no_slots,
    lost_runs_stay,
    everybody_gives_way,
]


@pytest.mark.slow
@pytest.mark.parametrize("mutate", MUTATIONS, ids=lambda mutate: mutate.__name__)
def test_a_broken_platform_is_found_out(mutate: Callable[[pytest.MonkeyPatch], None]) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        mutate(monkeypatch)
        found = next((outcome for outcome in map(simulate, range(MOST_SEEDS)) if not outcome.ok), None)
    assert isinstance(found, Outcome), f"{mutate.__name__} was not found in {MOST_SEEDS} seeds"
    assert found.violation
    assert f"--seed {found.seed}" in str(found)
