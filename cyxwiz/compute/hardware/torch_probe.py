"""GPUs as torch sees them, asked in a child process: for where no driver library answers, and for ROCm's numbering."""

from __future__ import annotations

from cyxwiz.compute.hardware.facts import Answer, Facts, pci_address
from cyxwiz.compute.hardware.machine import Machine, TorchBuild, parse_json


def read(machine: Machine, build: TorchBuild) -> Answer:
    ran = machine.ask_torch()
    try:
        return Answer("torch", tuple(parse(ran.text, build)), answered=True)
    except ValueError as error:
        return Answer("torch", notes=(f"torch: {ran.problem or error}",))


def parse(text: str, build: TorchBuild) -> list[Facts]:
    """The list that the child printed. Raises ValueError."""
    listed = parse_json(text)
    if not isinstance(listed, list):
        raise ValueError("no list in the output")
    amd = build.hip is not None
    return [
        Facts(
            "amd" if amd else "nvidia",
            name=each["name"],
            pci=pci_address(each["pci"]),
            uuid=f"GPU-{each['uuid']}" if each["uuid"] and not amd else None,
            memory_total=each["total"] or None,
            memory_free=each["free"] if each["total"] else None,
            unified=each["integrated"] or None,
            compute_units=each["units"],
            cuda=build.cuda,
            capability=None if amd else float(f"{each['capability'][0]}.{each['capability'][1]}"),
            torch_index=each["index"],
        )
        for each in listed
    ]
