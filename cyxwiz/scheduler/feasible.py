"""Hard filters: whether a node can run a job at all, and if not, why in words."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import reduce

from cyxwiz.domain.ids import NodeId, UserId
from cyxwiz.domain.job import REMOTE, Device, Job, JobSpec, JobType
from cyxwiz.domain.money import format_cyxwiz
from cyxwiz.domain.node import JOB_TYPES, NETWORK, P2P_SERVICE, REQUIREMENTS, SCRIPTS, SIGNS, DeviceInfo, Node
from cyxwiz.domain.payment import Tariff
from cyxwiz.domain.pricing import Quote
from cyxwiz.domain.reputation import HIGHEST, PROBATION
from cyxwiz.domain.states import NodeState
from cyxwiz.domain.verification import Mode
from cyxwiz.scheduler.price import needs_gpu, needs_of, outruns, price

FREE = Tariff(0, 1.0, 0.0)
LEAST = PROBATION / HIGHEST  # reputation below which a node gets nothing


@dataclass(frozen=True, slots=True)
class Candidate:
    """A node as the policy sees it: what is left of it after the leases it holds."""

    node: Node
    free_slots: int
    free_ram_bytes: int
    free_gpus: tuple[DeviceInfo, ...]
    uptime: float  # 0 to 1
    connected: bool = True
    here: bool = True  # heard by this central, where a gang's members find each other
    closed: str = ""  # why its owner's limits let it take nothing now
    data_keys: frozenset[str] = frozenset()  # of the data that it holds: `domain.job.data_key`
    round_trip_seconds: float | None = None  # to central and back, as the node measured it
    network_rate: float | None = None  # bytes a second to central, as the node measured it
    minimum_stake: int = 0  # units that it must have staked to get jobs of others
    tariff: Tariff = FREE  # what holds where the node has set no prices
    holds: tuple[Job, ...] = ()  # jobs of which it has a live lease
    used: tuple[JobSpec, ...] = ()  # what is taken off it for them, and for those that are being placed
    kept: bool = False  # for a gang: what gets free here is nobody else's

    @property
    def id(self) -> NodeId:
        return self.node.id

    def short_of_stake(self, owner_id: UserId | None) -> bool:
        """Whether it has too little staked for a job of that owner; None is anybody but its own."""
        return self.node.stake_units < self.minimum_stake and self.node.owner_id != owner_id

    def quote(self, spec: JobSpec) -> Quote:
        """What the job costs here; a gang's as though every member were here."""
        return price(spec, needs_of(spec), self.node.pricing, self.tariff)

    @property
    def open(self) -> bool:
        """Whether any job could be placed on it, but those of its reservation, which are served first of all."""
        free = not self.node.cordoned and not self.node.reservation_id and self.free_slots > 0
        return self.node.state is NodeState.ONLINE and self.connected and free

    def less(self, spec: JobSpec) -> Candidate:
        """What is left beside one more job: a slot and RAM less, and a GPU if it needs one."""
        gpus = list(self.free_gpus)
        if needs_gpu(spec) and (fitting := fitting_gpus(spec, self)):
            gpus.remove(min(fitting, key=lambda gpu: gpu.memory_total_bytes or 0))
        return replace(
            self,
            free_slots=self.free_slots - 1,
            free_ram_bytes=self.free_ram_bytes - spec.resources.ram_bytes,
            free_gpus=tuple(gpus),
            used=(*self.used, spec),
        )

    def emptied(self) -> Candidate:
        """As it would be with nothing running on it."""
        node = self.node
        return replace(
            self,
            free_slots=node.max_concurrent_jobs,
            free_ram_bytes=node.hardware.ram_total_bytes,
            free_gpus=node.hardware.gpus,
            used=(),
        )

    def using(self, specs: Iterable[JobSpec]) -> Candidate:
        """As it would be with just these on it."""
        # The largest first, as each takes the smallest GPU that fits: so none is left without the one it runs on.
        return reduce(Candidate.less, sorted(specs, key=lambda spec: -spec.resources.vram_bytes), self.emptied())


def fitting_gpus(spec: JobSpec, candidate: Candidate) -> tuple[DeviceInfo, ...]:
    """Free GPUs of the wanted kind with enough memory; one of unknown size fits only a job that asks for none."""
    wanted = spec.resources.device
    return tuple(
        gpu
        for gpu in candidate.free_gpus
        if (wanted in (Device.ANY, Device.CPU) or gpu.kind is wanted)
        and (gpu.memory_total_bytes or 0) >= spec.resources.vram_bytes
    )


def why_not(spec: JobSpec, candidate: Candidate, owner_id: UserId | None = None) -> str | None:
    """The first reason why the node can't take the job now, or None. Lasting reasons come before passing ones.

    Args:
        owner_id: the job's owner; None: somebody else than the node's.
    """
    node, resources = candidate.node, spec.resources
    if node.state is NodeState.BANNED:
        return "banned"
    if node.reputation < LEAST:
        return f"reputation below {PROBATION:g}"
    if candidate.short_of_stake(owner_id):
        return f"stake below {format_cyxwiz(candidate.minimum_stake)} CYXWIZ"
    if node.state is not NodeState.ONLINE or not candidate.connected:
        return "offline"
    if spec.reservation_id != node.reservation_id:
        return "reserved" if node.reservation_id and not spec.reservation_id else "not the reserved node"
    if node.cordoned:
        return "draining"
    if candidate.closed:
        return f"closed: {candidate.closed}"
    if (spec.verify is not Mode.NONE or spec.check is not None) and SIGNS not in node.features:
        return "signs no results"
    if (check := spec.check) is not None:
        if node.id in check.not_nodes:
            return "did the work that is checked"
        if node.owner_id in check.not_owners:
            return "belongs to whose work is checked"
    if resources.regions and node.region not in resources.regions:
        return f"not in {', '.join(resources.regions)}"
    if spec.script is not None and SCRIPTS not in node.features:
        return "runs no code of others"
    if spec.type is not JobType.TRAINING and JOB_TYPES not in node.features:
        return f"knows no {spec.type} jobs"
    if spec.requirements and REQUIREMENTS not in node.features:
        return "installs no packages"
    if spec.network and NETWORK not in node.features:
        return "allows no network"
    if resources.nodes > 1 and not node.gang_network:
        return "takes no part in gangs"
    if resources.nodes > 1 and not candidate.here:
        return "not connected to this central, as members of a gang must be"
    if resources.nodes > 1 and spec.script is not None and NETWORK not in node.features:
        return "gives the code of others no network"
    if spec.dataset_uri.startswith(REMOTE) and P2P_SERVICE not in node.services:
        return "serves no clients itself, as remote:// data need"
    if resources.ram_bytes > node.hardware.ram_total_bytes:
        return f"less than {_size(resources.ram_bytes)} of RAM"
    if needs_gpu(spec):
        kind = resources.device if resources.device is not Device.ANY else "GPU"
        wanted = [gpu for gpu in node.hardware.gpus if resources.device is Device.ANY or gpu.kind is resources.device]
        if not wanted:
            return f"no {kind} device"
        if all((gpu.memory_total_bytes or 0) < resources.vram_bytes for gpu in wanted):
            return f"no {kind} device with {_size(resources.vram_bytes)}"
    if spec.max_price_units and (asked := candidate.quote(spec).units) > spec.max_price_units:
        return f"asks {format_cyxwiz(asked)} CYXWIZ, above max_price {format_cyxwiz(spec.max_price_units)}"
    if outruns(spec, node.pricing):
        return "asks more at once than the client's own escrow pays by time"
    if candidate.free_slots < 1:
        return "all slots busy"
    if resources.ram_bytes > candidate.free_ram_bytes:
        return "RAM in use by other jobs"
    if needs_gpu(spec) and not fitting_gpus(spec, candidate):
        return "GPU in use by another job"
    return None


def _size(count: int) -> str:
    for unit, size in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count >= size:
            return f"{count / size:.4g} {unit}"
    return f"{count} bytes"
