"""The rows of a table's live files as a lazy frame: the one place that knows how our files are read back.

Which files, and which of their rows, is the business of whoever asks; here belongs that files of earlier versions may
lack a column that has come since, and that partition columns stand in the log and not in the files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from inspect import signature
from typing import Any

import polars as pl

from warehouse import storage
from warehouse.config import Settings

# Made for Polars' own reader of Iceberg, and not published: with it a count opens no file. A Polars that does not take
# it gives the same answers without. (Its `_source_sizes` saves nothing, because a footer's range counts from the end.)
_ROW_COUNT = "_row_count"
_TAKEN = signature(pl.scan_parquet).parameters.keys()


def of_files(
    table_uri: str, files: pl.DataFrame, schema: pl.Schema, partition_by: Sequence[str], settings: Settings
) -> pl.LazyFrame:
    """Return the columns of `schema` of the rows of some files; nothing is opened yet, not even to know the schema.

    Parameters
    ----------
    files
        Rows of `Snapshot.files`; none of them gives an empty frame of the right columns.
    partition_by
        The table's partition columns.
    """
    if not files.height:
        return pl.LazyFrame(schema=schema)
    partition = pl.Schema({name: schema[name] for name in partition_by if name in schema})
    if not partition:
        return stored(table_uri, files.get_column("path"), schema, settings, **_told(files))
    in_file = pl.Schema({name: dtype for name, dtype in schema.items() if name not in partition})
    order = pl.col(list(schema))  # one expression: a wide table's columns cost more one by one than the rest
    if "=" not in table_uri:
        types = pl.Schema({name: schema.get(name, pl.String()) for name in partition_by})
        return stored(
            table_uri,
            files.get_column("path"),
            in_file,
            settings,
            hive_partitioning=True,
            hive_schema=types,
            **_told(files),
        ).select(order)
    # Polars would take a folder above the table, such as run=5, for a partition of it, too.
    parts = [
        stored(table_uri, part.get_column("path"), in_file, settings, **_told(part)).with_columns(
            pl.lit(value, dtype).alias(name) for (name, dtype), value in zip(partition.items(), values, strict=True)
        )
        for values, part in files.group_by(*partition, maintain_order=True)
    ]
    return pl.concat(parts).select(order)


def stored(
    table_uri: str,
    paths: Iterable[str],
    schema: pl.Schema,
    settings: Settings,
    *,
    hive_partitioning: bool = False,
    **told: Any,  # noqa: ANN401 - as Polars has them
) -> pl.LazyFrame:
    """Return the columns of `schema`, as they lie in the files at `paths` of a table; nothing is opened yet."""
    return pl.scan_parquet(
        [storage.join(table_uri, path) for path in paths],
        schema=schema,
        hive_partitioning=hive_partitioning,
        glob=False,
        missing_columns="insert",
        extra_columns="ignore",
        storage_options=storage.polars_options(table_uri, settings) or None,
        credential_provider=None,
        **told,
    )


def _told(files: pl.DataFrame) -> dict[str, Any]:
    """Return what the log tells of files, for which Polars would else read their footers."""
    rows = files.get_column("num_records")
    if rows.null_count() or _ROW_COUNT not in _TAKEN:
        return {}
    return {_ROW_COUNT: (int(rows.sum()), 0)}  # none of them deleted: the tables have no deletion vectors
