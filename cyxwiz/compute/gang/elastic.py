"""torchrun's elastic agent in each member of a gang, with central as the keeper of its rendezvous.

The agent is that of torch.distributed.elastic: it has its group meet, gives the member its rank, watches its worker and
lets nobody go before the workers of all have ended well. Its one worker is this process, which has the job's sandbox,
its channel and its warm start. The agent never starts it again: a group that lost a member is formed anew by central,
under new leases, and the processes of the old group are ended by their nodes (ADR 44).
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable
from signal import Signals
from typing import Any

from torch._C._distributed_c10d import HashStore, Store
from torch.distributed.elastic.agent.server.api import (
    RunResult,
    SimpleElasticAgent,
    WorkerGroup,
    WorkerSpec,
    WorkerState,
)
from torch.distributed.elastic.events.api import Event, EventSource
from torch.distributed.elastic.rendezvous import RendezvousHandler, RendezvousInfo, RendezvousStoreInfo

from cyxwiz.compute.gang.kept_store import KeptStore
from cyxwiz.compute.orders import Orders
from cyxwiz.ports.executor import Gang, Report

ROLE = "member"
LOOK_SECONDS = 0.1  # between the agent's looks at its worker
END_SECONDS = 60.0  # that a member whose part is done waits for the others, which may hang or be out of reach


class Rendezvous(RendezvousHandler):
    """The members of one group, as central chose them: who they are is known before they meet."""

    def __init__(self, run_id: str, gang: Gang, store: Store, orders: Orders) -> None:
        self._run_id, self._gang, self._store, self._orders = run_id, gang, store, orders

    def get_backend(self) -> str:
        return "central"

    def get_run_id(self) -> str:
        return self._run_id

    def next_rendezvous(self) -> RendezvousInfo:
        """With an address of the first member, and a port that was free there a moment ago: a script's own process
        group meets by them.

        Raises:
            TimeoutError: the first member did not come.
            InterruptedError: the job was told to stop meanwhile.
        """
        gang = self._gang
        if gang.rank == 0:
            with socket.socket(socket.AF_INET6 if ":" in gang.address else socket.AF_INET) as free:
                free.bind((gang.address, 0))
                self._store.set("master", f"{gang.address} {free.getsockname()[1]}")
        address, port = self._store.get("master").decode().split()
        return RendezvousInfo(self._store, gang.rank, gang.world, RendezvousStoreInfo(address, int(port)))

    def is_closed(self) -> bool:
        return self._orders.ending

    def set_closed(self) -> None:
        """Central closes a group, by its leases."""

    def num_nodes_waiting(self) -> int:
        """Nobody joins a group that has met."""
        return 0

    def shutdown(self) -> bool:
        return True


class Member(SimpleElasticAgent):
    """The agent of this process. `join` returns once its group has met, with the variables that torchrun gives."""

    def __init__(self, run_id: str, gang: Gang, send: Callable[[Report], None], orders: Orders) -> None:
        # Who is left alone has nobody to meet at central.
        self.store: Store = KeptStore(send, orders) if gang.world > 1 else HashStore()
        self.environment: dict[str, str] = {}
        rendezvous = Rendezvous(run_id, gang, self.store, orders)
        spec = WorkerSpec(
            ROLE, 1, rendezvous, entrypoint=ROLE, max_restarts=0, monitor_interval=LOOK_SECONDS
        )  # fmt: skip
        super().__init__(spec, exit_barrier_timeout=END_SECONDS, shutdown_timeout=0)
        self._worker = WorkerState.INIT
        self._met = threading.Event()
        self._error: BaseException | None = None
        self._agent = threading.Thread(target=self._drive, name="agent", daemon=True)

    def join(self) -> None:
        """Raises what `Rendezvous.next_rendezvous` and `KeptStore` raise."""
        # What it would say is that it waited in vain at its end, with a traceback in the log of the job.
        logging.getLogger(SimpleElasticAgent.__module__).setLevel(logging.CRITICAL)
        self._agent.start()
        self._met.wait()
        if self._error is not None:
            raise self._error

    def leave(self) -> None:
        """This member's part has ended well: returns when those of all have, or after END_SECONDS."""
        self._worker = WorkerState.SUCCEEDED
        self._agent.join(END_SECONDS)

    def _drive(self) -> None:
        try:
            self.run()
        except BaseException as error:
            self._error = error
        finally:
            self._met.set()

    # what torch's agent asks of its kind

    def _start_workers(self, worker_group: WorkerGroup) -> dict[int, Any]:
        (worker,) = worker_group.workers
        self.environment = {
            "RANK": str(worker.global_rank),
            "WORLD_SIZE": str(worker.world_size),
            "LOCAL_RANK": str(worker.local_rank),
            "LOCAL_WORLD_SIZE": "1",
            "GROUP_RANK": str(worker_group.group_rank),
            "GROUP_WORLD_SIZE": str(worker_group.group_world_size),
            "ROLE_NAME": ROLE,
            "ROLE_RANK": str(worker.role_rank),
            "ROLE_WORLD_SIZE": str(worker.role_world_size),
            "MASTER_ADDR": str(worker_group.master_addr),
            "MASTER_PORT": str(worker_group.master_port),
            "TORCHELASTIC_RUN_ID": worker_group.spec.rdzv_handler.get_run_id(),
            "TORCHELASTIC_RESTART_COUNT": "0",
            "TORCHELASTIC_MAX_RESTARTS": "0",
            "TORCHELASTIC_USE_AGENT_STORE": "False",
            "TORCH_NCCL_ASYNC_ERROR_HANDLING": "1",
        }
        self._worker = WorkerState.HEALTHY
        self._met.set()
        return {0: os.getpid()}

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        (worker,) = worker_group.workers
        return RunResult(self._worker, return_values={worker.global_rank: None})

    def _stop_workers(self, worker_group: WorkerGroup) -> None:
        """It ends with the process."""

    def _shutdown(self, death_sig: Signals = Signals.SIGTERM, timeout: int = 30) -> None:
        """It ends with the process."""

    def _construct_event(self, state: str, source: EventSource, *_: Any, **__: Any) -> Event:
        """Nobody reads them; torch's own would ask the name servers for this machine's name each time."""
        return Event(state, source)
