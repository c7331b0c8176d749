"""What a table is: the frozen contract that readers, pipeline, lake and queries share.

Records only. Where contracts come from (the releases' published schemas and our own release files) is
`warehouse.contracts.release`. Imports pyarrow and Polars, nothing of ours but the errors.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Literal

import polars as pl
import pyarrow as pa

from warehouse.errors import NotFoundError, near_misses

Assignment = Literal["declared", "derived", "through", "none"]
Compression = Literal["zstd", "snappy"]

TRACT = "tract"
PATCH = "patch"
INPUT_ID = "input_id"


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its name and published datatype word, its Arrow type, and what TAP_SCHEMA tells of it."""

    name: str
    datatype: str
    arrow: pa.DataType
    unit: str | None = None
    ucd: str | None = None
    description: str = ""
    nullable: bool = True


@dataclass(frozen=True, slots=True)
class Packed:
    """Where a data-id value stands in the rows: ``column // divide % modulo`` (no modulo: the quotient).

    Rows where `column` is null or one of `none` tell nothing.
    """

    column: str
    divide: int = 1
    modulo: int | None = None
    none: tuple[int, ...] = ()

    def expr(self) -> pl.Expr:
        """Return the value as an int64 expression over the rows, null where a row tells nothing."""
        column = pl.col(self.column).cast(pl.Int64)
        value = column // self.divide
        if self.modulo is not None:
            value = value % self.modulo
        if self.none:
            value = pl.when(~column.is_in(self.none)).then(value)
        return value


IMPLIED = frozenset({"band", "physical_filter", "day_obs", "visit_system"})
"""What a visit implies: the Butler's own data ids have it, and it need not be given."""


@dataclass(frozen=True, slots=True)
class DatasetType:
    """A Butler dataset type that delivers a table: its data-id dimensions and where they stand in the rows.

    `dimensions` leave out what is one and the same for a whole warehouse: skymap and instrument.
    `where` has one entry for each dimension that the rows can tell; the others come from the path only.
    """

    name: str
    dimensions: tuple[str, ...]
    where: Mapping[str, Packed]

    def __hash__(self) -> int:
        return hash((self.name, self.dimensions))


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """Rows of `column` refer to `references` of `table`; null and the values of `none` refer to nothing."""

    column: str
    table: str
    references: str
    none: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SetAside:
    """Rows that the table leaves out by design: quarantined under `rule`, outside the share that fails an input.

    Either `where` (a Polars SQL predicate over the file's columns, also those that the contract ignores; null
    sets nothing aside), or `best` (the key's duplicates are set aside but for the first in the ascending order,
    nulls last, of this list of SQL expressions).
    """

    rule: str
    where: str | None = None
    best: tuple[str, ...] = ()


@dataclass(frozen=True)
class Contract:
    """A table's columns, types, units, key, position, assignment and rules, as of one release.

    Promises: `columns` are column for column the release's published schema, then the extra columns that our
    own release file names. `arrow_schema` is what lies in the Delta table: `columns`, then ``tract`` and
    ``patch`` where the release has none of its own and the table is partitioned, then ``input_id``.

    What happens to a file's values, in this order: `null_values` become null, `derive` makes a column that the
    file lacks (Polars SQL over the file's columns), `set_aside` sets rows aside, `ignore` names columns of the
    file that are known to be no part of the table.

    `Column.nullable` is what the release publishes; the table itself refuses nulls in `required` columns only,
    because published files keep to the rest less strictly than the published schema.

    `compression` is that of its data files: docs/design/004-file-layout.md.

    Pickles (it crosses process borders) and hashes.
    """

    release: str
    table: str
    description: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    position: tuple[str, str] | None
    assignment: Assignment
    through: ForeignKey | None = None
    dataset_types: tuple[DatasetType, ...] = ()
    generated: bool = False
    foreign_keys: tuple[ForeignKey, ...] = ()
    set_aside: tuple[SetAside, ...] = ()
    cluster_by: tuple[str, ...] = ()
    statistics: tuple[str, ...] = ()
    null_values: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    derive: Mapping[str, str] = field(default_factory=dict)
    ignore: tuple[str, ...] = ()
    time: str | None = None
    compression: Compression = "zstd"

    def __hash__(self) -> int:
        return hash((self.release, self.table))

    def __getstate__(self) -> dict[str, Any]:
        # What is computed from the fields need not travel to another process.
        return {f.name: self.__dict__[f.name] for f in fields(self)}

    @cached_property
    def digest(self) -> str:
        """A short hash of everything that decides what a file becomes; layout and descriptions are no part of it."""
        parts = (
            [(c.name, str(c.arrow), c.unit) for c in self.columns],
            (self.release, self.table, self.key, self.position, self.assignment),
            self.through and (self.through.column, self.through.table, self.through.references),
            sorted(self.null_values.items()),
            sorted(self.derive.items()),
            [(s.rule, s.where, s.best) for s in self.set_aside],
            sorted(self.ignore),
        )
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:16]

    @property
    def partitioned(self) -> bool:
        """Whether the table is partitioned by tract and patch."""
        return self.assignment != "none"

    @cached_property
    def by_name(self) -> Mapping[str, Column]:
        """The columns by name."""
        return {c.name: c for c in self.columns}

    @cached_property
    def required(self) -> frozenset[str]:
        """Names of the columns that a file must have, unless the contract derives them."""
        names = set(self.key) | set(self.position or ())
        if self.assignment == "declared":
            names |= {TRACT, PATCH}
        if self.through is not None:
            names.add(self.through.column)
        return frozenset(names)

    @cached_property
    def arrow_schema(self) -> pa.Schema:
        """What lies in the Delta table, in the order of its schema; required columns are not nullable."""
        schema = []
        for column in self.columns:
            metadata = {"unit": column.unit, "ucd": column.ucd, "description": column.description}
            schema.append(
                pa.field(
                    column.name,
                    column.arrow,
                    nullable=column.name not in self.required,
                    metadata={k: v for k, v in metadata.items() if v},
                )
            )
        if self.partitioned:
            schema += [
                pa.field(name, pa.int64(), nullable=False) for name in (TRACT, PATCH) if name not in self.by_name
            ]
        schema.append(pa.field(INPUT_ID, pa.int64(), nullable=False))
        return pa.schema(schema)

    @cached_property
    def file_schema(self) -> pa.Schema:
        """What a staged Parquet file holds: `arrow_schema` without partition columns, statistics columns first.

        The statistics columns stand first because Delta's default reads statistics of leading columns only.
        """
        partition = set(self.partition_by)
        names = [n for n in self.arrow_schema.names if n not in partition]
        first = [n for n in self.statistics if n in names]
        return pa.schema([self.arrow_schema.field(n) for n in [*first, *(n for n in names if n not in first)]])

    @cached_property
    def row_bytes(self) -> int:
        """About how many bytes a row holds in memory; a text counts as 16."""
        bits = 0
        for datatype in self.arrow_schema.types:
            try:
                bits += datatype.bit_width
            except ValueError:
                bits += 8 * 16
        return max(1, bits // 8)

    @property
    def partition_by(self) -> tuple[str, ...]:
        """The Delta partition columns."""
        return (TRACT, PATCH) if self.partitioned else ()

    def column(self, name: str) -> Column:
        """Return the column called `name`.

        Raises
        ------
        NotFoundError
            No such column; the message names the near misses.
        """
        try:
            return self.by_name[name]
        except KeyError:
            hint = near_misses(name, self.by_name)
            raise NotFoundError(f"no column {name!r}; {hint}", kind="column", table=self.table) from None

    def dataset_type(self, name: str) -> DatasetType:
        """Return the dataset type called `name` that delivers this table (NotFoundError otherwise)."""
        for dataset_type in self.dataset_types:
            if dataset_type.name == name:
                return dataset_type
        hint = near_misses(name, [d.name for d in self.dataset_types])
        raise NotFoundError(f"no dataset type {name!r}; {hint}", kind="dataset_type", table=self.table)
