from cyxwiz.protocol import common_pb2 as _common_pb2
from cyxwiz.protocol import node_pb2 as _node_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeMessage(_message.Message):
    __slots__ = ("hello", "proof", "beat", "report", "refusal", "farewell", "hardware", "rendezvous", "relay", "command", "links")
    HELLO_FIELD_NUMBER: _ClassVar[int]
    PROOF_FIELD_NUMBER: _ClassVar[int]
    BEAT_FIELD_NUMBER: _ClassVar[int]
    REPORT_FIELD_NUMBER: _ClassVar[int]
    REFUSAL_FIELD_NUMBER: _ClassVar[int]
    FAREWELL_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    RENDEZVOUS_FIELD_NUMBER: _ClassVar[int]
    RELAY_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    hello: Hello
    proof: Proof
    beat: Beat
    report: Report
    refusal: Refusal
    farewell: Farewell
    hardware: Hardware
    rendezvous: RendezvousAsk
    relay: Relay
    command: OwnerCommand
    links: LinksMeasured
    def __init__(self, hello: _Optional[_Union[Hello, _Mapping]] = ..., proof: _Optional[_Union[Proof, _Mapping]] = ..., beat: _Optional[_Union[Beat, _Mapping]] = ..., report: _Optional[_Union[Report, _Mapping]] = ..., refusal: _Optional[_Union[Refusal, _Mapping]] = ..., farewell: _Optional[_Union[Farewell, _Mapping]] = ..., hardware: _Optional[_Union[Hardware, _Mapping]] = ..., rendezvous: _Optional[_Union[RendezvousAsk, _Mapping]] = ..., relay: _Optional[_Union[Relay, _Mapping]] = ..., command: _Optional[_Union[OwnerCommand, _Mapping]] = ..., links: _Optional[_Union[LinksMeasured, _Mapping]] = ...) -> None: ...

class CentralMessage(_message.Message):
    __slots__ = ("challenge", "welcome", "assign", "cancel", "ack", "pulse", "preempt", "rendezvous", "relay", "answer")
    CHALLENGE_FIELD_NUMBER: _ClassVar[int]
    WELCOME_FIELD_NUMBER: _ClassVar[int]
    ASSIGN_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    ACK_FIELD_NUMBER: _ClassVar[int]
    PULSE_FIELD_NUMBER: _ClassVar[int]
    PREEMPT_FIELD_NUMBER: _ClassVar[int]
    RENDEZVOUS_FIELD_NUMBER: _ClassVar[int]
    RELAY_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    challenge: Challenge
    welcome: Welcome
    assign: Assign
    cancel: Cancel
    ack: Ack
    pulse: Pulse
    preempt: Preempt
    rendezvous: RendezvousAnswer
    relay: Relay
    answer: OwnerAnswer
    def __init__(self, challenge: _Optional[_Union[Challenge, _Mapping]] = ..., welcome: _Optional[_Union[Welcome, _Mapping]] = ..., assign: _Optional[_Union[Assign, _Mapping]] = ..., cancel: _Optional[_Union[Cancel, _Mapping]] = ..., ack: _Optional[_Union[Ack, _Mapping]] = ..., pulse: _Optional[_Union[Pulse, _Mapping]] = ..., preempt: _Optional[_Union[Preempt, _Mapping]] = ..., rendezvous: _Optional[_Union[RendezvousAnswer, _Mapping]] = ..., relay: _Optional[_Union[Relay, _Mapping]] = ..., answer: _Optional[_Union[OwnerAnswer, _Mapping]] = ...) -> None: ...

class Token(_message.Message):
    __slots__ = ("epoch", "counter")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    COUNTER_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    counter: int
    def __init__(self, epoch: _Optional[int] = ..., counter: _Optional[int] = ...) -> None: ...

class Held(_message.Message):
    __slots__ = ("job_id", "token", "last_seq", "ended")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LAST_SEQ_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    token: Token
    last_seq: int
    ended: bool
    def __init__(self, job_id: _Optional[str] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., last_seq: _Optional[int] = ..., ended: _Optional[bool] = ...) -> None: ...

class Hello(_message.Message):
    __slots__ = ("protocol_min", "protocol_max", "features", "node_id", "public_key", "boot_id", "join_token", "name", "version", "region", "hardware", "max_concurrent_jobs", "services", "advertise_host", "advertise_port", "held", "certificate_fingerprint", "closed_reason", "bench_score", "keep_results_seconds", "wallet_address", "pricing")
    PROTOCOL_MIN_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_MAX_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    PUBLIC_KEY_FIELD_NUMBER: _ClassVar[int]
    BOOT_ID_FIELD_NUMBER: _ClassVar[int]
    JOIN_TOKEN_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    HARDWARE_FIELD_NUMBER: _ClassVar[int]
    MAX_CONCURRENT_JOBS_FIELD_NUMBER: _ClassVar[int]
    SERVICES_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_HOST_FIELD_NUMBER: _ClassVar[int]
    ADVERTISE_PORT_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    CERTIFICATE_FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    CLOSED_REASON_FIELD_NUMBER: _ClassVar[int]
    BENCH_SCORE_FIELD_NUMBER: _ClassVar[int]
    KEEP_RESULTS_SECONDS_FIELD_NUMBER: _ClassVar[int]
    WALLET_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    PRICING_FIELD_NUMBER: _ClassVar[int]
    protocol_min: int
    protocol_max: int
    features: _containers.RepeatedScalarFieldContainer[str]
    node_id: str
    public_key: bytes
    boot_id: str
    join_token: str
    name: str
    version: str
    region: str
    hardware: Hardware
    max_concurrent_jobs: int
    services: _containers.RepeatedScalarFieldContainer[str]
    advertise_host: str
    advertise_port: int
    held: _containers.RepeatedCompositeFieldContainer[Held]
    certificate_fingerprint: str
    closed_reason: str
    bench_score: float
    keep_results_seconds: float
    wallet_address: str
    pricing: _node_pb2.NodePricing
    def __init__(self, protocol_min: _Optional[int] = ..., protocol_max: _Optional[int] = ..., features: _Optional[_Iterable[str]] = ..., node_id: _Optional[str] = ..., public_key: _Optional[bytes] = ..., boot_id: _Optional[str] = ..., join_token: _Optional[str] = ..., name: _Optional[str] = ..., version: _Optional[str] = ..., region: _Optional[str] = ..., hardware: _Optional[_Union[Hardware, _Mapping]] = ..., max_concurrent_jobs: _Optional[int] = ..., services: _Optional[_Iterable[str]] = ..., advertise_host: _Optional[str] = ..., advertise_port: _Optional[int] = ..., held: _Optional[_Iterable[_Union[Held, _Mapping]]] = ..., certificate_fingerprint: _Optional[str] = ..., closed_reason: _Optional[str] = ..., bench_score: _Optional[float] = ..., keep_results_seconds: _Optional[float] = ..., wallet_address: _Optional[str] = ..., pricing: _Optional[_Union[_node_pb2.NodePricing, _Mapping]] = ...) -> None: ...

class Hardware(_message.Message):
    __slots__ = ("cpu_model", "cpu_cores", "ram_total_bytes", "ram_available_bytes", "devices", "unknown")
    CPU_MODEL_FIELD_NUMBER: _ClassVar[int]
    CPU_CORES_FIELD_NUMBER: _ClassVar[int]
    RAM_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    RAM_AVAILABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    DEVICES_FIELD_NUMBER: _ClassVar[int]
    UNKNOWN_FIELD_NUMBER: _ClassVar[int]
    cpu_model: str
    cpu_cores: int
    ram_total_bytes: int
    ram_available_bytes: int
    devices: _containers.RepeatedCompositeFieldContainer[_common_pb2.DeviceCaps]
    unknown: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, cpu_model: _Optional[str] = ..., cpu_cores: _Optional[int] = ..., ram_total_bytes: _Optional[int] = ..., ram_available_bytes: _Optional[int] = ..., devices: _Optional[_Iterable[_Union[_common_pb2.DeviceCaps, _Mapping]]] = ..., unknown: _Optional[_Iterable[str]] = ...) -> None: ...

class Challenge(_message.Message):
    __slots__ = ("nonce",)
    NONCE_FIELD_NUMBER: _ClassVar[int]
    nonce: bytes
    def __init__(self, nonce: _Optional[bytes] = ...) -> None: ...

class Proof(_message.Message):
    __slots__ = ("signature",)
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    signature: bytes
    def __init__(self, signature: _Optional[bytes] = ...) -> None: ...

class Welcome(_message.Message):
    __slots__ = ("protocol", "node_id", "heartbeat_interval_ms", "lease_timeout_ms", "session_token", "p2p_secret", "acks")
    PROTOCOL_FIELD_NUMBER: _ClassVar[int]
    NODE_ID_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_INTERVAL_MS_FIELD_NUMBER: _ClassVar[int]
    LEASE_TIMEOUT_MS_FIELD_NUMBER: _ClassVar[int]
    SESSION_TOKEN_FIELD_NUMBER: _ClassVar[int]
    P2P_SECRET_FIELD_NUMBER: _ClassVar[int]
    ACKS_FIELD_NUMBER: _ClassVar[int]
    protocol: int
    node_id: str
    heartbeat_interval_ms: int
    lease_timeout_ms: int
    session_token: str
    p2p_secret: bytes
    acks: _containers.RepeatedCompositeFieldContainer[Ack]
    def __init__(self, protocol: _Optional[int] = ..., node_id: _Optional[str] = ..., heartbeat_interval_ms: _Optional[int] = ..., lease_timeout_ms: _Optional[int] = ..., session_token: _Optional[str] = ..., p2p_secret: _Optional[bytes] = ..., acks: _Optional[_Iterable[_Union[Ack, _Mapping]]] = ...) -> None: ...

class Assign(_message.Message):
    __slots__ = ("job_id", "token", "job_type", "model", "dataset_uri", "hyperparameters", "epochs", "batch_size", "seed", "device", "ram_bytes", "vram_bytes", "max_duration_seconds", "name", "resume", "checkpoint_every", "script", "weights", "requirements", "network", "gang", "chain_id", "check", "fixed", "owner_id", "reservation_id")
    class HyperparametersEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    JOB_TYPE_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    DATASET_URI_FIELD_NUMBER: _ClassVar[int]
    HYPERPARAMETERS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    RAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    VRAM_BYTES_FIELD_NUMBER: _ClassVar[int]
    MAX_DURATION_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    RESUME_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_EVERY_FIELD_NUMBER: _ClassVar[int]
    SCRIPT_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    REQUIREMENTS_FIELD_NUMBER: _ClassVar[int]
    NETWORK_FIELD_NUMBER: _ClassVar[int]
    GANG_FIELD_NUMBER: _ClassVar[int]
    CHAIN_ID_FIELD_NUMBER: _ClassVar[int]
    CHECK_FIELD_NUMBER: _ClassVar[int]
    FIXED_FIELD_NUMBER: _ClassVar[int]
    OWNER_ID_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    token: Token
    job_type: str
    model: str
    dataset_uri: str
    hyperparameters: _containers.ScalarMap[str, str]
    epochs: int
    batch_size: int
    seed: int
    device: str
    ram_bytes: int
    vram_bytes: int
    max_duration_seconds: float
    name: str
    resume: Checkpoint
    checkpoint_every: str
    script: Script
    weights: str
    requirements: str
    network: bool
    gang: Gang
    chain_id: str
    check: Check
    fixed: bool
    owner_id: str
    reservation_id: str
    def __init__(self, job_id: _Optional[str] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., job_type: _Optional[str] = ..., model: _Optional[str] = ..., dataset_uri: _Optional[str] = ..., hyperparameters: _Optional[_Mapping[str, str]] = ..., epochs: _Optional[int] = ..., batch_size: _Optional[int] = ..., seed: _Optional[int] = ..., device: _Optional[str] = ..., ram_bytes: _Optional[int] = ..., vram_bytes: _Optional[int] = ..., max_duration_seconds: _Optional[float] = ..., name: _Optional[str] = ..., resume: _Optional[_Union[Checkpoint, _Mapping]] = ..., checkpoint_every: _Optional[str] = ..., script: _Optional[_Union[Script, _Mapping]] = ..., weights: _Optional[str] = ..., requirements: _Optional[str] = ..., network: _Optional[bool] = ..., gang: _Optional[_Union[Gang, _Mapping]] = ..., chain_id: _Optional[str] = ..., check: _Optional[_Union[Check, _Mapping]] = ..., fixed: _Optional[bool] = ..., owner_id: _Optional[str] = ..., reservation_id: _Optional[str] = ...) -> None: ...

class Gang(_message.Message):
    __slots__ = ("rank", "world", "strategy")
    RANK_FIELD_NUMBER: _ClassVar[int]
    WORLD_FIELD_NUMBER: _ClassVar[int]
    STRATEGY_FIELD_NUMBER: _ClassVar[int]
    rank: int
    world: int
    strategy: str
    def __init__(self, rank: _Optional[int] = ..., world: _Optional[int] = ..., strategy: _Optional[str] = ...) -> None: ...

class Check(_message.Message):
    __slots__ = ("stop_step", "threads", "claim", "result", "result_weights", "start")
    STOP_STEP_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    CLAIM_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    RESULT_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    START_FIELD_NUMBER: _ClassVar[int]
    stop_step: int
    threads: int
    claim: str
    result: str
    result_weights: str
    start: str
    def __init__(self, stop_step: _Optional[int] = ..., threads: _Optional[int] = ..., claim: _Optional[str] = ..., result: _Optional[str] = ..., result_weights: _Optional[str] = ..., start: _Optional[str] = ...) -> None: ...

class RendezvousAsk(_message.Message):
    __slots__ = ("job_id", "token", "id", "kind", "key", "value")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SET: _ClassVar[RendezvousAsk.Kind]
        GET: _ClassVar[RendezvousAsk.Kind]
        ADD: _ClassVar[RendezvousAsk.Kind]
    SET: RendezvousAsk.Kind
    GET: RendezvousAsk.Kind
    ADD: RendezvousAsk.Kind
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    token: Token
    id: int
    kind: RendezvousAsk.Kind
    key: str
    value: bytes
    def __init__(self, job_id: _Optional[str] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., id: _Optional[int] = ..., kind: _Optional[_Union[RendezvousAsk.Kind, str]] = ..., key: _Optional[str] = ..., value: _Optional[bytes] = ...) -> None: ...

class LinksMeasured(_message.Message):
    __slots__ = ("job_id", "token", "links")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    LINKS_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    token: Token
    links: _containers.RepeatedCompositeFieldContainer[PeerLink]
    def __init__(self, job_id: _Optional[str] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., links: _Optional[_Iterable[_Union[PeerLink, _Mapping]]] = ...) -> None: ...

class PeerLink(_message.Message):
    __slots__ = ("rank", "round_trip_seconds", "bytes_per_second")
    RANK_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    rank: int
    round_trip_seconds: float
    bytes_per_second: float
    def __init__(self, rank: _Optional[int] = ..., round_trip_seconds: _Optional[float] = ..., bytes_per_second: _Optional[float] = ...) -> None: ...

class RendezvousAnswer(_message.Message):
    __slots__ = ("job_id", "token", "id", "value")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    token: Token
    id: int
    value: bytes
    def __init__(self, job_id: _Optional[str] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., id: _Optional[int] = ..., value: _Optional[bytes] = ...) -> None: ...

class Script(_message.Message):
    __slots__ = ("entry", "files", "args")
    class FilesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ENTRY_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    entry: str
    files: _containers.ScalarMap[str, str]
    args: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, entry: _Optional[str] = ..., files: _Optional[_Mapping[str, str]] = ..., args: _Optional[_Iterable[str]] = ...) -> None: ...

class Cancel(_message.Message):
    __slots__ = ("job_id", "token", "reason", "message")
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        CANCELLED: _ClassVar[Cancel.Reason]
        STALE: _ClassVar[Cancel.Reason]
        DRAINED: _ClassVar[Cancel.Reason]
    CANCELLED: Cancel.Reason
    STALE: Cancel.Reason
    DRAINED: Cancel.Reason
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    token: Token
    reason: Cancel.Reason
    message: str
    def __init__(self, job_id: _Optional[str] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., reason: _Optional[_Union[Cancel.Reason, str]] = ..., message: _Optional[str] = ...) -> None: ...

class Preempt(_message.Message):
    __slots__ = ("job_id", "token", "message")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    token: Token
    message: str
    def __init__(self, job_id: _Optional[str] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., message: _Optional[str] = ...) -> None: ...

class Ack(_message.Message):
    __slots__ = ("job_id", "token", "seq")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    token: Token
    seq: int
    def __init__(self, job_id: _Optional[str] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., seq: _Optional[int] = ...) -> None: ...

class Pulse(_message.Message):
    __slots__ = ("at_ms",)
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    at_ms: int
    def __init__(self, at_ms: _Optional[int] = ...) -> None: ...

class Beat(_message.Message):
    __slots__ = ("at_ms", "cpu_usage", "memory_usage", "gpu_usage", "gpu_memory_usage", "network_rx_bytes_per_second", "network_tx_bytes_per_second", "power_watts", "active_jobs", "ram_available_bytes", "closed_reason", "round_trip_seconds", "network_bytes_per_second", "data_keys", "gpus")
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    CPU_USAGE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_USAGE_FIELD_NUMBER: _ClassVar[int]
    GPU_USAGE_FIELD_NUMBER: _ClassVar[int]
    GPU_MEMORY_USAGE_FIELD_NUMBER: _ClassVar[int]
    NETWORK_RX_BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    NETWORK_TX_BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    POWER_WATTS_FIELD_NUMBER: _ClassVar[int]
    ACTIVE_JOBS_FIELD_NUMBER: _ClassVar[int]
    RAM_AVAILABLE_BYTES_FIELD_NUMBER: _ClassVar[int]
    CLOSED_REASON_FIELD_NUMBER: _ClassVar[int]
    ROUND_TRIP_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NETWORK_BYTES_PER_SECOND_FIELD_NUMBER: _ClassVar[int]
    DATA_KEYS_FIELD_NUMBER: _ClassVar[int]
    GPUS_FIELD_NUMBER: _ClassVar[int]
    at_ms: int
    cpu_usage: float
    memory_usage: float
    gpu_usage: float
    gpu_memory_usage: float
    network_rx_bytes_per_second: float
    network_tx_bytes_per_second: float
    power_watts: float
    active_jobs: int
    ram_available_bytes: int
    closed_reason: str
    round_trip_seconds: float
    network_bytes_per_second: float
    data_keys: _containers.RepeatedScalarFieldContainer[str]
    gpus: _containers.RepeatedCompositeFieldContainer[GpuBeat]
    def __init__(self, at_ms: _Optional[int] = ..., cpu_usage: _Optional[float] = ..., memory_usage: _Optional[float] = ..., gpu_usage: _Optional[float] = ..., gpu_memory_usage: _Optional[float] = ..., network_rx_bytes_per_second: _Optional[float] = ..., network_tx_bytes_per_second: _Optional[float] = ..., power_watts: _Optional[float] = ..., active_jobs: _Optional[int] = ..., ram_available_bytes: _Optional[int] = ..., closed_reason: _Optional[str] = ..., round_trip_seconds: _Optional[float] = ..., network_bytes_per_second: _Optional[float] = ..., data_keys: _Optional[_Iterable[str]] = ..., gpus: _Optional[_Iterable[_Union[GpuBeat, _Mapping]]] = ...) -> None: ...

class GpuBeat(_message.Message):
    __slots__ = ("name", "usage", "memory_total_bytes", "memory_free_bytes", "temperature_c", "power_watts")
    NAME_FIELD_NUMBER: _ClassVar[int]
    USAGE_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_C_FIELD_NUMBER: _ClassVar[int]
    POWER_WATTS_FIELD_NUMBER: _ClassVar[int]
    name: str
    usage: float
    memory_total_bytes: int
    memory_free_bytes: int
    temperature_c: float
    power_watts: float
    def __init__(self, name: _Optional[str] = ..., usage: _Optional[float] = ..., memory_total_bytes: _Optional[int] = ..., memory_free_bytes: _Optional[int] = ..., temperature_c: _Optional[float] = ..., power_watts: _Optional[float] = ...) -> None: ...

class Refusal(_message.Message):
    __slots__ = ("job_id", "token", "message")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    token: Token
    message: str
    def __init__(self, job_id: _Optional[str] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., message: _Optional[str] = ...) -> None: ...

class Farewell(_message.Message):
    __slots__ = ("message",)
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    message: str
    def __init__(self, message: _Optional[str] = ...) -> None: ...

class Report(_message.Message):
    __slots__ = ("job_id", "token", "seq", "at_ms", "started", "first_step", "progress", "logs", "finished", "failed", "cancelled", "uploading", "checkpoint", "preempted", "link")
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    STARTED_FIELD_NUMBER: _ClassVar[int]
    FIRST_STEP_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    FAILED_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    UPLOADING_FIELD_NUMBER: _ClassVar[int]
    CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    PREEMPTED_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    job_id: str
    token: Token
    seq: int
    at_ms: int
    started: Started
    first_step: FirstStep
    progress: Progress
    logs: Logs
    finished: Finished
    failed: Failed
    cancelled: Ended
    uploading: Uploading
    checkpoint: Checkpoint
    preempted: Preempted
    link: Link
    def __init__(self, job_id: _Optional[str] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., seq: _Optional[int] = ..., at_ms: _Optional[int] = ..., started: _Optional[_Union[Started, _Mapping]] = ..., first_step: _Optional[_Union[FirstStep, _Mapping]] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ..., logs: _Optional[_Union[Logs, _Mapping]] = ..., finished: _Optional[_Union[Finished, _Mapping]] = ..., failed: _Optional[_Union[Failed, _Mapping]] = ..., cancelled: _Optional[_Union[Ended, _Mapping]] = ..., uploading: _Optional[_Union[Uploading, _Mapping]] = ..., checkpoint: _Optional[_Union[Checkpoint, _Mapping]] = ..., preempted: _Optional[_Union[Preempted, _Mapping]] = ..., link: _Optional[_Union[Link, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FirstStep(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Uploading(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Ended(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Progress(_message.Message):
    __slots__ = ("epoch", "epochs", "batch", "batches", "progress", "metrics", "elapsed_seconds", "remaining_seconds", "epoch_ended")
    class MetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    BATCHES_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    METRICS_FIELD_NUMBER: _ClassVar[int]
    ELAPSED_SECONDS_FIELD_NUMBER: _ClassVar[int]
    REMAINING_SECONDS_FIELD_NUMBER: _ClassVar[int]
    EPOCH_ENDED_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    epochs: int
    batch: int
    batches: int
    progress: float
    metrics: _containers.ScalarMap[str, float]
    elapsed_seconds: float
    remaining_seconds: float
    epoch_ended: bool
    def __init__(self, epoch: _Optional[int] = ..., epochs: _Optional[int] = ..., batch: _Optional[int] = ..., batches: _Optional[int] = ..., progress: _Optional[float] = ..., metrics: _Optional[_Mapping[str, float]] = ..., elapsed_seconds: _Optional[float] = ..., remaining_seconds: _Optional[float] = ..., epoch_ended: _Optional[bool] = ...) -> None: ...

class Logs(_message.Message):
    __slots__ = ("lines",)
    LINES_FIELD_NUMBER: _ClassVar[int]
    lines: _containers.RepeatedCompositeFieldContainer[LogLine]
    def __init__(self, lines: _Optional[_Iterable[_Union[LogLine, _Mapping]]] = ...) -> None: ...

class LogLine(_message.Message):
    __slots__ = ("at_ms", "level", "source", "message")
    AT_MS_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    at_ms: int
    level: str
    source: str
    message: str
    def __init__(self, at_ms: _Optional[int] = ..., level: _Optional[str] = ..., source: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class Link(_message.Message):
    __slots__ = ("kind", "step", "loss", "weights", "link", "data", "environment", "signature")
    KIND_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    LOSS_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    kind: int
    step: int
    loss: float
    weights: str
    link: str
    data: str
    environment: str
    signature: bytes
    def __init__(self, kind: _Optional[int] = ..., step: _Optional[int] = ..., loss: _Optional[float] = ..., weights: _Optional[str] = ..., link: _Optional[str] = ..., data: _Optional[str] = ..., environment: _Optional[str] = ..., signature: _Optional[bytes] = ...) -> None: ...

class Checkpoint(_message.Message):
    __slots__ = ("sha256", "size", "epoch", "batch", "step", "progress", "threads", "link")
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    BATCH_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    LINK_FIELD_NUMBER: _ClassVar[int]
    sha256: str
    size: int
    epoch: int
    batch: int
    step: int
    progress: float
    threads: int
    link: str
    def __init__(self, sha256: _Optional[str] = ..., size: _Optional[int] = ..., epoch: _Optional[int] = ..., batch: _Optional[int] = ..., step: _Optional[int] = ..., progress: _Optional[float] = ..., threads: _Optional[int] = ..., link: _Optional[str] = ...) -> None: ...

class Preempted(_message.Message):
    __slots__ = ("reason", "compute_seconds")
    REASON_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    reason: str
    compute_seconds: float
    def __init__(self, reason: _Optional[str] = ..., compute_seconds: _Optional[float] = ...) -> None: ...

class Finished(_message.Message):
    __slots__ = ("artefacts", "final_metrics", "epochs_completed", "compute_seconds", "energy_joules", "statement", "signature", "environment")
    class FinalMetricsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    ARTEFACTS_FIELD_NUMBER: _ClassVar[int]
    FINAL_METRICS_FIELD_NUMBER: _ClassVar[int]
    EPOCHS_COMPLETED_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    ENERGY_JOULES_FIELD_NUMBER: _ClassVar[int]
    STATEMENT_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    ENVIRONMENT_FIELD_NUMBER: _ClassVar[int]
    artefacts: _containers.RepeatedCompositeFieldContainer[Artefact]
    final_metrics: _containers.ScalarMap[str, float]
    epochs_completed: int
    compute_seconds: float
    energy_joules: float
    statement: bytes
    signature: bytes
    environment: str
    def __init__(self, artefacts: _Optional[_Iterable[_Union[Artefact, _Mapping]]] = ..., final_metrics: _Optional[_Mapping[str, float]] = ..., epochs_completed: _Optional[int] = ..., compute_seconds: _Optional[float] = ..., energy_joules: _Optional[float] = ..., statement: _Optional[bytes] = ..., signature: _Optional[bytes] = ..., environment: _Optional[str] = ...) -> None: ...

class Artefact(_message.Message):
    __slots__ = ("name", "sha256", "size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    sha256: str
    size: int
    def __init__(self, name: _Optional[str] = ..., sha256: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class Failed(_message.Message):
    __slots__ = ("code", "message", "retryable", "compute_seconds", "by_script")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_SECONDS_FIELD_NUMBER: _ClassVar[int]
    BY_SCRIPT_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    retryable: bool
    compute_seconds: float
    by_script: bool
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., retryable: _Optional[bool] = ..., compute_seconds: _Optional[float] = ..., by_script: _Optional[bool] = ...) -> None: ...

class Relay(_message.Message):
    __slots__ = ("call", "open", "part", "grant", "half_close", "end")
    CALL_FIELD_NUMBER: _ClassVar[int]
    OPEN_FIELD_NUMBER: _ClassVar[int]
    PART_FIELD_NUMBER: _ClassVar[int]
    GRANT_FIELD_NUMBER: _ClassVar[int]
    HALF_CLOSE_FIELD_NUMBER: _ClassVar[int]
    END_FIELD_NUMBER: _ClassVar[int]
    call: int
    open: RelayOpen
    part: RelayPart
    grant: int
    half_close: bool
    end: RelayEnd
    def __init__(self, call: _Optional[int] = ..., open: _Optional[_Union[RelayOpen, _Mapping]] = ..., part: _Optional[_Union[RelayPart, _Mapping]] = ..., grant: _Optional[int] = ..., half_close: _Optional[bool] = ..., end: _Optional[_Union[RelayEnd, _Mapping]] = ...) -> None: ...

class RelayOpen(_message.Message):
    __slots__ = ("method", "authorization", "job_id")
    METHOD_FIELD_NUMBER: _ClassVar[int]
    AUTHORIZATION_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    method: str
    authorization: str
    job_id: str
    def __init__(self, method: _Optional[str] = ..., authorization: _Optional[str] = ..., job_id: _Optional[str] = ...) -> None: ...

class RelayPart(_message.Message):
    __slots__ = ("data", "more")
    DATA_FIELD_NUMBER: _ClassVar[int]
    MORE_FIELD_NUMBER: _ClassVar[int]
    data: bytes
    more: bool
    def __init__(self, data: _Optional[bytes] = ..., more: _Optional[bool] = ...) -> None: ...

class RelayEnd(_message.Message):
    __slots__ = ("code", "message", "retryable")
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    RETRYABLE_FIELD_NUMBER: _ClassVar[int]
    code: str
    message: str
    retryable: bool
    def __init__(self, code: _Optional[str] = ..., message: _Optional[str] = ..., retryable: _Optional[bool] = ...) -> None: ...

class OwnerCommand(_message.Message):
    __slots__ = ("number", "job_id", "token", "action", "reason", "keep_checkpoint", "reservation_id", "config")
    class Action(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PAUSE: _ClassVar[OwnerCommand.Action]
        RESUME: _ClassVar[OwnerCommand.Action]
        CANCEL: _ClassVar[OwnerCommand.Action]
        START: _ClassVar[OwnerCommand.Action]
        END_RESERVATION: _ClassVar[OwnerCommand.Action]
    PAUSE: OwnerCommand.Action
    RESUME: OwnerCommand.Action
    CANCEL: OwnerCommand.Action
    START: OwnerCommand.Action
    END_RESERVATION: OwnerCommand.Action
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    TOKEN_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    KEEP_CHECKPOINT_FIELD_NUMBER: _ClassVar[int]
    RESERVATION_ID_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    number: int
    job_id: str
    token: Token
    action: OwnerCommand.Action
    reason: str
    keep_checkpoint: bool
    reservation_id: str
    config: bytes
    def __init__(self, number: _Optional[int] = ..., job_id: _Optional[str] = ..., token: _Optional[_Union[Token, _Mapping]] = ..., action: _Optional[_Union[OwnerCommand.Action, str]] = ..., reason: _Optional[str] = ..., keep_checkpoint: _Optional[bool] = ..., reservation_id: _Optional[str] = ..., config: _Optional[bytes] = ...) -> None: ...

class OwnerAnswer(_message.Message):
    __slots__ = ("number", "code", "message", "job_id")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    JOB_ID_FIELD_NUMBER: _ClassVar[int]
    number: int
    code: str
    message: str
    job_id: str
    def __init__(self, number: _Optional[int] = ..., code: _Optional[str] = ..., message: _Optional[str] = ..., job_id: _Optional[str] = ...) -> None: ...
