"""A low job trains, a critical one comes: between real processes, and the result is that of a job left alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.processes import check_went_on, cyxwiz, submit, until, until_saved
from tests.e2e.test_checkpoints import JOB, weights
from tests.e2e.test_gangs import JOB as GANG
from tests.e2e.test_gangs import leases

pytestmark = pytest.mark.timeout(300)
SHORT = {**JOB, "epochs": 40, "batch_size": 32}  # still training when the other one has waited long enough


EAGER = ("scheduler.preempt_after_seconds=0.5", "scheduler.preempt_least_seconds=0")
ONE = "node.max_concurrent_jobs=1"


def test_a_low_job_makes_room_and_ends_with_the_same_weights(tmp_path: Path) -> None:
    with cyxwiz("both", tmp_path, ONE, *EAGER) as process, process.http() as http:
        alone = submit(http, SHORT)
        assert until(http, alone, "completed", "failed")["status"] == "completed"

        low = submit(http, {**SHORT, "priority": "low"})
        until(http, low, "running", epoch=2)
        urgent = submit(http, {**SHORT, "priority": "critical", "epochs": 2})
        assert until(http, urgent, "completed", "failed")["status"] == "completed"
        done = until(http, low, "completed", "failed")
        assert (done["status"], done["attempts"], done["retry_count"]) == ("completed", 2, 0), done
        (aside, _) = http.get(f"/api/jobs/{low}/explain").json()["leases"]
        assert aside["end_reason"] == f"preempted: gave way to job {urgent} of critical priority"
        first, last = (http.get(f"/api/jobs/{job}").json() for job in (urgent, low))
        assert first["completed_at"] < last["completed_at"]
        assert weights(http, low) == weights(http, alone)


def test_a_gang_takes_the_nodes_of_lesser_jobs_and_leaves_as_a_whole(tmp_path: Path) -> None:
    low = {**GANG, "epochs": 60, "priority": "low"}
    with cyxwiz("central", tmp_path / "central", *EAGER) as central, central.http() as http:
        token = http.post("/api/node-tokens", json={}).json()["token"]
        flags, env = (f"node.central={central.ready['grpc']}", ONE), {"CYXWIZ_NODE__JOIN_TOKEN": token}
        with cyxwiz("node", tmp_path / "one", *flags, env=env), cyxwiz("node", tmp_path / "two", *flags, env=env):
            # one node is taken and one is free: the gang gets both
            single = submit(http, {**low, "resources": {}})
            saved = until_saved(http, single, 2)
            gang = submit(http, {**low, "priority": "critical", "epochs": 10})
            ended = until(http, gang, "completed", "failed")
            assert (ended["status"], ended["attempts"]) == ("completed", 1), ended
            ended = until(http, single, "completed", "failed")
            assert (ended["status"], ended["attempts"], ended["retry_count"]) == ("completed", 2, 0), ended
            check_went_on(http, single, low["epochs"], saved)

            # a gang holds both: one node is wanted, and both members leave
            gang = submit(http, low)
            saved = until_saved(http, gang, 2)
            urgent = submit(http, {**low, "priority": "critical", "epochs": 2, "resources": {}})
            ended = until(http, urgent, "completed", "failed")
            assert (ended["status"], ended["attempts"]) == ("completed", 1), ended
            ended = until(http, gang, "completed", "failed")
            assert (ended["status"], ended["attempts"], ended["retry_count"]) == ("completed", 2, 0), ended
            check_went_on(http, gang, low["epochs"], saved)
            said = f"gave way to job {urgent} of critical priority"
            assert [each["end_reason"].endswith(said) for each in leases(http, gang)] == [True, True, False, False]
