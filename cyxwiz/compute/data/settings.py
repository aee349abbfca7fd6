"""How a node may fetch data: its part of the section [node] of the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, slots=True)
class FetchSettings:
    cache_bytes: int = 50 << 30
    max_dataset_bytes: int = 4 << 30  # as it comes and, where it is an archive, unpacked
    allow_private_hosts: bool = False
    allow_http: bool = False
    s3_endpoint: str = ""  # empty: Amazon's
    s3_region: str = "us-east-1"
    s3_access_key: str = ""  # empty: requests are not signed
    s3_secret_key: str = field(default="", repr=False)
    s3_buckets: tuple[str, ...] = ()  # which jobs may read with the keys; * is any
    hf_endpoint: str = ""  # empty: HF_ENDPOINT of the environment, else the hub's own
    hf_root: Path | None = None
    ipfs_gateway: str = ""  # empty: ipfs:// is refused
