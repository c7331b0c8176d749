"""The contiguous column buffers of one batch, which Arrow and Polars take as they are, and what fills them.

Here belong the protocol of a decoder, the one allocation behind a batch, and the small steps that all decoders
share. What each TFORM letter becomes is `columns` and `numbers`, beside this module.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from warehouse.readers.fits.fields import Field

Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Values = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Block:
    """Rows as they stand in the file: `data` of shape (rows, bytes a row), `first` counted from the table's first."""

    data: Bytes
    first: int


class Decoder(Protocol):
    """How one column's bytes become an Arrow array of `arrow`."""

    @property
    def arrow(self) -> pa.DataType:
        """What comes out."""
        ...

    def sizes(self, rows: int) -> tuple[int, ...]:
        """Return the bytes of each buffer that `rows` rows take; `rows` is a multiple of eight."""
        ...

    def fill(self, block: Block, buffers: Sequence[Bytes], start: int) -> None:
        """Write the rows of `block` into the buffers from row `start` on, a multiple of eight."""
        ...

    def array(self, buffers: Sequence[Bytes], rows: int) -> pa.Array:
        """Return the first `rows` rows of the filled buffers, without a copy."""
        ...


def bitmap_bytes(elements: int) -> int:
    """Return the bytes of an Arrow bitmap."""
    return (elements + 7) // 8


def put_bits(bits: Values, bitmap: Bytes, start: int) -> None:
    """Write one bit for each element (set where it is not zero) into an Arrow bitmap, from bit `start` on."""
    packed = np.packbits(bits, bitorder="little")
    bitmap[start // 8 : start // 8 + len(packed)] = packed


def wrapped(kind: pa.DataType, elements: int, validity: Bytes | None, *buffers: Bytes) -> pa.Array:
    """Return an Arrow array over the buffers; a bitmap that marks nothing null is left out."""
    arrow = [pa.py_buffer(buffer) for buffer in buffers]
    if validity is not None:
        made = pa.Array.from_buffers(kind, elements, [pa.py_buffer(validity), *arrow])
        if made.null_count:
            return made
    return pa.Array.from_buffers(kind, elements, [None, *arrow])


def elements(block: Block, field: Field, stored: str, shift: int = 0) -> Values:
    """Return a view of the field's elements, of shape (rows, elements), in the type and order of the file."""
    rows, row_bytes = block.data.shape
    return np.ndarray((rows, field.elements), stored, block.data, field.offset + shift, strides=(row_bytes, field.item))


def row_name(index: int, field: Field, block: Block) -> str:
    """Return how messages call the row of the element at `index` of the block: rows count from 1."""
    return f"{field}, row {block.first + index // max(field.elements, 1) + 1}"


# ------------------------------------------------------------------------------------------------- a batch

_ALIGN = 64


class Step(Protocol):
    """Part of the work on a block: one column, or several alike in few large steps instead of many small ones."""

    @property
    def members(self) -> Sequence[int]:
        """Positions, among the columns asked for, of those that it fills."""
        ...

    def sizes(self, rows: int) -> tuple[int, ...]:
        """Return the bytes of each buffer that `rows` rows take; `rows` is a multiple of eight."""
        ...

    def fill(self, block: Block, buffers: Sequence[Bytes], start: int) -> None:
        """Write the rows of `block` into the buffers from row `start` on, a multiple of eight."""
        ...

    def arrays(self, buffers: Sequence[Bytes], rows: int) -> list[pa.Array]:
        """Return the first `rows` rows of each member, without a copy."""
        ...


@dataclass(frozen=True, slots=True)
class Columns:
    """The buffers of one batch, all within one allocation: large ones come in huge pages, small ones page by page."""

    names: Sequence[str]
    steps: Sequence[Step]
    buffers: Sequence[Sequence[Bytes]]
    rows: int

    def fill(self, block: Block, start: int) -> None:
        """Write `block` from row `start` of the batch on; blocks may come from several threads."""
        for step, own in zip(self.steps, self.buffers, strict=True):
            step.fill(block, own, start)

    def table(self) -> pa.Table:
        """Return the batch, without a copy."""
        arrays: list[pa.Array] = [None] * len(self.names)
        for step, own in zip(self.steps, self.buffers, strict=True):
            for member, array in zip(step.members, step.arrays(own, self.rows), strict=True):
                arrays[member] = array
        return pa.Table.from_arrays(arrays, names=list(self.names))


def allocate(names: Sequence[str], steps: Sequence[Step], rows: int) -> Columns:
    """Return empty columns for `rows` rows."""
    whole = (rows + 7) // 8 * 8
    sizes = [step.sizes(whole) for step in steps]
    slab = np.empty(sum(aligned(size) for own in sizes for size in own), np.uint8)
    pieces = _carve(slab, [size for own in sizes for size in own])
    return Columns(names, steps, [[next(pieces) for _ in own] for own in sizes], rows)


def bytes_a_row(steps: Sequence[Step]) -> float:
    """Return the bytes that a row takes in the columns."""
    return sum(size for step in steps for size in step.sizes(1024)) / 1024


def aligned(size: int) -> int:
    """Return `size` rounded up to where Arrow wants the next buffer to begin."""
    return (size + _ALIGN - 1) // _ALIGN * _ALIGN


def _carve(slab: Bytes, sizes: Sequence[int]) -> Iterator[Bytes]:
    position = 0
    for size in sizes:
        yield slab[position : position + size]
        position += aligned(size)
