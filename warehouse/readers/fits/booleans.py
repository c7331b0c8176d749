"""Logicals and bits of a FITS table, as bitmaps.

Here belongs what TFORM L and X become, column by column. Single ones, of which a catalogue has hundreds, are decoded
many at once in `together`, by the same rules.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from warehouse.errors import InputError
from warehouse.readers.fits.buffers import (
    Block,
    Bytes,
    Flags,
    bitmap_bytes,
    elements,
    put_bits,
    row_name,
    wrapped,
)
from warehouse.readers.fits.fields import Field

_TRUE, _FALSE = ord("T"), ord("F")


@dataclass(frozen=True, slots=True)
class Logicals:
    """Bytes T, F and 0 (null); anything else is damage."""

    field: Field

    @property
    def arrow(self) -> pa.DataType:
        """Boolean."""
        return pa.bool_()

    def sizes(self, rows: int) -> tuple[int, ...]:
        """Return the bytes of values and of validity."""
        return (bitmap_bytes(rows * self.field.elements),) * 2

    def fill(self, block: Block, buffers: Sequence[Bytes], start: int) -> None:
        """Decode the block."""
        raw = np.ascontiguousarray(elements(block, self.field, "u1")).ravel()
        begin = start * self.field.elements
        true, known = decoded(raw)
        if known is None:
            raise damage(raw, self.field, block)
        put_bits(true, buffers[0], begin)
        put_bits(known, buffers[1], begin)

    def array(self, buffers: Sequence[Bytes], rows: int) -> pa.Array:
        """Return the column."""
        return wrapped(pa.bool_(), rows * self.field.elements, buffers[1], buffers[0])


@dataclass(frozen=True, slots=True)
class Bits:
    """The bits of a field, one element each, the most significant of a byte first."""

    field: Field

    @property
    def arrow(self) -> pa.DataType:
        """Boolean."""
        return pa.bool_()

    def sizes(self, rows: int) -> tuple[int, ...]:
        """Return the bytes of the values."""
        return (bitmap_bytes(rows * self.field.elements),)

    def fill(self, block: Block, buffers: Sequence[Bytes], start: int) -> None:
        """Decode the block."""
        stored = block.data[:, self.field.offset : self.field.offset + self.field.width]
        bits = np.unpackbits(stored, axis=1, count=self.field.elements)
        put_bits(bits.ravel(), buffers[0], start * self.field.elements)

    def array(self, buffers: Sequence[Bytes], rows: int) -> pa.Array:
        """Return the column."""
        return wrapped(pa.bool_(), rows * self.field.elements, None, buffers[0])


def decoded(raw: Bytes) -> tuple[Flags, Flags | None]:
    """Return which bytes are true and which are known; None instead where one is neither T, F nor 0."""
    true = raw == _TRUE
    known = raw == _FALSE
    known |= true
    # Nearly always all are known, and that is the fastest question.
    return true, known if known.all() or not (~known & (raw != 0)).any() else None


def damage(raw: Bytes, field: Field, block: Block) -> InputError:
    """Return the error for the first byte of `raw` that is no logical."""
    index = int(((raw != _TRUE) & (raw != _FALSE) & (raw != 0)).argmax())
    place = row_name(index, field, block)
    return InputError(f"{place}: a logical is T, F or 0, not byte {raw[index]:#04x}", kind="corrupt")
