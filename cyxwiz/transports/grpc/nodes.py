"""`NodeService`, `JobStatusService` and `NodeDiscoveryService` of the wire contract."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any

from cyxwiz.domain.errors import invalid, unsupported
from cyxwiz.domain.ids import parse_job_id
from cyxwiz.domain.job import Device
from cyxwiz.domain.node import LoadSample, Node
from cyxwiz.domain.states import NodeState
from cyxwiz.ports.clock import Clock
from cyxwiz.ports.store import Store
from cyxwiz.protocol import common_pb2 as common
from cyxwiz.protocol import node_pb2 as pb
from cyxwiz.protocol import node_pb2_grpc
from cyxwiz.services.accounts import JOIN_PREFIX, Accounts
from cyxwiz.services.hardware import DEVICE_FROM_WIRE
from cyxwiz.services.jobconfig import count_of, enum_of
from cyxwiz.services.legacy import LegacyNodes, Outcome
from cyxwiz.services.nodes import Nodes
from cyxwiz.services.pricing import BILLING
from cyxwiz.services.reports import finite
from cyxwiz.transports.grpc.door import caller
from cyxwiz.transports.grpc.mapping import (
    STATES_OF,
    hardware_of_info,
    info_to,
    point_to,
    registration_of,
    seconds_of,
)

MAX_NODES = 1000
FIND_BOUNDS = (
    "min_memory",
    "min_vram",
    "min_compute_score",
    "min_reputation",
    "min_stake",
    "max_price_per_hour",
    "max_price_usd",
)
FAILURES = (common.STATUS_FAILED, common.STATUS_ERROR, common.STATUS_CANCELLED)


class NodeServicer(node_pb2_grpc.NodeServiceServicer):
    def __init__(self, store: Store, clock: Clock, nodes: Nodes, legacy: LegacyNodes, accounts: Accounts) -> None:
        self._store = store
        self._clock = clock
        self._nodes = nodes
        self._legacy = legacy
        self._accounts = accounts

    async def RegisterNode(self, request: pb.RegisterNodeRequest, context: Any) -> pb.RegisterNodeResponse:
        if not request.HasField("info"):
            raise invalid("Node info is required", field="info")
        entered = caller()
        principal, token = entered.principal, request.authentication_token
        if principal is None and token and not token.startswith(JOIN_PREFIX):
            # The earlier system's nodes send their owner's token in the request as well as in the metadata.
            principal = await self._accounts.authenticate(token)
        registration = registration_of(request.info, request.public_key, entered.peer)

        def unit(tx: Any) -> Node:
            return self._nodes.register_legacy(tx, registration, request.info.node_id, principal, token)

        node = await self._store.write(unit)
        return pb.RegisterNodeResponse(
            status=common.STATUS_SUCCESS, node_id=node.id, session_token=self._accounts.node_session(node.id)
        )

    async def Heartbeat(self, request: pb.HeartbeatRequest, context: Any) -> pb.HeartbeatResponse:
        node_id = self._legacy.check(caller().required, request.node_id)
        hardware = sample = None
        if request.HasField("current_status") and request.current_status.cpu_cores > 0:
            hardware = hardware_of_info(request.current_status)
            total = hardware.ram_total_bytes
            used = 1 - hardware.ram_available_bytes / total if total else None
            sample = LoadSample(self._clock.now(), memory_usage=used, active_jobs=len(request.active_jobs))
        cancel = await self._legacy.heartbeat(node_id, hardware, sample, request.active_jobs)
        return pb.HeartbeatResponse(status=common.STATUS_SUCCESS, keep_alive=True, jobs_to_cancel=cancel)

    async def AssignJob(self, request: pb.AssignJobRequest, context: Any) -> pb.AssignJobResponse:
        raise unsupported("AssignJob is served by nodes: central calls it, it does not answer it")

    async def ReportProgress(self, request: pb.ReportProgressRequest, context: Any) -> pb.ReportProgressResponse:
        node_id = self._legacy.check(caller().required, request.node_id)
        status = request.status
        enum_of(STATES_OF, status.status, "status.status")
        _same_job(status.job_id, request.job_id, "status.job_id")
        if status.status in FAILURES:
            await self._legacy.result(node_id, request.job_id, Outcome(False, {}, error=status.error.message))
            return pb.ReportProgressResponse(status=common.STATUS_SUCCESS, continue_job=False)
        going = await self._legacy.update(
            node_id,
            request.job_id,
            progress=status.progress,
            epoch=status.current_epoch,
            metrics={**status.metrics, **request.current_metrics},
        )
        return pb.ReportProgressResponse(
            status=common.STATUS_SUCCESS if going else common.STATUS_CANCELLED, continue_job=going
        )

    async def ReportCompletion(self, request: pb.ReportCompletionRequest, context: Any) -> pb.ReportCompletionResponse:
        node_id = self._legacy.check(caller().required, request.node_id)
        if not request.HasField("result"):
            raise invalid("Job result is required", field="result")
        result = request.result
        _same_job(result.job_id, request.job_id, "result.job_id")
        outcome = Outcome(
            completed=_completed(result.status, "result.status"),
            metrics=dict(result.final_metrics),
            uri=result.model_weights_uri,
            hashed=result.model_weights_hash,
            size=result.model_size,
            seconds=float(result.total_compute_time),
        )
        job = await self._legacy.result(node_id, request.job_id, outcome)
        paid_by = await self._legacy.paid_by(node_id, job.id)
        return pb.ReportCompletionResponse(
            status=common.STATUS_SUCCESS, payment_released=bool(paid_by), payment_tx_hash=paid_by
        )

    async def GetNodeMetrics(self, request: pb.GetNodeMetricsRequest, context: Any) -> pb.GetNodeMetricsResponse:
        _ = caller().required
        start, end = seconds_of(request.start_time, "start_time"), seconds_of(request.end_time, "end_time")
        if start and end and end < start:
            raise invalid("end_time: must not be before start_time", field="end_time")
        samples = await self._nodes.metrics(request.node_id, start, end)
        return pb.GetNodeMetricsResponse(metrics=[point_to(sample) for sample in samples])

    async def NotifyJobAccepted(self, request: pb.JobAcceptedRequest, context: Any) -> pb.JobAcceptedResponse:
        node_id = self._legacy.check(caller().required, request.node_id)
        await self._legacy.accepted(node_id, request.job_id)
        return pb.JobAcceptedResponse(status=common.STATUS_SUCCESS, acknowledged=True)


class JobStatusServicer(node_pb2_grpc.JobStatusServiceServicer):
    def __init__(self, legacy: LegacyNodes) -> None:
        self._legacy = legacy

    async def UpdateJobStatus(self, request: pb.UpdateJobStatusRequest, context: Any) -> pb.UpdateJobStatusResponse:
        node_id = self._legacy.check(caller().required, request.node_id)
        enum_of(STATES_OF, request.status, "status")
        if request.status in (common.STATUS_COMPLETED, *FAILURES):
            raise invalid("status: the end of a job comes by ReportJobResult", field="status")
        going = await self._legacy.update(
            node_id,
            request.job_id,
            progress=request.progress,
            epoch=request.current_epoch,
            metrics=dict(request.metrics),
            log_message=request.log_message,
        )
        return pb.UpdateJobStatusResponse(
            status=common.STATUS_SUCCESS if going else common.STATUS_CANCELLED, should_continue=going
        )

    async def ReportJobResult(self, request: pb.ReportJobResultRequest, context: Any) -> pb.ReportJobResultResponse:
        node_id = self._legacy.check(caller().required, request.node_id)
        outcome = Outcome(
            completed=_completed(request.final_status, "final_status"),
            metrics=dict(request.final_metrics),
            uri=request.model_weights_uri,
            hashed=request.model_weights_hash,
            size=request.model_size,
            seconds=request.total_compute_time / 1000,
            error=request.error_message,
        )
        await self._legacy.result(node_id, request.job_id, outcome)
        return pb.ReportJobResultResponse(status=common.STATUS_SUCCESS)


def _same_job(named: str, job_id: str, field: str) -> None:
    """Raises INVALID for a message within a report that names another job than the report; it may name none."""
    if named and parse_job_id(named) != parse_job_id(job_id):
        raise invalid(f"{field}: names another job than job_id", field=field)


def _completed(status: int, field: str) -> bool:
    if status in (common.STATUS_SUCCESS, common.STATUS_COMPLETED):
        return True
    if status in FAILURES:
        return False
    raise invalid(f"{field}: must say how the job ended, not {status}", field=field)


def _uptime(clock: Clock) -> Callable[[Node], float]:
    now = clock.now()
    return lambda node: node.uptime(now)


class DiscoveryServicer(node_pb2_grpc.NodeDiscoveryServiceServicer):
    """Every filter, sort and page of the contract acts. Reputation is 0 to 1, as NodeInfo shows it."""

    def __init__(self, clock: Clock, nodes: Nodes) -> None:
        self._clock = clock
        self._nodes = nodes

    async def FindNodes(self, request: pb.FindNodesRequest, context: Any) -> pb.FindNodesResponse:
        _ = caller().required
        limit = min(MAX_NODES, count_of(request.max_results, MAX_NODES, "max_results"))
        device = Device(str(enum_of(DEVICE_FROM_WIRE, request.required_device, "required_device")))
        enum_of(dict(enumerate(BILLING)), request.preferred_billing, "preferred_billing")
        _bounds(request, FIND_BOUNDS)
        nodes = await self._all(online=True)
        matching = [node for node in nodes if self._matches(node, request, device)]
        matching.sort(key=self._order(request.sort_by, descending=request.sort_by != pb.FindNodesRequest.SORT_BY_PRICE))
        prices = [node.price().per_hour for node in matching]
        now = self._clock.now()
        return pb.FindNodesResponse(
            nodes=[info_to(node, now) for node in matching[:limit]],
            total_matching=len(matching),
            avg_price_per_hour=fmean(prices) if prices else 0.0,
            min_price_per_hour=min(prices, default=0.0),
            max_price_per_hour=max(prices, default=0.0),
        )

    def _matches(self, node: Node, request: pb.FindNodesRequest, device: Device) -> bool:
        hardware, price = node.hardware, node.price()
        vram = max((gpu.memory_total_bytes or 0 for gpu in hardware.gpus), default=0)
        return (
            (device is Device.ANY or _has(node, device))
            and hardware.ram_total_bytes >= request.min_memory
            and vram >= request.min_vram
            and node.compute_score() >= request.min_compute_score
            and node.reputation >= request.min_reputation
            and node.stake_units >= request.min_stake * 1e9
            and request.preferred_region.lower() in node.region.lower()
            and (not request.allowed_regions or node.region in request.allowed_regions)
            and node.region not in request.blocked_regions
            and (not request.max_price_per_hour or price.per_hour <= request.max_price_per_hour)
            and (not request.max_price_usd or price.usd_per_hour <= request.max_price_usd)
            and (not request.preferred_billing or BILLING.index(price.billing) == request.preferred_billing)
            and (not request.require_free_tier or price.free_tier)
        )

    def _order(self, sort_by: int, *, descending: bool) -> Callable[[Node], tuple[float, str]]:
        uptime = _uptime(self._clock)
        values: dict[int, Callable[[Node], float]] = {
            pb.FindNodesRequest.SORT_BY_PRICE: lambda node: node.price().per_hour,
            pb.FindNodesRequest.SORT_BY_PERFORMANCE: lambda node: node.compute_score(),
            pb.FindNodesRequest.SORT_BY_REPUTATION: lambda node: node.reputation,
            pb.FindNodesRequest.SORT_BY_AVAILABILITY: lambda node: uptime(node) - node.load_fraction,
        }
        enum_of(values, sort_by, "sort_by")
        sign = -1.0 if descending else 1.0
        return lambda node: (sign * values[sort_by](node), node.id)

    async def ListNodes(self, request: pb.ListNodesRequest, context: Any) -> pb.ListNodesResponse:
        _ = caller().required
        size = min(MAX_NODES, count_of(request.page_size, 100, "page_size"))
        offset = _offset(request.page_token)
        _bounds(request, ("min_price_per_hour", "max_price_per_hour"))
        device = Device(str(enum_of(DEVICE_FROM_WIRE, request.filter_device, "filter_device")))
        nodes = await self._all(online=False)
        online = [node for node in nodes if node.state is NodeState.ONLINE]
        matching = [
            node
            for node in nodes
            if (not request.online_only or node.state is NodeState.ONLINE)
            and (device is Device.ANY or _has(node, device))
            and request.filter_region.lower() in node.region.lower()
            and node.price().per_hour >= request.min_price_per_hour
            and (not request.max_price_per_hour or node.price().per_hour <= request.max_price_per_hour)
        ]
        matching.sort(key=self._order(request.sort_by, descending=request.sort_descending))
        part = matching[offset : offset + size]
        now = self._clock.now()
        return pb.ListNodesResponse(
            nodes=[info_to(node, now) for node in part],
            next_page_token=str(offset + size) if offset + size < len(matching) else "",
            total_count=len(matching),
            online_count=len(online),
            network_avg_price=fmean(node.price().per_hour for node in online) if online else 0.0,
            network_total_compute=sum(node.compute_score() for node in online),
        )

    async def GetNodeInfo(self, request: pb.GetNodeInfoRequest, context: Any) -> pb.GetNodeInfoResponse:
        _ = caller().required
        return pb.GetNodeInfoResponse(info=info_to(await self._nodes.get(request.node_id), self._clock.now()))

    async def _all(self, *, online: bool) -> Sequence[Node]:
        return [node for node in await self._nodes.fleet() if not online or node.state is NodeState.ONLINE]


def _bounds(request: Any, fields: Sequence[str]) -> None:
    """Raises INVALID for a bound that is no finite number, or below 0, which no node's figure is."""
    for field in fields:
        if finite(value := getattr(request, field), field) < 0:
            raise invalid(f"{field}: must not be negative, not {value}", field=field)


def _has(node: Node, device: Device) -> bool:
    return device is Device.CPU or any(each.kind is device for each in node.hardware.devices)


def _offset(token: str) -> int:
    if not token:
        return 0
    if not (token.isascii() and token.isdigit()) or len(token) > 9:
        raise invalid("page_token: take it from next_page_token of the page before", field="page_token")
    return int(token)
