"""Configuration is a value: built once at start, validated as a whole, frozen.

Layers, the later wins: built-in defaults, `config.toml`, environment `CYXWIZ_SECTION__KEY`, flags (`--set
section.key=value`).
A bad key or value is a `ConfigError` of one line that names the key, the value, the bound and where it came from.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

ENV_PREFIX = "CYXWIZ_"
MASK = "********"


class ConfigError(Exception):
    """The settings can't be used; the message is one line for a person."""


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return (
            json.loads(value) if value.startswith("[") else [part.strip() for part in value.split(",") if part.strip()]
        )
    return value


def _address(value: Any) -> str:
    host, colon, port = value.rpartition(":") if isinstance(value, str) else ("", "", "")
    if not colon or not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be host:port with a port from 0 to 65535")
    return str(value)


Strings = Annotated[tuple[str, ...], BeforeValidator(_listed)]
Address = Annotated[str, BeforeValidator(_address)]
Weight = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, hide_input_in_errors=True)


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
    public_url: str | None = Field(default=None, description="How people reach the REST address; derived when unset.")
    max_connections: int = Field(default=10000, ge=1, description="Open connections at most.")
    stop_grace_seconds: float = Field(
        default=20.0, ge=0, le=3600, description="How long a stop waits for work in flight."
    )
    max_request_bytes: int = Field(default=16 << 20, ge=1024, description="Largest JSON body or gRPC message.")
    max_upload_bytes: int = Field(default=10 << 30, ge=1024, description="Largest blob.")
    max_streams_per_principal: int = Field(default=200, ge=1, description="Open watches and streams of one caller.")


class Tls(Section):
    cert_file: Path | None = Field(default=None, description="Certificate chain (PEM) of every door.")
    key_file: Path | None = Field(default=None, description="Its private key (PEM).")
    ca_file: Path | None = Field(
        default=None, description="Certificate authority for clients' certificates, and for dialling out."
    )
    require_client_cert: bool = Field(default=False, description="Demand a client certificate signed by ca_file.")
    allow_plaintext: bool = Field(default=False, description="Allow addresses beyond loopback without TLS.")


class Auth(Section):
    mode: Literal["required", "open"] = Field(
        default="required",
        description="open: no credentials asked, loopback addresses only, everybody has the role user.",
    )
    jwt_secret: str | None = Field(
        default=None, description="Signs user tokens; generated and kept in the store when unset."
    )
    jwt_secret_file: Path | None = Field(default=None, description="File that holds it instead.")
    p2p_secret: str | None = Field(
        default=None, description="Root of the secrets between clients and nodes; as jwt_secret."
    )
    p2p_secret_file: Path | None = Field(default=None, description="File that holds it instead.")
    admin_secret: str | None = Field(
        default=None, description="Reserved: for admin tokens of the earlier system; signs nothing yet."
    )
    admin_secret_file: Path | None = Field(default=None, description="File that holds it instead.")
    access_token_seconds: int = Field(default=3600, ge=1, le=86400 * 30, description="Life of an access token.")
    refresh_token_seconds: int = Field(default=86400 * 30, ge=1, description="Life of a refresh token.")
    p2p_token_seconds: int = Field(default=3600, ge=1, le=86400, description="Life of a client-to-node token.")
    allow_signup: bool = Field(default=False, description="Whether strangers may create a user of the role user.")
    argon2_memory_kib: int = Field(default=65536, ge=8, description="Memory cost of a password hash.")
    argon2_time_cost: int = Field(default=3, ge=1, description="Passes of a password hash.")


class Database(Section):
    url: str = Field(default="", description="Empty: SQLite in the data directory. sqlite://… or postgresql://….")
    max_connections: int = Field(default=20, ge=1, le=1000, description="PostgreSQL pool, at most.")
    min_connections: int = Field(default=5, ge=0, le=1000, description="PostgreSQL pool, kept open.")
    event_retention_hours: float = Field(default=168.0, gt=0, description="How long events can be replayed.")

    @model_validator(mode="after")
    def _pool(self) -> Database:
        if self.min_connections > self.max_connections:
            raise ValueError(
                f"min_connections = {self.min_connections} is above max_connections = {self.max_connections}"
            )
        return self


class Blobs(Section):
    url: str = Field(default="", description="Empty: the data directory's blobs folder. file:///path.")


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
    weight_latency: float = Field(
        default=0.0, ge=0, le=0, description="Weight of the latency to the client: not measured yet, must stay 0."
    )
    push_private: bool | None = Field(
        default=None,
        description="Push jobs to nodes on private addresses; unset: only where central itself is on loopback.",
    )
    max_pending_per_user: int = Field(default=10000, ge=1, description="Jobs of one user that may wait at a time.")

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
    """Reserved: no chain is spoken to yet. The keys are taken, so that settings need not change when one is."""

    network: Literal["localnet", "devnet", "testnet", "mainnet-beta"] = Field(
        default="devnet", description="Reserved: which Solana cluster."
    )
    solana_rpc_url: str = Field(default="https://api.devnet.solana.com", description="Reserved: its JSON-RPC.")
    payer_keypair_path: Path = Field(
        default=Path("~/.config/solana/id.json"), description="Reserved: the platform's keypair."
    )
    program_id: str | None = Field(default=None, description="Reserved: the escrow program.")
    token_mint: str | None = Field(default=None, description="Reserved: the CYXWIZ mint.")
    platform_fee_percent: int = Field(default=10, ge=0, le=100, description="Reserved: the platform's share.")


class PricingSection(Section):
    base_rate: int = Field(default=10000, ge=0, le=10**15, description="Units (1e-9 CYXWIZ) a second.")
    gpu_multiplier: float = Field(default=10.0, ge=0, le=10**6, description="Factor for a job on a GPU.")
    ram_factor_per_gb: float = Field(default=0.01, ge=0, le=1000, description="Added share for each GiB of RAM.")


class Ledger(Section):
    backend: Literal["none"] = Field(
        default="none", description="Who holds the money; none: prices are shown, nothing is charged."
    )


class NodeSection(Section):
    central: str = Field(default="127.0.0.1:50051", description="Central's gRPC address.")
    join_token: str | None = Field(
        default=None, description="From `cyxwiz node token create`; needed the first time only."
    )
    join_token_file: Path | None = Field(default=None, description="File that holds it instead.")
    name: str = Field(default="", max_length=100, description="Empty: the host's name.")
    region: str = Field(default="", max_length=64, description="Where the node stands, such as eu-west.")
    heartbeat_interval_ms: int | None = Field(
        default=None, ge=50, le=600_000, description="At most this; central hands out a third of its time-out."
    )
    address: Address = Field(
        default="127.0.0.1:50052", description="Client-to-node gRPC. Reserved: nothing listens there yet."
    )
    terminal_address: Address = Field(
        default="127.0.0.1:50053", description="Terminals. Reserved: nothing listens there yet."
    )
    service_address: Address = Field(
        default="127.0.0.1:50054", description="The node's NodeService. Reserved: nothing listens there yet."
    )
    deployment_address: Address = Field(
        default="127.0.0.1:50055", description="Deployments. Reserved: nothing listens there yet."
    )
    http_address: Address = Field(
        default="127.0.0.1:8082", description="Inference over HTTP. Reserved: nothing listens there yet."
    )
    max_deployments: int = Field(default=5, ge=0, le=1000, description="Reserved: deployments are not built yet.")
    schedule: Literal["always"] = Field(default="always", description="When the node works; only always is built.")
    max_temperature_c: float | None = Field(
        default=None, ge=0, le=0, description="Reserved: temperatures are not read yet, so it must stay unset."
    )
    max_concurrent_jobs: int | None = Field(default=None, ge=1, le=1024, description="Unset: from the hardware.")
    devices: Strings = Field(default=("all",), description="Which devices to lend: all, cpu, cuda:0, …")
    data_roots: Strings = Field(default=(), description="Folders below which file:// data sets may lie.")
    keep_results: str = Field(
        default="24h", pattern=r"^\d+(s|m|h|d)$", description="How long the node keeps a job's artefacts."
    )
    warm_children: int = Field(default=1, ge=0, le=64, description="Child processes started ahead of need.")
    advertise_address: str | None = Field(default=None, description="host:port under which others reach the node.")
    sandbox: Literal["auto", "rlimits"] = Field(
        default="auto",
        description="auto takes the strongest that is built: rlimits (declared models only, no user code).",
    )
    tls: bool = Field(default=False, description="Dial central with TLS; tls.ca_file names an authority of your own.")

    @property
    def keep_results_seconds(self) -> float:
        return float(self.keep_results[:-1]) * {"s": 1, "m": 60, "h": 3600, "d": 86400}[self.keep_results[-1]]


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
    rate_limit: RateLimit = RateLimit()
    logging: Logging = Logging()
    metrics: Metrics = Metrics()


SECRETS = frozenset({"auth.jwt_secret", "auth.p2p_secret", "auth.admin_secret", "node.join_token"})


@dataclass(frozen=True)
class Loaded:
    """The settings with the origin of each: `default`, a file, `environment` or `flag`."""

    config: Config
    origins: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    def rows(self) -> Iterable[tuple[str, str, str]]:
        """(key, value, origin) of every setting, secrets masked."""
        for section in Config.model_fields:
            part = getattr(self.config, section)
            for name in type(part).model_fields:
                key, value = f"{section}.{name}", getattr(part, name)
                if key in SECRETS and value is not None:
                    shown = MASK
                else:
                    shown = json.dumps(value, default=str) if value is not None else "unset"
                yield key, shown, self.origins.get(key, "default")


def load(
    *,
    file: Path | None = None,
    environ: Mapping[str, str] = os.environ,
    flags: Iterable[str] = (),
    overrides: Mapping[str, Any] | None = None,
) -> Loaded:
    """Builds the configuration from all layers.

    Raises:
        ConfigError: one line naming key, value, bound and origin.
    """
    tree: dict[str, dict[str, Any]] = {}
    origins: dict[str, str] = {}
    warnings: list[str] = []

    def put(key: str, value: Any, origin: str) -> None:
        section, dot, name = key.partition(".")
        part = Config.model_fields.get(section)
        if not dot or part is None or name not in part.annotation.model_fields:  # type: ignore[union-attr]
            raise ConfigError(f"{key}: unknown setting (from {origin}); `cyxwiz config show` lists them all")
        tree.setdefault(section, {})[name] = value
        origins[key] = origin

    for key, value, origin in _from_file(file):
        put(key, value, origin)
    for name, value in environ.items():
        if name.startswith(ENV_PREFIX) and "__" in name:
            put(name[len(ENV_PREFIX) :].lower().replace("__", ".", 1), value, f"environment {name}")
    for flag in flags:
        key, equals, value = flag.partition("=")
        if not equals:
            raise ConfigError(f"--set {flag}: must be section.key=value")
        if key in SECRETS:
            warnings.append(f"--set {key}: other users of this machine can read it; use {key}_file")
        put(key, value, "flag --set")
    for key, value in (overrides or {}).items():
        put(key, value, "flag")
    try:
        config = Config.model_validate(tree)
    except ValidationError as error:
        raise ConfigError(_line(error, tree, origins)) from None
    return Loaded(_read_secret_files(config), origins, tuple(warnings))


def _from_file(file: Path | None) -> Iterable[tuple[str, Any, str]]:
    path = file or Path("config.toml")
    if not path.exists():
        if file:
            raise ConfigError(f"{file}: no such configuration file")
        return
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError) as error:  # what is no TOML or no UTF-8, or has a number of too many digits
        raise ConfigError(f"{path}: {error}") from None
    except RecursionError:
        raise ConfigError(f"{path}: is nested too deeply") from None
    for section, values in data.items():
        if not isinstance(values, dict):
            raise ConfigError(
                f"{section}: unknown setting (from {path}); settings stand in sections, [server] and so on"
            )
        for name, value in values.items():
            yield f"{section}.{name}", value, str(path)


def _line(error: ValidationError, tree: Mapping[str, Mapping[str, Any]], origins: Mapping[str, str]) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"][:2])
    section, _, name = key.partition(".")
    if not name:
        return f"[{section}]: {first['msg'].removeprefix('Value error, ')}"
    value = MASK if key in SECRETS else repr(tree.get(section, {}).get(name))
    message = first["msg"].removeprefix("Value error, ")
    return f"{key} = {value}: {message} (from {origins.get(key, 'default')})"


def _read_secret_files(config: Config) -> Config:
    sections: dict[str, Section] = {}
    for key in SECRETS:
        section, _, name = key.partition(".")
        part = sections.get(section) or getattr(config, section)
        path: Path | None = getattr(part, f"{name}_file")
        if path is None:
            continue
        try:
            text = path.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            why = error.strerror if isinstance(error, OSError) else "is no text"
            raise ConfigError(f"{key}_file = {str(path)!r}: {why}") from None
        if not text:
            raise ConfigError(f"{key}_file = {str(path)!r}: is empty")
        sections[section] = part.model_copy(update={name: text})
    return config.model_copy(update=sections)


def default_data_dir(environ: Mapping[str, str] = os.environ) -> Path:
    given = environ.get("CYXWIZ_DATA_DIR")
    return Path(given) if given else Path.home() / ".local" / "share" / "cyxwiz"
