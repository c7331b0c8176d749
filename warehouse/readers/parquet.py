"""Parquet in: footers checked before a row is read, rows in batches that stay within a stated memory.

Rows come through Polars' own reader, whole row groups at a time where they fit. A row group that does not fit - DP0.2
keeps a whole tract of 991 columns in one - is read by blocks of columns, which are put together in memory or, when even
the decoded rows are too many, through scratch files. Polars can also slice within a row group, but then it loads the
whole row group's bytes first whenever the file is not in the page cache. Knows no table and no contract.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from pathlib import Path

import polars as pl
import polars.selectors as cs
import pyarrow as pa
import pyarrow.parquet as pq

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import Contract
from warehouse.errors import InputError
from warehouse.faults import translated, translation

_MAGIC = b"PAR1"
# Holds the footer of a table of 991 columns and one row group, so that S3 is asked once.
_TAIL_BYTES = 256 << 10
# What a decoded value takes in memory; a string or binary takes a view, and its bytes besides.
_VALUE_BYTES = {"BOOLEAN": 0.125, "INT32": 4, "FLOAT": 4, "INT64": 8, "DOUBLE": 8, "INT96": 8, "BYTE_ARRAY": 16}
# Blocks are this part of the memory: the bytes as stored, as decoded, and as written to scratch lie side by side.
_BLOCK_SHARE = 4
_STREAM_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class _Extent:
    """What some columns of some rows take: bytes in the file and bytes in memory."""

    stored: int
    decoded: int

    def __add__(self, other: _Extent) -> _Extent:
        return _Extent(self.stored + other.stored, self.decoded + other.decoded)

    @property
    def peak(self) -> int:
        """Bytes resident while they are read: the stored bytes are dropped only when all are decoded."""
        return self.stored + self.decoded


_NOTHING = _Extent(0, 0)


@dataclass(frozen=True)
class ParquetInput:
    """A Parquet file whose footer has been read; see `warehouse.readers.reader.OpenedInput`."""

    uri: str
    settings: Settings
    schema: pa.Schema
    metadata: pq.FileMetaData

    @property
    def rows(self) -> int:
        """Rows that the footer promises."""
        return int(self.metadata.num_rows)

    @cached_property
    def index(self) -> tuple[str, ...]:
        """Columns that are the pandas index; a RangeIndex is no column."""
        described = (self.schema.metadata or {}).get(b"pandas")
        if described is None:
            return ()
        try:
            names = json.loads(described).get("index_columns", [])
        except (ValueError, AttributeError):
            return ()
        return tuple(name for name in names if isinstance(name, str) and name in self.schema.names)

    def batches(self, columns: Sequence[str], memory: int) -> Iterator[pl.DataFrame]:
        """Yield the rows in file order, `columns` only and in that order, within `memory` bytes.

        Raises
        ------
        InputError
            The bytes are not what the footer says (kind ``corrupt``), or the file is gone (``vanished``).
        StorageError
            The store does not answer, or scratch space is used up.
        """
        groups = [self._extents(group, columns) for group in range(self.metadata.num_row_groups)]
        starts = [0, *accumulate(self.metadata.row_group(g).num_rows for g in range(len(groups)))]
        totals = [sum(extents.values(), _NOTHING) for extents in groups]
        if len(groups) > 1 and sum(total.peak for total in totals) > memory:
            # The consumer still holds one batch while the next is read.
            memory //= 2
        for first, last in _runs([total.peak for total in totals], memory):
            start, rows = starts[first], starts[last] - starts[first]
            if rows == 0:
                continue
            if last - first > 1 or totals[first].peak <= memory:
                yield self._read(columns, start, rows)
            else:
                yield from self._by_blocks(first, groups[first], start, rows, memory)

    def _extents(self, group: int, columns: Sequence[str]) -> dict[str, _Extent]:
        """Return what each of `columns` takes in a row group, in the order of `columns`."""
        row_group = self.metadata.row_group(group)
        extents = dict.fromkeys(columns, _NOTHING)
        for leaf, name in enumerate(self._leaves):
            if name in extents:
                chunk = row_group.column(leaf)
                width = _VALUE_BYTES.get(chunk.physical_type)
                decoded = chunk.total_uncompressed_size if width is None else int(chunk.num_values * width)
                if chunk.physical_type == "BYTE_ARRAY":
                    decoded += chunk.total_uncompressed_size
                extents[name] += _Extent(chunk.total_compressed_size, decoded)
        return extents

    @cached_property
    def _leaves(self) -> list[str]:
        """The column that each of the file's leaves belongs to; names may hold dots, so paths do not tell."""
        return [field.name for field in self.schema for _ in range(_leaf_count(field.type))]

    def _scan(self) -> pl.LazyFrame:
        return pl.scan_parquet(
            self.uri,
            glob=False,
            hive_partitioning=False,
            cache=False,
            credential_provider=None,
            storage_options=storage.polars_options(self.uri, self.settings) or None,
        )

    def _read(self, columns: Sequence[str], start: int, rows: int) -> pl.DataFrame:
        """Return `rows` rows from `start`, read by Polars."""
        with self._reading():
            frame = self._scan().select(cs.by_name(*columns)).slice(start, rows).collect()
        if frame.height != rows:
            raise self.corrupt(f"the footer promises {rows} rows from row {start}, {frame.height} came")
        return frame

    def _by_blocks(
        self, group: int, extents: Mapping[str, _Extent], start: int, rows: int, memory: int
    ) -> Iterator[pl.DataFrame]:
        """Yield the rows of one row group that does not fit, reading a block of columns at a time."""
        blocks = _blocks(extents, memory // _BLOCK_SHARE)
        total = sum(extents.values(), _NOTHING)
        if total.decoded <= memory * 3 // 4 and all(extent.peak <= memory // 4 for extent in extents.values()):
            yield pl.concat([self._read(block, start, rows) for block in blocks], how="horizontal")
            return
        each = max(1, rows * (memory // 4) // max(1, total.decoded))
        with _scratch_folder(self.settings) as folder:
            for number, block in enumerate(blocks):
                fits = sum((extents[name] for name in block), _NOTHING).peak <= memory // 2
                pieces = self._sliced(block, start, rows, each) if fits else self._streamed(block, group, each)
                if (came := _write_pieces(pieces, folder, number)) != rows:
                    raise self.corrupt(f"the footer promises {rows} rows from row {start}, {came} of {block[0]} came")
            for piece in range(-(-rows // each)):
                yield _gather_piece(folder, piece, len(blocks), min(each, rows - piece * each), self)

    def _sliced(self, block: Sequence[str], start: int, rows: int, each: int) -> Iterator[pl.DataFrame]:
        """Yield the rows of a block of columns, `each` at a time, from one read."""
        yield from self._read(block, start, rows).iter_slices(each)

    def _streamed(self, block: Sequence[str], group: int, each: int) -> Iterator[pl.DataFrame]:
        """Yield the same as `_sliced`, reading page by page: for a column of which one row group does not fit."""
        with self._reading():
            fs, path = storage.filesystem(self.uri, self.settings)
            with fs.open(path, "rb", block_size=_STREAM_BYTES) as stream:
                file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=_STREAM_BYTES)
                for batch in file.iter_batches(each, row_groups=[group], columns=list(block), use_threads=False):
                    yield pl.DataFrame(pa.table(batch).select(list(block)))

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Translate what Polars and pyarrow say of bytes that are not what the footer says."""
        try:
            yield
        except (
            pl.exceptions.PolarsError,
            pl.exceptions.PanicException,
            pa.ArrowException,
            UnicodeDecodeError,
        ) as error:
            raise self.corrupt(" ".join(str(error).split())[:300]) from error
        except Exception as error:
            found = translation(error, self.uri, "reading")
            if found is None:
                raise
            if found.kind == "storage" and getattr(error, "errno", None) is None and "object-store" not in str(error):
                # pyarrow calls a page that it cannot decode an OSError, without a number of the system's.
                raise self.corrupt(" ".join(str(error).split())[:300]) from error
            raise found from error

    def corrupt(self, found: str) -> InputError:
        """Return the error for bytes that are not what the footer says."""
        return InputError(f"damaged Parquet file: {found}", kind="corrupt", uri=self.uri)


class ParquetReader:
    """Opens Parquet files; the registry in `warehouse.readers` holds the one instance."""

    def open(self, uri: str, settings: Settings, contract: Contract | None = None) -> ParquetInput:  # noqa: ARG002 - a file is one table
        """Return `uri` with its footer read and checked against the file's size.

        Raises
        ------
        InputError
            Kind ``vanished``, ``empty_file``, ``not_parquet``, ``truncated``, ``corrupt``, or ``duplicate_column``.
        StorageError
            The store does not answer, or refuses.
        """
        uri = storage.absolute(uri)
        size, footer = _footer(uri, settings)
        try:
            file = pq.ParquetFile(pa.BufferReader(footer))
            schema, metadata = file.schema_arrow, file.metadata
        except (pa.ArrowException, OSError, ValueError) as error:
            found = " ".join(str(error).split())[:300]
            raise InputError(f"damaged Parquet footer: {found}", kind="corrupt", uri=uri) from error
        opened = ParquetInput(uri, settings, schema, metadata)
        _check_footer(opened, size - len(footer) + len(_MAGIC))
        return opened


def _footer(uri: str, settings: Settings) -> tuple[int, bytes]:
    """Return the size of the file, and its footer between two magics: all that pyarrow wants of a file without rows."""
    with translated(uri, "opening"):
        fs, path = storage.filesystem(uri, settings)
        size = storage.stamp(uri, settings)[0]
        if size == 0:
            raise InputError("the file is empty: zero bytes", kind="empty_file", uri=uri)
        tail = fs.cat_file(path, start=max(0, size - _TAIL_BYTES), end=size)
        head = tail[:4] if size <= _TAIL_BYTES else fs.cat_file(path, start=0, end=4)
        if tail[-4:] != _MAGIC or size < 12:
            raise _no_footer(uri, size, head, tail[-4:])
        length = int.from_bytes(tail[-8:-4], "little") + 8
        if head != _MAGIC or length + len(_MAGIC) > size:
            raise InputError(
                f"damaged Parquet file: it begins with {head!r}, and of its {size} bytes the footer claims {length}",
                kind="corrupt",
                uri=uri,
            )
        if length > len(tail):
            tail = fs.cat_file(path, start=size - length, end=size)
    return size, _MAGIC + tail[-length:]


def _no_footer(uri: str, size: int, head: bytes, end: bytes) -> InputError:
    if head == _MAGIC:
        return InputError(
            f"truncated: it begins as Parquet, and its {size} bytes end with {end!r} instead of {_MAGIC!r}",
            kind="truncated",
            uri=uri,
        )
    encrypted = " (an encrypted Parquet file)" if end == b"PARE" else ""
    return InputError(f"not a Parquet file: it begins with {head!r}{encrypted}", kind="not_parquet", uri=uri)


def _check_footer(opened: ParquetInput, data_end: int) -> None:
    """Refuse a footer that contradicts itself or the file, before anything believes its numbers."""
    names = opened.schema.names
    if len(set(names)) < len(names):
        doubled = sorted({name for name in names if names.count(name) > 1})
        raise InputError(f"column names occur twice: {', '.join(doubled)}", kind="duplicate_column", uri=opened.uri)
    rows = 0
    for group in map(opened.metadata.row_group, range(opened.metadata.num_row_groups)):
        rows += group.num_rows
        if group.num_rows == 0:
            continue  # no pages, so no places either
        for chunk in map(group.column, range(group.num_columns)):
            first = min(filter(None, (chunk.dictionary_page_offset, chunk.data_page_offset)), default=0)
            if first < len(_MAGIC) or chunk.total_compressed_size < 0 or first + chunk.total_compressed_size > data_end:
                raise opened.corrupt(
                    f"the footer places column {chunk.path_in_schema} at bytes {first} to "
                    f"{first + chunk.total_compressed_size}, the data end at {data_end}"
                )
    if rows != opened.rows:
        raise opened.corrupt(f"the footer promises {opened.rows} rows, its row groups hold {rows}")


def _leaf_count(dtype: pa.DataType) -> int:
    """Return the number of Parquet leaves that an Arrow type takes."""
    if isinstance(dtype, pa.DictionaryType | pa.ExtensionType):
        return 1 if isinstance(dtype, pa.DictionaryType) else _leaf_count(dtype.storage_type)
    return sum(_leaf_count(dtype.field(i).type) for i in range(dtype.num_fields)) if dtype.num_fields else 1


def _runs(sizes: Sequence[int], memory: int) -> Iterator[tuple[int, int]]:
    """Yield (first, last + 1) of consecutive row groups that fit together; one that does not fit stands alone."""
    first, held = 0, 0
    for group, size in enumerate(sizes):
        if group > first and held + size > memory:
            yield first, group
            first, held = group, 0
        held += size
    if first < len(sizes):
        yield first, len(sizes)


def _blocks(extents: Mapping[str, _Extent], most: int) -> list[list[str]]:
    """Return the columns in blocks of at most `most` bytes; a column that is larger is a block of its own."""
    names = list(extents)
    return [names[a:b] for a, b in _runs([extents[name].peak for name in names], most)]


@contextmanager
def _scratch_folder(settings: Settings) -> Iterator[Path]:
    place = settings.scratch or Path(tempfile.gettempdir())
    with translated(str(place), "making a scratch folder"):
        place.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(prefix="tractlake-", dir=place)
    with folder as name:
        yield Path(name)


def _write_pieces(pieces: Iterable[pl.DataFrame], folder: Path, block: int) -> int:
    """Write the pieces of one block of columns, and return how many rows they have."""
    rows = 0
    for piece, frame in enumerate(pieces):
        rows += frame.height
        with translated(str(folder), "writing scratch files"):
            frame.write_ipc(folder / f"{piece}-{block}.arrow", compression="uncompressed")
    return rows


def _gather_piece(folder: Path, piece: int, blocks: int, rows: int, opened: ParquetInput) -> pl.DataFrame:
    """Return one piece of rows with all its columns, and drop its scratch files."""
    paths = [folder / f"{piece}-{block}.arrow" for block in range(blocks)]
    with translated(str(folder), "reading scratch files"):
        frames = [pl.read_ipc(path) for path in paths if path.exists()]
    if [frame.height for frame in frames] != [rows] * blocks:
        raise opened.corrupt(f"{rows} rows were promised, blocks of {[frame.height for frame in frames]} came")
    for path in paths:
        path.unlink()
    return pl.concat(frames, how="horizontal")
