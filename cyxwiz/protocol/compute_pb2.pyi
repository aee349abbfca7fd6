from cyxwiz.protocol import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class OperationType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OP_UNKNOWN: _ClassVar[OperationType]
    OP_MATMUL: _ClassVar[OperationType]
    OP_CONV2D: _ClassVar[OperationType]
    OP_POOL: _ClassVar[OperationType]
    OP_ACTIVATION: _ClassVar[OperationType]
    OP_LOSS: _ClassVar[OperationType]
    OP_OPTIMIZER_STEP: _ClassVar[OperationType]
    OP_CUSTOM: _ClassVar[OperationType]

class OptimizerType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OPTIMIZER_SGD: _ClassVar[OptimizerType]
    OPTIMIZER_ADAM: _ClassVar[OptimizerType]
    OPTIMIZER_ADAMW: _ClassVar[OptimizerType]
    OPTIMIZER_RMSPROP: _ClassVar[OptimizerType]
    OPTIMIZER_ADAGRAD: _ClassVar[OptimizerType]
OP_UNKNOWN: OperationType
OP_MATMUL: OperationType
OP_CONV2D: OperationType
OP_POOL: OperationType
OP_ACTIVATION: OperationType
OP_LOSS: OperationType
OP_OPTIMIZER_STEP: OperationType
OP_CUSTOM: OperationType
OPTIMIZER_SGD: OptimizerType
OPTIMIZER_ADAM: OptimizerType
OPTIMIZER_ADAMW: OptimizerType
OPTIMIZER_RMSPROP: OptimizerType
OPTIMIZER_ADAGRAD: OptimizerType

class Tensor(_message.Message):
    __slots__ = ("info", "data", "ipfs_hash", "compressed")
    INFO_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    IPFS_HASH_FIELD_NUMBER: _ClassVar[int]
    COMPRESSED_FIELD_NUMBER: _ClassVar[int]
    info: _common_pb2.TensorInfo
    data: bytes
    ipfs_hash: str
    compressed: bool
    def __init__(self, info: _Optional[_Union[_common_pb2.TensorInfo, _Mapping]] = ..., data: _Optional[bytes] = ..., ipfs_hash: _Optional[str] = ..., compressed: _Optional[bool] = ...) -> None: ...

class LayerConfig(_message.Message):
    __slots__ = ("layer_name", "layer_type", "parameters", "input_names", "output_names")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    LAYER_NAME_FIELD_NUMBER: _ClassVar[int]
    LAYER_TYPE_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    INPUT_NAMES_FIELD_NUMBER: _ClassVar[int]
    OUTPUT_NAMES_FIELD_NUMBER: _ClassVar[int]
    layer_name: str
    layer_type: str
    parameters: _containers.ScalarMap[str, str]
    input_names: _containers.RepeatedScalarFieldContainer[str]
    output_names: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, layer_name: _Optional[str] = ..., layer_type: _Optional[str] = ..., parameters: _Optional[_Mapping[str, str]] = ..., input_names: _Optional[_Iterable[str]] = ..., output_names: _Optional[_Iterable[str]] = ...) -> None: ...

class ModelArchitecture(_message.Message):
    __slots__ = ("model_name", "model_type", "layers", "loss_function", "optimizer", "optimizer_params", "metrics")
    class OptimizerParamsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    MODEL_NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_TYPE_FIELD_NUMBER: _ClassVar[int]
    LAYERS_FIELD_NUMBER: _ClassVar[int]
    LOSS_FUNCTION_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_FIELD_NUMBER: _ClassVar[int]
    OPTIMIZER_PARAMS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    model_name: str
    model_type: str
    layers: _containers.RepeatedCompositeFieldContainer[LayerConfig]
    loss_function: str
    optimizer: OptimizerType
    optimizer_params: _containers.ScalarMap[str, float]
    metrics: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, model_name: _Optional[str] = ..., model_type: _Optional[str] = ..., layers: _Optional[_Iterable[_Union[LayerConfig, _Mapping]]] = ..., loss_function: _Optional[str] = ..., optimizer: _Optional[_Union[OptimizerType, str]] = ..., optimizer_params: _Optional[_Mapping[str, float]] = ..., metrics: _Optional[_Iterable[str]] = ...) -> None: ...

class TrainingConfig(_message.Message):
    __slots__ = ("batch_size", "epochs", "learning_rate", "shuffle_data", "validation_split", "random_seed", "use_mixed_precision", "checkpoint_frequency")
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    LEARNING_RATE_FIELD_NUMBER: _ClassVar[int]
    SHUFFLE_DATA_FIELD_NUMBER: _ClassVar[int]
    VALIDATION_SPLIT_FIELD_NUMBER: _ClassVar[int]
    RANDOM_SEED_FIELD_NUMBER: _ClassVar[int]
    USE_MIXED_PRECISION_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FREQUENCY_FIELD_NUMBER: _ClassVar[int]
    batch_size: int
    epochs: int
    learning_rate: float
    shuffle_data: bool
    validation_split: int
    random_seed: int
    use_mixed_precision: bool
    checkpoint_frequency: int
    def __init__(self, batch_size: _Optional[int] = ..., epochs: _Optional[int] = ..., learning_rate: _Optional[float] = ..., shuffle_data: _Optional[bool] = ..., validation_split: _Optional[int] = ..., random_seed: _Optional[int] = ..., use_mixed_precision: _Optional[bool] = ..., checkpoint_frequency: _Optional[int] = ...) -> None: ...

class ComputeRequest(_message.Message):
    __slots__ = ("operation_id", "operation", "inputs", "parameters", "target_device")
    class ParametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    OPERATION_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    PARAMETERS_FIELD_NUMBER: _ClassVar[int]
    TARGET_DEVICE_FIELD_NUMBER: _ClassVar[int]
    operation_id: str
    operation: OperationType
    inputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    parameters: _containers.ScalarMap[str, str]
    target_device: _common_pb2.DeviceType
    def __init__(self, operation_id: _Optional[str] = ..., operation: _Optional[_Union[OperationType, str]] = ..., inputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., parameters: _Optional[_Mapping[str, str]] = ..., target_device: _Optional[_Union[_common_pb2.DeviceType, str]] = ...) -> None: ...

class ComputeResponse(_message.Message):
    __slots__ = ("operation_id", "status", "outputs", "compute_time_ms", "error")
    OPERATION_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    operation_id: str
    status: _common_pb2.StatusCode
    outputs: _containers.RepeatedCompositeFieldContainer[Tensor]
    compute_time_ms: int
    error: _common_pb2.Error
    def __init__(self, operation_id: _Optional[str] = ..., status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., outputs: _Optional[_Iterable[_Union[Tensor, _Mapping]]] = ..., compute_time_ms: _Optional[int] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...

class ExecuteGraphRequest(_message.Message):
    __slots__ = ("graph_id", "operations", "execution_order")
    GRAPH_ID_FIELD_NUMBER: _ClassVar[int]
    OPERATIONS_FIELD_NUMBER: _ClassVar[int]
    EXECUTION_ORDER_FIELD_NUMBER: _ClassVar[int]
    graph_id: str
    operations: _containers.RepeatedCompositeFieldContainer[ComputeRequest]
    execution_order: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, graph_id: _Optional[str] = ..., operations: _Optional[_Iterable[_Union[ComputeRequest, _Mapping]]] = ..., execution_order: _Optional[_Iterable[str]] = ...) -> None: ...

class ExecuteGraphResponse(_message.Message):
    __slots__ = ("graph_id", "status", "outputs", "total_compute_time_ms", "error")
    class OutputsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: Tensor
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[Tensor, _Mapping]] = ...) -> None: ...
    GRAPH_ID_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COMPUTE_TIME_MS_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    graph_id: str
    status: _common_pb2.StatusCode
    outputs: _containers.MessageMap[str, Tensor]
    total_compute_time_ms: int
    error: _common_pb2.Error
    def __init__(self, graph_id: _Optional[str] = ..., status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., outputs: _Optional[_Mapping[str, Tensor]] = ..., total_compute_time_ms: _Optional[int] = ..., error: _Optional[_Union[_common_pb2.Error, _Mapping]] = ...) -> None: ...
