"""scan: a table, or the part of it in an area, as a LazyFrame over exactly the files that the area can touch.

The three steps, coarse to fine: the log and the sky map leave out files, Parquet statistics leave out row groups
(the region's expression begins with plain bounds), the exact expression leaves out rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from warehouse import storage
from warehouse.errors import QueryError
from warehouse.query import pruning
from warehouse.query.areas import Area, Patch, Tract, places, rows_of
from warehouse.query.tables import Opened, Tables, Version

PRIMARY = "detect_isPrimary"


def scan(
    tables: Tables,
    table: str,
    region: Area | None = None,
    *,
    columns: Sequence[str] | None = None,
    version: Version | None = None,
    primary: bool = False,
) -> pl.LazyFrame:
    """Return the rows of a table that lie in `region`; no data file is opened before it is collected.

    Parameters
    ----------
    region
        None for all; a region (degrees; great-circle exact, on the table's own position columns), a `Tract` or
        `Patch`, a tract's number, a coverage map of mocpy, or a list of those: rows that are in any of them, once.
    columns
        Columns to give, in this order; None for all, as the contract orders them.
    version
        A version's number, a moment, or a pinned release's name; None for now.
    primary
        Keep only the rows with ``detect_isPrimary``: of the rows that tract and patch overlaps repeat, one.

    Raises
    ------
    NotFoundError
        No such table, column, version, tract or patch.
    QueryError
        No region, or one that the table cannot be asked for.
    """
    opened = tables.open(table, version)
    if columns is not None:
        opened.check(*columns)
    chosen, rows = chosen_rows(opened, region)
    frame = read(opened, chosen)
    if rows is not None:
        frame = frame.filter(rows)
    if primary:
        frame = frame.filter(_primary(opened))
    return frame if columns is None else frame.select(columns)


def files(tables: Tables, table: str, region: Area | None = None, *, version: Version | None = None) -> list[str]:
    """Return the URIs of the Parquet files that `scan` would open, for tools of one's own.

    The partition columns stand in the paths (``tract=4431/patch=17``), as Hive writes them. A file of the list may
    hold rows outside the region.
    """
    found, _ = chosen_rows(tables.open(table, version), region)
    return found.get_column("uri").to_list()


def chosen_rows(opened: Opened, region: Area | None) -> tuple[pl.DataFrame, pl.Expr | None]:
    """Return the files that `region` can touch, and which rows of them are in it (None: all)."""
    if region is None:
        return opened.files, None
    wanted = places(region, opened)
    if not wanted:
        return opened.files.clear(), None
    chosen = opened.files.filter(pruning.touching(opened, wanted))
    whole = all(isinstance(place, Tract | Patch) for place in wanted)
    return chosen, None if whole else rows_of(opened, wanted)


def _primary(opened: Opened) -> pl.Expr:
    if PRIMARY not in opened.schema:
        raise QueryError(f"the table has no column {PRIMARY}, so none of its rows are primary", table=opened.table)
    return pl.col(PRIMARY)


def read(opened: Opened, chosen: pl.DataFrame) -> pl.LazyFrame:
    """Return all rows of the chosen rows of `Opened.files`, with all columns; nothing is opened yet.

    The schema comes from the table's log, so that no footer need be read to know it, and an empty list of files is
    an empty frame of the right columns.
    """
    order = pl.col(list(opened.schema))  # one expression: a wide table's columns cost more one by one than the rest
    if not chosen.height:
        return opened.empty
    partition_by = opened.contract.partition_by
    if not partition_by:
        return _parquet(opened, chosen).select(order)
    if "=" not in opened.snapshot.uri:
        return _parquet(opened, chosen, hive=True).select(order)
    # Polars would take a folder above the table, such as run=5, for a partition of it, too.
    parts = [
        _parquet(opened, part).with_columns(
            pl.lit(value, opened.schema[name]).alias(name) for name, value in zip(partition_by, values, strict=True)
        )
        for values, part in chosen.group_by(*partition_by, maintain_order=True)
    ]
    return pl.concat(parts).select(order)


def _parquet(opened: Opened, chosen: pl.DataFrame, *, hive: bool = False) -> pl.LazyFrame:
    partition = {name: opened.schema[name] for name in opened.contract.partition_by}
    return pl.scan_parquet(
        chosen.get_column("uri").to_list(),
        schema=opened.file_schema,
        hive_partitioning=hive,
        hive_schema=partition if hive else None,
        glob=False,
        missing_columns="insert",
        extra_columns="ignore",
        storage_options=storage.polars_options(opened.snapshot.uri, opened.settings) or None,
        credential_provider=None,
    )
