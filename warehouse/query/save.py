"""save: the rows of a lazy frame as a file, for whoever goes on with other tools.

The suffix names the format. Polars streams Parquet, Arrow, CSV and JSON lines; FITS, ECSV and VOTable pass through an
astropy Table, with the contract's units and descriptions, and must fit in memory. What a format has no type for is
text: moments, in these three, are ISO 8601, and a list - in CSV any, in these three one of texts - is separated by
commas.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

import polars as pl

from warehouse import outputs, storage
from warehouse.config import Settings
from warehouse.contracts.contract import Contract
from warehouse.errors import QueryError
from warehouse.query import frames
from warehouse.query.answers import answered

_STREAMED: dict[str, Callable[..., Any]] = {
    ".parquet": pl.LazyFrame.sink_parquet,
    ".arrow": pl.LazyFrame.sink_ipc,
    ".csv": pl.LazyFrame.sink_csv,
    ".jsonl": pl.LazyFrame.sink_ndjson,
}
_ASTROPY = {".fits": "fits", ".ecsv": "ascii.ecsv", ".vot": "votable"}


def save(frame: pl.LazyFrame, out: str, settings: Settings, contracts: Sequence[Contract] = ()) -> int:
    """Write the rows of `frame` to `out`, replacing what is there once all are written; return how many they are.

    Parameters
    ----------
    out
        A local path, or ``s3://`` for the formats that Polars writes.
    contracts
        Of the tables that the columns are of; where two have a column, the first one's is meant. FITS, ECSV and
        VOTable cannot do without.

    Raises
    ------
    QueryError
        A suffix that names no format, or one that needs a contract or a local path; rows that cannot be computed, or
        that the format cannot hold.
    StorageError
        The file cannot be written.
    """
    suffix = PurePosixPath(out).suffix.lower()
    if suffix in _STREAMED:
        return _stream(frame, out, suffix, settings)
    if suffix not in _ASTROPY:
        known = ", ".join((*_STREAMED, *_ASTROPY))
        raise QueryError(f"{suffix or 'no suffix'} names no format; expected one of {known}", kind="format", uri=out)
    if not contracts or storage.scheme(out) != "file":
        message = f"{suffix} holds the rows of one table, in a local file; expected one of {', '.join(_STREAMED)}"
        raise QueryError(message, kind="format", uri=out)
    with answered(out, "writing"), outputs.replacing(Path(storage.absolute(out))) as part:
        found = frame.collect()
        told = frames.to_astropy(found.with_columns(_as_text(found.schema, suffix)), _joined(contracts))
        told.write(part, format=_ASTROPY[suffix])
    return found.height


def _joined(contracts: Sequence[Contract]) -> Contract:
    """Return the first contract with the columns that only the others have."""
    columns = {column.name: column for contract in reversed(contracts) for column in contract.columns}
    return replace(contracts[0], columns=tuple(columns.values()))


def _as_text(schema: pl.Schema, suffix: str) -> list[pl.Expr]:
    """Return as text the columns for which the format has no type."""
    columns = []
    for name, dtype in schema.items():
        if isinstance(dtype, pl.Datetime) and suffix in _ASTROPY:
            columns.append(pl.col(name).dt.strftime("%Y-%m-%dT%H:%M:%S%.6f"))
        elif isinstance(dtype, pl.List) and (suffix == ".csv" or (suffix in _ASTROPY and dtype.inner == pl.String)):
            columns.append(pl.col(name).list.eval(pl.element().cast(pl.String).fill_null("")).list.join(","))
    return columns


def _stream(frame: pl.LazyFrame, out: str, suffix: str, settings: Settings) -> int:
    heights: list[int] = []

    def counted(batch: pl.DataFrame) -> pl.DataFrame:
        heights.append(batch.height)
        return batch

    with answered(out, "writing"), outputs.opened(out, settings) as file:
        rows = frame.with_columns(_as_text(frame.collect_schema(), suffix))
        _STREAMED[suffix](rows.map_batches(counted, streamable=True), file)
    return sum(heights)
