"""The tables as a reader sees them: opened once, kept, and renewed when their logs have grown.

Here belongs which version of a table a question is put to, and what is known of its files before any of them is
opened. Which files a question needs is the business of `warehouse.query.pruning`, reading them that of
`warehouse.query.scan`.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from threading import Lock
from typing import Any, TypeVar

import polars as pl

from warehouse.config import Settings
from warehouse.contracts.contract import PATCH, TRACT, Contract
from warehouse.errors import NotFoundError, QueryError, near_misses
from warehouse.lake import delta, ledger, pins
from warehouse.lake.delta import Snapshot
from warehouse.lake.ledger import LEDGER
from warehouse.lake.pins import Pin
from warehouse.lake.root import Root
from warehouse.sky.skymap import SkyMap

Version = int | str | datetime
"""A table's version: its number, the name of a pinned release, or a moment (UTC where it names no zone)."""

T = TypeVar("T")
_KEPT_VERSIONS = 32


@dataclass(frozen=True)
class Opened:
    """A table as of one version, with what its log tells of each file. Never changes, safe to share."""

    contract: Contract
    snapshot: Snapshot
    sky: SkyMap
    settings: Settings
    _once: dict[str, tuple[object, Any]] = field(default_factory=dict, init=False, repr=False, compare=False)

    @property
    def table(self) -> str:
        """The table's name."""
        return self.contract.table

    @cached_property
    def files(self) -> pl.DataFrame:
        """`Snapshot.files` with a column ``uri``, in the order in which files are read: by tract, patch and path."""
        files = self.snapshot.files
        uri = pl.lit(f"{self.snapshot.uri.rstrip('/')}/") + pl.col("path")
        by = [name for name in (TRACT, PATCH) if name in files.columns]
        return files.with_columns(uri=uri).sort(*by, "path")

    @cached_property
    def schema(self) -> pl.Schema:
        """The table's columns, in the order of its contract."""
        return pl.Schema(self.snapshot.schema)

    @cached_property
    def rows(self) -> int | None:
        """Rows of the table as its log counts them, None where a file's count is not told."""
        counts = self.files.get_column("num_records")
        return None if counts.null_count() else int(counts.sum())

    def once(self, what: str, make: Callable[[], T], *, of: object = None) -> T:
        """Return what `make` makes of this version and of the object `of`: made once, and kept with the version."""
        kept = self._once.get(what)
        if kept is None or kept[0] is not of:
            self._once[what] = kept = of, make()
        made: T = kept[1]
        return made

    def named(self, columns: Iterable[str]) -> list[str]:
        """Return the columns' names as a list.

        Raises
        ------
        QueryError
            No list of names, an empty one, or one that names a column twice.
        NotFoundError
            No such column; with the near misses.
        """
        names = [columns] if isinstance(columns, str) else list(columns)
        if isinstance(columns, str) or not names or not all(isinstance(name, str) for name in names):
            message = f"expected a list of columns' names, found {columns if isinstance(columns, str) else names!r}"
            raise QueryError(message, kind="columns", table=self.table)
        for name in names:
            if name not in self.schema:
                message = f"no column {name!r}; {near_misses(name, self.schema)}"
                raise NotFoundError(message, kind="column", table=self.table)
        if len(set(names)) < len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise QueryError(f"the column {twice} is named twice", kind="columns", table=self.table)
        return names

    def position(self) -> tuple[str, str]:
        """Return the names of the RA and Dec columns (QueryError where the table has none)."""
        if self.contract.position is None:
            through = self.contract.through
            hint = f"; its rows lie where those of {through.table} lie: join on {through.column}" if through else ""
            raise QueryError(f"the table has no position{hint}", kind="region", table=self.table)
        return self.contract.position


class Tables:
    """A warehouse's tables, each opened when it is first asked for.

    Promises: without a pin, every answer is of the newest version at the time of asking, and looking for a newer one
    costs one small request to the store; with a pin, all answers are of the pinned versions, whatever is committed
    meanwhile. Safe to use from several threads.

    Parameters
    ----------
    pin
        The name of a pinned release to read everything as of.
    more
        Contracts of tables that the release does not publish, by name.

    Raises
    ------
    NotFoundError
        No such pin.
    """

    def __init__(
        self, root: Root, settings: Settings, *, pin: str | None = None, more: Mapping[str, Contract] | None = None
    ) -> None:
        self.root = root
        self.settings = settings
        self.more = dict(more or {})
        self.pin = pins.read(root, pin, settings) if pin is not None else None
        self._newest: dict[str, Snapshot] = {}
        self._kept: OrderedDict[tuple[str, int], Opened] = OrderedDict()
        self._ledgers: dict[str, tuple[int, pl.DataFrame]] = {}
        self._lock = Lock()
        self._locks: dict[str, Lock] = {}

    @cached_property
    def contracts(self) -> Mapping[str, Contract]:
        """The contracts of all tables that can be asked for, by name."""
        return {**self.root.contracts.every, **self.more}

    def contract(self, table: str) -> Contract:
        """Return a table's contract (NotFoundError names the near misses)."""
        try:
            return self.contracts[table]
        except KeyError:
            hint = near_misses(table, self.contracts)
            raise NotFoundError(f"no table {table!r}; {hint}", kind="table", uri=self.root.uri) from None

    def open(self, table: str, version: Version | None = None) -> Opened:
        """Return a table as of `version`; None is now, or the pinned version.

        Raises
        ------
        NotFoundError
            No such table, nothing loaded into it, or no such version or pin.
        QueryError
            What is no version.
        StorageError
            The store does not answer.
        """
        contract = self.contract(table)
        if isinstance(version, bool) or not isinstance(version, int | str | datetime | None):
            message = f"expected a version's number, a moment or the name of a pinned release, found {version!r}"
            raise QueryError(message, kind="version", table=table)
        if version is None and self.pin is not None:
            version = self._pinned(contract.table, self.pin)
        elif isinstance(version, str):
            version = self._pinned(contract.table, pins.read(self.root, version, self.settings))
        if isinstance(version, datetime) and version.tzinfo is None:
            version = version.replace(tzinfo=UTC)
        try:
            return self._at(contract, version)
        except NotFoundError as error:
            if error.kind != "table":
                raise
            message = "nothing has been loaded into this table"
            raise NotFoundError(message, kind="table", table=table, uri=self.root.uri) from error

    def loaded(self, table: str, version: Version | None = None) -> Opened | None:
        """Return a table, or None where nothing has been loaded into it."""
        self.contract(table)
        try:
            return self.open(table, version)
        except NotFoundError as error:
            if error.kind == "table":
                return None
            raise

    def ledger(self, table: str, until: int) -> pl.DataFrame:
        """Return the ledger's rows of a table's versions, at least those up to `until` that have been recorded.

        Read again only when the ledger has grown, and not even looked at where the rows of `until` itself are known:
        a version's are recorded in one commit.
        """
        with self._lock:
            kept = self._ledgers.get(table)
        if kept is not None and (kept[1]["version"] >= until).any():
            return kept[1]
        try:
            version = self._renewed(LEDGER).version
        except NotFoundError:
            version = -1
        if kept is not None and kept[0] == version:
            return kept[1]
        rows = ledger.read(self.root.uri, LEDGER, table, self.settings)
        with self._lock:
            self._ledgers[table] = version, rows
        return rows

    def _pinned(self, table: str, pin: Pin) -> int:
        if table not in pin.versions:
            message = f"nothing was loaded into this table when {pin.name!r} was pinned"
            raise NotFoundError(message, kind="table", table=table, uri=self.root.uri)
        return pin.versions[table]

    def _at(self, contract: Contract, version: int | datetime | None) -> Opened:
        """Return a version of a table; the last few are kept, because a version never changes."""
        table = contract.table
        if isinstance(version, int):
            with self._lock:
                kept = self._kept.get((table, version))
            if kept is not None:
                return kept
        snapshot = (
            self._renewed(table)
            if version is None
            else delta.snapshot(self.root.table_uri(table), self.settings, version)
        )
        with self._lock:
            opened = self._kept.pop((table, snapshot.version), None)
            opened = opened or Opened(contract, snapshot, self.root.sky, self.settings)
            self._kept[table, snapshot.version] = opened
            while len(self._kept) > _KEPT_VERSIONS:
                self._kept.popitem(last=False)
        return opened

    def _renewed(self, name: str) -> Snapshot:
        """Return the newest version: the one that is kept, where the log holds none after it."""
        with self._lock:
            lock = self._locks.setdefault(name, Lock())
        with lock:
            kept = self._newest.get(name)
            uri = self.root.table_uri(name)
            snapshot = delta.snapshot(uri, self.settings) if kept is None else delta.advanced(kept, self.settings)
            self._newest[name] = snapshot
            # What the log tells of this version is taken down now, because its table object moves on with the log.
            _ = snapshot.files, snapshot.schema
        return snapshot
