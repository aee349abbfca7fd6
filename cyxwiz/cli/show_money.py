"""How wallets, transactions and receipts look to a person."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from cyxwiz.cli.show import first_file, paged, pairs, plain, table, when
from cyxwiz.domain.money import format_cyxwiz

Json = Mapping[str, Any]
KINDS = {"pay": "stream", "settle": "release"}  # as people who know escrows call them


def _cyxwiz(document: Json, name: str) -> str:
    return f"{document[name]} CYXWIZ"


def wallet(document: Json) -> None:
    linked = [each["wallet_address"] for each in document.get("wallets", ())]
    pairs(
        row
        for row in (
            ("account", document["address"]),
            ("balance", _cyxwiz(document, "balance")),
            ("locked for jobs", _cyxwiz(document, "locked") if document["locked"] is not None else None),
            ("ledger", document["backend"]),
            ("network", document["network"]),
            ("mint", document["token_mint"]),
            ("program id", document["program_id"]),
            ("wallets", linked or None),
        )
        if row[1] is not None
    )


def transactions(document: Json) -> None:
    table(
        ("At", "What", "CYXWIZ", "Fee", "Back", "From", "To", "Status", "Reference"),
        (
            (
                when(each["at"]),
                each["kind"],
                each["amount"],
                each["platform_fee"],
                each["refunded"],
                each["source"],
                each["destination"],
                each["status"],
                each["reference"],
            )
            for each in document["transactions"]
        ),
        least=("Reference", "Fee", "Back", "Status"),
        short=("From", "To"),
    )
    paged(document, "transactions")


def granted(document: Json) -> None:
    pairs((("user", document["user_id"]), ("got", _cyxwiz(document, "amount")), ("reference", document["reference"])))


def changes(before: Mapping[str, int], after: Mapping[str, int]) -> list[dict[str, Any]]:
    """What each account had in units, has, and has more or less."""
    return [
        {"who": who, "before_units": had, "after_units": after[who], "change_units": after[who] - had}
        for who, had in before.items()
    ]


def balances(rows: Iterable[Json]) -> None:
    table(
        ("Balances (CYXWIZ)", "Before", "After", "Change"),
        (
            (
                row["who"],
                format_cyxwiz(row["before_units"]),
                format_cyxwiz(row["after_units"]),
                ("-" if row["change_units"] < 0 else "+") + format_cyxwiz(abs(row["change_units"])),
            )
            for row in rows
        ),
    )


def receipts(document: Json) -> None:
    table(
        ("Job", "Name", "Status", "Price", "Paid", "Refunded", "Settled", "Completed"),
        (
            (
                each["job_id"],
                each["name"],
                each["status"],
                each["price"],
                each["paid"],
                each["refunded"],
                each["settled"],
                when(each["completed_at"]),
            )
            for each in document["receipts"]
        ),
        least=("Completed", "Refunded", "Price", "Settled"),
        short=("Name",),
    )
    paged(document, "receipts")


def receipt(document: Json) -> None:
    node = f"{document['node_name']} ({document['node_id']})" if document["node_id"] else None
    payments = document["payments"]
    rows: list[tuple[str, Any]] = [
        ("job", f"{document['name']} ({document['job_id']})"),
        ("status", document["status"]),
        ("node", node),
        ("device", "GPU" if document["gpu"] else "CPU"),
        ("compute", f"{plain(document['compute_seconds'])} s"),
        ("data set", f"{document['dataset_uri']}, seed {document['seed']}"),
        (first_file(document["files"]), document["model_weights_hash"]),
        *([("made data", document["made_dataset_uri"])] if document["made_dataset_uri"] else []),
        ("price", _cyxwiz(document, "price") + ("" if payments else ", not charged")),
    ]
    if payments:
        rows += [
            ("locked", _cyxwiz(document, "amount")),
            ("paid", _cyxwiz(document, "paid")),
            ("  to the node", _cyxwiz(document, "node_reward")),
            ("  platform's fee", _cyxwiz(document, "platform_fee")),
            ("refunded", _cyxwiz(document, "refunded")),
        ]
    rows.append(("note", document["note"]))
    for payment in payments:
        rows += [(KINDS.get(move["kind"]) or move["kind"], move["reference"]) for move in payment["transactions"]]
    pairs(rows)
