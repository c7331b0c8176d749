"""get: a dataset by Butler dataset type and data id, with the rows that the Butler's file had.

However the rows came: a detector's sources out of visits' files, a patch's objects out of a tract's. Which inputs
there were is the business of `warehouse.query.deliveries`, what a data id means that of `warehouse.query.dataid`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import polars as pl

from warehouse.contracts.contract import INPUT_ID, TRACT
from warehouse.errors import NotFoundError
from warehouse.lake import bounds
from warehouse.query import frames, pruning
from warehouse.query.answers import answered, collected
from warehouse.query.dataid import Asked, Condition, understood
from warehouse.query.deliveries import Deliveries, deliveries
from warehouse.query.scan import read
from warehouse.query.tables import Opened, Tables, Version

Format = Literal["polars", "lazy", "pandas", "astropy"]


def get(
    tables: Tables,
    dataset_type: str,
    data_id: Mapping[str, object],
    *,
    columns: Sequence[str] | None = None,
    format: Format = "polars",  # noqa: A002 - the word that astropy and pandas users write
    version: Version | None = None,
) -> Any:  # noqa: ANN401 - what it is, `format` says
    """Return the rows of one dataset, as committed: what was quarantined is not among them.

    Parameters
    ----------
    dataset_type
        A Butler dataset type that delivers a table, such as ``objectTable``.
    data_id
        A value for each dimension; further keys, such as ``band`` or ``detector``, narrow the rows where these tell.
    columns
        Columns to give, in this order; None for the release's columns of the table.
    format
        ``polars``: a DataFrame. ``lazy``: a LazyFrame, nothing read yet; it is empty where only the rows could tell
        that there is no such dataset. ``pandas``: with the key as its index, as the Butler gives it. ``astropy``: a
        Table with units and descriptions, null as masked.
    version
        A version's number, a moment, or a pinned release's name; None for now.

    Raises
    ------
    NotFoundError
        No such dataset type, column, version, or dataset; with the near misses.
    QueryError
        A key is missing or superfluous, a value of the wrong type, or the format unknown.
    """
    frames.check(format)
    root = tables.root
    asked = understood(root.contracts, root.skymap, dataset_type, data_id)
    opened = tables.open(asked.contract.table, version)
    names = opened.named(asked.contract.by_name if columns is None else columns)
    delivered = deliveries(tables, opened)
    rows = select(opened, delivered, asked, names)
    if rows is None:
        if not _exists(opened, delivered, asked):
            raise _no_dataset(opened, delivered, asked)
        rows = read(opened, opened.files.clear(), names)
    if format == "lazy":
        return rows
    frame = collected(rows, opened.snapshot.uri)
    if not frame.height and not _exists(opened, delivered, asked):
        raise _no_dataset(opened, delivered, asked)
    return frames.given(frame, asked.contract, format)


def select(opened: Opened, delivered: Deliveries, asked: Asked, columns: Sequence[str]) -> pl.LazyFrame | None:
    """Return the columns of the rows that fulfil the conditions of a data id; None where there can be none."""
    conditions, inputs = _told(delivered, asked)
    if conditions is None:
        return None
    mask = np.ones(opened.files.height, dtype=bool)
    filters = []
    if inputs is not None:
        ids = np.sort(inputs.get_column(INPUT_ID).to_numpy())
        mask &= bounds.holding(opened.files, INPUT_ID, ids)
        filters.append(pl.col(INPUT_ID).is_in(ids.tolist()))
    elif delivered.complete:
        inputs = delivered.concerned(asked)
    if inputs is not None:
        mask &= _in_their_tracts(opened, inputs)
    if asked.implied:
        filters.append(~pl.col(INPUT_ID).is_in(delivered.contradicting(asked).get_column(INPUT_ID).to_list()))
    for condition in conditions:
        mask &= _may_hold(opened, condition)
        if not _is_partition(opened, condition):
            filters.append(condition.expr())
    chosen = opened.files.filter(mask)
    needed = [*columns, *(name for expr in filters for name in expr.meta.root_names())]
    return read(opened, chosen, needed).filter(*filters).select(columns) if chosen.height else None


def _told(delivered: Deliveries, asked: Asked) -> tuple[tuple[Condition, ...] | None, pl.DataFrame | None]:
    """Return the conditions that the rows tell, and the inputs whose rows these are where the rows do not tell enough.

    Rows that tell nothing, such as a DiaSource without a DiaObject, belong to their input's dataset all the same.
    """
    dimensions = asked.dataset_type.dimensions
    unsure = [c for c in asked.conditions if c.key in dimensions and (c.packed is None or c.packed.none)]
    exact = delivered.exact(asked) if unsure else None
    if exact is not None and exact.height:
        return tuple(c for c in asked.conditions if c.key not in dimensions), exact
    if any(c.packed is None for c in unsure):
        return None, None
    return asked.conditions, None


def _is_partition(opened: Opened, condition: Condition) -> bool:
    packed = condition.packed
    return packed is not None and packed.column in opened.contract.partition_by and packed.divide == 1


def _may_hold(opened: Opened, condition: Condition) -> bounds.Mask:
    """Return which files may hold rows of a condition that the rows tell."""
    if condition.packed is not None and isinstance(condition.value, int) and _is_partition(opened, condition):
        return pruning.equal(opened, condition.packed.column, condition.value)
    span = condition.bounds()
    if span is None or condition.packed is None:
        return np.ones(opened.files.height, dtype=bool)
    return bounds.between(opened.files, condition.packed.column, *span)


def _in_their_tracts(opened: Opened, inputs: pl.DataFrame) -> bounds.Mask:
    """Return which files lie in tracts that rows of these inputs went to, as the ledger tells."""
    everywhere = np.ones(opened.files.height, dtype=bool)
    if not opened.contract.partitioned:
        return everywhere
    with_rows = inputs.filter(pl.col("rows_committed") > 0)
    tracts = with_rows.get_column("tracts").str.json_decode(pl.List(pl.Int64))
    if (tracts.list.len().fill_null(0) == 0).any():
        return everywhere
    return pruning.among(opened, TRACT, tracts.explode().unique().to_list())


def _exists(opened: Opened, delivered: Deliveries, asked: Asked) -> bool:
    """Return whether there is a dataset of these dimensions, be it that none of its rows was wanted."""
    if delivered.exact(asked).height:
        return True
    dimensions = asked.dataset_type.dimensions
    whole = replace(asked, conditions=tuple(c for c in asked.conditions if c.key in dimensions))
    rows = select(opened, delivered, whole, [INPUT_ID]) if whole != asked else None
    return rows is not None and rows.head(1).collect().height > 0


def _no_dataset(opened: Opened, delivered: Deliveries, asked: Asked) -> NotFoundError:
    known = known_ids(opened, delivered, asked)
    if known is None:
        known = _ids_beside(opened, delivered, asked)
    near = _nearest(known, asked) if known.width else ""
    return NotFoundError(f"no {asked}{f'; nearest are {near}' if near else ''}", kind="data_id", table=opened.table)


def _ids_beside(opened: Opened, delivered: Deliveries, asked: Asked) -> pl.DataFrame:
    """Return data ids beside one that there is not: all that share what inputs tell of it, such as its visit.

    Where there are none of those, what inputs tell of the others.
    """
    told = delivered.told(asked)
    shared = tuple(c for c in asked.conditions if c.key in told.columns)
    ids = ids_of_rows(opened, delivered, replace(asked, conditions=shared)) if shared else told
    return ids if ids.height else told


def ids_of_rows(opened: Opened, delivered: Deliveries, asked: Asked) -> pl.DataFrame:
    """Return the distinct data ids among the rows, with their counts."""
    wheres = asked.dataset_type.where
    dimensions = asked.dataset_type.dimensions
    empty = pl.DataFrame(schema=[*dimensions, "rows"])
    if any(key not in wheres for key in dimensions):
        return empty  # the rows cannot tell, and no input was delivered as this dataset type
    rows = select(opened, delivered, asked, list(dict.fromkeys(wheres[key].column for key in dimensions)))
    if rows is None:
        return empty
    keys = [wheres[key].expr().alias(key) for key in dimensions]
    counted = rows.group_by(keys).agg(pl.len().alias("rows")).drop_nulls()
    with answered(opened.snapshot.uri):
        return counted.collect(engine="streaming")


def known_ids(opened: Opened, delivered: Deliveries, asked: Asked) -> pl.DataFrame | None:
    """Return the data ids of a dataset type with their rows, from log and ledger; None where these do not tell."""
    dimensions = asked.dataset_type.dimensions
    wheres = [asked.dataset_type.where.get(key) for key in dimensions]
    partition = opened.contract.partition_by
    if dimensions and all(w is not None and w.column in partition and w.divide == 1 for w in wheres):
        keys = [pl.col(w.column).alias(key) for key, w in zip(dimensions, wheres, strict=True) if w is not None]
        return opened.files.group_by(keys).agg(pl.col("num_records").sum().alias("rows"))
    return delivered.data_ids(asked)


def _nearest(known: pl.DataFrame, asked: Asked, limit: int = 3) -> str:
    """Return the data ids that are most like the one asked for, in words.

    It is not among them: rows that have it came otherwise than as this dataset type.
    """
    wanted = [c for c in asked.conditions if c.key in known.columns]
    other = [pl.col(c.key) != c.value for c in wanted]
    if all(c in wanted for c in asked.conditions):
        known = known.filter(pl.any_horizontal(other))
    away = [(pl.col(c.key) - c.value).abs() for c in wanted if isinstance(c.value, int)]
    nearest = known.sort(pl.sum_horizontal(other), *away).head(limit).drop("rows", strict=False)
    return "; ".join(" ".join(f"{k}={v}" for k, v in row.items()) for row in nearest.iter_rows(named=True))
