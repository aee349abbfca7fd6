"""The SDK of CyxWiz: `Client` with asyncio, `SyncClient` without.

with SyncClient() as client:
    job = client.submit("digits.toml")
    print(client.wait(job["id"])["metrics"])
"""

from cyxwiz.client.client import ENDED, FROM_START, Client, JobHandle
from cyxwiz.client.jobfile import apply_sets, read_job
from cyxwiz.client.sync import SyncClient, SyncJobHandle
from cyxwiz.domain.errors import Code, CyxError

__all__ = [
    "ENDED",
    "FROM_START",
    "Client",
    "Code",
    "CyxError",
    "JobHandle",
    "SyncClient",
    "SyncJobHandle",
    "apply_sets",
    "read_job",
]
