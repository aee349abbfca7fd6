from cyxwiz.protocol import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TransactionType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    UNKNOWN: _ClassVar[TransactionType]
    JOB_PAYMENT: _ClassVar[TransactionType]
    REWARD_CLAIM: _ClassVar[TransactionType]
    STAKE: _ClassVar[TransactionType]
    UNSTAKE: _ClassVar[TransactionType]
    REFUND: _ClassVar[TransactionType]

class TransactionStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PENDING: _ClassVar[TransactionStatus]
    CONFIRMED: _ClassVar[TransactionStatus]
    FAILED: _ClassVar[TransactionStatus]
UNKNOWN: TransactionType
JOB_PAYMENT: TransactionType
REWARD_CLAIM: TransactionType
STAKE: TransactionType
UNSTAKE: TransactionType
REFUND: TransactionType
PENDING: TransactionStatus
CONFIRMED: TransactionStatus
FAILED: TransactionStatus

class ConnectWalletRequest(_message.Message):
    __slots__ = ("wallet_address",)
    WALLET_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    wallet_address: str
    def __init__(self, wallet_address: _Optional[str] = ...) -> None: ...

class ConnectWalletResponse(_message.Message):
    __slots__ = ("status", "message", "is_valid", "wallet_address")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    IS_VALID_FIELD_NUMBER: _ClassVar[int]
    WALLET_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    message: str
    is_valid: bool
    wallet_address: str
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., message: _Optional[str] = ..., is_valid: _Optional[bool] = ..., wallet_address: _Optional[str] = ...) -> None: ...

class GetBalanceRequest(_message.Message):
    __slots__ = ("wallet_address",)
    WALLET_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    wallet_address: str
    def __init__(self, wallet_address: _Optional[str] = ...) -> None: ...

class GetBalanceResponse(_message.Message):
    __slots__ = ("status", "message", "sol_balance", "cyxwiz_balance", "token_mint")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    SOL_BALANCE_FIELD_NUMBER: _ClassVar[int]
    CYXWIZ_BALANCE_FIELD_NUMBER: _ClassVar[int]
    TOKEN_MINT_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    message: str
    sol_balance: float
    cyxwiz_balance: float
    token_mint: str
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., message: _Optional[str] = ..., sol_balance: _Optional[float] = ..., cyxwiz_balance: _Optional[float] = ..., token_mint: _Optional[str] = ...) -> None: ...

class Transaction(_message.Message):
    __slots__ = ("signature", "type", "status", "amount", "timestamp", "description", "job_id")
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    STATUS_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    TIMESTAMP_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    signature: str
    type: TransactionType
    status: TransactionStatus
    amount: float
    timestamp: int
    description: str
    job_id: int
    def __init__(self, signature: _Optional[str] = ..., type: _Optional[_Union[TransactionType, str]] = ..., status: _Optional[_Union[TransactionStatus, str]] = ..., amount: _Optional[float] = ..., timestamp: _Optional[int] = ..., description: _Optional[str] = ..., job_id: _Optional[int] = ...) -> None: ...

class GetTransactionHistoryRequest(_message.Message):
    __slots__ = ("wallet_address", "limit", "offset")
    WALLET_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    wallet_address: str
    limit: int
    offset: int
    def __init__(self, wallet_address: _Optional[str] = ..., limit: _Optional[int] = ..., offset: _Optional[int] = ...) -> None: ...

class GetTransactionHistoryResponse(_message.Message):
    __slots__ = ("status", "message", "transactions", "total_count")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    TRANSACTIONS_FIELD_NUMBER: _ClassVar[int]
    TOTAL_COUNT_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    message: str
    transactions: _containers.RepeatedCompositeFieldContainer[Transaction]
    total_count: int
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., message: _Optional[str] = ..., transactions: _Optional[_Iterable[_Union[Transaction, _Mapping]]] = ..., total_count: _Optional[int] = ...) -> None: ...

class EstimateJobCostRequest(_message.Message):
    __slots__ = ("model_type", "epochs", "dataset_size", "node_tier")
    MODEL_TYPE_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    DATASET_SIZE_FIELD_NUMBER: _ClassVar[int]
    NODE_TIER_FIELD_NUMBER: _ClassVar[int]
    model_type: str
    epochs: int
    dataset_size: int
    node_tier: str
    def __init__(self, model_type: _Optional[str] = ..., epochs: _Optional[int] = ..., dataset_size: _Optional[int] = ..., node_tier: _Optional[str] = ...) -> None: ...

class EstimateJobCostResponse(_message.Message):
    __slots__ = ("status", "message", "estimated_cost", "estimated_time_minutes", "breakdown")
    STATUS_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_COST_FIELD_NUMBER: _ClassVar[int]
    ESTIMATED_TIME_MINUTES_FIELD_NUMBER: _ClassVar[int]
    BREAKDOWN_FIELD_NUMBER: _ClassVar[int]
    status: _common_pb2.StatusCode
    message: str
    estimated_cost: float
    estimated_time_minutes: float
    breakdown: str
    def __init__(self, status: _Optional[_Union[_common_pb2.StatusCode, str]] = ..., message: _Optional[str] = ..., estimated_cost: _Optional[float] = ..., estimated_time_minutes: _Optional[float] = ..., breakdown: _Optional[str] = ...) -> None: ...
