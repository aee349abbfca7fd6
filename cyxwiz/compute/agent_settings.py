"""What an agent is told of its node by the settings."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cyxwiz.compute.data.settings import FetchSettings
from cyxwiz.compute.hardware.score import kept_score
from cyxwiz.compute.packages import PackageSettings
from cyxwiz.domain.node import SIGNS
from cyxwiz.domain.pricing import NodePricing
from cyxwiz.ext.v1 import link_pb2 as pb
from cyxwiz.services.pricing import pricing_to


@dataclass(frozen=True, slots=True)
class AgentSettings:
    name: str
    region: str
    max_concurrent_jobs: int
    join_token: str
    heartbeat_seconds: float | None
    directory: Path  # of the node; runs live below jobs/
    keep_results_seconds: float
    data_roots: tuple[Path, ...] = ()
    advertise_host: str = ""
    advertise_port: int = 0
    services: tuple[str, ...] = ()  # that the node serves at its address
    certificate_fingerprint: str = ""  # of what it shows there
    features: tuple[str, ...] = ()
    gang_address: str = ""  # as `runs.Limits`
    detect_seconds: float = 60.0  # between two looks at the hardware
    look_seconds: float = 5.0  # between two looks at the owner's limits
    fetch: FetchSettings = field(default_factory=FetchSettings)  # how data come to the cache/ of the directory
    wallet_address: str = ""  # where the node is paid; "": its owner's account
    pricing: NodePricing | None = None  # None: its owner has set no prices
    packages: PackageSettings | None = None  # of scripts, which come to packages/; None: none are installed

    def hello(self) -> pb.Hello:
        """What a node says of itself when it dials central, as far as its settings tell."""
        hello = pb.Hello(
            features=[*self.features, SIGNS],
            join_token=self.join_token,
            name=self.name,
            region=self.region,
            wallet_address=self.wallet_address,
            max_concurrent_jobs=self.max_concurrent_jobs,
            advertise_host=self.advertise_host,
            advertise_port=self.advertise_port,
            services=self.services,
            certificate_fingerprint=self.certificate_fingerprint,
            pricing=pricing_to(self.pricing) if self.pricing else None,
            keep_results_seconds=self.keep_results_seconds,
        )
        if (score := kept_score(self.directory)) is not None:
            hello.bench_score = score
        return hello
