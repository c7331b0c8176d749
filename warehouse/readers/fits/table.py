"""The reader of FITS tables: from a URI to an opened input, and from there to batches of rows.

Here belongs how a file is read: which blocks, how many at once, in how much memory. Bytes come from `ranges`,
headers from `headers`, and `columns` says what the bytes of a column become.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import cast, overload

import numpy as np
import polars as pl
import pyarrow as pa

from warehouse import storage
from warehouse.config import Settings
from warehouse.contracts.contract import Contract
from warehouse.errors import ContractError, InputError, near_misses
from warehouse.readers.fits.buffers import Block, Bytes, Columns, allocate, bytes_a_row
from warehouse.readers.fits.columns import arrow_type, decoder
from warehouse.readers.fits.fields import Field, aliases, unaliased
from warehouse.readers.fits.headers import (
    Hdu,
    check_data_sum,
    check_header_sum,
    check_no_header,
    check_tail,
    declared_sums,
    find_table,
)
from warehouse.readers.fits.ranges import RECORD, Ranges, Window, open_ranges, word_sum
from warehouse.readers.fits.together import steps
from warehouse.readers.reader import OpenedInput

# A few megabytes of rows stay in the processors' caches between reading and decoding, and are work enough for each
# call: with more, several threads take longer, and with less they queue for the interpreter. A request to a store pays
# off from several megabytes on.
_LOCAL_BLOCK = 4 << 20
# More only queue for memory and for the interpreter.
_LOCAL_THREADS = 4
_REMOTE_BLOCK = 8 << 20
_REMOTE_REQUESTS = 8
_LARGEST_BATCH = 256 << 20
_MOST_ROWS = 1 << 18


@dataclass(frozen=True, slots=True)
class FitsReader:
    """Reads binary tables of FITS files, plain or gzip, generic ones and afw's.

    Attributes
    ----------
    hdu
        Number (0 is the primary HDU) or EXTNAME of the table; None: the first table that has the columns `wanted`,
        else the first.
    wanted
        Names of columns that tell the table among several.
    """

    hdu: int | str | None = None
    wanted: Collection[str] = ()

    @overload
    def open(self, uri: str, settings: Settings, contract: None = None) -> FitsInput: ...

    @overload
    def open(self, uri: str, settings: Settings, contract: Contract) -> OpenedInput: ...

    def open(self, uri: str, settings: Settings, contract: Contract | None = None) -> OpenedInput:
        """Read the headers of `uri` up to the table's.

        With a contract, the table is the first that has its required columns, and an afw ``src`` catalogue is seen
        as rows of Source where Source is wanted.

        Raises
        ------
        InputError
            Kinds ``vanished``, ``not_fits``, ``truncated``, ``corrupt``, ``checksum``, ``duplicate_column``,
            ``no_table``; the message names HDU, column or byte.
        StorageError
            The store does not answer.
        """
        with _about(uri), closing(open_ranges(uri, settings)) as ranges:
            wanted = self.wanted or (contract.required if contract is not None else ())
            hdu, fields = find_table(Window(ranges), self.hdu, wanted)
            check_header_sum(hdu)
            if ranges.size is not None:
                tail = ranges.read(hdu.data_end, hdu.end - hdu.data_end + 8).tobytes()
                check_tail(hdu, tail[: hdu.end - hdu.data_end], tail[hdu.end - hdu.data_end :])
            opened = FitsInput(uri, settings, ranges.stamp, hdu, fields)
        if contract is None:
            return opened
        from warehouse.readers.afw import seen_as  # it stands on this module

        return seen_as(contract, opened)


@dataclass(frozen=True)
class FitsInput:
    """A table whose header has been read and whose rows have not.

    Flag bits of an afw catalogue are boolean columns, its angles are degrees, and its aliases may be asked for by
    `batches` although `schema` does not repeat them. Columns of variable-length arrays stand in the schema, and
    prevent nothing until they are asked for.
    """

    uri: str
    settings: Settings
    stamp: str
    hdu: Hdu
    fields: tuple[Field, ...]

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns as the file has them; ``unit`` is TUNIT's text."""
        return pa.schema(
            [pa.field(f.name, arrow_type(f), metadata={"unit": f.unit} if f.unit else None) for f in self.fields]
        )

    @property
    def rows(self) -> int:
        """Rows that the header promises."""
        return cast("int", self.hdu.cards["NAXIS2"])

    @property
    def index(self) -> tuple[str, ...]:
        """Nothing: FITS knows no index."""
        return ()

    @cached_property
    def aliases(self) -> dict[str, str]:
        """The aliases of afw: a name that begins with a key means the one that begins with its value."""
        header = self.hdu.header
        return aliases([str(header["ALIAS", i]) for i in range(header.count("ALIAS"))] if "ALIAS" in header else [])

    def field(self, name: str) -> Field | None:
        """Return the column that `name` means, be it an alias, or None where there is none."""
        return self._by_name.get(name) or self._by_name.get(unaliased(name, self.aliases))

    @cached_property
    def _by_name(self) -> dict[str, Field]:
        return {field.name: field for field in self.fields}

    def batches(self, columns: Sequence[str], memory: int) -> Iterator[pl.DataFrame]:
        """Yield the rows in file order, `columns` only and in that order, never holding more than `memory` bytes.

        DATASUM and CHECKSUM are verified on the way where the header has them, so a damaged file is known as such
        at the end of the iteration: nothing of it may be made visible before.

        Raises
        ------
        InputError
            Kinds ``truncated``, ``checksum``, ``corrupt``, ``not_ascii``, ``overflow``, ``variable_length``,
            ``changed``; the message names HDU, column or byte.
        ContractError
            No such column.
        StorageError
            The store does not answer.
        """
        with _about(self.uri, self.hdu):
            work = steps([decoder(self._asked_for(name)) for name in columns])
        with _about(self.uri), closing(open_ranges(self.uri, self.settings)) as ranges:
            plan = _plan(self, ranges, bytes_a_row(work), memory)
            new = partial(allocate, list(columns), work)
            run = _Run(self.hdu, ranges, plan)
            if not self.rows:
                yield _frame(new(0))
            yield from run.batches(new, self.rows)
            run.finish()
        if storage.stamp(self.uri, self.settings)[1] != self.stamp:
            raise InputError("the file changed while it was read", kind="changed", uri=self.uri)

    def _asked_for(self, name: str) -> Field:
        field = self.field(name)
        if field is None:
            hint = near_misses(name, self._by_name)
            raise ContractError(f"{self.hdu.place} has no column {name!r}; {hint}", kind="column", uri=self.uri)
        return field


@dataclass(frozen=True, slots=True)
class _Plan:
    """How much is read and held at once."""

    row_bytes: int
    block_rows: int
    batch_rows: int
    threads: int

    @property
    def ahead(self) -> int:
        """Blocks that may be under way at once."""
        return self.threads + 1 if self.threads > 1 else 0


def _plan(opened: FitsInput, ranges: Ranges, row_out: float, memory: int) -> _Plan:
    """Return blocks and batches that fit into `memory`: half for two batches, half for the blocks under way.

    Two batches, because one is still with the caller while the next is filled; and a block counts twice, for what
    a decoder holds besides.
    """
    row_bytes = cast("int", opened.hdu.cards["NAXIS1"])
    if ranges.remote:
        threads, largest = max(opened.settings.workers, _REMOTE_REQUESTS), _REMOTE_BLOCK
    else:
        threads, largest = min(opened.settings.workers, _LOCAL_THREADS), _LOCAL_BLOCK
    block_bytes = min(largest, memory // (8 * (threads + 1)))
    block_rows = _eights(block_bytes // max(1, row_bytes))
    batch_bytes = min(_LARGEST_BATCH, memory // 4)
    batch_rows = min(_eights(int(batch_bytes / max(row_out, 1))), _MOST_ROWS)
    block_rows = min(block_rows, batch_rows)
    return _Plan(row_bytes, block_rows, batch_rows // block_rows * block_rows, threads)


def _eights(rows: int) -> int:
    """Return rows in whole bytes of a bitmap, eight at least."""
    return max(8, rows // 8 * 8)


class _Run:
    """One pass over a table's rows: blocks are read and decoded, several at once, into batches in their order."""

    def __init__(self, hdu: Hdu, ranges: Ranges, plan: _Plan) -> None:
        self._hdu, self._ranges, self._plan = hdu, ranges, plan
        self._verify = bool(declared_sums(hdu))
        self._sum = 0
        self._local = threading.local()

    def batches(self, new: Callable[[int], Columns], rows: int) -> Iterator[pl.DataFrame]:
        """Yield `rows` rows in batches of the plan's size."""
        pool = ThreadPoolExecutor(self._plan.threads, thread_name_prefix="fits") if self._plan.ahead else None
        under_way: deque[tuple[Future[int], Columns | None]] = deque()
        try:
            for job, complete in self._jobs(new, rows):
                if pool is None:
                    self._sum += job()
                    if complete is not None:
                        yield _frame(complete)
                    continue
                under_way.append((pool.submit(job), complete))
                if len(under_way) > self._plan.ahead:
                    yield from self._collect(under_way)
            while under_way:
                yield from self._collect(under_way)
        finally:
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)

    def _jobs(self, new: Callable[[int], Columns], rows: int) -> Iterator[tuple[Callable[[], int], Columns | None]]:
        """Yield the work of each block, and the batch that is complete with it."""
        for batch_start in range(0, rows, self._plan.batch_rows):
            batch = new(min(self._plan.batch_rows, rows - batch_start))
            for start in range(0, batch.rows, self._plan.block_rows):
                count = min(self._plan.block_rows, batch.rows - start)
                first = batch_start + start
                # A stream has one position: it is read here, in order, and only decoded elsewhere.
                data = self._read(first, count) if self._ranges.size is None else None
                yield (
                    partial(self._decode, batch, start, first, count, data),
                    batch if start + count == batch.rows else None,
                )

    def _collect(self, under_way: deque[tuple[Future[int], Columns | None]]) -> Iterator[pl.DataFrame]:
        done, complete = under_way.popleft()
        self._sum += done.result()
        if complete is not None:
            yield _frame(complete)

    def _read(self, first: int, count: int) -> Bytes:
        width = self._plan.row_bytes
        start, length = self._hdu.data_start + first * width, count * width
        data = self._ranges.read(start, length, self._scratch(length) if self._ranges.size is not None else None)
        if len(data) < length:
            row = first + len(data) // max(1, width)
            raise InputError(
                f"{self._hdu.place}: the file ends at byte {start + len(data)}, in row {row + 1} of "
                f"{self._hdu.cards['NAXIS2']}",
                kind="truncated",
            )
        return data

    def _scratch(self, length: int) -> Bytes:
        """Return memory of this thread's own, used for each of its blocks."""
        held: Bytes | None = getattr(self._local, "scratch", None)
        if held is None or len(held) < length:
            held = self._local.scratch = np.empty(length, np.uint8)
        return held

    def _decode(self, batch: Columns, start: int, first: int, count: int, data: Bytes | None) -> int:
        """Read one block and write it into its batch; return its part of the checksum."""
        data = self._read(first, count) if data is None else data
        check_no_header(self._hdu, data, self._hdu.data_start + first * self._plan.row_bytes)
        with _about(None, self._hdu):
            batch.fill(Block(data.reshape(count, self._plan.row_bytes), first), start)
        return word_sum(data, first * self._plan.row_bytes) if self._verify else 0

    def finish(self) -> None:
        """Read what follows the rows where that has not been done, and compare the checksum."""
        hdu = self._hdu
        step = max(RECORD, self._plan.block_rows * self._plan.row_bytes)
        end_of_rows = hdu.data_start + cast("int", hdu.cards["NAXIS2"]) * self._plan.row_bytes
        if self._verify or self._ranges.size is None:
            for start in range(end_of_rows, hdu.data_end, step):
                heap = self._ranges.read(start, min(step, hdu.data_end - start))
                self._sum += word_sum(heap, start - hdu.data_start)
            padding = self._ranges.read(hdu.data_end, hdu.end - hdu.data_end)
            self._sum += word_sum(padding, hdu.data_end - hdu.data_start)
        if self._ranges.size is None:
            check_tail(hdu, padding.tobytes(), self._ranges.read(hdu.end, 8).tobytes())
            position = hdu.end + 8
            # The stream's own checksum stands at its end.
            while len(rest := self._ranges.read(position, step)):
                position += len(rest)
        if self._verify:
            check_data_sum(hdu, self._sum)


def _frame(batch: Columns) -> pl.DataFrame:
    return cast("pl.DataFrame", pl.from_arrow(batch.table(), rechunk=False))


@contextmanager
def _about(uri: str | None, hdu: Hdu | None = None) -> Iterator[None]:
    """Complete the errors of the block with the file and the HDU that they are about."""
    try:
        yield
    except InputError as error:
        error.uri = error.uri or uri
        if hdu is not None and not error.message.startswith(hdu.place):
            error.message = f"{hdu.place}, {error.message}"
        raise
