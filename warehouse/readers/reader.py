"""The one-method protocol that every file format implements, and the record of an input.

A format is one module beside this one; `warehouse.readers` registers it once. Nothing here knows a table.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import polars as pl
import pyarrow as pa

from warehouse.config import Settings
from warehouse.contracts.contract import Contract


@dataclass(frozen=True, slots=True)
class Input:
    """A file to ingest, as it was when it was listed.

    Attributes
    ----------
    uri
        Absolute: ``s3://bucket/key`` or a local path without a scheme.
    size
        Bytes.
    stamp
        Tells whether the file is still the listed one: the ETag on S3, size and mtime in ns on a local disk.
    dataset_type, data_id, run
        As the Butler or the path tells; the run is the RUN collection that wrote the file.
    hdu
        Number or name of the HDU that holds the rows, as it was asked for; None leaves it to the reader.
    """

    uri: str
    size: int
    stamp: str
    dataset_type: str | None = None
    data_id: Mapping[str, int | str] = field(default_factory=dict)
    run: str | None = None
    hdu: str | None = None


class OpenedInput(Protocol):
    """A file whose header has been read and whose rows have not.

    `schema` names the columns as the file has them, pandas index columns included under their name (an
    unnamed index is called ``__index_level_0__``); a field's metadata holds ``unit`` where the file tells it.
    """

    @property
    def schema(self) -> pa.Schema:
        """The columns as the file has them."""
        ...

    @property
    def rows(self) -> int:
        """Rows that the header promises."""
        ...

    @property
    def index(self) -> tuple[str, ...]:
        """Columns that are the pandas index."""
        ...

    def batches(self, columns: Sequence[str], memory: int) -> Iterator[pl.DataFrame]:
        """Yield the rows in file order, `columns` only and in that order, never holding more than `memory` bytes.

        Raises
        ------
        InputError
            The bytes are not what the header says.
        StorageError
            The store does not answer.
        """
        ...


class Reader(Protocol):
    """A file format."""

    def open(self, uri: str, settings: Settings, contract: Contract | None = None) -> OpenedInput:
        """Read the header of `uri`; a format whose files hold several tables takes the one that fits `contract`.

        Raises
        ------
        InputError
            No such file, or not a file of this format, or truncated.
        StorageError
            The store does not answer.
        """
        ...
