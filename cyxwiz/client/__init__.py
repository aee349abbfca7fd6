"""The SDK of CyxWiz: `Client` with asyncio, `SyncClient` without.

with SyncClient() as client:
    job = client.submit("digits.toml")
    print(client.wait(job["id"])["metrics"])
"""

from cyxwiz.client.client import ENDED, FROM_START, Client
from cyxwiz.client.engine import LocalData
from cyxwiz.client.handle import JobHandle
from cyxwiz.client.jobfile import apply_sets, read_job
from cyxwiz.client.p2p import P2PSession
from cyxwiz.client.sync import SyncClient, SyncJobHandle
from cyxwiz.domain.errors import Code, CyxError

__all__ = [
    "ENDED",
    "FROM_START",
    "Client",
    "Code",
    "CyxError",
    "JobHandle",
    "LocalData",
    "P2PSession",
    "SyncClient",
    "SyncJobHandle",
    "apply_sets",
    "read_job",
]
