"""Every setting, with its default, bounds and meaning: `config.toml` is generated from here."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator
from pydantic.fields import FieldInfo

from cyxwiz.config.node_sections import NodePricingSection, OperationsSection
from cyxwiz.config.section import Section
from cyxwiz.config.values import (
    Address,
    Amount,
    ScheduleText,
    Secret,
    Strings,
    Url,
    Weight,
    blobs_url_checked,
    database_url_checked,
    devices_checked,
    keep_checked,
    seconds,
    wallet_checked,
)


class Server(Section):
    grpc_address: Address = Field(
        default="127.0.0.1:50051", description="Where central's gRPC listens; port 0 takes a free one."
    )
    rest_address: Address = Field(
        default="127.0.0.1:8080", description="Where central's REST, WebSocket and page listen."
    )
    node_grpc_address: Address | None = Field(
        default=None, description="A second gRPC address for nodes alone, where client certificates can be demanded."
    )
    public_url: Url | None = Field(default=None, description="How people reach the REST address; derived when unset.")
    max_connections: int = Field(default=10000, ge=1, le=10**6, description="Open connections at most.")
    stop_grace_seconds: float = Field(
        default=20.0, ge=0, le=3600, description="How long a stop waits for work in flight."
    )
    max_request_bytes: int = Field(
        default=16 << 20, ge=1024, le=1 << 30, description="Largest JSON body or gRPC message."
    )
    max_upload_bytes: int = Field(default=10 << 30, ge=1024, le=1 << 60, description="Largest blob.")
    max_streams_per_principal: int = Field(
        default=200, ge=1, le=10**6, description="Open watches and streams of one caller."
    )


class Tls(Section):
    cert_file: Path | None = Field(default=None, description="Certificate chain (PEM) of every door.")
    key_file: Path | None = Field(default=None, description="Its private key (PEM).")
    ca_file: Path | None = Field(
        default=None, description="Certificate authority for clients' certificates, and for dialling out."
    )
    require_client_cert: bool = Field(default=False, description="Demand a client certificate signed by ca_file.")
    allow_plaintext: bool = Field(default=False, description="Allow addresses beyond loopback without TLS.")

    @model_validator(mode="after")
    def _pair(self) -> Tls:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together: set both or none")
        return self


class Auth(Section):
    mode: Literal["required", "open"] = Field(
        default="required",
        description="open: no credentials asked, loopback addresses only, everybody has the role user.",
    )
    jwt_secret: Secret | None = Field(
        default=None, description="Signs user tokens; generated and kept in the store when unset."
    )
    jwt_secret_file: Path | None = Field(default=None, description="File that holds it instead.")
    p2p_secret: Secret | None = Field(
        default=None, description="Root of the secrets between clients and nodes; as jwt_secret."
    )
    p2p_secret_file: Path | None = Field(default=None, description="File that holds it instead.")
    admin_secret: Secret | None = Field(
        default=None, description="Reserved: nothing is signed with it yet; as jwt_secret."
    )
    admin_secret_file: Path | None = Field(default=None, description="File that holds it instead.")
    access_token_seconds: int = Field(default=3600, ge=1, le=86400 * 30, description="Life of an access token.")
    refresh_token_seconds: int = Field(
        default=86400 * 30, ge=1, le=86400 * 3660, description="Life of a refresh token."
    )
    p2p_token_seconds: int = Field(default=3600, ge=1, le=86400, description="Life of a client-to-node token.")
    allow_signup: bool = Field(default=False, description="Whether strangers may create a user of the role user.")
    argon2_memory_kib: int = Field(default=65536, ge=8, le=1 << 24, description="Memory cost of a password hash.")
    argon2_time_cost: int = Field(default=3, ge=1, le=1000, description="Passes of a password hash.")


class Database(Section):
    url: Annotated[str, AfterValidator(database_url_checked)] = Field(
        default="", description="Empty: SQLite in the data directory. sqlite://… or postgresql://…."
    )
    max_connections: int = Field(default=20, ge=1, le=1000, description="PostgreSQL pool, at most.")
    min_connections: int = Field(default=5, ge=0, le=1000, description="PostgreSQL pool, kept open.")
    event_retention_hours: float = Field(
        default=168.0, gt=0, le=24 * 3660, description="How long events can be replayed."
    )

    @model_validator(mode="after")
    def _pool(self) -> Database:
        if self.min_connections > self.max_connections:
            raise ValueError(
                f"min_connections = {self.min_connections} is above max_connections = {self.max_connections}"
            )
        return self


class Blobs(Section):
    url: Annotated[str, AfterValidator(blobs_url_checked)] = Field(
        default="", description="Empty: the data directory's blobs folder. file:///path."
    )
    max_user_bytes: int = Field(
        default=50 << 30,
        ge=0,
        le=1 << 60,
        description="What one user may keep here, uploads and results; with as much nothing more is uploaded or "
        "submitted. 0: no limit.",
    )


class Scheduler(Section):
    job_poll_interval_ms: int = Field(
        default=1000, ge=10, le=3600_000, description="Safety net: a pass without an event."
    )
    node_heartbeat_timeout_ms: int = Field(
        default=30000, ge=500, le=3600_000, description="Silence after which a node is offline and its leases expire."
    )
    max_retries: int = Field(default=3, ge=0, le=100, description="Failures charged to a job before it fails.")
    max_node_losses: int = Field(
        default=10, ge=0, le=1000, description="Nodes that may vanish under a job before it fails."
    )
    retry_backoff_ms: int = Field(
        default=1000, ge=0, le=3600_000, description="First wait before a retry; doubles each time."
    )
    retry_backoff_max_ms: int = Field(default=60000, ge=0, le=86400_000, description="Longest wait before a retry.")
    weight_reputation: Weight = Field(default=0.4, description="Weight of the node's reputation in its score.")
    weight_availability: Weight = Field(default=0.3, description="Weight of 1 - load.")
    weight_capability: Weight = Field(default=0.2, description="Weight of how well the hardware fits.")
    weight_uptime: Weight = Field(default=0.1, description="Weight of the node's uptime.")
    weight_region: Weight = Field(default=0.0, description="Weight of a preferred region; off by default.")
    weight_data: Weight = Field(default=0.1, description="Weight of holding the job's data already.")
    weight_latency: Weight = Field(
        default=0.0,
        description="Weight of a short round trip between node and central, over which a client's words go too.",
    )
    gang_reserve_seconds: float = Field(
        default=30.0, ge=0, le=86400, description="Wait after which nodes are kept free for a job of several nodes."
    )
    gang_replace_seconds: float = Field(
        default=10.0, ge=0, le=86400, description="Wait for another node when such a job lost one; then it shrinks."
    )
    preemption: Literal["off", "own", "priority"] = Field(
        default="own",
        description="Which running jobs give way to one of higher priority that finds no node: none, those of the same "
        "owner, or anybody's. They save a checkpoint, wait again and go on from it.",
    )
    preempt_after_seconds: float = Field(
        default=30.0, ge=0, le=86400, description="Wait of such a job after which others give way to it."
    )
    preempt_least_seconds: float = Field(
        default=60.0, ge=0, le=86400, description="A job that has run for less does not give way."
    )
    preempt_most: int = Field(default=3, ge=0, le=1000, description="How often one job gives way at most.")
    push_private: bool | None = Field(
        default=None,
        description="Push jobs to nodes on private addresses; unset: only where central itself is on loopback.",
    )
    max_pending_per_user: int = Field(
        default=10000, ge=1, le=10000, description="Jobs of one user that may wait at a time."
    )

    @model_validator(mode="after")
    def _some_weight(self) -> Scheduler:
        if not any(getattr(self, name) for name in type(self).model_fields if name.startswith("weight_")):
            raise ValueError("at least one weight_… must be above 0")
        return self


class Redis(Section):
    url: str | None = Field(
        default=None, description="Reserved: hints between several centrals go by polling the database for now."
    )


class Blockchain(Section):
    """The chain of `ledger.backend = "solana"`; a local network makes its own keys, programs and mint."""

    network: Literal["localnet", "devnet", "testnet", "mainnet-beta"] = Field(
        default="devnet", description="Which Solana cluster."
    )
    solana_rpc_url: str = Field(default="https://api.devnet.solana.com", description="Its JSON-RPC.")
    payer_keypair_path: Path = Field(default=Path("~/.config/solana/id.json"), description="The platform's keypair.")
    program_id: str | None = Field(default=None, description="The escrow program; unset: the local network's.")
    token_mint: str | None = Field(default=None, description="The CYXWIZ mint; unset: the local network's.")
    arbiter: str | None = Field(
        default=None, description="Address of who decides disputes; unset: the platform itself."
    )
    staking_program_id: str | None = Field(
        default=None, description="The staking program; unset: the local network's id."
    )
    judge_keypair_path: Path | None = Field(
        default=None, description="Keypair of who judges appeals against slashes; unset: they are judged elsewhere."
    )
    minimum_stake: Amount = Field(
        default="0", description="CYXWIZ that a node has staked to get jobs of others, with every ledger; 0: none."
    )
    platform_fee_percent: int = Field(
        default=10, ge=0, le=50, description="The platform's share of what is paid out, with every ledger."
    )
    price_usd: float | None = Field(
        default=None, ge=0, le=10**9, description="What one CYXWIZ is worth, shown to admins; unset: not known."
    )


class PricingSection(Section):
    base_rate: int = Field(default=10000, ge=0, le=10**15, description="Units (1e-9 CYXWIZ) a second.")
    gpu_multiplier: float = Field(default=10.0, ge=0, le=10**6, description="Factor for a job on a GPU.")
    ram_factor_per_gb: float = Field(default=0.01, ge=0, le=1000, description="Added share for each GiB of RAM.")


class Ledger(Section):
    backend: Literal["auto", "none", "credits", "localnet", "solana"] = Field(
        default="auto",
        description="Who holds the money. none: prices are shown, nothing is charged. credits: central's own books. "
        "localnet: real programs on a chain within this process. solana: a cluster, see blockchain. auto: the one that "
        "the database's money is in; for a new one localnet with `--role both`, else credits.",
    )
    welcome: Amount = Field(
        default="1000",
        description="CYXWIZ that a user starts with where the platform makes them (credits, localnet); 0: users are "
        "granted theirs by an admin.",
    )
    stream_interval_seconds: int = Field(
        default=60, ge=1, le=86400, description="How often a running job's accepted progress is paid for."
    )
    reconcile_seconds: int = Field(
        default=300, ge=1, le=86400, description="How often the payments are compared with what the ledger holds."
    )
    slash_share: float = Field(
        default=0.5, ge=0, le=1, description="Share of its stake that a node loses for a wrong result; 0: nothing."
    )
    stake_cooldown_seconds: int = Field(
        default=7 * 86400, ge=1, le=90 * 86400, description="credits: from the request to the withdrawal of a stake."
    )
    stake_appeal_seconds: int = Field(
        default=2 * 86400,
        ge=1,
        le=30 * 86400,
        description="credits: how long a slash can be appealed against, and the appeal be judged.",
    )
    stake_reward_bps: int = Field(
        default=500,
        ge=0,
        le=10_000,
        description="credits: rewards of a stake a year, in basis points of it; paid as far as the vault has them.",
    )
    open_days: int = Field(
        default=30, ge=1, le=365, description="After so many days a client takes back by itself what was not paid out."
    )


class NodeSection(Section):
    central: Address = Field(default="127.0.0.1:50051", description="Central's gRPC address.")
    join_token: str | None = Field(
        default=None, description="From `cyxwiz node token create`; needed the first time only."
    )
    join_token_file: Path | None = Field(default=None, description="File that holds it instead.")
    name: str = Field(default="", max_length=100, description="Empty: the host's name.")
    region: str = Field(default="", max_length=64, description="Where the node stands, such as eu-west.")
    wallet_address: Annotated[str, AfterValidator(wallet_checked)] | None = Field(
        default=None, description="Where the node is paid, an address in base58; unset: its owner's account at central."
    )
    heartbeat_interval_ms: int = Field(
        default=10_000,
        ge=50,
        le=600_000,
        description="Between two heartbeats; central hands out a third of its time-out, and the smaller one holds.",
    )
    address: Address = Field(
        default="127.0.0.1:50052",
        description="The node's own door: JobExecutionService. In use and not stated: any free port is taken.",
    )
    terminal_address: Address = Field(
        default="127.0.0.1:50053", description="The same door, for who looks for terminals here."
    )
    service_address: Address = Field(
        default="127.0.0.1:50054", description="The same door, for who looks for the node's services here."
    )
    deployment_address: Address = Field(
        default="127.0.0.1:50055", description="The same door, for who looks for deployments here."
    )
    http_address: Address = Field(
        default="127.0.0.1:8082", description="Inference over HTTP. Reserved: nothing listens there yet."
    )
    max_deployments: int = Field(default=5, ge=0, le=1000, description="Reserved: deployments are not built yet.")
    schedule: ScheduleText = Field(
        default="always",
        description="When the node works, in local time: always, or spans such as Mon-Fri 19:00-07:00, Sat-Sun idle.",
    )
    max_temperature_c: float | None = Field(
        default=None,
        ge=30,
        le=150,
        description="Hotter than this, processor or GPU, the node takes no jobs until it has cooled by 5.",
    )
    detect_interval_seconds: float = Field(
        default=60.0, ge=1, le=86400, description="How often the node looks whether its hardware changed."
    )
    max_concurrent_jobs: int | None = Field(default=None, ge=1, le=1024, description="Unset: from the hardware.")
    devices: Annotated[Strings, AfterValidator(devices_checked)] = Field(
        default=("all",), description="Which devices to lend: all, cpu, cuda, cuda:0, opencl:0, …"
    )
    data_roots: Strings = Field(default=(), description="Folders below which file:// data sets may lie.")
    data_cache_bytes: int = Field(
        default=50 << 30, ge=0, description="What fetched data may take on the node's disk; the least used goes first."
    )
    max_dataset_bytes: int = Field(default=4 << 30, ge=1024, description="Largest data set that the node fetches.")
    allow_private_data_hosts: bool = Field(
        default=False, description="Whether jobs may name https:// hosts on loopback or private addresses."
    )
    allow_http_data: bool = Field(default=False, description="Whether jobs may name http:// data without TLS.")
    s3_endpoint: Url | None = Field(default=None, description="S3 service of s3:// data; unset: Amazon's.")
    s3_region: str = Field(default="us-east-1", min_length=1, max_length=64, description="Its region.")
    s3_access_key: str | None = Field(default=None, description="Key id for it; unset: requests are not signed.")
    s3_secret_key: str | None = Field(default=None, description="Its secret.")
    s3_secret_key_file: Path | None = Field(default=None, description="File that holds it instead.")
    s3_buckets: Strings = Field(
        default=(), description="Buckets that any job may read with the keys; * is every bucket they can read."
    )
    hf_endpoint: Url | None = Field(default=None, description="Hub of hf:// data; unset: HF_ENDPOINT, else the hub.")
    hf_root: Path | None = Field(default=None, description="Folder with OWNER/NAME that hf:// is looked up in first.")
    ipfs_gateway: Url | None = Field(default=None, description="HTTP gateway of ipfs:// data; unset: none is served.")
    keep_results: Annotated[str, Field(pattern=r"^[0-9]+(s|m|h|d)$"), AfterValidator(keep_checked)] = Field(
        default="24h", description="How long the node keeps a job's artefacts."
    )
    warm_children: int = Field(default=1, ge=0, le=64, description="Child processes started ahead of need.")
    advertise_address: Address | None = Field(default=None, description="host:port under which others reach the node.")
    sandbox: Literal["auto", "bubblewrap", "rlimits", "none"] = Field(
        default="auto",
        description="What holds a job: auto takes the strongest that works here, `cyxwiz node doctor` says what that "
        "is; none holds nothing and needs `run --allow-unsafe`.",
    )
    scripts: Literal["auto", "on", "off"] = Field(
        default="auto", description="Whether to run the code of others: auto does in the sandbox bubblewrap alone."
    )
    network: Literal["on", "off"] = Field(
        default="off", description="Whether scripts that ask get the network, which is all that this machine can reach."
    )
    requirements: Literal["auto", "on", "off"] = Field(
        default="auto", description="Whether to install the packages of scripts: auto in the sandbox bubblewrap alone."
    )
    package_index: Annotated[str, Field(pattern=r"^(https?://|file:///)[^\s]+$")] = Field(
        default="https://pypi.org/simple", description="Where from: an index, or file:/// and a folder of wheels."
    )
    package_cache_bytes: int = Field(
        default=10 << 30, ge=1 << 20, description="What installed packages may take; the least used go first."
    )
    gangs: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="Whether to be one of several nodes of a job; auto does where central is on loopback.",
    )
    gang_address: Annotated[str, Field(max_length=200)] = Field(
        default="127.0.0.1", description="Address of this machine on which other members reach this node's children."
    )
    gang_network: Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{0,64}$")] = Field(
        default="",
        description="Name of the private network of gang_address: its nodes trust each other, as what they exchange is "
        "not encrypted. Needed beyond loopback.",
    )
    max_job_processes: int = Field(
        default=1024, ge=16, le=100_000, description="Processes and threads of one job at most."
    )
    max_job_disk_bytes: int = Field(
        default=20 << 30, ge=1 << 20, description="What one job may write to its folder at most."
    )
    max_job_tmp_bytes: int = Field(
        default=1 << 30, ge=1 << 16, description="Size of a job's /tmp, and of its /dev/shm; both are in memory."
    )
    max_job_memory_bytes: int | None = Field(
        default=None,
        ge=512 << 20,
        description="Memory of a job that does not say how much it needs; else four fifths of the machine's.",
    )
    tls: bool = Field(default=False, description="Dial central with TLS; tls.ca_file names an authority of your own.")
    pricing: NodePricingSection = NodePricingSection()
    operations: OperationsSection = OperationsSection()

    @model_validator(mode="after")
    def _whole_keys(self) -> NodeSection:
        if self.s3_access_key and not (self.s3_secret_key or self.s3_secret_key_file):
            raise ValueError("s3_access_key needs s3_secret_key, or its file")
        return self

    @property
    def keep_results_seconds(self) -> float:
        return seconds(self.keep_results)


class ReputationSection(Section):
    half_life_hours: float = Field(
        default=168.0, gt=0, le=24 * 3660, description="Time in which what moved a node's score fades by half."
    )
    strikes: int = Field(
        default=3, ge=0, le=100, description="Falls below 50 points after which a node is banned; 0: never by rule."
    )
    event_retention_days: float = Field(
        default=90.0, ge=30, le=3660, description="How long it is kept what moved a score."
    )


class VerifySection(Section):
    wait_seconds: float = Field(
        default=3600.0, ge=0, le=30 * 86400, description="Wait for a node that can check a result; then: unverified."
    )
    keep_checkpoints: int = Field(
        default=16, ge=2, le=1000, description="Checkpoints kept of a job that is checked by one interval."
    )
    same_owner: bool = Field(
        default=False, description="Whether a node may check the work of another one of its own owner."
    )
    cpu_max_abs: float = Field(
        default=1e-4, ge=0, le=1e6, description="CPUs of two classes: weights may differ so far."
    )
    cpu_max_rel: float = Field(default=1e-3, ge=0, le=1e6, description="Or so far, by the largest of their tensor.")
    gpu_max_abs: float = Field(default=1e-3, ge=0, le=1e6, description="As cpu_max_abs, where a GPU takes part.")
    gpu_max_rel: float = Field(default=1e-2, ge=0, le=1e6, description="As cpu_max_rel, where a GPU takes part.")


class RateLimit(Section):
    enabled: bool = Field(default=True, description="Whether callers are limited at all.")
    requests_per_second: int = Field(default=2000, ge=1, description="Requests of one caller a second.")
    logins_per_minute: int = Field(
        default=10, ge=1, description="Log-ins of one name, and sign-ups, from one address a minute."
    )


class Logging(Section):
    level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Least level that is written."
    )
    format: Literal["auto", "json", "text"] = Field(
        default="auto", description="auto: text on a terminal, else JSON lines."
    )


class Metrics(Section):
    enabled: bool = Field(default=True, description="Whether /metrics is served.")


class Config(Section):
    server: Server = Server()
    tls: Tls = Tls()
    auth: Auth = Auth()
    database: Database = Database()
    blobs: Blobs = Blobs()
    scheduler: Scheduler = Scheduler()
    redis: Redis = Redis()
    pricing: PricingSection = PricingSection()
    blockchain: Blockchain = Blockchain()
    ledger: Ledger = Ledger()
    node: NodeSection = NodeSection()
    reputation: ReputationSection = ReputationSection()
    verify: VerifySection = VerifySection()
    rate_limit: RateLimit = RateLimit()
    logging: Logging = Logging()
    metrics: Metrics = Metrics()


def sections() -> dict[str, type[Section]]:
    """Every section by its name; one within another, such as node.pricing, comes after it."""
    found: dict[str, type[Section]] = {}

    def walk(section: type[Section], prefix: str) -> None:
        for name, field in section.model_fields.items():
            if isinstance(field.annotation, type) and issubclass(field.annotation, Section):
                found[f"{prefix}{name}"] = field.annotation
                walk(field.annotation, f"{prefix}{name}.")

    walk(Config, "")
    return found


def settings_of(section: type[Section]) -> dict[str, FieldInfo]:
    """The settings that stand in a section itself."""
    return {
        name: field
        for name, field in section.model_fields.items()
        if not (isinstance(field.annotation, type) and issubclass(field.annotation, Section))
    }
