"""Places: where the rows lie that an input refers to, for tables assigned through another one."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import PATCH, TRACT, Contract, ForeignKey
from warehouse.errors import NotFoundError
from warehouse.lake import delta
from warehouse.lake.root import Root
from warehouse.readers.reader import Input


def places_of(
    root: Root, contract: Contract, frame: pl.DataFrame, item: Input, settings: Settings
) -> pl.DataFrame | None:
    """Return key, tract and patch of the rows that `frame` refers to; None for tables assigned in another way.

    The tract that the input's data id names is looked at first, with its neighbours, and the rest of the sky only for
    references that are not found there.
    """
    through = contract.through
    if through is None:
        return None
    wanted = frame.select(pl.col(through.column).alias(through.references)).drop_nulls().unique()
    try:
        files = delta.snapshot(root.table_uri(through.table), settings).files
    except NotFoundError:
        return pl.DataFrame(schema={through.references: wanted.dtypes[0], TRACT: pl.Int64, PATCH: pl.Int64})
    near = _near(root, item)
    first = files.filter(pl.col(TRACT).is_in(near)) if near else files
    found = _find(root, through, first, wanted, settings)
    left = wanted.join(found, on=through.references, how="anti")
    if near and left.height:
        rest = files.filter(~pl.col(TRACT).is_in(near))
        found = pl.concat([found, _find(root, through, rest, left, settings)])
    return found


def _near(root: Root, item: Input) -> Sequence[int]:
    tract = item.data_id.get("tract")
    return [int(t) for t in root.sky.neighbours(int(tract))] if tract is not None else []


def _find(
    root: Root, through: ForeignKey, files: pl.DataFrame, wanted: pl.DataFrame, settings: Settings
) -> pl.DataFrame:
    """Return the places of `wanted` among `files`, a file at a time: the keys of a whole table need not fit."""
    uri = root.table_uri(through.table)
    options = storage.polars_options(uri, settings) or None
    schema = pl.Schema({through.references: wanted.dtypes[0], TRACT: pl.Int64(), PATCH: pl.Int64()})
    found = [pl.DataFrame(schema=schema)]
    for path, tract, patch in files.select("path", TRACT, PATCH).iter_rows():
        keys = pl.read_parquet(
            storage.join(uri, path), columns=[through.references], storage_options=options, hive_partitioning=False
        )
        here = keys.join(wanted, on=through.references, how="semi")
        found.append(here.with_columns(pl.lit(tract, pl.Int64).alias(TRACT), pl.lit(patch, pl.Int64).alias(PATCH)))
    return pl.concat(found)
