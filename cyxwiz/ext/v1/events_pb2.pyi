from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchRequest(_message.Message):
    __slots__ = ("topics", "after")
    TOPICS_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    topics: _containers.RepeatedScalarFieldContainer[str]
    after: int
    def __init__(self, topics: _Optional[_Iterable[str]] = ..., after: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("seq", "at_ms", "kind", "job_submitted", "job_assigned", "job_started", "job_requeued", "job_revived", "job_completed", "job_failed", "job_cancelled", "job_deleted", "job_checkpointed", "job_payment", "job_funds_low", "job_paused", "job_resumed", "node_joined", "node_came_online", "node_went_offline", "node_cordoned", "node_uncordoned", "node_banned", "node_hardware_changed", "node_unbanned", "job_verified", "node_work_refused", "node_slashed", "job_preempted", "job_progress", "job_log", "stats", "reset", "lagged")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    JOB_SUBMITTED_FIELD_NUMBER: _ClassVar[int]
    JOB_ASSIGNED_FIELD_NUMBER: _ClassVar[int]
    JOB_STARTED_FIELD_NUMBER: _ClassVar[int]
    JOB_REQUEUED_FIELD_NUMBER: _ClassVar[int]
    JOB_REVIVED_FIELD_NUMBER: _ClassVar[int]
    JOB_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    JOB_FAILED_FIELD_NUMBER: _ClassVar[int]
    JOB_CANCELLED_FIELD_NUMBER: _ClassVar[int]
    JOB_DELETED_FIELD_NUMBER: _ClassVar[int]
    JOB_CHECKPOINTED_FIELD_NUMBER: _ClassVar[int]
    JOB_PAYMENT_FIELD_NUMBER: _ClassVar[int]
    JOB_FUNDS_LOW_FIELD_NUMBER: _ClassVar[int]
    JOB_PAUSED_FIELD_NUMBER: _ClassVar[int]
    JOB_RESUMED_FIELD_NUMBER: _ClassVar[int]
    NODE_JOINED_FIELD_NUMBER: _ClassVar[int]
    NODE_CAME_ONLINE_FIELD_NUMBER: _ClassVar[int]
    NODE_WENT_OFFLINE_FIELD_NUMBER: _ClassVar[int]
    NODE_CORDONED_FIELD_NUMBER: _ClassVar[int]
    NODE_UNCORDONED_FIELD_NUMBER: _ClassVar[int]
    NODE_BANNED_FIELD_NUMBER: _ClassVar[int]
    NODE_HARDWARE_CHANGED_FIELD_NUMBER: _ClassVar[int]
    NODE_UNBANNED_FIELD_NUMBER: _ClassVar[int]
    JOB_VERIFIED_FIELD_NUMBER: _ClassVar[int]
    NODE_WORK_REFUSED_FIELD_NUMBER: _ClassVar[int]
    NODE_SLASHED_FIELD_NUMBER: _ClassVar[int]
    JOB_PREEMPTED_FIELD_NUMBER: _ClassVar[int]
    JOB_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    JOB_LOG_FIELD_NUMBER: _ClassVar[int]
    STATS_FIELD_NUMBER: _ClassVar[int]
    RESET_FIELD_NUMBER: _ClassVar[int]
    LAGGED_FIELD_NUMBER: _ClassVar[int]
    seq: int
    at_ms: int
    kind: str
    job_submitted: JobSubmitted
    job_assigned: JobAssigned
    job_started: JobStarted
    job_requeued: JobRequeued
    job_revived: JobRevived
    job_completed: JobCompleted
    job_failed: JobFailed
    job_cancelled: JobCancelled
    job_deleted: JobDeleted
    job_checkpointed: JobCheckpointed
    job_payment: JobPayment
    job_funds_low: JobFundsLow
    job_paused: JobPaused
    job_resumed: JobResumed
    node_joined: NodeJoined
    node_came_online: NodeCameOnline
    node_went_offline: NodeWentOffline
    node_cordoned: NodeCordoned
    node_uncordoned: NodeUncordoned
    node_banned: NodeBanned
    node_hardware_changed: NodeHardwareChanged
    node_unbanned: NodeUnbanned
    job_verified: JobVerified
    node_work_refused: NodeWorkRefused
    node_slashed: NodeSlashed
    job_preempted: JobPreempted
    job_progress: JobProgress
    job_log: JobLog
    stats: Stats
    reset: Reset
    lagged: Lagged
    def __init__(self, seq: _Optional[int] = ..., at_ms: _Optional[int] = ..., kind: _Optional[str] = ..., job_submitted: _Optional[_Union[JobSubmitted, _Mapping]] = ..., job_assigned: _Optional[_Union[JobAssigned, _Mapping]] = ..., job_started: _Optional[_Union[JobStarted, _Mapping]] = ..., job_requeued: _Optional[_Union[JobRequeued, _Mapping]] = ..., job_revived: _Optional[_Union[JobRevived, _Mapping]] = ..., job_completed: _Optional[_Union[JobCompleted, _Mapping]] = ..., job_failed: _Optional[_Union[JobFailed, _Mapping]] = ..., job_cancelled: _Optional[_Union[JobCancelled, _Mapping]] = ..., job_deleted: _Optional[_Union[JobDeleted, _Mapping]] = ..., job_checkpointed: _Optional[_Union[JobCheckpointed, _Mapping]] = ..., job_payment: _Optional[_Union[JobPayment, _Mapping]] = ..., job_funds_low: _Optional[_Union[JobFundsLow, _Mapping]] = ..., job_paused: _Optional[_Union[JobPaused, _Mapping]] = ..., job_resumed: _Optional[_Union[JobResumed, _Mapping]] = ..., node_joined: _Optional[_Union[NodeJoined, _Mapping]] = ..., node_came_online: _Optional[_Union[NodeCameOnline, _Mapping]] = ..., node_went_offline: _Optional[_Union[NodeWentOffline, _Mapping]] = ..., node_cordoned: _Optional[_Union[NodeCordoned, _Mapping]] = ..., node_uncordoned: _Optional[_Union[NodeUncordoned, _Mapping]] = ..., node_banned: _Optional[_Union[NodeBanned, _Mapping]] = ..., node_hardware_changed: _Optional[_Union[NodeHardwareChanged, _Mapping]] = ..., node_unbanned: _Optional[_Union[NodeUnbanned, _Mapping]] = ..., job_verified: _Optional[_Union[JobVerified, _Mapping]] = ..., node_work_refused: _Optional[_Union[NodeWorkRefused, _Mapping]] = ..., node_slashed: _Optional[_Union[NodeSlashed, _Mapping]] = ..., job_preempted: _Optional[_Union[JobPreempted, _Mapping]] = ..., job_progress: _Optional[_Union[JobProgress, _Mapping]] = ..., job_log: _Optional[_Union[JobLog, _Mapping]] = ..., stats: _Optional[_Union[Stats, _Mapping]] = ..., reset: _Optional[_Union[Reset, _Mapping]] = ..., lagged: _Optional[_Union[Lagged, _Mapping]] = ...) -> None: ...

class JobSubmitted(_message.Message):
    __slots__ = ("job_id", "owner_id", "name")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    name: str
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class JobAssigned(_message.Message):
    __slots__ = ("job_id", "owner_id", "node_id", "token", "attempt")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    node_id: str
    token: str
    attempt: int
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., node_id: _Optional[str] = ..., token: _Optional[str] = ..., attempt: _Optional[int] = ...) -> None: ...

class JobStarted(_message.Message):
    __slots__ = ("job_id", "owner_id", "node_id")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    node_id: str
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., node_id: _Optional[str] = ...) -> None: ...

class JobRequeued(_message.Message):
    __slots__ = ("job_id", "owner_id", "node_id", "reason")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    node_id: str
    reason: str
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., node_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class JobRevived(_message.Message):
    __slots__ = ("job_id", "owner_id", "node_id")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    node_id: str
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., node_id: _Optional[str] = ...) -> None: ...

class JobCompleted(_message.Message):
    __slots__ = ("job_id", "owner_id", "node_id", "weights_hash")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_HASH_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    node_id: str
    weights_hash: str
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., node_id: _Optional[str] = ..., weights_hash: _Optional[str] = ...) -> None: ...

class JobFailed(_message.Message):
    __slots__ = ("job_id", "owner_id", "code", "message")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    code: str
    message: str
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., code: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class JobCancelled(_message.Message):
    __slots__ = ("job_id", "owner_id", "by", "reason")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    by: str
    reason: str
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class JobDeleted(_message.Message):
    __slots__ = ("job_id", "owner_id")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ...) -> None: ...

class JobCheckpointed(_message.Message):
    __slots__ = ("job_id", "owner_id", "node_id", "number", "epoch", "step")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    node_id: str
    number: int
    epoch: int
    step: int
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., node_id: _Optional[str] = ..., number: _Optional[int] = ..., epoch: _Optional[int] = ..., step: _Optional[int] = ...) -> None: ...

class JobPreempted(_message.Message):
    __slots__ = ("job_id", "owner_id", "node_id", "by", "reason")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    node_id: str
    by: str
    reason: str
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., node_id: _Optional[str] = ..., by: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class JobPaused(_message.Message):
    __slots__ = ("job_id", "owner_id", "by")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    by: str
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class JobResumed(_message.Message):
    __slots__ = ("job_id", "owner_id", "by")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    BY_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    by: str
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., by: _Optional[str] = ...) -> None: ...

class NodeJoined(_message.Message):
    __slots__ = ("node_id", "name")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    name: str
    def __init__(self, node_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class NodeCameOnline(_message.Message):
    __slots__ = ("node_id", "name")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    name: str
    def __init__(self, node_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class NodeWentOffline(_message.Message):
    __slots__ = ("node_id", "name", "reason")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    name: str
    reason: str
    def __init__(self, node_id: _Optional[str] = ..., name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class NodeCordoned(_message.Message):
    __slots__ = ("node_id", "name")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    name: str
    def __init__(self, node_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class NodeUncordoned(_message.Message):
    __slots__ = ("node_id", "name")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    name: str
    def __init__(self, node_id: _Optional[str] = ..., name: _Optional[str] = ...) -> None: ...

class JobVerified(_message.Message):
    __slots__ = ("job_id", "owner_id", "outcome", "reason")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    outcome: str
    reason: str
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., outcome: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class NodeWorkRefused(_message.Message):
    __slots__ = ("node_id", "name", "reason", "evidence_hash")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_HASH_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    name: str
    reason: str
    evidence_hash: str
    def __init__(self, node_id: _Optional[str] = ..., name: _Optional[str] = ..., reason: _Optional[str] = ..., evidence_hash: _Optional[str] = ...) -> None: ...

class NodeSlashed(_message.Message):
    __slots__ = ("node_id", "name", "step", "amount", "evidence_hash", "until", "reference")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_HASH_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    name: str
    step: str
    amount: str
    evidence_hash: str
    until: str
    reference: str
    def __init__(self, node_id: _Optional[str] = ..., name: _Optional[str] = ..., step: _Optional[str] = ..., amount: _Optional[str] = ..., evidence_hash: _Optional[str] = ..., until: _Optional[str] = ..., reference: _Optional[str] = ...) -> None: ...

class NodeBanned(_message.Message):
    __slots__ = ("node_id", "name", "until")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    UNTIL_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    name: str
    until: str
    def __init__(self, node_id: _Optional[str] = ..., name: _Optional[str] = ..., until: _Optional[str] = ...) -> None: ...

class NodeUnbanned(_message.Message):
    __slots__ = ("node_id", "name", "reason")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    name: str
    reason: str
    def __init__(self, node_id: _Optional[str] = ..., name: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class NodeHardwareChanged(_message.Message):
    __slots__ = ("node_id", "name", "changes")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    CHANGES_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    name: str
    changes: str
    def __init__(self, node_id: _Optional[str] = ..., name: _Optional[str] = ..., changes: _Optional[str] = ...) -> None: ...

class JobProgress(_message.Message):
    __slots__ = ("job_id", "progress", "current_epoch", "epochs", "phase", "metrics")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    progress: float
    current_epoch: int
    epochs: int
    phase: str
    metrics: _containers.ScalarMap[str, float]
    def __init__(self, job_id: _Optional[str] = ..., progress: _Optional[float] = ..., current_epoch: _Optional[int] = ..., epochs: _Optional[int] = ..., phase: _Optional[str] = ..., metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

class JobLog(_message.Message):
    __slots__ = ("job_id", "offset", "level", "source", "message")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    offset: int
    level: str
    source: str
    message: str
    def __init__(self, job_id: _Optional[str] = ..., offset: _Optional[int] = ..., level: _Optional[str] = ..., source: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Stats(_message.Message):
    __slots__ = ("total_nodes", "online_nodes", "total_jobs", "pending_jobs", "running_jobs", "completed_jobs", "failed_jobs", "total_compute_hours")
    TOTAL_NODES_FIELD_NUMBER: _ClassVar[int]
    ONLINE_NODES_FIELD_NUMBER: _ClassVar[int]
    TOTAL_JOBS_FIELD_NUMBER: _ClassVar[int]
    PENDING_JOBS_FIELD_NUMBER: _ClassVar[int]
    RUNNING_JOBS_FIELD_NUMBER: _ClassVar[int]
    COMPLETED_JOBS_FIELD_NUMBER: _ClassVar[int]
    FAILED_JOBS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COMPUTE_HOURS_FIELD_NUMBER: _ClassVar[int]
    total_nodes: int
    online_nodes: int
    total_jobs: int
    pending_jobs: int
    running_jobs: int
    completed_jobs: int
    failed_jobs: int
    total_compute_hours: float
    def __init__(self, total_nodes: _Optional[int] = ..., online_nodes: _Optional[int] = ..., total_jobs: _Optional[int] = ..., pending_jobs: _Optional[int] = ..., running_jobs: _Optional[int] = ..., completed_jobs: _Optional[int] = ..., failed_jobs: _Optional[int] = ..., total_compute_hours: _Optional[float] = ...) -> None: ...

class Reset(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Lagged(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class JobPayment(_message.Message):
    __slots__ = ("job_id", "owner_id", "payment_id", "step", "reference", "amount", "paid", "refunded")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    REFERENCE_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    PAID_FIELD_NUMBER: _ClassVar[int]
    REFUNDED_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    payment_id: str
    step: str
    reference: str
    amount: str
    paid: str
    refunded: str
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., payment_id: _Optional[str] = ..., step: _Optional[str] = ..., reference: _Optional[str] = ..., amount: _Optional[str] = ..., paid: _Optional[str] = ..., refunded: _Optional[str] = ...) -> None: ...

class JobFundsLow(_message.Message):
    __slots__ = ("job_id", "owner_id", "amount", "earned")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    EARNED_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    owner_id: str
    amount: str
    earned: str
    def __init__(self, job_id: _Optional[str] = ..., owner_id: _Optional[str] = ..., amount: _Optional[str] = ..., earned: _Optional[str] = ...) -> None: ...
