"""scan: a table, or the part of it in an area, as a LazyFrame over exactly the files that the area can touch.

The three steps, coarse to fine: the log and the sky map leave out files, Parquet statistics leave out row groups
(the region's expression begins with plain bounds), the exact expression leaves out rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import polars as pl

from warehouse.errors import QueryError
from warehouse.lake.rows import of_files
from warehouse.query import pruning
from warehouse.query.areas import Area, Patch, Place, Tract, places, rows_of
from warehouse.query.tables import Opened, Tables, Version

PRIMARY = "detect_isPrimary"

Choose = Callable[[Opened, Area | None], tuple[pl.DataFrame, pl.Expr | None]]
"""Which files an area can touch, and which of their rows are in it (None: all)."""


def scan(
    tables: Tables,
    table: str,
    region: Area | None = None,
    *,
    columns: Sequence[str] | None = None,
    version: Version | None = None,
    primary: bool = False,
    choose: Choose | None = None,
) -> pl.LazyFrame:
    """Return the rows of a table that lie in `region`; no data file is opened before it is collected.

    Parameters
    ----------
    region
        None for all; a region (degrees; great-circle exact, on the table's own position columns), a `Tract` or
        `Patch`, a tract's number, a coverage map of mocpy, or a list of those: rows that are in any of them, once.
        ``[4431, 4432]`` are two tracts; a tract's patch is ``Patch(4431, 17)``, and a tuple of numbers is refused.
    columns
        Columns to give, in this order; None for all, as the contract orders them. Of a wide table like Object a small
        region is found in half the time where they are named here rather than selected later.
    version
        A version's number, a moment, or a pinned release's name; None for now.
    primary
        Keep only the rows with ``detect_isPrimary``: of the rows that tract and patch overlaps repeat, one.
    choose
        What "in" means to the table's rows, where they are more than a position; by default `chosen_rows`.

    Raises
    ------
    NotFoundError
        No such table, column, version, tract or patch.
    QueryError
        No region, or one that the table cannot be asked for.
    """
    opened = tables.open(table, version)
    names = None if columns is None else opened.named(columns)
    chosen, rows = (choose or chosen_rows)(opened, region)
    wanted = [*([] if rows is None else [rows]), *([_primary(opened)] if primary else [])]
    if names is None:
        return read(opened, chosen).filter(*wanted)
    needed = [*names, *(name for expr in wanted for name in expr.meta.root_names())]
    return read(opened, chosen, needed).filter(*wanted).select(names)


def files(
    tables: Tables,
    table: str,
    region: Area | None = None,
    *,
    version: Version | None = None,
    choose: Choose | None = None,
) -> list[str]:
    """Return the URIs of the Parquet files that `scan` would open, for tools of one's own.

    The partition columns stand in the paths (``tract=4431/patch=17``), as Hive writes them. A file of the list may
    hold rows outside the region.
    """
    chosen, _ = (choose or chosen_rows)(tables.open(table, version), region)
    return chosen.get_column("uri").to_list()


def chosen_rows(opened: Opened, region: Area | None) -> tuple[pl.DataFrame, pl.Expr | None]:
    """Return the files that `region` can touch, and which rows of them are in it (None: all)."""
    if region is None:
        return opened.files, None
    wanted = places(region, opened)
    whole = all(isinstance(place, Tract | Patch) for place in wanted)
    return _touched(opened, wanted), None if whole else rows_of(opened, wanted)


def _touched(opened: Opened, wanted: Sequence[Place]) -> pl.DataFrame:
    return opened.files.filter(pruning.touching(opened, wanted)) if wanted else opened.files.clear()


def _primary(opened: Opened) -> pl.Expr:
    if PRIMARY not in opened.schema:
        raise QueryError(f"the table has no column {PRIMARY}, so none of its rows are primary", table=opened.table)
    return pl.col(PRIMARY)


def read(opened: Opened, chosen: pl.DataFrame, columns: Iterable[str] | None = None) -> pl.LazyFrame:
    """Return all rows of the chosen rows of `Opened.files`; nothing is opened yet.

    Who names the `columns` that are needed, each counted once, spares Polars the
    hundreds of others that a wide table has: of a small answer's time those take more than half.
    """
    schema = opened.schema if columns is None else pl.Schema({name: opened.schema[name] for name in columns})
    return of_files(opened.snapshot.uri, chosen, schema, opened.contract.partition_by, opened.settings)
