"""Nodes: machines that run jobs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from typing import Literal, cast

from cyxwiz.domain.ids import NodeId, UserId
from cyxwiz.domain.job import Device
from cyxwiz.domain.pricing import NodePricing, default_pricing
from cyxwiz.domain.reputation import HIGHEST, Standing
from cyxwiz.domain.states import NODE, NodeState, NodeTrigger, advance

# What a node signs in its Hello, before the nonce and its id, so that no other signature can pass for it.
HELLO_CONTEXT = b"cyxwiz-node-hello-v1\n"
P2P_SERVICE = "cyxwiz.protocol.JobExecutionService"
COMPUTE_SERVICE = "cyxwiz.protocol.ComputeService"
P2P_ISSUER = "CyxWiz-Central-Server"  # of the tokens that let a client reach a job on its node
JOB_TYPES = "job_types"  # the feature of a node that evaluates, infers and preprocesses, too
REQUIREMENTS = "requirements"  # of one that installs the packages of a script
NETWORK = "network"  # of one that gives scripts the network
SCRIPTS = "scripts"  # the feature of a node that runs the code of others, in a sandbox
SIGNS = "signs"  # of one that signs its links and results
GANG = "gang:"  # how the feature begins that names the network in which a node's gangs meet

NodeStatus = Literal["offline", "online", "busy", "draining", "banned"]


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """One compute device. A size that could not be read is None, never 0."""

    kind: Device
    name: str
    memory_total_bytes: int | None = None
    memory_available_bytes: int | None = None
    compute_units: int | None = None
    supports_fp64: bool = False
    supports_fp16: bool = False
    driver_version: str = ""
    cuda_version: str = ""
    pcie_generation: int | None = None
    pcie_lanes: int | None = None
    compute_capability: float | None = None

    @property
    def is_gpu(self) -> bool:
        return self.kind is not Device.CPU


_LASTING = tuple(each.name for each in fields(DeviceInfo) if each.name != "memory_available_bytes")


@dataclass(frozen=True, slots=True)
class Hardware:
    cpu_model: str
    cpu_cores: int
    ram_total_bytes: int
    ram_available_bytes: int
    devices: tuple[DeviceInfo, ...] = ()
    unknown: tuple[str, ...] = ()  # "what: why it could not be read"

    @property
    def gpus(self) -> tuple[DeviceInfo, ...]:
        return tuple(device for device in self.devices if device.is_gpu)

    def changes(self, before: Hardware) -> tuple[str, ...]:
        """What differs from `before`, for people. Free memory does not count: it is load."""
        found = [
            f"{title}: {getattr(before, name)} -> {getattr(self, name)}"
            for name, title in (("cpu_model", "CPU"), ("cpu_cores", "cores"), ("ram_total_bytes", "RAM bytes"))
            if getattr(before, name) != getattr(self, name)
        ]
        for index in range(max(len(self.devices), len(before.devices))):
            old = before.devices[index] if index < len(before.devices) else None
            new = self.devices[index] if index < len(self.devices) else None
            if old is None or new is None:
                device = new or old
                found.append(f"device {index} {device.name if device else ''} {'is new' if new else 'is gone'}")
                continue
            found += [
                f"device {index} {name.replace('_', ' ')}: {getattr(old, name)} -> {getattr(new, name)}"
                for name in _LASTING
                # The RAM as a device is told above.
                if getattr(old, name) != getattr(new, name) and (new.is_gpu or name in ("kind", "supports_fp64"))
            ]
        found += [f"unknown now: {each}" for each in self.unknown if each not in before.unknown]
        found += [f"no longer unknown: {each}" for each in before.unknown if each not in self.unknown]
        return tuple(found)


@dataclass(frozen=True, slots=True)
class Node:
    id: NodeId
    owner_id: UserId
    name: str
    hardware: Hardware
    registered_at: datetime
    last_seen_at: datetime
    state: NodeState = NodeState.OFFLINE
    public_key: bytes = b""
    legacy: bool = False  # speaks only the unary calls and is pushed its jobs
    identity: str = ""  # a legacy node's: digest of its registration, unique an owner
    region: str = ""
    host: str = ""
    port: int = 0
    wallet_address: str = ""
    version: str = ""
    boot_id: str = ""
    max_concurrent_jobs: int = 1
    services: tuple[str, ...] = ()
    certificate_fingerprint: str = ""
    cordoned: bool = False  # drained: takes no new jobs
    banned_until: datetime | None = None
    reputation: float = 0.75  # 0 to 1, as it was at `reputation_at`: domain.reputation
    reputation_at: datetime | None = None
    strikes: int = 0
    bans: int = 0  # so far
    stake_units: int = 0
    jobs_completed: int = 0
    jobs_failed: int = 0
    compute_seconds: float = 0.0
    online_seconds: float = 0.0  # up to last_seen_at
    pricing: NodePricing | None = None  # None: its owner has set no prices
    extras: Mapping[str, object] = field(default_factory=dict[str, object])
    load: int = 0  # live leases; derived, not stored
    reservation_id: str = ""  # of the reservation that keeps it for one owner now; derived, not stored
    version_number: int = 0

    @property
    def features(self) -> frozenset[str]:
        """What the node says that it can do beyond the least."""
        given = cast("Sequence[str]", self.extras.get("features", ()))
        return frozenset(given)

    @property
    def measured_score(self) -> float | None:
        """What its own bench gave, by its own word; None: it has measured nothing."""
        return cast("float | None", self.extras.get("measured_score"))

    @property
    def keep_results_seconds(self) -> float | None:
        """How long it keeps a run's files once that is over; None: it has not said."""
        return cast("float | None", self.extras.get("keep_results_seconds"))

    @property
    def gang_network(self) -> str:
        """Where its children reach those of other nodes directly; empty: it takes no part in gangs."""
        return next((each.removeprefix(GANG) for each in sorted(self.features) if each.startswith(GANG)), "")

    @property
    def endpoint(self) -> str:
        """host:port as registered, or empty."""
        if not self.host or not self.port:
            return ""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def status(self) -> NodeStatus:
        """For people; busy: all slots are taken, or it is reserved."""
        if self.state is NodeState.BANNED:
            return "banned"
        if self.state is NodeState.OFFLINE:
            return "offline"
        if self.cordoned:
            return "draining"
        return "busy" if self.load >= self.max_concurrent_jobs or self.reservation_id else "online"

    def banned(self, now: datetime) -> bool:
        """Whether it is shut out now: a ban may have an end."""
        return self.state is NodeState.BANNED and (self.banned_until is None or self.banned_until > now)

    @property
    def load_fraction(self) -> float:
        return min(1.0, self.load / max(1, self.max_concurrent_jobs))

    def uptime(self, now: datetime) -> float:
        """Share of the time since registration that the node was online, 0 to 1."""
        age = (now - self.registered_at).total_seconds()
        online = self.online_seconds
        if self.state is NodeState.ONLINE:
            online += max(0.0, (now - self.last_seen_at).total_seconds())
        return 1.0 if age <= 0 else max(0.0, min(1.0, online / age))

    def price(self) -> NodePricing:
        """What discovery shows: its own prices, or those that its hardware suggests."""
        return self.pricing or default_pricing(self.hardware)

    def compute_score(self) -> float:
        """Reference formula: (cores·10 + ram_gb·5 + best device) · (0.5 + 0.5·reputation)."""
        score = self.hardware.cpu_cores * 10 + self.hardware.ram_total_bytes / 2**30 * 5
        best = 0.0
        for gpu in self.hardware.gpus:
            vram = (gpu.memory_total_bytes or 0) / 2**30
            best = max(best, 500 + 20 * vram if gpu.kind is Device.CUDA else 200 + 15 * vram)
        return (score + best) * (0.5 + 0.5 * self.reputation)

    @property
    def standing(self) -> Standing:
        return Standing(self.reputation * HIGHEST, self.reputation_at, self.strikes, self.bans)

    def with_standing(self, standing: Standing) -> Node:
        return replace(
            self,
            reputation=standing.score / HIGHEST,
            reputation_at=standing.at,
            strikes=standing.strikes,
            bans=standing.bans,
        )

    def move(self, trigger: NodeTrigger, **changes: object) -> Node:
        state = advance(NODE, self.state, trigger, subject=f"Node {self.id}")
        return replace(self, state=state, **changes)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class GpuLoad:
    """One GPU at the moment of a sample; what could not be read is None."""

    name: str = ""
    usage: float | None = None  # 0 to 1
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    temperature_c: float | None = None
    power_watts: float | None = None


@dataclass(frozen=True, slots=True)
class LoadSample:
    """One sample of a node's load. Fractions are 0 to 1; what could not be read is None."""

    at: datetime
    cpu_usage: float | None = None
    memory_usage: float | None = None
    gpu_usage: float | None = None
    gpu_memory_usage: float | None = None
    network_rx_bytes_per_second: float | None = None
    network_tx_bytes_per_second: float | None = None
    power_watts: float | None = None
    active_jobs: int = 0
    gpus: tuple[GpuLoad, ...] = ()
