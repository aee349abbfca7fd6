"""How nodes and their join tokens look to a person."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cyxwiz.cli.show import fields, links, paged, pairs, percent, plain, size, table, when

Json = Mapping[str, Any]


def nodes(document: Json) -> None:
    table(
        ("ID", "Name", "Status", "Region", "Load", "CPU", "RAM", "GPU", "Reputation"),
        (
            (
                each["id"],
                each["name"],
                "closed" if each.get("closed_reason") and each["status"] in ("online", "busy") else each["status"],
                each["region"],
                percent(each["current_load"]),
                each["cpu_cores"],
                size(each["ram_total_bytes"]),
                each["gpu_model"],
                _score(each["reputation"]),
            )
            for each in document["nodes"]
        ),
        least=("Region", "CPU", "RAM", "Reputation", "GPU", "Load"),
        short=("Name", "GPU"),
    )
    paged(document, "nodes")


def node(document: Json) -> None:
    hidden = ("devices", "hardware_unknown", "legacy", "load", "reputation_account", "links")
    hidden += ("pricing", "price_per_hour")  # `_prices` tells both
    pairs((name.replace("_", " "), _field(name, value)) for name, value in fields(document) if name not in hidden)
    if document["devices"]:
        table(
            ("Device", "Name", "Memory", "Free", "Units", "Driver", "CUDA", "Capability", "PCIe"),
            (_device(each) for each in document["devices"]),
            least=("PCIe", "Units", "Capability", "CUDA", "Driver"),
            short=("Name",),
        )
    for each in document["hardware_unknown"]:
        print(f"unknown: {plain(each)}")
    if prices := document.get("pricing"):
        _prices(prices)
    links(document.get("links", ()))
    if account := document.get("reputation_account"):
        _reputation(account)


def _score(share: float) -> str:
    """The reputation as its account counts it, of 100."""
    return f"{share * 100:.2f}"


def _field(name: str, value: Any) -> Any:
    if name.endswith("_bytes"):
        return size(value)
    if name == "uptime":
        return percent(value)
    return _score(value) if name == "reputation" else value


def _prices(prices: Json) -> None:
    if prices["set_by"] == "tariff":
        print("prices: none set; the operator's tariff holds")
        return
    listed = ("per_hour", "per_epoch", "per_job", "per_inference", "minimum_charge")
    amounts = ", ".join(f"{name.replace('_', ' ')} {prices[name]}" for name in listed)
    free = f"; the first {prices['free_tier_minutes']} minutes are free" if prices["free_tier"] else ""
    print(f"prices in CYXWIZ, billed {prices['billing'].replace('_', ' ')}: {amounts}{free}")


def _reputation(account: Json) -> None:
    events = account["events"]
    recent = sum(each["counts"] for each in events)
    print(
        f"reputation {account['score']:.2f} ({account['tier']}) = {account['start']:g} at the start "
        f"{account['earlier']:+.2f} from earlier {recent:+.2f} from the events below; "
        f"strikes {account['strikes']}, bans {account['bans']}; what counts halves in {account['half_life_hours']:g} h"
    )
    if events:
        table(
            ("When", "Event", "Cause", "Delta", "Counts now", "Job", "Note"),
            (
                (
                    when(each["at"]),
                    each["kind"],
                    each["cause"],
                    f"{each['delta']:+g}",
                    f"{each['counts']:+.2f}",
                    each["job_id"],
                    each["note"][:60],
                )
                for each in events
            ),
            least=("Job", "Cause"),
            short=("Note",),
        )


def _device(each: Json) -> tuple[Any, ...]:
    lanes, generation = each["pcie_lanes"], each["pcie_generation"]
    return (
        each["device_type"],
        each["name"],
        size(each["memory_total_bytes"]),
        size(each["memory_available_bytes"]),
        each["compute_units"],
        each["driver_version"],
        each["cuda_version"],
        each["compute_capability"],
        f"{generation or '?'} x{lanes or '?'}" if generation or lanes else None,
    )


def tokens(document: Json) -> None:
    table(
        ("ID", "Uses left", "Created", "Expires", "Revoked"),
        (
            (
                each["id"],
                "any" if each["uses_left"] is None else each["uses_left"],
                when(each["created_at"]),
                when(each["expires_at"]),
                when(each["revoked_at"]),
            )
            for each in document["tokens"]
        ),
        least=("Created", "Expires"),
    )
    paged(document, "tokens")
