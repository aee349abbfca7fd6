"""Jobs whose payment comes to its deadline before they have ended: none runs on unpaid.

A payment is ended `CLOSING` before its deadline, as its client could take it back after that. Some time before, its
job is set aside with a checkpoint, so that what is computed until then is still paid. More money makes a new payment,
with a deadline of its own, and lets the job go on.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from cyxwiz.domain.job import Intent, Job, Phase
from cyxwiz.domain.payment import CLOSING, Payment
from cyxwiz.domain.states import JobState
from cyxwiz.ports.store import Tx
from cyxwiz.services import leases

TIME_OVER = "the time of its payment is over"  # how the reason of a job begins that was set aside for it
TO_SAVE = timedelta(minutes=15)  # that a run has for its checkpoint, before its payment is ended
BY = "the platform"


def keep_from_running_unpaid(tx: Tx, payment: Payment, job: Job) -> None:
    """Sets the payment's job aside when its deadline is near and no later payment pays for what follows.

    A node of the earlier kind can't save a job: it is cancelled when its payment ends.
    """
    left = payment.deadline - CLOSING - tx.now
    if left > TO_SAVE or job.ended or job.state is JobState.PAUSED or job.phase is Phase.VERIFYING:
        return
    later = payment.deadline + TO_SAVE
    if any(each.open and each.member == payment.member and each.deadline > later for each in tx.payments_of(job.id)):
        return
    found = tx.job(job.id)  # as it is by now: this unit may have changed it
    if found is None or found.ended or found.state is JobState.PAUSED or found.intent is not Intent.RUN:
        return
    node = tx.node(found.node_id) if found.node_id else None
    if found.state is JobState.RUNNING and (node is None or node.legacy):
        if left <= timedelta(0):
            leases.cancel(tx, found, BY, f"{TIME_OVER}, and its node can't set it aside")
        return
    if found.state is JobState.RUNNING or left <= timedelta(0):
        paused = leases.pause(tx, found, BY)
        tx.save_job(replace(paused, reason=f"{TIME_OVER}: `cyxwiz jobs topup {job.id} AMOUNT` lets it go on"))
