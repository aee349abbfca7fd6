"""`cyxwiz node hardware` and `cyxwiz node bench`: this machine, without a server."""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cyxwiz.cli import show
from cyxwiz.cli.process import File, Sets, load_settings
from cyxwiz.cli.session import session

if TYPE_CHECKING:
    from cyxwiz.config import Config

Json = dict[str, Any]


def add_to(node: typer.Typer) -> None:
    node.command("hardware")(hardware)
    node.command("bench")(bench)


def hardware(context: typer.Context, file: File = None, sets: Sets = None) -> None:
    """Show what this machine is, who says so, and what can't be read and why."""
    from cyxwiz.compute.hardware import Detector

    inventory = Detector(load_settings(file, sets).config.node.devices).inspect()
    found = inventory.hardware
    document = {
        "cpu_model": found.cpu_model,
        "cpu_cores": found.cpu_cores,
        "ram_total_bytes": found.ram_total_bytes,
        "ram_available_bytes": found.ram_available_bytes,
        "gpus": [
            {"device": gpu.label, "lent": not gpu.withheld, "why_not": gpu.withheld or None, **asdict(gpu.facts)}
            for gpu in inventory.gpus
        ],
        "unknown": list(found.unknown),
    }
    session(context).show(document, _show_hardware)


def _show_hardware(document: Json) -> None:
    rows = [(name.replace("_", " "), document[name]) for name in ("cpu_model", "cpu_cores")]
    rows += [
        (name[:-6].replace("_", " "), show.size(document[name])) for name in ("ram_total_bytes", "ram_available_bytes")
    ]
    show.pairs(rows)
    for gpu in document["gpus"]:
        print()
        show.pairs(
            (name.replace("_", " "), show.size(value) if name in ("memory_total", "memory_free") else value)
            for name, value in gpu.items()
            if value is not None and name != "why"
        )
    for each in document["unknown"]:
        print(f"unknown: {show.plain(each)}")


def bench(
    context: typer.Context,
    seed: Annotated[int, typer.Option(min=0, help="of the challenge: the same seed has the same answers")] = 0,
    seconds: Annotated[float, typer.Option(min=0.5, max=600, help="of work for each device, and for the disk")] = 5.0,
    file: File = None,
    sets: Sets = None,
) -> None:
    """Measure this machine by a challenge with checked answers, and print its compute score with its parts."""
    from cyxwiz.compute.hardware import bench as measure
    from cyxwiz.compute.hardware.score import RESULT
    from cyxwiz.runtime.clock import SystemClock
    from cyxwiz.runtime.files import make_private

    here, config = session(context), load_settings(file, sets).config
    folder = here.options.directory / "node"
    make_private(folder)
    document = measure.run(
        config.node.devices,
        folder,
        SystemClock(),
        seed=seed,
        seconds=seconds,
        network=lambda: _network(config, seed, min(2.0, seconds)),
    )
    _keep(folder / RESULT, document)
    here.show(document, _show_bench)


def _network(config: Config, seed: int, seconds: float) -> Json | str:
    from cyxwiz.transports.grpc.probe import UnreachableError, probe
    from cyxwiz.transports.grpc.server import channel_credentials

    credentials = channel_credentials(config.tls) if config.node.tls else None
    try:
        return asdict(asyncio.run(probe(config.node.central, credentials, seed, seconds)))
    except UnreachableError as error:
        return str(error)


def _keep(path: Path, document: Json) -> None:
    """The last result stays in the node's folder."""
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)


def _show_bench(document: Json) -> None:
    show.table(
        ("Device", "Name", "GFLOP/s", "GB/s", "Filled", "Products", "Checked", "Answer", "By"),
        (
            (
                each["device"],
                each["name"],
                each["matrix_gflops"],
                each["memory_gb_per_second"],
                show.size(each["filled_bytes"]),
                each["products"],
                each["checked"],
                each["answer"][:16],
                each["backend"],
            )
            for each in document["devices"]
        ),
    )
    show.table(
        ("Term", "Measured", "Reference", "Ratio", "Weight", "Unit"),
        (
            (each["name"], each["value"], each["reference"], each["ratio"], each["weight"], each["unit"])
            for each in document["terms"]
        ),
    )
    network, disk, joules = document["network"], document["disk"], document["joules"]
    if network:
        print(f"latency to central: {show.plain(network['latency_ms'])} ms")
    if disk and not disk["direct"]:
        print("disk: the file system allows no read around the page cache; the read may be too fast")
    if joules is not None:
        print(f"energy: {show.plain(joules)} J of {', '.join(document['joules_of'])}")
    for name, reason in document["unset"].items():
        print(f"unset: {name}: {show.plain(reason)}")
    print(f"compute score: {show.plain(document['compute_score'])} (the reference machine has 100)")
