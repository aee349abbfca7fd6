"""What nodes measured between them, as statements."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, or_, select
from sqlalchemy.dialects import postgresql, sqlite

from cyxwiz.domain.ids import NodeId
from cyxwiz.domain.link import Link, Links, Pair
from cyxwiz.store.sql_unit import Unit, table
from cyxwiz.store.tables_links import NodeLinkRow

MOST_LINKS = 20_000  # the newest, of all nodes

links = table(NodeLinkRow)

_FIGURES = ("round_trip_seconds", "bytes_per_second", "measured_at")
_SINCE = select(links).where(links.c.measured_at >= bindparam("since")).order_by(links.c.measured_at.desc())
_NEWEST = _SINCE.limit(MOST_LINKS)
_OF = _SINCE.where(or_(links.c.one == bindparam("node_id"), links.c.other == bindparam("node_id"))).limit(MOST_LINKS)
_PRUNE = delete(links).where(links.c.measured_at < bindparam("before"))


def _save(dialect: Any) -> Any:
    statement = dialect.insert(links)
    new = {name: statement.excluded[name] for name in _FIGURES}
    return statement.on_conflict_do_update(index_elements=["one", "other"], set_=new)


_SAVE = {True: _save(postgresql), False: _save(sqlite)}


class LinksOfNodes(Unit):
    def save_node_links(self, measured: Links) -> None:
        rows = [_from_link(key, measured[key]) for key in sorted(measured)]  # in one order: units wait for each other
        if rows:
            self._run(_SAVE[self._postgres], rows)

    def node_links(self, since: datetime, node_id: NodeId | None = None) -> Links:
        given = {"since": since}
        rows = self._run(_NEWEST, given) if node_id is None else self._run(_OF, {**given, "node_id": node_id})
        return {(row.one, row.other): Link(*(getattr(row, name) for name in _FIGURES)) for row in rows}

    def prune_node_links(self, before: datetime) -> int:
        return int(self._run(_PRUNE, {"before": before}).rowcount)


def _from_link(key: Pair, link: Link) -> Mapping[str, Any]:
    return {"one": key[0], "other": key[1], **{name: getattr(link, name) for name in _FIGURES}}
