"""A member's machine says nothing any more: nobody is told, no connection breaks. The others go on without it, and when
it is back it disturbs nobody."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.e2e import lan
from tests.e2e.processes import Process, check_went_on, cyxwiz, submit, until, until_saved
from tests.e2e.test_gangs import JOB, QUICK, further, leases
from tests.missing import missing

pytestmark = pytest.mark.timeout(300)

SHORT = {**JOB, "epochs": 30, "batch_size": 64}
Nodes = dict[str, tuple[Process, Callable[[], None], Callable[[], None]]]


def below(node: Process) -> set[psutil.Process]:
    """Without warm children that is the node's member of the gang, and nothing else."""
    return set(psutil.Process(node.popen.pid).children(recursive=True))


def signalled(node: Process, number: int) -> None:
    """The node first, so that it can't see its children stop."""
    for each in (psutil.Process(node.popen.pid), *below(node)):
        with contextlib.suppress(psutil.NoSuchProcess):
            each.send_signal(number)


@contextlib.contextmanager
def stopped_ones(folder: Path, count: int) -> Generator[tuple[Process, Nodes]]:
    """Machines fall silent as all of their processes are stopped: the kernel still acknowledges what comes."""
    with contextlib.ExitStack() as stack:
        central = stack.enter_context(cyxwiz("central", folder / "central", *QUICK))
        nodes: Nodes = {}
        for number in range(count):
            node = joined(stack, central, folder / f"node{number}", f"node.central={central.ready['grpc']}")
            stack.callback(signalled, node, signal.SIGCONT)
            nodes[str(node.ready["node_id"])] = (
                node,
                lambda node=node: signalled(node, signal.SIGSTOP),
                lambda node=node: signalled(node, signal.SIGCONT),
            )
        yield central, nodes


@contextlib.contextmanager
def cut_off_ones(folder: Path, count: int) -> Generator[tuple[Process, Nodes]]:
    """Machines fall silent as their cable is pulled: they run on, alone."""
    if why := lan.why_not():
        missing(f"a network to cut: {why}")
    with contextlib.ExitStack() as stack:
        net = stack.enter_context(lan.lan())
        grpc = (f"server.grpc_address={net.address}:0", "tls.allow_plaintext=true")
        central = stack.enter_context(cyxwiz("central", folder / "central", *QUICK, *grpc))
        nodes: Nodes = {}
        for number in range(count):
            machine = net.machine()
            place = (f"node.gang_address={machine.address}", "node.gang_network=lan", "node.gangs=on")
            to = f"node.central={central.ready['grpc']}"
            node = joined(stack, central, folder / f"node{number}", to, *place, within=machine.within)
            nodes[str(node.ready["node_id"])] = node, machine.cut, machine.heal
        yield central, nodes


def joined(stack: contextlib.ExitStack, central: Process, folder: Path, *flags: str, within: Any = ()) -> Process:
    with central.http() as http:
        token = http.post("/api/node-tokens", json={}).json()["token"]
    env = {"CYXWIZ_NODE__JOIN_TOKEN": token}
    return stack.enter_context(cyxwiz("node", folder, *flags, env=env, within=within))


def metrics(http: httpx.Client, job_id: str) -> dict[str, float]:
    job = until(http, job_id, "completed", "failed")
    assert job["status"] == "completed", job
    found: dict[str, float] = job["metrics"]
    return found


@pytest.mark.parametrize(
    ("machines", "count", "rank", "left"),
    [(stopped_ones, 3, 0, 2), (cut_off_ones, 2, 1, 1)],
    ids=["stopped, replaced", "cut off, shrunk"],
)
def test_a_silent_machine_is_done_without(
    tmp_path: Path,
    machines: Callable[[Path, int], contextlib.AbstractContextManager[tuple[Process, Nodes]]],
    count: int,
    rank: int,
    left: int,
) -> None:
    with machines(tmp_path, count) as (central, nodes), central.http() as http:
        job_id = submit(http, SHORT)
        saved = until_saved(http, job_id, 3)
        (silent,) = (each for each in leases(http, job_id) if each["state"] == "active" and each["rank"] == rank)
        node, fall_silent, come_back = nodes[silent["node_id"]]
        members = below(node)
        assert members
        began = time.monotonic()
        fall_silent()
        again = further(http, job_id, attempts=2)
        assert time.monotonic() - began < 60
        assert (again["node_losses"], again["retry_count"], again["attempts"]) == (1, 0, 2)
        live = [each for each in leases(http, job_id) if each["state"] == "active"]
        assert [each["world"] for each in live] == [left] * left
        assert silent["node_id"] not in {each["node_id"] for each in live}
        if machines is stopped_ones:
            assert all(each.is_running() for each in members), "nobody has ended them yet"

        come_back()
        _, alive = psutil.wait_procs(members, 20)
        assert not alive, "what it ran of the older group has ended"
        online = http.get(f"/api/nodes/{silent['node_id']}").json()
        assert (online["status"], online["load"]) == ("online", 0)

        ended = metrics(http, job_id)
        job = http.get(f"/api/jobs/{job_id}").json()
        assert (job["attempts"], job["node_losses"], job["retry_count"]) == (2, 1, 0)
        alone = metrics(http, submit(http, {**SHORT, "resources": {}}))
        for name in ("val_loss", "val_accuracy"):
            assert ended[name] == pytest.approx(alone[name], rel=1e-3), name
        check_went_on(http, job_id, SHORT["epochs"], saved)
