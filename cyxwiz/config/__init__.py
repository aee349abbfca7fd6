"""Configuration is a value: built once at start, validated as a whole, frozen.

Layers, the later wins: built-in defaults, `config.toml`, environment `CYXWIZ_SECTION__KEY`, flags (`--set
section.key=value`).
A bad key or value is a `ConfigError` of one line that names the key, the value, the bound and where it came from.
"""

from __future__ import annotations

from cyxwiz.config.checks import check_role, wants_gangs
from cyxwiz.config.layers import MASK, SECRETS, ConfigError, Loaded, default_data_dir, load, without_password
from cyxwiz.config.node_sections import NodePricingSection, OperationsSection
from cyxwiz.config.section import Section
from cyxwiz.config.sections import (
    Auth,
    Blobs,
    Blockchain,
    Config,
    Database,
    Ledger,
    Logging,
    Metrics,
    NodeSection,
    PricingSection,
    RateLimit,
    Redis,
    ReputationSection,
    Scheduler,
    Server,
    Tls,
    VerifySection,
    sections,
    settings_of,
)

__all__ = [
    "MASK",
    "SECRETS",
    "Auth",
    "Blobs",
    "Blockchain",
    "Config",
    "ConfigError",
    "Database",
    "Ledger",
    "Loaded",
    "Logging",
    "Metrics",
    "NodePricingSection",
    "NodeSection",
    "OperationsSection",
    "PricingSection",
    "RateLimit",
    "Redis",
    "ReputationSection",
    "Scheduler",
    "Section",
    "Server",
    "Tls",
    "VerifySection",
    "check_role",
    "default_data_dir",
    "load",
    "sections",
    "settings_of",
    "wants_gangs",
    "without_password",
]
