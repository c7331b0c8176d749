"""Staged Parquet files: written under a table's folder, sorted and encoded for it, read back before they count.

A hand-made add action is believed without a check, so the check is ours: the footer of each staged file is read
again and held against the contract, and the log's statistics come from that footer, not from memory.
Encodings and row-group size were chosen by measuring: docs/design/004-file-layout.md.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import Compression, Contract
from warehouse.errors import InputError, StorageError
from warehouse.faults import translated
from warehouse.lake import layout
from warehouse.lake.delta import StagedFile

ROW_GROUP_ROWS = 16_384
COMPRESSION_LEVEL = 1


def file_name() -> str:
    """Return a file name that no other writer will choose."""
    return f"{uuid.uuid4().hex}.parquet"


def write(
    frame: pl.DataFrame,
    table_uri: str,
    settings: Settings,
    *,
    schema: pa.Schema,
    statistics: Sequence[str],
    partition: Mapping[str, int | str] | None = None,
    row_group_rows: int = ROW_GROUP_ROWS,
    compression: Compression = "zstd",
) -> StagedFile:
    """Write `frame`, whose columns are those of `schema` in that order, as one staged file, and check what was written.

    Raises
    ------
    StorageError
        The store refuses the write (full, read-only, unreachable), or gives back something else.
    """
    folders = [f"{name}={value}" for name, value in (partition or {}).items()]
    path = "/".join([*folders, file_name()])
    uri = storage.join(table_uri, path)
    with translated(uri, "writing"):
        frame.write_parquet(
            uri,
            compression=compression,
            compression_level=COMPRESSION_LEVEL if compression == "zstd" else None,
            row_group_size=row_group_rows,
            mkdir=storage.scheme(uri) == "file",
            storage_options=storage.polars_options(uri, settings) or None,
            credential_provider=None,
        )
    return verify(uri, path, settings, schema=schema, rows=frame.height, statistics=statistics, partition=partition)


def write_rows(
    frame: pl.DataFrame,
    contract: Contract,
    table_uri: str,
    settings: Settings,
    partition: layout.Partition = (),
) -> StagedFile:
    """Write rows of one partition as one staged file, with the columns and statistics of their contract."""
    return write(
        frame.select(contract.file_schema.names),
        table_uri,
        settings,
        schema=contract.file_schema,
        statistics=contract.statistics,
        partition=layout.partition_values(partition),
        compression=contract.compression,
    )


def verify(
    uri: str,
    path: str,
    settings: Settings,
    *,
    schema: pa.Schema,
    rows: int,
    statistics: Sequence[str],
    partition: Mapping[str, int | str] | None = None,
) -> StagedFile:
    """Read the footer of a staged file again and return its record (StorageError where it is not what was written)."""
    try:
        footer, size = _footer(uri, settings)
    except (InputError, pa.ArrowInvalid) as error:
        raise StorageError(f"a staged file cannot be read back: {error}", kind="staged", uri=uri) from error
    found = footer.schema.to_arrow_schema()
    if footer.num_rows != rows or not _same_types(found, schema):
        message = f"a staged file does not read back as written: {rows} rows expected, {footer.num_rows} found"
        raise StorageError(f"{message}; {_difference(found, schema)}", kind="staged", uri=uri)
    minimum, maximum, nulls = _statistics(footer, statistics)
    return StagedFile(path, size, rows, dict(partition or {}), minimum, maximum, nulls)


def _footer(uri: str, settings: Settings) -> tuple[pq.FileMetaData, int]:
    filesystem, path = storage.filesystem(uri, settings)
    with translated(uri, "reading"), filesystem.open(path, "rb") as handle:
        return pq.read_metadata(handle), int(filesystem.size(path))


def _plain(datatype: pa.DataType) -> pa.DataType:
    """Return the type without the difference between Arrow's layouts of one and the same values."""
    if pa.types.is_large_string(datatype) or pa.types.is_string_view(datatype):
        return pa.string()
    if pa.types.is_large_binary(datatype) or pa.types.is_binary_view(datatype):
        return pa.binary()
    if pa.types.is_large_list(datatype):
        return pa.list_(_plain(datatype.value_type))
    return datatype


def _same_types(found: pa.Schema, expected: pa.Schema) -> bool:
    return found.names == expected.names and all(
        _plain(a) == _plain(b) for a, b in zip(found.types, expected.types, strict=True)
    )


def _difference(found: pa.Schema, expected: pa.Schema) -> str:
    have = {f.name: _plain(f.type) for f in found}
    want = {f.name: _plain(f.type) for f in expected}
    odd = [f"{n}: {want.get(n)} expected, {have.get(n)} found" for n in {**want, **have} if want.get(n) != have.get(n)]
    return "; ".join(odd[:5]) or "the same columns"


def _statistics(footer: pq.FileMetaData, names: Iterable[str]) -> tuple[dict[str, Any], dict[str, Any], dict[str, int]]:
    minimum: dict[str, Any] = {}
    maximum: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    position = {footer.schema.column(i).name: i for i in range(footer.num_columns)}
    for name in names:
        if name not in position:
            continue
        groups = [footer.row_group(g).column(position[name]).statistics for g in range(footer.num_row_groups)]
        if not groups or any(s is None or not s.has_null_count for s in groups):
            continue
        nulls[name] = sum(s.null_count for s in groups)
        bounded = [s for s in groups if s.has_min_max]
        if bounded:
            minimum[name] = _logged(min(s.min for s in bounded))
            maximum[name] = _logged(max(s.max for s in bounded))
    return minimum, maximum, nulls


def _logged(value: Any) -> Any:  # noqa: ANN401 - a statistic has the type of its column
    """Return a statistic as the Delta log spells it: JSON numbers, strings, and moments in ISO 8601."""
    return value.isoformat() if hasattr(value, "isoformat") else value
