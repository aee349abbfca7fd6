from cyxwiz.protocol import common_pb2 as _common_pb2
from cyxwiz.protocol import job_pb2 as _job_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class DatasetSplit(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    SPLIT_TRAIN: _ClassVar[DatasetSplit]
    SPLIT_VALIDATION: _ClassVar[DatasetSplit]
    SPLIT_TEST: _ClassVar[DatasetSplit]
SPLIT_TRAIN: DatasetSplit
SPLIT_VALIDATION: DatasetSplit
SPLIT_TEST: DatasetSplit

class PauseTrainingRequest(_message.Message):
    __slots__ = ("job_id",)
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    def __init__(self, job_id: _Optional[str] = ...) -> None: ...

class PauseTrainingResponse(_message.Message):
    __slots__ = ("success", "checkpoint_path", "current_epoch", "current_batch", "message")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_PATH_FIELD_NUMBER: _ClassVar[int]
    CURRENT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    CURRENT_BATCH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    success: bool
    checkpoint_path: str
    current_epoch: int
    current_batch: int
    message: str
    def __init__(self, success: _Optional[bool] = ..., checkpoint_path: _Optional[str] = ..., current_epoch: _Optional[int] = ..., current_batch: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class ResumeTrainingRequest(_message.Message):
    __slots__ = ("job_id", "checkpoint_path")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_PATH_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    checkpoint_path: str
    def __init__(self, job_id: _Optional[str] = ..., checkpoint_path: _Optional[str] = ...) -> None: ...

class ResumeTrainingResponse(_message.Message):
    __slots__ = ("success", "resumed_epoch", "resumed_batch", "message")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    RESUMED_EPOCH_FIELD_NUMBER: _ClassVar[int]
    RESUMED_BATCH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    success: bool
    resumed_epoch: int
    resumed_batch: int
    message: str
    def __init__(self, success: _Optional[bool] = ..., resumed_epoch: _Optional[int] = ..., resumed_batch: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class CancelTrainingRequest(_message.Message):
    __slots__ = ("job_id", "reason", "save_partial_model")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    SAVE_PARTIAL_MODEL_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    reason: str
    save_partial_model: bool
    def __init__(self, job_id: _Optional[str] = ..., reason: _Optional[str] = ..., save_partial_model: _Optional[bool] = ...) -> None: ...

class CancelTrainingResponse(_message.Message):
    __slots__ = ("success", "epochs_completed", "partial_model_saved", "partial_model_path", "message")
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_MODEL_SAVED_FIELD_NUMBER: _ClassVar[int]
    PARTIAL_MODEL_PATH_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    success: bool
    epochs_completed: int
    partial_model_saved: bool
    partial_model_path: str
    message: str
    def __init__(self, success: _Optional[bool] = ..., epochs_completed: _Optional[int] = ..., partial_model_saved: _Optional[bool] = ..., partial_model_path: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class StartNewJobRequest(_message.Message):
    __slots__ = ("reservation_id", "job_id", "job_config")
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    JOB_CONFIG_FIELD_NUMBER: _ClassVar[int]
    reservation_id: str
    job_id: str
    job_config: _job_pb2.JobConfig
    def __init__(self, reservation_id: _Optional[str] = ..., job_id: _Optional[str] = ..., job_config: _Optional[_Union[_job_pb2.JobConfig, _Mapping]] = ...) -> None: ...

class StartNewJobResponse(_message.Message):
    __slots__ = ("accepted", "message")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    message: str
    def __init__(self, accepted: _Optional[bool] = ..., message: _Optional[str] = ...) -> None: ...

class ConnectRequest(_message.Message):
    __slots__ = ("auth_token", "job_id", "engine_version")
    AUTH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    ENGINE_VERSION_FIELD_NUMBER: _ClassVar[int]
    auth_token: str
    job_id: str
    engine_version: str
    def __init__(self, auth_token: _Optional[str] = ..., job_id: _Optional[str] = ..., engine_version: _Optional[str] = ...) -> None: ...

class ConnectResponse(_message.Message):
    __slots__ = ("status", "node_id", "capabilities", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    CAPABILITIES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    node_id: str
    capabilities: NodeCapabilities
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., node_id: _Optional[str] = ..., capabilities: _Optional[_Union[NodeCapabilities, _Mapping]] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class DisconnectRequest(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class DisconnectResponse(_message.Message):
    __slots__ = ("status", "message")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    message: str
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., message: _Optional[str] = ...) -> None: ...

class NodeCapabilities(_message.Message):
    __slots__ = ("supported_devices", "max_memory", "max_batch_size", "supported_optimizers", "supports_checkpointing", "supports_distributed")
    SUPPORTED_DEVICES_FIELD_NUMBER: _ClassVar[int]
    MAX_MEMORY_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    SUPPORTED_OPTIMIZERS_FIELD_NUMBER: _ClassVar[int]
    SUPPORTS_CHECKPOINTING_FIELD_NUMBER: _ClassVar[int]
    SUPPORTS_DISTRIBUTED_FIELD_NUMBER: _ClassVar[int]
    supported_devices: _containers.RepeatedScalarFieldContainer[_common_pb2.DeviceType]
    max_memory: int
    max_batch_size: int
    supported_optimizers: _containers.RepeatedScalarFieldContainer[str]
    supports_checkpointing: bool
    supports_distributed: bool
    def __init__(self, supported_devices: _Optional[_Iterable[_Union[_common_pb2.DeviceType, str]]] = ..., max_memory: _Optional[int] = ..., max_batch_size: _Optional[int] = ..., supported_optimizers: _Optional[_Iterable[str]] = ..., supports_checkpointing: _Optional[bool] = ..., supports_distributed: _Optional[bool] = ...) -> None: ...

class SendJobRequest(_message.Message):
    __slots__ = ("job_id", "config", "initial_dataset", "dataset_uri")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    INITIAL_DATASET_FIELD_NUMBER: _ClassVar[int]
    DATASET_URI_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    config: _job_pb2.JobConfig
    initial_dataset: bytes
    dataset_uri: str
    def __init__(self, job_id: _Optional[str] = ..., config: _Optional[_Union[_job_pb2.JobConfig, _Mapping]] = ..., initial_dataset: _Optional[bytes] = ..., dataset_uri: _Optional[str] = ...) -> None: ...

class SendJobResponse(_message.Message):
    __slots__ = ("status", "accepted", "estimated_start_time", "rejection_reason", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_START_TIME_FIELD_NUMBER: _ClassVar[int]
    REJECTION_REASON_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    accepted: bool
    estimated_start_time: int
    rejection_reason: str
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., accepted: _Optional[bool] = ..., estimated_start_time: _Optional[int] = ..., rejection_reason: _Optional[str] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class DatasetInfoRequest(_message.Message):
    __slots__ = ("job_id", "auth_token")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AUTH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    auth_token: str
    def __init__(self, job_id: _Optional[str] = ..., auth_token: _Optional[str] = ...) -> None: ...

class DatasetInfoResponse(_message.Message):
    __slots__ = ("status", "train", "validation", "test", "sample_shape", "label_shape", "dtype", "num_classes", "class_names", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    TRAIN_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_FIELD_NUMBER: _ClassVar[int]
    TEST_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_SHAPE_FIELD_NUMBER: _ClassVar[int]
    LABEL_SHAPE_FIELD_NUMBER: _ClassVar[int]
    DTYPE_FIELD_NUMBER: _ClassVar[int]
    NUM_CLASSES_FIELD_NUMBER: _ClassVar[int]
    CLASS_NAMES_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    train: SplitInfo
    validation: SplitInfo
    test: SplitInfo
    sample_shape: _containers.RepeatedScalarFieldContainer[int]
    label_shape: _containers.RepeatedScalarFieldContainer[int]
    dtype: str
    num_classes: int
    class_names: _containers.RepeatedScalarFieldContainer[str]
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., train: _Optional[_Union[SplitInfo, _Mapping]] = ..., validation: _Optional[_Union[SplitInfo, _Mapping]] = ..., test: _Optional[_Union[SplitInfo, _Mapping]] = ..., sample_shape: _Optional[_Iterable[int]] = ..., label_shape: _Optional[_Iterable[int]] = ..., dtype: _Optional[str] = ..., num_classes: _Optional[int] = ..., class_names: _Optional[_Iterable[str]] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class SplitInfo(_message.Message):
    __slots__ = ("num_samples", "available", "shuffle_enabled")
    NUM_SAMPLES_FIELD_NUMBER: _ClassVar[int]
    AVAILABLE_FIELD_NUMBER: _ClassVar[int]
    SHUFFLE_ENABLED_FIELD_NUMBER: _ClassVar[int]
    num_samples: int
    available: bool
    shuffle_enabled: bool
    def __init__(self, num_samples: _Optional[int] = ..., available: _Optional[bool] = ..., shuffle_enabled: _Optional[bool] = ...) -> None: ...

class BatchRequest(_message.Message):
    __slots__ = ("job_id", "auth_token", "split", "sample_indices", "request_id")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    AUTH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    SPLIT_FIELD_NUMBER: _ClassVar[int]
    SAMPLE_INDICES_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    auth_token: str
    split: DatasetSplit
    sample_indices: _containers.RepeatedScalarFieldContainer[int]
    request_id: int
    def __init__(self, job_id: _Optional[str] = ..., auth_token: _Optional[str] = ..., split: _Optional[_Union[DatasetSplit, str]] = ..., sample_indices: _Optional[_Iterable[int]] = ..., request_id: _Optional[int] = ...) -> None: ...

class BatchResponse(_message.Message):
    __slots__ = ("status", "request_id", "images", "labels", "batch_shape", "label_shape", "error")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    REQUEST_ID_FIELD_NUMBER: _ClassVar[int]
    IMAGES_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SHAPE_FIELD_NUMBER: _ClassVar[int]
    LABEL_SHAPE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    request_id: int
    images: bytes
    labels: bytes
    batch_shape: _containers.RepeatedScalarFieldContainer[int]
    label_shape: _containers.RepeatedScalarFieldContainer[int]
    error: _common_pb2.Error
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., request_id: _Optional[int] = ..., images: _Optional[bytes] = ..., labels: _Optional[bytes] = ..., batch_shape: _Optional[_Iterable[int]] = ..., label_shape: _Optional[_Iterable[int]] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class TrainingCommand(_message.Message):
    __slots__ = ("pause", "resume", "stop", "request_checkpoint", "update_params", "batch_response", "dataset_info_response", "new_job_config", "reservation_end")
    PAUSE_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    STOP_FIELD_NUMBER: _ClassVar[int]
    REQUEST_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    UPDATE_PARAMS_FIELD_NUMBER: _ClassVar[int]
    BATCH_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    DATASET_INFO_RESPONSE_FIELD_NUMBER: _ClassVar[int]
    NEW_JOB_CONFIG_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_END_FIELD_NUMBER: _ClassVar[int]
    pause: bool
    resume: bool
    stop: bool
    request_checkpoint: bool
    update_params: UpdateHyperparameters
    batch_response: BatchResponse
    dataset_info_response: DatasetInfoResponse
    new_job_config: _job_pb2.JobConfig
    reservation_end: bool
    def __init__(self, pause: _Optional[bool] = ..., resume: _Optional[bool] = ..., stop: _Optional[bool] = ..., request_checkpoint: _Optional[bool] = ..., update_params: _Optional[_Union[UpdateHyperparameters, _Mapping]] = ..., batch_response: _Optional[_Union[BatchResponse, _Mapping]] = ..., dataset_info_response: _Optional[_Union[DatasetInfoResponse, _Mapping]] = ..., new_job_config: _Optional[_Union[_job_pb2.JobConfig, _Mapping]] = ..., reservation_end: _Optional[bool] = ...) -> None: ...

class UpdateHyperparameters(_message.Message):
    __slots__ = ("learning_rate", "batch_size", "other_params")
    class OtherParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    OTHER_PARAMS_FIELD_NUMBER: _ClassVar[int]
    learning_rate: float
    batch_size: int
    other_params: _containers.ScalarMap[str, float]
    def __init__(self, learning_rate: _Optional[float] = ..., batch_size: _Optional[int] = ..., other_params: _Optional[_Mapping[str, float]] = ...) -> None: ...

class TrainingUpdate(_message.Message):
    __slots__ = ("job_id", "timestamp", "progress", "checkpoint", "complete", "error", "log", "dataset_info_request", "batch_request")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    COMPLETE_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    DATASET_INFO_REQUEST_FIELD_NUMBER: _ClassVar[int]
    BATCH_REQUEST_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    timestamp: int
    progress: TrainingProgress
    checkpoint: TrainingCheckpoint
    complete: TrainingComplete
    error: TrainingError
    log: LogMessage
    dataset_info_request: DatasetInfoRequest
    batch_request: BatchRequest
    def __init__(self, job_id: _Optional[str] = ..., timestamp: _Optional[int] = ..., progress: _Optional[_Union[TrainingProgress, _Mapping]] = ..., checkpoint: _Optional[_Union[TrainingCheckpoint, _Mapping]] = ..., complete: _Optional[_Union[TrainingComplete, _Mapping]] = ..., error: _Optional[_Union[TrainingError, _Mapping]] = ..., log: _Optional[_Union[LogMessage, _Mapping]] = ..., dataset_info_request: _Optional[_Union[DatasetInfoRequest, _Mapping]] = ..., batch_request: _Optional[_Union[BatchRequest, _Mapping]] = ...) -> None: ...

class TrainingProgress(_message.Message):
    __slots__ = ("current_epoch", "total_epochs", "current_batch", "total_batches", "progress_percentage", "metrics", "gpu_usage", "cpu_usage", "memory_usage", "gpu_memory_used", "gpu_memory_total", "estimated_time_remaining", "elapsed_time", "samples_per_second")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    CURRENT_EPOCH_FIELD_NUMBER: _ClassVar[int]
    TOTAL_EPOCHS_FIELD_NUMBER: _ClassVar[int]
    CURRENT_BATCH_FIELD_NUMBER: _ClassVar[int]
    TOTAL_BATCHES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_PERCENTAGE_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    GPU_USAGE_FIELD_NUMBER: _ClassVar[int]
    CPU_USAGE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USAGE_FIELD_NUMBER: _ClassVar[int]
    GPU_MEMORY_USED_FIELD_NUMBER: _ClassVar[int]
    GPU_MEMORY_TOTAL_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_TIME_REMAINING_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_TIME_FIELD_NUMBER: _ClassVar[int]
    SAMPLES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    current_epoch: int
    total_epochs: int
    current_batch: int
    total_batches: int
    progress_percentage: float
    metrics: _containers.ScalarMap[str, float]
    gpu_usage: float
    cpu_usage: float
    memory_usage: float
    gpu_memory_used: int
    gpu_memory_total: int
    estimated_time_remaining: int
    elapsed_time: int
    samples_per_second: float
    def __init__(self, current_epoch: _Optional[int] = ..., total_epochs: _Optional[int] = ..., current_batch: _Optional[int] = ..., total_batches: _Optional[int] = ..., progress_percentage: _Optional[float] = ..., metrics: _Optional[_Mapping[str, float]] = ..., gpu_usage: _Optional[float] = ..., cpu_usage: _Optional[float] = ..., memory_usage: _Optional[float] = ..., gpu_memory_used: _Optional[int] = ..., gpu_memory_total: _Optional[int] = ..., estimated_time_remaining: _Optional[int] = ..., elapsed_time: _Optional[int] = ..., samples_per_second: _Optional[float] = ...) -> None: ...

class TrainingCheckpoint(_message.Message):
    __slots__ = ("epoch", "weights_data", "weights_size", "compression_type", "checkpoint_hash", "metrics_at_checkpoint")
    class MetricsAtCheckpointEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_DATA_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_SIZE_FIELD_NUMBER: _ClassVar[int]
    COMPRESSION_TYPE_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_HASH_FIELD_NUMBER: _ClassVar[int]
    METRICS_AT_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    weights_data: bytes
    weights_size: int
    compression_type: str
    checkpoint_hash: str
    metrics_at_checkpoint: _containers.ScalarMap[str, float]
    def __init__(self, epoch: _Optional[int] = ..., weights_data: _Optional[bytes] = ..., weights_size: _Optional[int] = ..., compression_type: _Optional[str] = ..., checkpoint_hash: _Optional[str] = ..., metrics_at_checkpoint: _Optional[_Mapping[str, float]] = ...) -> None: ...

class TrainingComplete(_message.Message):
    __slots__ = ("success", "result_hash", "final_metrics", "total_training_time", "total_epochs_completed", "weights_location", "final_weights_size", "proof_of_compute")
    class FinalMetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    SUCCESS_FIELD_NUMBER: _ClassVar[int]
    RESULT_HASH_FIELD_NUMBER: _ClassVar[int]
    FINAL_METRICS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_TRAINING_TIME_FIELD_NUMBER: _ClassVar[int]
    TOTAL_EPOCHS_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_LOCATION_FIELD_NUMBER: _ClassVar[int]
    FINAL_WEIGHTS_SIZE_FIELD_NUMBER: _ClassVar[int]
    PROOF_OF_COMPUTE_FIELD_NUMBER: _ClassVar[int]
    success: bool
    result_hash: str
    final_metrics: _containers.ScalarMap[str, float]
    total_training_time: int
    total_epochs_completed: int
    weights_location: str
    final_weights_size: int
    proof_of_compute: str
    def __init__(self, success: _Optional[bool] = ..., result_hash: _Optional[str] = ..., final_metrics: _Optional[_Mapping[str, float]] = ..., total_training_time: _Optional[int] = ..., total_epochs_completed: _Optional[int] = ..., weights_location: _Optional[str] = ..., final_weights_size: _Optional[int] = ..., proof_of_compute: _Optional[str] = ...) -> None: ...

class TrainingError(_message.Message):
    __slots__ = ("error_code", "error_message", "stack_trace", "epoch_at_error", "recoverable")
    ERROR_CODE_FIELD_NUMBER: _ClassVar[int]
    ERROR_MESSAGE_FIELD_NUMBER: _ClassVar[int]
    STACK_TRACE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_AT_ERROR_FIELD_NUMBER: _ClassVar[int]
    RECOVERABLE_FIELD_NUMBER: _ClassVar[int]
    error_code: str
    error_message: str
    stack_trace: str
    epoch_at_error: int
    recoverable: bool
    def __init__(self, error_code: _Optional[str] = ..., error_message: _Optional[str] = ..., stack_trace: _Optional[str] = ..., epoch_at_error: _Optional[int] = ..., recoverable: _Optional[bool] = ...) -> None: ...

class LogMessage(_message.Message):
    __slots__ = ("level", "message", "source")
    class Level(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        DEBUG: _ClassVar[LogMessage.Level]
        INFO: _ClassVar[LogMessage.Level]
        WARNING: _ClassVar[LogMessage.Level]
        ERROR: _ClassVar[LogMessage.Level]
    DEBUG: LogMessage.Level
    INFO: LogMessage.Level
    WARNING: LogMessage.Level
    ERROR: LogMessage.Level
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    level: LogMessage.Level
    message: str
    source: str
    def __init__(self, level: _Optional[_Union[LogMessage.Level, str]] = ..., message: _Optional[str] = ..., source: _Optional[str] = ...) -> None: ...

class DownloadRequest(_message.Message):
    __slots__ = ("job_id", "offset", "chunk_size")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    CHUNK_SIZE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    offset: int
    chunk_size: int
    def __init__(self, job_id: _Optional[str] = ..., offset: _Optional[int] = ..., chunk_size: _Optional[int] = ...) -> None: ...

class WeightsChunk(_message.Message):
    __slots__ = ("data", "offset", "total_size", "is_last_chunk", "checksum")
    DATA_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    TOTAL_SIZE_FIELD_NUMBER: _ClassVar[int]
    IS_LAST_CHUNK_FIELD_NUMBER: _ClassVar[int]
    CHECKSUM_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    offset: int
    total_size: int
    is_last_chunk: bool
    checksum: str
    def __init__(self, data: _Optional[bytes] = ..., offset: _Optional[int] = ..., total_size: _Optional[int] = ..., is_last_chunk: _Optional[bool] = ..., checksum: _Optional[str] = ...) -> None: ...
