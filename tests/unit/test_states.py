"""`advance` and the `move` of things: what the tables allow happens, everything else is told and changes nothing."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cyxwiz.domain.errors import Code, CyxError
from cyxwiz.domain.ids import Token
from cyxwiz.domain.job import Lease
from cyxwiz.domain.states import (
    HELD_JOB_STATES,
    JOB,
    LEASE,
    LIVE_LEASE_STATES,
    NODE,
    TABLES,
    TERMINAL_JOB_STATES,
    JobState,
    JobTrigger,
    LeaseState,
    LeaseTrigger,
    NodeState,
    NodeTrigger,
    advance,
)
from tests.contract import make

J, T = JobState, JobTrigger


@pytest.mark.parametrize(("state", "trigger"), list(product(JobState, JobTrigger)))
def test_a_job_moves_as_its_table_says_or_not_at_all(state: JobState, trigger: JobTrigger) -> None:
    job = make.job(state=state)
    if (state, trigger) in JOB:
        moved = job.move(trigger, reason="because")
        assert moved.state is JOB[state, trigger]
        assert moved.reason == "because"
        assert moved.id == job.id
    else:
        with pytest.raises(CyxError) as caught:
            job.move(trigger)
        assert caught.value.code is Code.CONFLICT
        assert caught.value.message == f"Job {job.id} is {state}: it cannot {trigger}"
    assert job.state is state


@pytest.mark.parametrize(("state", "trigger"), list(product(NodeState, NodeTrigger)))
def test_a_node_moves_as_its_table_says_or_not_at_all(state: NodeState, trigger: NodeTrigger) -> None:
    node = make.node(state=state)
    if (state, trigger) in NODE:
        assert node.move(trigger).state is NODE[state, trigger]
    else:
        with pytest.raises(CyxError, match=f"Node {node.id} is {state}: it cannot {trigger}"):
            node.move(trigger)


@pytest.mark.parametrize(("state", "trigger"), list(product(LeaseState, LeaseTrigger)))
def test_a_lease_moves_as_its_table_says_or_not_at_all(state: LeaseState, trigger: LeaseTrigger) -> None:
    lease = Lease(make.job().id, Token(1, 7), make.node().id, make.START, state=state)
    if (state, trigger) in LEASE:
        moved = lease.move(trigger)
        assert moved.state is LEASE[state, trigger]
        assert moved.live == (moved.state in LIVE_LEASE_STATES)
    else:
        with pytest.raises(CyxError, match=f"Lease 1-7 of job {lease.job_id} is {state}"):
            lease.move(trigger)


def test_a_refusal_carries_state_and_trigger() -> None:
    with pytest.raises(CyxError) as caught:
        advance(JOB, J.COMPLETED, T.CANCEL, subject="Job x")
    assert caught.value.details == {"state": "completed", "trigger": "cancel"}
    assert not caught.value.retryable


@given(st.lists(st.sampled_from(JobTrigger), max_size=30))
@settings(deadline=None)
def test_whatever_is_tried_a_job_stays_in_its_table_and_an_end_is_an_end(triggers: list[JobTrigger]) -> None:
    job = make.job()
    for trigger in triggers:
        ended = job.ended
        try:
            job = job.move(trigger)
        except CyxError:
            continue
        assert not ended
        assert job.state in set(JOB.values())


def test_the_paths_that_matter() -> None:
    def walk(*triggers: JobTrigger) -> JobState:
        state = J.PENDING
        for trigger in triggers:
            state = advance(JOB, state, trigger, subject="Job")
        return state

    assert walk(T.LEASE, T.ACCEPT, T.COMPLETE) is J.COMPLETED
    assert walk(T.LEASE, T.DECLINE, T.LEASE, T.ACCEPT, T.LOSE, T.REVIVE, T.COMPLETE) is J.COMPLETED
    assert walk(T.LEASE, T.ACCEPT, T.RETRY) is J.PENDING
    assert walk(T.LEASE, T.COMPLETE) is J.COMPLETED  # an earlier kind of node says only the end
    assert walk(T.CANCEL) is J.CANCELLED
    assert walk(T.LEASE, T.ACCEPT, T.YIELD, T.LEASE, T.ACCEPT, T.PAUSE, T.RESUME, T.PAUSE) is J.PAUSED
    assert walk(T.LEASE, T.ACCEPT, T.FAIL) is J.FAILED


def test_the_sets_of_states_do_not_overlap() -> None:
    assert not TERMINAL_JOB_STATES & HELD_JOB_STATES
    assert set(JobState) == TERMINAL_JOB_STATES | HELD_JOB_STATES | {J.PENDING, J.PAUSED}
    assert {name: str(initial) for name, (_, initial) in TABLES.items()} == {
        "job": "pending",
        "lease": "offered",
        "node": "offline",
        "payment": "pending",
        "reservation": "pending",
    }
