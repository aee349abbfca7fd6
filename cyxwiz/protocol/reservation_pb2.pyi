from cyxwiz.protocol import common_pb2 as _common_pb2
from cyxwiz.protocol import job_pb2 as _job_pb2
from cyxwiz.protocol import execution_pb2 as _execution_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ReservationStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    RESERVATION_UNKNOWN: _ClassVar[ReservationStatus]
    RESERVATION_PENDING: _ClassVar[ReservationStatus]
    RESERVATION_ACTIVE: _ClassVar[ReservationStatus]
    RESERVATION_PAUSED: _ClassVar[ReservationStatus]
    RESERVATION_COMPLETING: _ClassVar[ReservationStatus]
    RESERVATION_COMPLETED: _ClassVar[ReservationStatus]
    RESERVATION_CANCELLED: _ClassVar[ReservationStatus]
    RESERVATION_EXPIRED: _ClassVar[ReservationStatus]
    RESERVATION_FAILED: _ClassVar[ReservationStatus]
RESERVATION_UNKNOWN: ReservationStatus
RESERVATION_PENDING: ReservationStatus
RESERVATION_ACTIVE: ReservationStatus
RESERVATION_PAUSED: ReservationStatus
RESERVATION_COMPLETING: ReservationStatus
RESERVATION_COMPLETED: ReservationStatus
RESERVATION_CANCELLED: ReservationStatus
RESERVATION_EXPIRED: ReservationStatus
RESERVATION_FAILED: ReservationStatus

class ReserveNodeRequest(_message.Message):
    __slots__ = ("node_id", "user_wallet", "duration_minutes", "job_config")
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    USER_WALLET_FIELD_NUMBER: _ClassVar[int]
    DURATION_MINUTES_FIELD_NUMBER: _ClassVar[int]
    JOB_CONFIG_FIELD_NUMBER: _ClassVar[int]
    node_id: str
    user_wallet: str
    duration_minutes: int
    job_config: _job_pb2.JobConfig
    def __init__(self, node_id: _Optional[str] = ..., user_wallet: _Optional[str] = ..., duration_minutes: _Optional[int] = ..., job_config: _Optional[_Union[_job_pb2.JobConfig, _Mapping]] = ...) -> None: ...

class ReserveNodeResponse(_message.Message):
    __slots__ = ("status", "reservation_id", "job_id", "node_endpoint", "p2p_auth_token", "p2p_token_expires", "escrow_account", "escrow_amount", "reservation_start", "reservation_expires", "price_per_hour", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    P2P_AUTH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    P2P_TOKEN_EXPIRES_FIELD_NUMBER: _ClassVar[int]
    ESCROW_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ESCROW_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_START_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_EXPIRES_FIELD_NUMBER: _ClassVar[int]
    PRICE_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    reservation_id: str
    job_id: str
    node_endpoint: str
    p2p_auth_token: str
    p2p_token_expires: int
    escrow_account: str
    escrow_amount: int
    reservation_start: int
    reservation_expires: int
    price_per_hour: float
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., reservation_id: _Optional[str] = ..., job_id: _Optional[str] = ..., node_endpoint: _Optional[str] = ..., p2p_auth_token: _Optional[str] = ..., p2p_token_expires: _Optional[int] = ..., escrow_account: _Optional[str] = ..., escrow_amount: _Optional[int] = ..., reservation_start: _Optional[int] = ..., reservation_expires: _Optional[int] = ..., price_per_hour: _Optional[float] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class ConfirmJobCompleteRequest(_message.Message):
    __slots__ = ("reservation_id", "job_id", "model_hash", "final_metrics", "success")
    class FinalMetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_HASH_FIELD_NUMBER: _ClassVar[int]
    FINAL_METRICS_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    job_id: str
    model_hash: str
    final_metrics: _containers.ScalarMap[str, float]
    success: bool
    def __init__(self, reservation_id: _Optional[str] = ..., job_id: _Optional[str] = ..., model_hash: _Optional[str] = ..., final_metrics: _Optional[_Mapping[str, float]] = ..., success: _Optional[bool] = ...) -> None: ...

class ConfirmJobCompleteResponse(_message.Message):
    __slots__ = ("status", "payment_released", "payment_tx_hash", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_RELEASED_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_TX_HASH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    payment_released: bool
    payment_tx_hash: str
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., payment_released: _Optional[bool] = ..., payment_tx_hash: _Optional[str] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class ExtendReservationRequest(_message.Message):
    __slots__ = ("reservation_id", "additional_minutes")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_MINUTES_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    additional_minutes: int
    def __init__(self, reservation_id: _Optional[str] = ..., additional_minutes: _Optional[int] = ...) -> None: ...

class ExtendReservationResponse(_message.Message):
    __slots__ = ("status", "new_expires", "additional_escrow", "escrow_tx_hash", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    NEW_EXPIRES_FIELD_NUMBER: _ClassVar[int]
    ADDITIONAL_ESCROW_FIELD_NUMBER: _ClassVar[int]
    ESCROW_TX_HASH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    new_expires: int
    additional_escrow: int
    escrow_tx_hash: str
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., new_expires: _Optional[int] = ..., additional_escrow: _Optional[int] = ..., escrow_tx_hash: _Optional[str] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class ReleaseReservationRequest(_message.Message):
    __slots__ = ("reservation_id", "reason")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    reason: str
    def __init__(self, reservation_id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class ReleaseReservationResponse(_message.Message):
    __slots__ = ("status", "time_used_seconds", "payment_released", "refund_amount", "payment_tx_hash", "refund_tx_hash", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TIME_USED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_RELEASED_FIELD_NUMBER: _ClassVar[int]
    REFUND_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_TX_HASH_FIELD_NUMBER: _ClassVar[int]
    REFUND_TX_HASH_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    time_used_seconds: int
    payment_released: int
    refund_amount: int
    payment_tx_hash: str
    refund_tx_hash: str
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., time_used_seconds: _Optional[int] = ..., payment_released: _Optional[int] = ..., refund_amount: _Optional[int] = ..., payment_tx_hash: _Optional[str] = ..., refund_tx_hash: _Optional[str] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class GetReservationRequest(_message.Message):
    __slots__ = ("reservation_id",)
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    def __init__(self, reservation_id: _Optional[str] = ...) -> None: ...

class GetReservationResponse(_message.Message):
    __slots__ = ("status", "reservation", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    reservation: ReservationInfo
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., reservation: _Optional[_Union[ReservationInfo, _Mapping]] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class ReservationInfo(_message.Message):
    __slots__ = ("reservation_id", "user_id", "user_wallet", "node_id", "node_wallet", "node_endpoint", "status", "start_time", "end_time", "time_remaining_seconds", "escrow_account", "escrow_amount", "price_per_hour", "current_job_id", "job_progress", "current_metrics", "jobs_completed")
    class CurrentMetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    USER_WALLET_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_WALLET_FIELD_NUMBER: _ClassVar[int]
    NODE_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    START_TIME_FIELD_NUMBER: _ClassVar[int]
    END_TIME_FIELD_NUMBER: _ClassVar[int]
    TIME_REMAINING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ESCROW_ACCOUNT_FIELD_NUMBER: _ClassVar[int]
    ESCROW_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    PRICE_PER_HOUR_FIELD_NUMBER: _ClassVar[int]
    CURRENT_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_METRICS_FIELD_NUMBER: _ClassVar[int]
    JOBS_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    user_id: str
    user_wallet: str
    node_id: str
    node_wallet: str
    node_endpoint: str
    status: ReservationStatus
    start_time: int
    end_time: int
    time_remaining_seconds: int
    escrow_account: str
    escrow_amount: int
    price_per_hour: float
    current_job_id: str
    job_progress: float
    current_metrics: _containers.ScalarMap[str, float]
    jobs_completed: int
    def __init__(self, reservation_id: _Optional[str] = ..., user_id: _Optional[str] = ..., user_wallet: _Optional[str] = ..., node_id: _Optional[str] = ..., node_wallet: _Optional[str] = ..., node_endpoint: _Optional[str] = ..., status: _Optional[_Union[ReservationStatus, str]] = ..., start_time: _Optional[int] = ..., end_time: _Optional[int] = ..., time_remaining_seconds: _Optional[int] = ..., escrow_account: _Optional[str] = ..., escrow_amount: _Optional[int] = ..., price_per_hour: _Optional[float] = ..., current_job_id: _Optional[str] = ..., job_progress: _Optional[float] = ..., current_metrics: _Optional[_Mapping[str, float]] = ..., jobs_completed: _Optional[int] = ...) -> None: ...

class ListReservationsRequest(_message.Message):
    __slots__ = ("user_id", "page_size", "page_token", "active_only")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_ONLY_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    page_size: int
    page_token: str
    active_only: bool
    def __init__(self, user_id: _Optional[str] = ..., page_size: _Optional[int] = ..., page_token: _Optional[str] = ..., active_only: _Optional[bool] = ...) -> None: ...

class ListReservationsResponse(_message.Message):
    __slots__ = ("reservations", "next_page_token", "total_count")
    RESERVATIONS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    reservations: _containers.RepeatedCompositeFieldContainer[ReservationInfo]
    next_page_token: str
    total_count: int
    def __init__(self, reservations: _Optional[_Iterable[_Union[ReservationInfo, _Mapping]]] = ..., next_page_token: _Optional[str] = ..., total_count: _Optional[int] = ...) -> None: ...

class GetActiveReservationsRequest(_message.Message):
    __slots__ = ("user_wallet",)
    USER_WALLET_FIELD_NUMBER: _ClassVar[int]
    user_wallet: str
    def __init__(self, user_wallet: _Optional[str] = ...) -> None: ...

class GetActiveReservationsResponse(_message.Message):
    __slots__ = ("status", "reservations", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    RESERVATIONS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    reservations: _containers.RepeatedCompositeFieldContainer[ActiveReservationInfo]
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., reservations: _Optional[_Iterable[_Union[ActiveReservationInfo, _Mapping]]] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class ActiveReservationInfo(_message.Message):
    __slots__ = ("reservation_id", "node_id", "node_endpoint", "time_remaining_seconds", "engine_connected", "status", "jobs_completed")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    TIME_REMAINING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ENGINE_CONNECTED_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    JOBS_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    node_id: str
    node_endpoint: str
    time_remaining_seconds: int
    engine_connected: bool
    status: ReservationStatus
    jobs_completed: int
    def __init__(self, reservation_id: _Optional[str] = ..., node_id: _Optional[str] = ..., node_endpoint: _Optional[str] = ..., time_remaining_seconds: _Optional[int] = ..., engine_connected: _Optional[bool] = ..., status: _Optional[_Union[ReservationStatus, str]] = ..., jobs_completed: _Optional[int] = ...) -> None: ...

class GetReconnectionTokenRequest(_message.Message):
    __slots__ = ("reservation_id", "user_wallet")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    USER_WALLET_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    user_wallet: str
    def __init__(self, reservation_id: _Optional[str] = ..., user_wallet: _Optional[str] = ...) -> None: ...

class GetReconnectionTokenResponse(_message.Message):
    __slots__ = ("status", "p2p_auth_token", "p2p_token_expires", "node_endpoint", "time_remaining_seconds", "current_job_id", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    P2P_AUTH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    P2P_TOKEN_EXPIRES_FIELD_NUMBER: _ClassVar[int]
    NODE_ENDPOINT_FIELD_NUMBER: _ClassVar[int]
    TIME_REMAINING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    p2p_auth_token: str
    p2p_token_expires: int
    node_endpoint: str
    time_remaining_seconds: int
    current_job_id: str
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., p2p_auth_token: _Optional[str] = ..., p2p_token_expires: _Optional[int] = ..., node_endpoint: _Optional[str] = ..., time_remaining_seconds: _Optional[int] = ..., current_job_id: _Optional[str] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class EngineHeartbeatRequest(_message.Message):
    __slots__ = ("reservation_id", "job_id", "training_active", "job_progress", "current_metrics")
    class CurrentMetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TRAINING_ACTIVE_FIELD_NUMBER: _ClassVar[int]
    JOB_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_METRICS_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    job_id: str
    training_active: bool
    job_progress: float
    current_metrics: _containers.ScalarMap[str, float]
    def __init__(self, reservation_id: _Optional[str] = ..., job_id: _Optional[str] = ..., training_active: _Optional[bool] = ..., job_progress: _Optional[float] = ..., current_metrics: _Optional[_Mapping[str, float]] = ...) -> None: ...

class EngineHeartbeatResponse(_message.Message):
    __slots__ = ("status", "time_remaining_seconds", "should_extend", "message", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TIME_REMAINING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    SHOULD_EXTEND_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    time_remaining_seconds: int
    should_extend: bool
    message: str
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., time_remaining_seconds: _Optional[int] = ..., should_extend: _Optional[bool] = ..., message: _Optional[str] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class ReportJobCompleteFromNodeRequest(_message.Message):
    __slots__ = ("reservation_id", "job_id", "node_id", "success", "model_hash", "final_metrics", "training_time_seconds", "epochs_completed")
    class FinalMetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    MODEL_HASH_FIELD_NUMBER: _ClassVar[int]
    FINAL_METRICS_FIELD_NUMBER: _ClassVar[int]
    TRAINING_TIME_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    job_id: str
    node_id: str
    success: bool
    model_hash: str
    final_metrics: _containers.ScalarMap[str, float]
    training_time_seconds: int
    epochs_completed: int
    def __init__(self, reservation_id: _Optional[str] = ..., job_id: _Optional[str] = ..., node_id: _Optional[str] = ..., success: _Optional[bool] = ..., model_hash: _Optional[str] = ..., final_metrics: _Optional[_Mapping[str, float]] = ..., training_time_seconds: _Optional[int] = ..., epochs_completed: _Optional[int] = ...) -> None: ...

class ReportJobCompleteFromNodeResponse(_message.Message):
    __slots__ = ("status", "new_reputation", "reputation_change", "jobs_in_reservation", "message", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    NEW_REPUTATION_FIELD_NUMBER: _ClassVar[int]
    REPUTATION_CHANGE_FIELD_NUMBER: _ClassVar[int]
    JOBS_IN_RESERVATION_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    new_reputation: float
    reputation_change: float
    jobs_in_reservation: int
    message: str
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., new_reputation: _Optional[float] = ..., reputation_change: _Optional[float] = ..., jobs_in_reservation: _Optional[int] = ..., message: _Optional[str] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class ReportReservationEndFromEngineRequest(_message.Message):
    __slots__ = ("reservation_id", "jobs_completed", "final_model_hash", "user_satisfied", "feedback")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    JOBS_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    FINAL_MODEL_HASH_FIELD_NUMBER: _ClassVar[int]
    USER_SATISFIED_FIELD_NUMBER: _ClassVar[int]
    FEEDBACK_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    jobs_completed: int
    final_model_hash: str
    user_satisfied: bool
    feedback: str
    def __init__(self, reservation_id: _Optional[str] = ..., jobs_completed: _Optional[int] = ..., final_model_hash: _Optional[str] = ..., user_satisfied: _Optional[bool] = ..., feedback: _Optional[str] = ...) -> None: ...

class ReportReservationEndFromEngineResponse(_message.Message):
    __slots__ = ("status", "payment_released", "amount_paid", "payment_tx_hash", "message", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_RELEASED_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_PAID_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_TX_HASH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    payment_released: bool
    amount_paid: int
    payment_tx_hash: str
    message: str
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., payment_released: _Optional[bool] = ..., amount_paid: _Optional[int] = ..., payment_tx_hash: _Optional[str] = ..., message: _Optional[str] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class ReportReservationEndFromNodeRequest(_message.Message):
    __slots__ = ("reservation_id", "node_id", "jobs_completed", "total_compute_time", "node_available")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    JOBS_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COMPUTE_TIME_FIELD_NUMBER: _ClassVar[int]
    NODE_AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    node_id: str
    jobs_completed: int
    total_compute_time: int
    node_available: bool
    def __init__(self, reservation_id: _Optional[str] = ..., node_id: _Optional[str] = ..., jobs_completed: _Optional[int] = ..., total_compute_time: _Optional[int] = ..., node_available: _Optional[bool] = ...) -> None: ...

class ReportReservationEndFromNodeResponse(_message.Message):
    __slots__ = ("status", "payment_released", "amount_received", "payment_tx_hash", "message", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_RELEASED_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_RECEIVED_FIELD_NUMBER: _ClassVar[int]
    PAYMENT_TX_HASH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    payment_released: bool
    amount_received: int
    payment_tx_hash: str
    message: str
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., payment_released: _Optional[bool] = ..., amount_received: _Optional[int] = ..., payment_tx_hash: _Optional[str] = ..., message: _Optional[str] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...
