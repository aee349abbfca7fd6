"""The whole store as JSON lines: to keep, and to move between SQLite and PostgreSQL.

Promises: an export is one consistent moment; an import fills an empty store or nothing at all, and raises the epoch, so
that no lease of before the restore outranks one of after it. The file holds the store's secrets: it is for its owner.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Table, func, insert, select, text

from cyxwiz.domain.errors import conflict, invalid
from cyxwiz.store import migrate
from cyxwiz.store.sql import SqlTx
from cyxwiz.store.tables import metadata

FORMAT = "cyxwiz-store-1"
BATCH = 500


def export_lines(tx: SqlTx) -> Iterator[str]:
    """A header, then every row as `[table, {column: value}]`."""
    yield json.dumps({"format": FORMAT, "revision": migrate.head(), "at": tx.now.isoformat()})
    for rows in metadata.sorted_tables:
        # A part at a time: a large table whole fills memory, and PostgreSQL ends a transaction that long asks nothing.
        found = tx.connection.execute(select(rows), execution_options={"yield_per": BATCH})
        for row in found.mappings():
            yield json.dumps([rows.name, {name: _plain(value) for name, value in row.items()}])


def import_lines(tx: SqlTx, lines: Iterable[str]) -> int:
    """Fills an empty store; returns how many rows came in.

    Raises:
        CyxError: CONFLICT for a store that is not empty, INVALID for a file that is no export of this revision.
    """
    feed = iter(lines)
    header = _parsed(next(feed, ""), 1)
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        raise invalid("This file is no export of `cyxwiz db export`")
    if header["revision"] != migrate.head():
        raise invalid(f"This export is of revision {header['revision']}, this program's is {migrate.head()}")
    if sum(tx.stats().jobs_by_state.values()) or tx.users(0, 1).total:
        raise conflict("This database is not empty: import into a new one")
    for rows in reversed(metadata.sorted_tables):
        tx.connection.execute(rows.delete())
    count = _fill(tx, feed)
    for rows in metadata.sorted_tables:
        _advance_sequence(tx, rows)
    tx.raise_epoch()
    return count


def _fill(tx: SqlTx, feed: Iterator[str]) -> int:
    count, waiting, current = 0, list[dict[str, Any]](), ""
    for number, line in enumerate(feed, 2):
        entry = _parsed(line, number)
        if not isinstance(entry, list) or len(entry) != 2 or entry[0] not in metadata.tables:
            raise invalid(f"Line {number} of the export is no row of a known table")
        name, values = entry
        if name != current or len(waiting) >= BATCH:
            _insert(tx, current, waiting)
            current, waiting = name, []
        waiting.append({column: _rich(value) for column, value in values.items()})
        count += 1
    _insert(tx, current, waiting)
    return count


def _insert(tx: SqlTx, name: str, rows: list[dict[str, Any]]) -> None:
    if rows:
        tx.connection.execute(insert(metadata.tables[name]), rows)


def _advance_sequence(tx: SqlTx, rows: Table) -> None:
    """PostgreSQL numbers from a sequence, which must go on after what came in."""
    column = rows.autoincrement_column
    if tx.connection.dialect.name != "postgresql" or column is None or len(rows.primary_key) != 1:
        return
    last = tx.connection.execute(select(func.max(column))).scalar_one()
    if last:
        statement = text("SELECT setval(pg_get_serial_sequence(:rows, :name), :last)")
        tx.connection.execute(statement, {"rows": rows.name, "name": column.name, "last": last})


def _parsed(line: str, number: int) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        raise invalid(f"Line {number} of the export is no JSON") from None


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return {"$at": value.astimezone(UTC).isoformat()}
    if isinstance(value, bytes | memoryview):
        return {"$bytes": base64.b64encode(bytes(value)).decode()}
    return {"$json": value} if isinstance(value, dict) else value


def _rich(value: Any) -> Any:
    if isinstance(value, dict):
        if "$at" in value:
            return datetime.fromisoformat(value["$at"])
        if "$bytes" in value:
            return base64.b64decode(value["$bytes"])
        return value["$json"]
    return value
