"""`cyxwiz node doctor`: what holds a job on this machine, tried; and what the machine is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer

from cyxwiz.cli import show
from cyxwiz.cli.process import File, Sets, load_settings
from cyxwiz.cli.session import session
from cyxwiz.domain.errors import CyxError


def doctor(context: typer.Context, file: File = None, sets: Sets = None) -> None:
    """Try what protects this machine from jobs: a table of what holds here and what does not.

    Exit status 1 when the sandbox that node.sandbox asks for does not work.
    """
    from cyxwiz.compute.hardware import Detector
    from cyxwiz.compute.sandbox.devices import lent_gpus
    from cyxwiz.compute.sandbox.doctor import report
    from cyxwiz.config import ConfigError

    here = session(context)
    node = load_settings(file, sets).config.node
    inventory = Detector(node.devices).inspect()
    roots = tuple(Path(root) for root in node.data_roots)
    document: dict[str, Any] = {"asked": node.sandbox, "mode": None, "works": False, "error": None, "protections": []}
    try:
        document |= report(node.sandbox, data_roots=roots, gpus=lent_gpus(inventory)) | {"works": True}
    except (ConfigError, OSError) as error:
        document["error"] = str(error)
    except CyxError as error:
        document["error"] = error.message
    hardware = inventory.hardware
    document["machine"] = {
        "cpu": hardware.cpu_model,
        "cores": hardware.cpu_cores,
        "ram_bytes": hardware.ram_total_bytes,
        "gpus": [gpu.name for gpu in hardware.gpus],
        "unknown": list(hardware.unknown),
    }
    here.show(document, _tell)
    raise typer.Exit(0 if document["works"] else 1)


def _tell(document: Any) -> None:
    machine = document["machine"]
    show.pairs(
        [
            ("sandbox", f"{document['mode'] or 'none works'} (node.sandbox = {document['asked']})"),
            ("error", document["error"]),
            ("cpu", f"{machine['cpu']}, {machine['cores']} cores"),
            ("ram", show.size(machine["ram_bytes"])),
            ("gpus", machine["gpus"]),
            *(("unknown", each) for each in machine["unknown"]),
        ]
    )
    if document["protections"]:
        rows = ((each["name"], each["holds"], each["detail"]) for each in document["protections"])
        show.table(("Protection", "Holds", "What was seen"), rows)
