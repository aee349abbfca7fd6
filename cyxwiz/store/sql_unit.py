"""What every part of a unit stands on: one connection inside one transaction, and whether it may write."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Connection, Row, Select, Table, TextClause, Update, bindparam, func, literal_column, select, text
from sqlmodel import SQLModel

from cyxwiz.domain.errors import CyxError, stale
from cyxwiz.domain.job import Job
from cyxwiz.domain.payment import Payment
from cyxwiz.ports.store import TOTAL_CAP

S = TypeVar("S", bound=Select[Any])
V = TypeVar("V", Job, Payment)


class Lookup(NamedTuple):
    """A select in two forms: as it is, and with row locks for write units (which SQLite leaves out by itself)."""

    plain: Select[Any]
    locked: Select[Any]
    aside: bool  # of rows that are never written late


def table(row: type[SQLModel]) -> Table:
    return row.__table__  # type: ignore[attr-defined,no-any-return]


def lookup(statement: Select[Any], *, skip_locked: bool = False, aside: bool = False) -> Lookup:
    # NO KEY UPDATE: rows that refer to the locked one can still be inserted.
    return Lookup(statement, statement.with_for_update(key_share=True, skip_locked=skip_locked), aside)


def insert_once(rows: Table, *keys: str) -> TextClause:
    """An insert of all columns, but a number that the database counts, which leaves a row with the same keys alone;
    without keys, with the same of any that are unique. As text, since SQLAlchemy compiles its own ON CONFLICT anew each
    time, which takes longer than the insert."""
    columns = [column for column in rows.c if column is not rows.autoincrement_column]
    names = [column.name for column in columns]
    statement = f"INSERT INTO {rows.name} ({', '.join(names)}) VALUES ({', '.join(f':{name}' for name in names)})"
    same = f" ({', '.join(keys)})" if keys else ""
    return text(f"{statement} ON CONFLICT{same} DO NOTHING").bindparams(
        *(bindparam(each.name, type_=each.type) for each in columns)
    )


class Unit:
    """The base of SqlTx. `hinted` collects the topics to wake once the unit is committed, `calls` what is to be called
    then. `_late` writes down, in bulk, saves that were put off: before anything is asked that could miss them."""

    def __init__(self, connection: Connection, now: datetime, *, writing: bool) -> None:
        self.now = now
        self.hinted: set[str] = set()
        self.calls: list[Callable[[], object]] = []
        self._late: list[Callable[[], None]] = []
        self._connection = connection
        self._writing = writing
        self._postgres = connection.dialect.name == "postgresql"

    @property
    def connection(self) -> Connection:
        """For what is about tables and not about things: export and import."""
        return self._connection

    def _run(self, statement: Any, values: Mapping[str, Any] | Sequence[Mapping[str, Any]] | None = None) -> Any:
        if self._late:
            self._write_late()
        return self._connection.execute(statement, values)

    def _write_late(self) -> None:
        late = list(self._late)
        self._late.clear()
        for write in late:
            write()

    def _look_up(self, found: Lookup, values: Mapping[str, Any]) -> Any:
        run = self._connection.execute if found.aside else self._run
        return run(found.locked if self._writing else found.plain, values)

    def _one(self, found: Lookup, **values: Any) -> Row[Any] | None:
        return self._look_up(found, values).one_or_none()

    def _all(self, found: Lookup, **values: Any) -> Sequence[Row[Any]]:
        return self._look_up(found, values).all()

    def _total(self, matching: Select[Any]) -> tuple[int, bool]:
        """How many rows `matching` has, counted no further than the cap, and whether it was reached."""
        limited = (
            matching.with_only_columns(literal_column("1"), maintain_column_froms=True)
            .order_by(None)
            .limit(TOTAL_CAP + 1)
            .subquery()
        )
        count = self._run(select(func.count()).select_from(limited)).scalar_one()
        return min(count, TOTAL_CAP), count > TOTAL_CAP


class Saves(Generic[V]):
    """Saves of one kind of row, each over the version that was read. Rows that a unit has gathered, which is to say
    read at once, are known to it from then on, and saves of them are put off and written together.

    Args:
        name: of the kind, for messages.
        run, late: of the unit.
        update: by `at_id` and `at_version`.
        columns: of a row, those that change.
    """

    def __init__(
        self,
        run: Callable[[Any, Sequence[Mapping[str, Any]]], Any],
        late: list[Callable[[], None]],
        name: str,
        update: Update,
        columns: Callable[[V], dict[str, Any]],
    ) -> None:
        self._run, self._late = run, late
        self._name, self._update, self._columns = name, update, columns
        self.gathered: dict[str, V] = {}
        self._unsaved: dict[str, int] = {}  # of these: the version that is stored

    def gather(self, versions: Mapping[str, int], seen: Iterable[V], read: Callable[[list[str]], Iterable[V]]) -> None:
        """Makes rows known: those that were seen before where their version is still the stored one, else by `read`."""
        same = [row for row in seen if versions.get(row.id) == row.version]
        self.gathered |= {row.id: row for row in same}
        changed = sorted(versions.keys() - {row.id for row in same})
        self.gathered |= {row.id: row for row in read(changed)} if changed else {}

    def save(self, row: V) -> V:
        saved = replace(row, version=row.version + 1)
        known = self.gathered.get(row.id)
        if known is None:
            self._write([(saved, row.version)])
            return saved
        if known.version != row.version:
            raise self._stale(row.id, row.version)
        if not self._unsaved:
            self._late.append(self._write_gathered)
        self._unsaved.setdefault(row.id, row.version)
        self.gathered[row.id] = saved
        return saved

    def _write_gathered(self) -> None:
        unsaved, self._unsaved = self._unsaved, {}
        self._write([(self.gathered[ident], version) for ident, version in unsaved.items()])

    def _write(self, saves: Sequence[tuple[V, int]]) -> None:
        rows = [{**self._columns(row), "at_id": row.id, "at_version": version} for row, version in saves]
        # Of several PostgreSQL does not say how many it found: what was gathered is locked there.
        if 0 <= self._run(self._update, rows).rowcount < len(rows):
            raise self._stale(rows[0]["at_id"], rows[0]["at_version"])

    def _stale(self, ident: str, version: int) -> CyxError:
        said = f"{self._name} {ident} was changed by somebody else: read it again"
        return stale(said, id=ident, version=version)
