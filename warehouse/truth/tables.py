"""The tables that match and join stand on, read file by file with the columns that are wanted and no others.

Belongs here: from a table's snapshot to the files of a tract, and from files to frames. What is done with the rows does
not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import pyarrow as pa

from warehouse.config import Settings
from warehouse.contracts.contract import INPUT_ID, PATCH, TRACT, Contract
from warehouse.errors import InputError, NotFoundError
from warehouse.faults import translated
from warehouse.lake import delta
from warehouse.lake.delta import Snapshot
from warehouse.lake.root import Root
from warehouse.lake.rows import stored

Ints = npt.NDArray[np.int64]

HOW = {
    "TruthSummary": "ingest truth_summary files first",
    "Object": "ingest objectTable files first",
    "MatchesTruth": "ingest match files, or let `tractlake match` compute it",
}


@dataclass(frozen=True, slots=True)
class DataFile:
    """A live data file: its path below the table, where its rows lie, and how many rows and bytes it holds."""

    path: str
    tract: int
    patch: int
    rows: int
    size: int


@dataclass(frozen=True, slots=True)
class Slice:
    """Some files of one table, in the order in which their rows are numbered."""

    uri: str
    files: tuple[DataFile, ...]

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return sum(file.rows for file in self.files)

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def starts(self) -> Ints:
        """The number of each file's first row, and after the last file that of all rows."""
        return np.cumsum([0, *(file.rows for file in self.files)], dtype=np.int64)

    def take(self, numbers: Iterable[int]) -> Slice:
        """Return the files of these numbers, in this order."""
        return Slice(self.uri, tuple(self.files[number] for number in numbers))


def filled(root: Root, table: str, settings: Settings) -> Snapshot:
    """Return the newest version of a table that holds something.

    Raises
    ------
    NotFoundError
        It holds nothing; the message says how to fill it.
    """
    root.contract(table)
    try:
        return delta.snapshot(root.table_uri(table), settings)
    except NotFoundError as error:
        message = f"nothing has been loaded into this table; {HOW[table]}"
        raise NotFoundError(message, kind="table", table=table, uri=root.uri) from error


def by_tract(snapshot: Snapshot) -> dict[int, Slice]:
    """Return the live files of each tract, by patch and path."""
    files = snapshot.files.select("path", TRACT, PATCH, "num_records", "size_bytes").sort(TRACT, PATCH, "path")
    found: dict[int, list[DataFile]] = {}
    for row in files.iter_rows():
        found.setdefault(int(row[1]), []).append(DataFile(*row))
    return {tract: Slice(snapshot.uri, tuple(mine)) for tract, mine in found.items()}


def read(part: Slice, contract: Contract, columns: Sequence[str], settings: Settings) -> pl.DataFrame:
    """Return the columns of a slice's rows, in the slice's order; tract and patch are those of the files.

    Raises
    ------
    InputError
        A file is gone, or is not the Parquet file that it should be.
    StorageError
        The store does not answer.
    """
    # input_id is narrow and always there: its rows count where only tract and patch are asked for.
    in_file = [name for name in dict.fromkeys(columns) if name not in contract.partition_by] or [INPUT_ID]
    # No more than what is wanted: an Object has a thousand columns.
    schema = pl.Schema(pa.schema([contract.file_schema.field(name) for name in in_file]))
    if not part.files:
        # Tract and patch are no columns of a file.
        return pl.DataFrame(schema={name: schema.get(name, pl.Int64()) for name in dict.fromkeys(columns)})
    try:
        with translated(part.uri, "reading"):
            frame = stored(part.uri, (file.path for file in part.files), schema, settings).collect()
    except pl.exceptions.PolarsError as error:
        message = f"its files cannot be read: {error}"
        raise InputError(message, table=contract.table, uri=part.uri) from error
    rows = [file.rows for file in part.files]
    places = {
        name: pl.Series(name, np.repeat(np.array(values, np.int64), rows))
        for name, values in ((TRACT, [f.tract for f in part.files]), (PATCH, [f.patch for f in part.files]))
        if name in columns
    }
    return frame.with_columns(**places).select(*dict.fromkeys(columns))


def at(
    part: Slice, contract: Contract, columns: Sequence[str], numbers: Ints, settings: Settings
) -> tuple[pl.DataFrame, Ints]:
    """Return the columns of the files that hold the rows `numbers` of a slice, and where each stands in the frame."""
    starts = part.starts
    which = np.searchsorted(starts, numbers, side="right") - 1
    wanted = np.unique(which)
    chosen = part.take(wanted.tolist())
    shift = np.zeros(len(part.files) + 1, np.int64)
    shift[wanted] = chosen.starts[:-1] - starts[wanted]
    return read(chosen, contract, columns, settings), numbers + shift[which]
